//! CMOS memory and clock (Motorola MC146818A), as far as a guest reads it.
//!
//! RAM sizes stand where firmware leaves them; the clock registers give the time the owner passes in, in
//! BCD and 24-hour form, and an update is never in progress, so a guest that waits for one to end goes on.

use std::time::{Duration, SystemTime};

use purlin_vmm_core::bus::BusDevice;

/// First port.
pub const CMOS_PORT: u64 = 0x70;
/// Ports up to and including 0x77.
pub const CMOS_LEN: u64 = 8;

const INDEX: u64 = 0;
const DATA: u64 = 1;
/// The top bit of the index port masks NMIs and is not part of the index.
const INDEX_MASK: u8 = 0x7f;

const STATUS_A_32KHZ_DIVIDER: u8 = 0x26;
const STATUS_B_24_HOURS: u8 = 0x02;
const STATUS_D_VALID: u8 = 0x80;

/// The device. `clock` is asked on every read of a time register.
pub struct Cmos {
    index: u8,
    below_4g: u64,
    above_4g: u64,
    clock: Box<dyn Fn() -> SystemTime + Send>,
}

impl Cmos {
    /// For a machine with this much RAM, in bytes, below and above 4 GiB.
    pub fn new(below_4g: u64, above_4g: u64, clock: impl Fn() -> SystemTime + Send + 'static) -> Self {
        Cmos { index: 0, below_4g, above_4g, clock: Box::new(clock) }
    }

    fn register(&self) -> u8 {
        // 64 KiB units from 16 MiB up to 4 GiB, and from 4 GiB.
        let extended = (self.below_4g.saturating_sub(16 << 20) >> 16).min(0xffff);
        let high = (self.above_4g >> 16).min(0xff_ffff);
        match self.index {
            0x0a => STATUS_A_32KHZ_DIVIDER,
            0x0b => STATUS_B_24_HOURS,
            0x0d => STATUS_D_VALID,
            0x34 => extended as u8,
            0x35 => (extended >> 8) as u8,
            0x5b => high as u8,
            0x5c => (high >> 8) as u8,
            0x5d => (high >> 16) as u8,
            0x00 | 0x02 | 0x04 | 0x06..=0x09 | 0x32 => self.time_register(),
            _ => 0,
        }
    }

    fn time_register(&self) -> u8 {
        let t = CivilTime::from((self.clock)());
        bcd(match self.index {
            0x00 => t.second,
            0x02 => t.minute,
            0x04 => t.hour,
            0x06 => t.weekday,
            0x07 => t.day,
            0x08 => t.month,
            0x09 => t.year % 100,
            _ => t.year / 100,
        })
    }
}

fn bcd(value: u64) -> u8 {
    (((value / 10 % 10) << 4) | (value % 10)) as u8
}

/// UTC broken down; weekday 1 is Sunday.
#[derive(Debug, PartialEq, Eq)]
struct CivilTime {
    year: u64,
    month: u64,
    day: u64,
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl From<SystemTime> for CivilTime {
    fn from(t: SystemTime) -> Self {
        let secs = t.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let mut days = secs / 86_400;
        let weekday = (days + 4) % 7 + 1;
        let mut year = 1970;
        while days >= year_len(year) {
            days -= year_len(year);
            year += 1;
        }
        let mut month = 1;
        while days >= month_len(year, month) {
            days -= month_len(year, month);
            month += 1;
        }
        CivilTime {
            year,
            month,
            day: days + 1,
            weekday,
            hour: secs / 3600 % 24,
            minute: secs / 60 % 60,
            second: secs % 60,
        }
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn year_len(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn month_len(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl BusDevice for Cmos {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let [byte] = data else { return };
        *byte = match offset {
            INDEX => self.index,
            DATA => self.register(),
            _ => 0,
        };
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (INDEX, &[byte]) = (offset, data) {
            self.index = byte & INDEX_MASK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cmos: &mut Cmos, index: u8) -> u8 {
        cmos.write(INDEX, &[index]);
        let mut data = [0xff];
        cmos.read(DATA, &mut data);
        data[0]
    }

    fn at(secs: u64) -> impl Fn() -> SystemTime + Send {
        move || SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn ram_size_table() {
        let gib = 1u64 << 30;
        let table = [
            (16 << 20, 0, 0x0000, 0),
            (256 << 20, 0, 0x0f00, 0),
            (0xd000_0000, gib, 0xcf00, 0x4000),
            (0xd000_0000, 62 * gib, 0xcf00, 0xf_8000),
        ];
        for (below, above, extended, high) in table {
            let mut cmos = Cmos::new(below, above, at(0));
            let got = u32::from(read(&mut cmos, 0x35)) << 8 | u32::from(read(&mut cmos, 0x34));
            assert_eq!(got, extended, "below {below:#x}");
            let got = (0x5b..=0x5d).rev().fold(0u32, |v, i| v << 8 | u32::from(read(&mut cmos, i)));
            assert_eq!(got, high, "above {above:#x}");
        }
    }

    #[test]
    fn clock_table() {
        // Seconds, then century, year, month, day, weekday, hour, minute, second.
        let table = [
            (0, [0x19, 0x70, 0x01, 0x01, 5, 0x00, 0x00, 0x00]),
            (951_782_399, [0x20, 0x00, 0x02, 0x28, 2, 0x23, 0x59, 0x59]),
            (951_782_400, [0x20, 0x00, 0x02, 0x29, 3, 0x00, 0x00, 0x00]),
            (1_798_761_599, [0x20, 0x26, 0x12, 0x31, 5, 0x23, 0x59, 0x59]),
            (4_107_542_400, [0x21, 0x00, 0x03, 0x01, 2, 0x00, 0x00, 0x00]),
        ];
        for (secs, want) in table {
            let mut cmos = Cmos::new(0, 0, at(secs));
            let got = [0x32, 9, 8, 7, 6, 4, 2, 0].map(|i| read(&mut cmos, i));
            assert_eq!(got, want, "at {secs}");
        }
    }

    #[test]
    fn no_update_is_ever_in_progress() {
        let mut cmos = Cmos::new(0, 0, at(0));
        assert_eq!(read(&mut cmos, 0x0a) & 0x80, 0);
        assert_eq!(read(&mut cmos, 0x8a) & 0x80, 0);
    }
}
