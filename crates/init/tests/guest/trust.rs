//! One more certificate authority.

use std::fs;

use crate::machine::{Machine, read};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

#[test]
fn it_is_installed_once() {
    let Some(machine) = Machine::shell("exit 0") else { return };
    machine.put(".agx-host/ca.pem", PEM.as_bytes(), 0o400);
    machine.put(BUNDLE, b"# others", 0o644);
    machine.put("etc/pki/tls/certs/ca-bundle.crt", b"# others\n", 0o644);
    for _ in 0..2 {
        let outcome = machine.run();
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""));
        assert_eq!(read(machine.path("usr/local/share/ca-certificates/agx.crt")), PEM);
        for bundle in [BUNDLE, "etc/pki/tls/certs/ca-bundle.crt"] {
            assert_eq!(read(machine.path(bundle)), format!("# others\n# AGX Session CA\n{PEM}"));
        }
        let link = fs::read_link(machine.path("etc/ssl/certs/agx.pem")).unwrap();
        assert_eq!(link.to_str(), Some("/usr/local/share/ca-certificates/agx.crt"));
        assert!(!machine.path("etc/ssl/cert.pem").exists(), "bundles are added to, not made");
    }
}

#[test]
fn the_host_says_from_where_to_where() {
    let Some(machine) = Machine::shell("exit 0") else { return };
    machine.put("ca", PEM.as_bytes(), 0o400);
    machine.put(BUNDLE, b"", 0o644);
    let outcome =
        machine.env("PURLIN_CA_SOURCE", "/ca").env("PURLIN_CA_PATH", "/opt/trust/session.crt").run();
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""));
    let Some(machine) = Machine::shell("exit 0") else { return };
    machine.put("ca", PEM.as_bytes(), 0o400);
    let machine = machine.env("AGX_MITM_CA_SOURCE", "/ca").env("AGX_MITM_CA_PATH", "/opt/trust/session.crt");
    assert_eq!(
        (machine.run().code(), machine.run().stderr),
        (0, String::new()),
        "without a directory to link in"
    );
    assert_eq!(read(machine.path("opt/trust/session.crt")), PEM);
}

#[test]
fn one_that_was_asked_for_and_is_missing_or_none_is_named() {
    for (content, error) in [(None, "ENOENT"), (Some("-----BEGIN PRIVATE KEY-----"), "EINVAL")] {
        let Some(machine) = Machine::shell("echo on") else { return };
        if let Some(content) = content {
            machine.put("ca", content.as_bytes(), 0o400);
        }
        let outcome = machine.env("PURLIN_CA_SOURCE", "/ca").run();
        assert_eq!(outcome.output(), "on\n");
        assert_eq!(outcome.stderr, format!("purlin-init: install the certificate /ca: {error}\n"));
    }
}
