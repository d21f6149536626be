//! Compiles the guest program `guest/main.rs` to `OUT_DIR/init`.
//!
//! By calling the compiler directly: the program needs no other crate, wants flags of its own whatever the profile of
//! the library, and a cargo inside a cargo would wait for its locks.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

/// Flags for a small static program without C library. It is loaded at a fixed address, so there is nothing to
/// relocate; sections share pages, because every page is a fetch from the host.
const FLAGS: &[&str] = &[
    "--edition=2024",
    "--crate-name=purlin_init_guest",
    "--crate-type=bin",
    "-Copt-level=z",
    "-Clto=fat",
    "-Ccodegen-units=1",
    "-Cpanic=abort",
    "-Cstrip=symbols",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none",
    "-Clink-arg=-Wl,-z,noseparate-code",
    "-Clink-arg=-Wl,-z,norelro",
    "-Clink-arg=-Wl,--no-eh-frame-hdr",
    "-Clink-arg=-Wl,-T,guest/link.ld",
];

const ARCH: &str = "x86_64";

/// Targets whose compiled `core` and `alloc` will do: the program uses nothing else of a target.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"];

fn main() -> Result<(), Box<dyn Error>> {
    for source in ["build.rs", "guest", "src"] {
        println!("cargo::rerun-if-changed={source}");
    }
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    if arch != ARCH {
        return Err(format!("purlin-init: there is no guest program for {arch}, only for {ARCH}").into());
    }
    let output = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("init");
    let status = compiler()?.arg("guest/main.rs").arg("-o").arg(&output).status()?;
    if !status.success() {
        return Err(format!("purlin-init: compiling the guest program failed: {status}").into());
    }
    Ok(())
}

/// The compiler that cargo uses, with a target that it certainly can compile for: that of this script, else that of the
/// library.
pub fn compiler() -> Result<Command, Box<dyn Error>> {
    let (host, library) = (env::var("HOST")?, env::var("TARGET")?);
    let target = [&host, &library].into_iter().find(|target| TARGETS.contains(&target.as_str()));
    let target = target.ok_or_else(|| format!("purlin-init: cannot build for {library} on {host}"))?;

    let mut compiler = Command::new(env::var_os("RUSTC").ok_or("RUSTC is not set")?);
    compiler.current_dir(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    compiler.args(FLAGS).args(["--target", target]);
    if target.ends_with("musl") {
        // Otherwise the compiler adds its own start code.
        compiler.arg("-Clink-self-contained=no");
    }
    if let (true, Ok(linker)) = (*target == library, env::var("RUSTC_LINKER")) {
        compiler.arg(format!("-Clinker={linker}"));
    }
    Ok(compiler)
}
