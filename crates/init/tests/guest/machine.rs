//! A stand-in for a machine: namespaces, a root directory, and the other end of the control channel.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::Duration;

use purlin_init::abi;
use purlin_init::control::{Decoder, Event, Request};
use purlin_init::workload::Workload;
use tempfile::TempDir;

/// Long enough for the slowest step on a loaded machine, short enough that a hang is noticed.
const PATIENCE: Duration = Duration::from_secs(30);
const APPLETS: [&str; 16] = [
    "sh", "cat", "echo", "env", "grep", "hostname", "id", "ip", "kill", "ls", "printf", "pwd", "readlink",
    "setsid", "sleep", "stat",
];
const NAMESPACES: [&str; 6] = ["--pid", "--mount", "--net", "--uts", "--ipc", "--fork"];

/// The guest opens `/dev/kvm` to everyone, and a device file is the same in all namespaces.
const SHARED_NODE: &str = "/dev/kvm";
static MODE_BEFORE: LazyLock<Option<fs::Permissions>> =
    LazyLock::new(|| fs::metadata(SHARED_NODE).ok().map(|metadata| metadata.permissions()));

pub struct Machine {
    root: TempDir,
    args: Vec<Vec<u8>>,
    env: Vec<(String, String)>,
    input: &'static str,
    stdio: bool,
    prelude: String,
}

/// What is left of a machine.
pub struct Outcome {
    pub events: Vec<Event>,
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
}

pub struct Running {
    child: Child,
    host: UnixStream,
    decoder: Decoder,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Machine {
    /// A machine that is off, or `None` with a line that says why this host cannot be one.
    pub fn new() -> Option<Self> {
        if !Path::new("/bin/busybox").exists() {
            eprintln!("skipped: no /bin/busybox");
            return None;
        }
        let probe =
            Command::new("unshare").args(NAMESPACES).args(["chroot", "/", "/bin/busybox", "true"]).output();
        if !probe.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: cannot make namespaces, which takes root and unshare");
            return None;
        }
        LazyLock::force(&MODE_BEFORE);
        let root = tempfile::tempdir().unwrap();
        let machine =
            Self { root, args: Vec::new(), env: Vec::new(), input: "", stdio: true, prelude: "true".into() };
        machine.put("init.krun", purlin_init::binary(), 0o755);
        Self::populate(machine.root.path());
        Some(machine)
    }

    /// Puts programs into a root directory.
    pub fn populate(root: &Path) {
        let bin = root.join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
    }

