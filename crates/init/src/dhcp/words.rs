//! The options of a packet (RFC 2132 §2), also those that overflow into other fields (RFC 2131 §4.1) and those that are
//! in several pieces (RFC 3396).

use alloc::vec::Vec;

const PAD: u8 = 0;
const END: u8 = 255;
/// Option overload: 1 the `file` field holds options, 2 the `sname` field does, 3 both.
const OVERLOAD: u8 = 52;

/// Options, checked to be well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words<'a>(Vec<(u8, &'a [u8])>);

impl<'a> Words<'a> {
    /// Reads the fields of a packet. `None` if an option does not fit into its field.
    pub fn read(options: &'a [u8], file: &'a [u8], sname: &'a [u8]) -> Option<Self> {
        let mut all = Vec::new();
        read_field(options, &mut all)?;
        let overload = all.iter().find(|(code, _)| *code == OVERLOAD).and_then(|(_, value)| value.first());
        let overload = overload.copied().unwrap_or(0);
        if overload & 1 != 0 {
            read_field(file, &mut all)?;
        }
        if overload & 2 != 0 {
            read_field(sname, &mut all)?;
        }
        Some(Self(all))
    }

    /// The value of an option: all its pieces in a row.
    pub fn get(&self, wanted: u8) -> Option<Vec<u8>> {
        let mut pieces = self.0.iter().filter(|(code, _)| *code == wanted).map(|(_, value)| *value);
        let mut value = pieces.next()?.to_vec();
        pieces.for_each(|piece| value.extend_from_slice(piece));
        Some(value)
    }

    /// An option that is an array of this length exactly.
    pub fn exactly<const N: usize>(&self, wanted: u8) -> Option<[u8; N]> {
        self.get(wanted)?.try_into().ok()
    }
}

/// Options up to the end mark or, leniently, the end of the field.
fn read_field<'a>(mut field: &'a [u8], all: &mut Vec<(u8, &'a [u8])>) -> Option<()> {
    while let Some((&code, rest)) = field.split_first() {
        match code {
            PAD => field = rest,
            END => break,
            code => {
                let (&length, rest) = rest.split_first()?;
                let (value, rest) = rest.split_at_checked(length.into())?;
                all.push((code, value));
                field = rest;
            }
        }
    }
    Some(())
}
