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

/// Memory that will be read: rows of so many bytes, at equal distances.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Address of the first row.
    start: usize,
    rows: usize,
    len: usize,
    pitch: usize,
}

impl Span {
    pub(crate) const NOTHING: Self = Self { start: 0, rows: 0, len: 0, pitch: 0 };

    /// That of a matrix: its rows or columns, whichever lie together. Nothing if they do not.
    #[inline]
    pub(crate) fn of<T>(x: MatRef<'_, T>) -> Self {
        let is_column_major = x.row_stride().unsigned_abs() < x.col_stride().unsigned_abs();
        let x = if is_column_major { x.transpose() } else { x };
        let x = if x.row_stride() < 0 { x.reverse_rows() } else { x };
        let x = if x.col_stride() < 0 { x.reverse_cols() } else { x };
        let [pitch, step] = [x.row_stride(), x.col_stride()]
            .map(|stride| stride.unsigned_abs().saturating_mul(size_of::<T>()));
        if x.nrows() == 0 || x.ncols() == 0 || step > CACHE_LINE {
            return Self::NOTHING;
        }
        let len = (x.ncols() - 1) * step + size_of::<T>();
        Self { start: x.as_ptr().addr(), rows: x.nrows(), len, pitch }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Its first rows.
    #[inline]
    pub(crate) fn first(self, rows: usize) -> Self {
        Self { rows: self.rows.min(rows), ..self }
    }

    /// Cut in two, as one number is to another.
    #[inline]
    pub(crate) fn split(self, part: usize, rest: usize) -> (Self, Self) {
        let rows = (self.rows * part).div_ceil((part + rest).max(1));
        let after = Self {
            start: self.start.wrapping_add(rows.wrapping_mul(self.pitch)),
            rows: self.rows - rows,
            ..self
        };
        (self.first(rows), after)
    }
}

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

/// Wherever it points: from where there is no memory, a processor fetches nothing.
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

/// The cache lines of a [`Span`], fetched one after another, evenly over the steps of a kernel.
///
/// It is cut into a few runs of neighbouring rows, which give a line each by turns.
pub(super) struct Ahead {
    /// Lines a step, and lines that are due, in units of 1/[`ONE`].
    rate: u64,
    due: u64,
    /// Address of the next line, and where the last run ends.
    at: usize,
    end: usize,
    /// Bytes from a run to the next.
    apart: usize,
    /// The first run's row and those after it, and the byte of the row.
    run: Span,
    byte: usize,
}

/// A line in the units of [`Ahead`].
const ONE: u64 = 1 << 16;

/// Runs that give a line by turns.
const RUNS: usize = 6;

impl Ahead {
    const NOTHING: Self = Self { rate: 0, due: 0, at: 0, end: 0, apart: 0, run: Span::NOTHING, byte: 0 };

    /// Evenly over so many steps.
    #[inline(always)]
    pub(super) fn new(span: Span, steps: usize) -> Self {
        if span.is_empty() { Self::NOTHING } else { Self::of(span, steps) }
    }

    #[inline(never)]
    fn of(span: Span, steps: usize) -> Self {
        let Span { start, rows, len, pitch } = span;
        let (runs, run) = if pitch <= len + len / 8 {
            // Next to nothing lies between the rows: they are one.
            let len = (pitch * rows).div_ceil(RUNS).next_multiple_of(CACHE_LINE);
            (RUNS, Span { start, rows: 1, len, pitch: len })
        } else {
            let each = rows.div_ceil(RUNS);
            (rows.div_ceil(each), span.first(each))
        };
        let apart = run.rows.wrapping_mul(run.pitch);
        let lines = runs * run.rows * run.len.div_ceil(CACHE_LINE);
        Self {
            rate: (lines as u64 * ONE).div_ceil(steps.max(1) as u64),
            due: 0,
            at: start,
            end: start.wrapping_add(apart.wrapping_mul(runs)),
            apart,
            run,
            byte: 0,
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
            prefetch_to::<false>(core::ptr::without_provenance(self.at));
            self.at = self.at.wrapping_add(self.apart);
        }
    }

    /// To the next line of the first run, if there is one; else it is done.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        self.byte += CACHE_LINE;
        if self.byte >= self.run.len {
            self.byte = 0;
            self.run.start = self.run.start.wrapping_add(self.run.pitch);
            self.run.rows -= 1;
            if self.run.rows == 0 {
                *self = Self::NOTHING;
                return false;
            }
        }
        self.at = self.run.start.wrapping_add(self.byte);
        true
    }
}
