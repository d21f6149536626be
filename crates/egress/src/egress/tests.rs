use super::*;
use crate::flow::{NameCheck, NameCheckFailure};
use crate::testing::Data::Address;
use crate::testing::dns_answer;

const RESOLVER: &str = "9.9.9.9:53";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy(json: &str) -> Policy {
    Policy::from_json(json.as_bytes()).unwrap()
}

fn egress(json: &str) -> Egress {
    Egress::new(policy(json), at(0))
}

fn tcp(destination: &str) -> Flow {
    Flow::tcp(destination.parse::<SocketAddr>().unwrap())
}

fn udp(destination: &str) -> Flow {
    Flow::udp(destination.parse::<SocketAddr>().unwrap())
}

fn resolve(egress: &mut Egress, now: u64, name: &str, address: &str, ttl: u32) -> Result<usize, DnsError> {
    let answer = dns_answer(name, &[(name, ttl, Address(address.parse().unwrap()))]);
    egress.observe_dns(at(now), RESOLVER.parse().unwrap(), &answer)
}

const NAMES: &str = r#"{"rules":[{"host":"*.example.com","verdict":"allow"}],
    "dns":{"resolvers":["9.9.9.9"],"min_ttl":60,"max_ttl":600}}"#;

#[test]
fn only_trusted_resolvers_pin() {
    let mut egress = egress(NAMES);
    let answer = dns_answer("a.example.com", &[("a.example.com", 9, Address([192, 0, 2, 1].into()))]);
    for untrusted in ["9.9.9.9:5353", "9.9.9.10:53", "[::1]:53"] {
        let result = egress.observe_dns(at(0), untrusted.parse().unwrap(), &answer);
        assert_eq!(result, Err(DnsError::Untrusted), "{untrusted}");
    }
    assert!(!egress.judge(at(0), &tcp("192.0.2.1:22")).lets_out());
    assert_eq!(egress.observe_dns(at(0), "[::ffff:9.9.9.9]:53".parse().unwrap(), &answer), Ok(1));
    assert!(egress.judge(at(0), &tcp("192.0.2.1:22")).lets_out());
    assert_eq!((egress.counters().dns_untrusted, egress.counters().dns_read), (3, 1));
    assert!(egress.observe_dns(at(0), RESOLVER.parse().unwrap(), b"junk").is_err());
    assert_eq!(egress.counters().dns_refused, 1);
}

#[test]
fn lifetimes_are_clamped() {
    for (ttl, lives) in [(0, 60), (59, 60), (300, 300), (u32::MAX, 60), (601, 600), (1 << 30, 600)] {
        let mut egress = egress(NAMES);
        assert_eq!(resolve(&mut egress, 10, "a.example.com", "192.0.2.1", ttl), Ok(1));
        let open = |now| egress.judge(at(now), &tcp("192.0.2.1:22")).lets_out();
        assert!(open(10 + lives - 1) && !open(10 + lives), "ttl {ttl}");
    }
}

#[test]
fn local_answers_pin_nothing_unless_told() {
    let local = [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.1.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "0.0.0.0",
        "::",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
    ];
    let mut strict = egress(NAMES);
    let mut lax = egress(&NAMES.replace("\"min_ttl\"", "\"local_answers\":true,\"min_ttl\""));
    for address in local {
        assert_eq!(resolve(&mut strict, 0, "a.example.com", address, 60), Ok(0), "{address}");
        assert_eq!(resolve(&mut lax, 0, "a.example.com", address, 60), Ok(1), "{address}");
    }
    assert_eq!(strict.counters().pins_refused, local.len() as u64);
    assert!(lax.judge(at(0), &tcp("10.0.0.1:22")).lets_out());
    assert_eq!(resolve(&mut lax, 0, "a.example.com", "169.254.169.254", 60), Ok(1));
    let floor = lax.judge(at(0), &tcp("169.254.169.254:80"));
    assert!(matches!(floor.reason, Reason::Floor(_)), "{floor}");
}

#[test]
fn quic_needs_a_rule_that_says_udp() {
    let mut by_any = egress(NAMES);
    resolve(&mut by_any, 0, "a.example.com", "192.0.2.1", 60).unwrap();
    let denied = by_any.decide(at(0), &udp("192.0.2.1:443"));
    assert_eq!((denied.verdict, denied.reason), (Verdict::Deny, Reason::UncheckedName(0)));
    assert!(by_any.decide(at(0), &udp("192.0.2.1:53")).lets_out());
    let mut by_udp = egress(&NAMES.replace("\"verdict\"", "\"protocol\":\"udp\",\"verdict\""));
    resolve(&mut by_udp, 0, "a.example.com", "192.0.2.1", 60).unwrap();
    assert!(by_udp.decide(at(0), &udp("192.0.2.1:443")).lets_out());
    assert!(!by_udp.decide(at(0), &tcp("192.0.2.1:443")).lets_out());
}

