//! The kernel command line: a builder that refuses what the guest would misread. Pure.
//!
//! Linux splits the line at white space and knows one kind of quoting: a double quote starts and ends a
//! stretch in which white space does not split, the quotes around a whole word or a whole value are removed,
//! and nothing can be escaped (`lib/cmdline.c`, `next_arg`). Words it does not know become PID 1's
//! environment (`name=value`) or arguments (bare words), and what follows `--` becomes arguments only
//! (`init/main.c`). Each of these steps has limits beyond which data is lost without a word, or the kernel
//! panics before there is a console. The builder turns each into an error that names the field.
//!
//! Order of the finished line:
//!
//! 1. the prolog up to its `init=` or `rdinit=`
//! 2. device and kernel words: before `init=`, because that erases the bare words seen before it, so that a
//!    kernel that does not know a bare word does not hand it to PID 1
//! 3. the rest of the prolog
//! 4. the environment
//! 5. `--` and the arguments
//!
//! Devices come before environment and arguments, so that no kernel with a shorter limit loses a device.
//!
//! One thing cannot be prevented here: a few x86 options (`clearcpuid=`, `nopti` in some versions) are looked
//! up by a scan of the whole line that knows neither quotes nor `--`, so an argument that spells one also has
//! its effect on the guest's kernel. Nothing is lost from the argument.
//!
//! ```
//! use purlin_vmm_core::boot::cmdline::{Cmdline, Limits, default_words};
//!
//! let mut line = Cmdline::new(Limits::default());
//! line.prolog(&default_words(true).join(" "))?;
//! line.virtio_mmio(0xd000_0000, 5)?;
//! line.env("GREETING", "hello world")?.arg("-c")?;
//! assert!(line.finish()?.ends_with(r#"init=/init.krun "GREETING=hello world" -- -c"#));
//! assert!(line.env("mem", "1G").is_err()); // the kernel would take it
//! # Ok::<(), purlin_vmm_core::boot::cmdline::CmdlineError>(())
//! ```

mod error;
mod reserved;

pub use error::CmdlineError;
pub use reserved::{RESERVED, is_reserved};

use super::{BootError, write};
use crate::memory::GuestRam;
use crate::memory::layout::{CMDLINE, CMDLINE_CAPACITY, MMIO_SLOT_SIZE};

/// What the guest kernel can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest line in bytes, without its NUL. `COMMAND_LINE_SIZE` - 1 of the kernel, or the `cmdline_size`
    /// of its setup header. At most 65535 are used.
    pub bytes: usize,
    /// Most environment entries of PID 1, counting the `HOME` and `TERM` that the kernel sets itself.
    pub env: usize,
    /// Most arguments of PID 1, not counting its name.
    pub args: usize,
}

impl Default for Limits {
    /// An ordinary x86 kernel: 2047 bytes (`COMMAND_LINE_SIZE` 2048), 32 environment entries and 32
    /// arguments (`CONFIG_INIT_ENV_ARG_LIMIT`).
    fn default() -> Self {
        Limits { bytes: 2047, env: 32, args: 32 }
    }
}

/// Keeps the kernel from running the self-test of its jitter entropy source, which costs CPU time before
/// PID 1 starts; the entropy of a microVM guest comes from virtio-rng and the processor. A kernel without
/// `CONFIG_KALLSYMS` ignores it.
pub const SKIP_JITTER_SELF_TEST: &str = "initcall_blacklist=jent_mod_init";

const BEFORE_INIT: [&str; 9] = [
    "reboot=k",
    "panic=-1",
    "panic_print=0",
    "nomodule",
    "console=hvc0",
    "rootfstype=virtiofs",
    "rw",
    "quiet",
    "no-kvmapf",
];

/// The words a libkrunfw kernel is started with unless the user has others: reset through the keyboard
/// controller, no wait after a panic, console on virtio, root on the virtio-fs device, and the library's
/// own PID 1. With `skip_jitter_self_test` also [`SKIP_JITTER_SELF_TEST`].
pub fn default_words(skip_jitter_self_test: bool) -> Vec<&'static str> {
    let skip = skip_jitter_self_test.then_some(SKIP_JITTER_SELF_TEST);
    BEFORE_INIT.into_iter().chain(skip).chain(["init=/init.krun"]).collect()
}

