//! Resource limits of the workload, as the host writes them.

/// "No limit" (`RLIM_INFINITY`).
pub const INFINITY: u64 = u64::MAX;

/// Resources are numbered 0 to 15 (`RLIMIT_CPU` to `RLIMIT_RTTIME`, Linux `asm-generic/resource.h`).
const RESOURCES: u32 = 16;

/// One limit, with the arguments of `prlimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Resource number, 0 to 15.
    pub resource: u32,
    /// Soft limit, at most `hard`.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl Rlimit {
    /// Reads one item `id=soft:hard` (also `id:soft:hard`), decimal, with `-1` for "no limit". Blanks around the parts
    /// are ignored. `None` for anything else, for an unknown resource, and for a soft limit above the hard one.
    pub fn parse(item: &[u8]) -> Option<Self> {
        let mut parts = item.splitn(2, |&byte| byte == b'=' || byte == b':');
        let resource = number(parts.next()?)?;
        let mut values = parts.next()?.split(|&byte| byte == b':');
        let limit = Self {
            resource: u32::try_from(resource).ok().filter(|&id| id < RESOURCES)?,
            soft: value(values.next()?)?,
            hard: value(values.next()?)?,
        };
        (values.next().is_none() && limit.soft <= limit.hard).then_some(limit)
    }
}

/// The items of a `KRUN_RLIMITS` value: separated by commas, with a pair of quotes around the whole removed.
pub fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let list = list.trim_ascii();
    let list = list.strip_prefix(b"\"").unwrap_or(list);
    let list = list.strip_suffix(b"\"").unwrap_or(list);
    list.split(|&byte| byte == b',').filter(|item| !item.trim_ascii().is_empty())
}

fn value(text: &[u8]) -> Option<u64> {
    if text.trim_ascii() == b"-1" { Some(INFINITY) } else { number(text) }
}

/// An unsigned decimal number, without a sign.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, &byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn items_that_are_understood() {
        let table: [(&str, u32, u64, u64); 5] = [
            ("7=1024:4096", 7, 1024, 4096),
            ("7:1024:4096", 7, 1024, 4096),
            (" 6 = 0 : 18446744073709551615 ", 6, 0, INFINITY),
            ("4=-1:-1", 4, INFINITY, INFINITY),
            ("15=0:0", 15, 0, 0),
        ];
        for (text, resource, soft, hard) in table {
            assert_eq!(Rlimit::parse(text.as_bytes()), Some(Rlimit { resource, soft, hard }), "{text}");
        }
    }

    #[test]
    fn items_that_are_refused() {
        for text in [
            "",
            "7",
            "7=",
            "7=1",
            "7=1:",
            "7=:1",
            "=1:2",
            "7=1:2:3",
            "16=1:1",
            "-1=1:1",
            "7=2:1",
            "7=+1:2",
            "x=1:2",
            "7=-2:-1",
            "7=18446744073709551616:18446744073709551616",
            "4294967303=1:1",
        ] {
            assert_eq!(Rlimit::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn lists_are_split_and_unquoted() {
        let split = |text: &'static str| items(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(split("\"6=1:1,7=2:2\""), [b"6=1:1", b"7=2:2"]);
        assert_eq!(split("6=1:1"), [b"6=1:1"]);
        assert_eq!(split(",6=1:1, ,"), [b"6=1:1"]);
        assert!(split("\"\"").is_empty());
        assert!(split("\"").is_empty());
    }
}
