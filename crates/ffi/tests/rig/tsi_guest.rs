//! A program in a real guest that uses every kind of socket, and the host on the other side of each. Several checks
//! share a boot.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use purlin::egress::Policy;
use purlin::tsi::{PortMap, TsiFlags};
use purlin::{Network, Share, TsiConfig, Vm, VmConfig, VsockPort};
use tempfile::TempDir;

use crate::support::{LIMIT, collect, config, sh, wait};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rig/guest/sockets.c");
const MIB: usize = 64;
/// In the middle of a download.
const PAUSE: Duration = Duration::from_secs(10);
/// Of each transfer in one piece.
const CHUNK: usize = 64 << 10;

/// A directory with the guest's program, and room for sockets.
fn program() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-static", "-Wall", "-Wextra", "-Werror", SOURCE, "-o"]).arg(dir.path().join("sockets"));
    let done = cc.output().expect("cc");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    dir
}

/// A machine that runs a script in which `t` is the program.
fn machine(dir: &Path, network: TsiConfig, script: &str) -> VmConfig {
    let script = format!("mkdir -p /tmp/t; mount -t virtiofs t /tmp/t || exit 9; t=/tmp/t/sockets; {script}");
    config(sh(&script)).network(Network::Tsi(network)).share(Share::new("t", dir).read_only())
}

fn tcp(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// The guest's words, and their hash.
fn words(x: &mut u64, sum: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHUNK);
    for _ in 0..CHUNK / 8 {
        *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(x.to_le_bytes());
        *sum = (*sum ^ *x).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    }
    bytes
}

/// Receives an upload and answers with its hash.
fn receive(mut peer: impl Read + Write, mib: usize) {
    let (mut x, mut sum) = (1, 0);
    let mut got = vec![0; CHUNK];
    for _ in 0..mib << 20 >> CHUNK.trailing_zeros() {
        peer.read_exact(&mut got).unwrap();
        assert!(got == words(&mut x, &mut sum), "bytes differ");
    }
    assert_eq!(peer.read(&mut got).unwrap(), 0, "more than was sent");
    peer.write_all(&sum.to_le_bytes()).unwrap();
}

/// Serves a download and checks the hash the guest made of it; tells when half of it is out.
fn send(mut peer: TcpStream, mib: usize, half: &mpsc::Sender<()>) {
    let (mut x, mut sum) = (1, 0);
    let chunks = mib << 20 >> CHUNK.trailing_zeros();
    for n in 0..chunks {
        peer.write_all(&words(&mut x, &mut sum)).unwrap();
        if n == chunks / 2 {
            half.send(()).unwrap();
        }
    }
    peer.shutdown(Shutdown::Write).unwrap();
    let mut theirs = [0; 8];
    peer.read_exact(&mut theirs).unwrap();
    assert_eq!(u64::from_le_bytes(theirs), sum, "the guest got other bytes");
}

/// Takes all of them before the first is answered.
fn echo_all(listener: &TcpListener, count: usize) {
    let mut peers: Vec<TcpStream> = (0..count).map(|_| listener.accept().unwrap().0).collect();
    for peer in &mut peers {
        let mut bytes = [0; 4];
        peer.read_exact(&mut bytes).unwrap();
        peer.write_all(&bytes).unwrap();
    }
}

fn number_each(listener: &TcpListener, count: u32) {
    for n in 0..count {
        listener.accept().unwrap().0.write_all(&n.to_le_bytes()).unwrap();
    }
}

/// Answers datagrams with this digit before what they hold, until the test ends.
fn answer(digit: u8) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((n, from)) = socket.recv_from(&mut bytes) {
            socket.send_to(&[&[digit], &bytes[..n]].concat(), from).unwrap();
        }
    });
    port
}

