//! What the calls on a context have asked for.

use std::ffi::OsString;
use std::io::Write;

use purlin_vmm_core::arch::x86_64::template::CpuTemplate;
use purlin_vmm_core::boot::cmdline::default_words;
use purlin_vmm_core::bundle::{Bundle, BundleError};
use vmm_sys_util::eventfd::EventFd;

use super::console::{ConsoleCalls, with_console};
use super::guard::Failure;
use super::kernel::KernelCalls;
use super::serial::AddedLine;
use super::user::User;
use super::vsock::VsockCalls;
use crate::config::{Exec, Share, VmConfig};

/// A virtual machine as C calls describe it, until it is started. Plain data but for the kernel's library and
/// the event it can be stopped with.
pub(super) struct Context {
    /// libkrunfw, loaded when the context was made: its caller may start the machine in another mount
    /// namespace, where the library is not to be found.
    pub firmware: Result<Bundle, BundleError>,
    pub kernel: KernelCalls,
    pub vcpus: u8,
    pub ram_mib: u32,
    pub nested: bool,
    pub split_irqchip: bool,
    pub cpu_template: CpuTemplate,
    pub smbios_oem_strings: Vec<String>,
    /// Whether roots that are added get our init.
    pub implicit_init: bool,
    pub shares: Vec<Share>,
    pub exec: ExecCalls,
    pub consoles: ConsoleCalls,
    pub serial_lines: Vec<AddedLine>,
    pub vsock: VsockCalls,
    pub user: User,
    pub shutdown: Option<EventFd>,
    pub control_socket: Option<String>,
    /// Whether a guest that ends without a status gives another code than 0, if the caller said so.
    pub report_guest_failure: Option<bool>,
}

/// The program and its surroundings, set by several calls.
#[derive(Debug, Default)]
pub(super) struct ExecCalls {
    pub program: Option<String>,
    pub args: Vec<String>,
    /// `NAME=value`. Inherited entries may have any bytes.
    pub env: Vec<OsString>,
    pub workdir: Option<String>,
    pub rlimits: Vec<String>,
}

impl Context {
    pub fn new(firmware: Result<Bundle, BundleError>) -> Self {
        Context {
            firmware,
            kernel: KernelCalls::default(),
            vcpus: 1,
            ram_mib: 128,
            nested: false,
            split_irqchip: false,
            cpu_template: CpuTemplate::Host,
            smbios_oem_strings: Vec::new(),
            implicit_init: true,
            shares: Vec::new(),
            exec: ExecCalls::default(),
            consoles: ConsoleCalls::default(),
            serial_lines: Vec::new(),
            vsock: VsockCalls::default(),
            user: User::default(),
            shutdown: None,
            control_socket: None,
            report_guest_failure: None,
        }
    }

    /// Adds a share, with what was said of roots before.
    pub fn add_share(&mut self, mut share: Share) {
        share.implicit_init = self.implicit_init;
        self.shares.push(share);
    }

    /// Whether a guest that ends without a status has failed. One with our init always leaves a status if its
    /// workload ran; a system with an init of its own ends well without.
    pub fn missing_status_is_failure(&self) -> bool {
        let ours = || self.shares.iter().find(|share| share.is_root()).is_some_and(|root| root.implicit_init);
        self.report_guest_failure.unwrap_or_else(|| ours() && !self.kernel.has_its_init())
    }

    /// The machine described, but for its consoles.
    pub fn into_config(mut self) -> Result<VmConfig, Failure> {
        if self.split_irqchip {
            log::info!("the IOAPIC is emulated by the kernel, although a split one was asked for");
        }
        let mut config = VmConfig::new()
            .vcpus(self.vcpus.into())
            .memory_mib(self.ram_mib.into())
            .nested_virtualization(self.nested)
            .cpu_template(self.cpu_template)
            .smbios_oem_strings(self.smbios_oem_strings)
            .exec(self.exec.into_exec());
        if self.kernel.is_default() {
            config = config.opened_bundle(self.firmware.map_err(|e| {
                // Not to the log alone: nobody may have asked for one, and this is what goes wrong first.
                let _ = writeln!(std::io::stderr(), "libkrun: {e}");
                Failure::new(libc::ENOENT, e.to_string())
            })?);
        }
        if self.kernel.cmdline().is_some() || self.consoles.kernel.is_some() {
            let words = self.kernel.cmdline().map_or_else(|| default_words(true).join(" "), str::to_owned);
            let words = match &self.consoles.kernel {
                Some(console) => with_console(&words, console)?,
                None => words,
            };
            if mounts_with_dax(&words) {
                self.shares.iter_mut().filter(|share| share.is_root()).for_each(|root| {
                    root.dax_window = root.dax_window.max(ROOT_WINDOW);
                });
            }
            config = config.cmdline(words);
        }
        config = self.kernel.apply(config)?;
        config = self.vsock.apply(config)?;
        Ok(self.shares.into_iter().fold(config, VmConfig::share))
    }
}

/// Bytes of the window a root has.
const ROOT_WINDOW: u64 = 512 << 20;

/// Whether the kernel is told to mount its root with DAX. Only then it gets a window: that costs 8 MiB of RAM and
/// some time at boot, and no default asks for it.
fn mounts_with_dax(words: &str) -> bool {
    let flags = words.split_ascii_whitespace().filter_map(|word| word.strip_prefix("rootflags="));
    flags.flat_map(|flags| flags.split(',')).any(|flag| flag == "dax" || flag.starts_with("dax="))
}

impl ExecCalls {
    fn into_exec(self) -> Exec {
        Exec {
            program: self.program.map(Into::into),
            args: self.args.into_iter().map(Into::into).collect(),
            env: self.env,
            workdir: self.workdir.map(Into::into),
            rlimits: self.rlimits,
        }
    }
}
