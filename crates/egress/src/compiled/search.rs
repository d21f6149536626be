//! A static search tree: sorted keys in blocks, with every block's first key in the level above.

/// Keys per block. Sixteen `u32` are one cache line.
const BLOCK: usize = 16;

/// What a tree can be searched by.
pub(crate) trait Key: Copy + Ord {
    /// How many of the first keys of a sorted block are at most `self`.
    fn rank(self, block: &[Self]) -> usize;
}

impl Key for u32 {
    /// Counts without a branch: a block of this type is compared in a few vector instructions.
    fn rank(self, block: &[Self]) -> usize {
        block.iter().map(|&key| usize::from(key <= self)).sum()
    }
}

impl Key for u128 {
    /// Bisects: there are no vector comparisons of this width.
    fn rank(self, block: &[Self]) -> usize {
        block.partition_point(|&key| key <= self)
    }
}

/// Finds the last key that is at most a given one.
#[derive(Debug)]
pub(super) struct SearchTree<K> {
    /// From the root, one block, to all keys.
    levels: Vec<Vec<K>>,
}

impl<K: Key> SearchTree<K> {
    /// A tree of `keys`, which are sorted and distinct.
    pub(super) fn new(keys: Vec<K>) -> Self {
        debug_assert!(keys.is_sorted());
        let mut levels = vec![keys];
        while let Some(level) = levels.last().filter(|level| level.len() > BLOCK) {
            let above = level.iter().copied().step_by(BLOCK).collect();
            levels.push(above);
        }
        levels.reverse();
        Self { levels }
    }

    /// The index of the last key that is at most `key`; 0 if there is none.
    pub(super) fn find(&self, key: K) -> usize {
        let mut index = 0_usize;
        for level in &self.levels {
            let start = index.saturating_mul(BLOCK);
            let end = start.saturating_add(BLOCK).min(level.len());
            let block = level.get(start..end).unwrap_or_default();
            index = start.saturating_add(key.rank(block)).saturating_sub(1).max(start);
        }
        index
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
        assert_eq!(SearchTree::<u32>::new(vec![]).find(1), 0);
    }
}
