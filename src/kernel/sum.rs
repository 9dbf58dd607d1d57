//! Sums: in turns, compensated, of the columns of a matrix, of squares, of partial gradients.

use super::lanes::Lanes;
use super::vector::{UNROLL, Vector};
use crate::gemm::Destination;
use faer::{MatMut, MatRef};
use pulp::{Simd, WithSimd};

/// Sums that take turns, so that the additions need not wait for one another, in an order that is the same at every level.
pub(crate) const SUMS: usize = 8;

/// The sum of such sums.
#[inline(always)]
pub(crate) fn sum_of([a, b, c, d, e, f, g, h]: [f64; SUMS]) -> f64 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// To sums that take turns, what `of` makes of numbers is added.
#[inline(always)]
pub(crate) fn add_in_turns<T: Copy>(sums: &mut [f64; SUMS], numbers: &[T], of: impl Fn(T) -> f64) {
    let (chunks, rest) = numbers.as_chunks::<SUMS>();
    for chunk in chunks {
        for i in 0..SUMS {
            sums[i] += of(chunk[i]);
        }
    }
    for (sum, &number) in sums.iter_mut().zip(rest) {
        *sum += of(number);
    }
}

/// A sum of registers, lane by lane, with Kahan's compensation (*Pracniques: further remarks on reducing truncation
/// errors*, CACM 8, 1965): for non-negative terms the error is about one ulp whatever their number.
pub(crate) struct CompensatedSum<T: Lanes, S: Simd, const N: usize = 1> {
    pub(crate) sum: Vector<T, S, N>,
    excess: Vector<T, S, N>,
}

impl<T: Lanes, S: Simd, const N: usize> CompensatedSum<T, S, N> {
    #[inline(always)]
    pub(crate) fn new(simd: S) -> Self {
        let zero = Vector::splat(simd, T::ZERO);
        Self { sum: zero, excess: zero }
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, x: Vector<T, S, N>) {
        let x = x - self.excess;
        let sum = self.sum + x;
        self.excess = (sum - self.sum) - x;
        self.sum = sum;
    }

    /// So many terms, two for one compensation: the sum of two errs by at most half an ulp.
    #[inline(always)]
    pub(crate) fn add_by_pairs(&mut self, count: usize, mut term: impl FnMut(usize) -> Vector<T, S, N>) {
        for pair in 0..count / 2 {
            let first = term(2 * pair);
            self.add(first + term(2 * pair + 1));
        }
        if !count.is_multiple_of(2) {
            self.add(term(count - 1));
        }
    }
}

impl<T: Lanes, S: Simd> CompensatedSum<T, S> {
    /// Several terms for one compensation: they are added pairwise first, which errs by at most an ulp of their sum.
    #[inline(always)]
    pub(crate) fn add_all(&mut self, x: Vector<T, S, UNROLL>) {
        self.add((x.part(0) + x.part(1)) + (x.part(2) + x.part(3)));
    }
}

/// The sums of the columns of x into a row, or added to it.
pub(crate) struct ColumnSums<'a, T> {
    pub(crate) x: MatRef<'a, T>,
    /// 1 × columns.
    pub(crate) out: MatMut<'a, T>,
    pub(crate) held: Destination,
}

impl<T: Lanes> WithSimd for &mut ColumnSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let &mut ColumnSums { x, ref mut out, held } = self;
        if held == Destination::Replace {
            out.fill(T::ZERO);
        }
        if x.row_stride() == 1 {
            for (k, column) in x.col_iter().enumerate() {
                let column = column.try_as_col_major().map_or(&[][..], |column| column.as_slice());
                out[(0, k)] = out[(0, k)] + sum(simd, column);
            }
        } else {
            for row in x.row_iter() {
                for (k, &x) in row.iter().enumerate() {
                    out[(0, k)] = out[(0, k)] + x;
                }
            }
        }
    }
}

/// Σ x² of a matrix, in f64.
pub(crate) struct SumOfSquares<'a, T> {
    pub(crate) x: MatRef<'a, T>,
}

impl<T: Lanes> WithSimd for &mut SumOfSquares<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let x = if self.x.row_stride() == 1 { self.x } else { self.x.transpose() };
        let square = |x: T| x.to_f64() * x.to_f64();
        let mut sums = [0.0; SUMS];
        for line in x.col_iter() {
            match line.try_as_col_major() {
                Some(line) => add_in_turns(&mut sums, line.as_slice(), square),
                None => line.iter().enumerate().for_each(|(i, &x)| sums[i % SUMS] += square(x)),
            }
        }
        sum_of(sums)
    }
}

/// To each element of `sum`, those at its place in the others are added, in their order.
pub(crate) struct AddUp<'a, T> {
    /// Columns contiguous.
    pub(crate) sum: MatMut<'a, T>,
    /// Matrices of its shape, one after the other, without gaps.
    pub(crate) others: &'a [T],
}

impl<T: Lanes> WithSimd for &mut AddUp<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AddUp { sum, others } = self;
        let (rows, each) = (sum.nrows(), sum.nrows() * sum.ncols());
        for (j, column) in sum.as_mut().col_iter_mut().enumerate() {
            let column = column.try_as_col_major_mut().map_or(&mut [][..], |column| column.as_slice_mut());
            let others = others.chunks_exact(each).map(|other| &other[j * rows..][..rows]);
            add_up(simd, column, others);
        }
    }
}

/// To each element of `sum`, those at its place in the others are added, in their order.
#[inline(always)]
fn add_up<'a, T: Lanes, S: Simd>(simd: S, sum: &mut [T], others: impl Iterator<Item = &'a [T]> + Clone) {
    let lanes = Vector::<T, S>::COUNT;
    let (many, rest) = sum.split_at_mut(sum.len() - sum.len() % (UNROLL * lanes));
    let many_len = many.len();
    for (i, sum) in many.chunks_exact_mut(UNROLL * lanes).enumerate() {
        let mut total = Vector::<T, S, UNROLL>::load(simd, sum);
        for other in others.clone() {
            total = total + Vector::load(simd, &other[i * UNROLL * lanes..]);
        }
        total.store(sum);
    }
    for (i, sum) in rest.chunks_mut(lanes).enumerate() {
        let mut total = Vector::<T, S>::load_padded(simd, sum, T::ZERO);
        for other in others.clone() {
            let other = &other[many_len + i * lanes..][..sum.len()];
            total = total + Vector::load_padded(simd, other, T::ZERO);
        }
        total.store_padded(sum);
    }
}

/// Sum of the elements, in some registers side by side.
#[inline(always)]
fn sum<T: Lanes, S: Simd>(simd: S, slice: &[T]) -> T {
    let (body, tail) = T::split::<S>(slice);
    let (many, rest) = body.as_chunks::<UNROLL>();
    let mut sums = Vector::<T, S, UNROLL>::splat(simd, T::ZERO);
    for &x in many {
        sums = sums + Vector::of(simd, x);
    }
    let mut sum = (sums.part(0) + sums.part(1)) + (sums.part(2) + sums.part(3));
    for &x in rest {
        sum = sum + Vector::of(simd, [x]);
    }
    if !tail.is_empty() {
        sum = sum + Vector::load_or(simd, tail, T::ZERO);
    }
    sum.sum()
}
