//! `cargo xtask`: the project's developer commands. One file or folder per command; `--help` explains each.

mod apt;
mod args;
mod bench;
mod cache;
mod cargo;
mod dist;
mod proc;
mod rig;
mod setup;

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

const COMMANDS: &[Command] = &[
    Command {
        name: "setup",
        summary: "prepare the rig (packages, kernels, cache)",
        help: setup::HELP,
        main: setup::main,
    },
    Command { name: "rig", summary: "run a command in the rig", help: rig::HELP, main: rig::main },
    Command {
        name: "dist",
        summary: "lay the shared library out as libkrun.so.1",
        help: dist::HELP,
        main: dist::main,
    },
    Command {
        name: "bench",
        summary: "measure our library beside libkrun",
        help: bench::HELP,
        main: bench::main,
    },
];

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
