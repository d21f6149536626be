//! A stock kernel: Debian's cloud kernel, with an initial RAM disk of busybox and the virtio modules of its package. It
//! has neither an MP table parser nor command-line devices, so what it sees, it sees through ACPI.

use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use purlin::{BootMethod, Console, ExitReason, Kernel, SerialLine, Share, Vm, VmConfig, VmExit};

use crate::support::{rootfs, stock, wait};

/// Longer than a guest is silent in an emulated machine.
const SILENCE: Duration = Duration::from_secs(60);

/// A guest whose shell is on a serial line between two pipes.
pub struct Guest {
    pub vm: Vm,
    to: PipeWriter,
    /// Lines, read on a thread: a guest that says nothing is a failure, not a wait.
    from: Receiver<String>,
}

impl Guest {
    pub fn start(method: BootMethod, words: &str, change: impl FnOnce(VmConfig) -> VmConfig) -> Self {
        let (input, to) = std::io::pipe().unwrap();
        let (from, output) = std::io::pipe().unwrap();
        let line = SerialLine::new(Some(OwnedFd::from(input)), Some(OwnedFd::from(output)));
        let config = VmConfig::new()
            .memory_mib(256)
            .kernel(Kernel::Image { path: stock("vmlinuz"), method })
            .initramfs(stock("initramfs.cpio"))
            .cmdline(format!("console=ttyS0 panic=-1 {words}"))
            .console(Console::Disabled)
            .serial_line(line);
        let vm = change(config).build().unwrap();
        vm.start().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Guest { vm, to, from: lines }
    }

    /// Everything up to a line that contains `mark`.
    pub fn until(&mut self, mark: &str) -> String {
        let mut text = String::new();
        loop {
            let line = self.from.recv_timeout(SILENCE);
            let line = line.unwrap_or_else(|e| panic!("{e}: no {mark:?}, only\n{text}"));
            text += &line;
            if line.contains(mark) {
                return text;
            }
        }
    }

    /// What a command prints.
    pub fn run(&mut self, command: &str) -> String {
        // The terminal repeats what is typed, which therefore has neither mark in it.
        writeln!(self.to, "echo be''gin; {command}; echo done-$?").unwrap();
        self.until("begin");
        let text = self.until("done-");
        assert!(text.contains("done-0"), "{command}: {text}");
        text
    }

    pub fn end(mut self, command: &str) -> VmExit {
        writeln!(self.to, "{command}").unwrap();
        wait(&self.vm)
    }
}

const WRONG: [&str; 5] =
    ["can't request region", "probe of LNRO0005", "IRQ conflict", "ACPI Error", "ACPI BIOS Error"];

/// Unpacked by us: early output, a shell, its processors, each device once, and the end of a guest that powers off.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_stock_kernel_from_its_package() {
    let words = "earlycon=uart8250,io,0x3f8";
    let mut guest = Guest::start(BootMethod::Auto, words, |config| {
        config.vcpus(2).console(Console::pipe()).share(Share::new("work", rootfs()))
    });
    let boot = guest.until("shell-ready");
    assert!(boot.contains("earlycon: uart8250 at I/O port 0x3f8"), "{boot}");
    for wrong in WRONG {
        assert!(!boot.contains(wrong), "{wrong} in\n{boot}");
    }
    assert!(guest.run("grep -c ^processor /proc/cpuinfo").starts_with('2'));
    // Balloon, rng, console, share: one of each, none on the command line.
    let devices = guest.run("cat /sys/bus/virtio/devices/*/device");
    let mut devices: Vec<_> = devices.lines().filter_map(|line| line.trim().strip_prefix("0x00")).collect();
    devices.sort_unstable();
    assert_eq!(devices, ["03", "04", "05", "1a"]);
    assert!(guest.run("grep -c virtio_mmio.device /proc/cmdline || true").starts_with('0'));
    let exit = guest.end("poweroff -f");
    assert_eq!(exit.reason, ExitReason::PoweredOff);
}

/// Through the modules of its package.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_stock_kernel_uses_its_console_and_a_share() {
    let mut guest = Guest::start(BootMethod::Auto, "quiet", |config| {
        config.console(Console::pipe()).share(Share::new("work", rootfs()))
    });
    guest.until("shell-ready");
    assert!(guest.run("cat /sys/class/virtio-ports/*/name").contains("purlin-control"));
    assert!(guest.run("ls /dev/hvc0").contains("/dev/hvc0"));
    let share = guest.run("mount -t virtiofs work /mnt && ls /mnt/bin/busybox");
    assert!(share.contains("/mnt/bin/busybox"), "{share}");
    let exit = guest.end("poweroff -f");
    assert_eq!(exit.reason, ExitReason::PoweredOff);
}

