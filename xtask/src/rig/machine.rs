//! The QEMU process: its command line, its streams and how it ends.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::proc::{say, tail};
use crate::setup::Machine;

use super::{Options, mend};

/// The script that the machine runs, under the output directory.
const JOB: &str = ".job";
/// The job's exit status, which the machine writes there.
const STATUS: &str = ".status";
/// The machine makes this file right before it runs the job.
const STARTED: &str = ".started";
/// What the machine's kernel says.
const CONSOLE: &str = ".console";
/// QEMU writes its process number there before the machine starts.
const PID: &str = ".pid";

/// The functions left out at boot check certificates, random numbers and BPF types: half of the instructions of a boot,
/// for nothing that the rig uses. Without the timer check: on a busy host the emulated timer may miss its moment. For the same reason
/// the TSC is not judged by another clock.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 reboot=t panic=-1 quiet loglevel=4 no_timer_check tsc=reliable cryptomgr.notests \
    initcall_blacklist=load_system_certificate_list,jent_mod_init,bpf_dummy_struct_ops_init,bpf_tcp_ca_kfunc_init";

/// Emulation of several CPUs has races, and a boot may die or hang of one. It is tried so often, as long as the job has
/// not begun.
const ATTEMPTS: u32 = 3;
/// After so long a boot hangs.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// How often it is looked whether QEMU has begun.
const PID_STEP: Duration = Duration::from_millis(50);

/// As `timeout` reports that time is up.
const TIMED_OUT: u8 = 124;
const MACHINE_FAILED: u8 = 125;

/// Runs the bash script `job` in the machine and returns its exit status. Its stdout is written to `stdout` and its
/// stderr to ours, as it comes.
pub fn run(machine: &Machine, options: &Options, job: &str, stdout: &mut dyn Write) -> Result<u8> {
    let temporary;
    let out = match &options.out {
        Some(out) => out.as_path(),
        None => {
            temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
            temporary.path()
        }
    };
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    fs::write(out.join(JOB), job)?;
    let mut ended = emulate(machine, options, out, stdout)?;
    for attempt in 2..=ATTEMPTS {
        if out.join(STARTED).exists() || is_time_up(ended) {
            break;
        }
        say(format_args!("the rig's machine did not boot; attempt {attempt} of {ATTEMPTS}"));
        ended = emulate(machine, options, out, stdout)?;
    }
    let status = fs::read_to_string(out.join(STATUS)).ok().and_then(|text| text.trim().parse().ok());
    let code = status.unwrap_or_else(|| explain(ended, options, out));
    for name in [JOB, STARTED, STATUS, CONSOLE, PID] {
        remove_file(&out.join(name))?;
    }
    Ok(code)
}

/// Whether `timeout` ended QEMU.
fn is_time_up(ended: ExitStatus) -> bool {
    ended.code() == Some(TIMED_OUT.into())
}

/// Says why there is no exit status, and returns one of ours.
fn explain(ended: ExitStatus, options: &Options, out: &Path) -> u8 {
    if is_time_up(ended) {
        say(format_args!("the time limit of {} s is over", options.limit.as_secs()));
        return TIMED_OUT;
    }
    let console = fs::read(out.join(CONSOLE)).unwrap_or_default();
    say(format_args!("the rig's machine failed: QEMU {ended}; its console ends with"));
    say(tail(&String::from_utf8_lossy(&console), 20));
    MACHINE_FAILED
}

/// Boots the machine once and waits for its end.
fn emulate(machine: &Machine, options: &Options, out: &Path, stdout: &mut dyn Write) -> Result<ExitStatus> {
    for name in [STARTED, STATUS, PID] {
        remove_file(&out.join(name))?;
    }
    // `timeout` rather than a clock here, so that the limit holds even if this process is killed.
    let mut qemu = Command::new("timeout")
        .args(["--foreground", "--kill-after=5"])
        .arg(options.limit.as_secs().to_string())
        .arg("qemu-system-x86_64")
        .args(arguments(machine, options, out))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `timeout` (Debian: coreutils)")?;
    let from_stdout = qemu.stdout.take().context("QEMU has no stdout")?;
    let from_stderr = qemu.stderr.take().context("QEMU has no stderr")?;
    std::thread::scope(|scope| {
        scope.spawn(|| copy_live(from_stderr, &mut io::stderr()));
        // Dropping the sender tells the watch that QEMU has ended.
        let (ended, watch) = mpsc::channel::<()>();
        let pid = Pid::from_child(&qemu);
        scope.spawn(move || {
            mend_qemu(&watch, &out.join(PID));
            end_if_boot_hangs(&watch, pid, &out.join(STARTED));
        });
        copy_live(from_stdout, stdout);
        drop(ended);
    });
    Ok(qemu.wait()?)
}

