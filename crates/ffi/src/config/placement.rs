//! Where on the host a machine is.

use std::fmt;

use purlin_vmm_core::kvm::affinity::{CpuMask, MAX_CPU};

use super::ConfigError;

/// Processors of the host for the threads of a machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placement {
    /// For the thread of each of these vCPUs.
    vcpus: Vec<(u32, Vec<u32>)>,
    /// For all other threads.
    workers: Option<Vec<u32>>,
}

impl Placement {
    pub fn pin(&mut self, vcpu: u32, cpus: Vec<u32>) {
        self.vcpus.push((vcpu, cpus));
    }

    pub fn workers(&mut self, cpus: Vec<u32>) {
        self.workers = Some(cpus);
    }

    pub fn check(&self, vcpus: u32) -> Result<(), ConfigError> {
        if let Some((vcpu, _)) = self.vcpus.iter().find(|(vcpu, _)| *vcpu >= vcpus) {
            return Err(ConfigError::field("pin_vcpu", vcpu, format!("there are vCPUs 0 to {}", vcpus - 1)));
        }
        self.vcpu_masks()?;
        self.worker_mask().map(drop)
    }

    pub fn vcpu_masks(&self) -> Result<Vec<(u32, CpuMask)>, ConfigError> {
        self.vcpus.iter().map(|(vcpu, cpus)| Ok((*vcpu, mask("pin_vcpu", cpus)?))).collect()
    }

    pub fn worker_mask(&self) -> Result<Option<CpuMask>, ConfigError> {
        self.workers.as_ref().map(|cpus| mask("worker_cpus", cpus)).transpose()
    }
}

fn mask(field: &'static str, cpus: &[u32]) -> Result<CpuMask, ConfigError> {
    let remedy = format!("name one or more of the host's processors, 0 to {MAX_CPU}");
    CpuMask::new(cpus.iter().copied()).ok_or_else(|| ConfigError::field(field, List(cpus), remedy))
}

struct List<'a>(&'a [u32]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
