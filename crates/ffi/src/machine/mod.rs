//! Puts a machine together: memory, kernel, devices, processors. Everything is made here and nothing runs
//! until [`Machine::start`].

mod affinity;
mod announce;
mod boot;
mod cleanup;
mod console;
mod devices;
mod early;
mod error;
mod nodes;
mod phases;
mod power;
mod ram_disk;
mod serial;
mod shares;
mod slots;
mod workload;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use purlin_devices::legacy::{CMOS_LEN, CMOS_PORT, Cmos, I8042, I8042_LEN, I8042_PORT, PowerRequest};
use purlin_devices::shell::{EventLoop, OnFailure};
use purlin_devices::virtio::balloon::{Balloon, BalloonConfig, BalloonHandle};
use purlin_devices::virtio::console::PortHandle;
use purlin_devices::virtio::rng::Rng;
use purlin_tsi::shell::{EgressHandle, Vsock};
use purlin_vmm_core::kvm::affinity::CpuMask;
use purlin_vmm_core::kvm::{BlankVm, OnEnd, VcpuGroup};
use purlin_vmm_core::memory::{GuestMemory, GuestMemoryRegion, MemoryLayout, SharedRam};

pub(crate) use affinity::Bound;
use announce::Announce;
pub(crate) use cleanup::Cleanup;
pub(crate) use console::{Consoles, HostEnds, Terminal, stdio};
pub(crate) use devices::DeviceTable;
pub use devices::{DeviceInfo, DeviceRef};
pub use error::BuildError;
pub(crate) use phases::Phases;
pub(crate) use power::PowerButton;
use serial::SerialLines;
pub(crate) use shares::ExitReport;
pub(crate) use slots::{Reads, Slots, lock};

use crate::config::{ConfigError, Share, VmConfig};
use crate::vm::{InitramfsStats, VmStats};

/// A reader of guest output that takes nothing for this long at the end loses the rest.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
/// The keyboard's interrupt line on a PC.
const KEYBOARD_IRQ: u32 = 1;

/// A machine that is ready to run.
///
/// Field order is drop order: processors end before the devices they call, devices before their loop.
pub(crate) struct Machine {
    pub vcpus: VcpuGroup,
    pub slots: Slots,
    pub consoles: Consoles,
    pub serial_lines: SerialLines,
    /// The power button, in a machine that has ACPI.
    pub power_button: Option<PowerButton>,
    pub report: Arc<ExitReport>,
    pub keyboard: Arc<Mutex<I8042>>,
    /// The guest's PID 1 is this library's, which listens.
    pub our_init: bool,
    pub ram: SharedRam,
    pub phases: Phases,
    /// For threads that are still to be started.
    pub worker_cpus: Option<CpuMask>,
    initramfs: Option<InitramfsStats>,
    _loop: EventLoop,
}

/// Whom the machine tells of what happens in it. Called on vCPU threads unless they say otherwise; must not block.
pub(crate) struct Hooks {
    /// The guest wants to be off or reset.
    pub guest_power: Arc<dyn Fn(PowerRequest) + Send + Sync>,
    /// A processor ended by itself.
    pub vcpu_ended: OnEnd,
    /// A thread of some of the devices panicked or could not go on. Called on that thread.
    pub thread_failed: OnFailure,
}

/// A machine, and what others hold of it.
pub(crate) struct Assembled {
    pub machine: Machine,
    /// The owner's ends of the console's pipes.
    pub ends: HostEnds,
    /// The channel to the guest's init, for the supervisor.
    pub control: PortHandle,
    /// The balloon, for the owner.
    pub balloon: BalloonHandle,
    /// The policy of the vsock device, if there is one.
    pub egress: Option<EgressHandle>,
}