/// A command line under construction. Each method checks what it adds and changes nothing on error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline {
    limits: Limits,
    prolog: Vec<String>,
    words: Vec<String>,
    env: Vec<(String, String)>,
    args: Vec<String>,
}

impl Cmdline {
    /// An empty line.
    pub fn new(limits: Limits) -> Self {
        Cmdline { limits, prolog: Vec::new(), words: Vec::new(), env: Vec::new(), args: Vec::new() }
    }

    /// Adds kernel words from text: split as the kernel does, quotes kept.
    ///
    /// # Errors
    ///
    /// [`CmdlineError`] for bytes outside 0x20..=0x7e, a quote that does not end, and the word `--`.
    pub fn prolog(&mut self, text: &str) -> Result<&mut Self, CmdlineError> {
        printable("prolog", text)?;
        let words = split(text).ok_or(CmdlineError::Quote { field: "prolog".into(), value: text.into() })?;
        if words.iter().any(|word| is_separator(word)) {
            return Err(CmdlineError::Separator { field: "prolog".into(), value: text.into() });
        }
        self.prolog.extend(words.into_iter().map(str::to_owned));
        Ok(self)
    }

    /// Announces a virtio-mmio device of one slot: `virtio_mmio.device=4K@0xd0000000:5`. Linux probes in the
    /// order of the line.
    ///
    /// # Errors
    ///
    /// None today; the `Result` allows chaining.
    pub fn virtio_mmio(&mut self, base: u64, irq: u32) -> Result<&mut Self, CmdlineError> {
        self.words.push(format!("virtio_mmio.device={}K@{base:#010x}:{irq}", MMIO_SLOT_SIZE >> 10));
        Ok(self)
    }

    /// Adds one kernel word behind the devices so far, for example `tsi_hijack`.
    ///
    /// # Errors
    ///
    /// [`CmdlineError`] if it is empty, `--`, or has white space, quotes or bytes outside 0x20..=0x7e.
    pub fn word(&mut self, word: &str) -> Result<&mut Self, CmdlineError> {
        unquoted("word", word)?;
        if is_separator(word) {
            return Err(CmdlineError::Separator { field: "word".into(), value: word.into() });
        }
        self.words.push(word.to_owned());
        Ok(self)
    }

