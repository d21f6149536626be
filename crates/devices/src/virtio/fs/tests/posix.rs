//! The rules of `tests/posix`, with Linux as the client. A rig test runs the same program in a guest.

use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use super::client::config;
use super::kernel::Mount;

/// Needs root, `/dev/fuse` and a C compiler.
#[test]
fn the_rules_hold_for_root_and_for_a_user() {
    let dir = tempdir().unwrap();
    let Some(mount) = Mount::new(config(dir.path())) else { return };
    let tools = tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/posix");
    let program = tools.path().join("rules");
    let files = ["main", "names", "data", "owners", "locks"].map(|name| sources.join(format!("{name}.c")));
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .args(files)
        .status();
    assert!(built.unwrap().success());
    let report = mount.sh(&format!("chmod 755 .; mkdir -m 755 rules; {} rules || true", program.display()));
    let broken: Vec<&str> = report.lines().filter(|line| !line.starts_with("ok ")).collect();
    println!("{}", broken.join("\n"));
    assert!(report.contains(" rules hold, 0 broken, "), "{}", broken.join("\n"));
}
