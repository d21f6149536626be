//! Formatting and lints of the guest program, which is no cargo target, so that `cargo fmt` and `cargo clippy` do not
//! see it. Needs rustfmt and clippy; says so and skips if they are not installed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::process::Command;

const LINTS: [&str; 8] = [
    "-Dwarnings",
    "-Dunsafe_op_in_unsafe_fn",
    "-Dclippy::undocumented_unsafe_blocks",
    "-Dclippy::multiple_unsafe_ops_per_block",
    "-Dclippy::unwrap_used",
    "-Dclippy::expect_used",
    "-Dclippy::panic",
    "-Dclippy::indexing_slicing",
];

fn check(tool: &str, args: &[&str]) {
    if !Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no {tool}");
        return;
    }
    let output = Command::new(tool)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--edition", "2024"])
        .args(args)
        .output()
        .unwrap();
    if !output.status.success() {
        panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_guest_program_is_formatted() {
    check("rustfmt", &["--check", "guest/main.rs"]);
}

#[test]
fn the_guest_program_has_no_lint() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("guest.rmeta");
    let mut args = vec!["--crate-name=guest", "--crate-type=bin", "-Cpanic=abort", "--emit=metadata", "-o"];
    args.push(output.to_str().unwrap());
    args.extend(LINTS);
    args.push("guest/main.rs");
    check("clippy-driver", &args);
}
