//! Carries out the steps of a plan.

use alloc::string::String;
use core::ffi::CStr;

use crate::console::{is_tracing, say, trace, with_error, with_name, with_text};
use crate::control::Stage;
use crate::errno::Errno;
use crate::files::{self, make_path, tolerate};
use crate::interfaces;
use crate::plan::{Action, Mount, OnError, Step};
use crate::storage;
use crate::sys::{self, Result};

/// Why the workload cannot run.
pub struct Failure {
    pub stage: Stage,
    pub errno: Option<Errno>,
    pub message: String,
}

/// Carries out steps until one fails that must not.
pub fn perform_all(steps: &[Step]) -> core::result::Result<(), Failure> {
    for step in steps {
        let Err(why) = perform(&step.action) else {
            if is_tracing() {
                trace(&describe(&step.action));
            }
            continue;
        };
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
        Action::MountRequest(request) => storage::mount(request),
        Action::MountTmpfs(places) => storage::mount_tmpfs(places),
        Action::SwitchRoot(place) => storage::switch_root(place),
        Action::ChangeMode(path, mode) => sys::change_mode(path, *mode),
        Action::Symlink { target, link } => tolerate(Errno::EXIST, sys::symlink(target, link)),
        Action::ShareMounts => sys::share_mounts(),
        Action::NewSession => sys::new_session(),
        Action::DisableCtrlAltDel => sys::disable_ctrl_alt_del(),
        Action::LinkUp(interface) => interfaces::link_up(interface),
        Action::HijackInterface => interfaces::hijack(),
        Action::SetMtu(interface, mtu) => interfaces::set_mtu(interface, *mtu),
        Action::AddAddress { interface, address, prefix } => {
            interfaces::add_address(interface, *address, *prefix)
        }
        Action::AddRouter { interface, router, onlink } => {
            interfaces::add_router(interface, *router, *onlink)
        }
        Action::WriteResolver(content) => {
            make_path(c"/etc").and_then(|()| files::replace(interfaces::RESOLVER, content))
        }
        Action::InstallCa(install) => files::install_ca(install),
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

fn describe(action: &Action) -> String {
    match action {
        Action::Mount(mount) => with_name("mount", mount.target),
        Action::ChangeMode(path, _) => with_name("change the mode of", path),
        Action::Symlink { link, .. } => with_name("make the link", link),
        Action::MountRequest(request) => with_name(&with_name("mount", &request.source), &request.target),
        Action::MountTmpfs(_) => String::from("mount a tmpfs"),
        Action::SwitchRoot(place) => with_name("make the root", place),
        Action::ShareMounts => String::from("share the mounts"),
        Action::NewSession => String::from("start a session"),
        Action::DisableCtrlAltDel => String::from("let Ctrl-Alt-Del be a signal"),
        Action::LinkUp(interface) => with_text("bring up", interface),
        Action::SetMtu(interface, _) => with_text("set the largest packet of", interface),
        Action::AddAddress { interface, .. } => with_text("set an address of", interface),
        Action::AddRouter { interface, .. } => with_text("set the router of", interface),
        Action::WriteResolver(_) => with_name("write", interfaces::RESOLVER),
        Action::InstallCa(install) => with_name("install the certificate", &install.source),
        Action::HijackInterface => String::from("set up dummy0"),
        Action::SetHostname(_) => String::from("set the hostname"),
        Action::ChangeDirectory(path) => with_name("change to the working directory", path),
    }
}
