//! Runs a command in a microVM whose root is a directory of the host.
//!
//! `purlin-run [--probe] [--root DIR] [--mem MIB] [--cpus N] [--kernel PATH] [--cmdline WORDS] [--verbose] --
//! COMMAND...`
//!
//! The command's standard streams are this program's; its exit status is the guest's (see the table at
//! `purlin::VmExit`).

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt;
use purlin::{Exec, ExitReason, Kernel, Root, VmConfig};

const USAGE: &str = "\
usage: purlin-run [OPTIONS] -- COMMAND [ARGUMENT...]

Runs COMMAND in a microVM and exits with its status.

  --root DIR       the guest's root file system (default: the current directory)
  --mem MIB        guest memory in MiB (default: 256)
  --cpus N         number of processors (default: 1)
  --kernel PATH    a libkrunfw library (default: found by the dynamic linker)
  --cmdline WORDS  the kernel's own words, in place of the default ones
  --verbose        the guest kernel's messages and, at the end, counters of the machine on standard error
  --probe          only say whether this host can run a stock kernel: 0 if so, else 3 and the reason
";

/// Status of `--probe` on a host that cannot run stock kernels.
const CANNOT_RUN: u8 = 3;
/// Status for errors before the guest runs, as `env(1)` and container tools use it.
const FAILED: u8 = 125;

struct Options {
    probe: bool,
    verbose: bool,
    root: PathBuf,
    mem: u64,
    cpus: u32,
    kernel: Kernel,
    cmdline: Option<String>,
    command: Vec<OsString>,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut o = Options {
        probe: false,
        verbose: false,
        root: PathBuf::from("."),
        mem: 256,
        cpus: 1,
        kernel: Kernel::Libkrunfw,
        cmdline: None,
        command: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("probe") => o.probe = true,
            Long("verbose") => o.verbose = true,
            Long("root") => o.root = parser.value()?.into(),
            Long("mem") => o.mem = parser.value()?.parse()?,
            Long("cpus") => o.cpus = parser.value()?.parse()?,
            Long("cmdline") => o.cmdline = Some(parser.value()?.string()?),
            Long("kernel") => o.kernel = Kernel::Bundle(parser.value()?.into()),
            Short('h') | Long("help") => {
                print!("{USAGE}");
                std::process::exit(0);
            }
            Value(first) => {
                o.command.push(first);
                o.command.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected()),
        }
    }
    if o.command.is_empty() && !o.probe {
        return Err("no COMMAND given".into());
    }
    Ok(o)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(e) => return fail(&format!("{e}\n\n{USAGE}")),
    };
    if options.probe {
        return probe();
    }
    if options.verbose {
        log::set_max_level(log::LevelFilter::Info);
        if log::set_logger(&Stderr).is_err() {
            return fail("a logger is set already");
        }
    }
    match run(options) {
        Ok(status) => ExitCode::from(status),
        Err(e) => fail(&e.to_string()),
    }
}

fn probe() -> ExitCode {
    match purlin::host::probe() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("purlin-run: {reason}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn run(options: Options) -> Result<u8, Box<dyn std::error::Error>> {
    let mut command = options.command.into_iter();
    let exec = Exec::new(command.next().unwrap_or_default())
        .args(command)
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin");
    let config = VmConfig::new()
        .vcpus(options.cpus)
        .memory_mib(options.mem)
        .kernel(options.kernel)
        .root(Root::dir(options.root))
        .exec(exec);
    let vm = match options.cmdline {
        Some(words) => config.cmdline(words),
        None => config,
    };
    let vm = vm.build()?;
    let exit = vm.start()?.wait()?;
    if options.verbose {
        eprintln!("{:#?}", vm.stats());
    }
    if exit.reason != ExitReason::Exited {
        eprintln!("purlin-run: {}", exit.reason);
    }
    Ok(u8::try_from(exit.code & 0xff)?)
}

fn fail(message: &str) -> ExitCode {
    eprintln!("purlin-run: {message}");
    ExitCode::from(FAILED)
}

/// Log records as plain lines.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = writeln!(std::io::stderr(), "[{}] {}\r", record.target(), record.args());
    }

    fn flush(&self) {}
}
