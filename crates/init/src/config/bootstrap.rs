//! The words that are read first.

use alloc::ffi::CString;
use alloc::vec::Vec;

use crate::abi::{ENV_CONTROL_FD, ENV_EXEC_FILE, ENV_PORTS, ENV_TRACE};
use crate::env::Environment;
use crate::ports::Role;
use crate::rlimit;

/// What must be known before anything is mounted. Taken out of the environment: none of it is the workload's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    /// Path of the workload file.
    pub exec_file: Option<CString>,
    /// The control channel as an inherited descriptor.
    pub control_fd: Option<i32>,
    /// The ports to wait for.
    pub ports: Vec<Role>,
    /// Whether to tell of every step.
    pub trace: bool,
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
            trace: env.remove(ENV_TRACE).is_some_and(|value| value.as_bytes().starts_with(b"1")),
        }
    }
}
