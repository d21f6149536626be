//! The control socket.

use std::path::Path;

use purlin_tsi::wire::UnixAddr;

use super::guard::{Failure, done};
use super::pointers::CText;
use super::table;
use crate::ControlError;

/// Where the machine can be asked by other processes; see [`crate::control`]. Made at start, after a change of the
/// user.
#[unsafe(no_mangle)]
pub extern "C" fn krun_set_control_socket(ctx_id: u32, c_filepath: CText) -> i32 {
    done(|| {
        let path = c_filepath.required("c_filepath")?;
        check_socket_path(&path)?;
        table::update(ctx_id, |context| context.control_socket = Some(path))
    })
}

/// Whether a unix socket can have this path.
pub(super) fn check_socket_path(path: &str) -> Result<(), Failure> {
    if UnixAddr::new(path.as_bytes()).is_none_or(|name| name.path().is_none()) {
        let text = format!("c_filepath: {} bytes, 1 to 107 are possible", path.len());
        return Err(Failure::invalid(text));
    }
    Ok(())
}

impl From<ControlError> for Failure {
    fn from(e: ControlError) -> Self {
        let errno = match &e {
            ControlError::Socket { source, .. } => source.raw_os_error(),
            ControlError::Ended => None,
        };
        Failure::new(errno.unwrap_or(libc::EINVAL), e.to_string())
    }
}

/// Serves the socket of a machine that is about to start.
pub(super) fn serve(vm: &crate::Vm, path: Option<&str>) -> Result<(), Failure> {
    path.map_or(Ok(()), |path| Ok(vm.serve_control(Path::new(path))?))
}
