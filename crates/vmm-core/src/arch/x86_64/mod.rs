//! x86_64: register values, CPUID and local APIC contents of a guest at its first instruction. Pure.

mod brand;
pub mod cpuid;
pub mod lapic;
pub mod msrs;
pub mod pvh;
pub mod regs;
pub mod template;
