//! The network card's interface: one end of a virtual cable, with a server of this file at the other end.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::machine::{Machine, Outcome, Running, read};

/// Says when the namespaces are there, and waits for the cable.
const WAIT_FOR_CABLE: &str =
    "touch \"$0/ready\" && until ip link show eth0 > /dev/null 2>&1; do sleep 0.02; done";
const SHOW: &str = "ip -4 addr show eth0 | grep inet; ip route; cat /sys/class/net/eth0/mtu /etc/resolv.conf";

const SERVER: [u8; 4] = [10, 0, 2, 2];
const CLIENT: [u8; 4] = [10, 0, 2, 15];

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

/// The host's end of the cable, on a thread with a network of its own.
struct Host {
    socket: UdpSocket,
}

impl Host {
    /// Lays the cable; call on a thread that may lose its network. `None` with a line that says what this host lacks.
    fn new() -> Option<Self> {
        // SAFETY: no pointers; changes the network namespace of this thread only.
        let alone = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        if !alone || !ip("link add host0 type veth peer name eth0") {
            eprintln!("skipped: no network namespaces or no veth");
            return None;
        }
        assert!(ip("addr add 10.0.2.2/24 dev host0") && ip("link set host0 up"));
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (name, fd) = (b"host0", socket.as_raw_fd());
        // SAFETY: the kernel reads the name.
        let bound = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                name.as_ptr().cast(),
                name.len() as u32,
            )
        };
        assert_eq!(bound, 0);
        Some(Self { socket })
    }

    /// Starts a machine and plugs the cable in.
    fn start(&self, machine: &Machine) -> Running {
        let running = machine.start();
        let until = Instant::now() + Duration::from_secs(20);
        while !machine.path("ready").exists() {
            assert!(Instant::now() < until, "the machine does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(ip(&format!("link set eth0 netns {}", running.process())));
        running
    }

    /// Serves until the machine has ended; gives its outcome and the kinds of messages it sent.
    fn serve(
        &self,
        running: Running,
        mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> (Outcome, Vec<u8>) {
        let (ended, end) = mpsc::channel();
        let waiter = std::thread::spawn(move || ended.send(running.wait()).unwrap());
        let mut kinds = Vec::new();
        loop {
            let mut packet = [0; 1500];
            if let Ok((length, from)) = self.socket.recv_from(&mut packet) {
                let packet = &packet[..length];
                assert_eq!((packet[0], &packet[236..240], from.port()), (1, &[99, 130, 83, 99][..], 68));
                kinds.push(option(packet, 53).unwrap()[0]);
                if let Some(reply) = answer(packet) {
                    self.socket.send_to(&reply, (Ipv4Addr::BROADCAST, 68)).unwrap();
                }
            }
            if let Ok(outcome) = end.try_recv() {
                waiter.join().unwrap();
                return (outcome, kinds);
            }
        }
    }
}

fn option(packet: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let mut rest = packet.get(240..)?;
    while let [code, length, after @ ..] = rest {
        let (value, after) = after.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return Some(value.to_vec());
        }
        rest = after;
    }
    None
}

fn reply(request: &[u8], kind: u8, options: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![2, 1, 6, 0];
    packet.extend(&request[4..8]);
    packet.resize(16, 0);
    packet.extend(CLIENT);
    packet.resize(28, 0);
    packet.extend(&request[28..34]);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99, 53, 1, kind, 54, 4]);
    packet.extend(SERVER);
    packet.extend(options.concat());
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    packet
}

const MASK: &[u8] = &[1, 4, 255, 255, 255, 0];
const ROUTER: &[u8] = &[3, 4, 10, 0, 2, 2];
const DNS: &[u8] = &[6, 8, 10, 0, 2, 3, 1, 1, 1, 1];
const MTU: &[u8] = &[26, 2, 5, 0x78];
const HOUR: &[u8] = &[51, 4, 0, 0, 14, 16];
const ALL: [&[u8]; 5] = [MASK, ROUTER, DNS, MTU, HOUR];

/// The kind of the answer that a patient server gives.
fn next_kind(request: &[u8]) -> u8 {
    if option(request, 53).unwrap() == [1] { 2 } else { 5 }
}

/// Without repetitions: on a slow host the client asks again before it is answered.
fn in_short(kinds: &[u8]) -> Vec<u8> {
    let mut kinds = kinds.to_vec();
    kinds.dedup();
    kinds
}

/// Runs on a thread whose network is its own.
fn apart(body: impl FnOnce() + Send + 'static) {
    std::thread::spawn(body).join().unwrap();
}

fn dhcp_machine(script: &str) -> Option<Machine> {
    Some(Machine::shell(script)?.env("KRUN_DHCP", "1").prelude(WAIT_FOR_CABLE))
}

#[test]
fn an_address_by_dhcp() {
    apart(|| {
        let (Some(host), Some(machine)) = (Host::new(), dhcp_machine(SHOW)) else { return };
        machine.put("etc/resolv.conf", b"nameserver 9.9.9.9\nsearch example.org\n", 0o644);
        let mut requests = Vec::new();
        let (outcome, kinds) = host.serve(host.start(&machine), |request| {
            requests.push(request.to_vec());
            Some(reply(request, next_kind(request), &ALL))
        });
        let expected = "    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0\n\
            default via 10.0.2.2 dev eth0 \n\
            10.0.2.0/24 dev eth0 scope link  src 10.0.2.15 \n\
            1400\nnameserver 10.0.2.3\nnameserver 1.1.1.1\n";
        assert_eq!((outcome.output(), outcome.stderr.as_str()), (expected, ""));
        assert_eq!(in_short(&kinds), [1, 3]);
        let (first, last) = (&requests[0], requests.last().unwrap());
        assert_eq!(option(last, 50).unwrap(), CLIENT);
        assert_eq!(option(last, 54).unwrap(), SERVER);
        assert_eq!(first[4..8], last[4..8], "one exchange");
    });
}

