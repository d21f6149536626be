//! The in-kernel timer chip (PIT), without its memory of ticks that the guest missed.
//!
//! KVM counts a guest's acknowledgements of timer ticks unless told not to, and to stop counting waits for grace periods of the
//! host's RCU: some milliseconds in which nobody does anything. Left alone it does so when the virtual machine is closed, before
//! whoever waits for the guest's end hears of it. A thread does it beside the guest instead: at the first interrupt of a device,
//! when Linux has long found a better timer. (The guest's first steps would wait for it, and so does an access to the chip.)
//!
//! A guest that goes on using the chip misses ticks as on a busy computer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{Builder, JoinHandle, park};

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::VmFd;

use super::KvmError;
use super::sys::forget_missed_ticks;

/// What the thread is to do.
const WAIT: u8 = 0;
const FORGET: u8 = 1;
const END: u8 = 2;

/// The timer of a virtual machine.
pub(super) struct Pit {
    order: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

impl Pit {
    /// Gives the virtual machine its timer.
    pub fn create(vm: &Arc<VmFd>) -> Result<Self, KvmError> {
        let config = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        vm.create_pit2(config).map_err(KvmError::ioctl("KVM_CREATE_PIT2"))?;
        let order = Arc::new(AtomicU8::new(WAIT));
        let (vm, own_order) = (vm.clone(), order.clone());
        let life = move || {
            while own_order.load(Ordering::Acquire) == WAIT {
                park();
            }
            if own_order.load(Ordering::Acquire) == FORGET
                && let Err(e) = forget_missed_ticks(&vm)
            {
                log::debug!("the timer remembers missed ticks: {e}");
            }
        };
        // Without it the end takes longer, and that is all.
        let thread = Builder::new().name("purlin-pit".to_owned()).spawn(life).ok();
        Ok(Pit { order, thread })
    }

    /// A device interrupts the guest. May be called any number of times, and returns at once.
    pub fn device_interrupts(&self) {
        if self.order.load(Ordering::Relaxed) == WAIT {
            self.give(FORGET);
        }
    }

    fn give(&self, order: u8) {
        let first = self.order.compare_exchange(WAIT, order, Ordering::AcqRel, Ordering::Relaxed);
        if let (Ok(_), Some(thread)) = (first, &self.thread) {
            thread.thread().unpark();
        }
    }
}

impl Drop for Pit {
    fn drop(&mut self) {
        self.give(END);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
