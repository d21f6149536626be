//! The frequency that KVM takes a vCPU's TSC to have.
//!
//! A new vCPU has the one that KVM's module found when it was loaded. It may be 0, and it may be one that KVM then refuses: if the host
//! measured its TSC again later, found more than 250 ppm above the first value, and cannot scale the TSC, KVM says "user requested TSC
//! rate below hardware speed". Such a vCPU has a TSC deadline timer that takes every deadline and never fires, so that its guest runs
//! only as long as other interrupts come; and KVM goes on to report the refused frequency. So every vCPU is given the host's present
//! one, before its TSC is set.

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

/// Gives a new vCPU the host's frequency. False if KVM knows none after that.
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
    vcpu.set(OF_THE_HOST);
    vcpu.get() != Some(0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// What a vCPU has, and what it has after it was set.
    struct Vcpu {
        khz: Cell<Option<u32>>,
        after: Option<u32>,
    }

    impl TscFrequency for Vcpu {
        fn get(&self) -> Option<u32> {
            self.khz.get()
        }

        fn set(&self, khz: u32) {
            assert_eq!(khz, OF_THE_HOST);
            self.khz.set(self.after);
        }
    }

    #[test]
    fn every_vcpu_gets_the_frequency_of_the_host() {
        for (khz, after, settled) in [
            (Some(2_594_000), Some(2_596_118), true),
            (Some(0), Some(2_596_118), true),
            (Some(0), Some(0), false),
            // A KVM that cannot be asked is trusted.
            (None, None, true),
        ] {
            let vcpu = Vcpu { khz: Cell::new(khz), after };
            assert_eq!(settle(&vcpu), settled, "{khz:?}, {after:?}");
            assert_eq!(vcpu.khz.get(), after);
        }
    }
}