fn echo_unix(listener: &UnixListener) {
    let (mut peer, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    peer.write_all(&bytes).unwrap();
}

/// Starts it; what it prints, line by line.
fn start(config: VmConfig) -> (Vm, mpsc::Receiver<String>, JoinHandle<Vec<u8>>) {
    let vm = config.build().unwrap();
    drop(vm.take_stdin());
    let (lines, output) = mpsc::channel();
    let stdout = BufReader::new(vm.take_stdout().unwrap());
    thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
    let stderr = collect(vm.take_stderr().unwrap());
    vm.start().unwrap();
    (vm, output, stderr)
}

/// What is printed until the end, which must be a good one.
fn finish(vm: &Vm, output: &mpsc::Receiver<String>, stderr: JoinHandle<Vec<u8>>) -> Vec<String> {
    let exit = wait(vm);
    let lines: Vec<String> = output.iter().collect();
    let stderr = String::from_utf8(stderr.join().unwrap()).unwrap();
    assert_eq!(exit.code, 0, "{lines:?} {stderr}");
    lines
}

/// Descriptors for both ends of a thousand connections.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum.min(Some(8192)).or(Some(8192)), ..limit })
        .unwrap();
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn every_kind_of_socket_in_one_boot_with_a_pause() {
    raise_descriptor_limit();
    let dir = program();
    let path = |name: &str| dir.path().join(name);
    let (theirs, unix) =
        (UnixListener::bind(path("theirs")).unwrap(), UnixListener::bind(path("unix")).unwrap());
    let ((v4, p4), (v6, p6), (crowd, pc), (queue, pq)) =
        (tcp("127.0.0.1"), tcp("::1"), tcp("127.0.0.1"), tcp("127.0.0.1"));
    let (_, closed) = tcp("127.0.0.1");
    let udp = format!("{},{}", answer(b'0'), answer(b'1'));
    let unix_path = path("unix").display().to_string();
    let script = format!(
        "$t vsock-server 7001 & \
         $t up 127.0.0.1 {p4} {MIB} down 127.0.0.1 {p4} up ::1 {p6} 1 many 127.0.0.1 {pc} 1000 \
            brief 127.0.0.1 {pq} 2000 fails 127.0.0.1 {closed} 111 udp 127.0.0.1 {udp} up {unix_path} - 1 \
            vsock 7000 no-vsock 7002 && wait"
    );
    let network = TsiConfig::new().flags(TsiFlags::HIJACK_INET | TsiFlags::HIJACK_UNIX);
    let config = machine(dir.path(), network, &script)
        .vsock_port(VsockPort::guest_connects(7000, path("theirs")))
        .vsock_port(VsockPort::host_connects(7001, path("ours")));
    let (half, at_half) = mpsc::channel();
    let servers = [
        thread::spawn(move || {
            receive(v4.accept().unwrap().0, MIB);
            send(v4.accept().unwrap().0, MIB, &half);
        }),
        thread::spawn(move || receive(v6.accept().unwrap().0, 1)),
        thread::spawn(move || echo_all(&crowd, 1000)),
        thread::spawn(move || number_each(&queue, 2000)),
        thread::spawn(move || receive(unix.accept().unwrap().0, 1)),
        thread::spawn(move || echo_unix(&theirs)),
    ];
    let (vm, output, stderr) = start(config);
    // Before the guest listens, which it need not know.
    let mut ours = UnixStream::connect(path("ours")).unwrap();
    ours.write_all(b"from the host").unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let mut echoed = String::new();
    ours.read_to_string(&mut echoed).unwrap();
    assert_eq!(echoed, "from the host");

    at_half.recv_timeout(LIMIT).unwrap();
    vm.pause().unwrap();
    thread::sleep(PAUSE);
    vm.resume().unwrap();
    let mut lines = finish(&vm, &output, stderr);
    lines.sort();
    let mut want =
        ["up", "down", "up", "many", "brief", "fails", "udp", "up", "vsock", "no-vsock", "vsock-server"]
            .map(|check| format!("{check} ok"));
    want.sort();
    assert_eq!(lines, want);
    for server in servers {
        server.join().unwrap();
    }
    let counters = vm.egress().unwrap().counters();
    assert!(counters.allowed > 3000 && counters.denied == 0, "{counters:?}");
}

/// What the host's own connect says, fast or slow, is what the guest's says.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn connects_that_are_filtered_or_have_no_route_fail_as_they_do_on_the_host() {
    // Seconds instead of minutes until the host gives up.
    std::fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").unwrap();
    let (full, filtered) = tcp("127.0.0.1");
    // Whoever comes after one that waits gets no answer.
    rustix::net::listen(&full, 0).unwrap();
    let _waits = TcpStream::connect(("127.0.0.1", filtered)).unwrap();
    let on_the_host = |address, port| {
        let refused = TcpStream::connect::<(&str, u16)>((address, port)).unwrap_err();
        rustix::io::Errno::from_io_error(&refused).unwrap()
    };
    let unroutable = on_the_host("255.255.255.255", 9);
    assert!([rustix::io::Errno::NETUNREACH, rustix::io::Errno::HOSTUNREACH].contains(&unroutable));
    assert_eq!(on_the_host("127.0.0.1", filtered), rustix::io::Errno::TIMEDOUT);

    let dir = program();
    let script = format!(
        "$t fails 127.0.0.1 {filtered} {} fails 255.255.255.255 9 {}",
        rustix::io::Errno::TIMEDOUT.raw_os_error(),
        unroutable.raw_os_error()
    );
    let (vm, output, stderr) = start(machine(dir.path(), TsiConfig::new(), &script));
    assert_eq!(finish(&vm, &output, stderr), ["fails ok", "fails ok"]);
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn without_tsi_mapped_ports_work_and_nothing_else_leaves() {
    let dir = program();
    let path = |name: &str| dir.path().join(name);
    let theirs = UnixListener::bind(path("theirs")).unwrap();
    let (listener, port) = tcp("0.0.0.0");
    let script = format!(
        "$t vsock-server 7001 & $t unreachable 127.0.0.1 {port} unreachable 192.0.2.1 {port} \
            unreachable {own} {port} vsock 7000 && wait",
        own = crate::tsi::own_address()
    );
    let config = machine(dir.path(), TsiConfig::new().flags(TsiFlags::NONE), &script)
        .vsock_port(VsockPort::guest_connects(7000, path("theirs")))
        .vsock_port(VsockPort::host_connects(7001, path("ours")));
    let server = thread::spawn(move || echo_unix(&theirs));
    let (vm, output, stderr) = start(config);
    let mut ours = UnixStream::connect(path("ours")).unwrap();
    ours.write_all(b"?").unwrap();
    let mut byte = [0];
    ours.read_exact(&mut byte).unwrap();
    drop(ours);
    let lines = finish(&vm, &output, stderr);
    assert_eq!(lines.iter().filter(|line| line.ends_with("ok")).count(), 5, "{lines:?}");
    server.join().unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "something left the guest");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_policy_is_replaced_while_a_connection_is_open() {
    let dir = program();
    let (listener, port) = tcp("127.0.0.1");
    let rules = |verdict: &str| {
        let json = format!(r#"{{"rules":[{{"prefix_len":0,"base":"0.0.0.0","verdict":"{verdict}"}}]}}"#);
        Policy::from_json(json.as_bytes()).unwrap()
    };
    let script = format!("$t cut 127.0.0.1 {port}");
    let (vm, output, stderr) = start(machine(dir.path(), TsiConfig::new().egress(rules("allow")), &script));
    let (mut peer, _) = listener.accept().unwrap();
    let mut byte = [0];
    peer.read_exact(&mut byte).unwrap();
    peer.write_all(&byte).unwrap();
    assert_eq!(output.recv_timeout(LIMIT).unwrap(), "open");
    let egress = vm.egress().unwrap();
    // The same outcome: nothing happens to it.
    egress.replace(rules("allow"));
    egress.replace(rules("deny"));
    let lines = finish(&vm, &output, stderr);
    assert_eq!(lines, ["cut ok"]);
    assert!(peer.read(&mut byte).map_or(true, |n| n == 0), "the host's end is closed, too");
    // Two replacements in a row may take effect as one.
    let log: Vec<_> = egress
        .log(0, usize::MAX)
        .iter()
        .map(|entry| (entry.policy > 0, entry.decision.to_string()))
        .collect();
    assert_eq!(log, [(false, "allow (rule 0)".to_owned()), (true, "deny (rule 0)".to_owned())]);
    assert_eq!(egress.counters().closed_by_replacement, 1);
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn of_two_machines_with_one_port_the_first_has_it_and_the_second_keeps_it_inside() {
    let dir = program();
    let (_, port) = tcp("127.0.0.1");
    let network = || TsiConfig::new().ports(PortMap::all());
    let (first, first_lines, first_errors) =
        start(machine(dir.path(), network(), &format!("$t serve {port} first 20")));
    assert_eq!(first_lines.recv_timeout(LIMIT).unwrap(), "first listens");
    let script = format!("$t serve {port} second 1 & sleep 1; nc 127.0.0.1 {port} </dev/null; echo; wait");
    let (second, second_lines, second_errors) = start(machine(dir.path(), network(), &script));
    let mut lines = finish(&second, &second_lines, second_errors);
    lines.sort();
    assert_eq!(lines, ["second", "second listens", "serve ok"]);
    for _ in 0..20 {
        let mut name = String::new();
        TcpStream::connect(("127.0.0.1", port)).unwrap().read_to_string(&mut name).unwrap();
        assert_eq!(name, "first");
    }
    finish(&first, &first_lines, first_errors);
}
