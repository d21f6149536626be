//! `cargo xtask`: the project's developer commands. One file or folder per command; `--help` explains each.

mod apt;
mod args;
mod bench;
mod cache;
mod cargo;
mod deny;
mod dist;
mod fuzz;
mod host;
mod proc;
mod rig;
mod run;
mod setup;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use args::Args;

struct Command {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    main: fn(Args) -> Result<ExitCode>,
}

/// Declares commands of which each is a module with `HELP` and `main`.
macro_rules! commands {
    ($($name:ident $summary:literal,)*) => {
        &[$(Command { name: stringify!($name), summary: $summary, help: $name::HELP, main: $name::main }),*]
    };
}

const COMMANDS: &[Command] = commands! {
    setup "prepare the rig: packages, kernels, a root directory",
    rig "run a command in the rig, an emulated machine with a working KVM",
    run "run a command in a microVM",
    test "run all tests and count them",
    dist "lay the shared library out as libkrun.so.1",
    bench "measure our library beside libkrun",
    fuzz "run the fuzz targets",
    deny "check the dependencies' licences, duplicates and origins",
};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(name) = words.next().filter(|name| !["help", "--help", "-h"].iter().any(|help| name == help))
    else {
        print!("{}", overview());
        return ExitCode::SUCCESS;
    };
    let words: Vec<OsString> = words.collect();
    let Some(command) = COMMANDS.iter().find(|command| name == command.name) else {
        eprint!("xtask: unknown command {}\n\n{}", name.display(), overview());
        return ExitCode::from(2);
    };
    if args::asks_for_help(&words) {
        print!("{}", command.help);
        return ExitCode::SUCCESS;
    }
    (command.main)(Args::new(words)).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn overview() -> String {
    let mut text = String::from("cargo xtask COMMAND [--help]\n\n");
    for command in COMMANDS {
        text += &format!("  {:8} {}\n", command.name, command.summary);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::COMMANDS;

    #[test]
    fn every_help_begins_with_how_to_call_it() {
        for command in COMMANDS {
            assert!(command.help.starts_with(&format!("cargo xtask {}", command.name)), "{}", command.name);
            assert!(command.help.lines().all(|line| line.len() <= 130), "{}", command.name);
        }
    }
}
