//! File system devices, and the exit code that comes through them.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use purlin_devices::virtio::fs::{Fs, FsConfig, OverlayEntry, OverlayKind, Source};
use purlin_init::abi::{EXEC_FILE_PATH, INIT_PATH};

use super::BuildError;
use super::slots::lock;
use crate::config::{ConfigError, Share, VmConfig};

/// What the guest reported as its exit code; the last report counts.
#[derive(Debug, Default)]
pub(crate) struct ExitReport(Mutex<Option<i32>>);

impl ExitReport {
    pub fn set(&self, code: i32) {
        *lock(&self.0) = Some(code);
    }

    pub fn get(&self) -> Option<i32> {
        *lock(&self.0)
    }
}

/// One device per share, in order. The first root gets `workload` as a file if there is one.
pub(super) fn make(
    config: &VmConfig,
    workload: Option<&[u8]>,
    report: &Arc<ExitReport>,
) -> Result<Vec<Fs>, BuildError> {
    let mut workload = workload;
    let mut devices = Vec::new();
    for share in &config.shares {
        let file = if share.is_root() { workload.take() } else { None };
        let fs = Fs::new(fs_config(config, share, file, report))
            .map_err(|source| ConfigError::Share { field: share.field(), source })?;
        devices.push(fs);
    }
    Ok(devices)
}

fn fs_config(
    config: &VmConfig,
    share: &Share,
    workload: Option<&[u8]>,
    report: &Arc<ExitReport>,
) -> FsConfig {
    let source = share.path.clone().map_or(Source::Virtual, Source::Path);
    let mut fs = FsConfig::new(&share.tag, source);
    fs.read_only = share.read_only;
    fs.semantics = share.semantics;
    fs.overlay.clone_from(&share.overlay);
    fs.dax_window = share.dax_window;
    if share.is_root() && config.implicit_init && share.implicit_init {
        fs.overlay.push(one_shot(INIT_PATH, 0o755, Cow::Borrowed(purlin_init::binary())));
    }
    if let Some(bytes) = workload {
        fs.overlay.push(one_shot(EXEC_FILE_PATH, 0o400, Cow::Owned(bytes.to_vec())));
    }
    let report = Arc::clone(report);
    fs.exit_code = Some(Arc::new(move |code| report.set(code)));
    fs
}

fn one_shot(path: &str, mode: u32, data: Cow<'static, [u8]>) -> OverlayEntry {
    OverlayEntry { path: path.to_owned(), mode, kind: OverlayKind::File { data, one_shot: true } }
}
