//! The features of a block, and what its passes fetch early of the next block's.

use super::Problem;
use crate::batch::Data;
use crate::kernel::{MAX_LANES, Real, Sparse};
use core::ops::Range;
use faer::MatRef;

/// The features of a block as the products read them.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a, T> {
    Dense {
        x: MatRef<'a, T>,
        next: Next<'a, T>,
    },
    Sparse {
        x: Sparse<'a, T>,
        /// First sample, and how many.
        start: usize,
        count: usize,
    },
}

impl<'a, T> Rows<'a, T> {
    /// What the softmax fetches of the next block.
    pub(super) fn for_softmax(&self) -> Option<MatRef<'a, T>> {
        match self {
            Self::Dense { next, .. } => next.for_softmax,
            Self::Sparse { .. } => None,
        }
    }

    pub(super) fn samples(&self) -> usize {
        match self {
            Self::Dense { x, .. } => x.nrows(),
            Self::Sparse { count, .. } => *count,
        }
    }
}

/// The last pass over a block that can fetch features of the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pass {
    Scores,
    Softmax,
    Gradient,
}

/// What the passes over a block fetch early.
#[derive(Clone, Copy)]
pub(super) struct Next<'a, T> {
    pub(super) for_scores: Option<MatRef<'a, T>>,
    pub(super) for_softmax: Option<MatRef<'a, T>>,
    /// Transposed, as that product reads them.
    pub(super) for_gradient: Option<MatRef<'a, T>>,
    /// Whether the products fetch the features of this block too.
    pub(super) is_streamed: bool,
}

impl<'a, T> Next<'a, T> {
    const NOTHING: Self =
        Self { for_scores: None, for_softmax: None, for_gradient: None, is_streamed: false };

    /// What each pass begins with, after a pass that fetches the features itself.
    fn streamed(x: MatRef<'a, T>, next: MatRef<'a, T>, last: Pass) -> Self {
        let after_scores = if last == Pass::Gradient { x } else { next };
        let (for_scores, for_gradient) = (Some(after_scores), Some(next.transpose()));
        Self { for_scores, for_softmax: None, for_gradient, is_streamed: true }
    }

    /// The next block's features, shared out among the passes over this one: to each in proportion to the time it takes.
    fn shared(next: MatRef<'a, T>, last: Pass) -> Self {
        /// Features of a score whose products take as long as its softmax.
        const SOFTMAX_FEATURES: usize = 16;
        let scores = next.ncols();
        let softmax = if last >= Pass::Softmax { SOFTMAX_FEATURES } else { 0 };
        let gradient = if last >= Pass::Gradient { next.ncols() } else { 0 };
        let cut = |x: MatRef<'a, T>, part: usize, rest: usize| {
            let at = |lines: usize| (lines * part).div_ceil((part + rest).max(1));
            if x.col_stride() == 1 { x.split_at_row(at(x.nrows())) } else { x.split_at_col(at(x.ncols())) }
        };
        let (for_scores, rest) = cut(next, scores, softmax + gradient);
        let (for_softmax, for_gradient) = cut(rest, softmax, gradient);
        Self {
            for_scores: Some(for_scores),
            for_softmax: Some(for_softmax),
            for_gradient: Some(for_gradient.transpose()),
            is_streamed: false,
        }
    }
}

impl<'a, T: Real> Problem<'a, T> {
    /// Whether the products read a copy of a block's features: where neither those of a sample nor those of a feature
    /// are neighbours, or they are of a smaller type.
    pub(super) fn copies_features(&self) -> bool {
        match self.features.data() {
            Data::Dense(x) => x.row_stride() != 1 && x.col_stride() != 1,
            #[cfg(feature = "half")]
            Data::Half(_) => true,
            Data::Sparse(_) => false,
        }
    }

    /// Distance of neighbouring samples in a copy of the features, which has room for the 1 of an intercept.
    pub(super) fn features_stride(&self) -> usize {
        self.options.theta_rows(self.features.features()).max(1).next_multiple_of(MAX_LANES)
    }

    /// The features of some samples as the products read them, and what is left of the room for copies.
    pub(super) fn block_features<'s>(
        &self,
        samples: Range<usize>,
        last: Pass,
        room: &'s mut [T],
    ) -> (Rows<'s, T>, &'s mut [T])
    where
        'a: 's,
    {
        match self.features.data() {
            Data::Sparse(x) => (Rows::Sparse { x, start: samples.start, count: samples.len() }, room),
            #[cfg(feature = "half")]
            Data::Half(x) => {
                let widen = |i, out: &mut [T]| x.widen(samples.start + i, out, self.level);
                let (copy, room) = self.copy_rows(samples.len(), self.features.features(), room, widen);
                (Rows::Dense { x: copy, next: Next::NOTHING }, room)
            }
            Data::Dense(x) => {
                if !self.copies_features() {
                    let rows = x.subrows(samples.start, samples.len());
                    let next = x.subrows(samples.end, self.plan.rows().min(x.nrows() - samples.end));
                    let next = if self.plan.fits_cache() {
                        Next::NOTHING
                    } else if self.plan.is_streamed() {
                        Next::streamed(rows, next, last)
                    } else {
                        Next::shared(next, last)
                    };
                    return (Rows::Dense { x: rows, next }, room);
                }
                let x = x.subrows(samples.start, samples.len());
                let (copy, room) = self.copy_rows(x.nrows(), x.ncols(), room, |i, out| {
                    out.iter_mut().zip(x.row(i).iter()).for_each(|(out, &x)| *out = x);
                });
                (Rows::Dense { x: copy, next: Next::NOTHING }, room)
            }
        }
    }

    /// A matrix of contiguous rows, each made by `make`, and what is left of the room.
    pub(super) fn copy_rows<'s>(
        &self,
        rows: usize,
        columns: usize,
        room: &'s mut [T],
        make: impl Fn(usize, &mut [T]),
    ) -> (MatRef<'s, T>, &'s mut [T]) {
        let stride = self.features_stride();
        let (copy, room) = room.split_at_mut(stride * rows);
        for (i, out) in copy.chunks_exact_mut(stride).enumerate() {
            make(i, &mut out[..columns]);
        }
        (MatRef::from_column_major_slice_with_stride(copy, columns, rows, stride).transpose(), room)
    }
}
