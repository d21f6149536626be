//! A defect of QEMU's emulation of AMD SVM, mended in the running process.
//!
//! VMRUN with an external interrupt to inject (AMD APM volume 2, §15.20) delivers it at once, but leaves its vector where QEMU keeps
//! the exception to deliver next. If something stops the emulated processor before its guest is left again, the same interrupt is
//! delivered once more, then with interrupts off: the guest hangs on a lock of its own, or runs with the wrong GS base. Seen in
//! QEMU 7.2; its lines are still the same in later versions.
//!
//! Storing the vector serves nothing else, so the store is replaced by an instruction that does nothing. It is known by
//! the instructions around it; unless they are there exactly once, nothing is changed.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Any byte.
const ANY: u16 = 0x100;
/// The vector goes to ESI; then the error code, the vector, its origin and the next address are stored at offsets from RBX
/// that differ between versions.
#[rustfmt::skip]
const AROUND: [u16; 38] = [
    0x41, 0x0f, 0xb6, 0xf4,
    0x44, 0x89, 0xab, ANY, ANY, ANY, ANY,
    0x89, 0xb3, ANY, ANY, ANY, ANY,
    0xc7, 0x83, ANY, ANY, ANY, ANY, 0, 0, 0, 0,
    0x48, 0xc7, 0x83, ANY, ANY, ANY, ANY, 0xff, 0xff, 0xff, 0xff,
];
/// The store of the vector in that.
const STORE: Range<usize> = 11..17;
/// One instruction of that length (Intel SDM volume 2B, NOP).
const NOP: [u8; 6] = [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00];

/// Mends a QEMU whose guest has no guest yet.
pub fn mend(pid: u32) -> Result<()> {
    let process = Path::new("/proc").join(pid.to_string());
    let program = fs::read_link(process.join("exe"))?;
    let maps = fs::read_to_string(process.join("maps"))?;
    let text = text_of(&maps, &program.to_string_lossy()).context("its code is not mapped")?;
    let memory = File::options().read(true).write(true).open(process.join("mem"))?;
    let mut code = vec![0; usize::try_from(text.end.saturating_sub(text.start))?];
    memory.read_exact_at(&mut code, text.start).context("its code cannot be read")?;
    let Some(store) = find(&code) else { bail!("its code is not as expected") };
    memory.write_all_at(&NOP, text.start.saturating_add(store as u64)).context("its code cannot be written")
}

/// Where a program's code is, from `/proc/PID/maps` (proc_pid_maps(5)).
fn text_of(maps: &str, program: &str) -> Option<Range<u64>> {
    let line = maps.lines().find(|line| line.contains(" r-xp ") && line.ends_with(program))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

/// Where the store is, if there is one such place.
fn find(code: &[u8]) -> Option<usize> {
    let fits =
        |bytes: &[u8]| bytes.iter().zip(AROUND).all(|(&byte, want)| want == ANY || u16::from(byte) == want);
    let mut places = code.windows(AROUND.len()).enumerate().filter(|(_, bytes)| fits(bytes));
    match (places.next(), places.next()) {
        (Some((at, _)), None) => Some(at + STORE.start),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Vec<u8> {
        AROUND.iter().map(|&byte| if byte == ANY { 0x5a } else { byte as u8 }).collect()
    }

    #[test]
    fn the_store_is_found_if_there_is_one() {
        let (one, other) = (code(), vec![0x41, 0x0f, 0xb6, 0xf4, 0x90]);
        let store = find(&[other.clone(), one.clone()].concat()).unwrap();
        assert_eq!(store, other.len() + STORE.start);
        assert_eq!(one[STORE][..2], [0x89, 0xb3]);
        assert_eq!(find(&[one.clone(), one].concat()), None);
        assert_eq!(find(&other), None);
    }

    #[test]
    fn text_is_the_executable_mapping_of_the_program() {
        let maps = "\
            5600-5700 r--p 00000000 fe:00 1 /usr/bin/qemu\n\
            5700-5a00 r-xp 00100000 fe:00 1 /usr/bin/qemu\n\
            7000-7100 r-xp 00000000 fe:00 2 /usr/lib/libc.so.6\n";
        assert_eq!(text_of(maps, "/usr/bin/qemu"), Some(0x5700..0x5a00));
        assert_eq!(text_of(maps, "/usr/bin/other"), None);
    }

    /// What a process may do to itself it may do to its child.
    #[test]
    fn a_program_without_that_code_is_left_alone() {
        let error = mend(std::process::id()).unwrap_err();
        assert_eq!(error.to_string(), "its code is not as expected");
    }
}
