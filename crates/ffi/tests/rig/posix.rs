//! The rules of a POSIX file system, in a guest, as root and as a user.

use std::path::Path;
use std::process::Command;

use purlin::Share;

use crate::support::{config, run, sh};

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_share_keeps_the_rules_of_posix() {
    let dir = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../devices/tests/posix");
    let files = ["main", "names", "data", "owners", "locks"].map(|name| sources.join(format!("{name}.c")));
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O0", "-o"]).arg(dir.path().join("rules")).args(files);
    assert!(cc.status().unwrap().success());
    let script = "mkdir -p /tmp/posix; mount -t virtiofs posix /tmp/posix || exit 9; mkdir /tmp/posix/dir; \
                  chmod 755 /tmp/posix; exec /tmp/posix/rules /tmp/posix/dir";
    let done = run(config(sh(script)).share(Share::new("posix", dir.path())));
    let broken: Vec<&str> = done.stdout.lines().filter(|line| !line.starts_with("ok ")).collect();
    println!("{}", broken.join("\n"));
    assert_eq!(done.exit.code, 0, "{}\n{}", broken.join("\n"), done.stderr);
    assert!(done.stdout.contains(" rules hold, 0 broken, 0 skipped"), "{}", broken.join("\n"));
    // What the guest did is there on the host, and stays within the share.
    assert!(dir.path().join("dir/roots/readable").exists());
}
