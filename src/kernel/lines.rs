//! Matrices by their contiguous lines: what the kernels for products read and write.

use super::ahead::Span;
use core::ops::Range;
use faer::{ColMut, ContiguousFwd, MatMut, MatRef};

/// A matrix of contiguous columns.
pub(super) type Lines<'a, T> = MatRef<'a, T, usize, usize, ContiguousFwd>;

/// The same, to be written.
pub(super) type LinesMut<'a, T> = MatMut<'a, T, usize, usize, ContiguousFwd>;

/// A matrix by its contiguous lines.
#[derive(Clone, Copy)]
pub(super) enum By<'a, T> {
    Columns(Lines<'a, T>),
    /// The columns of the transpose.
    Rows(Lines<'a, T>),
}

impl<'a, T> By<'a, T> {
    /// If it has any.
    pub(super) fn new(x: MatRef<'a, T>) -> Option<Self> {
        let columns = x.try_as_col_major().map(Self::Columns);
        columns.or_else(|| x.transpose().try_as_col_major().map(Self::Rows))
    }

    /// Some of its rows and columns.
    #[inline(always)]
    pub(super) fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let part = |x: Lines<'a, T>, rows: Range<usize>, columns: Range<usize>| {
            x.subrows(rows.start, rows.len()).subcols(columns.start, columns.len())
        };
        match self {
            Self::Columns(x) => Self::Columns(part(x, rows, columns)),
            Self::Rows(x) => Self::Rows(part(x, columns, rows)),
        }
    }

    /// Its memory.
    pub(super) fn span(self) -> Span {
        let (Self::Columns(x) | Self::Rows(x)) = self;
        Span::of(x.as_dyn_stride())
    }
}

/// A matrix whose columns are known to be contiguous, as one of that type.
#[inline(always)]
pub(super) fn lines<T>(x: MatRef<'_, T>) -> Lines<'_, T> {
    match x.try_as_col_major() {
        Some(x) => x,
        None => unreachable!("the stride was looked at"),
    }
}

/// The same, to be written.
#[inline(always)]
pub(super) fn lines_mut<T>(x: MatMut<'_, T>) -> LinesMut<'_, T> {
    match x.try_as_col_major_mut() {
        Some(x) => x,
        None => unreachable!("the stride was looked at"),
    }
}

/// One of the lines.
#[inline(always)]
pub(super) fn line_mut<'s, T>(lines: &'s mut LinesMut<'_, T>, line: usize) -> &'s mut [T] {
    lines.as_mut().col_mut(line).as_slice_mut()
}

/// A contiguous column as a slice.
#[inline(always)]
pub(super) fn column_mut<T>(x: ColMut<'_, T>) -> &mut [T] {
    match x.try_as_col_major_mut() {
        Some(x) => x.as_slice_mut(),
        None => &mut [],
    }
}