#[test]
fn names_are_checked_on_443_and_80() {
    let json = r#"{"rules":[
        {"host":"bad.example.com","verdict":"deny"},
        {"host":"*.example.com","verdict":"allow"},
        {"host":"*.example.net","port_range":[443,443],"verdict":"allow"},
        {"base":"192.0.2.200","prefix_len":32,"verdict":"allow"}],
        "dns":{"resolvers":["9.9.9.9"]}}"#;
    let mut egress = egress(json);
    for name in ["good.example.com", "b.example.net", "elsewhere.org"] {
        resolve(&mut egress, 0, name, "192.0.2.1", 60).unwrap();
    }
    resolve(&mut egress, 0, "other.example.com", "192.0.2.2", 60).unwrap();
    resolve(&mut egress, 0, "good.example.com", "192.0.2.200", 60).unwrap();
    let parse = |name: &str| HostName::parse(name).map_err(|_| InspectError::NoName);
    let rule = Reason::Rule(1);
    let mismatch = Reason::NameCheck(1, NameCheckFailure::Mismatch);
    let missing = Reason::NameCheck(1, NameCheckFailure::Missing);
    let unreadable = Reason::NameCheck(1, NameCheckFailure::Unreadable);
    for (destination, check, name, verdict, reason) in [
        ("192.0.2.1:443", NameCheck::Tls, parse("good.example.com"), Verdict::Allow, rule),
        ("192.0.2.1:443", NameCheck::Tls, parse("b.example.net"), Verdict::Allow, Reason::Rule(2)),
        ("192.0.2.1:80", NameCheck::Http, parse("b.example.net"), Verdict::Deny, mismatch),
        ("192.0.2.1:443", NameCheck::Tls, parse("elsewhere.org"), Verdict::Deny, mismatch),
        ("192.0.2.1:443", NameCheck::Tls, parse("other.example.com"), Verdict::Deny, mismatch),
        ("192.0.2.1:443", NameCheck::Tls, parse("bad.example.com"), Verdict::Deny, mismatch),
        ("192.0.2.1:443", NameCheck::Tls, Err(InspectError::NoName), Verdict::Deny, missing),
        ("192.0.2.1:443", NameCheck::Tls, Err(InspectError::Protocol), Verdict::Deny, unreadable),
        // Another rule opens the address itself, so it does not depend on the name.
        ("192.0.2.200:443", NameCheck::Tls, Err(InspectError::NoName), Verdict::Allow, Reason::Rule(3)),
        ("192.0.2.200:443", NameCheck::Tls, parse("elsewhere.org"), Verdict::Allow, Reason::Rule(3)),
    ] {
        let flow = tcp(destination);
        let opened = egress.decide(at(30), &flow);
        assert_eq!((opened.verdict, opened.check), (Verdict::Allow, Some(check)), "{flow}");
        // The pins lapse between the connection and its first bytes.
        let checked = egress.check_name(at(61), &flow, &opened, name.clone());
        assert_eq!((checked.verdict, checked.reason), (verdict, reason), "{flow} {name:?}");
        assert_eq!(checked.check, None);
        assert_eq!(egress.log().since(0).last().map(|e| &e.decision), Some(&checked));
    }
    assert_eq!((egress.counters().names_passed, egress.counters().names_failed), (4, 6));
    let flow = tcp("192.0.2.1:443");
    let opened = egress.decide(at(59), &flow);
    let late = at(60) + crate::NAME_CHECK_GRACE;
    let checked = egress.check_name(late, &flow, &opened, parse("good.example.com"));
    assert_eq!(checked.reason, mismatch, "after the grace");
}

