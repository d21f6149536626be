//! A static search tree: sorted keys in blocks, with every block's first key in the level above.

/// Keys per block. Sixteen `u32` are one cache line.
const BLOCK: usize = 16;
/// Keys of a part of a block. Four `u128` are one cache line.
const PART: usize = 4;

/// What a tree can be searched by.
pub(crate) trait Key: Copy + Ord {
    /// The greatest key, which fills up blocks.
    const LAST: Self;

    /// How many keys of a sorted block are at most `self`. Counts without a branch: bisecting costs more,
    /// because no processor predicts it.
    fn rank(self, block: &[Self; BLOCK]) -> usize;
}

impl Key for u32 {
    const LAST: Self = Self::MAX;

    fn rank(self, block: &[Self; BLOCK]) -> usize {
        // A few vector instructions.
        block.iter().map(|key| usize::from(*key <= self)).sum()
    }
}

impl Key for u128 {
    const LAST: Self = Self::MAX;

    fn rank(self, block: &[Self; BLOCK]) -> usize {
        // No vector instruction compares keys of this width, so as few as possible: first which part.
        let (parts, _) = block.as_chunks::<PART>();
        let later = parts.iter().skip(1).map(|[first, ..]| usize::from(*first <= self)).sum::<usize>();
        let part = parts.get(later).map_or(&[][..], |part| part);
        let inside = part.iter().map(|key| usize::from(*key <= self)).sum::<usize>();
        later.saturating_mul(PART).saturating_add(inside)
    }
}

/// Finds the last key that is at most a given one.
#[derive(Debug)]
pub(super) struct SearchTree<K> {
    /// From the root, one block, to all keys.
    levels: Vec<Level<K>>,
}

#[derive(Debug)]
struct Level<K> {
    blocks: Vec<[K; BLOCK]>,
    /// The index of the last key that is not there to fill up.
    last: usize,
}

impl<K: Key> SearchTree<K> {
    /// A tree of `keys`, which are sorted and distinct.
    pub(super) fn new(mut keys: Vec<K>) -> Self {
        debug_assert!(keys.is_sorted());
        let mut levels = Vec::new();
        loop {
            let above: Vec<K> = keys.iter().copied().step_by(BLOCK).collect();
            levels.push(Level::new(&keys));
            if above.len() <= 1 {
                levels.reverse();
                return Self { levels };
            }
            keys = above;
        }
    }

    /// The index of the last key that is at most `key`; 0 if there is none.
    pub(super) fn find(&self, key: K) -> usize {
        self.levels.iter().fold(0, |block, level| level.find(block, key))
    }
}

impl<K: Key> Level<K> {
    fn new(keys: &[K]) -> Self {
        let block = |chunk: &[K]| {
            let mut block = [K::LAST; BLOCK];
            block.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            block
        };
        Self { blocks: keys.chunks(BLOCK).map(block).collect(), last: keys.len().saturating_sub(1) }
    }

    /// The index of the last key of a block that is at most `key`.
    fn find(&self, block: usize, key: K) -> usize {
        let rank = self.blocks.get(block).map_or(0, |keys| key.rank(keys));
        block.saturating_mul(BLOCK).saturating_add(rank.saturating_sub(1)).min(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_scan_finds() {
        for len in [1_u32, 2, 15, 16, 17, 255, 256, 257, 300, 5000] {
            let keys: Vec<u32> = (0..len).map(|i| i * 3).collect();
            let wide: Vec<u128> = keys.iter().map(|&k| u128::from(k) << 70).collect();
            let narrow = SearchTree::new(keys.clone());
            let broad = SearchTree::new(wide);
            for key in 0..len * 3 + 5 {
                let expected = keys.partition_point(|&k| k <= key) - 1;
                assert_eq!(narrow.find(key), expected, "{key} of {len}");
                assert_eq!(broad.find((u128::from(key) << 70) + 1), expected, "{key} of {len}");
            }
        }
        assert_eq!(SearchTree::new(vec![5_u32, 9]).find(1), 0);
        assert_eq!(SearchTree::new((0..40_u32).collect()).find(u32::MAX), 39);
        assert_eq!(SearchTree::new(vec![0_u32, u32::MAX]).find(u32::MAX), 1);
        assert_eq!(SearchTree::<u32>::new(vec![]).find(1), 0);
    }
}
