use super::*;
use crate::testing::Data::{Address, Alias};
use crate::testing::{client_hello, dns_answer};
use proptest::prelude::*;

const POLICY: &str = r#"{"rules":[
    {"prefix_len":9,"base":"10.128.0.0","port_range":[443,443],"verdict":"deny"},
    {"prefix_len":8,"base":"10.0.0.0","port_range":null,"verdict":"allow"},
    {"prefix_len":0,"base":"::","port_range":[0,1024],"verdict":"redirect","redirect_target":"127.0.0.1:15001"},
    {"prefix_len":128,"base":"::1","port_range":[1,65535],"verdict":"deny"},
    {"host":"*.example.com","protocol":"tcp","verdict":"allow"}],
    "dns":{"resolvers":["9.9.9.9"]},"floor":{"private":true}}"#;

/// Valid inputs with some bytes changed reach deeper than noise.
fn mutated(seed: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = seed.len();
    let edits = proptest::collection::vec((0..len, any::<u8>()), 0..6);
    (edits, 0..=len).prop_map(move |(edits, keep)| {
        let mut bytes = seed.clone();
        edits.into_iter().for_each(|(at, to)| bytes[at] = to);
        bytes.truncate(if keep % 4 == 0 { keep } else { len });
        bytes
    })
}

fn seeds() -> [Vec<u8>; 4] {
    let answer = dns_answer(
        "www.a.com",
        &[("www.a.com", 5, Alias("b.com")), ("b.com", 5, Address(IpAddr::from([1, 2, 3, 4])))],
    );
    let framed = [&[0, answer.len() as u8][..], &answer].concat();
    let hello = [&[0, 9][..], &client_hello("www.a.com")].concat();
    let request = b"\x01\x09GET / HTTP/1.1\r\nHost: www.a.com\r\n\r\n".to_vec();
    [answer, framed, hello, request]
}

#[test]
fn valid_inputs_pass() {
    policy(POLICY.as_bytes());
    assert!(Policy::from_json(POLICY.as_bytes()).is_ok());
    let [answer, framed, hello, request] = seeds();
    assert!(Answer::parse(&answer).is_ok());
    dns(&answer);
    dns(&framed);
    sni(&hello);
    sni(&request);
}

proptest! {
    #[test]
    fn changed_inputs_hold_the_properties(
        json in mutated(POLICY.as_bytes().to_vec()),
        [answer, framed, hello, request] in seeds().map(mutated),
    ) {
        policy(&json);
        dns(&answer);
        dns(&framed);
        sni(&hello);
        sni(&request);
    }
}
