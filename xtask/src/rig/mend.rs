//! Two defects of QEMU's emulation of AMD SVM, mended in the running process. Both are in VMRUN (AMD APM volume 2, §15.5), were
//! seen in QEMU 7.2, and have the same lines in later versions.
//!
//! - An external interrupt to inject (§15.20) is delivered at once, but its vector stays where QEMU keeps the exception to
//!   deliver next. If something stops the emulated processor before its guest is left again, the same interrupt is delivered once
//!   more, then with interrupts off: the guest hangs on a lock of its own, or runs with the wrong GS base. Storing the vector
//!   serves nothing else, so an instruction that does nothing takes its place.
//! - A virtual interrupt (§15.21.4) is noted among the processor's requests by an OR that is not atomic, without QEMU's lock. An
//!   interrupt that the main loop notes there at that moment is lost. The machine's only timer is a one-shot one that is set when it
//!   has fired: the machine stands still until some device has something to say. The same OR with a LOCK prefix takes its place.
//!
//! The instructions are known by those around them; unless these are there exactly once each, nothing is changed.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Any byte: offsets differ between versions.
const ANY: u16 = 0x100;

/// An instruction and what takes its place.
struct Defect {
    /// Bytes with the instruction in them.
    code: &'static [u16],
    instruction: Range<usize>,
    /// Of the same length.
    mended: fn(&[u8]) -> Vec<u8>,
}

const DEFECTS: [Defect; 2] = [
    // The vector goes to ESI; then the error code, the vector, its origin and the next address are stored at offsets from RBX.
    Defect {
        #[rustfmt::skip]
        code: &[
            0x41, 0x0f, 0xb6, 0xf4,
            0x44, 0x89, 0xab, ANY, ANY, ANY, ANY,
            0x89, 0xb3, ANY, ANY, ANY, ANY,
            0xc7, 0x83, ANY, ANY, ANY, ANY, 0, 0, 0, 0,
            0x48, 0xc7, 0x83, ANY, ANY, ANY, ANY, 0xff, 0xff, 0xff, 0xff,
        ],
        instruction: 11..17,
        // One instruction of that length (Intel SDM volume 2B, NOP).
        mended: |_| vec![0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    },
    // Bit 8 is set, if ESI is not zero, in the 32 bits at an offset from RBX; then another bit 5 is looked at.
    Defect {
        #[rustfmt::skip]
        code: &[
            0x85, 0xf6,
            0x74, 0x0a,
            0x81, 0x8b, ANY, ANY, ANY, ANY, 0x00, 0x01, 0x00, 0x00,
            0xf6, 0x83, ANY, ANY, ANY, ANY, 0x20,
        ],
        instruction: 4..14,
        // The 16-bit form makes room for the prefix. The main loop's own OR may still undo it; it always makes the processor leave
        // its guest, and the next VMRUN does it again.
        mended: |or| [&[0x66, 0xf0], &or[..6], &[0x00, 0x01]].concat(),
    },
];

/// Mends a QEMU whose guest has no guest yet.
pub fn mend(pid: u32) -> Result<()> {
    let process = Path::new("/proc").join(pid.to_string());
    let program = fs::read_link(process.join("exe"))?;
    let maps = fs::read_to_string(process.join("maps"))?;
    let text = text_of(&maps, &program.to_string_lossy()).context("its code is not mapped")?;
    let memory = File::options().read(true).write(true).open(process.join("mem"))?;
    let mut code = vec![0; usize::try_from(text.end.saturating_sub(text.start))?];
    memory.read_exact_at(&mut code, text.start).context("its code cannot be read")?;
    for (at, instruction) in all_mended(&code)? {
        memory
            .write_all_at(&instruction, text.start.saturating_add(at as u64))
            .context("its code cannot be written")?;
    }
    Ok(())
}

/// The places to write to, and what.
fn all_mended(code: &[u8]) -> Result<Vec<(usize, Vec<u8>)>> {
    let mended = |defect: &Defect| {
        let at = find(code, defect).context("its code is not as expected")?;
        let instruction = code.get(at..at.saturating_add(defect.instruction.len())).unwrap_or_default();
        Ok((at, (defect.mended)(instruction)))
    };
    DEFECTS.iter().map(mended).collect()
}

/// Where a program's code is, from `/proc/PID/maps` (proc_pid_maps(5)).
fn text_of(maps: &str, program: &str) -> Option<Range<u64>> {
    let line = maps.lines().find(|line| line.contains(" r-xp ") && line.ends_with(program))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
}

/// Where the instruction is, if there is one such place.
fn find(code: &[u8], defect: &Defect) -> Option<usize> {
    let fits = |bytes: &[u8]| {
        bytes.iter().zip(defect.code).all(|(&byte, &want)| want == ANY || u16::from(byte) == want)
    };
    let mut places = code.windows(defect.code.len()).enumerate().filter(|(_, bytes)| fits(bytes));
    match (places.next(), places.next()) {
        (Some((at, _)), None) => Some(at + defect.instruction.start),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With 0x5a at every offset.
    fn code(defect: &Defect) -> Vec<u8> {
        defect.code.iter().map(|&byte| if byte == ANY { 0x5a } else { byte as u8 }).collect()
    }

    #[test]
    fn the_instructions_are_found_if_there_is_one_of_each() {
        let [store, or] = DEFECTS.each_ref().map(code);
        let mended = all_mended(&[[0x41, 0x0f].as_slice(), &store, &[0x90], &or].concat()).unwrap();
        let nop = vec![0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00];
        // lock orw $0x100, 0x5a5a5a5a(%rbx)
        let lock_or = vec![0x66, 0xf0, 0x81, 0x8b, 0x5a, 0x5a, 0x5a, 0x5a, 0x00, 0x01];
        assert_eq!(mended, [(2 + 11, nop), (2 + store.len() + 1 + 4, lock_or)]);
        assert!(all_mended(&[store.as_slice(), &or, &or].concat()).is_err());
        assert!(all_mended(&store).is_err());
    }

    #[test]
    fn an_instruction_is_replaced_by_one_of_its_length() {
        for defect in &DEFECTS {
            let instruction = &code(defect)[defect.instruction.clone()];
            assert_eq!((defect.mended)(instruction).len(), instruction.len());
        }
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
