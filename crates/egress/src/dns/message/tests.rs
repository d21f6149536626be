use super::*;
use crate::testing::Data::{Address, Alias};
use crate::testing::{dns_answer, wire_name};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.names.iter().map(HostName::as_str).collect()
}

/// A header with `answers` records announced, then `rest`.
fn message(flags: u16, questions: u16, answers: u16, rest: &[u8]) -> Vec<u8> {
    let header = [1, flags, questions, answers, 0, 0].map(u16::to_be_bytes).concat();
    [&header[..], rest].concat()
}

const A_IN: [u8; 4] = [0, 1, 0, 1];

#[test]
fn addresses_of_the_question() {
    let bytes = dns_answer(
        "Example.COM",
        &[
            ("Example.COM", 300, Address(ip("192.0.2.1"))),
            ("example.com", 200, Address(ip("2001:db8::1"))),
            ("other.com", 1, Address(ip("192.0.2.66"))),
        ],
    );
    let answer = Answer::parse(&bytes).unwrap();
    assert_eq!(names(&answer), ["example.com"]);
    assert_eq!(answer.addresses, [ip("192.0.2.1"), ip("2001:db8::1")]);
    assert_eq!(answer.ttl, 200);
}

#[test]
fn aliases_are_followed_in_any_order() {
    let bytes = dns_answer(
        "a.com",
        &[
            ("c.net", 50, Address(ip("192.0.2.1"))),
            ("b.com", 40, Alias("c.net")),
            ("x.com", 1, Alias("evil.com")),
            ("evil.com", 1, Address(ip("192.0.2.66"))),
            ("a.com", 60, Alias("b.com")),
            ("a.com", 1, Address(ip("192.0.2.67"))),
        ],
    );
    let answer = Answer::parse(&bytes).unwrap();
    assert_eq!(names(&answer), ["a.com", "b.com", "c.net"]);
    assert_eq!((answer.addresses, answer.ttl), (vec![ip("192.0.2.1")], 40));
}

#[test]
fn alias_loops_and_long_chains() {
    let bytes = dns_answer("a.com", &[("a.com", 1, Alias("b.com")), ("b.com", 1, Alias("a.com"))]);
    assert_eq!(Answer::parse(&bytes), Err(DnsError::AliasChain));
    let chain: Vec<String> = (0..=MAX_ALIASES + 1).map(|n| format!("n{n}.com")).collect();
    let records: Vec<_> = chain.windows(2).map(|w| (w[0].as_str(), 1, Alias(&w[1]))).collect();
    assert_eq!(Answer::parse(&dns_answer("n0.com", &records)), Err(DnsError::AliasChain));
    let answer = Answer::parse(&dns_answer("n1.com", &records[1..])).unwrap();
    assert_eq!(answer.names.len(), MAX_ALIASES + 1);
}

#[test]
fn what_is_no_answer() {
    let question = [&wire_name("a.com")[..], &A_IN].concat();
    let good = message(0x8180, 1, 0, &question);
    assert_eq!(Answer::parse(&good).map(|a| (a.names.len(), a.addresses.len())), Ok((1, 0)));
    for (flags, questions) in [(0x0180, 1), (0x8980, 1), (0x8183, 1), (0x8180, 0), (0x8180, 2)] {
        let bytes = message(flags, questions, 0, &question);
        assert_eq!(Answer::parse(&bytes), Err(DnsError::NotAnAnswer), "{flags:x} {questions}");
    }
    let chaos = message(0x8180, 1, 0, &[&wire_name("a.com")[..], &[0, 1, 0, 3]].concat());
    assert_eq!(Answer::parse(&chaos), Err(DnsError::NotAnAnswer));
    let root = message(0x8180, 1, 0, &[&[0][..], &A_IN].concat());
    assert_eq!(Answer::parse(&root).map(|a| a.names.len()), Ok(0));
}

