//! A static search tree: sorted keys in blocks of whole cache lines, with every block's first key in the level
//! above, and what the keys stand for beside the lowest ones.

/// Keys per block. Sixteen `u32` are one cache line.
const BLOCK: usize = 16;
/// Keys of a part of a block.
const PART: usize = 4;

/// What a tree can be searched by.
pub(crate) trait Key: Copy + Ord {
    /// Sixteen sorted keys.
    type Block: Block<Self>;
}

/// Keys of a tree, in order.
pub(crate) trait Block<K>: std::fmt::Debug + Send + Sync {
    /// The keys of `chunk`, at most [`BLOCK`], filled up with the greatest there is.
    fn new(chunk: &[K]) -> Self;

    /// How many keys are at most `key`. Counts without a branch: bisecting costs more, because no processor
    /// predicts it.
    fn rank(&self, key: K) -> usize;
}

impl Key for u32 {
    type Block = Narrow;
}

/// Keys of one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Narrow([u32; BLOCK]);

impl Block<u32> for Narrow {
    fn new(chunk: &[u32]) -> Self {
        Self(filled(chunk, u32::MAX))
    }

    fn rank(&self, key: u32) -> usize {
        // A few vector instructions.
        count(&self.0, |k| *k <= key)
    }
}

impl Key for u128 {
    type Block = Wide;
}

/// Keys whose halves are apart: only those of one /64 need the lower ones, so that most searches touch two
/// cache lines of a block instead of four, and compare what fits a register.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Wide {
    upper: [u64; BLOCK],
    lower: [u64; BLOCK],
}

impl Block<u128> for Wide {
    fn new(chunk: &[u128]) -> Self {
        let half = |half: fn(u128) -> u64| {
            let halves: Vec<u64> = chunk.iter().map(|key| half(*key)).collect();
            filled(&halves, u64::MAX)
        };
        Self { upper: half(upper), lower: half(lower) }
    }

    fn rank(&self, key: u128) -> usize {
        let (high, low) = (upper(key), lower(key));
        // Vectors of the plainest processors do not compare so wide numbers: as few as possible, first which part.
        let (parts, _) = self.upper.as_chunks::<PART>();
        let later = parts.iter().skip(1).map(|[first, ..]| usize::from(*first <= high)).sum::<usize>();
        let part = parts.get(later).map_or(&[][..], |part| part);
        let inside = part.iter().map(|key| usize::from(*key <= high)).sum::<usize>();
        let rank = later.saturating_mul(PART).saturating_add(inside);
        let last = rank.checked_sub(1).and_then(|last| self.upper.get(last));
        if last != Some(&high) {
            return rank;
        }
        let pairs = self.upper.iter().zip(&self.lower);
        let over = pairs.map(|(h, l)| usize::from(*h == high) & usize::from(*l > low)).sum::<usize>();
        rank.saturating_sub(over)
    }
}

fn upper(key: u128) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = key.to_be_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn lower(key: u128) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = key.to_be_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn count<T>(keys: &[T; BLOCK], counts: impl Fn(&T) -> bool) -> usize {
    keys.iter().map(|key| usize::from(counts(key))).sum()
}

fn filled<T: Copy>(chunk: &[T], with: T) -> [T; BLOCK] {
    let mut block = [with; BLOCK];
    block.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
    block
}

/// Finds the values of the last key that is at most a given one: two values per key, of which a search
/// wants one.
#[derive(Debug)]
pub(super) struct SearchTree<K: Key, V> {
    /// From the root, one block, to the level above the leaves.
    levels: Vec<Vec<K::Block>>,
    leaves: Vec<Leaf<K, V>>,
}

/// The lowest keys with their values, a cache line per kind of value.
#[derive(Debug)]
#[repr(C)]
struct Leaf<K: Key, V> {
    keys: K::Block,
    values: [[V; BLOCK]; 2],
}

impl<K: Key, V: Copy> SearchTree<K, V> {
    /// A tree of `keys`, which are sorted and distinct, and as many values.
    pub(super) fn new(keys: &[K], values: &[[V; 2]]) -> Self {
        debug_assert!(keys.is_sorted() && keys.len() == values.len());
        let leaf = |(keys, values): (&[K], &[[V; 2]])| {
            let last = values.last()?;
            let kind = |of: fn(&[V; 2]) -> V| {
                // Whatever is found by the keys that fill up is the last value.
                filled(&values.iter().map(of).collect::<Vec<V>>(), of(last))
            };
            Some(Leaf { keys: K::Block::new(keys), values: [kind(|[a, _]| *a), kind(|[_, b]| *b)] })
        };
        let leaves = keys.chunks(BLOCK).zip(values.chunks(BLOCK)).filter_map(leaf).collect();
        let mut levels = Vec::new();
        let mut above: Vec<K> = keys.iter().copied().step_by(BLOCK).collect();
        while above.len() > 1 {
            levels.push(above.chunks(BLOCK).map(K::Block::new).collect());
            above = above.into_iter().step_by(BLOCK).collect();
        }
        levels.reverse();
        Self { levels, leaves }
    }

    /// A value of the last key that is at most `key`, or of the first if there is none.
    pub(super) fn find(&self, key: K, kind: usize) -> Option<V> {
        let mut at = 0_usize;
        for level in &self.levels {
            let rank = at_or_last(level, at)?.rank(key);
            at = at.saturating_mul(BLOCK).saturating_add(rank.saturating_sub(1));
        }
        let leaf = at_or_last(&self.leaves, at)?;
        leaf.values.get(kind)?.get(leaf.keys.rank(key).saturating_sub(1)).copied()
    }
}

/// The greatest key is found among those that fill up a block, and leads behind the last one below.
fn at_or_last<T>(all: &[T], at: usize) -> Option<&T> {
    all.get(at).or(all.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree<K: Key>(keys: &[K]) -> SearchTree<K, usize> {
        let values: Vec<[usize; 2]> = (0..keys.len()).map(|i| [i, i + 1_000_000]).collect();
        SearchTree::new(keys, &values)
    }

    #[test]
    fn finds_what_a_scan_finds() {
        for len in [1_u32, 2, 15, 16, 17, 255, 256, 257, 300, 5000] {
            let keys: Vec<u32> = (0..len).map(|i| i * 3).collect();
            // All in the upper half, all in the lower half, and some in each.
            let wide = [66, 2, 63].map(|shift| {
                let keys: Vec<u128> = keys.iter().map(|&k| u128::from(k) << shift).collect();
                (shift, tree(&keys))
            });
            let narrow = tree(&keys);
            for key in 0..len * 3 + 5 {
                let expected = Some(keys.partition_point(|&k| k <= key) - 1);
                assert_eq!(narrow.find(key, 0), expected, "{key} of {len}");
                assert_eq!(narrow.find(key, 1), expected.map(|i| i + 1_000_000));
                for (shift, tree) in &wide {
                    let key = (u128::from(key) << shift) + 1;
                    assert_eq!(tree.find(key, 0), expected, "{key:x} of {len}");
                }
            }
        }
        assert_eq!(tree(&[5_u32, 9]).find(1, 0), Some(0));
        assert_eq!(tree(&(0..40_u32).collect::<Vec<_>>()).find(u32::MAX, 0), Some(39));
        assert_eq!(tree(&(0..400_u128).collect::<Vec<_>>()).find(u128::MAX, 0), Some(399));
        assert_eq!(tree(&[0_u32, u32::MAX]).find(u32::MAX, 0), Some(1));
        assert_eq!(tree::<u32>(&[]).find(1, 0), None);
    }
}