impl Machine {
    /// Makes everything `config` describes.
    pub fn assemble(mut config: VmConfig, hooks: Hooks) -> Result<Assembled, BuildError> {
        let mut phases = Phases::start();
        config.check()?;
        let worker_cpus = config.placement.worker_mask()?;
        let bound = Bound::configured(worker_cpus.as_ref())?;
        let disk = ram_disk::Job::start(config.initramfs.take())?;
        let has_disk = !matches!(disk, ram_disk::Job::None);
        let kernel = boot::Source::open(&mut config)?;
        let facts = kernel.facts()?;
        let root_share = ram_disk::root_share(&disk, &config, &facts);
        phases.end_of("kernel opened");

        let device_loop = EventLoop::spawn("purlin-devices").map_err(BuildError::host("device thread"))?;
        device_loop.on_failure(hooks.thread_failed.clone());
        let report = Arc::new(ExitReport::default());
        let console::Made { mut consoles, ends, control, before_shares, last, names } =
            console::make(&config, &device_loop)?;
        let plan = workload::plan(&config, &names, ram_disk::share_words(root_share, &config))?;
        let vsock = config.network.vsock(&config.vsock_ports, config.vsock_boot_grace);
        let vsock = vsock.map(Vsock::new).transpose()?;
        vsock.iter().for_each(|vsock| vsock.on_failure(hooks.thread_failed.clone()));
        let egress = vsock.as_ref().map(Vsock::egress);
        let file_systems = shares::make(&config, plan.file(), &report)?;
        file_systems.iter().for_each(|fs| fs.on_failure(hooks.thread_failed.clone()));
        phases.end_of("devices made");

        let vm = BlankVm::new()?;
        phases.end_of("virtual machine made");
        let disk = disk.join()?;
        phases.end_of("initramfs made");
        let memory_mib = disk.memory_mib(&config, &facts, root_share)?;
        let layout = MemoryLayout::new(memory_mib.saturating_mul(1 << 20)).map_err(ConfigError::from)?;
        let ram = nodes::memory(&config, &layout)?;
        phases.end_of("memory mapped");
        let loaded = kernel.load(&disk, &ram, &layout)?;
        let announce = Announce::choose(&config.kernel, loaded.kernel.has_acpi, config.cmdline.as_deref());
        phases.end_of("kernel loaded");
        let vm = vm.with_ram(ram)?;
        loaded.rom.iter().try_for_each(|rom| vm.add_window(rom.clone()))?;
        let mut slots = Slots::new(vm.ram().clone(), layout.clone(), Reads::by(&config.kernel));
        let balloon = balloon(&config, vm.ram().clone(), &device_loop)?;
        let balloon_handle = balloon.handle();
        slots.attach(&vm, balloon)?;
        slots.attach(&vm, Rng::new(device_loop.handle()).map_err(BuildError::host("random bytes"))?)?;
        for console in before_shares {
            consoles.flushed.push(slots.attach(&vm, console)?);
        }
        for fs in file_systems {
            let tag = fs.tag().to_owned();
            slots.attach_as(&vm, Some(&tag), fs)?;
        }
        if let Some(console) = last {
            consoles.flushed.push(slots.attach(&vm, console)?);
        }

        if let Some(vsock) = vsock {
            slots.attach(&vm, vsock)?;
            slots.add_words(&config.network.kernel_words());
        }

        let mut buses = slots.take_buses();
        let early = early::line(&config)?;
        let mut lines = std::mem::take(&mut config.serial_lines);
        lines.extend(early);
        let serial_lines = serial::make(lines, &vm, &mut slots, &mut buses, &mut consoles, &device_loop)?;
        let reset = hooks.guest_power.clone();
        let keyboard = I8042::new(vm.irq_line(KEYBOARD_IRQ), move || reset(PowerRequest::Reset));
        let keyboard = Arc::new(Mutex::new(keyboard));
        buses.pio.insert(I8042_PORT, I8042_LEN, keyboard.clone())?;
        slots.add_legacy(keyboard.clone());
        let above = layout.high_end().map_or(0, |end| end.saturating_sub(1 << 32));
        let cmos = Cmos::new(layout.low_end(), above, SystemTime::now);
        buses.pio.insert(CMOS_PORT, CMOS_LEN, share(cmos))?;

        phases.end_of("devices attached");

        let acpi = announce.by_acpi();
        let power_button = acpi.then(|| power::make(&vm, &mut slots, &mut buses, hooks.guest_power));
        let power_button = power_button.transpose()?;
        let numa = nodes::tables(config.numa.as_ref(), &layout, acpi)?;
        let tables = acpi.then(|| power::tables(config.vcpus, slots.places(), serial_lines.count(), numa));
        let line = plan.cmdline(if announce.on_the_line() { slots.places() } else { &[] }, slots.words())?;
        boot::write_tables(vm.ram(), &layout, &line, &loaded, config.vcpus, tables.transpose()?.as_ref())?;
        boot::write_smbios(vm.ram(), &config, &loaded)?;
        let vcpus = boot::make_vcpus(&vm, &config, loaded.kernel.entry)?;
        drop(bound);
        let vcpus = VcpuGroup::new(vcpus, &Arc::new(buses), &hooks.vcpu_ended)?;
        affinity::pin(&vcpus, &config)?;
        phases.end_of("processors made");
        let ram = vm.ram().clone();
        let machine = Machine {
            vcpus,
            slots,
            consoles,
            serial_lines,
            power_button,
            report,
            keyboard,
            our_init: config.has_our_init() && config.shares.iter().any(Share::is_root) && !has_disk,
            ram,
            phases,
            worker_cpus,
            initramfs: has_disk.then(|| InitramfsStats::new(loaded.disk.copied, loaded.disk.mapped)),
            _loop: device_loop,
        };
        Ok(Assembled { machine, ends, control, balloon: balloon_handle, egress })
    }

