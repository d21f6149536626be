//! Page numbers of a balloon as ranges of memory. Pure.

/// A page of the balloon in bytes, whatever the guest's page size is (virtio 1.2 §5.5.6).
pub(super) const PAGE: u64 = 4096;

/// Page numbers as they lie in a buffer: 32 bits each, little endian. Bytes behind the last whole one count
/// for nothing.
pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let words = bytes.chunks_exact(4).filter_map(|chunk| chunk.try_into().ok());
    words.map(u32::from_le_bytes)
}

/// Sorts `pages` and calls `each` with start and length in bytes of every run of neighbours.
pub(super) fn runs(pages: &mut [u32], mut each: impl FnMut(u64, u64)) {
    pages.sort_unstable();
    let mut pages = pages.iter().map(|&page| u64::from(page));
    let Some(mut first) = pages.next() else { return };
    let mut last = first;
    for page in pages {
        if page > last + 1 {
            each(first * PAGE, (last - first + 1) * PAGE);
            first = page;
        }
        last = page;
    }
    each(first * PAGE, (last - first + 1) * PAGE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run() {
        type Case = (&'static [u32], &'static [(u64, u64)]);
        let table: [Case; 6] = [
            (&[], &[]),
            (&[3], &[(3, 1)]),
            (&[5, 3, 4, 9], &[(3, 3), (9, 1)]),
            (&[7, 7, 7], &[(7, 1)]),
            (&[0, 2, 4], &[(0, 1), (2, 1), (4, 1)]),
            (&[u32::MAX, 0, u32::MAX - 1], &[(0, 1), (0xffff_fffe, 2)]),
        ];
        for (pages, want) in table {
            let mut found = Vec::new();
            runs(&mut pages.to_vec(), |start, len| found.push((start / PAGE, len / PAGE)));
            assert_eq!(found, want, "{pages:?}");
        }
    }

    #[test]
    fn half_a_number_is_none() {
        assert_eq!(numbers(&[1, 0, 0, 0, 2, 1, 0, 0, 9, 9]).collect::<Vec<_>>(), [1, 258]);
    }
}
