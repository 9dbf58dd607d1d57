//! A gradient for each group: the first of them is the sum, in the end.

use super::run::{Cut, Split};
use faer::MatMut;

/// The shape of each, and how those after the first lie in one place.
#[derive(Clone, Copy)]
pub(crate) struct Partials {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// How many there are beside the first, ...
    pub(super) others: usize,
    /// ... which is the gradient itself, or needs a place too.
    pub(crate) is_gradient_first: bool,
    /// One above the other, rows contiguous; else side by side, columns contiguous.
    pub(super) stacked: bool,
}

impl Partials {
    /// Numbers of each of them.
    pub(crate) fn each(&self) -> usize {
        self.rows.saturating_mul(self.columns)
    }

    /// Numbers of those that need a place.
    pub(crate) fn len(&self) -> usize {
        let first = usize::from(!self.is_gradient_first);
        self.each().saturating_mul(self.others.saturating_add(first))
    }

    /// One, in a place as long as it is.
    pub(crate) fn one<'a, T>(&self, data: &'a mut [T]) -> MatMut<'a, T> {
        let Self { rows, columns, stacked, .. } = *self;
        if stacked {
            MatMut::from_row_major_slice_mut(data, rows, columns)
        } else {
            MatMut::from_column_major_slice_mut(data, rows, columns)
        }
    }

    /// The first, and the others in their place.
    pub(crate) fn by_group<'a, T>(&self, first: MatMut<'a, T>, others: &'a mut [T]) -> ByGroup<'a, T> {
        let Self { rows, columns, others: count, stacked, .. } = *self;
        let (all, each) = if stacked {
            (Self { rows: rows * count, ..*self }, rows)
        } else {
            (Self { columns: columns * count, ..*self }, columns)
        };
        ByGroup { first: Some(first), others: all.one(others), each, stacked }
    }
}

/// A matrix for each of neighbouring groups.
pub(crate) struct ByGroup<'a, T> {
    /// That of the first group of all, if it is among them.
    first: Option<MatMut<'a, T>>,
    /// Those of the others: one above the other, or side by side.
    others: MatMut<'a, T>,
    /// Rows of each of these, or columns.
    each: usize,
    stacked: bool,
}

impl<T> ByGroup<'_, T> {
    /// That of the only one of them.
    pub(crate) fn matrix(&mut self) -> MatMut<'_, T> {
        match &mut self.first {
            Some(first) => first.as_mut(),
            None => self.others.as_mut(),
        }
    }
}

impl<T: Send> Split for ByGroup<'_, T> {
    fn split(self, at: Cut) -> (Self, Self) {
        let Self { first, others, each, stacked } = self;
        let with_first = first.is_some() && at.groups > 0;
        let middle = (at.groups - usize::from(with_first)) * each;
        let (first, later) = if with_first { (first, None) } else { (None, first) };
        let (a, b) = if stacked { others.split_at_row_mut(middle) } else { others.split_at_col_mut(middle) };
        (Self { first, others: a, each, stacked }, Self { first: later, others: b, each, stacked })
    }
}
