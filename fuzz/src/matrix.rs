//! Matrices in every layout that safe faer can build, in a buffer that tells what was written outside of them.

use super::draw::Source;
use super::number::Number;
use core::fmt;
use faer::{MatMut, MatRef};

/// How a matrix lies in its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    row_major: bool,
    /// Elements before the first.
    lead: usize,
    /// Elements between neighbouring rows or columns: a sub-view.
    gap: usize,
    /// Between them lies another one: every second row or column of a larger matrix.
    every_second: bool,
    reverse_rows: bool,
    reverse_cols: bool,
    /// All rows are the first, by a stride of 0.
    repeated: bool,
}

impl Layout {
    /// Any layout; that of an output cannot repeat rows.
    pub fn draw(source: &mut Source<'_>, input: bool) -> Self {
        let [a, b] = [source.byte(), source.byte()];
        Self {
            row_major: a & 1 != 0,
            reverse_rows: a & 6 == 2,
            reverse_cols: a & 12 == 4,
            every_second: a & 0x30 == 0x10,
            repeated: input && a & 0xc0 == 0xc0 && b & 0xc0 == 0xc0,
            lead: usize::from(b & 3),
            gap: if b & 4 == 0 { 0 } else { usize::from(b >> 3 & 7) },
        }
    }
}

/// A matrix and the buffer it is a view of.
#[derive(Clone)]
pub struct Matrix<T> {
    data: Vec<T>,
    rows: usize,
    cols: usize,
    layout: Layout,
}

impl<T: Number> fmt::Debug for Matrix<T> {
    /// The shape, the layout, and the elements if they are few.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elements = self.elements();
        let some = &elements[..elements.len().min(64)];
        write!(f, "{}×{} {:?} {some:?}", self.rows, self.cols, self.layout)
    }
}

impl<T: Number> Matrix<T> {
    /// A matrix of sentinels: an output.
    pub fn unwritten(rows: usize, cols: usize, layout: Layout) -> Self {
        let mut matrix = Self { data: Vec::new(), rows, cols, layout };
        let (inner, outer) = matrix.inner_and_outer();
        matrix.data = vec![T::SENTINEL; layout.lead + outer * matrix.stride() + inner + 3];
        matrix
    }

    /// From its elements.
    pub fn from_fn(rows: usize, cols: usize, layout: Layout, mut f: impl FnMut(usize, usize) -> T) -> Self {
        let mut matrix = Self::unwritten(rows, cols, layout);
        let mut view = matrix.stored_mut();
        for i in 0..view.nrows() {
            for j in 0..cols {
                view[(i, j)] = f(i, j);
            }
        }
        matrix
    }

    fn stored_rows(&self) -> usize {
        if self.layout.repeated { self.rows.min(1) } else { self.rows }
    }

    fn inner_and_outer(&self) -> (usize, usize) {
        let rows = self.stored_rows();
        if self.layout.row_major { (self.cols, rows) } else { (rows, self.cols) }
    }

    fn stride(&self) -> usize {
        let (inner, _) = self.inner_and_outer();
        inner * (1 + usize::from(self.layout.every_second)) + self.layout.gap
    }

    /// The matrix.
    pub fn view(&self) -> MatRef<'_, T> {
        let (rows, cols, stride) = (self.stored_rows(), self.cols, self.stride());
        let data = &self.data[self.layout.lead..];
        let mut view = if self.layout.row_major {
            MatRef::from_row_major_slice_with_stride(data, rows, cols, stride)
        } else {
            MatRef::from_column_major_slice_with_stride(data, rows, cols, stride)
        };
        if self.layout.reverse_rows {
            view = view.reverse_rows();
        }
        if self.layout.reverse_cols {
            view = view.reverse_cols();
        }
        if self.layout.repeated && rows > 0 {
            MatRef::from_repeated_row(view.row(0), self.rows)
        } else {
            view
        }
    }

    /// The matrix, to be written: without repeated rows.
    pub fn view_mut(&mut self) -> MatMut<'_, T> {
        assert!(!self.layout.repeated);
        self.stored_mut()
    }

    fn stored_mut(&mut self) -> MatMut<'_, T> {
        let (rows, cols, stride) = (self.stored_rows(), self.cols, self.stride());
        let data = &mut self.data[self.layout.lead..];
        let mut view = if self.layout.row_major {
            // faer 0.24.4's `from_row_major_slice_with_stride_mut` forgets to transpose.
            MatMut::from_column_major_slice_with_stride_mut(data, cols, rows, stride).transpose_mut()
        } else {
            MatMut::from_column_major_slice_with_stride_mut(data, rows, cols, stride)
        };
        if self.layout.reverse_rows {
            view = view.reverse_rows_mut();
        }
        if self.layout.reverse_cols {
            view = view.reverse_cols_mut();
        }
        view
    }

    /// The elements, row by row.
    pub fn elements(&self) -> Vec<T> {
        let view = self.view();
        (0..self.rows).flat_map(|i| (0..self.cols).map(move |j| view[(i, j)])).collect()
    }

    /// Panics if anything outside the matrix is no longer as it was.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_nothing_outside_written(&self, what: &str) {
        let mut outside = self.clone();
        outside.stored_mut().fill(T::SENTINEL);
        outside.assert_unwritten(what);
    }

    /// Panics if anything was written, in the matrix or outside.
    ///
    /// # Panics
    /// If it was.
    pub fn assert_unwritten(&self, what: &str) {
        let sentinel = T::SENTINEL.bits();
        assert!(self.data.iter().all(|x| x.bits() == sentinel), "{what}: written where nothing may be");
    }

    /// Panics unless the whole buffer is the same as another.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_untouched(&self, before: &Self, what: &str) {
        let same = self.data.iter().zip(&before.data).all(|(a, b)| a.bits() == b.bits());
        assert!(same, "{what}: written where nothing may be");
    }
}
