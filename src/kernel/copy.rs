//! A matrix copied, whatever the order of the two.

use super::lanes::Lanes;
use super::lines::{Lines, LinesMut, line_mut, lines_mut};
use super::shuffle::{by_blocks, turned_blocks};
use super::vector::Vector;
use crate::schedule::{Halves, middle};
use faer::{MatMut, MatRef};
use pulp::{Simd, WithSimd};

/// A matrix, and one of the same shape that it is copied to.
pub(crate) struct MatrixCopy<'a, T> {
    from: MatRef<'a, T>,
    /// Of contiguous columns, if of any contiguous lines.
    to: MatMut<'a, T>,
}

impl<'a, T> MatrixCopy<'a, T> {
    pub(crate) fn new(from: MatRef<'a, T>, to: MatMut<'a, T>) -> Self {
        match to.row_stride() {
            1 => Self { from, to },
            _ => Self { from: from.transpose(), to: to.transpose_mut() },
        }
    }
}

impl<T: Send + Sync> Halves for MatrixCopy<'_, T> {
    fn can_be_halved(&self) -> bool {
        self.from.nrows() * self.from.ncols() >= 2 * PIECE
    }

    fn halves(self) -> (Self, Self) {
        let Self { from, to } = self;
        let (rows, columns) = from.shape();
        let (from, to) = if rows > columns {
            (from.split_at_row(middle(rows)), to.split_at_row_mut(middle(rows)))
        } else {
            (from.split_at_col(middle(columns)), to.split_at_col_mut(middle(columns)))
        };
        (Self { from: from.0, to: to.0 }, Self { from: from.1, to: to.1 })
    }
}

/// Numbers of a piece.
const PIECE: usize = 1 << 14;

impl<T: Lanes> WithSimd for &mut MatrixCopy<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (from, to) = (self.from, self.to.as_mut());
        if to.row_stride() != 1 {
            return by_numbers(from, to);
        }
        let (columns, rows) = (from.try_as_col_major(), from.transpose().try_as_col_major());
        macro_rules! by_blocks_of {
            ($block:literal, $parts:literal) => {
                match (columns, rows) {
                    (Some(columns), _) if columns.nrows() >= $block * $parts => {
                        same_order::<T, S>(simd, columns, lines_mut(to));
                    }
                    (None, Some(rows)) => match rows.shape() {
                        (long, many) if many >= long.max($block * $parts) && long >= $block => {
                            let mut to = lines_mut(to);
                            let most = ROWS_TOGETHER.min(many);
                            for start in (0..many).step_by(most) {
                                let start = start.min(many - most);
                                let to = to.as_mut().subrows_mut(start, most);
                                many_rows::<T, S, $block, $parts>(simd, rows.subcols(start, most), to);
                            }
                        }
                        (long, many) if long >= $block * $parts && many >= $block => {
                            few_rows::<T, S, $block, $parts>(simd, rows, lines_mut(to));
                        }
                        _ => by_numbers(from, to),
                    },
                    _ => by_numbers(from, to),
                }
            };
        }
        match const { Vector::<T, S>::COUNT } {
            16 => by_blocks_of!(4, 4),
            8 if const { size_of::<T>() == 4 } => by_blocks_of!(4, 2),
            8 => by_blocks_of!(2, 4),
            4 if const { size_of::<T>() == 4 } => by_blocks_of!(4, 1),
            4 => by_blocks_of!(2, 2),
            2 => by_blocks_of!(2, 1),
            _ => by_numbers(from, to),
        }
    }
}

/// Columns from columns, register by register, the last one from what is left and some numbers before it: a call of `memcpy` for
/// each would cost more than short ones do.
#[inline(always)]
fn same_order<T: Lanes, S: Simd>(simd: S, columns: Lines<'_, T>, mut to: LinesMut<'_, T>) {
    let (rows, lanes) = (columns.nrows(), Vector::<T, S>::COUNT);
    for (c, column) in columns.col_iter().enumerate() {
        let (from, to) = (column.as_slice(), line_mut(&mut to, c));
        for start in (0..rows).step_by(lanes) {
            let start = start.min(rows - lanes);
            Vector::<T, S>::load(simd, &from[start..]).store(&mut to[start..]);
        }
    }
}

/// Rows that stay in a first-level cache while a few columns after the others are taken.
const ROWS_TOGETHER: usize = 128;

/// A few columns of as many rows as a register has lanes at once. The last ones of either are taken together with some that
/// are done already.
#[inline(always)]
fn many_rows<T: Lanes, S: Simd, const BLOCK: usize, const PARTS: usize>(
    simd: S,
    rows: Lines<'_, T>,
    mut to: LinesMut<'_, T>,
) {
    let ((columns, count), lanes) = (rows.shape(), BLOCK * PARTS);
    for first in (0..columns).step_by(BLOCK) {
        let first = first.min(columns - BLOCK);
        let rows = rows.subrows(first, BLOCK);
        let mut to = to.as_mut().subcols_mut(first, BLOCK);
        for start in (0..count).step_by(lanes) {
            let start = start.min(count - lanes);
            let rows = rows.subcols(start, lanes);
            let turned = Vector::turned(
                simd,
                by_blocks::<_, BLOCK, PARTS>(
                    #[inline(always)]
                    |i| rows.col(i).as_slice().as_chunks().0,
                ),
                0,
            );
            let mut to = to.as_mut().subrows_mut(start, lanes);
            for t in 0..BLOCK {
                turned[t].store(line_mut(&mut to, t));
            }
        }
    }
}

