//! Small bundles are compiled with `cc` here; without a C compiler these tests fail and say so. The real
//! library is used if `PURLIN_FW` names it.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::memory::MemoryLayout;

const LOAD: u64 = 0x10_0000;

/// What a fake bundle answers.
struct Fake {
    version: &'static str,
    pointer: &'static str,
    load: u64,
    entry: u64,
    size: u64,
}

const GOOD: Fake = Fake { version: "5", pointer: "K", load: LOAD, entry: LOAD + 0x123, size: 0x4000 };

impl Fake {
    fn source(&self) -> String {
        let Fake { version, pointer, load, entry, size } = self;
        format!(
            "#include <stddef.h>\n\
             __attribute__((aligned(65536))) char K[0x4000] = {{ 0x55, 0x66, [0x3fff] = 0x77 }};\n\
             int krunfw_get_version(void) {{ return {version}; }}\n\
             char *krunfw_get_kernel(size_t *l, size_t *e, size_t *s)\n\
             {{ *l = {load:#x}; *e = {entry:#x}; *s = {size:#x}; return {pointer}; }}\n"
        )
    }
}

fn compile(dir: &Path, name: &str, source: &str) -> PathBuf {
    let (c, so) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.kernel")));
    std::fs::write(&c, source).unwrap();
    let mut cc = Command::new("cc");
    let status = cc.args(["-shared", "-fPIC", "-o"]).arg(&so).arg(&c).status();
    assert!(status.expect("these tests need a C compiler named cc").success());
    so
}

fn open(dir: &Path, name: &str, fake: &Fake) -> Result<Bundle, BundleError> {
    Bundle::open(&BundleSource::Path(compile(dir, name, &fake.source())))
}

fn ram() -> GuestRam {
    GuestRam::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap()
}

#[test]
fn a_good_bundle_is_copied_and_unloaded() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = open(dir.path(), "good", &GOOD).unwrap();
    assert_eq!((bundle.load_addr(), bundle.entry(), bundle.size()), (LOAD, LOAD + 0x123, 0x4000));
    let ram = ram();
    bundle.copy_to(&ram).unwrap();
    let bytes = |addr| ram.read_obj::<u8>(GuestAddress(addr)).unwrap();
    assert_eq!([bytes(LOAD), bytes(LOAD + 1), bytes(LOAD + 2)], [0x55, 0x66, 0]);
    assert_eq!([bytes(LOAD + 0x3fff), bytes(LOAD + 0x4000)], [0x77, 0]);

    let loaded = || std::fs::read_to_string("/proc/self/maps").unwrap().contains("good.kernel");
    assert!(loaded());
    drop(bundle);
    assert!(!loaded());
}

#[test]
fn two_machines_get_the_same_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = open(dir.path(), "twice", &GOOD).unwrap();
    for _ in 0..2 {
        let ram = ram();
        bundle.copy_to(&ram).unwrap();
        assert_eq!(ram.read_obj::<u8>(GuestAddress(LOAD)).unwrap(), 0x55);
        ram.write_obj(0u8, GuestAddress(LOAD)).unwrap();
    }
}

#[test]
fn a_replaced_file_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = open(dir.path(), "replaced", &GOOD).unwrap();
    let path = dir.path().join("replaced.kernel");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![0xee; 0x2_0000]).unwrap();
    let ram = ram();
    bundle.copy_to(&ram).unwrap();
    assert_eq!(ram.read_obj::<u8>(GuestAddress(LOAD)).unwrap(), 0x55);
}

#[test]
fn malformed_bundles_name_the_field() {
    let dir = tempfile::tempdir().unwrap();
    let table: &[(&str, Fake, &str)] = &[
        ("null", Fake { pointer: "0", ..GOOD }, "pointer"),
        ("empty", Fake { size: 0, ..GOOD }, "size"),
        ("odd", Fake { size: 0x3fff, ..GOOD }, "size"),
        ("huge", Fake { size: (1 << 30) + 0x1000, ..GOOD }, "size"),
        ("unaligned", Fake { load: LOAD + 1, ..GOOD }, "load address"),
        ("wrapping", Fake { load: !0xfff, entry: !0xfff, ..GOOD }, "load address"),
        ("before", Fake { entry: LOAD - 1, ..GOOD }, "entry address"),
        ("behind", Fake { entry: LOAD + 0x4000, ..GOOD }, "entry address"),
    ];
    for (name, fake, wrong) in table {
        match open(dir.path(), name, fake) {
            Err(BundleError::Malformed { field, .. }) => assert_eq!(field, *wrong, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_size_beyond_the_mapping_is_an_error_not_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = open(dir.path(), "beyond", &Fake { size: 0x3000_0000, ..GOOD }).unwrap();
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 1 << 30)]).unwrap();
    let err = bundle.copy_to(&ram).unwrap_err();
    assert!(matches!(err, BundleError::Malformed { field: "size", value: 0x3000_0000, .. }), "{err}");
}

#[test]
fn what_is_not_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let version = open(dir.path(), "four", &Fake { version: "4", ..GOOD }).unwrap_err();
    assert!(matches!(version, BundleError::Version { found: 4, .. }));

    let none = compile(dir.path(), "none", "int x;");
    let err = Bundle::open(&BundleSource::Path(none)).unwrap_err();
    assert!(matches!(err, BundleError::Symbol { symbol: "krunfw_get_version", .. }));
    let half = compile(dir.path(), "half", "int krunfw_get_version(void) { return 5; }");
    let err = Bundle::open(&BundleSource::Path(half)).unwrap_err();
    assert!(matches!(err, BundleError::Symbol { symbol: "krunfw_get_kernel", .. }));

    let missing = Bundle::open(&BundleSource::Path(dir.path().join("nothing"))).unwrap_err();
    assert!(matches!(missing, BundleError::Path { .. }));
    std::fs::write(dir.path().join("text"), "no ELF").unwrap();
    let err = Bundle::open(&BundleSource::Path(dir.path().join("text"))).unwrap_err();
    assert!(matches!(&err, BundleError::Load { .. }));
    assert!(err.to_string().contains("LD_LIBRARY_PATH"), "{err}");
}

#[test]
fn too_little_ram_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = open(dir.path(), "small", &GOOD).unwrap();
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 0x10_3000)]).unwrap();
    let err = bundle.copy_to(&ram).unwrap_err();
    assert!(matches!(err, BundleError::Guest { load: LOAD, size: 0x4000, .. }));
}

#[test]
fn the_real_library() {
    let Some(path) = std::env::var_os("PURLIN_FW") else {
        println!("skipped: PURLIN_FW does not name a libkrunfw.so.5");
        return;
    };
    let bundle = Bundle::open(&BundleSource::Path(path.into())).unwrap();
    let layout = MemoryLayout::new(128 << 20).unwrap();
    layout.check_kernel(bundle.load_addr(), bundle.size()).unwrap();
    let ram = crate::memory::alloc::allocate(&layout, &Default::default()).unwrap();
    bundle.copy_to(&ram).unwrap();
    // Byte for byte what the library maps.
    let len = bundle.size() as usize;
    let copied = ram.get_slice(GuestAddress(bundle.load_addr()), len).unwrap();
    let mut from_file = vec![0; len];
    copied.copy_to(&mut from_file[..]);
    bundle.library.copy_volatile(bundle.kernel.pointer, &copied);
    let mut from_memory = vec![0; len];
    copied.copy_to(&mut from_memory[..]);
    assert!(from_file == from_memory);
    assert!(from_file.iter().any(|&b| b != 0));
}
