//! A bounded map that forgets what was not used for long. Pure.

use std::collections::HashMap;

#[derive(Debug)]
struct Slot<V> {
    key: u64,
    value: V,
    used: bool,
}

/// At most `capacity` values; when full, the clock algorithm picks the one to go (an approximation of
/// least recently used that costs nothing on a hit).
#[derive(Debug)]
pub(super) struct Recent<V> {
    slots: Vec<Slot<V>>,
    index: HashMap<u64, usize>,
    hand: usize,
    capacity: usize,
}

impl<V> Recent<V> {
    /// Room for `capacity` values, at least one.
    pub fn new(capacity: usize) -> Self {
        Recent { slots: Vec::new(), index: HashMap::new(), hand: 0, capacity: capacity.max(1) }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The value, which then counts as used.
    pub fn get(&mut self, key: u64) -> Option<&V> {
        let slot = self.slots.get_mut(*self.index.get(&key)?)?;
        slot.used = true;
        Some(&slot.value)
    }

    /// Adds or replaces; returns what had to go.
    pub fn insert(&mut self, key: u64, value: V) -> Option<V> {
        if let Some(slot) = self.index.get(&key).and_then(|&at| self.slots.get_mut(at)) {
            return Some(std::mem::replace(&mut slot.value, value));
        }
        let evicted = if self.slots.len() >= self.capacity { self.evict() } else { None };
        self.index.insert(key, self.slots.len());
        self.slots.push(Slot { key, value, used: false });
        evicted
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: u64) -> Option<V> {
        let at = self.index.remove(&key)?;
        Some(self.take(at))
    }

    /// Drops values until at most `len` are left.
    pub fn shrink(&mut self, len: usize) {
        while self.slots.len() > len && self.evict().is_some() {}
    }

    fn evict(&mut self) -> Option<V> {
        let at = loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = self.slots.get_mut(self.hand)?;
            if !std::mem::replace(&mut slot.used, false) {
                break self.hand;
            }
            self.hand = self.hand.wrapping_add(1);
        };
        let key = self.slots.get(at)?.key;
        self.index.remove(&key);
        Some(self.take(at))
    }

    /// `at` is in range: it came from the index or the hand.
    fn take(&mut self, at: usize) -> V {
        let slot = self.slots.swap_remove(at);
        if let Some(moved) = self.slots.get(at) {
            self.index.insert(moved.key, at);
        }
        slot.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_used_stays() {
        let mut r = Recent::new(3);
        for k in 0..3 {
            assert_eq!(r.insert(k, k), None);
        }
        assert_eq!(r.get(0), Some(&0));
        assert_eq!(r.insert(3, 3), Some(1));
        assert_eq!(r.get(0), Some(&0));
        assert_eq!(r.get(1), None);
        assert_eq!(r.insert(0, 9), Some(0));
        r.shrink(0);
        assert_eq!((r.len(), r.get(0)), (0, None));
    }

    proptest! {
        #[test]
        fn bounded_and_consistent(ops in proptest::collection::vec((0u8..4, 0u64..10), 0..200)) {
            let mut r = Recent::new(4);
            for (op, key) in ops {
                match op {
                    0 => { r.insert(key, key); prop_assert_eq!(r.get(key), Some(&key)); }
                    1 => { let had = r.get(key).is_some(); prop_assert_eq!(r.remove(key), had.then_some(key)); }
                    2 => { if let Some(v) = r.get(key) { prop_assert_eq!(*v, key); } }
                    _ => r.shrink(2),
                }
                prop_assert!(r.len() <= 4);
                prop_assert_eq!(r.len(), r.index.len());
            }
        }
    }
}
