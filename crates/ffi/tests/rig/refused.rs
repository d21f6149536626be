//! Configurations that cannot work are refused by a named field.

use purlin::{BuildError, ConfigError, Exec, Kernel, Root, Share, VmConfig};

use crate::support::config;

fn refused(config: VmConfig, words: &[&str]) {
    let error = config.build().err().expect("this configuration cannot work");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not name {word:?}");
    }
}

fn plain() -> VmConfig {
    config(Exec::new("/bin/true"))
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn every_refusal_names_field_and_value() {
    refused(plain().vcpus(0), &["vcpus", "0"]);
    refused(plain().vcpus(255), &["vcpus", "255"]);
    refused(plain().memory_mib(0), &["memory_mib", "0"]);
    refused(plain().memory_mib(8), &["memory_mib"]);
    refused(plain().memory_mib(17), &["memory_mib"]);
    refused(plain().kernel(Kernel::Bundle("/no/such/library".into())), &["kernel", "/no/such/library"]);
    refused(plain().kernel(Kernel::Bundle("/bin/sh".into())), &["kernel", "/bin/sh"]);
    refused(plain().root(Root::dir("/no/such/directory")), &["root", "/no/such/directory"]);
    refused(plain().root(Root::dir("/etc/passwd")), &["root", "/etc/passwd"]);
    refused(plain().share(Share::new("x".repeat(37), "/")), &["37", "36"]);
    refused(plain().share(Share::new("", "/")), &["tag"]);
    refused(plain().exec(Exec::new("/bin/true").arg("a\0b")), &["exec", "NUL"]);
    refused(plain().exec(Exec::new("")), &["exec"]);
    refused((0..30).fold(plain(), |c, i| c.share(Share::new(format!("s{i}"), "/"))), &["19"]);
    let long = Exec::new("/bin/true").arg("x".repeat(5000));
    refused(plain().implicit_init(false).exec(long), &["exec", "2047"]);
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_missing_libkrunfw_is_named_with_the_places_searched() {
    let config =
        VmConfig::new().root(Root::dir("/")).kernel(Kernel::Bundle("libkrunfw-that-is-not.so".into()));
    let error = config.build().err().unwrap();
    assert!(matches!(error, BuildError::Config(ConfigError::Kernel(_))), "{error:?}");
    assert!(error.to_string().contains("libkrunfw-that-is-not.so"), "{error}");
}
