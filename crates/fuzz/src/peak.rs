//! The allocation guard: an allocator that knows the most memory its thread has held at a time.
//!
//! It is the global allocator of every program that links this crate, so that a bound on memory is part of what a target asserts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

/// What every bound grants besides a multiple of the input.
const BASE_BYTES: usize = 64 * 1024;

/// What `work` returns, and the most bytes that this thread held beyond what it held before.
pub fn of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let (held, outer) = (HELD.get(), PEAK.get());
    PEAK.set(held);
    let result = work();
    let peak = usize::try_from(PEAK.get() - held).unwrap_or(0);
    PEAK.set(PEAK.get().max(outer));
    (result, peak)
}

/// Does `work`, which may hold `bytes_max` bytes at most.
///
/// # Panics
/// When it held more.
pub fn within<T>(bytes_max: usize, work: impl FnOnce() -> T) -> T {
    let (result, peak) = of(work);
    assert!(peak <= bytes_max, "{peak} bytes were held at a time, {bytes_max} are allowed");
    result
}

/// Does `work`, which may hold `factor` times the input's length and 64 KiB.
///
/// # Panics
/// When it held more.
pub fn times<T>(factor: usize, input: &[u8], work: impl FnOnce() -> T) -> T {
    within(factor * input.len() + BASE_BYTES, work)
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).expect("a layout fits in isize")
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]
// SAFETY: every call goes to the system allocator with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new block may exist at the same time.
        count(signed(new_size));
        // SAFETY: as promised by the caller.
        let moved = unsafe { System.realloc(pointer, layout, new_size) };
        count(-signed(layout.size()));
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_counts_what_is_held_and_forgets_what_was_given_back() {
        let ((), peak) = of(|| {
            for _ in 0..10 {
                drop(std::hint::black_box(vec![1_u8; 10_000]));
            }
        });
        assert!((10_000..20_000).contains(&peak), "{peak}");
        let (kept, peak) = of(|| std::hint::black_box(vec![1_u8; 50_000]));
        assert!(peak >= kept.len(), "{peak}");
    }

    #[test]
    #[should_panic(expected = "are allowed")]
    fn more_than_allowed_is_an_error() {
        within(1_000, || drop(std::hint::black_box(vec![1_u8; 2_000])));
    }

    #[test]
    fn an_inner_measurement_does_not_hide_the_outer_peak() {
        let ((), outer) = of(|| {
            drop(std::hint::black_box(vec![1_u8; 30_000]));
            let ((), inner) = of(|| drop(std::hint::black_box(vec![1_u8; 100])));
            assert!(inner < 1_000, "{inner}");
        });
        assert!(outer >= 30_000, "{outer}");
    }
}
