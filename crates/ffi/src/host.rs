//! What this host can do.

pub use purlin_vmm_core::kvm::{HostKvm, probe};
