//! `cargo xtask run`: a command in a microVM, on this machine or in the rig.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::args::{Arg, Args, unexpected};
use crate::cache::Cache;
use crate::proc::{self, say};
use crate::{cargo, host, rig, setup};

/// Shown by `cargo xtask run --help`.
pub const HELP: &str = "\
cargo xtask run [--mem MIB] [--cpus N] [--rig] -- COMMAND...

Boots a microVM with this workspace's library (release build), whose root is a copy of a small busybox directory, runs
COMMAND in it and exits with its status. Runs on this machine's KVM if that can run ordinary kernels, else in the rig,
an emulated machine with a KVM (cargo xtask setup); says which on stderr.

  --mem MIB   guest memory (256)
  --cpus N    vCPUs (1)
  --rig       in the rig even if this machine's KVM would do
";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    memory_mib: u32,
    cpus: u32,
    rig: bool,
}

/// Runs the command.
pub fn main(args: Args) -> Result<ExitCode> {
    let (options, command) = parse(args)?;
    let cache = Cache::open()?;
    let guest = setup::guest(&cache)?;
    let runner = host::runner(&cargo::metadata()?)?.context("this workspace has no purlin-run example")?;
    let firmware_dir = guest.firmware.parent().unwrap_or(Path::new("/"));
    let here = !options.rig && host::runs_stock_kernels(&runner)?;
    let root = if here {
        say("running on this machine's KVM");
        CopiedRoot::new(&guest.root)?
    } else {
        say("running in the rig, an emulated machine: a boot takes some seconds");
        CopiedRoot { _dir: None, path: guest.root.clone() }
    };
    let words = vm_command(&options, &runner, &root.path, &command);
    if here {
        return on_this_machine(&words, firmware_dir);
    }
    let mut in_rig = vec!["env".to_owned(), format!("LD_LIBRARY_PATH={}", firmware_dir.display())];
    in_rig.extend(words);
    let machine = setup::machine(&cache)?;
    let job = rig::job(&guest, &in_rig)?;
    Ok(ExitCode::from(rig::run(&machine, &rig::Options::default(), &job, &mut std::io::stdout())?))
}

fn parse(mut args: Args) -> Result<(Options, Vec<String>)> {
    let mut options = Options { memory_mib: 256, cpus: 1, rig: false };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Positional(first) => return Ok((options, args.command(first)?)),
            Arg::Option(name) => match name.as_str() {
                "--mem" => options.memory_mib = args.number()?,
                "--cpus" => options.cpus = args.number()?,
                "--rig" => options.rig = true,
                _ => return Err(unexpected(&Arg::Option(name))),
            },
        }
    }
    bail!("no command; usage: cargo xtask run [OPTIONS] -- COMMAND...")
}

/// The guest may write to its root: on this machine it gets a copy, while the rig's file system forgets anyway.
struct CopiedRoot {
    _dir: Option<tempfile::TempDir>,
    path: std::path::PathBuf,
}

impl CopiedRoot {
    fn new(original: &Path) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let path = dir.path().join("root");
        proc::quiet("copying the root directory", Command::new("cp").arg("-a").args([original, &path]))?;
        Ok(Self { _dir: Some(dir), path })
    }
}

fn vm_command(options: &Options, runner: &Path, root: &Path, command: &[String]) -> Vec<String> {
    let mut words =
        vec![runner.to_string_lossy().into_owned(), "--root".into(), root.to_string_lossy().into_owned()];
    words.extend([
        "--mem".into(),
        options.memory_mib.to_string(),
        "--cpus".into(),
        options.cpus.to_string(),
        "--".into(),
    ]);
    words.extend(command.iter().cloned());
    words
}

fn on_this_machine(words: &[String], firmware_dir: &Path) -> Result<ExitCode> {
    let (program, arguments) = words.split_first().context("nothing to run")?;
    let mut libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    if !libraries.is_empty() {
        libraries.push(":");
    }
    libraries.push(OsString::from(firmware_dir));
    let status = proc::status(Command::new(program).args(arguments).env("LD_LIBRARY_PATH", libraries))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map(ExitCode::from).with_context(|| format!("{program} ended with {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_the_command_line_they_become() {
        let words = ["--mem", "512", "--rig", "--", "echo", "--mem"].map(OsString::from);
        let (options, command) = parse(Args::new(words)).unwrap();
        assert_eq!(options, Options { memory_mib: 512, cpus: 1, rig: true });
        let line = vm_command(&options, Path::new("/r"), Path::new("/root"), &command);
        assert_eq!(line, ["/r", "--root", "/root", "--mem", "512", "--cpus", "1", "--", "echo", "--mem"]);
        assert!(parse(Args::new([OsString::from("--mem")])).is_err());
        assert!(parse(Args::new([])).is_err());
    }
}
