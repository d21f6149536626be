//! Terminals, signals, and descriptors that cannot be opened again.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use super::*;
use crate::virtio::VirtioDevice;

struct Pty {
    master: File,
    slave: File,
}

fn pty() -> Pty {
    let (master, slave) = sys::tests::open_pty(WindowSize { cols: 101, rows: 33 });
    Pty { master: master.into(), slave: slave.into() }
}

fn mode(fd: &File) -> (u32, u32, u32, u32) {
    let a = sys::attributes(fd.as_fd()).unwrap();
    (a.c_iflag, a.c_oflag, a.c_lflag, a.c_cflag)
}

#[test]
fn raw_mode_is_undone() {
    let pty = pty();
    let before = mode(&pty.slave);
    for keep_signals in [true, false] {
        let raw = RawMode::enable(pty.slave.try_clone().unwrap().into(), keep_signals).unwrap();
        let lflag = mode(&pty.slave).2;
        assert_eq!(lflag & (libc::ICANON | libc::ECHO), 0);
        assert_eq!(lflag & libc::ISIG != 0, keep_signals);
        drop(raw);
        assert_eq!(mode(&pty.slave), before);
    }
    let (reader, _writer) = std::io::pipe().unwrap();
    let refused = RawMode::enable(reader.into(), false).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTTY));
}

#[test]
fn a_terminal_has_a_size() {
    let pty = pty();
    assert_eq!(terminal_size(pty.slave.as_fd()).unwrap(), WindowSize { cols: 101, rows: 33 });
    let null = File::open("/dev/null").unwrap();
    assert!(terminal_size(null.as_fd()).is_err());
}

/// Both the ordinary case (a slave, opened again) and one that cannot be opened again (a master).
#[test]
fn a_terminal_as_console() {
    for ours_is_slave in [true, false] {
        let pty = pty();
        let _raw = RawMode::enable(pty.slave.try_clone().unwrap().into(), false).unwrap();
        let (ours, mut theirs) =
            if ours_is_slave { (pty.slave, pty.master) } else { (pty.master, pty.slave) };
        let console = PortConfig::console()
            .input(PortInput::Fd(ours.try_clone().unwrap().into()))
            .output(PortOutput::Fd(ours.try_clone().unwrap().into()))
            .size(terminal_size(ours.as_fd()).unwrap());
        let mut guest = Guest::boot(vec![console]);
        theirs.write_all(b"typed").unwrap();
        assert_eq!(guest.read(0, 5), b"typed");
        guest.write(0, b"printed", 3);
        let mut got = [0; 7];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"printed");
        guest.handle.resize(0, WindowSize { cols: 5, rows: 6 });
        eventually("RESIZE", || {
            guest.hear();
            guest.said.iter().any(|s| s.event == 5 && s.payload == [5, 0, 6, 0]).then_some(())
        });
        assert!(!sys::is_nonblocking(ours.as_fd()));
        // A terminal nobody reads holds up its port, and only that.
        let bytes = pattern(200_000);
        assert_eq!(guest.offer(0, &bytes, 30_000), bytes.len());
        guest.tell(0, 6, 1);
        guest.quiesce();
        // A hang-up ends the port's input without spinning or stopping the guest.
        guest.device.resume();
        drop(theirs);
        drop(_raw);
        if ours_is_slave {
            guest.drained(0);
        }
    }
}

#[test]
fn the_loop_s_thread_blocks_sigpipe() {
    let guest = Guest::boot(vec![PortConfig::console()]);
    let mine = crate::shell::EventLoop::spawn("sigpipe-test").unwrap();
    let config =
        ConsoleConfig { ports: vec![PortConfig::console()], resize_order: ResizeOrder::ColumnsFirst };
    let mut device = Console::new(config, mine.handle()).unwrap();
    let mut context = guest.context();
    context.queues.truncate(4);
    device.activate(context).unwrap();
    let blocked = std::fs::read_dir("/proc/self/task").unwrap().flatten().find_map(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        (field("Name:")? == "sigpipe-test")
            .then(|| u64::from_str_radix(field("SigBlk:").unwrap(), 16).unwrap())
    });
    assert_ne!(blocked.unwrap() & 1 << (libc::SIGPIPE - 1), 0);
}

#[test]
fn a_signal_raised_under_a_block_is_taken_back() {
    let block = sys::SignalBlock::new(libc::SIGPIPE);
    sys::tests::raise(libc::SIGPIPE);
    assert!(sys::tests::pending(libc::SIGPIPE));
    drop(block);
    assert!(!sys::tests::pending(libc::SIGPIPE));
}
