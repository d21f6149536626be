use kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

use super::*;

/// A host that has every bit of every register.
fn host(vendor: &[u8; 12]) -> Vec<kvm_cpuid_entry2> {
    let word = |at: usize| u32::from_le_bytes(vendor[at..at + 4].try_into().unwrap());
    let leaf0 =
        kvm_cpuid_entry2 { ebx: word(0), edx: word(4), ecx: word(8), eax: 0x1f, ..Default::default() };
    let full = |function, index| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: u32::MAX,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
        ..Default::default()
    };
    let leaves = [(1, 0), (7, 0), (7, 1), (0xd, 0), (0xd, 1), (0x8000_0001, 0)];
    std::iter::once(leaf0).chain(leaves.map(|(function, index)| full(function, index))).collect()
}

fn registers(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
    let e = entries.iter().find(|e| (e.function, e.index) == (function, index)).unwrap();
    [e.eax, e.ebx, e.ecx, e.edx]
}

/// What is left of all ones, register by register.
#[test]
fn masks() {
    const ALL: u32 = u32::MAX;
    let table = [
        (
            CpuTemplate::T2,
            [
                (1, 0, [0xf003_c6f2 | 0x3_0000, ALL, 0xf7ff_32e3, 0x579b_ffff]),
                (7, 0, [ALL, 0x0050_27ab, 0xbfbf_bfe5, 0xffff_fff3]),
                (7, 1, [ALL; 4]),
                (0xd, 0, [0xffff_ff07, ALL, ALL, ALL]),
                (0xd, 1, [0xffff_fff1, ALL, ALL, ALL]),
                (0x8000_0001, 0, [ALL, ALL, 0xffff_feff, 0xfbff_ffff]),
            ],
        ),
        (
            CpuTemplate::C3,
            [
                (1, 0, [0xf003_c6e4 | 0x3_0000, ALL, 0xf7bf_22e3, 0x579b_ffff]),
                (7, 0, [ALL, 0x0050_2283, 0xbfbf_bfe5, 0xffff_fff3]),
                (7, 1, [ALL; 4]),
                (0xd, 0, [0xffff_ff07, ALL, ALL, ALL]),
                (0xd, 1, [0xffff_fff1, ALL, ALL, ALL]),
                (0x8000_0001, 0, [ALL, ALL, 0xffff_fedf, 0xfbff_ffff]),
            ],
        ),
    ];
    for (template, leaves) in table {
        let mut entries = host(b"GenuineIntel");
        template.apply(&mut entries).unwrap();
        for (function, index, expected) in leaves {
            let got = registers(&entries, function, index);
            assert_eq!(got, expected, "{template:?} {function:#x}.{index}: {got:#x?}");
        }
    }
}

#[test]
fn the_host_is_left_alone() {
    for vendor in [b"GenuineIntel", b"AuthenticAMD", b"HygonGenuine"] {
        let mut entries = host(vendor);
        CpuTemplate::Host.apply(&mut entries).unwrap();
        assert_eq!(entries, host(vendor));
    }
}

#[test]
fn another_vendor_is_refused_by_both_names() {
    for template in [CpuTemplate::T2, CpuTemplate::C3] {
        let mut entries = host(b"AuthenticAMD");
        let error = template.apply(&mut entries).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("GenuineIntel") && text.contains("AuthenticAMD"), "{text}");
        assert!(text.contains(&format!("{template:?}")), "{text}");
        assert_eq!(entries, host(b"AuthenticAMD"));
        assert!(template.check(&[]).is_err());
    }
}

#[test]
fn names() {
    for (name, template) in [("host", CpuTemplate::Host), ("T2", CpuTemplate::T2), ("C3", CpuTemplate::C3)] {
        assert_eq!(CpuTemplate::named(name), Ok(template));
    }
    for name in ["", "t2", "T2S", "Host", "C3 "] {
        let error = CpuTemplate::named(name).unwrap_err();
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
}

#[test]
fn what_two_hosts_do_not_agree_on() {
    let old = host(b"GenuineIntel");
    let mut new = old.clone();
    assert_eq!(CpuTemplate::Host.differences(&old, &new), []);
    // AVX-512 F, which the template hides, and VAES, which it does not.
    new[2].ebx &= !(1 << 16);
    new[2].ecx &= !(1 << 9);
    let vaes = (7, 0, Register::Ecx, 1 << 9);
    assert_eq!(CpuTemplate::T2.differences(&old, &new), [vaes]);
    assert_eq!(CpuTemplate::Host.differences(&new, &old), [(7, 0, Register::Ebx, 1 << 16), vaes]);
    assert_eq!(CpuTemplate::C3.differences(&[], &[]), []);
}
