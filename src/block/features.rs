//! The features of a block, and what its passes fetch early of the next block's.

use super::Problem;
use crate::batch::Data;
use crate::kernel::{MAX_LANES, Real, Span, Sparse};
use crate::schedule::column_stride;
use core::ops::Range;
use faer::{MatMut, MatRef};

/// The features of a block as the products read them.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a, T> {
    Dense {
        x: MatRef<'a, T>,
        next: Next,
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
    pub(super) fn for_softmax(&self) -> Span {
        match self {
            Self::Dense { next, .. } => next.for_softmax,
            Self::Sparse { .. } => Span::NOTHING,
        }
    }

    /// With the place of the input gradient to be fetched in the gradient's pass, where anything is fetched in it.
    pub(super) fn with_input_gradient(self, place: Span) -> Self {
        match self {
            Self::Dense { x, next } if !next.for_scores.is_empty() && !next.is_streamed => {
                Self::Dense { x, next: Next { for_gradient: place, ..next } }
            }
            other => other,
        }
    }

    pub(super) fn samples(&self) -> usize {
        match self {
            Self::Dense { x, .. } => x.nrows(),
            Self::Sparse { count, .. } => *count,
        }
    }
}

/// The last pass over a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pass {
    Scores,
    Softmax,
    Gradient,
    /// The pass before it fetches the place of the input gradient instead.
    InputGradient,
}

/// What the passes over a block fetch early.
#[derive(Clone, Copy)]
pub(super) struct Next {
    pub(super) for_scores: Span,
    pub(super) for_softmax: Span,
    pub(super) for_gradient: Span,
    /// Whether the products fetch the features of this block too.
    pub(super) is_streamed: bool,
}

impl Next {
    const NOTHING: Self = Self {
        for_scores: Span::NOTHING,
        for_softmax: Span::NOTHING,
        for_gradient: Span::NOTHING,
        is_streamed: false,
    };

    /// What follows each pass, where passes fetch the features of this block themselves.
    fn streamed(this: Span, next: Span, last: Pass) -> Self {
        let after_scores = if last >= Pass::Gradient { this } else { next };
        Self { for_scores: after_scores, for_gradient: next, is_streamed: true, ..Self::NOTHING }
    }

    /// The next block, shared out among the passes over this one: to each in proportion to the time it takes.
    fn shared(next: Span, features: usize, last: Pass) -> Self {
        /// Features of a score whose products take as long as its softmax.
        const SOFTMAX_FEATURES: usize = 16;
        if next.is_empty() {
            return Self::NOTHING;
        }
        let softmax = if last >= Pass::Softmax { SOFTMAX_FEATURES } else { 0 };
        let gradient = if last == Pass::Gradient { features } else { 0 };
        let (for_scores, rest) = next.split(features, softmax + gradient);
        let (for_softmax, for_gradient) = rest.split(softmax, gradient);
        Self { for_scores, for_softmax, for_gradient, is_streamed: false }
    }
}

/// In what order the products read a block's features.
enum Order {
    /// As they are.
    Stored,
    /// In a copy: neither those of a sample nor those of a feature are neighbours, or they are of a smaller type.
    BySample,
    /// In a copy: there are few of them.
    ByFeature,
}

impl<'a, T: Real> Problem<'a, T> {
    /// That of this problem.
    fn order(&self) -> Order {
        match self.features.data() {
            Data::Dense(x) if x.row_stride() == 1 => Order::Stored,
            Data::Dense(_) if self.plan.turns_features() => Order::ByFeature,
            Data::Dense(x) if x.col_stride() == 1 => Order::Stored,
            Data::Dense(_) => Order::BySample,
            #[cfg(feature = "half")]
            Data::Half(_) => Order::BySample,
            Data::Sparse(_) => Order::Stored,
        }
    }

    /// Numbers of a copy of a block's features, if there is one, for so many samples.
    pub(super) fn copied_features(&self, rows: usize) -> usize {
        match self.order() {
            Order::Stored => 0,
            Order::BySample => rows.saturating_mul(self.features_stride()),
            Order::ByFeature => column_stride(rows).saturating_mul(self.features.features()),
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
        let Range { start, end } = samples;
        let (count, features) = (samples.len(), self.features.features());
        // Samples to fetch.
        let soon = match self.plan.fits_cache() {
            true => 0,
            false => self.plan.rows().min(self.features.samples() - end),
        };
        match self.features.data() {
            Data::Sparse(x) => (Rows::Sparse { x, start, count }, room),
            #[cfg(feature = "half")]
            Data::Half(x) => {
                let widen = |i, out: &mut [T]| x.widen(start + i, out, self.level);
                let (copy, room) = self.copy_rows(count, features, room, widen);
                let next = Next::shared(x.span(end, soon), features, last);
                (Rows::Dense { x: copy, next }, room)
            }
            Data::Dense(x) => {
                let (x, next) = (x.subrows(start, count), Span::of(x.subrows(end, soon)));
                let next = match self.plan.is_streamed() {
                    true => Next::streamed(Span::of(x), next, last),
                    false => Next::shared(next, features, last),
                };
                let (x, room) = match self.order() {
                    Order::Stored => (x, room),
                    Order::BySample => self.copy_rows(count, features, room, |i, out| {
                        out.iter_mut().zip(x.row(i).iter()).for_each(|(out, &x)| *out = x);
                    }),
                    Order::ByFeature => self.copy_columns(x, room),
                };
                (Rows::Dense { x, next }, room)
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

    /// A matrix as one of contiguous columns, and what is left of the room.
    fn copy_columns<'s>(&self, x: MatRef<'_, T>, room: &'s mut [T]) -> (MatRef<'s, T>, &'s mut [T]) {
        let (rows, columns) = x.shape();
        let stride = column_stride(rows);
        let (copy, room) = room.split_at_mut(stride * columns);
        let to = MatMut::from_column_major_slice_with_stride_mut(&mut *copy, rows, columns, stride);
        self.copy(x, to);
        (MatRef::from_column_major_slice_with_stride(copy, rows, columns, stride), room)
    }
}

/// A matrix of so many rows of so many contiguous numbers, and what is left of the room.
pub(super) fn take_rows<T>(room: &mut [T], rows: usize, columns: usize) -> (MatMut<'_, T>, &mut [T]) {
    let (own, room) = room.split_at_mut(columns * rows);
    (MatMut::from_row_major_slice_mut(own, rows, columns), room)
}
