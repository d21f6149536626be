//! The user the machine runs as.

use std::io;

use super::guard::{Failure, done};
use super::table;

/// Remembers a user for `krun_start_enter`.
#[unsafe(no_mangle)]
pub extern "C" fn krun_setuid(ctx_id: u32, uid: libc::uid_t) -> i32 {
    done(|| table::update(ctx_id, |context| context.user.uid = Some(uid)))
}

/// Remembers a group for `krun_start_enter`.
#[unsafe(no_mangle)]
pub extern "C" fn krun_setgid(ctx_id: u32, gid: libc::gid_t) -> i32 {
    done(|| table::update(ctx_id, |context| context.user.gid = Some(gid)))
}

/// Who to become; nobody else if not set.
#[derive(Debug, Default)]
pub(super) struct User {
    pub uid: Option<libc::uid_t>,
    pub gid: Option<libc::gid_t>,
}

impl User {
    /// Changes the whole process, the group first: afterwards the user may not be allowed to.
    pub fn become_it(&self) -> Result<(), Failure> {
        if let Some(gid) = self.gid {
            // SAFETY: takes a number and touches no memory; glibc changes all threads.
            check("setgid", unsafe { libc::setgid(gid) })?;
        }
        if let Some(uid) = self.uid {
            // SAFETY: as above.
            check("setuid", unsafe { libc::setuid(uid) })?;
        }
        Ok(())
    }
}

fn check(what: &str, result: i32) -> Result<(), Failure> {
    if result == 0 { Ok(()) } else { Err(Failure::host(what, &io::Error::last_os_error())) }
}
