//! Address ranges and the devices behind them, for port I/O and MMIO alike.
//!
//! A vCPU thread looks the device up by address and calls it with the offset inside its range. Nothing a
//! guest does here can fail: an access no device claims reads as all ones and writes to nowhere, as on a
//! real bus (a 16550 driver polling a missing port then sees an idle, absent device instead of hanging).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

/// A device with registers.
///
/// Called on the vCPU thread that made the access, one access at a time per device. Any offset inside the
/// range and any length (1 to 8 bytes, or more for a hostile caller) must be answered without panicking.
pub trait BusDevice: Send {
    /// Fills `data` with the registers at `offset` from the start of the device's range.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Writes `data` to the registers at `offset`.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// Shared ownership of a device on a bus.
pub type SharedDevice = Arc<Mutex<dyn BusDevice>>;

/// Why a range was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BusError {
    /// The range is empty or wraps around the address space.
    #[error("bus range at {base:#x} with length {len:#x} is empty or wraps")]
    Range {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The range overlaps one that is already there.
    #[error("bus range at {base:#x} with length {len:#x} overlaps the one at {other:#x}")]
    Overlap {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// First address of the range in the way.
        other: u64,
    },
}

struct Range {
    last: u64,
    device: SharedDevice,
}

/// A set of non-overlapping ranges.
///
/// Filled while the machine is assembled, then shared read-only by the vCPU threads.
#[derive(Default)]
pub struct Bus {
    ranges: BTreeMap<u64, Range>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges.iter().map(|(base, r)| (base, r.last))).finish()
    }
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `device` at `[base, base + len)`.
    ///
    /// # Errors
    ///
    /// [`BusError`] if the range is empty, wraps, or overlaps another.
    pub fn insert(&mut self, base: u64, len: u64, device: SharedDevice) -> Result<(), BusError> {
        let last =
            len.checked_sub(1).and_then(|l| base.checked_add(l)).ok_or(BusError::Range { base, len })?;
        if let Some((&other, range)) = self.ranges.range(..=last).next_back()
            && range.last >= base
        {
            return Err(BusError::Overlap { base, len, other });
        }
        self.ranges.insert(base, Range { last, device });
        Ok(())
    }

    fn find(&self, addr: u64) -> Option<(u64, &SharedDevice)> {
        let (&base, range) = self.ranges.range(..=addr).next_back()?;
        (addr <= range.last).then(|| (addr.wrapping_sub(base), &range.device))
    }

    /// Reads from the device at `addr`; all ones if there is none. True if a device answered.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        data.fill(0xff);
        let Some((offset, device)) = self.find(addr) else { return false };
        device.lock().unwrap_or_else(PoisonError::into_inner).read(offset, data);
        true
    }

    /// Writes to the device at `addr`; nothing happens if there is none. True if a device took it.
    pub fn write(&self, addr: u64, data: &[u8]) -> bool {
        let Some((offset, device)) = self.find(addr) else { return false };
        device.lock().unwrap_or_else(PoisonError::into_inner).write(offset, data);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Probe {
        seen: Vec<(u64, Vec<u8>)>,
    }

    impl BusDevice for Probe {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn write(&mut self, offset: u64, data: &[u8]) {
            self.seen.push((offset, data.to_vec()));
        }
    }

    fn probe() -> Arc<Mutex<Probe>> {
        Arc::default()
    }

    #[test]
    fn overlap_table() {
        let table: &[(u64, u64, bool)] = &[
            (0x1000, 0x1000, false),
            (0x1fff, 1, false),
            (0x0fff, 2, false),
            (0, 0x10_0000, false),
            (0x1800, 0x10, false),
            (0x2000, 1, true),
            (0x0fff, 1, true),
            (0x3000, 0, false),
            (u64::MAX, 2, false),
            (u64::MAX, 1, true),
        ];
        for &(base, len, ok) in table {
            let mut bus = Bus::new();
            bus.insert(0x1000, 0x1000, probe()).unwrap();
            assert_eq!(bus.insert(base, len, probe()).is_ok(), ok, "{base:#x}+{len:#x}");
        }
    }

    #[test]
    fn accesses_reach_the_device_with_its_own_offset() {
        let mut bus = Bus::new();
        let dev = probe();
        bus.insert(0x3f8, 8, dev.clone()).unwrap();
        let mut data = [0; 2];
        assert!(bus.read(0x3fd, &mut data));
        assert_eq!(data, [5, 5]);
        assert!(bus.write(0x3f9, &[9, 8]));
        assert_eq!(dev.lock().unwrap().seen, [(1, vec![9, 8])]);
    }

    #[test]
    fn an_unclaimed_read_is_all_ones() {
        let bus = Bus::new();
        let mut data = [0; 8];
        assert!(!bus.read(0x3fd, &mut data));
        assert_eq!(data, [0xff; 8]);
        assert!(!bus.write(0x3fd, &data));
    }
}