/// Unpacking itself, with more RAM than fits below the gap; a restart ends the machine.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_stock_kernel_that_unpacks_itself() {
    let mut guest = Guest::start(BootMethod::SelfUnpacking, "quiet", |config| config.memory_mib(3584));
    guest.until("shell-ready");
    let ram = guest.run("grep MemTotal /proc/meminfo");
    let kib: u64 = ram.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib > 3328 << 10, "{ram}");
    let exit = guest.end("reboot -f");
    assert_eq!(exit.reason, ExitReason::GuestReset);
}

/// Entered by PVH; the power button reaches its driver.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_stock_kernel_entered_by_pvh() {
    let mut guest = Guest::start(BootMethod::Pvh, "quiet", |config| config);
    guest.until("shell-ready");
    let button = guest.run("cat /proc/bus/input/devices");
    assert!(button.contains("Power Button"), "{button}");
    let event = button.split_ascii_whitespace().find(|word| word.starts_with("event")).unwrap();
    // Opened before it is pressed, so that the event waits.
    guest.run(&format!("exec 3</dev/input/{event}"));
    guest.vm.press_power_button().unwrap();
    writeln!(guest.to, "dd bs=24 count=1 <&3 | od -An -tx2").unwrap();
    // EV_KEY, KEY_POWER, pressed.
    guest.until("0001 0074 0001");
    let exit = guest.end("poweroff -f");
    assert_eq!(exit.reason, ExitReason::PoweredOff);
}

/// What the owner says in SMBIOS is there to be read.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_stock_kernel_finds_the_owners_words_in_smbios() {
    let words = ["purlin:first=1", "io.systemd.credential:second=two words"];
    let mut guest = Guest::start(BootMethod::Auto, "quiet", |config| config.smbios_oem_strings(words));
    guest.until("shell-ready");
    let table = guest.run("od -An -v -tx1 /sys/firmware/dmi/tables/DMI");
    let digits = table.lines().filter(|line| line.starts_with(' ')).flat_map(str::split_ascii_whitespace);
    let bytes: Vec<u8> = digits.filter_map(|digits| u8::from_str_radix(digits, 16).ok()).collect();
    // OEM strings: type 11, five bytes long, with the number of strings at the end, then the strings (DSP0134 §7.12).
    let at = bytes.windows(2).position(|start| start == [11, 5]).expect("a structure with OEM strings");
    assert_eq!(bytes[at + 4], 2, "{bytes:x?}");
    let strings = [words[0].as_bytes(), b"\0", words[1].as_bytes(), b"\0\0"].concat();
    assert!(bytes[at + 5..].starts_with(&strings), "{bytes:x?}");
    guest.end("poweroff -f");
}

/// Much output at once, with all processors busy: nothing of it is lost, and no interrupt that the driver waits for.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_stock_kernels_long_output_is_whole_while_its_processors_are_busy() {
    const TIMES: usize = 10;
    // The emulated processors may be slow enough for the kernel to complain of it, in the middle of a line.
    let mut guest =
        Guest::start(BootMethod::Auto, "nowatchdog rcupdate.rcu_cpu_stall_suppress=1", |config| {
            config.vcpus(2)
        });
    guest.until("shell-ready");
    // Its size and lines are fixed before.
    let lines = guest.run("dmesg -n 1; dmesg >/log; wc -l </log");
    let lines: usize = lines.lines().find_map(|line| line.trim().parse().ok()).unwrap();
    assert!(lines > 100, "{lines} lines");
    guest.run("for i in 1 2; do (while :; do :; done) & done");
    let first = guest.run("cat /log");
    for _ in 1..TIMES {
        let again = guest.run("cat /log");
        let differs = first.lines().zip(again.lines()).find(|(first, again)| first != again);
        assert_eq!(differs, None, "the same file, printed twice");
        assert_eq!(first.len(), again.len(), "the same file, printed twice");
    }
    let marks = 1;
    assert_eq!(first.lines().count(), lines + marks, "{first}");
    guest.end("poweroff -f");
}
