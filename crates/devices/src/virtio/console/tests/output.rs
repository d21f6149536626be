use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::*;

fn reader_of(mut from: impl Read + Send + 'static, pause: Duration) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut all, mut buf) = (Vec::new(), vec![0; 60_001]);
        loop {
            match from.read(&mut buf).unwrap() {
                0 => return all,
                n => all.extend_from_slice(&buf[..n]),
            }
            std::thread::sleep(pause);
        }
    })
}

#[test]
fn ten_mebibytes_arrive_intact_through_a_slow_pipe_reader() {
    let (reader, writer) = std::io::pipe().unwrap();
    let reader = reader_of(reader, Duration::from_micros(300));
    let mut guest = Guest::boot(vec![PortConfig::console(), output_port("krun-stdout", writer)]);
    guest.open(1);
    let bytes = pattern(10 << 20);
    guest.write(1, &bytes, 30_000);
    let lost = guest.device.flush(Instant::now() + guest::PATIENCE).unwrap();
    assert_eq!(lost, 0);
    assert_eq!(guest.handle.stats(1).unwrap().bytes_out, bytes.len() as u64);
    drop(guest);
    assert!(reader.join().unwrap() == bytes);
}

#[test]
fn what_is_in_the_ring_at_the_exit_is_still_written() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console(), output_port("krun-stdout", writer)]);
    let bytes = pattern(900_000);
    // The pipe takes 64 KiB, the rest stays in the ring; nobody reads until the guest is gone.
    assert_eq!(guest.offer(1, &bytes, 30_000), bytes.len());
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        reader_of(reader, Duration::ZERO).join().unwrap()
    });
    assert_eq!(guest.device.flush(Instant::now() + guest::PATIENCE).unwrap(), 0);
    drop(guest);
    assert!(reader.join().unwrap() == bytes);
}

#[test]
fn a_reader_that_never_reads_does_not_hold_up_anything_else() {
    let (stalled, writer) = std::io::pipe().unwrap();
    let (other, other_writer) = std::io::pipe().unwrap();
    let (console, log) = console_on_log();
    let mut guest =
        Guest::boot(vec![console, output_port("stalled", writer), output_port("other", other_writer)]);
    let bytes = pattern(600_000);
    let offered = guest.offer(1, &bytes, 30_000);
    assert_eq!(offered, 600_000);

    let reader = reader_of(other, Duration::ZERO);
    guest.write(2, &bytes, 5000);
    guest.drained(2);
    guest.write(0, b"still here\n", 16);
    eventually("the log", || (log.lines() == ["still here"]).then_some(()));

    let start = Instant::now();
    guest.quiesce();
    assert!(start.elapsed() < Duration::from_secs(1));
    let lost = guest.device.flush(Instant::now() + Duration::from_millis(50)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(lost + guest.handle.stats(1).unwrap().bytes_out, 600_000);
    assert!(lost > 0);
    let start = Instant::now();
    drop(guest);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(reader.join().unwrap() == bytes);
    drop(stalled);
}

#[test]
fn a_closed_reader_does_not_stop_the_guest() {
    let table: &[(&str, WhenBroken)] = &[("discard", WhenBroken::Discard), ("remove", WhenBroken::Remove)];
    for (name, what) in table {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut guest =
            Guest::boot(vec![PortConfig::console(), output_port(name, writer).when_broken(*what)]);
        guest.open(1);
        guest.write(1, b"heard", 10);
        guest.drained(1);
        drop(reader);
        guest.write(1, &pattern(50_000), 10_000);
        guest.drained(1);
        let stats = guest.handle.stats(1).unwrap();
        assert_eq!((stats.bytes_out, stats.bytes_dropped), (5, 50_000), "{name}");
        guest.settle();
        let removed = guest.heard(1).contains(&(2, 1));
        assert_eq!(removed, *what == WhenBroken::Remove, "{name}: {:?}", guest.said);
        // PORT_OPEN 0 would make the guest's writers wait for ever.
        assert!(!guest.heard(1).contains(&(6, 0)), "{name}");
    }
}

#[test]
fn a_broken_port_stays_away_from_the_next_driver() {
    let (reader, writer) = std::io::pipe().unwrap();
    let port = output_port("out", writer).when_broken(WhenBroken::Remove);
    let mut guest = Guest::boot(vec![PortConfig::console(), port]);
    drop(reader);
    guest.write(1, b"lost", 4);
    guest.wait_heard(1, 2, 1);
    guest.reset();
    guest.probe();
    guest.tell(u32::MAX, 0, 1);
    guest.settle();
    assert_eq!(guest.said.iter().map(|s| (s.port, s.event)).collect::<Vec<_>>(), [(0, 1)]);
}

#[test]
fn dev_null_and_no_output_take_everything() {
    let null = File::options().write(true).open("/dev/null").unwrap();
    let mut guest =
        Guest::boot(vec![PortConfig::console(), output_port("null", null), PortConfig::data("none")]);
    let bytes = pattern(3 << 20);
    for port in [0, 1, 2] {
        guest.write(port, &bytes, 30_000);
        guest.drained(port);
    }
    let count = |port| {
        let s = guest.handle.stats(port).unwrap();
        (s.bytes_out, s.bytes_dropped)
    };
    let all = bytes.len() as u64;
    assert_eq!([count(0), count(1), count(2)], [(0, all), (all, 0), (0, all)]);
}

#[test]
fn a_full_disk_loses_bytes_but_not_the_port() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console(), output_port("full", full)]);
    guest.write(1, &[1; 1000], 100);
    guest.drained(1);
    assert_eq!(guest.handle.stats(1).unwrap().bytes_dropped, 1000);
}

