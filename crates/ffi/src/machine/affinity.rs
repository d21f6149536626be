//! Binds threads to processors of the host.

use std::io;

use purlin_vmm_core::kvm::VcpuGroup;
use purlin_vmm_core::kvm::affinity::CpuMask;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::BuildError;
use crate::config::{ConfigError, VmConfig};

/// Binds the calling thread, and with it every thread that it starts, until the value is dropped.
pub(crate) struct Bound {
    before: CpuSet,
}

impl Bound {
    /// # Errors
    ///
    /// The host has none of the processors, or does not let this process use them.
    pub fn to(cpus: &CpuMask) -> io::Result<Self> {
        let before = sched_getaffinity(None)?;
        let mut set = CpuSet::new();
        cpus.cpus().for_each(|cpu| set.set(cpu as usize));
        sched_setaffinity(None, &set)?;
        Ok(Bound { before })
    }

    /// As [`Bound::to`] for a configuration; `None` if it has no wish.
    pub fn configured(cpus: Option<&CpuMask>) -> Result<Option<Self>, BuildError> {
        let remedy = |e: io::Error| format!("the host does not let this process use them: {e}");
        let bind =
            |cpus| Bound::to(cpus).map_err(|e| ConfigError::field("worker_cpus", cpus, remedy(e)).into());
        cpus.map(bind).transpose()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Err(e) = sched_setaffinity(None, &self.before) {
            log::warn!("this thread stays bound to the processors of a machine: {e}");
        }
    }
}

/// Binds the threads of vCPUs as configured.
pub(super) fn pin(vcpus: &VcpuGroup, config: &VmConfig) -> Result<(), ConfigError> {
    for (vcpu, cpus) in config.placement.vcpu_masks()? {
        // Checked to be one of at most 254.
        let pinned = vcpus.pin(vcpu as u8, &cpus);
        pinned.map_err(|e| ConfigError::field("pin_vcpu", cpus, e.to_string()))?;
    }
    Ok(())
}
