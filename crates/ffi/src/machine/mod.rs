//! Puts a machine together: memory, kernel, devices, processors. Everything is made here and nothing runs
//! until [`Machine::start`].

mod boot;
mod console;
mod error;
mod serial;
mod shares;
mod slots;
mod workload;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use purlin_devices::legacy::{CMOS_LEN, CMOS_PORT, Cmos, I8042, I8042_LEN, I8042_PORT};
use purlin_devices::shell::EventLoop;
use purlin_devices::virtio::console::PortHandle;
use purlin_devices::virtio::rng::Rng;
use purlin_tsi::shell::Vsock;
use purlin_vmm_core::kvm::{KvmVm, OnEnd, VcpuGroup};
use purlin_vmm_core::memory::{MemoryLayout, alloc};

pub(crate) use console::{Consoles, HostEnds, Terminal};
pub use error::BuildError;
use serial::SerialLines;
pub(crate) use shares::ExitReport;
pub(crate) use slots::Slots;

use crate::config::VmConfig;

/// A reader of guest output that takes nothing for this long at the end loses the rest.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// A machine that is ready to run.
///
/// Field order is drop order: processors end before the devices they call, devices before their loop.
pub(crate) struct Machine {
    pub vcpus: VcpuGroup,
    pub slots: Slots,
    pub consoles: Consoles,
    pub serial_lines: SerialLines,
    pub report: Arc<ExitReport>,
    _loop: EventLoop,
}

/// Whom the machine tells of what happens in it. Called on vCPU threads; must not block.
pub(crate) struct Hooks {
    /// The guest pulled the reset line.
    pub guest_reset: Box<dyn FnMut() + Send>,
    /// A processor ended by itself.
    pub vcpu_ended: OnEnd,
}

/// A machine, and what others hold of it.
pub(crate) struct Assembled {
    pub machine: Machine,
    /// The owner's ends of the console's pipes.
    pub ends: HostEnds,
    /// The channel to the guest's init, for the supervisor.
    pub control: PortHandle,
}

impl Machine {
    /// Makes everything `config` describes.
    pub fn assemble(mut config: VmConfig, hooks: Hooks) -> Result<Assembled, BuildError> {
        config.check()?;
        let layout =
            MemoryLayout::new(config.memory_mib.saturating_mul(1 << 20)).map_err(crate::ConfigError::from)?;
        let kernel = boot::Source::open(&mut config)?;

        let device_loop = EventLoop::spawn("purlin-devices").map_err(BuildError::host("device thread"))?;
        let report = Arc::new(ExitReport::default());
        let console::Made { mut consoles, ends, control, before_shares, last, names } =
            console::make(&config, &device_loop)?;
        let plan = workload::plan(&config, &names)?;
        let vsock = config.network.vsock(&config.vsock_ports, config.vsock_boot_grace);
        let vsock = vsock.map(Vsock::new).transpose()?;
        let file_systems = shares::make(&config, plan.file(), &report)?;

        let ram = alloc::allocate(&layout, &config.ram)?;
        let kernel = kernel.load(config.initramfs.as_deref(), &ram, &layout)?;
        let vm = KvmVm::new(ram)?;
        let mut slots = Slots::new(vm.ram().clone());
        slots.attach(&vm, Rng::new(device_loop.handle()).map_err(BuildError::host("/dev/urandom"))?)?;
        for console in before_shares {
            consoles.flushed.push(slots.attach(&vm, console)?);
        }
        for fs in file_systems {
            slots.attach(&vm, fs)?;
        }
        if let Some(console) = last {
            consoles.flushed.push(slots.attach(&vm, console)?);
        }

        if let Some(vsock) = vsock {
            slots.attach(&vm, vsock)?;
            slots.add_words(&config.network.kernel_words());
        }

        let mut buses = slots.take_buses();
        let lines = std::mem::take(&mut config.serial_lines);
        let serial_lines = serial::make(lines, &vm, &mut slots, &mut buses, &mut consoles, &device_loop)?;
        let i8042 = I8042::new(hooks.guest_reset);
        buses.pio.insert(I8042_PORT, I8042_LEN, share(i8042))?;
        let above = layout.high_end().map_or(0, |end| end.saturating_sub(1 << 32));
        let cmos = Cmos::new(layout.low_end(), above, SystemTime::now);
        buses.pio.insert(CMOS_PORT, CMOS_LEN, share(cmos))?;

        let line = plan.cmdline(slots.places(), slots.words())?;
        boot::write_tables(vm.ram(), &layout, &line, kernel.initrd, config.vcpus)?;
        let vcpus = boot::make_vcpus(&vm, &config, kernel.entry)?;
        let vcpus = VcpuGroup::new(vcpus, &Arc::new(buses), &hooks.vcpu_ended)?;
        let machine = Machine { vcpus, slots, consoles, serial_lines, report, _loop: device_loop };
        Ok(Assembled { machine, ends, control })
    }

    /// Stops the guest and every device of this machine; nothing of ours writes guest RAM afterwards. Late
    /// console output is still delivered, as long as its reader takes it.
    pub fn halt(&mut self, deadline: Instant) {
        if let Err(e) = self.vcpus.stop(deadline) {
            log::error!("the machine's processors do not stop: {e}");
        }
        self.consoles.flush();
        self.serial_lines.flush();
    }
}

fn share<T: 'static + purlin_vmm_core::bus::BusDevice>(device: T) -> purlin_vmm_core::bus::SharedDevice {
    Arc::new(std::sync::Mutex::new(device))
}

/// `now + wait`, or `now` on a clock that cannot go that far.
pub(crate) fn after(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}