#[test]
fn a_file_keeps_the_position_it_shares_with_others() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"before ").unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console(), output_port("file", file.try_clone().unwrap())]);
    guest.write(1, b"guest ", 2);
    guest.drained(1);
    file.write_all(b"after").unwrap();
    let mut all = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut all).unwrap();
    assert_eq!(all, "before guest after");
}

#[test]
fn both_ends_of_one_socket() {
    let (mut theirs, ours) = UnixStream::pair().unwrap();
    let second = ours.try_clone().unwrap();
    let port =
        PortConfig::data("both").input(PortInput::Fd(ours.into())).output(PortOutput::Fd(second.into()));
    let mut guest = Guest::boot(vec![PortConfig::console(), port]);
    guest.open(1);
    let bytes = pattern(1 << 20);
    let (mut sender, copy) = (theirs.try_clone().unwrap(), bytes.clone());
    let sender = std::thread::spawn(move || sender.write_all(&copy).unwrap());
    assert!(guest.read(1, bytes.len()) == bytes);
    sender.join().unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 1 << 20];
        theirs.read_exact(&mut got).unwrap();
        (got, theirs)
    });
    guest.write(1, &bytes, 20_000);
    let (got, theirs) = reader.join().unwrap();
    assert!(got == bytes);
    drop(theirs);
    guest.wait_heard(1, 6, 0);
    guest.write(1, b"nobody", 6);
    guest.drained(1);
    assert_eq!(guest.handle.stats(1).unwrap().bytes_dropped, 6);
}

#[test]
fn the_flags_of_the_caller_s_description_are_not_changed() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    let (in_pipe, _keep) = std::io::pipe().unwrap();
    let mine = [OwnedFd::from(writer), OwnedFd::from(a), OwnedFd::from(in_pipe)];
    let flags = || mine.each_ref().map(|fd| sys::is_nonblocking(fd.as_fd()));
    let copy = |i: usize| mine[i].try_clone().unwrap();
    let mut guest = Guest::boot(vec![
        PortConfig::console(),
        output_port("pipe", copy(0)),
        output_port("socket", copy(1)),
        input_port("in", copy(2)),
    ]);
    guest.open(3);
    guest.offer(1, &pattern(300_000), 30_000);
    guest.offer(2, &pattern(300_000), 30_000);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(flags(), [false; 3]);
    drop(guest);
    assert_eq!(flags(), [false; 3]);
    drop((reader, b));
}

#[test]
fn one_call_gathers_many_small_buffers_and_one_interrupt() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console(), output_port("out", writer)]);
    guest.interrupt.take();
    guest.rings[tx_queue(1)].driver.want_interrupt();
    let bytes = pattern(32 * 10);
    assert_eq!(guest.offer(1, &bytes, 10), bytes.len());
    let mut got = vec![0; bytes.len()];
    reader.read_exact(&mut got).unwrap();
    guest.drained(1);
    assert_eq!(got, bytes);
    guest.quiesce();
    assert_eq!(guest.interrupt.take().len(), 1);
}

#[test]
fn a_peer_that_hangs_up_takes_a_removable_port_away() {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let second = ours.try_clone().unwrap();
    let port =
        PortConfig::data("both").input(PortInput::Fd(ours.into())).output(PortOutput::Fd(second.into()));
    let mut guest = Guest::boot(vec![PortConfig::console(), port.when_broken(WhenBroken::Remove)]);
    guest.open(1);
    drop(theirs);
    // Nothing was written: the guest's writers must be freed all the same.
    guest.wait_heard(1, 2, 1);
}

#[test]
fn more_than_a_turn_is_moved_without_another_notification() {
    let bytes = pattern(800_000);
    let (mut source, mut sink) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    source.write_all(&bytes).unwrap();
    source.seek(SeekFrom::Start(0)).unwrap();
    let mut guest = Guest::new(vec![
        PortConfig::console(),
        output_port("out", sink.try_clone().unwrap()),
        input_port("in", source),
    ]);
    guest.probe();
    guest.tell(u32::MAX, 0, 1);
    for port in [1, 2] {
        guest.tell(port, 3, 1);
    }
    let ring = &mut guest.rings[rx_queue(2)];
    for _ in 0..20 {
        ring.submit(&[crate::testing::Buf::Write(40_000)]);
    }
    ring.kick();
    guest.open(2);
    assert_eq!(guest.offer(1, &bytes, 30_000), bytes.len());
    guest.drained(1);
    let ring = &mut guest.rings[rx_queue(2)].driver;
    let mut got = Vec::new();
    eventually("all input", || {
        for used in ring.used() {
            got.extend_from_slice(&used.data[..used.len as usize]);
        }
        (got.len() == bytes.len()).then_some(())
    });
    assert!(got == bytes);
    got.clear();
    sink.seek(SeekFrom::Start(0)).unwrap();
    sink.read_to_end(&mut got).unwrap();
    assert!(got == bytes);
}
