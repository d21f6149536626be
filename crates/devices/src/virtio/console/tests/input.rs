use std::fs::File;
use std::io::Write;
use std::time::Duration;

use super::*;

fn cpu_time() -> Duration {
    // Of the loop's thread, by the name the test gives it.
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.trim() == "spin-test" {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            total += stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(total)
}

#[test]
fn input_waits_for_the_guest_to_open_the_port_and_ends_after_its_last_byte() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"early").unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console(), input_port("krun-stdin", reader)]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(guest.poll_input(1), 0);
    guest.open(1);
    assert_eq!(guest.read(1, 5), b"early");
    let bytes = pattern(1 << 20);
    let copy = bytes.clone();
    let sender = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    // A guest that looks at the end first and at the data second must find all data.
    guest.wait_heard_while_reading(1, bytes.len());
    sender.join().unwrap();
    assert!(guest.got[1].make_contiguous() == bytes);
    // The end is said once, and stays.
    guest.close(1);
    guest.open(1);
    guest.settle();
    assert_eq!(guest.heard(1).iter().filter(|m| **m == (6, 0)).count(), 1);
}

impl Guest {
    fn wait_heard_while_reading(&mut self, port: usize, all: usize) {
        eventually("end of input", || {
            let ended = self.heard(port as u32).contains(&(6, 0));
            let got = self.poll_input(port);
            assert!(!ended || got == all, "end of input after {got} of {all} bytes");
            ended.then_some(())
        });
    }
}

#[test]
fn an_input_that_is_at_its_end_from_the_start() {
    let null = File::open("/dev/null").unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console(), input_port("krun-stdin", null)]);
    assert_eq!(guest.heard(1), [(6, 1), (7, 1)]);
    guest.open(1);
    guest.wait_heard(1, 6, 0);
}

#[test]
fn a_file_is_read_from_the_shared_position() {
    let mut file = tempfile::tempfile().unwrap();
    let bytes = pattern(700_000);
    file.write_all(&bytes).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(100)).unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console(), input_port("krun-stdin", file)]);
    guest.open(1);
    assert!(guest.read(1, bytes.len() - 100) == bytes[100..]);
    guest.wait_heard(1, 6, 0);
}

#[test]
fn a_port_can_be_closed_and_opened_again() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console(), input_port("again", reader)]);
    for round in 0..5u8 {
        guest.open(1);
        writer.write_all(&[round; 3]).unwrap();
        assert_eq!(guest.read(1, 3), [round; 3]);
        guest.close(1);
        writer.write_all(&[round | 0x80; 2]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(guest.poll_input(1), 0, "a closed port gets nothing");
        guest.open(1);
        assert_eq!(guest.read(1, 2), [round | 0x80; 2]);
        guest.close(1);
    }
}

#[test]
fn a_guest_that_does_not_read_costs_nothing() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[7; 60_000]).unwrap();
    drop(writer);
    let (hung_up, peer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(peer);
    let zero = File::open("/dev/zero").unwrap();
    let ports = vec![
        PortConfig::console(),
        input_port("slow", reader),
        input_port("hung-up", hung_up),
        input_port("endless", zero),
    ];
    let mut guest = Guest::on_loop("spin-test", ports);
    guest.probe();
    guest.tell(u32::MAX, 0, 1);
    for port in 1..4 {
        // Ready and open, without a single receive buffer, or with few.
        guest.tell(port, 3, 1);
        guest.open(port);
    }
    guest.rings[rx_queue(1)].submit(&[crate::testing::Buf::Write(100)]);
    guest.rings[rx_queue(1)].kick();
    guest.rings[rx_queue(2)].submit(&[crate::testing::Buf::Write(100)]);
    guest.rings[rx_queue(2)].kick();
    // All inputs are readable or hung up.
    std::thread::sleep(Duration::from_millis(50));
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(200));
    assert!(cpu_time() - before < Duration::from_millis(20), "the loop spins");
}

#[test]
fn an_injector_types_ctrl_c() {
    let (input, injector) = PortInput::injector().unwrap();
    let mut guest = Guest::boot(vec![PortConfig::console().input(input)]);
    injector.interrupt();
    assert_eq!(guest.read(0, 1), [3]);
    std::thread::spawn(move || {
        for _ in 0..3 {
            injector.interrupt();
        }
    })
    .join()
    .unwrap();
    assert_eq!(guest.read(0, 1), [3]);
}

#[test]
fn an_in_process_port_carries_both_directions() {
    let (handle, input, output) = PortHandle::pair().unwrap();
    let port = PortConfig::data("purlin-control").input(input).output(output);
    let mut guest = Guest::boot(vec![PortConfig::console(), port]);
    let mut buf = [0; 16];
    assert_eq!(handle.recv(&mut buf).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(handle.send(b"before the guest is there").unwrap(), 25);
    guest.open(1);
    assert_eq!(guest.read(1, 25), b"before the guest is there");
    guest.write(1, b"answer", 100);
    let n = eventually("an answer", || handle.recv(&mut buf).ok());
    assert_eq!(&buf[..n], b"answer");
    // A guest that does not read fills a bounded buffer.
    guest.close(1);
    let taken = std::iter::from_fn(|| handle.send(&[0; 4096]).ok()).sum::<usize>();
    assert!(taken > 0 && taken < 1 << 22, "{taken}");
    drop(handle);
    guest.open(1);
    eventually("the end", || {
        guest.poll_input(1);
        guest.heard(1).contains(&(6, 0)).then_some(())
    });
    guest.poll_input(1);
    assert_eq!(guest.got[1].len(), taken);
}
