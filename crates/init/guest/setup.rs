//! Carries out the steps of a plan.

use alloc::string::String;
use core::ffi::CStr;

use crate::cmdline;
use crate::console::{say, with_error, with_name};
use crate::control::Stage;
use crate::errno::Errno;
use crate::netlink;
use crate::plan::{
    Action, HIJACK_ADDRESS, HIJACK_INTERFACE, HIJACK_PREFIX, HIJACK_WORD, Mount, OnError, Step,
};
use crate::sys::{self, Result};

/// Longest kernel command line, bytes.
const MAX_CMDLINE: usize = 64 << 10;

/// Why the workload cannot run.
pub struct Failure {
    pub stage: Stage,
    pub errno: Option<Errno>,
    pub message: String,
}

/// Carries out steps until one fails that must not.
pub fn perform_all(steps: &[Step]) -> core::result::Result<(), Failure> {
    for step in steps {
        let Err(why) = perform(&step.action) else { continue };
        match step.on_error {
            OnError::Fatal => {
                return Err(Failure { stage: step.stage, errno: Some(why), message: describe(&step.action) });
            }
            OnError::Ignore => {}
            OnError::WarnExcept(expected) if expected == why => {}
            OnError::Warn | OnError::WarnExcept(_) => say(&with_error(&describe(&step.action), why)),
        }
    }
    Ok(())
}

fn perform(action: &Action) -> Result<()> {
    match action {
        Action::Mount(mount) => perform_mount(mount),
        Action::ChangeMode(path, mode) => sys::change_mode(path, *mode),
        Action::Symlink { target, link } => tolerate(Errno::EXIST, sys::symlink(target, link)),
        Action::ShareMounts => sys::share_mounts(),
        Action::NewSession => sys::new_session(),
        Action::LinkUp(interface) => sys::link_up(&sys::route_socket()?, interface),
        Action::HijackInterface => hijack_interface(),
        Action::SetHostname(name) => sys::set_hostname(name.to_bytes()),
        Action::ChangeDirectory(path) => sys::change_directory(path),
    }
}

/// Tries the mount before it makes the directory, unless that is known to be missing: asking a file system on the host
/// for a directory that is there anyway costs a round trip.
fn perform_mount(mount: &Mount) -> Result<()> {
    if mount.fresh {
        make_directory(mount.target)?;
    }
    let mut result = sys::mount(mount.kind, mount.target, mount.flags);
    if result == Err(Errno::NOENT) && !mount.fresh {
        make_directory(mount.target)?;
        result = sys::mount(mount.kind, mount.target, mount.flags);
    }
    tolerate(Errno::BUSY, result)
}

fn make_directory(path: &CStr) -> Result<()> {
    tolerate(Errno::EXIST, sys::make_directory(path, 0o755))
}

fn hijack_interface() -> Result<()> {
    let line = sys::read_file(c"/proc/cmdline", MAX_CMDLINE)?;
    if !cmdline::has_word(&line, HIJACK_WORD.as_bytes()) {
        return Ok(());
    }
    let socket = sys::route_socket()?;
    let index = sys::interface_index(&socket, HIJACK_INTERFACE)?;
    sys::link_up(&socket, HIJACK_INTERFACE)?;
    let request = netlink::new_address(index, HIJACK_ADDRESS, HIJACK_PREFIX);
    let mut answer = [0; 256];
    netlink::result(sys::netlink_exchange(&socket, &request, &mut answer)?)
}

fn tolerate(expected: Errno, result: Result<()>) -> Result<()> {
    if result == Err(expected) { Ok(()) } else { result }
}

fn describe(action: &Action) -> String {
    match action {
        Action::Mount(mount) => with_name("mount", mount.target),
        Action::ChangeMode(path, _) => with_name("change the mode of", path),
        Action::Symlink { link, .. } => with_name("make the link", link),
        Action::ShareMounts => String::from("share the mounts"),
        Action::NewSession => String::from("start a session"),
        Action::LinkUp(interface) => {
            let mut text = String::from("bring up ");
            text.push_str(interface);
            text
        }
        Action::HijackInterface => String::from("set up dummy0"),
        Action::SetHostname(_) => String::from("set the hostname"),
        Action::ChangeDirectory(path) => with_name("change to the working directory", path),
    }
}
