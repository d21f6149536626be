//! Becoming the workload: descriptors, limits, program.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::sync::atomic::{AtomicI32, Ordering};

use crate::abi::EXIT_SETUP;
use crate::config::Config;
use crate::console::{push_number, say, with_error, with_name};
use crate::errno::Errno;
use crate::file_config::User;
use crate::rlimit::Rlimit;
use crate::search;
use crate::sys::{self, Fd, Pointers, flag};

/// All that is needed to execute the workload, prepared so that doing it allocates nothing unless it fails.
pub struct Launch<'a> {
    files: Vec<CString>,
    command: &'a [CString],
    arguments: Pointers<'a>,
    environment: Pointers<'a>,
    rlimits: &'a [Rlimit],
    user: &'a User,
    stdio: &'a [Option<CString>; 3],
}

/// The workload's process, or why there is none.
pub enum Outcome {
    Started(i32),
    NotRun(NotRun),
    NotSpawned(Errno),
}

/// Why a process did not become the workload; it has said so on the console.
pub enum NotRun {
    User(Errno),
    Execute(Errno),
}

/// What the new process is handed; it leaves its error here, in memory it shares with PID 1.
struct Errand<'a> {
    launch: &'a Launch<'a>,
    user_error: AtomicI32,
    execute_error: AtomicI32,
}

impl<'a> Launch<'a> {
    pub fn new(config: &'a Config, stdio: &'a [Option<CString>; 3]) -> Self {
        let program = config.command.first().map(CString::as_c_str).unwrap_or_default();
        Self {
            files: search::candidates(program, config.env.get("PATH")),
            command: &config.command,
            arguments: Pointers::new(&config.command),
            environment: Pointers::new(config.env.entries()),
            rlimits: &config.rlimits,
            user: &config.user,
            stdio,
        }
    }

    /// Runs the workload in a new process.
    pub fn spawn(&self) -> Outcome {
        let errand = Errand { launch: self, user_error: AtomicI32::new(0), execute_error: AtomicI32::new(0) };
        let pid = sys::spawn_borrowing(child, &errand);
        let error = |place: &AtomicI32| Some(Errno(place.load(Ordering::Relaxed))).filter(|why| why.0 != 0);
        match (pid, error(&errand.user_error), error(&errand.execute_error)) {
            (Err(why), _, _) => Outcome::NotSpawned(why),
            (Ok(_), Some(why), _) => Outcome::NotRun(NotRun::User(why)),
            (Ok(_), None, Some(why)) => Outcome::NotRun(NotRun::Execute(why)),
            (Ok(pid), None, None) => Outcome::Started(pid),
        }
    }

    /// Turns this process into the workload; returns only if that failed.
    ///
    /// The ports are opened before the limits are set, which may forbid that, and put in place after, so that
    /// complaints about limits go to the console.
    pub fn become_workload(&self) -> NotRun {
        let ports = [self.port(0, flag::READ), self.port(1, flag::WRITE), self.port(2, flag::WRITE)];
        for limit in self.rlimits {
            if let Err(why) = sys::set_limit(limit) {
                let mut text = alloc::string::String::from("set resource limit ");
                push_number(&mut text, limit.resource);
                say(&with_error(&text, why));
            }
        }
        for (target, port) in ports.iter().enumerate() {
            if let Some(port) = port {
                let _ = sys::duplicate_to(port, target);
            }
        }
        if let Err(why) = self.become_user() {
            say(&with_error("become the user", why));
            return NotRun::User(why);
        }
        let why = search::run(&self.files, |file| sys::execute(file, &self.arguments, &self.environment));
        let program = self.command.first().map(CString::as_c_str).unwrap_or_default();
        say(&with_error(&with_name("execute", program), why));
        NotRun::Execute(why)
    }

    /// Groups first: after the user is another one, they cannot be changed any more. The standard descriptors go to the
    /// user, so that the workload can open them again by name.
    fn become_user(&self) -> sys::Result<()> {
        if !self.user.is_set() {
            return Ok(());
        }
        if let Some(uid) = self.user.uid {
            for fd in 0..3 {
                let _ = sys::change_owner(fd, uid);
            }
        }
        sys::set_groups(&self.user.groups)?;
        self.user.gid.map_or(Ok(()), sys::set_group)?;
        self.user.uid.map_or(Ok(()), sys::set_user)
    }

    /// Opens the port for descriptor `index`; without one the descriptor stays what it is.
    fn port(&self, index: usize, flags: usize) -> Option<Fd> {
        let node = self.stdio.get(index)?.as_ref()?;
        sys::open(node, flags).ok()
    }
}

extern "C" fn child(errand: *const c_void) -> ! {
    // SAFETY: `spawn` passes an `Errand` that lives until this process has executed a program or ended.
    let errand = unsafe { &*errand.cast::<Errand<'_>>() };
    let (place, why, code) = match errand.launch.become_workload() {
        NotRun::User(why) => (&errand.user_error, why, EXIT_SETUP),
        NotRun::Execute(why) => (&errand.execute_error, why, search::exit_code(why)),
    };
    place.store(why.0, Ordering::Relaxed);
    sys::exit(code)
}
