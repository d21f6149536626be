//! What PID 1 is asked to do: its arguments, its environment and the workload file, made into one value.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::abi::{ENV_CONTROL_FD, ENV_EXEC_FILE, ENV_PORTS};
use crate::env::Environment;
use crate::ports::Role;
use crate::rlimit::{self, Rlimit};
use crate::workload::Workload;

const ENV_PROGRAM: &str = "KRUN_INIT";
const ENV_WORKDIR: &str = "KRUN_WORKDIR";
const ENV_RLIMITS: &str = "KRUN_RLIMITS";
const ENV_PID1: &str = "KRUN_INIT_PID1";
const DEFAULT_PROGRAM: &CStr = c"/bin/sh";
const DEFAULT_HOSTNAME: &CStr = c"localhost";

/// What must be known before anything is mounted. Taken out of the environment: none of it is the workload's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// Path of the workload file.
    pub exec_file: Option<CString>,
    /// The control channel as an inherited descriptor.
    pub control_fd: Option<i32>,
    /// The ports to wait for.
    pub ports: Vec<Role>,
}

impl Bootstrap {
    /// Takes the words out of `env`. A descriptor that is not a number from 3 is ignored, and so are
    /// names of ports that have no role.
    pub fn take(env: &mut Environment) -> Self {
        let descriptor = |text: CString| {
            let number = rlimit::number(text.as_bytes())?;
            i32::try_from(number).ok().filter(|&fd| fd >= 3)
        };
        Self {
            exec_file: env.remove(ENV_EXEC_FILE),
            control_fd: env.remove(ENV_CONTROL_FD).and_then(descriptor),
            ports: env.remove(ENV_PORTS).map_or_else(Vec::new, |names| {
                names.as_bytes().split(|&byte| byte == b',').filter_map(Role::of).collect()
            }),
        }
    }
}

/// What was asked for but not understood; none of it stops the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A resource limit that is not one.
    Rlimit(Vec<u8>),
    /// An environment entry without a name.
    EnvironmentEntry(Vec<u8>),
}

/// What to set up and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The command, program first; never empty.
    pub command: Vec<CString>,
    /// The workload's environment.
    pub env: Environment,
    /// The workload's working directory, if not `/`.
    pub workdir: Option<CString>,
    /// The workload's resource limits, in the order they are set.
    pub rlimits: Vec<Rlimit>,
    /// The machine's name.
    pub hostname: CString,
    /// Whether the workload takes PID 1's place, so that nobody reaps, stops or reports.
    pub pid1: bool,
}

impl Config {
    /// `args` are PID 1's own without its name, `env` its environment after [`Bootstrap::take`].
    ///
    /// The workload file stands for what the kernel command line could not carry, so it replaces program, arguments,
    /// working directory and limits, and its environment entries count as words of the command line.
    pub fn new(args: Vec<CString>, mut env: Environment, file: Option<Workload>) -> (Self, Vec<Warning>) {
        let mut warnings = Vec::new();
        let request = match file {
            None => Request::from_environment(args, &env),
            Some(file) => Request::from_file(file, &mut env, &mut warnings),
        };
        if let Some(home) = env.get("KRUN_HOME").map(CString::from) {
            env.set_value("HOME", &home);
        }
        if let Some(term) = env.get("KRUN_TERM").map(CString::from) {
            env.set_value("TERM", &term);
        }
        let mut rlimits = Vec::new();
        for item in request.rlimits {
            match Rlimit::parse(&item) {
                Some(limit) => rlimits.push(limit),
                None => warnings.push(Warning::Rlimit(item)),
            }
        }
        let config = Self {
            command: command(request.program, request.args),
            workdir: request.workdir.filter(|path| !path.is_empty()),
            rlimits,
            hostname: env.get("HOSTNAME").unwrap_or(DEFAULT_HOSTNAME).into(),
            pid1: env.get(ENV_PID1).is_some_and(|value| value.to_bytes().starts_with(b"1")),
            env,
        };
        (config, warnings)
    }
}

/// The same request from either source, before it is interpreted.
struct Request {
    program: Option<CString>,
    args: Vec<CString>,
    workdir: Option<CString>,
    rlimits: Vec<Vec<u8>>,
}

impl Request {
    fn from_environment(args: Vec<CString>, env: &Environment) -> Self {
        let rlimits = env.get(ENV_RLIMITS).map_or(&[][..], CStr::to_bytes);
        Self {
            program: env.get(ENV_PROGRAM).map(CString::from),
            args,
            workdir: env.get(ENV_WORKDIR).map(CString::from),
            rlimits: rlimit::items(rlimits).map(<[u8]>::to_vec).collect(),
        }
    }

    fn from_file(file: Workload, env: &mut Environment, warnings: &mut Vec<Warning>) -> Self {
        for entry in strings(file.env) {
            if let Err(entry) = env.set(entry) {
                warnings.push(Warning::EnvironmentEntry(entry.into_bytes()));
            }
        }
        Self {
            program: file.program.and_then(|program| CString::new(program).ok()),
            args: strings(file.args),
            workdir: file.workdir.and_then(|path| CString::new(path).ok()),
            rlimits: file.rlimits,
        }
    }
}

/// The workload decoder has already refused NUL bytes.
fn strings(items: Vec<Vec<u8>>) -> Vec<CString> {
    items.into_iter().filter_map(|item| CString::new(item).ok()).collect()
}

