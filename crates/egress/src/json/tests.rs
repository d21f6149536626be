use super::*;
use crate::host::HostPattern;
use crate::net::Cidr;
use crate::rule::{PortRange, Protocol, Rule, Verdict};

fn error(json: &str) -> String {
    PolicyConfig::from_json(json.as_bytes()).unwrap_err().to_string()
}

fn rule_error(rule: &str) -> String {
    let good = r#"{"prefix_len":8,"base":"10.0.0.0","verdict":"allow"}"#;
    error(&format!(r#"{{"rules":[{good},{rule}]}}"#))
}

#[test]
fn the_documented_example() {
    let config = PolicyConfig::from_json(
        br#"{"rules":[
             {"prefix_len":8,"base":"10.1.2.3","port_range":null,"verdict":"allow"},
             {"redirect_target":"127.0.0.1:15001","verdict":"redirect","prefix_len":0,"base":"0.0.0.0",
              "port_range":[443,443]},
             {"prefix_len":128,"base":"::1","port_range":[1,65535],"verdict":"deny"},
             {"host":"*.example.com","protocol":"tcp","verdict":"allow","redirect_target":null}],
            "dns":{"resolvers":["9.9.9.9","[2620:fe::fe]:5353"],"min_ttl":1,"max_ttl":2,"local_answers":true},
            "floor":{"loopback":true,"networks":["192.0.2.1/24"]},
            "limits":{"connections":{"per_second":5},"bytes":{"per_second":10,"burst":20}},
            "embedded_ipv4":false, "redirect_header":{"magic":7,"magic_v6":8}, "comment":[{"anything":1.5}]}"#,
    )
    .unwrap();
    let net = |base: &str, len| Cidr::new(base.parse().unwrap(), len).unwrap();
    let https = PortRange::single(443);
    assert_eq!(
        config.rules,
        [
            Rule::network(net("10.0.0.0", 8), Verdict::Allow),
            Rule::network(net("0.0.0.0", 0), Verdict::Redirect("127.0.0.1:15001".parse().unwrap()))
                .ports(https),
            Rule::network(net("::1", 128), Verdict::Deny).ports(PortRange::new(1, 65535).unwrap()),
            Rule::host(HostPattern::parse("*.example.com").unwrap(), Verdict::Allow).protocol(Protocol::Tcp),
        ]
    );
    let resolvers = ["9.9.9.9:53", "[2620:fe::fe]:5353"].map(|s| s.parse().unwrap());
    assert_eq!(config.dns.resolvers, resolvers);
    assert_eq!((config.dns.min_ttl.as_secs(), config.dns.max_ttl.as_secs()), (1, 2));
    assert!(config.dns.local_answers && config.floor.loopback && !config.floor.private);
    assert_eq!(config.floor.networks, [net("192.0.2.0", 24)]);
    assert_eq!(config.limits.connections.map(|r| (r.per_second, r.burst)), Some((5, 5)));
    assert_eq!(config.limits.bytes.map(|r| (r.per_second, r.burst)), Some((10, 20)));
    assert_eq!(config.embedded_ipv4, EmbeddedIpv4::AsIpv6);
    assert_eq!(config.redirect_header, crate::RedirectHeader { magic: 7, magic_v6: Some(8) });
}

/// The README's example is a policy, and shows every field that its tables name.
#[test]
fn the_readme() {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("## JSON\n\n").unwrap();
    let (example, tables) = section.split_once("\n\n").unwrap();
    crate::Policy::from_json(example.as_bytes()).unwrap();
    let names = tables.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once(" |")?.0));
    let names: Vec<&str> = names.flat_map(|cell| cell.split(['`', '.', ',', ' '])).collect();
    for name in names.iter().filter(|name| !name.is_empty()) {
        assert!(example.contains(&format!("\"{name}\"")), "{name}");
    }
    assert!(names.len() > 20, "{names:?}");
}

