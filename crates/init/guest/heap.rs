//! The memory allocator: a bump pointer. PID 1 builds a few small values and then waits, so almost nothing is ever
//! given back; the last block is, which is enough for everything that the main loop allocates.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

use crate::sys;

const ARENA: usize = 128 << 10;

#[global_allocator]
static HEAP: Heap = Heap { top: UnsafeCell::new(0), arena: UnsafeCell::new([0; ARENA]) };

/// Blocks come from the arena while they fit, and from mappings of their own otherwise.
#[repr(align(16))]
struct Heap {
    top: UnsafeCell<usize>,
    arena: UnsafeCell<[u8; ARENA]>,
}

// SAFETY: there is one thread. The workload's process shares this memory until it executes its program, and the parent
// does not run in that time.
unsafe impl Sync for Heap {}

impl Heap {
    fn base(&self) -> *mut u8 {
        self.arena.get().cast()
    }

    /// The offset of `block` if it lies in the arena.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        (block as usize).checked_sub(self.base() as usize).filter(|&offset| offset < ARENA)
    }

    fn top(&self) -> usize {
        // SAFETY: one thread, and no reference to the cell is ever made.
        unsafe { *self.top.get() }
    }

    fn set_top(&self, top: usize) {
        // SAFETY: as in `top`.
        unsafe { *self.top.get() = top };
    }
}

// SAFETY: blocks are disjoint, aligned (the arena is, and mappings are to a page), and live until given back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.top().checked_next_multiple_of(layout.align().min(16));
        let end = start.and_then(|start| start.checked_add(layout.size()));
        match (start, end) {
            (Some(start), Some(end)) if end <= ARENA && layout.align() <= 16 => {
                self.set_top(end);
                self.base().wrapping_add(start)
            }
            _ => sys::map(layout.size()).unwrap_or(ptr::null_mut()),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(offset) if offset.checked_add(layout.size()) == Some(self.top()) => self.set_top(offset),
            Some(_) => {}
            // SAFETY: a block outside the arena is a mapping of this size, and the caller gives it up.
            None => unsafe { sys::unmap(block, layout.size()) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if let Some(offset) = self.offset(block)
            && offset.checked_add(layout.size()) == Some(self.top())
            && let Some(end) = offset.checked_add(size).filter(|&end| end <= ARENA)
        {
            self.set_top(end);
            return block;
        }
        // SAFETY: the caller vouches for the size and that the alignment is a valid one.
        let layout_of_new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the caller vouches that the size is not 0.
        let new = unsafe { self.alloc(layout_of_new) };
        if !new.is_null() {
            // SAFETY: both blocks are at least this long and, both being allocated, disjoint.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size().min(size)) };
            // SAFETY: the caller gives the old block up.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}