/// As many columns of a few rows at once as a register has lanes; the last ones as above.
#[inline(always)]
fn few_rows<T: Lanes, S: Simd, const BLOCK: usize, const PARTS: usize>(
    simd: S,
    rows: Lines<'_, T>,
    mut to: LinesMut<'_, T>,
) {
    let ((columns, count), lanes) = (rows.shape(), BLOCK * PARTS);
    for first in (0..columns).step_by(lanes) {
        let first = first.min(columns - lanes);
        let rows = rows.subrows(first, lanes);
        let mut to = to.as_mut().subcols_mut(first, lanes);
        for start in (0..count).step_by(BLOCK) {
            let start = start.min(count - BLOCK);
            let rows = rows.subcols(start, BLOCK);
            let turned = turned_blocks(core::array::from_fn::<_, BLOCK, _>(
                #[inline(always)]
                |i| Vector::<T, S>::load(simd, rows.col(i).as_slice()),
            ));
            let mut to = to.as_mut().subrows_mut(start, BLOCK);
            for t in 0..BLOCK {
                for (part, numbers) in turned[t].lanes().as_chunks::<BLOCK>().0.iter().enumerate() {
                    line_mut(&mut to, part * BLOCK + t).copy_from_slice(numbers);
                }
            }
        }
    }
}

/// The longer loop is the inner one, but no longer than a first-level cache has room for.
#[inline(always)]
fn by_numbers<T: Copy>(mut from: MatRef<'_, T>, mut to: MatMut<'_, T>) {
    if from.nrows() < from.ncols() {
        (from, to) = (from.transpose(), to.transpose_mut());
    }
    for start in (0..from.nrows()).step_by(ROWS_TOGETHER) {
        let count = ROWS_TOGETHER.min(from.nrows() - start);
        let (from, to) = (from.subrows(start, count), to.as_mut().subrows_mut(start, count));
        for (from, to) in from.col_iter().zip(to.col_iter_mut()) {
            to.iter_mut().zip(from.iter()).for_each(
                #[inline(always)]
                |(to, &x)| *to = x,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MatrixCopy;
    use crate::kernel::{Real, SimdLevel};
    use faer::{Mat, MatRef};

    /// What stands beside a matrix.
    const BESIDE: f64 = -1.0;

    fn beside<T: Real>(rows: usize, columns: usize) -> Mat<T> {
        Mat::full(rows, columns, T::from_f64(BESIDE))
    }

    /// Numbers that tell places apart.
    fn data<T: Real>(len: usize) -> Vec<T> {
        (0..len).map(|i| T::from_f64(i as f64)).collect()
    }

    /// Copied from every order into every order, at every level, with nothing written beside the matrix.
    fn every_number_at_its_place<T: Real>() {
        // Around whole registers and blocks of every level.
        let sizes = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17];
        let pairs = sizes.into_iter().flat_map(|rows| sizes.map(|columns| (rows, columns)));
        for (rows, columns) in pairs.chain([(128, 9), (9, 128), (301, 31), (31, 301)]) {
            let (a, b) = (data::<T>(rows * (columns + 3)), data::<T>(columns * (rows + 2)));
            let row_major =
                MatRef::from_column_major_slice_with_stride(&a, columns, rows, columns + 3).transpose();
            let column_major = MatRef::from_column_major_slice_with_stride(&b, rows, columns, rows + 2);
            let views = [row_major, row_major.reverse_rows(), row_major.reverse_cols(), column_major];
            for (level, from) in SimdLevel::available().flat_map(|level| views.map(|x| (level, x))) {
                let (mut by_columns, mut by_rows) =
                    (beside(rows + 1, columns + 1), beside(columns + 1, rows + 1));
                let mut reversed = by_columns.clone();
                let places = [
                    by_columns.as_mut(),
                    by_rows.as_mut().transpose_mut(),
                    reversed.as_mut().reverse_rows_mut(),
                ];
                for (order, mut place) in places.into_iter().enumerate() {
                    let to = place.as_mut().subrows_mut(0, rows).subcols_mut(0, columns);
                    T::run_copy(MatrixCopy::new(from, to), level);
                    for (i, j) in (0..=rows).flat_map(|i| (0..=columns).map(move |j| (i, j))) {
                        let expected = if i < rows && j < columns { from[(i, j)].to_f64() } else { BESIDE };
                        let found = place[(i, j)].to_f64();
                        assert_eq!(
                            found, expected,
                            "{rows}x{columns}, order {order}, at {i}, {j}, {level:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_number_at_its_place_f32() {
        every_number_at_its_place::<f32>();
    }

    #[test]
    fn every_number_at_its_place_f64() {
        every_number_at_its_place::<f64>();
    }
}
