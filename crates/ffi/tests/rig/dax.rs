//! A share whose pages the guest maps.

use purlin::Share;

use crate::support::{config, run, sh};

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_share_mounted_with_dax_is_the_hosts_pages() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("given"), "from the host\n".repeat(100_000)).unwrap();
    let script = "mkdir -p /tmp/dax; mount -t virtiofs -o dax=always dax /tmp/dax || exit 9; cd /tmp/dax; \
                  sha256sum < given; cp given copy; dd if=/dev/zero of=new bs=1M count=3 2>/dev/null; \
                  echo end >> new; printf over | dd of=copy conv=notrunc 2>/dev/null; grep dax= /proc/mounts | wc -l";
    let done = run(config(sh(script)).share(Share::new("dax", dir.path()).dax_window(64 << 20)));
    assert_eq!(done.exit.code, 0, "{}", done.stderr);
    let given = std::fs::read(dir.path().join("given")).unwrap();
    let mut copy = std::fs::read(dir.path().join("copy")).unwrap();
    assert_eq!(&copy[..4], b"over");
    copy[..4].copy_from_slice(b"from");
    assert!(copy == given, "the copy differs");
    assert_eq!(std::fs::metadata(dir.path().join("new")).unwrap().len(), (3 << 20) + 4);
    assert_eq!(done.stdout.lines().last(), Some("1"), "{}", done.stdout);
    let mut sum = std::process::Command::new("sha256sum");
    sum.stdin(std::fs::File::open(dir.path().join("given")).unwrap());
    let sum = String::from_utf8(sum.output().unwrap().stdout).unwrap();
    assert_eq!(done.stdout.lines().next(), sum.lines().next());
}
