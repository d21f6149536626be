//! The guest's sockets are the host's.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use purlin::egress::Policy;
use purlin::tsi::PortMap;
use purlin::{Exec, Network, TsiConfig, VmConfig, VsockPort};

use crate::support::{LIMIT, collect, config, run, sh, wait};

fn tsi(exec: Exec, tsi: TsiConfig) -> VmConfig {
    config(exec).network(Network::Tsi(tsi))
}

/// Runs a script in a guest with TSI; it must end well.
fn guest(script: &str) -> String {
    let done = run(tsi(sh(script), TsiConfig::new()));
    assert_eq!(done.exit.code, 0, "stdout: {}\nstderr: {}", done.stdout, done.stderr);
    done.stdout
}

/// Bytes that do not repeat in any power of two.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// What `md5sum` of busybox says in the guest is compared with what it says of these bytes there.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_guest_downloads() {
    let (listener, port) = listener();
    let bytes = pattern(4 << 20);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("want"), &bytes).unwrap();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        // All at once and away: every byte must arrive although the end is there already.
        peer.write_all(&bytes).unwrap();
    });
    let script = format!(
        "mkdir -p /tmp/w; mount -t virtiofs w /tmp/w; nc 127.0.0.1 {port} </dev/null >/tmp/got; cmp /tmp/got /tmp/w/want && echo same"
    );
    let done = run(tsi(sh(&script), TsiConfig::new()).share(purlin::Share::new("w", dir.path()).read_only()));
    assert_eq!(done.stdout, "same\n", "{}", done.stderr);
    server.join().unwrap();
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_guest_uploads_and_closes() {
    let (listener, port) = listener();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        // Slow at first: the guest has closed long before the bytes are through.
        thread::sleep(Duration::from_millis(300));
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        got
    });
    let out = guest(&format!(
        "seq 1 80000 >/tmp/f; timeout 20 nc 127.0.0.1 {port} </tmp/f >/dev/null & wc -c </tmp/f; wait"
    ));
    let want: String = (1..=80000).map(|i| format!("{i}\n")).collect();
    assert_eq!(out.trim().parse::<usize>().unwrap(), want.len());
    assert!(server.join().unwrap() == want.as_bytes());
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_hundred_connections_one_after_another_and_refusals() {
    let (listener, port) = listener();
    let server = thread::spawn(move || {
        for _ in 0..100 {
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"x").unwrap();
        }
    });
    let out = guest(&format!(
        "i=0; while [ $i -lt 100 ]; do nc 127.0.0.1 {port} </dev/null; i=$((i+1)); done; echo; nc 127.0.0.1 1 </dev/null; echo $?"
    ));
    assert_eq!(out, format!("{}\n1\n", "x".repeat(100)));
    server.join().unwrap();
}

