//! The control socket: asking a running machine from another process.
//!
//! [`Vm::serve_control`](crate::Vm::serve_control), or `krun_set_control_socket` in C, makes a unix stream socket
//! that only its owner can open. The file is removed when the machine ends.
//!
//! ```no_run
//! let vm = purlin::VmConfig::new().root(purlin::Root::dir("rootfs")).build()?;
//! vm.serve_control("/run/user/1000/vm.sock")?;
//! vm.start()?.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The protocol, version 1
//!
//! Both sides send lines of UTF-8 JSON, one object each. The server speaks first:
//!
//! ```text
//! {"v":1,"event":"hello","data":{"version":"0.1.0","calls":["kill","pause",...],"max_line":4096}}
//! ```
//!
//! A request names a call. `id` is sent back with the answer: null, a whole number, or a text of at most 64 bytes.
//! `args` may be left out.
//!
//! ```text
//! {"v":1,"id":7,"call":"stop","args":{"grace_ms":5000}}
//! ```
//!
//! The answer has `ok`, an object, or `error`. Requests may be sent before earlier ones are answered, and are
//! answered as they are done.
//!
//! ```text
//! {"v":1,"id":7,"ok":{}}
//! {"v":1,"id":7,"error":{"code":"ended","text":"the virtual machine has ended"}}
//! ```
//!
//! | call | what it does | `ok` |
//! |---|---|---|
//! | `status` | looks | `state` (`created`, `running`, `paused`, `ended`), `vcpus`, `memory_mib`, `pid` of the server, `end` (as below) or null |
//! | `stats` | looks ([`VmStats`](crate::VmStats)) | `uptime_us`, `vcpu_us` (CPU time of all vCPUs), `vcpu_exits` (a number for each), `devices` (each with `type`, `id`, and bytes `to_guest` and `from_guest`), `boot` (each part with `name` and `us`) |
//! | `stop` | [`Vm::stop`](crate::Vm::stop); `grace_ms` (10000) at most a day | `{}`, at once |
//! | `ctrl_alt_del` | [`Vm::send_ctrl_alt_del`](crate::Vm::send_ctrl_alt_del) | `{}`, at once |
//! | `kill` | [`Vm::kill`](crate::Vm::kill) | `{}`, at once |
//! | `pause` | [`Vm::pause`](crate::Vm::pause) | `{}`, when the guest is at rest |
//! | `resume` | [`Vm::resume`](crate::Vm::resume) | `{}`, when it runs |
//!
//! When the machine ends, every client is told how ([`VmExit`](crate::VmExit)) and the connection is closed:
//!
//! ```text
//! {"v":1,"event":"ended","data":{"code":0,"reason":"exited","text":"the workload ended"}}
//! ```
//!
//! Reasons: `exited`, `stopped`, `stop_timed_out`, `setup_failed`, `reset`, `powered_off`, `halted`, `triple_fault`,
//! `failed`, `killed`.
//!
//! Error codes: `bad_request` (no JSON, a field that is missing, unknown or of the wrong kind), `too_long`,
//! `unsupported_version`, `unknown_call`, `bad_argument`, `not_started`, `ended`, `failed` (the text says why),
//! `too_many_clients` (and the connection is closed). The connection goes on after any other.
//!
//! A client takes unknown events and unknown fields of answers for nothing; further ones, and further calls, do not
//! change the version. The server refuses unknown fields, because they may mean something.
//!
//! # Bounds
//!
//! A line has at most [`MAX_LINE`] bytes, there are at most [`MAX_CLIENTS`] clients, and one that does not take its
//! answers, or has several requests under way, is not listened to meanwhile.
//!
//! `purlin-ctl` in the examples is a client. So is, without one:
//!
//! ```console
//! $ echo '{"v":1,"call":"status"}' | nc -U /run/vm.sock
//! ```

mod connection;
#[cfg(any(test, feature = "test-utils"))]
pub(crate) mod fuzz;
mod lines;
mod reply;
mod request;
mod server;
mod socket;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use crate::vm::{Remote, VmExit};
use server::Server;

/// The version of the protocol.
pub const VERSION: u64 = 1;
/// Bytes of a line from a client, without its end.
pub const MAX_LINE: usize = 4096;
/// Clients at a time.
pub const MAX_CLIENTS: usize = 16;

/// A control socket cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The socket, or what serves it, cannot be made.
    #[error("control socket {path:?}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// `AddrInUse` if there is a file: remove it if nobody needs it.
        source: io::Error,
    },
    /// The machine is over.
    #[error("control socket: the virtual machine has ended")]
    Ended,
}

/// All control sockets of a machine; none any more once it is over.
pub(crate) struct Servers(Mutex<Option<Vec<Server>>>);

impl Default for Servers {
    fn default() -> Self {
        Servers(Mutex::new(Some(Vec::new())))
    }
}

impl Servers {
    pub fn add(&self, path: &Path, remote: Remote) -> Result<(), ControlError> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let list = list.as_mut().ok_or(ControlError::Ended)?;
        let refused = |source| ControlError::Socket { path: path.to_owned(), source };
        list.push(Server::start(path, remote).map_err(refused)?);
        Ok(())
    }

    /// Tells all clients how the machine ended, if it ran, and removes the sockets.
    pub fn finish(&self, exit: Option<&VmExit>) {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        list.into_iter().flatten().for_each(|server| server.finish(exit.cloned()));
    }
}