    /// A machine that runs a shell script.
    pub fn shell(script: &str) -> Option<Self> {
        Some(Self::new()?.env("KRUN_INIT", "/bin/sh").args(["-c", script]))
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    pub fn put(&self, name: &str, content: &[u8], mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.as_bytes().to_vec()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn input(mut self, text: &'static str) -> Self {
        self.input = text;
        self
    }

    /// Shell commands that run before PID 1, in its namespaces; `$0` is the root directory.
    pub fn prelude(mut self, commands: impl Into<String>) -> Self {
        self.prelude = commands.into();
        self
    }

    /// Starts the machine with descriptors 0 to 2 closed, as a kernel without console does.
    pub fn without_stdio(mut self) -> Self {
        self.stdio = false;
        self
    }

    pub fn workload(self, workload: &Workload) -> Self {
        self.put(&abi::EXEC_FILE_PATH[1..], &workload.encode().unwrap(), 0o400);
        self.env(abi::ENV_EXEC_FILE, abi::EXEC_FILE_PATH)
    }

    /// Runs the machine with one more word in its environment.
    pub fn run_with(&mut self, name: &str, value: &str) -> Outcome {
        self.env.push((name.into(), value.into()));
        let outcome = self.run();
        self.env.pop();
        outcome
    }

    pub fn start(&self) -> Running {
        let (host, guest) = UnixStream::pair().unwrap();
        host.set_read_timeout(Some(PATIENCE)).unwrap();
        let fd = guest.as_raw_fd();

        // A root must be a mount point for its mounts to be shared, and the shell must not add to the environment.
        let redirections = if self.stdio { "" } else { "0<&- 1>&- 2>&-" };
        let prelude = &self.prelude;
        let script = format!(
            "mount --bind \"$0\" \"$0\" && {prelude} && exec /bin/busybox env -i \"$@\" {redirections}"
        );
        let mut command = Command::new("unshare");
        command.args(NAMESPACES).args(["/bin/sh", "-c", &script]).arg(self.root.path());
        command.arg(format!("{}={fd}", abi::ENV_CONTROL_FD));
        command.args(self.env.iter().map(|(name, value)| format!("{name}={value}")));
        command.args(["/bin/busybox", "chroot"]).arg(self.root.path()).arg(abi::INIT_PATH);
        command.args(self.args.iter().map(|arg| OsStr::from_bytes(arg)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let prepare = move || {
            // SAFETY: no pointers; descriptors of the process to be are marked, nothing is closed here.
            let hidden =
                unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
            // SAFETY: no pointers; the descriptor is the guest's end of the pair, which outlives the call.
            let shown = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
            if hidden < 0 || shown < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: the closure makes two system calls, which is allowed between fork and exec.
        unsafe { command.pre_exec(prepare) };
        let mut child = command.spawn().unwrap();
        drop(guest);
        child.stdin.take().unwrap().write_all(self.input.as_bytes()).unwrap();
        let (stdout, stderr) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
        Running { child, host, decoder: Decoder::new(), stdout, stderr }
    }

    pub fn run(&self) -> Outcome {
        self.start().wait()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mode) = &*MODE_BEFORE {
            let _ = fs::set_permissions(SHARED_NODE, mode.clone());
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Running {
    /// A process that is in the machine's namespaces.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&mut self, request: Request) {
        self.send_bytes(&request.encode());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).unwrap();
    }

    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.host.write_all(bytes)
    }

    /// The next event; `None` at the end of the stream.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            let mut byte = [0];
            // One byte at a time: nothing read ahead has to be kept.
            if self.host.read(&mut byte).expect("the guest is silent") == 0 {
                return None;
            }
            if let Some(frame) = self.decoder.next(&mut &byte[..]) {
                return Some(Event::decode(frame).expect("an event"));
            }
        }
    }

    /// Reads events until the workload runs.
    pub fn until_started(&mut self) {
        while !matches!(self.event().expect("the workload did not start"), Event::Started { .. }) {}
    }

    /// Reads events to the end, and waits for the machine to restart.
    pub fn wait(mut self) -> Outcome {
        let mut events = Vec::new();
        while let Some(event) = self.event() {
            events.push(event);
        }
        let status = self.child.wait().unwrap();
        Outcome { events, stdout: self.stdout.join().unwrap(), stderr: self.stderr.join().unwrap(), status }
    }

    /// The host goes away, without a word.
    pub fn hang_up(mut self) -> ExitStatus {
        drop(self.host);
        let _ = (self.stdout, self.stderr);
        self.child.wait().unwrap()
    }
}

impl Outcome {
    /// The exit code reported last, after checking that the machine was restarted: in a PID namespace that ends PID 1
    /// with SIGHUP (reboot(2)).
    #[track_caller]
    pub fn code(&self) -> i32 {
        assert!(restarted(self.status), "{:?} {} {}", self.status, self.stdout, self.stderr);
        match self.events.last() {
            Some(Event::Exited { code }) => *code,
            other => panic!("the last event is {other:?}: {}", self.stderr),
        }
    }

    /// Standard output of a workload that has ended well.
    #[track_caller]
    pub fn output(&self) -> &str {
        assert_eq!(self.code(), 0, "{}", self.stderr);
        &self.stdout
    }
}

pub fn restarted(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGHUP)
}

/// A file that can be found in a machine's root after the fact.
pub fn read(path: impl AsRef<Path>) -> String {
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}
