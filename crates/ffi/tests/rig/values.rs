//! What was configured is what the guest sees.

use purlin::{Exec, Share};

use crate::support::{config, run, sh};

/// Prints arguments with their lengths, so that splitting and joining show.
const SHOW: &str =
    r#"for a in "$@"; do printf '%d:%s|' "${#a}" "$a"; done; printf '%s|%s|' "$ONE" "$TWO"; pwd; ulimit -n"#;

fn shown(args: &[&str], one: &str, two: &str) -> String {
    let exec = Exec::new("/bin/sh").args(["-c", SHOW, "sh"]).args(args.iter().copied());
    let exec = exec.env("ONE", one).env("TWO", two).workdir("/tmp").rlimit(7, 4096, 8192);
    let done = run(config(exec));
    assert_eq!(done.exit.code, 0, "{}", done.stderr);
    done.stdout
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn plain_arguments_arrive_by_the_command_line() {
    let got = shown(&["a b", "", "c=d"], "x", "");
    assert_eq!(got, "3:a b|0:|3:c=d|x||/tmp\n4096\n");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn quotes_utf8_newlines_and_long_values_arrive_too() {
    let long = "x".repeat(5000);
    let got = shown(&["say \"hi\"", "h\u{f6}he", "a\nb", "--", "", &long], "q\"q", "mem");
    let want = format!("8:say \"hi\"|5:h\u{f6}he|3:a\nb|2:--|0:|5000:{long}|q\"q|mem|/tmp\n4096\n");
    assert_eq!(got, want);
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn one_processor_and_256_mib() {
    let done = run(config(sh("grep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo")));
    check_size(&done.stdout, 1, 256);
}

/// More RAM than fits below the device gap.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn four_processors_and_3400_mib() {
    let script = "grep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo; \
                  cat /sys/devices/system/cpu/cpu*/topology/core_id | sort -u | wc -l; \
                  cat /sys/devices/system/cpu/cpu*/topology/physical_package_id | sort -u | wc -l";
    let done = run(config(sh(script)).vcpus(4).memory_mib(3400));
    check_size(&done.stdout, 4, 3400);
    let topology: Vec<&str> = done.stdout.lines().skip(2).collect();
    assert_eq!(topology, ["4", "1"], "one package of four cores");
}

fn check_size(text: &str, processors: u32, mib: u64) {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(processors.to_string().as_str()), "{text}");
    let kib: u64 = lines.next().and_then(|l| l.split_whitespace().nth(1)).unwrap().parse().unwrap();
    let (least, most) = (mib * 1024 * 85 / 100, mib * 1024);
    assert!((least..=most).contains(&kib), "{kib} KiB of {mib} MiB");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn shares_are_mounted_read_write_and_read_only() {
    let (rw, ro) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(ro.path().join("given"), "from the host").unwrap();
    let script = "set -e; mkdir -p /tmp/rw /tmp/ro; mount -t virtiofs rw /tmp/rw; mount -t virtiofs ro /tmp/ro; \
                  cat /tmp/ro/given > /tmp/rw/copy; \
                  for c in 'echo x > /tmp/ro/new' 'rm /tmp/ro/given' 'mkdir /tmp/ro/d' 'chmod 0 /tmp/ro/given' \
                  'mv /tmp/ro/given /tmp/ro/other'; do sh -c \"$c\" 2>/dev/null && echo \"done: $c\"; done; ls /tmp/ro";
    let config =
        config(sh(script)).share(Share::new("rw", rw.path())).share(Share::new("ro", ro.path()).read_only());
    let done = run(config);
    assert_eq!((done.exit.code, done.stdout.as_str()), (0, "given\n"), "{}", done.stderr);
    assert_eq!(std::fs::read(rw.path().join("copy")).unwrap(), b"from the host");
    assert_eq!(std::fs::read(ro.path().join("given")).unwrap(), b"from the host");
}

/// The root holds our init only until the kernel has found it.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_injected_init_is_not_on_the_root_afterwards() {
    let done = run(config(sh("ls / | grep -c krun; test -e /init.krun; echo $?")));
    assert_eq!(done.stdout, "0\n1\n");
}
