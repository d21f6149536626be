use proptest::prelude::*;

use super::reference::{known, read};
use super::*;
use crate::memory::{Bytes, GuestAddress};

type Matches = fn(&CmdlineError) -> bool;

fn line() -> Cmdline {
    Cmdline::new(Limits::default())
}

fn with_defaults() -> Cmdline {
    let mut line = line();
    line.prolog(&default_words(true).join(" ")).unwrap();
    line
}

#[test]
fn golden() {
    let mut line = with_defaults();
    line.virtio_mmio(0xd000_0000, 5).unwrap().virtio_mmio(0xd000_1000, 6).unwrap();
    line.word("tsi_hijack").unwrap();
    line.env("KRUN_INIT", "/bin/sh").unwrap().env("A", "b c").unwrap().env("EMPTY", "").unwrap();
    line.arg("-c").unwrap().arg("echo hi; exit").unwrap().arg("").unwrap();
    assert_eq!(
        line.finish().unwrap(),
        "reboot=k panic=-1 panic_print=0 nomodule console=hvc0 rootfstype=virtiofs rw quiet no-kvmapf \
         initcall_blacklist=jent_mod_init virtio_mmio.device=4K@0xd0000000:5 \
         virtio_mmio.device=4K@0xd0001000:6 tsi_hijack init=/init.krun KRUN_INIT=/bin/sh \"A=b c\" EMPTY= \
         -- -c \"echo hi; exit\" \"\""
    );
    assert_eq!(line.len(), line.finish().unwrap().len());
    assert!(!default_words(false).contains(&SKIP_JITTER_SELF_TEST));
}

#[test]
fn a_custom_prolog_keeps_its_order_and_the_devices_precede_its_init() {
    let mut line = line();
    line.prolog("console=ttyS0  dyndbg=\"file a.c +p\" init=/sbin/x single").unwrap();
    line.virtio_mmio(0xd000_0000, 5).unwrap();
    assert_eq!(
        line.finish().unwrap(),
        "console=ttyS0 dyndbg=\"file a.c +p\" virtio_mmio.device=4K@0xd0000000:5 init=/sbin/x single"
    );
}

#[test]
fn refused_environment() {
    use CmdlineError::*;
    let table: &[(&str, &str, Matches)] = &[
        ("", "x", |e| matches!(e, NotOneWord { .. })),
        ("A B", "x", |e| matches!(e, NotOneWord { .. })),
        ("A=B", "x", |e| matches!(e, NotOneWord { .. })),
        ("a.b", "x", |e| matches!(e, DottedName { .. })),
        ("A\"", "x", |e| matches!(e, Quote { .. })),
        ("A", "say \"hi\"", |e| matches!(e, Quote { field, .. } if field == "A")),
        ("A", "two\nlines", |e| matches!(e, NotPrintable { position: 3, byte: 10, .. })),
        ("A", "gr\u{fc}n", |e| matches!(e, NotPrintable { position: 2, byte: 0xc3, .. })),
        ("A", "nul\0", |e| matches!(e, NotPrintable { byte: 0, .. })),
        ("mem", "1G", |e| matches!(e, ReservedName { .. })),
        ("no-kvmapf", "1", |e| matches!(e, ReservedName { .. })),
        ("init-on-free", "1", |e| matches!(e, ReservedName { .. })),
        ("kexec_anything", "1", |e| matches!(e, ReservedName { .. })),
        ("BOOT_IMAGE", "x", |e| matches!(e, ReservedName { .. })),
    ];
    for (name, value, expected) in table {
        let mut line = with_defaults();
        let before = line.clone();
        let err = line.env(name, value).unwrap_err();
        assert!(expected(&err), "{name:?}={value:?}: {err:?}");
        assert_eq!(line, before);
    }
}

#[test]
fn refused_words_arguments_and_prologs() {
    use CmdlineError::*;
    assert!(matches!(line().word(""), Err(NotOneWord { .. })));
    assert!(matches!(line().word("a b"), Err(NotOneWord { .. })));
    assert!(matches!(line().word("--"), Err(Separator { .. })));
    assert!(matches!(line().word("a=\"b\""), Err(Quote { .. })));
    assert!(matches!(line().prolog("quiet -- x"), Err(Separator { .. })));
    assert!(matches!(line().prolog("quiet \"--\" x"), Err(Separator { .. })));
    assert!(matches!(line().prolog("a=\"b"), Err(Quote { .. })));
    assert!(matches!(line().prolog("a\tb"), Err(NotPrintable { byte: 9, .. })));
    assert!(matches!(line().arg("--"), Err(Separator { field, .. }) if field == "argument 1"));
    assert!(matches!(line().arg("a\"b"), Err(Quote { .. })));
    assert!(line().arg("--help").is_ok());
}