    /// Adds an environment entry for PID 1. A name that is there already gets the new value, as in the
    /// kernel.
    ///
    /// # Errors
    ///
    /// [`CmdlineError`] if the name is empty, has white space, `=`, `.` or a quote, or is a kernel
    /// parameter ([`is_reserved`]); if the value has a quote; for bytes outside 0x20..=0x7e; and for more
    /// entries than the limit.
    pub fn env(&mut self, name: &str, value: &str) -> Result<&mut Self, CmdlineError> {
        check_name(name)?;
        quotable(name, value)?;
        if let Some((_, old)) = self.env.iter_mut().find(|(n, _)| n == name) {
            value.clone_into(old);
            return Ok(self);
        }
        let count = self.env_count(Some(name));
        if count > self.limits.env {
            return Err(CmdlineError::TooManyEnv { name: name.into(), count, limit: self.limits.env });
        }
        self.env.push((name.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// Adds an argument for PID 1.
    ///
    /// # Errors
    ///
    /// [`CmdlineError`] if it is `--` (which would end the arguments), has a quote or bytes outside
    /// 0x20..=0x7e, and for more arguments than the limit.
    pub fn arg(&mut self, arg: &str) -> Result<&mut Self, CmdlineError> {
        let field = format!("argument {}", self.args.len() + 1);
        if arg == "--" {
            return Err(CmdlineError::Separator { field, value: arg.into() });
        }
        quotable(&field, arg)?;
        let count = self.args.len() + 1;
        if count > self.limits.args {
            return Err(CmdlineError::TooManyArgs { count, limit: self.limits.args });
        }
        self.args.push(arg.to_owned());
        Ok(self)
    }

    /// Environment entries PID 1 would have with `extra`.
    fn env_count(&self, extra: Option<&str>) -> usize {
        let names = self.env.iter().map(|(name, _)| name.as_str()).chain(extra);
        2 + names.filter(|&name| name != "HOME" && name != "TERM").count()
    }

    fn text(&self) -> String {
        let split_at = self.prolog.iter().position(|word| starts_init(word)).unwrap_or(self.prolog.len());
        let (head, tail) = self.prolog.split_at(split_at);
        let kernel = [head, &self.words, tail].into_iter().flatten().cloned();
        let env = self.env.iter().map(|(name, value)| quote(&format!("{name}={value}")));
        let separator = (!self.args.is_empty()).then(|| "--".to_owned());
        let args = self.args.iter().map(|arg| quote(arg));
        kernel.chain(env).chain(separator).chain(args).collect::<Vec<_>>().join(" ")
    }

    /// Length of the line in bytes, without its NUL.
    pub fn len(&self) -> usize {
        self.text().len()
    }

    /// True if nothing was added.
    pub fn is_empty(&self) -> bool {
        self.text().is_empty()
    }

    /// True if the line is within the length limit, so that [`Cmdline::finish`] succeeds.
    pub fn fits(&self) -> bool {
        self.len() <= self.byte_limit()
    }

    fn byte_limit(&self) -> usize {
        self.limits.bytes.min(CMDLINE_CAPACITY as usize - 1)
    }

    /// The finished line, without a NUL.
    ///
    /// # Errors
    ///
    /// [`CmdlineError::TooLong`].
    pub fn finish(&self) -> Result<String, CmdlineError> {
        let text = self.text();
        let (len, limit) = (text.len(), self.byte_limit());
        if len > limit { Err(CmdlineError::TooLong { len, limit }) } else { Ok(text) }
    }
}

/// Writes a finished line and its NUL to [`CMDLINE`].
///
/// # Errors
///
/// [`BootError::Write`] if that is not RAM.
pub fn write_to(ram: &GuestRam, line: &str) -> Result<(), BootError> {
    let bytes = [line.as_bytes(), &[0]].concat();
    write(ram, "command line", CMDLINE, &bytes)
}

/// Splits at spaces outside quotes; `None` if a quote does not end.
fn split(text: &str) -> Option<Vec<&str>> {
    let mut quoted = false;
    let words = text.split(|c: char| {
        quoted ^= c == '"';
        c == ' ' && !quoted
    });
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    (!quoted).then_some(words)
}

fn starts_init(word: &str) -> bool {
    let word = word.trim_start_matches('"');
    word.starts_with("init=") || word.starts_with("rdinit=")
}

fn is_separator(word: &str) -> bool {
    word.trim_matches('"') == "--"
}

/// Quotes a word only where it must be: white space in it, or nothing.
fn quote(word: &str) -> String {
    if word.is_empty() || word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}

fn printable(field: &str, value: &str) -> Result<(), CmdlineError> {
    match value.bytes().enumerate().find(|(_, b)| !(0x20..=0x7e).contains(b)) {
        None => Ok(()),
        Some((position, byte)) => {
            Err(CmdlineError::NotPrintable { field: field.into(), value: value.into(), position, byte })
        }
    }
}

fn quotable(field: &str, value: &str) -> Result<(), CmdlineError> {
    printable(field, value)?;
    if value.contains('"') {
        return Err(CmdlineError::Quote { field: field.into(), value: value.into() });
    }
    Ok(())
}

fn unquoted(field: &str, value: &str) -> Result<(), CmdlineError> {
    quotable(field, value)?;
    if value.is_empty() || value.contains(' ') {
        return Err(CmdlineError::NotOneWord { field: field.into(), value: value.into() });
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), CmdlineError> {
    unquoted("environment name", name)?;
    if name.contains('=') {
        return Err(CmdlineError::NotOneWord { field: "environment name".into(), value: name.into() });
    }
    if name.contains('.') {
        return Err(CmdlineError::DottedName { name: name.into() });
    }
    if is_reserved(name) {
        return Err(CmdlineError::ReservedName { name: name.into() });
    }
    Ok(())
}

/// Entry point for fuzzing: builds a line from `data`, and checks that an accepted line reads back as what
/// was put in.
///
/// # Panics
///
/// If it does not: that is what a fuzzer looks for.
#[doc(hidden)]
#[allow(clippy::panic)]
pub fn fuzz(data: &[u8]) {
    reference::check_script(data);
}

#[doc(hidden)]
mod reference;

#[cfg(test)]
mod tests;
