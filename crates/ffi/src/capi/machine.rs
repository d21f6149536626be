//! Processors and memory.

use super::guard::{Failure, done};
use super::table;

/// Number of vCPUs and MiB of RAM. Here the context comes before the arguments.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_vm_config(ctx_id: u32, num_vcpus: u8, ram_mib: u32) -> i32 {
    done(|| {
        table::with(ctx_id, |context| {
            if num_vcpus == 0 {
                return Err(Failure::invalid("num_vcpus: 0"));
            }
            if ram_mib == 0 {
                return Err(Failure::invalid("ram_mib: 0"));
            }
            context.vcpus = num_vcpus;
            context.ram_mib = ram_mib;
            Ok(())
        })
    })
}
