//! A gradient for each group, in one place.

use super::run::{Cut, Split};
use faer::MatMut;

/// Matrices, one for each group.
#[derive(Clone, Copy)]
pub(crate) struct Partials {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) groups: usize,
    /// One above the other, rows contiguous; else side by side, columns contiguous.
    pub(super) stacked: bool,
}

impl Partials {
    /// Numbers of each of them.
    pub(crate) fn each(&self) -> usize {
        self.rows.saturating_mul(self.columns)
    }

    /// Numbers of all of them.
    pub(crate) fn len(&self) -> usize {
        self.each().saturating_mul(self.groups)
    }

    /// In a place as long as they are.
    pub(crate) fn all<'a, T>(&self, data: &'a mut [T]) -> ByGroup<'a, T> {
        let Self { rows, columns, groups, stacked } = *self;
        let (matrices, each) = if stacked {
            (MatMut::from_column_major_slice_mut(data, columns, rows * groups).transpose_mut(), rows)
        } else {
            (MatMut::from_column_major_slice_mut(data, rows, columns * groups), columns)
        };
        ByGroup { matrices, each, stacked }
    }

    /// The first of them, in its part of that place.
    pub(crate) fn first<T>(self, data: &mut [T]) -> MatMut<'_, T> {
        Self { groups: 1, ..self }.all(data).matrices
    }
}

/// A matrix for each group: one above the other, or side by side.
pub(crate) struct ByGroup<'a, T> {
    pub(crate) matrices: MatMut<'a, T>,
    /// Rows of each, or columns.
    each: usize,
    stacked: bool,
}

impl<'a, T> ByGroup<'a, T> {
    /// For the only group there is.
    pub(crate) fn of(matrix: MatMut<'a, T>) -> Self {
        let each = matrix.ncols();
        Self { matrices: matrix, each, stacked: false }
    }
}

impl<T: Send> Split for ByGroup<'_, T> {
    fn split(self, at: Cut) -> (Self, Self) {
        let Self { matrices, each, stacked } = self;
        let (a, b) = if stacked {
            matrices.split_at_row_mut(at.groups * each)
        } else {
            matrices.split_at_col_mut(at.groups * each)
        };
        (Self { matrices: a, each, stacked }, Self { matrices: b, each, stacked })
    }
}
