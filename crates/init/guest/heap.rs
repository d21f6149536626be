//! The memory allocator: a bump pointer. PID 1 builds a few small values and then waits, so almost nothing is ever
//! given back; the last block is, which is enough for everything that the main loop allocates.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

use crate::sys;

/// Bytes at hand from the start, which are enough for most boots.
const ARENA: usize = 128 << 10;
/// Bytes fetched when those at hand are used up: a large configuration file has many small values.
const CHUNK: usize = 1 << 20;
/// Blocks from this size have a mapping of their own, and go back to the kernel.
const LARGE: usize = 64 << 10;
/// The strictest alignment of a block.
const ALIGN: usize = 16;

#[global_allocator]
static HEAP: Heap =
    Heap { piece: UnsafeCell::new(Piece { base: 0, end: 0, top: 0 }), arena: UnsafeCell::new([0; ARENA]) };

/// Where small blocks come from now, as addresses.
#[derive(Clone, Copy)]
struct Piece {
    base: usize,
    end: usize,
    top: usize,
}

#[repr(align(16))]
struct Heap {
    piece: UnsafeCell<Piece>,
    arena: UnsafeCell<[u8; ARENA]>,
}

// SAFETY: there is one thread. The workload's process shares this memory until it executes its program, and the parent
// does not run in that time.
unsafe impl Sync for Heap {}

impl Heap {
    fn piece(&self) -> Piece {
        // SAFETY: one thread, and no reference to the cell is ever made.
        let piece = unsafe { *self.piece.get() };
        if piece.base != 0 {
            return piece;
        }
        let base = self.arena.get().expose_provenance();
        Piece { base, end: base.saturating_add(ARENA), top: base }
    }

    fn set_piece(&self, piece: Piece) {
        // SAFETY: as in `piece`.
        unsafe { *self.piece.get() = piece };
    }

    /// A block of the present piece, if it fits.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        let piece = self.piece();
        let start = piece.top.checked_next_multiple_of(layout.align())?;
        let top = start.checked_add(layout.size()).filter(|&top| top <= piece.end)?;
        self.set_piece(Piece { top, ..piece });
        Some(ptr::with_exposed_provenance_mut(start))
    }

    /// Goes on in new memory; what is left of the old piece stays unused.
    fn fetch(&self) -> Option<()> {
        let base = sys::map(CHUNK)?.expose_provenance();
        self.set_piece(Piece { base, end: base.saturating_add(CHUNK), top: base });
        Some(())
    }

    /// The present piece, if this block is the last one taken from it.
    fn last(&self, block: *mut u8, layout: Layout) -> Option<Piece> {
        let piece = self.piece();
        let end = block.addr().checked_add(layout.size());
        (block.addr() >= piece.base && end == Some(piece.top)).then_some(piece)
    }
}

fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE || layout.align() > ALIGN
}

// SAFETY: blocks are disjoint, aligned (pieces are, and mappings are to a page), and live until given back.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = if is_large(layout) {
            sys::map(layout.size())
        } else {
            self.take(layout).or_else(|| self.fetch().and_then(|()| self.take(layout)))
        };
        block.unwrap_or(ptr::null_mut())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(layout) {
            // SAFETY: a large block is a mapping of this size, and the caller gives it up.
            unsafe { sys::unmap(block, layout.size()) };
        } else if let Some(piece) = self.last(block, layout) {
            self.set_piece(Piece { top: block.addr(), ..piece });
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for the size and that the alignment is a valid one.
        let layout_of_new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if !is_large(layout)
            && !is_large(layout_of_new)
            && let Some(piece) = self.last(block, layout)
            && let Some(top) = block.addr().checked_add(size).filter(|&top| top <= piece.end)
        {
            self.set_piece(Piece { top, ..piece });
            return block;
        }
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
