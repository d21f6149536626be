use proptest::prelude::*;

use super::*;

fn entry(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    let indexed = [4, 7, 0xb, 0xd, 0x1f, 0x8000_001d].contains(&function);
    let flags = if indexed { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 };
    kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
}

fn text(s: &str) -> [u32; 4] {
    let mut bytes = s.as_bytes().to_vec();
    bytes.resize(16, 0);
    std::array::from_fn(|i| u32::from_le_bytes(bytes[i * 4..i * 4 + 4].try_into().unwrap()))
}

fn intel_host() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, 0, [0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        entry(1, 0, [0x606a6, 0xab20_08cd, 0xfeda_ffff, 0xefff_fbff]),
        entry(4, 0, [0xfc1f_c121, 1, 2, 3]),
        entry(4, 1, [0xfc1f_c122, 1, 2, 3]),
        entry(4, 2, [0xfc1f_c143, 1, 2, 3]),
        entry(4, 3, [0xfc1f_c163, 1, 2, 3]),
        entry(4, 4, [0, 0, 0, 0]),
        entry(6, 0, [0x77, 2, 9, 0]),
        entry(7, 0, [0, 0xffff, 0xffff, 0xffff_ffff]),
        entry(0xa, 0, [0x0730_0805, 1, 2, 3]),
        entry(0xb, 0, [1, 2, 0x100, 99]),
        entry(0x1f, 0, [1, 2, 0x100, 99]),
        entry(0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
        entry(0x8000_0001, 0, [0, 0, 0xff, 0]),
        entry(0x8000_0002, 0, text("Intel(R) Xeon(R)")),
        entry(0x8000_0003, 0, text(" Platinum 8370C ")),
        entry(0x8000_0004, 0, text("CPU @ 2.80GHz")),
        entry(0x8000_0008, 0, [0x392e, 0, 0xabcd, 0]),
        entry(0x4000_0000, 0, [0x4000_0001, 1, 2, 3]),
    ]
}

