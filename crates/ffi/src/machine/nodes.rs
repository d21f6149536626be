//! NUMA nodes: of the guest, and of the host that guest memory is taken from.

use purlin_vmm_core::boot::acpi;
use purlin_vmm_core::memory::{AllocError, HostBinding, MemoryLayout, RamConfig, SharedRam, alloc};
use purlin_vmm_core::numa::Topology;

use super::BuildError;
use crate::config::{ConfigError, VmConfig};

/// Guest RAM, on the nodes of the host that the nodes of the guest ask for.
pub(super) fn memory(config: &VmConfig, layout: &MemoryLayout) -> Result<SharedRam, BuildError> {
    let mut ram = config.ram.clone();
    if let Some(topology) = &config.numa {
        topology.check(layout.ram_bytes(), config.vcpus).map_err(ConfigError::from)?;
        bind(&mut ram, topology, layout);
    }
    alloc::allocate(layout, &ram).map_err(|e| match &e {
        AllocError::Bind { nodes, source, .. } => {
            let remedy = format!("the host's are in /sys/devices/system/node/has_memory: {source}");
            ConfigError::field("numa", format!("host node list {nodes:?}"), remedy).into()
        }
        _ => e.into(),
    })
}

fn bind(ram: &mut RamConfig, topology: &Topology, layout: &MemoryLayout) {
    for part in topology.ranges(layout) {
        let nodes = topology.nodes().get(part.node).map(|node| node.host_nodes.clone()).unwrap_or_default();
        ram.bindings.push(HostBinding { range: part.range, nodes });
    }
}

/// The tables that tell the guest of its nodes, if it reads tables.
pub(super) fn tables(
    topology: Option<&Topology>,
    layout: &MemoryLayout,
    acpi: bool,
) -> Result<Vec<acpi::Table>, ConfigError> {
    match topology {
        None => Ok(Vec::new()),
        Some(topology) if acpi => Ok(acpi::numa::tables(topology, layout)),
        Some(topology) => {
            let nodes = format!("{} nodes", topology.nodes().len());
            Err(ConfigError::field("numa", nodes, "this kernel does not read ACPI tables: use another one"))
        }
    }
}
