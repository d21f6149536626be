//! Runs the tables in `tests/tables/*.txt`. Their language:
//!
//! ```text
//! # a comment, to the end of the line
//! policy {"rules": [...]}                  a new machine with this policy (JSON up to an empty line)
//! replace {"rules": [...]}                 another policy for the same machine
//! refuse {"rules": [...]} => text          a policy that is refused, and the error
//! at 12                                    the time is now 12 seconds
//! dns 9.9.9.9 a.com b.net 1.2.3.4 ttl 60   that resolver answers: a.com is b.net is 1.2.3.4
//! tcp 1.2.3.4:443 => allow (rule 0)        a flow, and the decision
//! name b.net => deny (rule 0, name mismatch, b.net)   the last flow shows this name (or `none`)
//! ```

// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use purlin_egress::testing::{Data, dns_answer};
use purlin_egress::{Decision, Egress, Flow, HostName, InspectError, Policy};

/// Commands whose JSON may go on over several lines.
const WITH_JSON: [&str; 3] = ["policy ", "replace ", "refuse "];

struct Table {
    egress: Egress,
    now: Duration,
    last: Option<(Flow, Decision)>,
    checks: usize,
}

impl Table {
    fn run(&mut self, command: &str, rest: &str) {
        match command {
            "policy" => self.egress = Egress::new(Policy::from_json(rest.as_bytes()).unwrap(), self.now),
            "replace" => {
                let policy = Policy::from_json(rest.as_bytes()).unwrap();
                let _: Vec<()> = self.egress.replace(self.now, policy, []);
            }
            "refuse" => {
                let (json, expected) = split(rest);
                self.expect(expected, Policy::from_json(json.as_bytes()).unwrap_err().to_string());
            }
            "at" => self.now = Duration::from_secs(rest.trim().parse().unwrap()),
            "dns" => self.dns(rest),
            "tcp" | "udp" => {
                let (destination, expected) = split(rest);
                let destination: SocketAddr = destination.parse().unwrap();
                let flow = if command == "tcp" { Flow::tcp(destination) } else { Flow::udp(destination) };
                let decision = self.egress.decide(self.now, &flow);
                self.expect(expected, decision.to_string());
                self.last = Some((flow, decision));
            }
            "name" => {
                let (name, expected) = split(rest);
                let name = if name == "none" { Err(InspectError::NoName) } else { Ok(name) };
                let name = name.map(|name| HostName::parse(name).unwrap());
                let (flow, opened) = self.last.clone().unwrap();
                let decision = self.egress.check_name(self.now, &flow, &opened, name);
                self.expect(expected, decision.to_string());
            }
            other => panic!("no such command: {other}"),
        }
    }

    fn expect(&mut self, expected: &str, actual: String) {
        assert_eq!(actual, expected);
        self.checks += 1;
    }

    fn dns(&mut self, rest: &str) {
        let (rest, ttl) = rest.rsplit_once(" ttl ").unwrap();
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [resolver, names @ .., address] = words.as_slice() else { panic!("dns {rest}") };
        let ttl = ttl.trim().parse().unwrap();
        let mut records: Vec<_> = names.windows(2).map(|w| (w[0], ttl, Data::Alias(w[1]))).collect();
        records.push((names.last().unwrap(), ttl, Data::Address(address.parse().unwrap())));
        let resolver = SocketAddr::new(resolver.parse::<IpAddr>().unwrap(), 53);
        // An untrusted resolver is an error here and shows in the decisions that follow.
        let _ = self.egress.observe_dns(self.now, resolver, &dns_answer(names[0], &records));
    }
}

fn split(rest: &str) -> (&str, &str) {
    let (left, right) = rest.rsplit_once("=>").unwrap_or_else(|| panic!("no => in {rest}"));
    (left.trim(), right.trim())
}

fn run(text: &str) -> usize {
    let policy = Policy::unrestricted();
    let mut table =
        Table { egress: Egress::new(policy, Duration::ZERO), now: Duration::ZERO, last: None, checks: 0 };
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut whole = line.split('#').next().unwrap_or_default().trim().to_owned();
        if WITH_JSON.iter().any(|command| whole.starts_with(command)) {
            for (_, more) in lines.by_ref().take_while(|(_, more)| !more.trim().is_empty()) {
                whole.push_str(more);
            }
        }
        if let Some((command, rest)) = whole.split_once(' ') {
            println!("line {}: {whole}", number + 1);
            table.run(command, rest);
        }
    }
    table.checks
}

#[test]
fn every_table() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tables");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        assert!(run(&std::fs::read_to_string(&path).unwrap()) > 0, "nothing is checked");
        files += 1;
    }
    assert!(files > 0);
}
