//! Host names and the patterns rules match them by.

use std::fmt;
use std::sync::Arc;

/// Longest name in characters, without the final dot (RFC 1035 §2.3.4: 255 octets on the wire).
pub const MAX_NAME_LEN: usize = 253;
/// Longest label (RFC 1035 §2.3.4).
pub(crate) const MAX_LABEL_LEN: usize = 63;

/// A host name in its one form: lower case, no final dot, internationalised labels as `xn--…`.
///
/// Cloning is cheap; comparing is comparing bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// Why a text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostNameError {
    /// Nothing, or only a dot.
    #[error("the name is empty")]
    Empty,
    /// The whole name is too long.
    #[error("the name has more than {MAX_NAME_LEN} characters")]
    TooLong,
    /// A label is empty or longer than 63 characters.
    #[error("a label is empty or longer than {MAX_LABEL_LEN} characters")]
    Label,
    /// Something other than letters, digits, hyphens, underscores and dots.
    #[error("a character other than a letter, digit, hyphen, underscore or dot")]
    Character,
    /// An IP address, or a name whose last label is a number and would be read as one.
    #[error("an address, not a name")]
    Address,
    /// Not a valid internationalised name (UTS #46).
    #[error("not a valid internationalised name")]
    Idna,
}

impl HostName {
    /// Reads a name as people write it. Non-ASCII names are mapped by UTS #46 (non-transitional) to
    /// their `xn--` form; a final dot is dropped.
    ///
    /// # Errors
    ///
    /// See [`HostNameError`].
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        if text.is_ascii() {
            return Self::from_ascii(text.as_bytes());
        }
        // Four bytes of UTF-8 per character at most; longer cannot map to a valid name.
        if text.len() > MAX_NAME_LEN.saturating_mul(4) {
            return Err(HostNameError::TooLong);
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| HostNameError::Idna)?;
        Self::from_ascii(ascii.as_bytes())
    }

    /// Reads a name as protocols carry it: ASCII bytes with dots, of either case.
    ///
    /// # Errors
    ///
    /// See [`HostNameError`]; never [`Idna`](HostNameError::Idna).
    pub fn from_ascii(bytes: &[u8]) -> Result<Self, HostNameError> {
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        if bytes.is_empty() {
            return Err(HostNameError::Empty);
        }
        if bytes.len() > MAX_NAME_LEN {
            return Err(HostNameError::TooLong);
        }
        let mut text = String::with_capacity(bytes.len());
        for &byte in bytes {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    text.push(char::from(byte.to_ascii_lowercase()));
                }
                _ => return Err(HostNameError::Character),
            }
        }
        if text.split('.').any(|label| label.is_empty() || label.len() > MAX_LABEL_LEN) {
            return Err(HostNameError::Label);
        }
        if text.rsplit('.').next().is_some_and(reads_as_number) {
            return Err(HostNameError::Address);
        }
        Ok(Self(text.into()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label, and so on up to the last label.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &str> {
        parents(&self.0)
    }
}

/// What follows each dot of `name`, longest first.
pub(crate) fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |rest| rest.split_once('.').map(|(_, parent)| parent)).skip(1)
}

/// Whether the last label makes the whole text an IPv4 address for common parsers (decimal or `0x`).
fn reads_as_number(label: &str) -> bool {
    let digits = label.strip_prefix("0x");
    label.bytes().all(|b| b.is_ascii_digit())
        || digits.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a rule says about names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name.
    Exact(HostName),
    /// Every name below this one, at any depth, but not the name itself. Written `*.example.com`.
    Below(HostName),
}

impl HostPattern {
    /// Reads `example.com` or `*.example.com`.
    ///
    /// # Errors
    ///
    /// As [`HostName::parse`]; a `*` anywhere but as the whole first label is a wrong character.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        match text.strip_prefix("*.") {
            Some(suffix) => HostName::parse(suffix).map(Self::Below),
            None => HostName::parse(text).map(Self::Exact),
        }
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(this) => this == name,
            Self::Below(suffix) => name.parents().any(|parent| parent == suffix.as_str()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (given, canonical) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com.", "example.com"),
            ("_dmarc.example.com", "_dmarc.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("faß.de", "xn--fa-hia.de"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("localhost", "localhost"),
            ("1.example", "1.example"),
        ] {
            assert_eq!(HostName::parse(given).map(|n| n.to_string()), Ok(canonical.to_owned()), "{given}");
        }
    }

    #[test]
    fn what_is_not_a_name() {
        use HostNameError::*;
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(127) + "ab";
        for (given, error) in [
            ("", Empty),
            (".", Empty),
            ("a..b", Label),
            (".a", Label),
            ("a.b..", Label),
            (&long_label, Label),
            (&long_name, TooLong),
            ("a b", Character),
            ("a\0b", Character),
            ("*.com", Character),
            ("a:443", Character),
            ("1.2.3.4", Address),
            ("127.1", Address),
            ("x.0x7f", Address),
            ("::1", Character),
            ("\u{fffd}.com", Idna),
        ] {
            assert_eq!(HostName::parse(given), Err(error), "{given:?}");
        }
        assert!(HostName::parse(&("a.".repeat(126) + "a")).is_ok(), "253 characters");
        assert!(HostName::from_ascii("bücher.example".as_bytes()).is_err());
    }

    #[test]
    fn patterns() {
        for (pattern, name, matches) in [
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "notexample.com", false),
            ("*.com", "example.com", true),
            ("*.bücher.example", "www.xn--bcher-kva.example", true),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(&HostName::parse(name).unwrap()), matches, "{pattern} {name}");
        }
        for bad in ["*", "*.", "a.*.com", "*a.com", "**.com", "*.*.com", "*.1.2.3.4"] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(HostPattern::parse("*.A.b").unwrap().to_string(), "*.a.b");
    }
}
