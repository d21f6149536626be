//! A DNS answer, reduced to the addresses of the name that was asked for.

use std::net::IpAddr;

use super::DnsError;
use super::wire::Cursor;
use crate::host::HostName;

/// Most aliases followed from the question to its addresses.
pub const MAX_ALIASES: usize = 16;
/// Most addresses taken from one answer; what follows is ignored.
pub const MAX_ADDRESSES: usize = 64;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// Response bit, opcode and response code of the flags (RFC 1035 §4.1.1).
const KIND_MASK: u16 = 0xf80f;
/// A response to a standard query without error.
const SUCCESS: u16 = 0x8000;

/// The addresses a DNS answer gives for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name that was asked for, then each alias (CNAME) up to the one that has the addresses.
    pub names: Vec<HostName>,
    /// The addresses of the last of `names`; at most [`MAX_ADDRESSES`].
    pub addresses: Vec<IpAddr>,
    /// The least time to live of the records that were used, in seconds.
    pub ttl: u32,
}

impl Answer {
    /// Reads a DNS message as UDP carries it.
    ///
    /// Only the answer section counts, and in it only what hangs together with the question: aliases from
    /// the name asked for, and addresses of where they lead. Addresses of other names, which an answer may
    /// also carry, prove nothing. An answer without addresses, or about a name that no host has, gives
    /// empty lists.
    ///
    /// # Errors
    ///
    /// See [`DnsError`]; never [`Untrusted`](DnsError::Untrusted). Takes time linear in the message.
    pub fn parse(message: &[u8]) -> Result<Self, DnsError> {
        let mut cursor = Cursor::new(message);
        let [_, flags, questions, answers, _, _] = header(&mut cursor)?;
        if flags & KIND_MASK != SUCCESS || questions != 1 {
            return Err(DnsError::NotAnAnswer);
        }
        let question = cursor.name()?;
        let [_, class] = [cursor.u16("the question")?, cursor.u16("the question")?];
        if class != CLASS_IN {
            return Err(DnsError::NotAnAnswer);
        }
        // Records are read even when the name is not a host's, so that malformed ones never pass.
        let records = records(&mut cursor, answers)?;
        question.map_or(Ok(Self { names: Vec::new(), addresses: Vec::new(), ttl: 0 }), |name| {
            follow(name, &records)
        })
    }
}

fn header(cursor: &mut Cursor<'_>) -> Result<[u16; 6], DnsError> {
    let mut fields = [0; 6];
    for field in &mut fields {
        *field = cursor.u16("the header")?;
    }
    Ok(fields)
}

struct Record {
    owner: HostName,
    ttl: u32,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(HostName),
}

/// The records of use among the next `count`. The count may lie: the list grows with what is there.
fn records(cursor: &mut Cursor<'_>, count: u16) -> Result<Vec<Record>, DnsError> {
    let mut records = Vec::new();
    for _ in 0..count {
        records.extend(record(cursor)?);
    }
    Ok(records)
}

fn record(cursor: &mut Cursor<'_>) -> Result<Option<Record>, DnsError> {
    const WHAT: &str = "a record";
    let owner = cursor.name()?;
    let (kind, class) = (cursor.u16(WHAT)?, cursor.u16(WHAT)?);
    // A time to live with the top bit set is none at all (RFC 2181 §8).
    let ttl = Some(cursor.u32(WHAT)?).filter(|ttl| ttl >> 31 == 0).unwrap_or(0);
    let len = usize::from(cursor.u16(WHAT)?);
    let (mut data, start) = (*cursor, cursor.position());
    cursor.skip(len, WHAT)?;
    let data = match (class, kind, len) {
        (CLASS_IN, TYPE_A, 4) => Some(Data::Address(IpAddr::from(data.take::<4>(WHAT)?))),
        (CLASS_IN, TYPE_AAAA, 16) => Some(Data::Address(IpAddr::from(data.take::<16>(WHAT)?))),
        (CLASS_IN, TYPE_A | TYPE_AAAA, _) => return Err(DnsError::RecordLength { len }),
        (CLASS_IN, TYPE_CNAME, _) => {
            let target = data.name()?;
            if data.position() != start.saturating_add(len) {
                return Err(DnsError::RecordLength { len });
            }
            target.map(Data::Alias)
        }
        _ => None,
    };
    Ok(owner.zip(data).map(|(owner, data)| Record { owner, ttl, data }))
}

/// Follows aliases from `question` and collects the addresses at the end.
fn follow(question: HostName, records: &[Record]) -> Result<Answer, DnsError> {
    let mut answer = Answer { names: vec![question.clone()], addresses: Vec::new(), ttl: u32::MAX };
    let mut name = &question;
    while let Some((target, ttl)) = records.iter().find_map(|record| match &record.data {
        Data::Alias(target) if record.owner == *name => Some((target, record.ttl)),
        _ => None,
    }) {
        if answer.names.len() > MAX_ALIASES {
            return Err(DnsError::AliasChain);
        }
        answer.ttl = answer.ttl.min(ttl);
        answer.names.push(target.clone());
        name = target;
    }
    let of_name = records.iter().filter(|record| record.owner == *name);
    for (address, ttl) in of_name
        .filter_map(|record| match &record.data {
            Data::Address(address) => Some((*address, record.ttl)),
            Data::Alias(_) => None,
        })
        .take(MAX_ADDRESSES)
    {
        answer.ttl = answer.ttl.min(ttl);
        answer.addresses.push(address);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
