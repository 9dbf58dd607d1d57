//! What is read next, fetched while something else is computed.
//!
//! A core that computes on what is in its caches leaves the memory idle, and one that waits for memory computes nothing.
//! So every pass over a block fetches a part of the next block's features meanwhile: a cache line now and then, since a
//! processor can wait for a dozen at a time, and while it does so even what is in the second-level cache has to wait.
//! Lines that follow each other in memory take it longer than lines of several places by turns.

use faer::MatRef;

/// Bytes of a cache line.
pub(super) const CACHE_LINE: usize = 64;

/// Bytes of a page of memory.
pub(crate) const PAGE: usize = 4 << 10;

/// Fetches the cache line of x to the second-level cache, without waiting for it.
#[inline(always)]
pub(super) fn prefetch<T>(x: &T) {
    prefetch_to::<false>(core::ptr::from_ref(x).cast());
}

/// The same, to the first-level cache.
#[inline(always)]
pub(super) fn prefetch_near<T>(x: &T) {
    prefetch_to::<true>(core::ptr::from_ref(x).cast());
}

/// Wherever the address points: a processor fetches nothing from where there is no memory.
#[inline(always)]
fn prefetch_to<const FIRST_LEVEL: bool>(at: *const i8) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1};
        if FIRST_LEVEL { sse._mm_prefetch::<_MM_HINT_T0>(at) } else { sse._mm_prefetch::<_MM_HINT_T1>(at) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The cache lines of a matrix, fetched one after another, evenly over the steps of a kernel.
///
/// The matrix is cut into a few runs of neighbouring rows, which give a line each by turns.
pub(super) struct Ahead {
    /// Lines a step, and lines that are due, in units of 1/[`ONE`].
    rate: u64,
    due: u64,
    /// The next line, and the end of the last run.
    at: *const i8,
    end: *const i8,
    /// Bytes from a run to the next.
    apart: usize,
    /// Of the first run: the row, how many are left with it, and the byte of it.
    row: *const i8,
    rows: usize,
    byte: usize,
    /// Bytes of a row, and from one to the next.
    len: usize,
    pitch: usize,
}

/// A line in the units of [`Ahead`].
const ONE: u64 = 1 << 16;

/// Runs that give a line by turns.
const RUNS: usize = 6;

impl Ahead {
    /// Those of a matrix whose rows or columns are contiguous, over so many steps.
    #[inline(always)]
    pub(super) fn new<T>(next: Option<MatRef<'_, T>>, steps: usize) -> Self {
        match next {
            Some(next) if next.nrows() > 0 && next.ncols() > 0 => Self::of(next, steps),
            _ => Self::NOTHING,
        }
    }

    const NOTHING: Self = Self {
        rate: 0,
        due: 0,
        at: core::ptr::null(),
        end: core::ptr::null(),
        apart: 0,
        row: core::ptr::null(),
        rows: 0,
        byte: 0,
        len: 0,
        pitch: 0,
    };

    #[inline(never)]
    fn of<T>(x: MatRef<'_, T>, steps: usize) -> Self {
        let x = if x.col_stride() == 1 { x } else { x.transpose() };
        let x = if x.row_stride() < 0 { x.reverse_rows() } else { x };
        let row = x.as_ptr().cast();
        let (len, pitch) = (x.ncols() * size_of::<T>(), x.row_stride().unsigned_abs() * size_of::<T>());
        let (runs, rows, len, pitch) = if pitch <= len + len / 8 {
            // Next to nothing lies between the rows: they are one.
            let len = (pitch * x.nrows()).div_ceil(RUNS).next_multiple_of(CACHE_LINE);
            (RUNS, 1, len, len)
        } else {
            let rows = x.nrows().div_ceil(RUNS);
            (x.nrows().div_ceil(rows), rows, len, pitch)
        };
        let lines = runs * rows * len.div_ceil(CACHE_LINE);
        Self {
            rate: (lines as u64 * ONE).div_ceil(steps.max(1) as u64),
            due: 0,
            at: row,
            end: row.wrapping_add(runs * rows * pitch),
            apart: rows * pitch,
            row,
            rows,
            byte: 0,
            len,
            pitch,
        }
    }

    /// Fetches what is due after some more steps.
    #[inline(always)]
    pub(super) fn step(&mut self, steps: usize) {
        self.due += steps as u64 * self.rate;
        while self.due >= ONE {
            self.due -= ONE;
            if self.at >= self.end && !self.advance() {
                return;
            }
            prefetch_to::<false>(self.at);
            self.at = self.at.wrapping_add(self.apart);
        }
    }

    /// To the next line of the first run, if there is one; else it is done.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        self.byte += CACHE_LINE;
        if self.byte >= self.len {
            self.byte = 0;
            self.row = self.row.wrapping_add(self.pitch);
            self.rows -= 1;
            if self.rows == 0 {
                *self = Self::NOTHING;
                return false;
            }
        }
        self.at = self.row.wrapping_add(self.byte);
        true
    }
}
