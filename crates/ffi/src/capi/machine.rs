//! Processors, memory, and what surrounds them.

use kvm_ioctls::Kvm;
use purlin_vmm_core::arch::x86_64::template::CpuTemplate;

use super::guard::{Failure, call, done};
use super::pointers::{CBool, CText, CTextList};
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

/// The most vCPUs this host's KVM allows.
#[unsafe(no_mangle)]
pub extern "C" fn krun_get_max_vcpus() -> i32 {
    call(|| {
        let kvm = Kvm::new().map_err(|e| Failure::invalid(format!("/dev/kvm: {e}")))?;
        Ok(i32::try_from(kvm.get_max_vcpus()).unwrap_or(i32::MAX))
    })
}

/// Whether the guest sees the host's virtualization extensions.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_nested_virt(ctx_id: u32, enabled: CBool) -> i32 {
    done(|| table::update(ctx_id, |context| context.nested = enabled != 0))
}

/// 1 if the host's KVM lets guests have guests, else 0.
#[unsafe(no_mangle)]
pub extern "C" fn krun_check_nested_virt() -> i32 {
    call(|| {
        let modules = ["kvm_intel", "kvm_amd"];
        let nested = modules.iter().any(|module| {
            let path = format!("/sys/module/{module}/parameters/nested");
            std::fs::read_to_string(path).is_ok_and(|text| is_on(&text))
        });
        Ok(nested.into())
    })
}

/// A module parameter of type bool, or of type int as before Linux 5.
fn is_on(parameter: &str) -> bool {
    matches!(parameter.trim(), "1" | "Y" | "y")
}

/// Where the IOAPIC is emulated. The guest cannot tell, so the kernel's is used in any case.
#[unsafe(no_mangle)]
pub extern "C" fn krun_split_irqchip(ctx_id: u32, enable: CBool) -> i32 {
    done(|| table::update(ctx_id, |context| context.split_irqchip = enable != 0))
}

/// OEM strings of the guest's SMBIOS table. (libkrun's machines of this architecture have none.)
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_smbios_oem_strings(ctx_id: u32, oem_strings: CTextList) -> i32 {
    done(|| {
        let strings = oem_strings.required("oem_strings")?;
        table::update(ctx_id, |context| context.smbios_oem_strings = strings)
    })
}

/// What the guest takes its processors for: `T2`, `C3` or `host`, which NULL is too.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_cpu_template(ctx_id: u32, name: CText) -> i32 {
    done(|| {
        let name = name.optional("name")?;
        let template = name.map_or(Ok(CpuTemplate::Host), |name| CpuTemplate::named(&name));
        let template = template.map_err(|e| Failure::invalid(format!("name: {e}")))?;
        table::update(ctx_id, |context| context.cpu_template = template)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn module_parameters() {
        for (text, on) in
            [("1\n", true), ("Y\n", true), ("y", true), ("N\n", false), ("0", false), ("", false)]
        {
            assert_eq!(super::is_on(text), on, "{text:?}");
        }
    }
}