#[test]
fn faults_of_a_rule_name_its_index_and_field() {
    for (rule, expected) in [
        ("7", "rule: expected an object"),
        ("{}", "base: missing"),
        (r#"{"base":"10.0.0.0","verdict":"allow"}"#, "prefix_len: missing"),
        (r#"{"base":"10.0.0.0","prefix_len":8}"#, "verdict: missing"),
        (r#"{"base":"10.0.0.0","prefix_len":8,"verdict":"allow","colour":1}"#, "colour: unknown field"),
        (r#"{"base":"10.0.0.0","base":"10.0.0.0","prefix_len":8,"verdict":"deny"}"#, "base: given twice"),
        (r#"{"base":"10.0.0","prefix_len":8,"verdict":"deny"}"#, "base: expected an IPv4 or IPv6 address"),
        (
            r#"{"base":"10.0.0.0/8","prefix_len":8,"verdict":"deny"}"#,
            "base: expected an IPv4 or IPv6 address",
        ),
        (
            r#"{"base":"fe80::1%lo","prefix_len":8,"verdict":"deny"}"#,
            "base: expected an IPv4 or IPv6 address",
        ),
        (r#"{"base":1,"prefix_len":8,"verdict":"deny"}"#, "base: expected a string"),
        (
            r#"{"base":"1.0.0.0","prefix_len":33,"verdict":"deny"}"#,
            "prefix_len: 33 is over 32, the width of the address",
        ),
        (
            r#"{"base":"::","prefix_len":129,"verdict":"deny"}"#,
            "prefix_len: 129 is over 128, the width of the address",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":264,"verdict":"deny"}"#,
            "prefix_len: 264 is over 32, the width of the address",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":-1,"verdict":"deny"}"#,
            "prefix_len: expected a non-negative integer",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8.0,"verdict":"deny"}"#,
            "prefix_len: expected a non-negative integer",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":"8","verdict":"deny"}"#,
            "prefix_len: expected a non-negative integer",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"port_range":[443],"verdict":"deny"}"#,
            "port_range: expected null or an array of two ports",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"port_range":443,"verdict":"deny"}"#,
            "port_range: expected null or an array of two ports",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"port_range":[2,1],"verdict":"deny"}"#,
            "port_range: reversed: 2 is over 1",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"port_range":[0,65536],"verdict":"deny"}"#,
            "port_range: out of range 0..=65535",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"port_range":[null,1],"verdict":"deny"}"#,
            "port_range: expected a non-negative integer",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"verdict":"Allow"}"#,
            r#"verdict: expected "allow", "deny" or "redirect""#,
        ),
        (r#"{"base":"1.0.0.0","prefix_len":8,"verdict":"redirect"}"#, "redirect_target: missing"),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"verdict":"redirect","redirect_target":"[::1]:1"}"#,
            "redirect_target: expected an IPv4 address and a port, as in 127.0.0.1:15001",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"verdict":"redirect","redirect_target":"1.2.3.4:65536"}"#,
            "redirect_target: expected an IPv4 address and a port, as in 127.0.0.1:15001",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"verdict":"allow","redirect_target":"1.2.3.4:1"}"#,
            "redirect_target: not together with a verdict other than redirect",
        ),
        (
            r#"{"base":"1.0.0.0","prefix_len":8,"verdict":"allow","protocol":"icmp"}"#,
            r#"protocol: expected "tcp", "udp" or "any""#,
        ),
        (r#"{"host":"a.com","base":"1.0.0.0","verdict":"allow"}"#, "base: not together with host"),
        (r#"{"host":"a.com","prefix_len":1,"verdict":"allow"}"#, "prefix_len: not together with host"),
        (r#"{"host":"1.2.3.4","verdict":"allow"}"#, "host: not a host pattern: an address, not a name"),
    ] {
        assert_eq!(rule_error(rule), format!("rule 1: {expected}"), "{rule}");
    }
    let long = format!(r#"{{"base":"1.0.0.0","prefix_len":8,"verdict":"allow","{}":1}}"#, "x".repeat(5000));
    assert_eq!(rule_error(&long), format!("rule 1: {}: unknown field", "x".repeat(64)));
}

#[test]
fn faults_outside_the_rules_name_the_field() {
    for (json, expected) in [
        ("[]", "policy: expected an object"),
        ("{}", "rules: missing"),
        (r#"{"rules":null}"#, "rules: missing"),
        (r#"{"rules":{}}"#, "rules: expected an array"),
        (r#"{"rules":[],"rules":[]}"#, "rules: given twice"),
        (r#"{"rules":[],"dns":{"resolver":[]}}"#, "dns.resolver: unknown field"),
        (
            r#"{"rules":[],"dns":{"resolvers":["1.1.1.1","dns.example"]}}"#,
            "dns.resolvers[1]: expected an address, with or without a port",
        ),
        (r#"{"rules":[],"dns":{"max_ttl":604801}}"#, "dns.max_ttl: out of range 0..=604800"),
        (
            r#"{"rules":[],"floor":{"networks":["10.0.0.0/33"]}}"#,
            "floor.networks[0]: expected a network, as in 192.0.2.0/24",
        ),
        (
            r#"{"rules":[],"floor":{"networks":["10.0.0.0/+8"]}}"#,
            "floor.networks[0]: expected a network, as in 192.0.2.0/24",
        ),
        (r#"{"rules":[],"limits":{"bytes":{}}}"#, "limits.bytes.per_second: missing"),
        (
            r#"{"rules":[],"limits":{"bytes":{"per_second":0}}}"#,
            "limits.bytes.per_second: out of range 1..=18446744073709551615",
        ),
        (
            r#"{"rules":[],"limits":{"bytes":{"per_second":1,"burts":1}}}"#,
            "limits.bytes.burts: unknown field",
        ),
        (r#"{"rules":[],"embedded_ipv4":1}"#, "embedded_ipv4: expected true or false"),
        (r#"{"rules":[],"redirect_header":2}"#, "redirect_header: expected an object"),
        (
            r#"{"rules":[],"redirect_header":{"magic":4294967296}}"#,
            "redirect_header.magic: out of range 0..=4294967295",
        ),
        (r#"{"rules":[],"redirect_header":{"magik":4}}"#, "redirect_header.magik: unknown field"),
    ] {
        assert_eq!(error(json), expected, "{json}");
    }
}

#[test]
fn text_that_is_not_a_json_policy() {
    for json in [
        "",
        "{",
        r#"{"rules":[]} x"#,
        r#"{"rules":[]}{}"#,
        r#"{"rules":[],}"#,
        r#"{'rules':[]}"#,
        r#"{"rules":[],"x":[[[[[[[[1]]]]]]]]}"#,
        "{\"rules\":[],\"x\":\"\u{1}\"}",
    ] {
        let error = PolicyConfig::from_json(json.as_bytes()).unwrap_err();
        assert!(matches!(error, PolicyError::Json { .. }), "{json}: {error}");
    }
    assert!(matches!(PolicyConfig::from_json(b"{\"rules\":[],\"\xff\":1}"), Err(PolicyError::Json { .. })));
    assert!(PolicyConfig::from_json(br#"{"rules":[],"x":[[[[[[[1]]]]]]]}"#).is_ok(), "depth 8");
    assert!(PolicyConfig::from_json(&b"[".repeat(MAX_JSON_LEN)).is_err());
    let long = vec![b' '; MAX_JSON_LEN + 1];
    assert!(matches!(PolicyConfig::from_json(&long), Err(PolicyError::TooLong { len }) if len == long.len()));
    let many = format!(r#"{{"rules":[{}0]}}"#, "0,".repeat(MAX_JSON_RULES));
    assert_eq!(error(&many), "rules: 65537 entries, 65536 are allowed");
}

#[test]
fn redirect_headers_must_begin_differently() {
    let json = br#"{"rules":[],"redirect_header":{"magic":4,"magic_v6":4}}"#;
    let error = crate::Policy::from_json(json).unwrap_err().to_string();
    assert_eq!(error, "redirect_header.magic_v6: expected a number other than magic");
}
