//! Memory of the kernel's own, apart from the program's. A program may bring its own `malloc`, which takes locks that
//! come back here; and what the kernel needs would move everything the program allocates.

use super::raw;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// An allocator that asks the system for pages and gives out blocks of sizes that are powers of two. For the library
/// that is preloaded into programs.
#[derive(Debug)]
pub struct Arena {
    taken: AtomicBool,
    blocks: UnsafeCell<Blocks>,
}

#[derive(Debug)]
struct Blocks {
    /// For each size, the first free block; each holds the address of the next.
    free: [*mut u8; SIZES],
    /// What is left of the last piece the system gave.
    next: *mut u8,
    left: usize,
}

const SMALLEST: usize = 16;
/// From 16 bytes to 64 KiB; what is larger comes from the system, one by one.
const SIZES: usize = 13;
const LARGEST: usize = SMALLEST << (SIZES - 1);
/// So much is asked of the system at once.
const PIECE: usize = 4 << 20;
const PAGE: usize = 4_096;

// SAFETY: `blocks` is accessed only between `lock` and the end of its guard.
unsafe impl Sync for Arena {}
// SAFETY: the pointers are to memory of the process, of no particular thread.
unsafe impl Send for Arena {}

impl Arena {
    /// An empty one.
    #[allow(clippy::new_without_default, reason = "it is made once, in a static")]
    pub const fn new() -> Self {
        let blocks = Blocks { free: [ptr::null_mut(); SIZES], next: ptr::null_mut(), left: 0 };
        Self { taken: AtomicBool::new(false), blocks: UnsafeCell::new(blocks) }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Blocks) -> R) -> R {
        // Hardly ever taken: of the simulation's threads only one runs at a time.
        while self.taken.swap(true, Ordering::Acquire) {
            raw::plain(raw::Plain::SchedYield, 0, 0, 0);
        }
        // SAFETY: `taken` was false and is ours now, and `act` neither allocates nor panics.
        let result = act(unsafe { &mut *self.blocks.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}

impl Blocks {
    fn take(&mut self, class: usize) -> *mut u8 {
        let block = self.free[class];
        if block.is_null() {
            return self.cut(SMALLEST << class);
        }
        // SAFETY: a free block is ours, at least as large as a pointer and as aligned, and holds the next one's address.
        self.free[class] = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    fn put(&mut self, block: *mut u8, class: usize) {
        // SAFETY: the block was given out by `take` for this class and is not used any more.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }

    /// A fresh block, aligned to its size or to a page.
    fn cut(&mut self, size: usize) -> *mut u8 {
        let skip = self.next.align_offset(size.min(PAGE));
        if self.left < size.saturating_add(skip) {
            self.next = raw::pages(PIECE);
            self.left = if self.next.is_null() { 0 } else { PIECE };
            return if self.left == 0 { ptr::null_mut() } else { self.cut(size) };
        }
        let block = self.next.wrapping_add(skip);
        self.next = block.wrapping_add(size);
        self.left -= skip + size;
        block
    }
}

fn class_of(layout: &Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(SMALLEST).next_power_of_two();
    (size <= LARGEST).then(|| (size / SMALLEST).trailing_zeros() as usize)
}

fn whole_pages(size: usize) -> usize {
    size.next_multiple_of(PAGE)
}

// SAFETY: blocks do not overlap: `cut` moves on, `put` takes only what is not used any more. Those of a class are as
// large as the class and aligned to that or to a page; larger alignments are refused. Nothing here unwinds.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(&layout) {
            _ if layout.align() > PAGE => ptr::null_mut(),
            Some(class) => self.with(|blocks| blocks.take(class)),
            None => raw::pages(whole_pages(layout.size())),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class_of(&layout) {
            Some(class) => self.with(|blocks| blocks.put(block, class)),
            // SAFETY: the pages were given out for this layout and are not used any more.
            None => unsafe { raw::give_back(block, whole_pages(layout.size())) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by the caller's promise the size fits, and the alignment was good before.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if class_of(&layout).is_some() && class_of(&layout) == class_of(&wanted) {
            return block;
        }
        // SAFETY: by the caller's promise.
        let other = unsafe { self.alloc(wanted) };
        if !other.is_null() {
            // SAFETY: both blocks are valid for what is copied and do not overlap; the old one is not used any more.
            unsafe {
                ptr::copy_nonoverlapping(block, other, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_apart_and_used_again() {
        let arena = Arena::new();
        let layouts = [(1, 1), (17, 8), (4_000, 4_096), (70_000, 16), (100, 64)];
        let layouts = layouts.map(|(size, align)| Layout::from_size_align(size, align).expect("a layout"));
        // SAFETY: every block is used within its layout, and given back once.
        unsafe {
            let blocks = layouts.map(|layout| arena.alloc(layout));
            for (place, (block, layout)) in blocks.iter().zip(layouts).enumerate() {
                assert_eq!(block.addr() % layout.align(), 0);
                block.write_bytes(place as u8, layout.size());
            }
            for (place, (block, layout)) in blocks.iter().zip(layouts).enumerate() {
                assert!((0..layout.size()).all(|at| block.add(at).read() == place as u8));
            }
            let grown = arena.realloc(blocks[1], layouts[1], 90_000);
            assert!((0..17).all(|at| grown.add(at).read() == 1));
            assert_eq!(arena.alloc(layouts[1]), blocks[1], "what was given back is used again");
        }
    }
}
