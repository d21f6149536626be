use super::*;
use crate::testing::{client_hello, client_hello_with, server_name, vector16};

const NAME: &str = "www.example.com";

fn whole(check: NameCheck, bytes: &[u8]) -> Result<Inspection, InspectError> {
    Inspector::new(check).push(bytes)
}

fn name(text: &str) -> Result<Inspection, InspectError> {
    Ok(Inspection::Name(HostName::parse(text).unwrap()))
}

/// The handshake message of `hello` in records of `size` bytes.
fn fragmented(hello: &[u8], size: usize) -> Vec<u8> {
    hello[5..].chunks(size).flat_map(|part| [&[22, 3, 3][..], &vector16(part)].concat()).collect()
}

#[test]
fn a_server_name_whole_and_in_pieces() {
    let mut hello = client_hello("WWW.example.com");
    hello.extend_from_slice(b"\x14\x03\x03\0\x01\x01and early data");
    assert_eq!(whole(NameCheck::Tls, &hello), name(NAME));
    assert_eq!(whole(NameCheck::Tls, &fragmented(&client_hello(NAME), 10)), name(NAME));
    for size in 1..hello.len() {
        let mut inspector = Inspector::new(NameCheck::Tls);
        let results: Vec<_> = hello.chunks(size).map(|piece| inspector.push(piece)).collect();
        let first = results.iter().position(|r| *r != Ok(Inspection::Incomplete)).unwrap();
        assert!(results[first..].iter().all(|r| *r == name(NAME)), "pieces of {size}");
    }
}

#[test]
fn every_start_of_a_hello_is_incomplete() {
    let hello = client_hello(NAME);
    for stream in [hello.clone(), fragmented(&hello, 7)] {
        for len in 0..stream.len() {
            assert_eq!(whole(NameCheck::Tls, &stream[..len]), Ok(Inspection::Incomplete), "{len}");
        }
    }
}

#[test]
fn what_is_no_hello() {
    let hello = client_hello(NAME);
    let changed = |at: usize, to: u8| {
        let mut bytes = hello.clone();
        bytes[at] = to;
        bytes
    };
    for (what, bytes, error) in [
        ("plain text", b"GET / HTTP/1.1\r\n".to_vec(), InspectError::Protocol),
        ("ssh", b"S".to_vec(), InspectError::Protocol),
        ("another record type", changed(0, 23), InspectError::Protocol),
        ("SSL 2", changed(1, 2), InspectError::Protocol),
        ("ServerHello", changed(5, 2), InspectError::Protocol),
        ("a hello of 8 MiB", changed(6, 0x80), InspectError::TooLong),
        ("session id over 32", changed(43, 33), InspectError::Protocol),
        ("empty record", [&[22, 3, 1, 0, 0][..], &hello].concat(), InspectError::Protocol),
        ("record over 16 KiB", vec![22, 3, 1, 0x40, 1], InspectError::Protocol),
        ("one byte per record", fragmented(&hello, 1), InspectError::Protocol),
        ("no extensions", client_hello_with(&[]), InspectError::NoName),
        ("no server name", client_hello_with(&[(1, vec![1])]), InspectError::NoName),
        (
            "two extensions",
            client_hello_with(&[(0, server_name(NAME)), (0, server_name(NAME))]),
            InspectError::BadName,
        ),
        ("two names", client_hello_with(&[(0, vector16(&b"\0\0\x03a.b".repeat(2)))]), InspectError::BadName),
        ("empty name", client_hello_with(&[(0, server_name(""))]), InspectError::BadName),
        ("an address", client_hello_with(&[(0, server_name("192.0.2.1"))]), InspectError::BadName),
        ("a null byte", client_hello_with(&[(0, server_name("a\0.com"))]), InspectError::BadName),
        (
            "another kind of name",
            client_hello_with(&[(0, vector16(b"\x01\0\x03a.b"))]),
            InspectError::BadName,
        ),
        ("empty list", client_hello_with(&[(0, vec![0, 0])]), InspectError::BadName),
        ("list longer than its extension", client_hello_with(&[(0, vec![0, 9, 0])]), InspectError::Protocol),
    ] {
        assert_eq!(whole(NameCheck::Tls, &bytes), Err(error), "{what}");
    }
    // No length of it reaches outside: every byte changed to the extremes gives some answer.
    for at in 0..hello.len() {
        for to in [0, 1, 0x7f, 0xff] {
            let _ = whole(NameCheck::Tls, &changed(at, to));
        }
    }
}

#[test]
fn a_host_whole_and_in_pieces() {
    for request in [
        "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\nbody",
        "POST /a?b=http://x HTTP/1.0\r\naccept: */*\r\nHOST:WWW.EXAMPLE.COM:8080 \r\n\r\n",
        "OPTIONS * HTTP/1.1\nHost: www.example.com.\n\n",
        "GET http://www.example.com:80/x HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
        "GET http://www.example.com?q HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
    ] {
        for size in 1..=request.len() {
            let mut inspector = Inspector::new(NameCheck::Http);
            let last = request.as_bytes().chunks(size).map(|piece| inspector.push(piece)).last();
            assert_eq!(last, Some(name(NAME)), "{request} in pieces of {size}");
        }
        let end = request.find("\r\n\r\n").or(request.find("\n\n")).unwrap();
        for len in 0..end {
            let result = whole(NameCheck::Http, &request.as_bytes()[..len]);
            assert_eq!(result, Ok(Inspection::Incomplete), "{len} of {request}");
        }
    }
}

#[test]
fn what_is_no_request_for_one_host() {
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\nHost: a.com\r\n\r\n", "y".repeat(MAX_INSPECTED));
    let many = format!("GET / HTTP/1.1\r\n{}Host: a.com\r\n\r\n", "x: y\r\n".repeat(101));
    for (request, error) in [
        ("GET / HTTP/1.1\r\n\r\n", InspectError::NoName),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", InspectError::NoName),
        ("GET / HTTP/1.1\r\nHost: a.com\r\nhost: b.com\r\n\r\n", InspectError::BadName),
        ("GET / HTTP/1.1\r\nHost: a.com\r\nHost: a.com\r\n\r\n", InspectError::BadName),
        ("GET / HTTP/1.1\r\nHost: a.com, b.com\r\n\r\n", InspectError::BadName),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", InspectError::BadName),
        ("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", InspectError::BadName),
        ("GET / HTTP/1.1\r\nHost: a.com:x\r\n\r\n", InspectError::BadName),
        ("GET / HTTP/1.1\r\nHost: u@a.com\r\n\r\n", InspectError::BadName),
        ("GET http://b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n", InspectError::BadName),
        ("GET http://a.com@b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n", InspectError::BadName),
        ("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n", InspectError::BadName),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", InspectError::Protocol),
        ("\r\nGET / HTTP/1.1\r\nHost: a.com\r\n\r\n", InspectError::Protocol),
        ("\u{16}\u{3}\u{1}", InspectError::Protocol),
        ("SSH-2.0-x\r\n", InspectError::Protocol),
        (&many, InspectError::Protocol),
        (&long, InspectError::TooLong),
    ] {
        assert_eq!(whole(NameCheck::Http, request.as_bytes()), Err(error), "{request}");
    }
    let mut drip = Inspector::new(NameCheck::Http);
    let last = long.bytes().map(|byte| drip.push(&[byte])).last();
    assert_eq!(last, Some(Err(InspectError::TooLong)));
}
