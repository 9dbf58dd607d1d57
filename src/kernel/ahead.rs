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

/// A number of each cache line of some that begin one.
#[inline(always)]
pub(super) fn each_line<T>(numbers: &[T]) -> impl Iterator<Item = &T> {
    numbers.iter().step_by(CACHE_LINE / size_of::<T>())
}

/// Fetches the cache line of x, without waiting for it.
#[inline(always)]
pub(super) fn prefetch<T>(x: &T) {
    prefetch_at(core::ptr::from_ref(x).addr());
}

/// Wherever it is: from where there is no memory, a processor fetches nothing.
///
/// To the first-level cache, though much of it will be needed only later: asked for the second level alone, a processor may be
/// slow to find the page that a line is on.
#[inline(always)]
fn prefetch_at(address: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        sse._mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(core::ptr::without_provenance(address));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
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
        // Bytes of its first line before a row begins, at most.
        let before = if pitch.is_multiple_of(CACHE_LINE) { start % CACHE_LINE } else { CACHE_LINE - 1 };
        let (runs, run) = if rows == 1 || pitch <= len + CACHE_LINE.max(len / 8) {
            // Next to nothing lies between the rows: they are one.
            let len = (before + pitch * (rows - 1) + len).div_ceil(RUNS).next_multiple_of(CACHE_LINE);
            (RUNS, Span { start, rows: 1, len, pitch: len })
        } else {
            let each = rows.div_ceil(RUNS);
            (rows.div_ceil(each), Span { rows: each, len: before + len, ..span })
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
        self.for_each_due(steps, prefetch_at);
    }

    /// The addresses of the lines that are due after some more steps.
    #[inline(always)]
    fn for_each_due(&mut self, steps: usize, mut fetch: impl FnMut(usize)) {
        self.due += steps as u64 * self.rate;
        while self.due >= ONE {
            self.due -= ONE;
            let Some(line) = self.next_line() else { return };
            fetch(line);
        }
    }

    /// The address of the next line, if there is one; else it is done for good.
    #[inline(always)]
    fn next_line(&mut self) -> Option<usize> {
        if self.at >= self.end && !self.advance() {
            return None;
        }
        let line = self.at;
        self.at = self.at.wrapping_add(self.apart);
        Some(line)
    }

    /// To the next line of the first run, if there is one.
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

#[cfg(test)]
mod tests {
    use super::{Ahead, CACHE_LINE, Span};
    use faer::MatRef;
    use std::collections::BTreeSet;

    /// Fetched lines after each step.
    fn fetched(span: Span, steps: usize) -> Vec<Vec<usize>> {
        let mut ahead = Ahead::new(span, steps);
        let mut step = || {
            let mut lines = vec![];
            ahead.for_each_due(1, |line| lines.push(line / CACHE_LINE));
            lines
        };
        (0..steps).map(|_| step()).collect()
    }

    fn check(x: MatRef<'_, f32>, steps: usize, waste: f64) {
        let steps = fetched(Span::of(x), steps);
        let all: Vec<usize> = steps.iter().flatten().copied().collect();
        let lines: BTreeSet<usize> = all.iter().copied().collect();
        assert_eq!(lines.len(), all.len(), "a line twice");
        let wanted: BTreeSet<usize> =
            x.col_iter().flat_map(|x| x.iter()).map(|x| core::ptr::from_ref(x).addr() / CACHE_LINE).collect();
        assert!(wanted.is_subset(&lines), "{} lines missed", wanted.difference(&lines).count());
        let most = wanted.len() as f64 * (1.0 + waste) + 12.0;
        assert!(all.len() as f64 <= most, "{} lines for {}", all.len(), wanted.len());
        let even = all.len() as f64 / steps.len() as f64;
        let mut sum = 0.0;
        for (i, step) in steps.iter().enumerate() {
            sum += step.len() as f64;
            assert!(
                (sum - even * (i + 1) as f64).abs() <= 2.0,
                "{sum} lines after {} steps of {even}",
                i + 1
            );
        }
    }

    #[test]
    fn every_line_once_and_evenly() {
        let data = vec![0.0; 200 * 800];
        let x = MatRef::from_row_major_slice(&data, 200, 800);
        for steps in [1, 7, 100, 5000, 40_000] {
            check(x, steps, 0.0);
            check(x.transpose(), steps, 0.0);
            check(x.reverse_rows().reverse_cols(), steps, 0.0);
            check(x.subcols(3, 784), steps, 0.05);
            check(x.subcols(0, 160), steps, 0.05);
            check(x.transpose().subrows(0, 160), steps, 0.05);
            check(x.subcols(0, 160).reverse_rows(), steps, 0.05);
            check(x.subrows(5, 1), steps, 0.0);
            check(x.subrows(5, 2).subcols(0, 320), steps, 0.0);
            check(x.subrows(5, 1).subcols(1, 320), steps, 0.0);
        }
        for nothing in [x.subrows(0, 0), x.subcols(0, 0)] {
            assert!(fetched(Span::of(nothing), 10).iter().all(Vec::is_empty));
        }
    }

    #[test]
    fn a_span_cut_in_two_is_the_whole() {
        let data = vec![0.0; 50 * 100];
        let x = MatRef::from_row_major_slice(&data, 50, 100).subcols(0, 48);
        for (part, rest) in [(1, 1), (784, 800), (0, 3), (3, 0), (0, 0)] {
            let (a, b) = Span::of(x).split(part, rest);
            assert_eq!(a.rows + b.rows, 50);
            assert_eq!(a.rows, (50 * part).div_ceil((part + rest).max(1)));
            assert_eq!(b.start, a.start + a.rows * a.pitch);
        }
    }
}