/// The program with the arguments, else the arguments alone, else a shell.
fn command(program: Option<CString>, mut args: Vec<CString>) -> Vec<CString> {
    if let Some(program) = program.filter(|program| !program.is_empty()) {
        args.insert(0, program);
    } else if args.is_empty() {
        args.push(DEFAULT_PROGRAM.into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    fn strings(items: &[&str]) -> Vec<CString> {
        items.iter().map(|item| CString::new(*item).unwrap()).collect()
    }

    fn environment(entries: &[&str]) -> Environment {
        let mut env = Environment::new();
        for entry in strings(entries) {
            env.set(entry).unwrap();
        }
        env
    }

    fn config(args: &[&str], env: &[&str]) -> Config {
        let (config, warnings) = Config::new(strings(args), environment(env), None);
        assert_eq!(warnings, []);
        config
    }

    #[test]
    fn the_command() {
        let table: [(&[&str], &[&str], &[&str]); 5] = [
            (&["KRUN_INIT=/bin/ls"], &["-l", ""], &["/bin/ls", "-l", ""]),
            (&["KRUN_INIT=ls"], &[], &["ls"]),
            (&[], &["ls", "-l"], &["ls", "-l"]),
            (&[], &[], &["/bin/sh"]),
            (&["KRUN_INIT="], &[], &["/bin/sh"]),
        ];
        for (env, args, expected) in table {
            assert_eq!(config(args, env).command, strings(expected), "{env:?} {args:?}");
        }
    }

    #[test]
    fn the_environment_is_handed_on_with_home_and_term() {
        let config = config(&[], &["HOME=/", "TERM=linux", "KRUN_HOME=/root", "KRUN_TERM=xterm", "A=b c"]);
        let expected = ["HOME=/root", "TERM=xterm", "KRUN_HOME=/root", "KRUN_TERM=xterm", "A=b c"];
        assert_eq!(config.env.entries(), strings(&expected));
    }

    #[test]
    fn the_rest() {
        let plain = config(&[], &[]);
        assert_eq!((plain.hostname.as_c_str(), plain.workdir, plain.pid1), (c"localhost", None, false));
        let full = config(&[], &["HOSTNAME=vm", "KRUN_WORKDIR=/tmp", "KRUN_INIT_PID1=1x"]);
        assert_eq!(
            (full.hostname, full.workdir, full.pid1),
            (c"vm".to_owned(), Some(c"/tmp".to_owned()), true)
        );
        assert!(!config(&[], &["KRUN_INIT_PID1=01"]).pid1);
        assert_eq!(config(&[], &["KRUN_WORKDIR="]).workdir, None);
    }

    #[test]
    fn limits_that_are_not_understood_are_named() {
        let env = environment(&["KRUN_RLIMITS=7=1:2,nofile=3,6=4:4"]);
        let (config, warnings) = Config::new(Vec::new(), env, None);
        assert_eq!(
            config.rlimits,
            [Rlimit { resource: 7, soft: 1, hard: 2 }, Rlimit { resource: 6, soft: 4, hard: 4 }]
        );
        assert_eq!(warnings, [Warning::Rlimit(b"nofile=3".to_vec())]);
    }

    #[test]
    fn bootstrap_words_leave_the_environment() {
        let mut env =
            environment(&["PURLIN_EXEC_FILE=/f", "A=1", "PURLIN_CONTROL_FD=5", "PURLIN_PORTS=krun-stdout,x"]);
        let bootstrap = Bootstrap::take(&mut env);
        assert_eq!(
            bootstrap,
            Bootstrap {
                exec_file: Some(c"/f".to_owned()),
                control_fd: Some(5),
                ports: Vec::from([Role::Stdio(1)])
            }
        );
        assert_eq!(env, environment(&["A=1"]));
        for text in ["2", "-1", "x", "", "4294967299"] {
            let mut env = Environment::new();
            env.set_value(ENV_CONTROL_FD, &CString::new(text).unwrap());
            assert_eq!(Bootstrap::take(&mut env), Bootstrap::default(), "{text}");
            assert!(env.entries().is_empty());
        }
    }

    #[test]
    fn the_workload_file_replaces_the_command_line() {
        let boot = environment(&["HOME=/", "KRUN_INIT=/no", "KRUN_WORKDIR=/no", "KRUN_RLIMITS=7=9:9", "A=1"]);
        let file = Workload {
            program: Some(b"/bin/e".to_vec()),
            args: Vec::from([Vec::new(), b"\xff\n".to_vec()]),
            env: Vec::from([b"A=2".to_vec(), b"KRUN_HOME=/h".to_vec(), b"nothing".to_vec()]),
            workdir: None,
            rlimits: Vec::from([b"6=1:1".to_vec()]),
        };
        let (config, warnings) = Config::new(strings(&["ignored"]), boot, Some(file));
        assert_eq!(
            config.command,
            [c"/bin/e".to_owned(), c"".to_owned(), CString::new(b"\xff\n".to_vec()).unwrap()]
        );
        assert_eq!(config.env.get("A"), Some(c"2"));
        assert_eq!(config.env.get("HOME"), Some(c"/h"));
        assert_eq!(config.workdir, None);
        assert_eq!(config.rlimits, [Rlimit { resource: 6, soft: 1, hard: 1 }]);
        assert_eq!(warnings, [Warning::EnvironmentEntry(b"nothing".to_vec())]);
    }

    #[test]
    fn an_empty_workload_file_means_a_shell() {
        let boot = environment(&["KRUN_INIT=/no"]);
        let (config, _) = Config::new(strings(&["ignored"]), boot, Some(Workload::default()));
        assert_eq!(config.command, strings(&["/bin/sh"]));
    }
}