fn amd_host() -> Vec<kvm_cpuid_entry2> {
    vec![
        entry(0, 0, [0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
        entry(1, 0, [0xa20f10, 0x0010_0800, 0, 0]),
        entry(7, 0, [0, 0, 0, 0xffff_ffff]),
        entry(7, 1, [0, 0, 0, 0xffff_ffff]),
        entry(0x8000_0000, 0, [0x8000_0021, 0, 0, 0]),
        entry(0x8000_0001, 0, [0, 0, 0xff, 0]),
        entry(0x8000_0002, 0, text("AMD EPYC 7B13 64")),
        entry(0x8000_0003, 0, text("-Core Processor")),
        entry(0x8000_0004, 0, text("")),
        entry(0x8000_0008, 0, [0x3030, 0, 0x703f, 0]),
        entry(0x8000_001d, 0, [0x4121, 1, 2, 3]),
        entry(0x8000_001d, 2, [0x4143, 1, 2, 3]),
        entry(0x8000_001d, 3, [0x3_c163, 1, 2, 3]),
        entry(0x8000_001d, 4, [0, 0, 0, 0]),
        entry(0x8000_0021, 0, [0x45, 0, 0, 0]),
        entry(0x8000_0026, 0, [9, 9, 9, 9]),
    ]
}

fn config(vcpu: u32, count: u32) -> CpuidConfig {
    CpuidConfig { vcpu, count, nested: false, tsc_deadline: true, shared_cache: true }
}

fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<[u32; 4]> {
    let e = entries.iter().find(|e| e.function == function && e.index == index)?;
    Some([e.eax, e.ebx, e.ecx, e.edx])
}

fn brand_of(entries: &[kvm_cpuid_entry2]) -> String {
    let words = [2, 3, 4].iter().flat_map(|n| find(entries, 0x8000_0000 + n, 0).unwrap());
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).filter(|&b| b != 0).collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn intel_golden() {
    let got = for_vcpu(&intel_host(), &config(2, 6)).unwrap();
    let table: &[(u32, u32, Option<[u32; 4]>)] = &[
        (0, 0, Some([0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69])),
        // no VMX (bit 5), no PDCM (15), deadline (24), hypervisor (31)
        (1, 0, Some([0x606a6, 0x0208_08cd, 0xffda_7fdf, 0xffff_fbff])),
        (4, 0, Some([0x1400_0121, 1, 2, 3])),
        (4, 2, Some([0x1400_0143, 1, 2, 3])),
        (4, 3, Some([0x1401_4163, 1, 2, 3])),
        (4, 4, Some([0; 4])),
        (6, 0, Some([0x75, 2, 1, 0])),
        (7, 0, Some([0, 0xffff, 0xffff, 0xffff_ffff])),
        (0xa, 0, Some([0; 4])),
        (0xb, 0, Some([0, 1, 0x100, 2])),
        (0xb, 1, Some([3, 6, 0x201, 2])),
        (0xb, 2, Some([0, 0, 2, 2])),
        (0x1f, 0, Some([0, 1, 0x100, 2])),
        (0x1f, 1, Some([3, 6, 0x201, 2])),
        (0x4000_0000, 0, Some([0x4000_0001, 1, 2, 3])),
        (0x8000_0001, 0, Some([0, 0, 0xff, 0])),
        (0x8000_0008, 0, Some([0x392e, 0, 0xabcd, 0])),
    ];
    for &(function, index, expected) in table {
        assert_eq!(find(&got, function, index), expected, "{function:#x}.{index}");
    }
    assert_eq!(brand_of(&got), "Intel(R) Xeon(R) Processor @ 2.80GHz");
}

#[test]
fn amd_golden() {
    let got = for_vcpu(&amd_host(), &config(1, 4)).unwrap();
    let table: &[(u32, u32, Option<[u32; 4]>)] = &[
        (0, 0, Some([0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65])),
        (1, 0, Some([0xa20f10, 0x0104_0800, 0x8100_0000, 0x1000_0000])),
        (7, 0, Some([0, 0, 0, 0xdfff_ffff])),
        (7, 1, Some([0, 0, 0, 0xffff_ffff])),
        (0xb, 1, Some([2, 4, 0x201, 1])),
        (0x1f, 0, None),
        // no SVM (2), cores (1), extended topology (22)
        (0x8000_0001, 0, Some([0, 0, 0x40_00fb, 0])),
        (0x8000_0008, 0, Some([0x3030, 0, 0x2003, 0])),
        (0x8000_001d, 0, Some([0x121, 1, 2, 3])),
        (0x8000_001d, 2, Some([0x143, 1, 2, 3])),
        (0x8000_001d, 3, Some([0xc163, 1, 2, 3])),
        (0x8000_001d, 4, Some([0; 4])),
        (0x8000_001e, 0, Some([1, 1, 0, 0])),
        (0x8000_0021, 0, Some([0x45, 0, 0, 0])),
        (0x8000_0026, 0, None),
    ];
    for &(function, index, expected) in table {
        assert_eq!(find(&got, function, index), expected, "{function:#x}.{index}");
    }
    assert_eq!(brand_of(&got), "AMD EPYC");
}

#[test]
fn a_cache_of_its_own() {
    let own = CpuidConfig { shared_cache: false, ..config(1, 4) };
    for (host, function) in [(amd_host(), 0x8000_001d), (intel_host(), 4)] {
        let got = for_vcpu(&host, &own).unwrap();
        let last = find(&got, function, 3).unwrap();
        assert_eq!(last[0] >> 14 & 0xfff, 0, "{function:#x}");
        let shared = find(&for_vcpu(&host, &config(1, 4)).unwrap(), function, 3).unwrap();
        assert_eq!(shared[0] >> 14 & 0xfff, 3, "{function:#x}");
    }
}

#[test]
fn switches() {
    let nested = CpuidConfig { nested: true, tsc_deadline: false, ..config(0, 1) };
    let intel = for_vcpu(&intel_host(), &nested).unwrap();
    let [_, ebx, ecx, edx] = find(&intel, 1, 0).unwrap();
    assert_eq!((ecx >> 5 & 1, ecx >> 24 & 1), (1, 0));
    assert_eq!((ebx >> 16, edx >> 28 & 1), (1, 0));
    assert_eq!(find(&intel, 0xb, 1), Some([0, 1, 0x201, 0]));
    let amd = for_vcpu(&amd_host(), &nested).unwrap();
    assert_eq!(find(&amd, 0x8000_0001, 0).unwrap()[2], 0x40_00fd);
}

#[test]
fn old_amd_without_extended_topology() {
    let host: Vec<_> = amd_host().into_iter().filter(|e| e.function != 0x8000_001d).collect();
    let got = for_vcpu(&host, &config(0, 2)).unwrap();
    assert_eq!(find(&got, 0x8000_0001, 0).unwrap()[2] >> 22 & 1, 0);
    assert_eq!(find(&got, 0x8000_001e, 0), None);
}

#[test]
fn unknown_vendor_gets_the_common_part() {
    let host = [entry(0, 0, [1, 0, 0, 0]), entry(1, 0, [0, 0, 0x20, 0])];
    let got = for_vcpu(&host, &config(0, 2)).unwrap();
    assert_eq!(find(&got, 0, 0), Some([0xb, 0, 0, 0]));
    assert_eq!(find(&got, 1, 0), Some([0, 0x0002_0800, 0x8100_0000, 0x1000_0000]));
    assert_eq!(got.len(), 5);
}

#[test]
fn frequency_is_kept_only_if_it_is_one() {
    for (tail, brand) in [
        ("CPU @ 3.5GHz", "Intel(R) Xeon(R) Processor @ 3.5GHz"),
        ("CPU", "Intel(R) Xeon(R) Processor"),
        ("@ %s%sHz", "Intel(R) Xeon(R) Processor"),
        ("@ fast", "Intel(R) Xeon(R) Processor"),
    ] {
        let mut host = intel_host();
        host.retain(|e| e.function != 0x8000_0004);
        host.push(entry(0x8000_0004, 0, text(tail)));
        assert_eq!(brand_of(&for_vcpu(&host, &config(0, 1)).unwrap()), brand, "{tail}");
    }
}

#[test]
fn errors() {
    let host = intel_host();
    for (vcpu, count) in [(0, 0), (1, 1), (0, 255), (254, 254), (u32::MAX, u32::MAX)] {
        assert_eq!(for_vcpu(&host, &config(vcpu, count)), Err(CpuidError::Cpu { vcpu, count }));
    }
    assert_eq!(for_vcpu(&[], &config(0, 1)), Err(CpuidError::Missing { function: 0 }));
    assert_eq!(for_vcpu(&host[..1], &config(0, 1)), Err(CpuidError::Missing { function: 1 }));
    let mut many = host;
    many.extend((0..256).map(|i| entry(0x5000_0000 + i, 0, [0; 4])));
    assert!(matches!(for_vcpu(&many, &config(0, 1)), Err(CpuidError::TooMany { entries }) if entries > 256));
}

proptest! {
    #[test]
    fn any_input_gives_sorted_unique_entries_of_one_topology(
        leaves in prop::collection::vec((0usize..24, 0u32..4, any::<[u32; 4]>()), 0..60),
        count in 1u32..=254,
        pick in any::<u32>(),
        amd in any::<bool>(),
    ) {
        let functions = [0, 1, 2, 4, 6, 7, 0xa, 0xb, 0xd, 0x1f, 0x4000_0000, 0x8000_0000, 0x8000_0001,
            0x8000_0002, 0x8000_0003, 0x8000_0004, 0x8000_0005, 0x8000_0006, 0x8000_0007, 0x8000_0008,
            0x8000_001d, 0x8000_001e, 0x8000_0021, 0x8000_0026];
        let mut host: Vec<_> = leaves.iter().map(|&(f, i, regs)| entry(functions[f], i, regs)).collect();
        host.extend(if amd { amd_host() } else { intel_host() });
        let vcpu = pick % count;
        let got = for_vcpu(&host, &config(vcpu, count)).unwrap();
        prop_assert!(got.is_sorted_by_key(|e| (e.function, e.index)));
        let keys: std::collections::BTreeSet<_> = got.iter().map(|e| (e.function, e.index)).collect();
        prop_assert_eq!(keys.len(), got.len());
        prop_assert_eq!(find(&got, 1, 0).unwrap()[1] >> 24, vcpu);
        let [shift, cores, _, id] = find(&got, 0xb, 1).unwrap();
        prop_assert_eq!((cores, id, id >> shift), (count, vcpu, 0));
        // Transforming the result again changes nothing.
        prop_assert_eq!(for_vcpu(&got, &config(vcpu, count)).unwrap(), got);
    }
}
