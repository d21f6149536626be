//! The ring of posted writes, as KVM lays it out in a page (`struct kvm_coalesced_mmio_ring`, KVM API 4.116).
//!
//! Two indices, then 24-byte entries: address, length, kind of address space, eight bytes of data. The kernel writes entries
//! and the second index, the reader the first. Nothing in the page is believed beyond what it says was written.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::memory::Register;

/// 32-bit words of a page.
pub const PAGE_WORDS: usize = 1024;
/// The page, which the kernel changes at any time.
pub type Page = [AtomicU32; PAGE_WORDS];

const FIRST: usize = 0;
const LAST: usize = 1;
const ENTRIES: usize = 2;
const ENTRY_WORDS: usize = 6;
/// Entries of a ring; one of them is always free.
pub const CAPACITY: u32 = ((PAGE_WORDS - ENTRIES) / ENTRY_WORDS) as u32;

/// A four-byte write to memory that has not taken effect yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// Guest-physical address.
    pub addr: u64,
    /// What was written.
    pub value: u32,
}

/// Where the reader is. Its own: the copy in the page is for the kernel alone.
#[derive(Debug, Default)]
pub struct Reader {
    first: u32,
}

impl Reader {
    /// Calls `apply` for each four-byte write that is in `page` when this begins, oldest first, and makes room for others. Writes
    /// of other lengths or to ports are dropped.
    ///
    /// An entry is given back only after it was applied.
    pub fn drain(&mut self, page: &Page, mut apply: impl FnMut(Posted)) {
        // Pairs with the kernel's barrier between an entry and the index behind it.
        let last = word(page, LAST).map_or(self.first, |last| last.load(Ordering::Acquire));
        if last >= CAPACITY {
            return;
        }
        while self.first != last {
            if let Some(posted) = entry(page, self.first) {
                apply(posted);
            }
            self.first = (self.first + 1) % CAPACITY;
            if let Some(first) = word(page, FIRST) {
                first.store(self.first, Ordering::Release);
            }
        }
    }
}

/// Registers whose bits are cleared by writing them, by guest-physical address.
#[derive(Debug, Default)]
pub struct Registers {
    words: BTreeMap<u64, Register>,
    reader: Reader,
}