/// Connects until the guest listens.
fn dial(port: u16) -> TcpStream {
    let deadline = Instant::now() + LIMIT;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(e) if Instant::now() > deadline => panic!("nobody listens on {port}: {e}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_host_connects_to_a_guest_server_through_the_port_map() {
    // Ports nobody else here uses.
    let map = PortMap::only([(28_000, 8_000)]).unwrap();
    let script =
        "nc -l -p 8000 -e cat & nc -l -p 8001 -e cat & sleep 1; echo up; wait %1; kill %2; echo down";
    let vm = tsi(sh(script), TsiConfig::new().ports(map)).build().unwrap();
    drop(vm.take_stdin());
    let out = collect(vm.take_stdout().unwrap());
    let err = collect(vm.take_stderr().unwrap());
    vm.start().unwrap();
    let mut peer = dial(28_000);
    assert!(TcpStream::connect(("127.0.0.1", 8_001)).is_err(), "an unmapped port is exposed");
    let sent = pattern(300_000);
    let writer = {
        let (mut peer, sent) = (peer.try_clone().unwrap(), sent.clone());
        thread::spawn(move || {
            peer.write_all(&sent).unwrap();
            peer.shutdown(std::net::Shutdown::Write).unwrap();
        })
    };
    let mut got = Vec::new();
    peer.read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    let exit = wait(&vm);
    let err = String::from_utf8(err.join().unwrap()).unwrap();
    assert!(got == sent, "{} of {} bytes, {err}", got.len(), sent.len());
    assert_eq!(exit.code, 0, "{err}");
    assert_eq!(out.join().unwrap(), b"up\ndown\n");
}

/// An address of this host that a guest's own routes do not lead to: connected UDP to its loopback stays in it.
pub fn own_address() -> IpAddr {
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing.
    probe.connect("192.0.2.1:9").unwrap();
    probe.local_addr().unwrap().ip()
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn names_are_looked_up_over_udp() {
    let server = own_address();
    let socket = UdpSocket::bind((server, 53)).unwrap();
    let lookup = format!("nslookup -type=a purlin.test {server} 2>&1; true");
    let server = thread::spawn(move || {
        let mut buf = [0; 512];
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        loop {
            let (len, from) = socket.recv_from(&mut buf).unwrap();
            let query = &buf[..len];
            // The question back, with one A record of 192.0.2.7 if it asks for A.
            let wants_a = query[len - 4..len - 2] == [0, 1];
            let mut answer = query.to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..8].copy_from_slice(&[0, u8::from(wants_a)]);
            if wants_a {
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            }
            socket.send_to(&answer, from).unwrap();
            if wants_a {
                return;
            }
        }
    });
    let out = guest(&lookup);
    assert!(out.contains("192.0.2.7"), "{out}");
    server.join().unwrap();
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_policy_denies_and_redirects() {
    let (listener, _) = listener();
    let target = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut got = [0; 15];
        peer.read_exact(&mut got).unwrap();
        peer.write_all(b"redirected\n").unwrap();
        got
    });
    let rules = format!(
        r#"{{"rules":[
            {{"prefix_len":32,"base":"192.0.2.1","verdict":"deny"}},
            {{"prefix_len":32,"base":"192.0.2.2","verdict":"redirect","redirect_target":"{target}"}},
            {{"prefix_len":0,"base":"0.0.0.0","verdict":"allow"}}]}}"#
    );
    let policy = TsiConfig::new().egress(Policy::from_json(rules.as_bytes()).unwrap());
    let script = "nc 192.0.2.1 443 </dev/null 2>&1; echo $?; echo hi | nc 192.0.2.2 443";
    let done = run(tsi(sh(script), policy));
    assert!(done.stdout.contains("refused"), "{} {}", done.stdout, done.stderr);
    assert!(done.stdout.ends_with("1\nredirected\n"), "{}", done.stdout);
    let got = server.join().unwrap();
    assert_eq!(got[..12], [0x50, 0x52, 0x4c, 0x4e, 192, 0, 2, 2, 1, 0xbb, 0, 0]);
    assert_eq!(got[12..], *b"hi\n");
}

/// Both ways over one unix socket each, through the guest's own vsock sockets, which busybox cannot make: so
/// only that the sockets are there, that a client waits for the guest, and that nothing is left behind.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn sockets_of_vsock_ports_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let _listener = UnixListener::bind(&theirs).unwrap();
    let config = config(sh("sleep 2"))
        .vsock_port(VsockPort::host_connects(1234, &ours))
        .vsock_port(VsockPort::guest_connects(1235, &theirs))
        .vsock_boot_grace(Duration::from_millis(500));
    let vm = config.build().unwrap();
    let mut client = UnixStream::connect(&ours).unwrap();
    drop(vm.take_stdin());
    vm.start().unwrap();
    // Nobody listens in the guest: after the grace the client is told.
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(wait(&vm).code, 0);
    drop(vm);
    assert!(!ours.exists(), "the socket is left behind");
}
