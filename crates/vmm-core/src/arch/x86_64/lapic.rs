//! Local APIC: the two local interrupt pins.
//!
//! Virtual wire mode as the MP specification 1.4 §3.6.2.2 describes it and the MP table announces: LINT0
//! delivers the legacy interrupt controller's interrupts (ExtINT), LINT1 the non-maskable interrupt. Register
//! offsets and delivery modes: Intel SDM volume 3, "Local Vector Table".

use kvm_bindings::kvm_lapic_state;

const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
const MODE_NMI: u8 = 4;
const MODE_EXTINT: u8 = 7;

/// Sets the delivery modes of LINT0 (ExtINT) and LINT1 (NMI); all other bits, the masks too, stay.
pub fn set_lint(lapic: &mut kvm_lapic_state) {
    set_delivery_mode(lapic, LVT_LINT0, MODE_EXTINT);
    set_delivery_mode(lapic, LVT_LINT1, MODE_NMI);
}

/// The delivery mode is bits 10:8 of a register, so the low three bits of its second byte.
fn set_delivery_mode(lapic: &mut kvm_lapic_state, register: usize, mode: u8) {
    if let Some(byte) = lapic.regs.get_mut(register + 1) {
        *byte = ((*byte as u8 & !7) | mode) as _;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(lapic: &kvm_lapic_state, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| lapic.regs[at + i] as u8))
    }

    #[test]
    fn only_the_modes_change() {
        let mut lapic = kvm_lapic_state::default();
        lapic.regs.fill(-1);
        set_lint(&mut lapic);
        assert_eq!(register(&lapic, LVT_LINT0), 0xffff_ffff);
        assert_eq!(register(&lapic, LVT_LINT1), 0xffff_fcff);

        let mut lapic = kvm_lapic_state::default();
        lapic.regs[LVT_LINT1 + 2] = 1;
        set_lint(&mut lapic);
        assert_eq!(register(&lapic, LVT_LINT0), 0x700);
        assert_eq!(register(&lapic, LVT_LINT1), 0x1_0400);
        assert!(lapic.regs.iter().enumerate().all(|(i, &b)| b == 0 || i / 16 == 0x35 || i / 16 == 0x36));
    }
}
