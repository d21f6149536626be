//! What guest RAM can be made of.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use purlin::memory::{Backing, FileSharing, HugePageSize, RamConfig};
use purlin::{BuildError, ExitReason};

use crate::guest::{Kernels, RESET, wait};

const RAM: u64 = 64 << 20;
/// Where [`mark`] writes.
const MARK: u64 = 0x20_0000;

/// Writes 0x5a to [`MARK`], then resets: mov byte [0x200000],0x5a
fn mark() -> Vec<u8> {
    [&[0xc6, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, 0x5a], RESET].concat()
}

/// Runs a guest that writes to its RAM.
fn run(backing: Backing, transparent_huge_pages: bool) -> Result<(), BuildError> {
    let kernels = Kernels::new();
    let ram = RamConfig { backing, transparent_huge_pages, ..RamConfig::default() };
    let vm = kernels.machine(&mark()).ram(ram).build()?;
    let exit = wait(vm.start().unwrap());
    assert_eq!((exit.code, exit.reason), (125, ExitReason::GuestReset));
    Ok(())
}

#[test]
fn anonymous_and_memfd() {
    for huge in [true, false] {
        run(Backing::Anonymous, huge).unwrap();
        run(Backing::Memfd, huge).unwrap();
    }
}

#[test]
fn files_shared_and_private() {
    let file = Arc::new(tempfile::tempfile().unwrap());
    file.set_len(4096 + RAM).unwrap();
    let backing = |sharing| Backing::File { file: file.clone(), offset: 4096, sharing };
    let marked = || {
        let mut byte = [0];
        file.read_exact_at(&mut byte, 4096 + MARK).unwrap();
        byte[0] == 0x5a
    };
    run(backing(FileSharing::Private), true).unwrap();
    assert!(!marked(), "a private file does not change");
    run(backing(FileSharing::Shared), true).unwrap();
    assert!(marked(), "a shared one does");
}

#[test]
fn a_file_that_is_too_short_or_not_aligned_is_refused() {
    let short: Arc<File> = Arc::new(tempfile::tempfile().unwrap());
    let backing = |offset| Backing::File { file: short.clone(), offset, sharing: FileSharing::Private };
    let error = run(backing(0), true).unwrap_err().to_string();
    assert!(error.contains("guest RAM") && error.contains("0 bytes"), "{error}");
    let error = run(backing(1), true).unwrap_err().to_string();
    assert!(error.contains("offset 1"), "{error}");
}

/// From the host's pool of explicit huge pages, which may be empty: then the error says how to fill it.
#[test]
fn explicit_huge_pages() {
    match run(Backing::Hugetlb(HugePageSize::Mib2), true) {
        Ok(()) => {}
        Err(BuildError::Ram(error)) => {
            let text = error.to_string();
            assert!(text.contains("nr_hugepages") && text.contains("32 huge pages"), "{text}");
        }
        Err(other) => panic!("{other}"),
    }
}