#[test]
fn names_that_are_not_host_names_pin_nothing() {
    // One label that holds a dot must not pass for two labels.
    for label in [&b"evil.allowed"[..], b"a b", b"\xff"] {
        let question = [&[label.len() as u8][..], label, &wire_name("com"), &A_IN].concat();
        let record = [&[0xc0, 12][..], &A_IN, &[0, 0, 0, 9, 0, 4, 1, 2, 3, 4]].concat();
        let answer = Answer::parse(&message(0x8180, 1, 1, &[question, record].concat())).unwrap();
        assert_eq!((answer.names.len(), answer.addresses.len()), (0, 0), "{label:?}");
    }
}

#[test]
fn hostile_compression_ends() {
    let at = 12;
    for (what, name) in [
        ("to itself", vec![0xc0, at]),
        ("forwards", vec![0xc0, at + 2, 0]),
        ("back to its own label", vec![1, b'a', 0xc0, at]),
        ("reserved label type", vec![0x40, 0]),
        ("reserved label type", vec![0x80, 0]),
    ] {
        let bytes = message(0x8180, 1, 0, &[&name[..], &A_IN].concat());
        assert!(matches!(Answer::parse(&bytes), Err(DnsError::Name { .. })), "{what}");
    }
    // Two records whose names point at each other.
    let question = [&wire_name("a.com")[..], &A_IN].concat();
    let first = 12 + question.len() as u8;
    let record =
        |pointer: u8| [&[1, b'x', 0xc0, pointer][..], &A_IN, &[0, 0, 0, 9, 0, 4, 1, 2, 3, 4]].concat();
    let second = first + record(0).len() as u8;
    let bytes = message(0x8180, 1, 2, &[question, record(second), record(first)].concat());
    assert_eq!(Answer::parse(&bytes), Err(DnsError::Name { at: first as usize + 2 }));
    // A name of 128 labels is 257 octets.
    let long = message(0x8180, 1, 0, &[&b"\x01a".repeat(128)[..], &[0], &A_IN].concat());
    assert!(matches!(Answer::parse(&long), Err(DnsError::Name { .. })));
}

#[test]
fn lying_counts_and_lengths() {
    let question = [&wire_name("a.com")[..], &A_IN].concat();
    assert_eq!(
        Answer::parse(&message(0x8180, 1, u16::MAX, &question)),
        Err(DnsError::Truncated { what: "a name" })
    );
    for len in [0, 3, 5, 16] {
        let record = [&[0xc0, 12][..], &A_IN, &[0, 0, 0, 9, 0, len], &[1; 16][..len.into()]].concat();
        let bytes = message(0x8180, 1, 1, &[question.clone(), record].concat());
        assert_eq!(Answer::parse(&bytes), Err(DnsError::RecordLength { len: len.into() }));
    }
    // An alias whose name is shorter than its record.
    let record = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0, 0];
    let bytes = message(0x8180, 1, 1, &[&question[..], &record].concat());
    assert_eq!(Answer::parse(&bytes), Err(DnsError::RecordLength { len: 4 }));
    let whole = dns_answer("a.com", &[("a.com", 9, Alias("b.com")), ("b.com", 9, Address(ip("1.2.3.4")))]);
    for len in 0..whole.len() {
        assert!(matches!(Answer::parse(&whole[..len]), Err(DnsError::Truncated { .. })), "{len}");
    }
}

#[test]
fn other_classes_types_and_huge_lifetimes() {
    let question = [&wire_name("a.com")[..], &A_IN].concat();
    let record = |kind: u8, class: u8, ttl: u8| {
        [&[0xc0, 12, 0, kind, 0, class, ttl, 0, 0, 9, 0, 4, 1, 2, 3, kind][..]].concat()
    };
    let records = [record(16, 1, 0), record(1, 3, 0), record(1, 1, 0x80)].concat();
    let answer = Answer::parse(&message(0x8180, 1, 3, &[question, records].concat())).unwrap();
    assert_eq!((answer.addresses, answer.ttl), (vec![ip("1.2.3.1")], 0));
}
