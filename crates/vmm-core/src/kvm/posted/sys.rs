//! The page of posted writes, mapped.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

use kvm_bindings::KVM_COALESCED_MMIO_PAGE_OFFSET;
use kvm_ioctls::VcpuFd;
use libc::c_void;

use super::ring::Page;

const LEN: usize = size_of::<Page>();
const OFFSET: libc::off_t = (KVM_COALESCED_MMIO_PAGE_OFFSET as usize * LEN) as libc::off_t;

/// A virtual machine's page. It keeps the virtual machine, by the descriptor it is a mapping of.
pub struct Mapping(NonNull<Page>);

// SAFETY: the pointer is to a mapping that belongs to this value, and nothing about it is bound to a thread; it is read and
// written through atomics only.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the page, which is the same for every vCPU of a virtual machine.
    ///
    /// # Errors
    ///
    /// Of `mmap`; among them that this KVM has no such page.
    pub fn new(vcpu: &VcpuFd) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no fixed address, so nothing that exists is replaced; the kernel checks the other arguments.
        let addr =
            unsafe { libc::mmap(ptr::null_mut(), LEN, prot, libc::MAP_SHARED, vcpu.as_raw_fd(), OFFSET) };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(addr.cast::<Page>()).map(Mapping).ok_or_else(|| io::Error::other("mmap returned null"))
    }

    /// The page.
    pub fn page(&self) -> &Page {
        // SAFETY: the mapping is as long and aligned as a `Page`, which takes any bit pattern, and lives as long as `self`. The
        // kernel changes it meanwhile, which its type, made of atomics, allows; nobody else maps it.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's alone, and references to it borrow this value.
        unsafe { libc::munmap(self.0.as_ptr().cast::<c_void>(), LEN) };
    }
}
