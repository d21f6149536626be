//! An independent reading of a command line, to compare the builder with.
//!
//! Written from the behaviour of Linux' `next_arg`, `parse_args` and `unknown_bootoption`
//! (`lib/cmdline.c`, `kernel/params.c`, `init/main.c`); used by the tests and the fuzz target.

use super::{Cmdline, Limits, default_words, is_reserved};

/// What a kernel makes of a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Words the kernel keeps, with their quotes removed.
    pub kernel: Vec<String>,
    pub env: Vec<(String, String)>,
    pub args: Vec<String>,
}

/// One word from the front of `line`, and its name and value with the kernel's idea of quotes.
fn next_word(line: &[u8]) -> (&[u8], Option<&[u8]>, &[u8]) {
    let quoted = line.first() == Some(&b'"');
    let line = line.get(usize::from(quoted)..).unwrap_or_default();
    let (mut inside, mut equals, mut end) = (quoted, None, line.len());
    for (i, &b) in line.iter().enumerate() {
        if b == b' ' && !inside {
            end = i;
            break;
        }
        // An equals sign in the first place is part of the name.
        if b == b'=' && i > 0 && equals.is_none() {
            equals = Some(i);
        }
        inside ^= b == b'"';
    }
    let (word, rest) = line.split_at(end);
    let whole = if quoted { word.strip_suffix(b"\"").unwrap_or(word) } else { word };
    let rest = rest.trim_ascii_start();
    let Some((name, value)) = equals.and_then(|at| whole.split_at_checked(at)) else {
        return (whole, None, rest);
    };
    let value = value.get(1..).unwrap_or_default();
    let value = match value.strip_prefix(b"\"") {
        Some(inner) => inner.strip_suffix(b"\"").unwrap_or(inner),
        None => value,
    };
    (name, Some(value), rest)
}

/// Reads a line whose kernel words are `known`, as names.
pub(super) fn read(line: &str, known: &dyn Fn(&str) -> bool) -> Read {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let joined = |name: &str, value: Option<&[u8]>| match value {
        Some(value) => format!("{name}={}", text(value)),
        None => name.to_owned(),
    };
    let mut read = Read::default();
    let mut rest = line.as_bytes().trim_ascii_start();
    while !rest.is_empty() {
        let (name, value, after) = next_word(rest);
        rest = after;
        let name = text(name);
        match value {
            None if name == "--" => break,
            _ if known(&name) || is_reserved(&name) => read.kernel.push(joined(&name, value)),
            Some(_) if name.contains('.') => {}
            Some(value) => {
                let value = text(value);
                match read.env.iter_mut().find(|(n, _)| *n == name) {
                    Some((_, old)) => *old = value,
                    None => read.env.push((name, value)),
                }
            }
            None => read.args.push(name),
        }
    }
    while !rest.is_empty() {
        let (name, value, after) = next_word(rest);
        rest = after;
        let name = text(name);
        if value.is_none() && name == "--" {
            break;
        }
        read.args.push(joined(&name, value));
    }
    read
}

/// True for the kernel words the scripts use.
pub(super) fn known(name: &str) -> bool {
    name == "virtio_mmio.device" || name == "tsi_hijack"
}

/// Builds a line from lines of `data` (`e` name NUL value, `a` argument, `w` word, `p` prolog) and compares.
pub(super) fn check_script(data: &[u8]) {
    let mut line = Cmdline::new(Limits::default());
    let mut wanted = Read::default();
    let mut free_text = false;
    if line.prolog(&default_words(true).join(" ")).is_ok() {
        wanted.kernel = default_words(true).iter().map(|w| (*w).to_owned()).collect();
    }
    for step in data.split(|&b| b == b'\n').take(256) {
        let Some((&kind, rest)) = step.split_first() else { continue };
        let Ok(rest) = std::str::from_utf8(rest) else { continue };
        match kind {
            b'e' => {
                let (name, value) = rest.split_once('\0').unwrap_or((rest, ""));
                if line.env(name, value).is_ok() {
                    match wanted.env.iter_mut().find(|(n, _)| n == name) {
                        Some((_, old)) => value.clone_into(old),
                        None => wanted.env.push((name.to_owned(), value.to_owned())),
                    }
                }
            }
            b'a' if line.arg(rest).is_ok() => wanted.args.push(rest.to_owned()),
            b'w' => free_text |= line.word(rest).is_ok(),
            b'p' => free_text |= line.prolog(rest).is_ok(),
            _ => {}
        }
    }
    assert_eq!(line.fits(), line.finish().is_ok());
    let Ok(text) = line.finish() else { return };
    assert!(text.bytes().all(|b| (0x20..=0x7e).contains(&b)));
    assert!(text.len() <= Limits::default().bytes);
    if free_text {
        // Free kernel words may be anything, but they cannot change what follows the separator.
        let read = read(&text, &known);
        assert!(read.args.ends_with(&wanted.args), "{text}: {read:?} {wanted:?}");
        return;
    }
    assert_eq!(read(&text, &known), wanted, "{text}");
}
