//! Running other programs: errors that name the tool and the remedy, and a sign of life for anything slow.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What this program has to say, on stderr, so that stdout belongs to the program that is run.
pub fn say(text: impl std::fmt::Display) {
    eprintln!("xtask: {text}");
}

/// Where `tool` is on `PATH`.
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(tool)).find(|file| file.is_file())
}

/// How to get a tool that is missing.
fn remedy(tool: &OsStr) -> &'static str {
    match tool.to_str() {
        Some("qemu-system-x86_64") => "run `cargo xtask setup`, or install Debian's qemu-system-x86",
        Some("cc") => "install a C compiler (Debian: gcc libc6-dev)",
        Some("zstd") => "install Debian's zstd",
        Some("apt-get" | "apt-cache" | "dpkg") => {
            "the rig is prepared on Debian; see CONTRIBUTING.md for other systems"
        }
        Some("cargo" | "rustc") => "install Rust with rustup",
        _ => "install it, or put it on PATH",
    }
}

fn spawn_context(command: &Command) -> String {
    format!("cannot run `{}`: {}", command.get_program().to_string_lossy(), remedy(command.get_program()))
}

/// Runs `command` with this program's own streams.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let context = spawn_context(command);
    command.status().context(context)
}

/// As [`status`], but anything except success is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs `command` with its output kept aside and returns what it wrote to stdout. `what` is shown, with the seconds
/// so far, when it takes more than two seconds; on failure the error carries the end of what it wrote.
pub fn quiet(what: &str, command: &mut Command) -> Result<Vec<u8>> {
    let context = spawn_context(command);
    let description = describe(command);
    command.stdin(Stdio::null());
    let output = slow(what, || command.output()).context(context)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{description}` failed: {}\n{}", output.status, tail(&stderr, 15));
    }
    Ok(output.stdout)
}

/// Runs `work`; once it has taken two seconds, says so, and then every ten seconds.
pub fn slow<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    std::thread::scope(|scope| {
        // Dropping the sender is the signal that the work is done, also when it panics.
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut pause = Duration::from_secs(2);
            while waiting.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(format_args!("{what} ({} s)", start.elapsed().as_secs()));
                pause = Duration::from_secs(10);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// The last `lines` lines of `text`.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// A command line for people to read, cut after a few words.
fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .take(6)
        .map(|word| word.to_string_lossy())
        .collect();
    words.join(" ")
}

/// `word` as one word of a POSIX shell.
pub fn shell_quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_a_remedy() {
        let error = run(&mut Command::new("no-such-tool-here")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("no-such-tool-here") && text.contains("install it"), "{text}");
    }

    #[test]
    fn a_failure_carries_the_end_of_stderr() {
        let error = quiet("sh", Command::new("sh").args(["-c", "echo the reason >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("the reason") && text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn quoted_words_come_back_from_a_shell() {
        for word in ["", "a b", "it's", "$HOME `x` \\ \"", "line\nbreak"] {
            let script = format!("printf %s {}", shell_quote(word));
            let out = quiet("sh", Command::new("sh").args(["-c", &script])).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), word);
        }
    }

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
