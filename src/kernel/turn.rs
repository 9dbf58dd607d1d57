//! A matrix copied column by column.

use super::lanes::{Lanes, Vector};
use super::lines::{Lines, LinesMut, line_mut, lines_mut};
use super::shuffle::by_blocks;
use faer::{MatMut, MatRef};
use pulp::{Simd, WithSimd};

/// A matrix, and one of the same shape that it is copied to.
pub(crate) struct Turn<'a, T> {
    from: MatRef<'a, T>,
    to: LinesMut<'a, T>,
}

impl<'a, T> Turn<'a, T> {
    /// From any matrix to one of contiguous columns.
    pub(crate) fn new(from: MatRef<'a, T>, to: MatMut<'a, T>) -> Self {
        Self { from, to: lines_mut(to) }
    }
}

impl<T: Lanes> WithSimd for &mut Turn<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (from, mut to) = (self.from, self.to.as_mut());
        let rows = from.transpose().try_as_col_major();
        macro_rules! turn {
            ($block:literal, $parts:literal) => {
                match rows {
                    Some(rows) if rows.nrows() >= $block && rows.ncols() >= $block * $parts => {
                        let count = rows.ncols();
                        let most = ROWS_TOGETHER.min(count);
                        for start in (0..count).step_by(most) {
                            let start = start.min(count - most);
                            let to = to.as_mut().subrows_mut(start, most);
                            turn::<T, S, $block, $parts>(simd, rows.subcols(start, most), to);
                        }
                    }
                    _ => by_numbers(from, to),
                }
            };
        }
        match const { Vector::<T, S>::COUNT } {
            16 => turn!(4, 4),
            8 if const { size_of::<T>() == 4 } => turn!(4, 2),
            8 => turn!(2, 4),
            4 if const { size_of::<T>() == 4 } => turn!(4, 1),
            4 => turn!(2, 2),
            2 => turn!(2, 1),
            _ => by_numbers(from, to),
        }
    }
}

/// Rows that stay in a first-level cache while a few columns after the others are taken.
const ROWS_TOGETHER: usize = 128;

/// A few columns of as many rows as a register has lanes at once. The last ones of either are taken together with some that
/// are done already.
#[inline(always)]
fn turn<T: Lanes, S: Simd, const BLOCK: usize, const PARTS: usize>(
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

#[inline(always)]
fn by_numbers<T: Copy>(from: MatRef<'_, T>, to: LinesMut<'_, T>) {
    for (from, to) in from.col_iter().zip(to.col_iter_mut()) {
        to.as_slice_mut().iter_mut().zip(from.iter()).for_each(
            #[inline(always)]
            |(to, &x)| *to = x,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Turn;
    use crate::kernel::{Real, SimdLevel};
    use faer::{Mat, MatRef};

    fn every_number_at_its_place<T: Real>() {
        // Around whole registers and blocks of every level.
        let sizes = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17];
        let pairs = sizes.into_iter().flat_map(|rows| sizes.map(|columns| (rows, columns)));
        for (rows, columns) in pairs.chain([(128, 9), (301, 31)]) {
            let stride = columns + 3;
            let data: Vec<T> = (0..rows * stride).map(|i| T::from_f64(i as f64)).collect();
            let x = MatRef::from_column_major_slice_with_stride(&data, columns, rows, stride).transpose();
            let views = [x, x.reverse_rows(), x.reverse_cols()];
            for (level, from) in SimdLevel::available().flat_map(|level| views.map(|x| (level, x))) {
                let mut to = Mat::<T>::full(from.nrows() + 1, from.ncols(), T::from_f64(-1.0));
                T::run_turn(Turn::new(from, to.as_mut().subrows_mut(0, from.nrows())), level);
                for (i, j) in (0..from.nrows()).flat_map(|i| (0..from.ncols()).map(move |j| (i, j))) {
                    assert_eq!(to[(i, j)], from[(i, j)], "{rows}x{columns} at {i}, {j}, {level:?}");
                }
                // Nothing behind a column.
                assert!((0..from.ncols()).all(|j| to[(rows, j)] == T::from_f64(-1.0)));
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
