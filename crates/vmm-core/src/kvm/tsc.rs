//! The frequency that KVM takes a vCPU's TSC to have.
//!
//! A vCPU without one has a TSC deadline timer that takes every deadline and never fires: a guest that relies on it runs only as
//! long as other interrupts come.
//!
//! Not found out here: a frequency that KVM refused when the vCPU was made, because the host measured its TSC again after KVM's
//! module was loaded, found more than 250 ppm above the first value, and cannot scale the TSC. KVM says "user requested TSC rate
//! below hardware speed" then, and goes on to report the refused value; deadlines never come either. The remedy is to load the
//! module again.

use kvm_ioctls::VcpuFd;

/// Asks KVM for the host's present frequency.
const OF_THE_HOST: u32 = 0;

/// The two calls this is about.
trait TscFrequency {
    /// In kHz, 0 if KVM has none; `None` if it cannot be asked.
    fn get(&self) -> Option<u32>;
    fn set(&self, khz: u32);
}

impl TscFrequency for VcpuFd {
    fn get(&self) -> Option<u32> {
        self.get_tsc_khz().ok()
    }

    fn set(&self, khz: u32) {
        if let Err(e) = self.set_tsc_khz(khz) {
            log::debug!("KVM_SET_TSC_KHZ: {e}");
        }
    }
}

/// Gives a new vCPU a frequency if it has none. False if it has none after that.
pub(super) fn settle_frequency(index: u8, vcpu: &VcpuFd) -> bool {
    let settled = settle(vcpu);
    if !settled {
        log::warn!(
            "vCPU {index}: KVM knows no frequency of its TSC, so the guest gets no TSC deadline timer"
        );
    }
    settled
}

fn settle(vcpu: &impl TscFrequency) -> bool {
    if vcpu.get() == Some(0) {
        vcpu.set(OF_THE_HOST);
    }
    vcpu.get() != Some(0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What a vCPU has, and what it has after it was set.
    struct Vcpu {
        khz: Cell<Option<u32>>,
        after: u32,
    }

    impl TscFrequency for Vcpu {
        fn get(&self) -> Option<u32> {
            self.khz.get()
        }

        fn set(&self, khz: u32) {
            assert_eq!((self.khz.get(), khz), (Some(0), OF_THE_HOST), "a frequency that is there stays");
            self.khz.set(Some(self.after));
        }
    }

    #[test]
    fn only_a_vcpu_without_a_frequency_gets_one() {
        for (khz, after, settled) in [
            (Some(2_600_000), 0, true),
            (Some(0), 2_600_000, true),
            (Some(0), 0, false),
            // A KVM that cannot be asked is trusted.
            (None, 0, true),
        ] {
            assert_eq!(settle(&Vcpu { khz: Cell::new(khz), after }), settled, "{khz:?}, {after}");
        }
    }
}
