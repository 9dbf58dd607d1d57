//! What is read next, asked for while something else is computed.
//!
//! A core that computes on what is in its caches leaves the memory idle, and one that waits for memory computes nothing.
//! So every pass over a block asks for a part of the next block's features meanwhile: a line now and then, since a
//! processor can wait for a dozen at a time, and while it does so even what is in the second-level cache has to wait.

use super::lines::Lines;
use core::ops::Range;

/// Bytes of a cache line.
pub(super) const CACHE_LINE: usize = 64;

/// Asks for the cache line of x, to the second-level cache, without waiting for it.
#[inline(always)]
pub(super) fn prefetch<T>(x: &T) {
    prefetch_to::<false, T>(x);
}

/// The same, to the first-level cache.
#[inline(always)]
pub(super) fn prefetch_near<T>(x: &T) {
    prefetch_to::<true, T>(x);
}

#[inline(always)]
fn prefetch_to<const FIRST_LEVEL: bool, T>(x: &T) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1};
        let at = core::ptr::from_ref(x).cast();
        if FIRST_LEVEL { sse._mm_prefetch::<_MM_HINT_T0>(at) } else { sse._mm_prefetch::<_MM_HINT_T1>(at) }
    }
}

/// Lines to be asked for, some by each group of what a kernel works on.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a, T> {
    lines: Option<Lines<'a, T>>,
    per_group: usize,
    /// Which of a group's lines.
    first: usize,
    pub(super) count: usize,
}

/// Most lines that one group asks for while it goes along them.
pub(super) const MOST_SOON: usize = 4;

impl<'a, T> Ahead<'a, T> {
    /// Evenly over the groups, and over the columns of a product: the share of some of them.
    #[inline(always)]
    pub(super) fn new(lines: Option<Lines<'a, T>>, groups: usize, columns: Range<usize>, all: usize) -> Self {
        let per_group = lines.map_or(0, |lines| lines.ncols().div_ceil(groups.max(1)));
        let first = per_group * columns.start / all;
        Self { lines, per_group, first, count: per_group * columns.end / all - first }
    }

    /// Asks for those of one group.
    #[inline(always)]
    pub(super) fn fetch(&self, group: usize) {
        self.fetch_rows(group, 0..usize::MAX);
    }

    /// Asks for some rows of those of one group.
    #[inline(always)]
    pub(super) fn fetch_rows(&self, group: usize, rows: Range<usize>) {
        let Some(lines) = self.lines else { return };
        let from = group * self.per_group + self.first;
        let end = rows.end.min(lines.nrows());
        for i in from..(from + self.count).min(lines.ncols()) {
            let line = lines.col(i).as_slice();
            for row in (rows.start..end).step_by(CACHE_LINE / size_of::<T>()) {
                prefetch(&line[row]);
            }
        }
    }

    /// The first of one group's, for it to ask for bit by bit.
    #[inline(always)]
    pub(super) fn of(&self, group: usize) -> [&'a [T]; MOST_SOON] {
        let mut soon = [&[][..]; MOST_SOON];
        if let Some(lines) = self.lines {
            let from = group * self.per_group + self.first;
            for (i, soon) in soon.iter_mut().enumerate() {
                if i < self.count && from + i < lines.ncols() {
                    *soon = lines.col(from + i).as_slice();
                }
            }
        }
        soon
    }
}
