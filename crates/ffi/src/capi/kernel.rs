//! Kernels other than libkrunfw's.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use purlin_vmm_core::boot::kernel::BootMethod;

use super::guard::{Failure, done};
use super::pointers::CText;
use super::table;
use crate::config::{Kernel, VmConfig};

const FORMAT_RAW: u32 = 0;
const FORMAT_LAST: u32 = 5;

/// What was asked for, in the order in which it counts.
#[derive(Debug, Default)]
pub(super) struct KernelCalls {
    raw: bool,
    bundle: Option<String>,
    image: Option<Image>,
    firmware: Option<String>,
}

#[derive(Debug)]
struct Image {
    path: String,
    method: BootMethod,
    initramfs: Option<String>,
    cmdline: Option<String>,
}

/// A kernel in a file, whose content says more of its format than `kernel_format` does. RAW is opened here and now, and
/// cannot be started.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_kernel(
    ctx_id: u32,
    kernel_path: CText,
    kernel_format: u32,
    initramfs: CText,
    cmdline: CText,
) -> i32 {
    done(|| {
        let path = kernel_path.required("kernel_path")?;
        if kernel_format > FORMAT_LAST {
            return Err(Failure::invalid(format!("kernel_format: {kernel_format} is not known")));
        }
        let initramfs = initramfs.optional("initramfs")?;
        if let Some(path) = &initramfs {
            let refused = |e| Failure::invalid(format!("initramfs: {path:?}: {e}"));
            std::fs::metadata(path).map_err(refused)?;
        }
        let cmdline = cmdline.optional("cmdline")?;
        if kernel_format == FORMAT_RAW {
            check_raw(Path::new(&path))?;
            return table::update(ctx_id, |context| context.kernel.raw = true);
        }
        let image = Image { path, method: BootMethod::Auto, initramfs, cmdline };
        table::update(ctx_id, |context| context.kernel.image = Some(image))
    })
}

/// A kernel in a file of flat bytes. It is in the place of one of `krun_set_kernel`.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_kernel_raw(
    ctx_id: u32,
    kernel_path: CText,
    load_addr: u64,
    entry_addr: u64,
    initramfs: CText,
    cmdline: CText,
) -> i32 {
    done(|| {
        let path = kernel_path.required("kernel_path")?;
        let (initramfs, cmdline) = (initramfs.optional("initramfs")?, cmdline.optional("cmdline")?);
        let method = BootMethod::Raw { load: load_addr, entry: entry_addr };
        let image = Image { path, method, initramfs, cmdline };
        table::update(ctx_id, |context| context.kernel.image = Some(image))
    })
}

/// A kernel bundle in a file, in the place of libkrunfw. It is opened at start.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_kernel_path(ctx_id: u32, path: CText) -> i32 {
    done(|| {
        let path = path.required("path")?;
        if !Path::new(&path).is_absolute() {
            return Err(Failure::invalid(format!("path: {path:?} is not absolute")));
        }
        table::update(ctx_id, |context| context.kernel.bundle = Some(path))
    })
}

/// Firmware in a file, started if there is no kernel. It is read at start.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_firmware(ctx_id: u32, firmware_path: CText) -> i32 {
    done(|| {
        let path = firmware_path.required("firmware_path")?;
        table::update(ctx_id, |context| context.kernel.firmware = Some(path))
    })
}

/// The file must be one that has something in it.
fn check_raw(path: &Path) -> Result<(), Failure> {
    let refused = |what: String| Failure::invalid(format!("kernel_path: {path:?}: {what}"));
    // A pipe or a terminal does not hold the caller up, nor is it one.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    match file.and_then(|file| file.metadata()) {
        Ok(data) if !data.is_file() => Err(refused("is no file".to_owned())),
        Ok(data) if data.len() == 0 => Err(refused("is empty".to_owned())),
        Ok(_) => Ok(()),
        Err(e) => Err(refused(e.to_string())),
    }
}

impl KernelCalls {
    /// A kernel that is not there.
    #[cfg(any(test, feature = "test-utils"))]
    pub fn set_missing(&mut self) {
        let path = "/no/such/kernel".to_owned();
        self.image = Some(Image { path, method: BootMethod::Auto, initramfs: None, cmdline: None });
    }

    /// True if libkrunfw's kernel is to be started.
    pub fn is_default(&self) -> bool {
        !self.raw && self.bundle.is_none() && self.image.is_none() && self.firmware.is_none()
    }

    /// The custom command line, if there is one.
    pub fn cmdline(&self) -> Option<&str> {
        self.image.as_ref()?.cmdline.as_deref()
    }

    /// True if the guest has an init of its own.
    pub fn has_its_init(&self) -> bool {
        match &self.image {
            Some(image) => image.initramfs.is_some(),
            None => self.bundle.is_none() && self.firmware.is_some(),
        }
    }

    /// With the kernel and RAM disk asked for.
    pub fn apply(self, config: VmConfig) -> Result<VmConfig, Failure> {
        if self.raw {
            return Err(Failure::invalid("kernel: raw kernels cannot be started on this architecture"));
        }
        let Some(image) = self.image else {
            if let Some(path) = self.bundle {
                return Ok(config.kernel(Kernel::Bundle(path.into())));
            }
            return Ok(match self.firmware {
                Some(path) => config.kernel(Kernel::firmware(path)),
                None => config,
            });
        };
        let config = config.kernel(Kernel::Image { path: image.path.into(), method: image.method });
        Ok(match image.initramfs {
            Some(path) => config.initramfs(path),
            None => config,
        })
    }
}