#[test]
fn answers_that_are_lost_wrong_or_late() {
    apart(|| {
        let (Some(host), Some(machine)) = (Host::new(), dhcp_machine(SHOW)) else { return };
        let (mut discovers, mut refused) = (0, false);
        let (outcome, kinds) = host.serve(host.start(&machine), |request| {
            let mut answer = reply(request, next_kind(request), &[MASK, ROUTER, HOUR]);
            if next_kind(request) == 5 {
                // Refused once; without option 6 the resolver's file stays, without option 26 the MTU is the largest.
                let again = std::mem::replace(&mut refused, true);
                return Some(if again { answer } else { reply(request, 6, &[]) });
            }
            discovers += 1;
            match discovers {
                1 => return None,
                2 => answer[4] ^= 1,  // another exchange
                3 => answer[28] ^= 2, // another card
                4 => answer[236] = 0, // no cookie
                _ => {}
            }
            Some(answer)
        });
        assert_eq!((&kinds[..5], in_short(&kinds)), (&[1; 5][..], vec![1, 3, 1, 3]));
        assert!(
            outcome.stdout.contains("10.0.2.15/24") && outcome.stdout.contains("\n65520\n"),
            "{}",
            outcome.stdout
        );
        assert!(!machine.path("etc/resolv.conf").exists());
    });
}

#[test]
fn a_lease_is_renewed_while_the_workload_runs() {
    apart(|| {
        let script = "until test -e /stop; do sleep 0.1; done; ip -4 addr show eth0 | grep -c inet";
        let (Some(host), Some(machine)) = (Host::new(), dhcp_machine(script)) else { return };
        let stop = machine.path("stop");
        // Ten seconds, of which a renewal is due after one.
        let short: [&[u8]; 4] = [MASK, ROUTER, &[51, 4, 0, 0, 0, 10], &[58, 4, 0, 0, 0, 1]];
        let mut renewals = Vec::new();
        let (outcome, kinds) = host.serve(host.start(&machine), |request| {
            if request[12..16] != [0; 4] {
                renewals.push((request[12..16].to_vec(), option(request, 50), option(request, 54)));
            }
            if renewals.len() == 2 {
                std::fs::write(&stop, "").unwrap();
            }
            Some(reply(request, next_kind(request), &short))
        });
        assert_eq!((outcome.output(), in_short(&kinds)), ("1\n", vec![1, 3]));
        assert!(renewals.len() >= 2);
        assert!(renewals.iter().all(|renewal| *renewal == (CLIENT.to_vec(), None, None)), "{renewals:?}");
    });
}

#[test]
fn without_a_server_the_boot_goes_on() {
    apart(|| {
        let (Some(host), Some(machine)) = (Host::new(), dhcp_machine("echo on")) else { return };
        let (outcome, kinds) = host.serve(host.start(&machine), |_| None);
        assert_eq!(outcome.output(), "on\n");
        assert_eq!(
            outcome.stderr,
            "purlin-init: no DHCP server answers; the boot goes on without an address\n"
        );
        assert!(kinds.len() >= 5 && kinds.iter().all(|kind| *kind == 1), "{kinds:?}");
    });
}

#[test]
fn without_a_network_card_there_is_nothing_to_ask_with() {
    let Some(machine) = Machine::shell("echo on") else { return };
    let outcome = machine.env("KRUN_DHCP", "1").run();
    assert_eq!((outcome.output(), outcome.stderr.as_str()), ("on\n", "purlin-init: bring up eth0: ENODEV\n"));
}

#[test]
fn a_static_address() {
    for (name, words, addresses, router, dns) in [
        (
            "PURLIN_STATIC_IP",
            "10.0.2.15/24:10.0.2.2",
            "10.0.2.15/24 brd 10.0.2.255",
            "10.0.2.2 dev eth0 ",
            "10.0.2.2",
        ),
        (
            "AGX_NETSTACK_STATIC_IP",
            "169.254.7.2/32:169.254.1.1:8.8.8.8",
            "169.254.7.2/32",
            "169.254.1.1 dev eth0 onlink ",
            "8.8.8.8",
        ),
    ] {
        let Some(machine) = Machine::shell(SHOW) else { return };
        // A link to a file of another program, as some images have it.
        std::fs::create_dir(machine.path("etc")).unwrap();
        std::os::unix::fs::symlink("../run/resolver/stub", machine.path("etc/resolv.conf")).unwrap();
        let cable = "ip link add eth0 type veth peer name host0 && ip link set host0 up";
        let machine = machine.env(name, words).prelude(cable);
        let outcome = machine.run();
        let text = outcome.output();
        assert!(text.contains(&format!("inet {addresses} scope global eth0\n")), "{text}{}", outcome.stderr);
        assert!(text.contains(&format!("default via {router}")), "{text}");
        assert!(text.contains("\n1500\n"), "{text}");
        assert_eq!(read(machine.path("etc/resolv.conf")), format!("nameserver {dns}\n"));
    }
}
