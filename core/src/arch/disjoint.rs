//! Parallel work that writes disjoint parts of one slice.
//!
//! The caller's [`Parallel`] is not trusted to call each index exactly once: every call claims the next task from a
//! counter of ours, and what a short implementation leaves over is done here. So each part has exactly one writer.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Whoever runs tasks in parallel: the host's pool, a C caller's, or nobody ([`Serial`]).
///
/// `run(n, task)` calls `task()` n times in all, on any threads, and returns when all calls have returned.
pub trait Parallel: Sync {
    /// Calls `task` `n` times.
    fn run(&self, n: usize, task: &(dyn Fn() + Sync));

    /// Threads that may run tasks at the same time; at least 1. Splits work, never changes results.
    fn threads(&self) -> usize {
        1
    }
}

/// One after the other, on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn run(&self, n: usize, task: &(dyn Fn() + Sync)) {
        for _ in 0..n {
            task();
        }
    }
}

/// Runs `task(i)` once for every `i` below `n`, in any order.
pub fn for_each(parallel: &dyn Parallel, n: usize, task: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    let claim = || {
        let i = next.fetch_add(1, Ordering::Relaxed);
        if i < n {
            task(i);
        }
    };
    if n > 1 {
        parallel.run(n, &claim);
    }
    // Serial work, and whatever an implementation that called too seldom has left.
    while next.load(Ordering::Relaxed) < n {
        claim();
    }
}

/// A slice whose disjoint parts tasks may write at the same time.
struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Shared` only hands out parts through `part`, whose callers keep them disjoint; T crosses threads by `Send`.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Elements `at..at + len`, cut to the slice.
    ///
    /// # Safety
    /// No two parts that live at the same time may overlap.
    unsafe fn part(&self, at: usize, len: usize) -> &'a mut [T] {
        let at = at.min(self.len);
        // SAFETY: the range lies within the slice that `new` borrowed for 'a; the caller keeps parts disjoint.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(at), len.min(self.len - at)) }
    }
}

/// Cuts `out` into chunks of `chunk` elements (the last may be shorter) and runs `task(i, chunk i)` for each.
pub fn for_each_chunk<T: Send>(
    parallel: &dyn Parallel,
    out: &mut [T],
    chunk: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    let chunk = chunk.max(1);
    let n = out.len().div_ceil(chunk);
    let shared = Shared::new(out);
    for_each(parallel, n, &|i| {
        // SAFETY: `for_each` runs each i once, and the chunks of different i do not overlap.
        task(i, unsafe { shared.part(i * chunk, chunk) });
    });
}

/// As [`for_each_chunk`], over two slices cut into as many chunks as the first.
pub fn for_each_chunk2<T: Send, U: Send>(
    parallel: &dyn Parallel,
    (a, chunk_a): (&mut [T], usize),
    (b, chunk_b): (&mut [U], usize),
    task: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let n = a.len().div_ceil(chunk_a.max(1));
    let (a, b) = (Shared::new(a), Shared::new(b));
    for_each(parallel, n, &|i| {
        // SAFETY: `for_each` runs each i once, and the chunks of different i do not overlap.
        unsafe {
            task(i, a.part(i * chunk_a, chunk_a), b.part(i * chunk_b, chunk_b));
        }
    });
}

/// Columns `start..start + width` of a row-major matrix: the part that one task writes.
pub struct Columns<'a> {
    start: *mut f32,
    rows: usize,
    stride: usize,
    width: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

impl Columns<'_> {
    /// How many columns.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// The columns' part of row `row`, or an empty slice past the last row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        if row >= self.rows {
            return &mut [];
        }
        // SAFETY: `for_each_columns` made sure that rows * stride elements exist and that start + width <= stride; the
        // columns of different tasks do not overlap, and `&mut self` keeps this task to one row at a time.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.width) }
    }
}

/// One matrix [rows, stride] to be written by column blocks of at most `block` columns each.
pub struct Target<'a> {
    start: *mut f32,
    rows: usize,
    stride: usize,
    block: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Target` is only reached through `for_each_columns`, which hands out disjoint columns.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    /// No rows, no blocks.
    pub const EMPTY: Self = Self { start: core::ptr::null_mut(), rows: 0, stride: 0, block: 1, matrix: PhantomData };

    /// `out` as [out.len() / stride, stride], cut into blocks of `block` columns. A `stride` of 0 makes no blocks.
    pub fn new(out: &'a mut [f32], stride: usize, block: usize) -> Self {
        let rows = out.len().checked_div(stride).unwrap_or(0);
        Self { start: out.as_mut_ptr(), rows, stride, block: block.max(1), matrix: PhantomData }
    }

    const fn blocks(&self) -> usize {
        if self.rows == 0 { 0 } else { self.stride.div_ceil(self.block) }
    }
}

/// Runs `task(item, first column, columns)` for every column block of every item's target, as one parallel region.
pub fn for_each_columns<T: Sync>(
    parallel: &dyn Parallel,
    items: &mut [T],
    target: fn(&T) -> &Target<'_>,
    task: impl Fn(&T, usize, Columns<'_>) + Sync,
) {
    let items = &*items; // taken as `&mut`: nobody else reaches these targets meanwhile
    let n = items.iter().map(|item| target(item).blocks()).sum();
    for_each(parallel, n, &|mut i| {
        for item in items {
            let Target { start, rows, stride, block, .. } = *target(item);
            let blocks = target(item).blocks();
            if i < blocks {
                let first = i * block;
                let width = block.min(stride - first);
                // SAFETY: first < stride, and there is at least one row of `stride` elements (`blocks` is 0 without).
                let start = unsafe { start.add(first) };
                return task(item, first, Columns { start, rows, stride, width, matrix: PhantomData });
            }
            i -= blocks;
        }
    });
}
