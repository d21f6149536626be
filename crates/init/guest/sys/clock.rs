//! Clocks and chance.

use core::ptr;

use super::{Result, call};
use crate::arch::number as nr;

const REALTIME: usize = 0;
const MONOTONIC: usize = 1;
const NANOSECONDS: u64 = 1_000_000_000;

fn read(clock: usize) -> [u64; 2] {
    let mut time = [0_u64; 2];
    // SAFETY: the kernel writes one `struct timespec`.
    let _ = unsafe { call(nr::CLOCK_GETTIME, [clock, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time
}

/// Milliseconds of a clock that does not go back.
pub fn now() -> u64 {
    let [seconds, nanoseconds] = read(MONOTONIC);
    seconds.wrapping_mul(1000).wrapping_add(nanoseconds / 1_000_000)
}

/// Nanoseconds since 1970.
pub fn real_time() -> u64 {
    let [seconds, nanoseconds] = read(REALTIME);
    seconds.wrapping_mul(NANOSECONDS).wrapping_add(nanoseconds)
}

/// Sets the clock that [`real_time`] reads.
pub fn set_real_time(nanoseconds: u64) -> Result<()> {
    let time = [nanoseconds / NANOSECONDS, nanoseconds % NANOSECONDS];
    // SAFETY: the kernel reads one `struct timespec`.
    unsafe { call(nr::CLOCK_SETTIME, [REALTIME, ptr::from_ref(&time) as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Something that differs between machines. Does not wait for a kernel that has gathered no entropy yet.
pub fn random() -> u32 {
    const NONBLOCK: usize = 1;
    let mut number = 0_u32;
    // SAFETY: the kernel writes at most 4 bytes.
    let got = unsafe { call(nr::GETRANDOM, [ptr::from_mut(&mut number) as usize, 4, NONBLOCK, 0, 0, 0]) };
    if got == Ok(4) { number } else { real_time() as u32 }
}
