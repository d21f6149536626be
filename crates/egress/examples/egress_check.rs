//! Says what a policy decides.
//!
//! `egress_check POLICY.json FLOW...`, a flow being like `tcp/10.0.0.1:443` or `udp/[2001:db8::1]:53`. Rules about
//! hosts match nothing here, because no name was ever resolved. Exits with 0 if every flow is let out.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use purlin_egress::{Flow, Policy};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: egress_check POLICY.json FLOW...")?;
    let policy = Policy::from_json(&std::fs::read(path)?)?;
    let mut all = true;
    for text in arguments {
        let flow =
            flow(&text).ok_or_else(|| format!("{text}: expected tcp/ADDRESS:PORT or udp/ADDRESS:PORT"))?;
        let decision = policy.decide(&flow);
        println!("{flow}: {decision}");
        all &= decision.lets_out();
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn flow(text: &str) -> Option<Flow> {
    let (protocol, destination) = text.split_once('/')?;
    let destination: SocketAddr = destination.parse().ok()?;
    match protocol {
        "tcp" => Some(Flow::tcp(destination)),
        "udp" => Some(Flow::udp(destination)),
        _ => None,
    }
}