#[test]
fn limits() {
    let mut line = with_defaults();
    for i in 0..30 {
        line.env(&format!("V{i}"), "x").unwrap();
    }
    // HOME and TERM are there anyway, and a name twice is one entry.
    line.env("HOME", "/root").unwrap().env("V3", "y").unwrap();
    assert_eq!(line.env("W", "x"), Err(CmdlineError::TooManyEnv { name: "W".into(), count: 33, limit: 32 }));
    for i in 0..32 {
        line.arg(&format!("a{i}")).unwrap();
    }
    assert_eq!(line.arg("x"), Err(CmdlineError::TooManyArgs { count: 33, limit: 32 }));

    let mut line = Cmdline::new(Limits::default());
    line.arg(&"x".repeat(2047 - 3)).unwrap();
    assert!(line.fits());
    assert_eq!(line.finish().unwrap().len(), 2047);
    let mut line = Cmdline::new(Limits::default());
    line.arg(&"x".repeat(2047 - 2)).unwrap();
    assert!(!line.fits());
    assert_eq!(line.finish(), Err(CmdlineError::TooLong { len: 2048, limit: 2047 }));

    // Whatever the kernel takes, the area in guest memory is the end.
    let mut line = Cmdline::new(Limits { bytes: usize::MAX, ..Limits::default() });
    line.arg(&"x".repeat(70_000)).unwrap();
    assert_eq!(line.finish(), Err(CmdlineError::TooLong { len: 70_003, limit: 65_535 }));
}

#[test]
fn the_reserved_list_is_sorted_and_normal() {
    assert!(RESERVED.is_sorted_by(|a, b| a < b), "{:?}", RESERVED.windows(2).find(|w| w[0] >= w[1]));
    assert!(RESERVED.iter().all(|name| !name.contains(['-', '.', ' '])));
    for name in ["init", "root", "rootfstype", "mem", "debug", "quiet", "panic", "console", "ro", "rw"] {
        assert!(is_reserved(name), "{name}");
    }
    for name in ["PATH", "HOME", "LANG", "KRUN_INIT", "http_proxy", "initial", "memory"] {
        assert!(!is_reserved(name), "{name}");
    }
}

#[test]
fn the_reference_reads_as_the_kernel_does() {
    let of = |text: &str| read(text, &known);
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    assert_eq!(of("A=\"b c\" \"D=e f\" G=").env, pairs(&[("A", "b c"), ("D", "e f"), ("G", "")]));
    assert_eq!(of("A=1 A=2 x.y=3").env, pairs(&[("A", "2")]));
    assert_eq!(of("one \"two three\" -- \"\" =x=y -- lost").args, ["one", "two three", "", "=x=y"]);
    assert_eq!(of("quiet mem=1G tsi_hijack").kernel, ["quiet", "mem=1G", "tsi_hijack"]);
    assert_eq!(of("A=\"b\" -- c=\"d e\" \"f=g h\"").args, ["c=d e", "f=g h"]);
}

#[test]
fn lands_with_its_nul() {
    let ram = GuestRam::from_ranges(&[(GuestAddress(0), 0x3_0000)]).unwrap();
    ram.write_slice(&[0xff; 16], GuestAddress(CMDLINE)).unwrap();
    write_to(&ram, "quiet").unwrap();
    assert_eq!(&ram.read_obj::<[u8; 7]>(GuestAddress(CMDLINE)).unwrap(), b"quiet\0\xff");
    let tiny = GuestRam::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
    assert!(write_to(&tiny, "quiet").is_err());
}

#[test]
fn fuzz_seeds() {
    for seed in [
        &b"eA\0b c\neA\0d\na--\na-x\nwtsi_hijack\npfoo init=/x bar"[..],
        b"a\"\na\na =\ne=\0\ne.\0x\neinit\0/x",
        b"p\"--\nw--\np\"a b\"=\"c\"\nax",
        b"p\"\"\"x\"\"\nw=\naq",
    ] {
        fuzz(seed);
    }
}

/// Text with everything that matters to quoting, mostly.
fn tricky() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::string::string_regex("[ab=\\-. ]{0,12}").unwrap(),
        2 => proptest::string::string_regex("[a\" =\\-]{0,8}").unwrap(),
        1 => proptest::string::string_regex("[ -~]{0,40}").unwrap(),
        1 => any::<String>(),
        1 => Just("--".to_owned()),
    ]
}

fn script() -> impl Strategy<Value = Vec<(char, String, String)>> {
    let kind = prop_oneof![4 => Just('e'), 4 => Just('a'), 1 => Just('w'), 1 => Just('p')];
    prop::collection::vec((kind, tricky(), tricky()), 0..40)
}

proptest! {
    #[test]
    fn what_is_accepted_is_what_the_guest_reads(script in script()) {
        let steps: Vec<_> = script.iter().map(|(kind, a, b)| match kind {
            'e' => format!("e{a}\0{b}"),
            kind => format!("{kind}{a}"),
        }).collect();
        fuzz(steps.join("\n").as_bytes());
    }

    #[test]
    fn environment_and_arguments_alone(
        env in prop::collection::vec(("[A-Z_]{1,6}", tricky()), 0..20),
        args in prop::collection::vec(tricky(), 0..20),
    ) {
        let mut line = with_defaults();
        let mut wanted: Vec<(String, String)> = Vec::new();
        for (name, value) in &env {
            if line.env(name, value).is_ok() {
                wanted.retain(|(n, _)| n != name);
                wanted.push((name.clone(), value.clone()));
            }
        }
        let accepted: Vec<_> = args.iter().filter(|arg| line.arg(arg).is_ok()).cloned().collect();
        if let Ok(text) = line.finish() {
            let mut got = read(&text, &known);
            got.env.sort();
            wanted.sort();
            prop_assert_eq!(got.env, wanted);
            prop_assert_eq!(got.args, accepted);
        }
    }
}
