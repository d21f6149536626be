//! What is mapped where in a window. Pure.

use std::collections::BTreeMap;

/// Most mappings in a window. The host needs two of its own for each that stands alone, and a process has some 65,000
/// (`vm.max_map_count`), without which it cannot even allocate.
pub(super) const MAX_MAPS: usize = 1 << 13;

/// A part of a file in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapped {
    /// Bytes.
    pub len: u64,
    pub node: u64,
    /// Where it is in the file.
    pub offset: u64,
    pub writable: bool,
}

/// Mappings by their place in the window; they do not overlap.
#[derive(Debug, Default)]
pub(super) struct Maps(BTreeMap<u64, Mapped>);

impl Maps {
    /// A mapping replaces what was there. The caller has checked that `at + len` does not overflow.
    pub fn insert(&mut self, at: u64, mapped: Mapped) {
        self.remove(at, mapped.len);
        self.0.insert(at, mapped);
    }

    /// Takes everything out between `at` and `at + len`; what reaches into it is cut.
    pub fn remove(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len);
        if let Some((&start, &before)) = self.0.range(..at).next_back() {
            let before_end = start.saturating_add(before.len);
            if before_end > at {
                self.0.insert(start, Mapped { len: at.saturating_sub(start), ..before });
            }
            if before_end > end {
                self.0.insert(end, tail(before, end.saturating_sub(start)));
            }
        }
        let inside: Vec<u64> = self.0.range(at..end).map(|(start, _)| *start).collect();
        for start in inside {
            let Some(mapped) = self.0.remove(&start) else { continue };
            if start.saturating_add(mapped.len) > end {
                self.0.insert(end, tail(mapped, end.saturating_sub(start)));
            }
        }
    }

    /// How many are left when everything between `at` and `at + len` is taken out.
    pub fn left_without(&self, at: u64, len: u64) -> usize {
        let end = at.saturating_add(len);
        let end_of = |(start, mapped): (&u64, &Mapped)| start.saturating_add(mapped.len);
        let before = self.0.range(..at).next_back().map_or(0, end_of);
        let last = self.0.range(at..end).next_back().map_or(0, end_of);
        // What reaches out at the end stays as a piece; what reaches in at the front is one in any case.
        let tails = usize::from(before > end) + usize::from(last > end);
        self.0.len().saturating_sub(self.0.range(at..end).count()).saturating_add(tails)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, Mapped)> + '_ {
        self.0.iter().map(|(at, mapped)| (*at, *mapped))
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// What is left of a mapping without its first `cut` bytes.
fn tail(mapped: Mapped, cut: u64) -> Mapped {
    Mapped { len: mapped.len.saturating_sub(cut), offset: mapped.offset.saturating_add(cut), ..mapped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: usize = 32;

    proptest! {
        /// Compared with an array of pages.
        #[test]
        fn as_an_array(ops in proptest::collection::vec((any::<bool>(), 0u64..32, 1u64..12, 0u64..4, 0u64..90), 0..60)) {
            let mut maps = Maps::default();
            let mut pages = [None; WINDOW];
            for (insert, at, len, node, offset) in ops {
                let len = len.min(WINDOW as u64 - at);
                let left = maps.left_without(at, len);
                for (i, page) in (0u64..).zip(&mut pages[at as usize..(at + len) as usize]) {
                    *page = insert.then_some((node, offset + i));
                }
                if insert {
                    maps.insert(at, Mapped { len, node, offset, writable: false });
                } else {
                    maps.remove(at, len);
                }
                prop_assert_eq!(maps.iter().count(), left + usize::from(insert));
            }
            let mut found = [None; WINDOW];
            for (at, mapped) in maps.iter() {
                prop_assert!(mapped.len > 0);
                for i in 0..mapped.len {
                    let page = &mut found[(at + i) as usize];
                    prop_assert_eq!(*page, None, "overlap");
                    *page = Some((mapped.node, mapped.offset + i));
                }
            }
            prop_assert_eq!(found, pages);
        }
    }
}