    /// Guest RAM in MiB.
    pub fn memory_mib(&self) -> u64 {
        self.ram.iter().fold(0u64, |sum, region| sum.saturating_add(region.len())) >> 20
    }

    /// Its counters, but for the time it runs, which its supervisor knows.
    pub fn stats(&self) -> VmStats {
        VmStats {
            vcpu_time: self.vcpus.cpu_time(),
            vcpus: self.vcpus.exit_counters().counts(),
            devices: self.slots.stats(),
            boot: self.phases.done().to_vec(),
            initramfs: self.initramfs,
            ..VmStats::default()
        }
    }

    /// Stops the guest; afterwards nothing of it runs. Late console output is still delivered, as long as its
    /// reader takes it.
    pub fn halt(&mut self, cleanup: &mut Cleanup, deadline: Instant) {
        cleanup.attempt("stop the processors", || self.vcpus.stop(deadline));
        cleanup.step("deliver the consoles' output", || self.consoles.flush());
        cleanup.step("deliver the serial lines' output", || self.serial_lines.flush());
    }

    /// Gives everything up, part by part in the order of the fields, so that one that fails does not keep the
    /// others: terminals are restored, threads ended and descriptors closed in any case.
    pub fn dismantle(self, cleanup: &mut Cleanup) {
        let Machine {
            vcpus,
            slots,
            consoles,
            serial_lines,
            power_button,
            report,
            keyboard,
            our_init: _,
            ram,
            phases: _,
            worker_cpus: _,
            initramfs: _,
            _loop,
        } = self;
        cleanup.part("end the processors", vcpus);
        cleanup.part("end the devices", slots);
        cleanup.part("give the terminals back", consoles);
        cleanup.part("end the serial lines", serial_lines);
        cleanup.part("end the power button and the keyboard", (power_button, keyboard));
        cleanup.part("give memory back", (report, ram));
        cleanup.part("end the device thread", _loop);
    }
}

fn balloon(config: &VmConfig, ram: SharedRam, device_loop: &EventLoop) -> Result<Balloon, BuildError> {
    let mut balloon = BalloonConfig::new(ram);
    balloon.target = config.balloon_mib.saturating_mul(1 << 20);
    Balloon::new(balloon, device_loop.handle()).map_err(BuildError::host("event descriptor"))
}

fn share<T: 'static + purlin_vmm_core::bus::BusDevice>(device: T) -> purlin_vmm_core::bus::SharedDevice {
    Arc::new(std::sync::Mutex::new(device))
}

/// `now + wait`, or `now` on a clock that cannot go that far.
pub(crate) fn after(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}
