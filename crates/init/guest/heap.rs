//! The memory allocator: blocks of a few sizes, each with a list of those that were given back.
//!
//! PID 1 builds a few small values and then waits, but it waits for as long as the machine lives, and what it hears from
//! its host and its network must not use up memory: whatever is given back is used again.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

use crate::sys;

/// Bytes at hand from the start, which are enough for most boots.
const ARENA: usize = 128 << 10;
/// Bytes fetched when those at hand are used up: a large configuration file has many small values.
const CHUNK: usize = 1 << 20;
/// Blocks are of this size, or twice, four times ... as long.
const SMALLEST: usize = 16;
/// The longest is 32 KiB. Anything longer has a mapping of its own, and goes back to the kernel.
const SIZES: usize = 12;
/// The strictest alignment of a block.
const ALIGN: usize = 16;

#[global_allocator]
static HEAP: Heap = Heap {
    state: UnsafeCell::new(State { top: 0, end: 0, free: [ptr::null_mut(); SIZES] }),
    arena: UnsafeCell::new([0; ARENA]),
};

struct State {
    /// Memory that was never used: its first address and the one behind it. Both 0 before the first block.
    top: usize,
    end: usize,
    /// The first of the blocks of each size that were given back; each holds the address of the next.
    free: [*mut u8; SIZES],
}

#[repr(align(16))]
struct Heap {
    state: UnsafeCell<State>,
    arena: UnsafeCell<[u8; ARENA]>,
}

// SAFETY: there is one thread. The workload's process shares this memory until it executes its program, and the parent
// does not run in that time.
unsafe impl Sync for Heap {}

/// Which size a block has, and its bytes; `None` if it has a mapping of its own.
fn size(layout: Layout) -> Option<(usize, usize)> {
    let bytes = layout.size().max(SMALLEST).checked_next_power_of_two()?;
    let index = (bytes / SMALLEST).trailing_zeros() as usize;
    (index < SIZES && layout.align() <= ALIGN).then_some((index, bytes))
}

impl Heap {
    /// Runs `change` on the state.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // SAFETY: one thread, and nothing that is called here allocates, so this is the only reference.
        change(unsafe { &mut *self.state.get() })
    }

    fn take(&self, index: usize, bytes: usize) -> Option<*mut u8> {
        self.with(|state| {
            let first = state.free.get_mut(index)?;
            let block = *first;
            if !block.is_null() {
                // SAFETY: a block that was given back holds the address of the next one, and nobody else uses it.
                *first = unsafe { block.cast::<*mut u8>().read() };
                return Some(block);
            }
            if state.end == 0 {
                state.top = self.arena.get().expose_provenance();
                state.end = state.top.checked_add(ARENA)?;
            }
            if state.end.checked_sub(state.top)? < bytes {
                // What is left of the old memory stays unused.
                state.top = sys::map(CHUNK)?.expose_provenance();
                state.end = state.top.checked_add(CHUNK)?;
            }
            let block = state.top;
            state.top = block.checked_add(bytes)?;
            Some(ptr::with_exposed_provenance_mut(block))
        })
    }

    fn give_back(&self, index: usize, block: *mut u8) {
        self.with(|state| {
            if let Some(first) = state.free.get_mut(index) {
                // SAFETY: the block is at least 16 bytes long and aligned to 16, and its owner has given it up.
                unsafe { block.cast::<*mut u8>().write(*first) };
                *first = block;
            }
        });
    }
}

// SAFETY: blocks are disjoint, aligned (each starts at a multiple of 16 in its memory, and mappings at a page), and live
// until given back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = match size(layout) {
            Some((index, bytes)) => self.take(index, bytes),
            None => sys::map(layout.size()),
        };
        block.unwrap_or(ptr::null_mut())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match size(layout) {
            Some((index, _)) => self.give_back(index, block),
            // SAFETY: a block without a size is a mapping of this length, and the caller gives it up.
            None => unsafe { sys::unmap(block, layout.size()) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller vouches for the size and that the alignment is a valid one.
        let layout_of_new = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        if size(layout).is_some() && size(layout) == size(layout_of_new) {
            return block;
        }
        // SAFETY: the caller vouches that the size is not 0.
        let new = unsafe { self.alloc(layout_of_new) };
        if !new.is_null() {
            // SAFETY: both blocks are at least this long and, both being allocated, disjoint.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size().min(bytes)) };
            // SAFETY: the caller gives the old block up.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}
