//! Packets (RFC 2131 §2, options of RFC 2132).

use alloc::vec::Vec;

use super::words::Words;
use crate::net::{Address, is_host};

/// Length of every packet that is sent, bytes: the least that BOOTP relays take (RFC 1542 §2.1).
pub const LENGTH: usize = 300;

/// Longest packet that is read, bytes.
pub const MAX_LENGTH: usize = 1500;

/// Bytes before the options, without the cookie.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const REQUEST_OP: u8 = 1;
const REPLY_OP: u8 = 2;
const ETHERNET: u8 = 1;
/// Answers go to the broadcast address: the client has none of its own yet.
const BROADCAST_FLAG: u16 = 0x8000;

/// Codes of options.
pub mod option {
    /// Subnet mask.
    pub const MASK: u8 = 1;
    /// Routers, best first.
    pub const ROUTER: u8 = 3;
    /// Name servers, best first.
    pub const DNS: u8 = 6;
    /// Largest packet of the interface.
    pub const MTU: u8 = 26;
    /// The address that a client asks for.
    pub const ADDRESS: u8 = 50;
    /// Seconds that a lease lasts.
    pub const LEASE: u8 = 51;
    /// What kind of message this is.
    pub const KIND: u8 = 53;
    /// The server, by its address.
    pub const SERVER: u8 = 54;
    /// What the client wants to know.
    pub const PARAMETERS: u8 = 55;
    /// Seconds until the client asks its server for more time.
    pub const RENEWAL: u8 = 58;
    /// Seconds until the client asks any server for more time.
    pub const REBINDING: u8 = 59;
    /// The server may skip the offer (RFC 4039).
    pub const RAPID_COMMIT: u8 = 80;
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address to ask for.
    Offer,
    /// The address may be used.
    Ack,
    /// The address may not be used.
    Nak,
}

/// What makes a packet one of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number of the present exchange.
    pub xid: u32,
    /// The interface's hardware address.
    pub mac: [u8; 6],
}

/// What the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who has an address?
    Discover,
    /// I take this one, of this server.
    Select {
        /// The address offered.
        address: Address,
        /// Who offered it.
        server: Address,
    },
    /// I want to keep this one.
    Extend {
        /// The address in use.
        address: Address,
        /// Whether the answer may go to that address.
        unicast: bool,
    },
}

/// An answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it is.
    pub kind: Kind,
    /// The client's address; 0.0.0.0 in a [`Kind::Nak`].
    pub address: Address,
    /// The server, if it names itself.
    pub server: Option<Address>,
    /// Prefix of the network, bits: the leading ones of the mask.
    pub prefix: Option<u8>,
    /// The first router.
    pub router: Option<Address>,
    /// Name servers.
    pub dns: Vec<Address>,
    /// Largest packet.
    pub mtu: Option<u16>,
    /// Seconds that the lease lasts.
    pub lease: Option<u32>,
    /// Seconds until renewal.
    pub renewal: Option<u32>,
    /// Seconds until rebinding.
    pub rebinding: Option<u32>,
}

/// A packet with a message. `secs` is how long the exchange takes already, seconds.
pub fn build(identity: Identity, secs: u16, message: Message) -> Vec<u8> {
    use option::*;
    let Identity { xid, mac } = identity;
    let (client, flags) = match message {
        Message::Extend { address, unicast: true } => (address, 0),
        Message::Extend { address, unicast: false } => (address, BROADCAST_FLAG),
        Message::Discover | Message::Select { .. } => ([0; 4], BROADCAST_FLAG),
    };
    let mut out = Vec::with_capacity(LENGTH);
    out.extend_from_slice(&[REQUEST_OP, ETHERNET, 6, 0]);
    out.extend_from_slice(&xid.to_be_bytes());
    out.extend_from_slice(&secs.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&client);
    out.resize(28, 0);
    out.extend_from_slice(&mac);
    out.resize(FIXED, 0);
    out.extend_from_slice(&COOKIE);
    let kind = if message == Message::Discover { 1 } else { 3 };
    out.extend_from_slice(&[KIND, 1, kind]);
    match message {
        Message::Discover => out.extend_from_slice(&[RAPID_COMMIT, 0]),
        Message::Select { address, server } => {
            out.extend_from_slice(&[ADDRESS, 4]);
            out.extend_from_slice(&address);
            out.extend_from_slice(&[SERVER, 4]);
            out.extend_from_slice(&server);
        }
        Message::Extend { .. } => {}
    }
    out.extend_from_slice(&[PARAMETERS, 7, MASK, ROUTER, DNS, MTU, LEASE, RENEWAL, REBINDING, 255]);
    out.resize(LENGTH, 0);
    out
}

/// Reads an answer to `identity`. `None` for anything else: another exchange, another client, no DHCP, broken options,
/// an address that no host can have.
pub fn parse(packet: &[u8], identity: Identity) -> Option<Reply> {
    let (fixed, options) = packet.split_at_checked(FIXED)?;
    let field = |from: usize, length: usize| fixed.get(from..from.checked_add(length)?);
    let head = [REPLY_OP, ETHERNET, 6];
    if field(0, 3)? != head || field(4, 4)? != identity.xid.to_be_bytes() || field(28, 6)? != identity.mac {
        return None;
    }
    let words = Words::read(options.strip_prefix(&COOKIE)?, field(108, 128)?, field(44, 64)?)?;
    let kind = match words.exactly(option::KIND)? {
        [2] => Kind::Offer,
        [5] => Kind::Ack,
        [6] => Kind::Nak,
        _ => return None,
    };
    let address = field(16, 4)?.try_into().ok()?;
    if kind != Kind::Nak && !is_host(address) {
        return None;
    }
    let number = |code| words.exactly(code).map(u32::from_be_bytes);
    Some(Reply {
        kind,
        address,
        server: words.exactly(option::SERVER),
        prefix: number(option::MASK).map(|mask| mask.leading_ones() as u8),
        router: addresses(&words, option::ROUTER).into_iter().next(),
        dns: addresses(&words, option::DNS),
        mtu: words.exactly(option::MTU).map(u16::from_be_bytes),
        lease: number(option::LEASE),
        renewal: number(option::RENEWAL),
        rebinding: number(option::REBINDING),
    })
}

/// The usable addresses of an option; none if its length is no multiple of 4.
fn addresses(words: &Words<'_>, code: u8) -> Vec<Address> {
    let value = words.get(code).unwrap_or_default();
    let (addresses, rest) = value.as_chunks::<4>();
    if !rest.is_empty() {
        return Vec::new();
    }
    addresses.iter().copied().filter(|address| is_host(*address)).collect()
}
