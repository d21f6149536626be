//! The unsafe corner of the KVM shell: the kick signal, memory slots, thread clocks.

use std::cell::Cell;
use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_bindings::{KVM_MEM_READONLY, KVMIO, kvm_reinject_control, kvm_run, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_io_nr;
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use super::KvmError;
use super::affinity::CpuMask;
use super::pit::Pit;
use super::posted::PostedClears;
use crate::memory::{
    Address, GuestMemory, GuestMemoryRegion, MemoryRegionAddress, RegisterPage, SharedRam, Window,
};

thread_local! {
    /// The shared page of the vCPU this thread runs, or null.
    static CURRENT_RUN: Cell<*mut kvm_run> = const { Cell::new(ptr::null_mut()) };
}

/// The signal that takes a vCPU thread out of `KVM_RUN`.
pub fn kick_signal() -> c_int {
    SIGRTMIN()
}

extern "C" fn on_kick(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    // A thread-local without destructor and with constant initialiser: reading it is a plain load.
    let run = CURRENT_RUN.with(Cell::get);
    if !run.is_null() {
        // SAFETY: `run` points at the vCPU's mapped page while `CurrentRun` of this thread lives, and the
        // handler runs on this thread. The field is a byte that the kernel reads and nobody else writes.
        unsafe { ptr::write_volatile(&raw mut (*run).immediate_exit, 1) };
    }
}

/// Installs the handler. Repeating it is harmless.
pub(super) fn install_kick_handler() -> Result<(), KvmError> {
    register_signal_handler(kick_signal(), on_kick)
        .map_err(|e| KvmError::Host { what: "handler for the vCPU kick signal", source: e.into() })
}

/// Clears the thread's vCPU pointer, also when the body panics.
struct Unset;

impl Drop for Unset {
    fn drop(&mut self) {
        CURRENT_RUN.with(|c| c.set(ptr::null_mut()));
    }
}

/// Runs `body` with kicks of this thread reaching the vCPU inside `owner`.
///
/// The pointer the handler uses is valid throughout: `owner`, and with it the vCPU's mapped page, is
/// borrowed until `body` has returned.
pub(super) fn with_current_vcpu<T>(owner: &mut T, fd: fn(&mut T) -> &mut VcpuFd, body: impl FnOnce(&mut T)) {
    let run = ptr::from_mut(fd(owner).get_kvm_run());
    CURRENT_RUN.with(|c| c.set(run));
    let _unset = Unset;
    body(owner);
}

/// Sends the kick signal to a thread that has not been joined.
pub(super) fn kick(thread: &JoinHandle<()>) -> io::Result<()> {
    thread.kill(kick_signal()).map_err(io::Error::from)
}

/// Lets a thread that has not been joined run on these processors of the host only.
pub(super) fn set_affinity(thread: &JoinHandle<()>, cpus: &CpuMask) -> io::Result<()> {
    let bits = cpus.bits();
    // SAFETY: the thread has not been joined, so its id is valid; the mask is as long as told.
    let error = unsafe {
        libc::pthread_setaffinity_np(
            thread.as_pthread_t(),
            size_of_val(bits),
            bits.as_ptr().cast::<libc::cpu_set_t>(),
        )
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// CPU time a thread has used; zero if the system does not tell.
pub(super) fn cpu_time(thread: &JoinHandle<()>) -> Duration {
    let mut clock = 0;
    // SAFETY: the thread has not been joined, so its id is valid; `clock` is written on success.
    if unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) } != 0 {
        return Duration::ZERO;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(secs, nanos)
}

ioctl_io_nr!(KVM_REINJECT_CONTROL, KVMIO, 0x71);

/// Tells the timer chip of this virtual machine not to make up for ticks that the guest missed.
pub(super) fn forget_missed_ticks(vm: &VmFd) -> io::Result<()> {
    let control = kvm_reinject_control::default();
    // SAFETY: the kernel reads one `kvm_reinject_control` (KVM API 4.46), which `control` is.
    let outcome = unsafe { ioctl_with_ref(vm, KVM_REINJECT_CONTROL(), &control) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A VM descriptor together with the memory its slots point at.
///
/// Field order matters: the timer's thread, which has the descriptor too, ends first, then the page of posted writes, which keeps
/// the virtual machine as well; the descriptor is closed before the memory is unmapped, which in turn is before the files under it
/// are released; `/dev/kvm` itself comes last.
pub(super) struct MappedVm {
    pit: Option<Pit>,
    posted: PostedClears,
    fd: Arc<VmFd>,
    ram: SharedRam,
    more: Mutex<More>,
    kvm: Kvm,
}

/// What slots behind those of RAM point at.
#[derive(Default)]
struct More {
    windows: Vec<Window>,
    pages: Vec<Arc<RegisterPage>>,
}

/// The slot of a page of registers.
pub(super) struct PageSlot {
    slot: u32,
    addr: u64,
    host_addr: u64,
}

impl MappedVm {
    /// Gives the guest all of `ram`, one slot per region.
    pub fn new(fd: Arc<VmFd>, pit: Option<Pit>, ram: SharedRam, kvm: Kvm) -> Result<Self, KvmError> {
        for (slot, region) in (0u32..).zip(ram.iter()) {
            let host = region
                .get_host_address(MemoryRegionAddress(0))
                .map_err(|_| KvmError::MissingCapability("memory region with a host address"))?;
            let slot = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr: host as u64,
            };
            // SAFETY: the region stays mapped while `ram` lives, which this value keeps for as long as the
            // descriptor; vCPUs keep this value.
            unsafe { fd.set_user_memory_region(slot) }
                .map_err(KvmError::ioctl("KVM_SET_USER_MEMORY_REGION"))?;
        }
        Ok(MappedVm { pit, posted: PostedClears::default(), fd, ram, more: Mutex::default(), kvm })
    }

    /// Shows the guest a window behind its RAM, and keeps it.
    pub fn add_window(&self, window: Window) -> Result<(), KvmError> {
        let mut more = self.more();
        let slot = kvm_userspace_memory_region {
            slot: self.next_slot(&more),
            flags: 0,
            guest_phys_addr: window.guest_addr().raw_value(),
            memory_size: window.len(),
            userspace_addr: window.host_addr(),
        };
        // SAFETY: the window's address range belongs to it, whatever is mapped there, and this value keeps it
        // for as long as the descriptor.
        unsafe { self.fd.set_user_memory_region(slot) }
            .map_err(KvmError::ioctl("KVM_SET_USER_MEMORY_REGION"))?;
        more.windows.push(window);
        Ok(())
    }

    /// Keeps a page, and a slot for it at `addr`.
    pub fn page_slot(&self, page: Arc<RegisterPage>, addr: u64) -> PageSlot {
        let mut more = self.more();
        let slot = PageSlot { slot: self.next_slot(&more), addr, host_addr: page.host_addr() };
        more.pages.push(page);
        slot
    }

    /// Shows the guest the page of a slot of this machine, or no longer.
    pub fn show_page(&self, slot: &PageSlot, show: bool) -> Result<(), kvm_ioctls::Error> {
        let slot = kvm_userspace_memory_region {
            slot: slot.slot,
            flags: KVM_MEM_READONLY,
            guest_phys_addr: slot.addr,
            // Of no length, a slot is removed.
            memory_size: if show { RegisterPage::LEN } else { 0 },
            userspace_addr: slot.host_addr,
        };
        // SAFETY: the page, which has nothing else in it and is changed only as atomic words, is kept by this value for as
        // long as the descriptor. The guest cannot write it.
        unsafe { self.fd.set_user_memory_region(slot) }
    }

    fn more(&self) -> MutexGuard<'_, More> {
        self.more.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine has a few regions of RAM, a few windows, and a page for each device.
    fn next_slot(&self, more: &More) -> u32 {
        let [windows, pages] = [more.windows.len(), more.pages.len()];
        self.ram.num_regions().saturating_add(windows).saturating_add(pages) as u32
    }

    pub fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// A device interrupts the guest.
    pub fn device_interrupts(&self) {
        if let Some(pit) = &self.pit {
            pit.device_interrupts();
        }
    }

    /// Registers whose writes KVM keeps for later.
    pub fn posted(&self) -> &PostedClears {
        &self.posted
    }

    pub fn ram(&self) -> &SharedRam {
        &self.ram
    }

    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }
}
