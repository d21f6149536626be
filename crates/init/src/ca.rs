//! Making the guest trust one more certificate authority: which files that takes.
//!
//! The certificate is copied to where a distribution's own tool would look for it, appended to the bundles that TLS
//! libraries read, and linked into the directory that others search. Doing so again changes nothing.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

/// Where the certificate is, unless the environment says otherwise. Nothing is done if it is not there.
pub const DEFAULT_SOURCE: &CStr = c"/.agx-host/ca.pem";

/// Where it is copied to, unless the environment says otherwise.
pub const DEFAULT_TARGET: &CStr = c"/usr/local/share/ca-certificates/agx.crt";

/// The directory that OpenSSL searches by hash, in which a link is made.
pub const LINK_DIRECTORY: &CStr = c"/etc/ssl/certs";

/// Bundles of distributions: Debian and Alpine, Fedora, openSUSE, and OpenSSL's default. Those that exist are added to.
pub const BUNDLES: [&CStr; 4] = [
    c"/etc/ssl/certs/ca-certificates.crt",
    c"/etc/pki/tls/certs/ca-bundle.crt",
    c"/etc/ssl/ca-bundle.pem",
    c"/etc/ssl/cert.pem",
];

/// Largest certificate file, bytes.
pub const MAX_CERTIFICATE: usize = 1 << 20;

/// Largest bundle that is added to, bytes.
pub const MAX_BUNDLE: usize = 16 << 20;

/// Stands before the certificate in a bundle; other inits look for this text.
const MARK: &[u8] = b"# AGX Session CA\n";

/// What to install where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaInstall {
    /// The certificate's file.
    pub source: CString,
    /// Whether it was asked for, so that its absence is worth a line.
    pub asked: bool,
    /// Where it is copied to.
    pub target: CString,
}

impl Default for CaInstall {
    fn default() -> Self {
        Self { source: DEFAULT_SOURCE.into(), asked: false, target: DEFAULT_TARGET.into() }
    }
}

impl CaInstall {
    /// The link in [`LINK_DIRECTORY`]: the target's name with the ending `.pem`.
    pub fn link(&self) -> Option<CString> {
        let name = self.target.as_bytes().rsplit(|&byte| byte == b'/').next()?;
        let stem = name.rsplitn(2, |&byte| byte == b'.').last().filter(|stem| !stem.is_empty())?;
        let mut link = Vec::from(LINK_DIRECTORY.to_bytes());
        link.push(b'/');
        link.extend_from_slice(stem);
        link.extend_from_slice(b".pem");
        CString::new(link).ok()
    }
}

/// Whether a file is a certificate as bundles hold them (RFC 7468).
pub fn is_certificate(pem: &[u8]) -> bool {
    contains(pem, b"-----BEGIN CERTIFICATE-----") && contains(pem, b"-----END CERTIFICATE-----")
}

/// What to append to a bundle so that it holds the certificate; `None` if it does.
pub fn addition(bundle: &[u8], pem: &[u8]) -> Option<Vec<u8>> {
    let pem = pem.trim_ascii();
    if contains(bundle, pem) {
        return None;
    }
    let mut text = Vec::new();
    if bundle.last().is_some_and(|&byte| byte != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(MARK);
    text.extend_from_slice(pem);
    text.push(b'\n');
    Some(text)
}

/// Looks for the first byte first, which keeps the search linear for texts.
fn contains(text: &[u8], wanted: &[u8]) -> bool {
    let Some(&first) = wanted.first() else { return true };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == first) {
        rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with(wanted) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    const PEM: &[u8] = b"subject\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n\n";

    #[test]
    fn certificates() {
        assert!(is_certificate(PEM));
        for other in [&b""[..], b"-----BEGIN CERTIFICATE-----", b"-----BEGIN PRIVATE KEY-----\n"] {
            assert!(!is_certificate(other));
        }
    }

    #[test]
    fn a_bundle_gets_it_once() {
        let added =
            "# AGX Session CA\nsubject\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for (bundle, expected) in
            [("", added.to_owned()), ("x\n", added.to_owned()), ("x", format!("\n{added}"))]
        {
            let addition = addition(bundle.as_bytes(), PEM).unwrap();
            assert_eq!(String::from_utf8(addition.clone()).unwrap(), expected);
            let bundle = [bundle.as_bytes(), &addition].concat();
            assert_eq!(super::addition(&bundle, PEM), None);
            assert_eq!(super::addition(&bundle, &[PEM, b"\n"].concat()), None);
            assert!(super::addition(&bundle, &[PEM, b"more"].concat()).is_some());
        }
    }

    #[test]
    fn links() {
        let table = [
            ("/usr/local/share/ca-certificates/agx.crt", Some("/etc/ssl/certs/agx.pem")),
            ("/a.b.pem", Some("/etc/ssl/certs/a.b.pem")),
            ("/dir.d/name", Some("/etc/ssl/certs/name.pem")),
            ("/dir/.crt", None),
            ("/dir/", None),
        ];
        for (target, link) in table {
            let install = CaInstall { target: CString::new(target).unwrap(), ..CaInstall::default() };
            assert_eq!(install.link(), link.map(|link| CString::new(link).unwrap()), "{target}");
        }
    }
}