/// Waits for QEMU to be there, and mends it.
fn mend_qemu(ended: &mpsc::Receiver<()>, pid_file: &Path) {
    let deadline = Instant::now() + BOOT_LIMIT;
    while ended.recv_timeout(PID_STEP) == Err(RecvTimeoutError::Timeout) && Instant::now() < deadline {
        let text = fs::read_to_string(pid_file).unwrap_or_default();
        // Empty at first.
        if let Ok(pid) = text.trim().parse() {
            if let Err(e) = mend::mend(pid) {
                say(format_args!(
                    "a defect of this QEMU stays, guests may hang now and then (rig/mend.rs): {e:#}"
                ));
            }
            return;
        }
    }
}

fn end_if_boot_hangs(ended: &mpsc::Receiver<()>, timeout: Pid, started: &Path) {
    if ended.recv_timeout(BOOT_LIMIT) == Err(RecvTimeoutError::Timeout) && !started.exists() {
        say(format_args!("the machine has not booted after {} s", BOOT_LIMIT.as_secs()));
        // `timeout` passes the signal on. Without effect if it is gone already: it is not waited for before we return.
        let _ = kill_process(timeout, Signal::TERM);
    }
}

fn arguments(machine: &Machine, options: &Options, out: &Path) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| all.extend(words.iter().map(OsString::from));
    // Without ERMS and FSRM, kernels copy with plain moves: the string instructions are slow in emulation.
    add(&["-machine", "q35", "-cpu", "max,-erms,-fsrm", "-nodefaults", "-no-user-config", "-no-reboot"]);
    add(&["-display", "none", "-m", &options.memory_mib.to_string()]);
    if options.deterministic {
        add(&["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1"]);
    } else {
        add(&["-accel", "tcg,thread=multi", "-smp", &options.cpus.to_string()]);
    }
    add(&["-append", KERNEL_ARGUMENTS]);
    add(&["-device", "virtio-serial-pci"]);
    add(&["-chardev", "stdio,id=stdout,signal=off", "-device", "virtconsole,chardev=stdout"]);
    add(&["-chardev", "file,id=stderr,path=/dev/stderr,append=on", "-device", "virtconsole,chardev=stderr"]);
    add(&["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="]);
    add(&["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"]);
    add(&["-device", "virtio-9p-pci,fsdev=root,mount_tag=root"]);
    add(&["-device", "virtio-9p-pci,fsdev=out,mount_tag=out"]);
    let out_option = |prefix: &str, path: &Path, suffix: &str| {
        // QEMU reads a doubled comma in an option's value as one comma.
        OsString::from(format!("{prefix}{}{suffix}", path.to_string_lossy().replace(',', ",,")))
    };
    all.extend([
        "-fsdev".into(),
        out_option("local,id=out,path=", out, ",security_model=none,multidevs=remap"),
    ]);
    all.extend(["-serial".into(), out_option("file:", &out.join(CONSOLE), "")]);
    all.extend(["-pidfile".into(), out.join(PID).into()]);
    all.extend([
        "-kernel".into(),
        machine.kernel.clone().into(),
        "-initrd".into(),
        machine.initramfs.clone().into(),
    ]);
    all
}

/// Copies until the end, each piece at once. When nobody reads any more, the rest is read and dropped, so that the
/// machine does not stall.
fn copy_live(mut from: impl Read, to: &mut dyn Write) {
    let mut buffer = [0; 1 << 16];
    let mut open = true;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..count).unwrap_or_default();
        open = open && to.write_all(piece).and_then(|()| to.flush()).is_ok();
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