impl Registers {
    /// Lets writes at `addr` clear bits of `word`.
    pub fn add(&mut self, addr: u64, word: Register) {
        self.words.insert(addr, word);
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Applies what is in `page`. A write to an address that is no register's is dropped.
    pub fn settle(&mut self, page: &Page) {
        let Registers { words, reader } = self;
        reader.drain(page, |posted| {
            if let Some(word) = words.get(&posted.addr) {
                word.fetch_and(!posted.value, Ordering::AcqRel);
            }
        });
    }
}

fn word(page: &Page, at: usize) -> Option<&AtomicU32> {
    page.get(at)
}

fn entry(page: &Page, index: u32) -> Option<Posted> {
    let at = ENTRIES + index as usize * ENTRY_WORDS;
    let words = page.get(at..at + ENTRY_WORDS)?;
    let [low, high, len, port, data, _] = words else { return None };
    let get = |word: &AtomicU32| word.load(Ordering::Relaxed);
    let addr = u64::from(get(high)) << 32 | u64::from(get(low));
    (get(len) == 4 && get(port) == 0).then(|| Posted { addr, value: get(data) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::RegisterPage;

    /// The kernel's side.
    pub struct Kernel {
        pub page: Box<Page>,
    }

    impl Kernel {
        pub fn new() -> Self {
            Kernel { page: Box::new([const { AtomicU32::new(0) }; PAGE_WORDS]) }
        }

        fn get(&self, at: usize) -> u32 {
            self.page[at].load(Ordering::Acquire)
        }

        pub fn set(&self, at: usize, value: u32) {
            self.page[at].store(value, Ordering::Release);
        }

        /// Writes an entry's fields; false if the ring is full, when the write leaves the guest.
        pub fn push(&self, [low, high, len, port, data]: [u32; 5]) -> bool {
            let (first, last) = (self.get(FIRST), self.get(LAST));
            let next = (last + 1) % CAPACITY;
            if next == first {
                return false;
            }
            let at = ENTRIES + last as usize * ENTRY_WORDS;
            for (i, value) in [low, high, len, port, data, 0].into_iter().enumerate() {
                self.set(at + i, value);
            }
            self.set(LAST, next);
            true
        }
    }

    fn drained(reader: &mut Reader, kernel: &Kernel) -> Vec<(u64, u32)> {
        let mut got = Vec::new();
        reader.drain(&kernel.page, |posted| got.push((posted.addr, posted.value)));
        got
    }

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<kvm_bindings::kvm_coalesced_mmio>(), ENTRY_WORDS * 4);
        assert_eq!(size_of::<kvm_bindings::kvm_coalesced_mmio_ring>(), ENTRIES * 4);
        assert_eq!(CAPACITY, 170);
    }

    #[test]
    fn entries_of_other_lengths_and_ports_are_dropped() {
        let (kernel, mut reader) = (Kernel::new(), Reader::default());
        for len in [0, 1, 2, 3, 5, 8, u32::MAX] {
            assert!(kernel.push([0x1064, 0, len, 0, 1]));
        }
        assert!(kernel.push([0x1064, 0, 4, 1, 1]));
        assert!(kernel.push([0x1064, 7, 4, 0, 3]));
        assert_eq!(drained(&mut reader, &kernel), [(7 << 32 | 0x1064, 3)]);
        assert_eq!(drained(&mut reader, &kernel), []);
    }

    #[test]
    fn an_index_out_of_range_is_an_empty_ring() {
        let (kernel, mut reader) = (Kernel::new(), Reader::default());
        for last in [CAPACITY, CAPACITY + 1, u32::MAX] {
            kernel.set(LAST, last);
            assert_eq!(drained(&mut reader, &kernel), []);
        }
        kernel.set(LAST, 0);
        assert!(kernel.push([1, 0, 4, 0, 2]));
        assert_eq!(drained(&mut reader, &kernel), [(1, 2)]);
    }

    #[test]
    fn what_comes_while_it_is_drained_waits_for_the_next_time() {
        let (kernel, mut reader) = (Kernel::new(), Reader::default());
        assert!(kernel.push([1, 0, 4, 0, 1]));
        let mut calls = 0;
        reader.drain(&kernel.page, |_| {
            calls += 1;
            assert!(kernel.push([1, 0, 4, 0, 2]));
        });
        assert_eq!(calls, 1);
        assert_eq!(drained(&mut reader, &kernel), [(1, 2)]);
    }

    #[test]
    fn a_write_clears_bits_of_its_register_only() {
        let (kernel, mut registers) = (Kernel::new(), Registers::default());
        assert!(registers.is_empty());
        let page = Arc::<RegisterPage>::default();
        let words = [(0x1064, 0x60), (0x2064, 0)].map(|(addr, at)| (addr, page.register(at)));
        for (addr, word) in &words {
            word.store(3, Ordering::Release);
            registers.add(*addr, word.clone());
        }
        for (low, high, value) in
            [(0x1064, 0, 1), (0x1065, 0, 2), (0x2064, 1, 2), (0, 0, 3), (u32::MAX, u32::MAX, 3)]
        {
            assert!(kernel.push([low, high, 4, 0, value]));
        }
        let now = || words.each_ref().map(|(_, word)| word.load(Ordering::Acquire));
        assert_eq!(now(), [3, 3], "nothing yet");
        registers.settle(&kernel.page);
        assert_eq!(now(), [2, 3]);
        assert!(kernel.push([0x2064, 0, 4, 0, u32::MAX]));
        registers.settle(&kernel.page);
        assert_eq!(now(), [2, 0]);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Push(u32),
        Drain,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![6 => (1u32..200).prop_map(Op::Push), 2 => Just(Op::Drain)];
        prop::collection::vec(op, 1..40)
    }

    proptest! {
        /// Every write that was taken is applied, once, in order; one that was not left the guest.
        #[test]
        fn a_queue(ops in ops()) {
            let (kernel, mut reader) = (Kernel::new(), Reader::default());
            let (mut model, mut next) = (VecDeque::new(), 0u32);
            for op in ops {
                match op {
                    Op::Push(count) => for _ in 0..count {
                        next += 1;
                        let taken = kernel.push([64, 0, 4, 0, next]);
                        prop_assert_eq!(taken, model.len() < CAPACITY as usize - 1);
                        if taken {
                            model.push_back((64, next));
                        }
                    },
                    Op::Drain => prop_assert_eq!(drained(&mut reader, &kernel), model.drain(..).collect::<Vec<_>>()),
                }
            }
        }

        /// Whatever the page holds, no more than a ring is applied.
        #[test]
        fn any_page_is_survived(words in prop::collection::vec(any::<u32>(), PAGE_WORDS), last in 0u32..200) {
            let (kernel, mut reader) = (Kernel::new(), Reader::default());
            for (at, value) in words.into_iter().enumerate() {
                kernel.set(at, value);
            }
            for last in [last, CAPACITY - 1, 0] {
                kernel.set(LAST, last);
                prop_assert!(drained(&mut reader, &kernel).len() < CAPACITY as usize);
            }
        }
    }
}
