//! A guest of a few instructions, and a device that records what it does.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;
use purlin_vmm_core::kvm::{BootState, Buses, KvmVcpu, KvmVm, OnEnd, VcpuEvent, VcpuGroup};
use purlin_vmm_core::memory::{
    Bytes, GuestAddress, GuestRam, Register, RegisterPage, RegisterWindow, SharedRam,
};

pub const LIMIT: Duration = Duration::from_secs(20);
pub const PORT: u64 = 0x80;
pub const MMIO: u64 = 0xd000;
/// A register whose bits are cleared by writing them.
pub const POSTED: u64 = MMIO + 0x64;
/// Where a device panics.
const BROKEN: u64 = 0xe000;
const CODE_ADDR: u64 = 0x1000;

pub fn soon() -> Instant {
    Instant::now() + LIMIT
}

/// Counts reads and writes; a read gives the number of reads so far, so that a repeated read shows.
#[derive(Default)]
pub struct Counter {
    pub reads: u64,
    pub written: Vec<u8>,
}

#[derive(Default)]
pub struct SharedCounter {
    state: Mutex<Counter>,
    changed: Condvar,
}

impl SharedCounter {
    pub fn wait_until(&self, done: impl Fn(&Counter) -> bool) -> bool {
        let guard = self.state.lock().unwrap();
        let (_guard, timeout) = self.changed.wait_timeout_while(guard, LIMIT, |c| !done(c)).unwrap();
        !timeout.timed_out()
    }

    pub fn get<T>(&self, f: impl Fn(&Counter) -> T) -> T {
        f(&self.state.lock().unwrap())
    }
}

struct Port(Arc<SharedCounter>, Duration);

impl BusDevice for Port {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        // A slow device makes it likely that a pause finds a read in flight.
        std::thread::sleep(self.1);
        let mut state = self.0.state.lock().unwrap();
        state.reads += 1;
        data.fill(0);
        data[0] = state.reads as u8;
        self.0.changed.notify_all();
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        self.0.state.lock().unwrap().written.extend_from_slice(data);
        self.0.changed.notify_all();
    }
}

struct Broken;

impl BusDevice for Broken {
    fn read(&mut self, _offset: u64, _data: &mut [u8]) {
        panic!("a device of a test panics");
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) {}
}

pub struct Guest {
    pub group: VcpuGroup,
    pub events: Receiver<VcpuEvent>,
    pub port: Arc<SharedCounter>,
    pub ram: SharedRam,
    pub line: Arc<dyn IrqLine>,
    /// The register at [`POSTED`].
    pub word: Register,
    /// The page at [`MMIO`] with that register, not shown.
    pub page: Arc<RegisterPage>,
    /// Where to show it, with a KVM that can.
    pub window: Option<Box<dyn RegisterWindow>>,
}

/// Real-mode state at the guest's code.
pub fn real_mode(vcpu: &KvmVcpu) -> BootState {
    let mut sregs = vcpu.sregs().unwrap();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    let regs = kvm_bindings::kvm_regs { rip: CODE_ADDR, rflags: 2, rsp: 0x800, ..Default::default() };
    BootState { regs, sregs, ..Default::default() }
}

/// A machine with `vcpus` vCPUs, of which the first runs `code`. Each device access takes `delay`.
pub fn machine(code: &[u8], vcpus: u8, delay: Duration) -> Guest {
    let ram = Arc::new(GuestRam::from_ranges(&[(GuestAddress(0), 0xd000)]).unwrap());
    ram.write_slice(code, GuestAddress(CODE_ADDR)).unwrap();
    let vm = KvmVm::new(ram.clone()).expect("this test needs a usable /dev/kvm");
    let port = Arc::<SharedCounter>::default();
    let mut buses = Buses::default();
    buses.pio.insert(PORT, 1, Arc::new(Mutex::new(Port(port.clone(), delay)))).unwrap();
    buses.mmio.insert(MMIO, 0x1000, Arc::new(Mutex::new(Port(port.clone(), delay)))).unwrap();
    buses.mmio.insert(BROKEN, 0x1000, Arc::new(Mutex::new(Broken))).unwrap();
    let page = Arc::<RegisterPage>::default();
    let word = page.register(POSTED - MMIO);
    let window = vm.register_window(&page, MMIO);
    vm.clear_on_write(&word, POSTED).unwrap();
    let cpus: Vec<KvmVcpu> = (0..vcpus)
        .map(|i| {
            let vcpu = vm.create_vcpu(i).unwrap();
            vcpu.set_boot_state(&real_mode(&vcpu)).unwrap();
            vcpu
        })
        .collect();
    let (tx, events) = channel();
    let on_end: OnEnd = Arc::new(move |event| tx.send(event).unwrap());
    let group = VcpuGroup::new(cpus, &Arc::new(buses), &on_end).unwrap();
    Guest { group, events, port, ram, line: vm.irq_line(5), word, page, window }
}
