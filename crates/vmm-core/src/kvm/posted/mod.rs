//! Registers whose bits the guest clears by writing them, without leaving the guest for it.
//!
//! KVM puts a write to such a register into a ring (coalesced MMIO) and lets the guest go on; the write takes effect when the ring
//! is next looked at, by [`PostedClears::settle`]. Whoever reads such a register or sets a bit of it settles first:
//!
//! - before a read: what the reading guest wrote before is in the ring, and taken into account;
//! - before a bit is set: a write that is older than the event clears the register before the bit is set, not after. One that the
//!   kernel takes after `settle` has looked, but before the bit is set, would clear it; its writer then sees the event itself, if
//!   it first clears and then looks, because the event was there before `settle` was called.
//!
//! A guest that is shown the register as memory ([`RegisterWindow`](crate::memory::RegisterWindow)) does not settle when it reads: it
//! may see bits that it has cleared already, never too few.
//!
//! One lock, for as long as it takes to clear some bits. Nothing else is locked or called under it, so it may be taken whatever
//! else is held.

mod ring;
mod sys;

use std::io;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_ioctls::VcpuFd;
use ring::Registers;
use sys::Mapping;

use crate::memory::Register;

/// The posted registers of a virtual machine.
#[derive(Default)]
pub(super) struct PostedClears(Mutex<State>);

#[derive(Default)]
struct State {
    registers: Registers,
    /// Mapped when there is a vCPU to map it from; before, nobody writes.
    mapping: Option<Mapping>,
}

impl PostedClears {
    /// Lets writes to the register at `addr` clear bits of `word`.
    pub fn add(&self, addr: u64, word: Register) {
        self.state().registers.add(addr, word);
    }

    /// Maps the ring if there is something to be found in it. Before the vCPU runs.
    pub fn map(&self, vcpu: &VcpuFd) -> io::Result<()> {
        let state = &mut *self.state();
        if state.mapping.is_none() && !state.registers.is_empty() {
            state.mapping = Some(Mapping::new(vcpu)?);
        }
        Ok(())
    }

    /// Every write the guest has posted so far takes effect.
    pub fn settle(&self) {
        // What the caller did before comes before the look at the ring: either the look finds a write, or the vCPU that posts it
        // (and leaves and enters the guest for it, a barrier) sees what the caller did.
        fence(Ordering::SeqCst);
        let State { registers, mapping } = &mut *self.state();
        if let Some(mapping) = mapping {
            registers.settle(mapping.page());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
