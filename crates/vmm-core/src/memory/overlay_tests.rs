use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;
use crate::memory::alloc::{Backing, RamConfig, allocate};
use crate::memory::{Bytes, MemoryLayout};

const MIB: u64 = 1 << 20;

fn file(content: &[u8]) -> Arc<dyn OverlaySource> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(file)
}

fn ram() -> GuestRam {
    GuestRam::from_ranges(&[(GuestAddress(0), 16 << 20), (GuestAddress(32 << 20), 16 << 20)]).unwrap()
}

#[test]
fn checks_come_in_order() {
    let regions = [RamRange { start: 0, len: 4 * MIB }, RamRange { start: 8 * MIB, len: MIB }];
    let check = |addr, len| place(addr, len, regions.into_iter());
    assert!(matches!(check(1, 0), Err(OverlayError::Range { .. })));
    assert!(matches!(check(u64::MAX, 2), Err(OverlayError::Range { .. })));
    assert!(matches!(check(1, u64::MAX - 1), Err(OverlayError::Alignment { addr: 1 })));
    assert!(matches!(check(0, u64::MAX - 1), Err(OverlayError::Length { .. })));
    assert!(matches!(check(5 * MIB, 1), Err(OverlayError::Region { .. })));
    // The rounded range counts: one byte too many is a page too many.
    assert!(matches!(check(4 * MIB - 4096, 4097), Err(OverlayError::Region { len: 8192, .. })));
    assert!(matches!(check(4 * MIB - 4096, 8 * MIB), Err(OverlayError::Region { .. })));
    let whole = Placed { region: 1, offset: 0, len: MIB };
    assert_eq!(check(8 * MIB, MIB - 1).unwrap(), whole);
    assert_eq!(check(0x3000, 1).unwrap(), Placed { region: 0, offset: 0x3000, len: 4096 });
}

#[test]
fn the_guest_sees_the_file_and_writes_a_copy() {
    let ram = ram();
    let content: Vec<u8> = (0..3 * 4096).map(|i| (i / 7) as u8).collect();
    let file = file(&content);
    ram.write_slice(&[0xaa; 3 * 4096], GuestAddress(33 << 20)).unwrap();
    ram.overlay(GuestAddress(33 << 20), 2 * 4096 + 5, &file).unwrap();
    let mut seen = vec![0; content.len()];
    ram.read_slice(&mut seen, GuestAddress(33 << 20)).unwrap();
    assert_eq!(seen, content);

    ram.write_slice(b"mine", GuestAddress((33 << 20) + 4000)).unwrap();
    let mut on_disk = vec![0; content.len()];
    file.file().read_exact_at(&mut on_disk, 0).unwrap();
    assert_eq!(on_disk, content, "guest writes stay in the guest");
    assert_eq!(ram.read_obj::<u32>(GuestAddress((33 << 20) + 4000)).unwrap(), u32::from_le_bytes(*b"mine"));
}

/// A file that looks, when it is released, whether it is still mapped.
struct Witness {
    file: File,
    was_mapped: Arc<Mutex<Option<bool>>>,
}

impl Witness {
    fn is_mapped(&self) -> bool {
        let inode = std::os::unix::fs::MetadataExt::ino(&self.file.metadata().unwrap());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| line.split_whitespace().nth(4) == Some(&inode.to_string()))
    }
}

impl OverlaySource for Witness {
    fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        *self.was_mapped.lock().unwrap() = Some(self.is_mapped());
    }
}

#[test]
fn the_file_is_released_after_the_memory_is_unmapped() {
    let ram = Arc::new(ram());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[1; 4096]).unwrap();
    let was_mapped = Arc::new(Mutex::new(None));
    let witness = Arc::new(Witness { file, was_mapped: was_mapped.clone() });
    let source: Arc<dyn OverlaySource> = witness.clone();
    ram.overlay(GuestAddress(0), 1, &source).unwrap();
    assert!(witness.is_mapped());
    drop((witness, source));
    let device = ram.clone();
    drop(ram);
    assert_eq!(*was_mapped.lock().unwrap(), None, "a device still has the memory");
    drop(device);
    assert_eq!(*was_mapped.lock().unwrap(), Some(false));
}

#[test]
fn refused_overlays_hold_nothing_and_change_nothing() {
    let ram = ram();
    ram.write_slice(b"old", GuestAddress(0)).unwrap();
    let short = file(&[1; 4095]);
    assert!(matches!(
        ram.overlay(GuestAddress(0), 4095, &short),
        Err(OverlayError::FileTooShort { have: 4095, need: 4096 })
    ));
    // A descriptor that cannot be mapped private and writable: write only.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), [1; 4096]).unwrap();
    let unreadable: Arc<dyn OverlaySource> =
        Arc::new(File::options().write(true).open(dir.path().join("f")).unwrap());
    assert!(matches!(ram.overlay(GuestAddress(0), 1, &unreadable), Err(OverlayError::Map(_))));
    for file in [short, unreadable] {
        assert_eq!(Arc::strong_count(&file), 1);
    }
    let mut seen = [0; 3];
    ram.read_slice(&mut seen, GuestAddress(0)).unwrap();
    assert_eq!(&seen, b"old");
}

#[test]
fn shared_ram_takes_no_overlay() {
    let layout = MemoryLayout::new(16 * MIB).unwrap();
    let config = RamConfig { backing: Backing::Memfd, ..RamConfig::default() };
    let ram = allocate(&layout, &config).unwrap();
    let file = file(&[1; 4096]);
    assert!(matches!(
        ram.overlay(GuestAddress(0x1000), 1, &file),
        Err(OverlayError::Backing { addr: 0x1000 })
    ));
}
