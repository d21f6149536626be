//! What a guest tells of its memory (virtio 1.2 §5.5.6.3). Pure.

/// Bytes of one statistic: a 16-bit tag and a 64-bit value, packed, little endian.
const ITEM: usize = 10;
/// Longest buffer looked at; Linux sends 16 items.
pub(super) const MAX_BYTES: usize = 64 * ITEM;

/// A guest's own view of its memory. What the guest's kernel does not tell is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GuestMemoryStats {
    /// Bytes swapped in since the guest started.
    pub swapped_in: Option<u64>,
    /// Bytes swapped out since the guest started.
    pub swapped_out: Option<u64>,
    /// Page faults that needed the disk.
    pub major_faults: Option<u64>,
    /// Page faults that did not.
    pub minor_faults: Option<u64>,
    /// Unused bytes.
    pub free: Option<u64>,
    /// All bytes the guest's kernel has.
    pub total: Option<u64>,
    /// Bytes that a new program could get without swapping.
    pub available: Option<u64>,
    /// Bytes of caches that can be dropped.
    pub caches: Option<u64>,
    /// Explicit huge pages allocated.
    pub huge_pages_allocated: Option<u64>,
    /// Explicit huge pages that could not be allocated.
    pub huge_pages_failed: Option<u64>,
    /// Processes killed for lack of memory (Linux 6.12 and later).
    pub oom_kills: Option<u64>,
}

impl GuestMemoryStats {
    /// Parses a buffer of the statistics queue. Unknown tags are skipped; of equal ones the last counts.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut stats = GuestMemoryStats::default();
        for item in bytes.chunks_exact(ITEM) {
            let Some((&tag, value)) = item.split_first_chunk::<2>() else { continue };
            let Ok(value) = value.try_into().map(u64::from_le_bytes) else { continue };
            let field = match u16::from_le_bytes(tag) {
                0 => &mut stats.swapped_in,
                1 => &mut stats.swapped_out,
                2 => &mut stats.major_faults,
                3 => &mut stats.minor_faults,
                4 => &mut stats.free,
                5 => &mut stats.total,
                6 => &mut stats.available,
                7 => &mut stats.caches,
                8 => &mut stats.huge_pages_allocated,
                9 => &mut stats.huge_pages_failed,
                10 => &mut stats.oom_kills,
                _ => continue,
            };
            *field = Some(value);
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tags_in_any_order() {
        let item = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
        let bytes = [item(5, 1 << 30), item(4, 7), item(99, 1), item(4, 8), vec![6, 0, 1]].concat();
        let want = GuestMemoryStats { total: Some(1 << 30), free: Some(8), ..GuestMemoryStats::default() };
        assert_eq!(GuestMemoryStats::parse(&bytes), want);
        assert_eq!(GuestMemoryStats::parse(&[]), GuestMemoryStats::default());
        let all: Vec<u8> = (0..11).flat_map(|tag| item(tag, u64::from(tag) + 1)).collect();
        assert_eq!(GuestMemoryStats::parse(&all).oom_kills, Some(11));
        assert_eq!(GuestMemoryStats::parse(&all).swapped_in, Some(1));
    }
}
