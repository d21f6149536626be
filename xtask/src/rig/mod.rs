//! `cargo xtask rig`: runs a command inside the emulated machine.

mod machine;
mod mend;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::args::{Arg, Args, unexpected};
use crate::cache::Cache;
use crate::proc::shell_quote;
use crate::setup;

pub use machine::run;

/// Shown by `cargo xtask rig --help`.
pub const HELP: &str = "\
cargo xtask rig [-i] [-t SECONDS] [-c CPUS] [-m MIB] [-o OUTDIR] -- COMMAND...

Runs COMMAND as root inside an emulated x86_64 machine (QEMU TCG with AMD SVM and nested paging) that has a working
/dev/kvm; this machine needs no virtualization. COMMAND sees this machine's whole file system copy-on-write: what it
writes is gone afterwards, except under /run/rig, which is OUTDIR. Its stdin is /dev/null, its output is shown live, its exit
status is passed on. Inside there are eth0 with a default route that leads nowhere, lo, tun, loop, veth and debugfs.

  -i          deterministic clock: each emulated instruction takes 1 ns of the machine's own time whatever else this
              host does, so durations inside are instruction counts and two programs compare within one run. Only CPU
              work repeats: a wait for the shared file system is a jump of any length, so copy what is timed to tmpfs
              (/run, /dev/shm) and read the clock with a shell builtin ($EPOCHREALTIME). One CPU; slower to wait for.
  -t SECONDS  time limit, exit status 124 when it is reached (600)
  -c CPUS     number of CPUs (1). With more, QEMU 7.2 sometimes runs stale code after the kernel has patched itself, and the
              machine dies within minutes of work with VMs; later versions were not tried
  -m MIB      memory (4096)
  -o OUTDIR   what appears under /run/rig (a temporary directory)

Set in COMMAND's environment: PURLIN_RIG=1, PURLIN_FW (libkrunfw), PURLIN_ROOTFS (a busybox root directory),
PURLIN_STOCK (a directory with a stock kernel, vmlinuz and initramfs.cpio).
Exit status 125: the machine itself failed.
";

/// How the machine is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time counts instructions.
    pub deterministic: bool,
    /// After this the machine is ended.
    pub limit: Duration,
    /// Number of CPUs; one if `deterministic`.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The directory seen as `/run/rig`; a temporary one if absent.
    pub out: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { deterministic: false, limit: Duration::from_secs(600), cpus: 1, memory_mib: 4096, out: None }
    }
}

/// Runs the command.
pub fn main(args: Args) -> Result<ExitCode> {
    let (options, command) = parse(args)?;
    let cache = Cache::open()?;
    let machine = setup::machine(&cache)?;
    let guest = setup::guest(&cache)?;
    let code = run(&machine, &options, &job(&guest, &command)?, &mut std::io::stdout())?;
    Ok(ExitCode::from(code))
}

fn parse(mut args: Args) -> Result<(Options, Vec<String>)> {
    let mut options = Options::default();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Positional(first) => return Ok((options, args.command(first)?)),
            Arg::Option(name) => match name.as_str() {
                "-i" => options.deterministic = true,
                "-t" => options.limit = Duration::from_secs(args.number()?.into()),
                "-c" => options.cpus = args.number()?,
                "-m" => options.memory_mib = args.number()?,
                "-o" => options.out = Some(std::path::absolute(args.value()?)?),
                _ => return Err(unexpected(&Arg::Option(name))),
            },
        }
    }
    bail!("no command; usage: cargo xtask rig [OPTIONS] -- COMMAND...")
}

/// The script that runs `command` in this directory with the environment that rig programs are promised.
pub fn job(guest: &setup::Guest, command: &[String]) -> Result<String> {
    let words: Vec<_> = command.iter().map(|word| shell_quote(word)).collect();
    Ok(format!(
        "cd {}\nexport PURLIN_RIG=1 PURLIN_FW={} PURLIN_ROOTFS={} PURLIN_STOCK={}\n{}\n",
        shell_quote(&std::env::current_dir()?.to_string_lossy()),
        shell_quote(&guest.firmware.to_string_lossy()),
        shell_quote(&guest.root.to_string_lossy()),
        shell_quote(&guest.stock.to_string_lossy()),
        words.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn parsed(words: &[&str]) -> Result<(Options, Vec<String>)> {
        parse(Args::new(words.iter().map(OsString::from)))
    }

    #[test]
    fn all_options_and_a_command() {
        let (options, command) =
            parsed(&["-i", "-t", "30", "-c", "1", "-m", "512", "-o", "/out", "--", "ls", "-l"]).unwrap();
        assert!(options.deterministic);
        assert_eq!((options.limit.as_secs(), options.cpus, options.memory_mib), (30, 1, 512));
        assert_eq!(options.out.as_deref(), Some("/out".as_ref()));
        assert_eq!(command, ["ls", "-l"]);
    }

    #[test]
    fn defaults_and_mistakes() {
        let (options, command) = parsed(&["true"]).unwrap();
        assert_eq!((options.deterministic, options.cpus, options.out), (false, 1, None));
        assert_eq!(command, ["true"]);
        for wrong in [&[][..], &["-i"], &["-x", "true"], &["-c", "0", "true"], &["-t"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
