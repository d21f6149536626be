//! What the fuzz target `i8042_ops` does: accesses of a guest, keys, and saved states.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use purlin_snapshot::Section;
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;

use super::I8042;

struct Silent;

impl IrqLine for Silent {
    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Operations of three bytes: what, where, and a value.
///
/// # Panics
///
/// If a property does not hold: that is what a fuzzer looks for.
pub fn i8042_ops(data: &[u8]) {
    let resets = Arc::new(AtomicU32::new(0));
    let make = || {
        let resets = resets.clone();
        I8042::new(Arc::new(Silent), move || {
            resets.fetch_add(1, Ordering::Relaxed);
        })
    };
    let (mut device, mut expected) = (make(), 0);
    for (index, &[operation, offset, value]) in data.as_chunks::<3>().0.iter().enumerate() {
        let (offset, width) = (u64::from(offset % 8), usize::from(operation >> 4));
        match operation % 4 {
            0 => {
                device.write(offset, &vec![value; width]);
                expected += u32::from((width, offset, value) == (1, 4, 0xfe));
            }
            1 => device.read(offset, &mut vec![value; width]),
            2 => {
                let _ = device.send_ctrl_alt_del();
            }
            _ => {
                let section = device.save(0);
                let mut other = make();
                assert!(other.restore(&section).is_ok() && other.save(0) == section);
                // What follows is a saved state of somebody else's.
                let rest = data.get(index.saturating_mul(3)..).unwrap_or_default();
                let foreign = Section::new(section.id, rest.to_vec());
                if other.restore(&foreign).is_ok() {
                    assert!(other.save(0) == foreign);
                } else {
                    assert!(other.save(0) == section, "a refused state changes nothing");
                }
                device = other;
            }
        }
        assert_eq!(resets.load(Ordering::Relaxed), expected);
    }
}