#[test]
fn replacement_closes_what_the_new_policy_denies_or_moves() {
    let open_all = r#"{"rules":[{"base":"0.0.0.0","prefix_len":0,"verdict":"allow"},
        {"host":"*.example.com","verdict":"allow"}], "dns":{"resolvers":["9.9.9.9"]}}"#;
    let mut egress = egress(open_all);
    let flows = ["10.0.0.1:1", "10.0.0.2:443", "192.0.2.1:1", "192.0.2.2:443"].map(tcp);
    let open: Vec<OpenFlow> = flows.iter().map(|f| OpenFlow::new(*f, &egress.decide(at(0), f))).collect();
    for (json, closed) in [
        (open_all, &[][..]),
        (r#"{"rules":[{"base":"10.0.0.0","prefix_len":8,"verdict":"allow"}]}"#, &[2, 3]),
        (
            r#"{"rules":[{"base":"0.0.0.0","prefix_len":0,"verdict":"redirect","redirect_target":"127.0.0.1:1"}]}"#,
            &[0, 1, 2, 3],
        ),
        (r#"{"rules":[]}"#, &[0, 1, 2, 3]),
    ] {
        let closing = egress.replace(at(1), policy(json), (0..).zip(&open));
        assert_eq!(closing, closed, "{json}");
        for (n, flow) in flows.iter().enumerate() {
            assert_eq!(egress.judge(at(1), flow).verdict == Verdict::Allow, !closed.contains(&n));
        }
    }
    assert_eq!((egress.generation(), egress.counters().closed_by_replacement), (4, 10));
    let unrestricted = egress.replace(at(1), Policy::unrestricted(), (0..).zip(&open));
    assert!(unrestricted.is_empty());
}

#[test]
fn names_outlive_a_replacement() {
    let other = r#"{"rules":[{"base":"203.0.113.0","prefix_len":24,"verdict":"deny"},
        {"host":"a.example.com","verdict":"allow"}], "dns":{"resolvers":["9.9.9.9"]}}"#;
    let mut egress = egress(NAMES);
    resolve(&mut egress, 0, "a.example.com", "192.0.2.1", 60).unwrap();
    resolve(&mut egress, 0, "b.example.com", "192.0.2.2", 60).unwrap();
    let flows = ["192.0.2.1:22", "192.0.2.1:443", "192.0.2.2:22"].map(tcp);
    let mut open: Vec<_> = flows.iter().map(|f| OpenFlow::new(*f, &egress.decide(at(0), f))).collect();
    // Opened by address, before it was known that a name would matter.
    open.push(OpenFlow::new(tcp("192.0.2.1:443"), &Decision::new(Verdict::Allow, Reason::NoPolicy)));
    assert_eq!(egress.replace(at(1), policy(other), (0..).zip(&open)), [2, 3], "pins hold");
    assert!(egress.judge(at(1), &tcp("192.0.2.1:22")).lets_out());
    assert_eq!(egress.replace(at(1000), policy(other), (0..).zip(&open)), [2, 3], "pins lapsed");
    assert!(!egress.judge(at(1000), &tcp("192.0.2.1:22")).lets_out());
}

#[test]
fn limits() {
    let mut egress = egress(
        r#"{"rules":[{"base":"10.0.0.0","prefix_len":8,"verdict":"allow"}],
            "limits":{"connections":{"per_second":1,"burst":2},"bytes":{"per_second":100,"burst":800}}}"#,
    );
    let mut reason = |now, destination| egress.decide(at(now), &tcp(destination)).reason;
    assert_eq!(reason(0, "10.0.0.1:1"), Reason::Rule(0));
    assert_eq!(reason(0, "11.0.0.1:1"), Reason::NoRule, "what is denied is not charged");
    assert_eq!(reason(0, "10.0.0.1:1"), Reason::Rule(0));
    assert_eq!(reason(0, "10.0.0.1:1"), Reason::ConnectionRate);
    assert_eq!(reason(1, "10.0.0.1:1"), Reason::Rule(0));
    let hits = egress.rule_hits().clone();
    assert_eq!(hits.counts(), [3]);
    let counters = egress.counters();
    assert_eq!((counters.allowed, counters.denied, counters.denied_by_rate), (3, 2, 1));

    assert_eq!(egress.take_bytes(at(0), 500), Grant { bytes: 500, retry_at: None });
    let partial = Grant { bytes: 300, retry_at: Some(at(1)) };
    assert_eq!(egress.take_bytes(at(0), 500), partial, "worth it when an eighth of the burst is there");
    assert_eq!(egress.take_bytes(at(0), 50), Grant { bytes: 0, retry_at: Some(Duration::from_millis(500)) });
    assert_eq!(egress.take_bytes(at(1), 200).bytes, 100);
    assert_eq!(egress.counters().bytes_granted, 900);
    let slower = policy(r#"{"rules":[],"limits":{"bytes":{"per_second":1}}}"#);
    egress.replace::<()>(at(1), slower, []);
    assert_eq!(egress.take_bytes(at(1), 1).bytes, 0, "what is used up stays used up");
    egress.replace::<()>(at(1), Policy::unrestricted(), []);
    assert_eq!(egress.take_bytes(at(1), u64::MAX), Grant { bytes: u64::MAX, retry_at: None });
}

#[test]
fn owners_are_free_to_choose_their_thread() {
    fn movable<T: Send>() {}
    fn shareable<T: Send + Sync>() {}
    movable::<Egress>();
    shareable::<Policy>();
}
