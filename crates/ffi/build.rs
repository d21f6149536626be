//! Gives the shared library the name clients of libkrun look for.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkrun.so.1");
}
