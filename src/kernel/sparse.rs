//! Products with sparse features: lanes across classes, a row of Θ or of the gradient for each stored entry.
//!
//! Both operands lie feature by feature, each row padded to whole registers, so that an entry costs K multiply-adds and
//! nothing is made dense.

use super::lines::column_mut;
use super::log::Logarithm;
use super::scores::{Layout, Scores};
use super::vector::{UNROLL, Vector};
use core::ops::Range;
use faer::sparse::SparseRowMatRef;
use faer::{Index, MatMut};
use pulp::{Simd, WithSimd};

/// Sparse features, one sample a row, by the type of their indices.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sparse<'a, T> {
    U32(SparseRowMatRef<'a, u32, T>),
    Usize(SparseRowMatRef<'a, usize, T>),
}

/// Does the same for either type of index.
macro_rules! for_either {
    ($sparse:expr, $x:ident => $body:expr) => {
        match $sparse {
            Sparse::U32($x) => $body,
            Sparse::Usize($x) => $body,
        }
    };
}

impl<'a, T> Sparse<'a, T> {
    pub(crate) fn shape(&self) -> (usize, usize) {
        for_either!(self, x => (x.nrows(), x.ncols()))
    }

    /// Number of stored entries.
    pub(crate) fn entries(&self) -> usize {
        for_either!(self, x => (0..x.nrows()).map(|i| x.symbolic().row_range(i).len()).sum())
    }
}

impl<'a, T: Copy> Sparse<'a, T> {
    /// Features and numbers of a sample's stored entries.
    pub(crate) fn row(&self, sample: usize) -> impl Iterator<Item = (usize, T)> + '_ {
        // Either type of index through the same iterator.
        let (small, large, numbers): (&[u32], &[usize], &[T]) = match self {
            Self::U32(x) => (x.symbolic().col_idx_of_row_raw(sample), &[], x.val_of_row(sample)),
            Self::Usize(x) => (&[], x.symbolic().col_idx_of_row_raw(sample), x.val_of_row(sample)),
        };
        let indices = small.iter().map(|&j| j as usize).chain(large.iter().copied());
        indices.zip(numbers.iter().copied())
    }
}

/// out = X·B + b of some samples.
pub(crate) struct SparseScores<'a, T> {
    pub(crate) x: Sparse<'a, T>,
    /// Which samples: as many as `out` has.
    pub(crate) samples: Range<usize>,
    /// B, each row as long as `buffer`; after them b, if there is one.
    pub(crate) rows: &'a [T],
    pub(crate) has_intercept: bool,
    pub(crate) out: Scores<'a, T>,
    /// Room for a number a class, padded to whole registers.
    pub(crate) buffer: &'a mut [T],
}

/// out += Xᵀ·R of some samples, and to a last row the sum of R's if there is an intercept.
pub(crate) struct SparseGradient<'a, T> {
    pub(crate) x: Sparse<'a, T>,
    /// Which samples: as many as `residual` has.
    pub(crate) samples: Range<usize>,
    /// Of the samples; one of weight 0 is left out.
    pub(crate) weights: Option<&'a [f64]>,
    /// Whether the numbers of X are to be squared.
    pub(crate) squared: bool,
    pub(crate) has_intercept: bool,
    pub(crate) residual: Scores<'a, T>,
    /// Turned: contiguous columns, as long as `buffer`.
    pub(crate) out: MatMut<'a, T>,
    /// Room for a number a class, padded to whole registers.
    pub(crate) buffer: &'a mut [T],
}

impl<T: Logarithm> WithSimd for &mut SparseScores<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for_either!(self.x, x => scores(simd, x, self));
    }
}

impl<T: Logarithm> WithSimd for &mut SparseGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for_either!(self.x, x => gradient(simd, x, self));
    }
}

#[inline(always)]
fn scores<T: Logarithm, I: Index, S: Simd>(
    simd: S,
    x: SparseRowMatRef<'_, I, T>,
    product: &mut SparseScores<'_, T>,
) {
    let SparseScores { samples, rows, has_intercept, out, buffer, .. } = product;
    let stride = buffer.len();
    let intercept = (*has_intercept).then_some(&rows[x.ncols() * stride..]);
    let width = UNROLL * Vector::<T, S>::COUNT;
    for (i, sample) in samples.clone().enumerate() {
        let (indices, numbers) = (x.symbolic().col_idx_of_row_raw(sample), x.val_of_row(sample));
        let entries = || {
            indices.iter().zip(numbers).map(
                #[inline(always)]
                |(j, &x)| (&rows[j.zx() * stride..][..stride], x),
            )
        };
        for first in (0..stride).step_by(width) {
            if first + width <= stride {
                row_of::<T, S, UNROLL>(simd, entries(), intercept, first).store(&mut buffer[first..]);
            } else {
                for first in (first..stride).step_by(Vector::<T, S>::COUNT) {
                    row_of::<T, S, 1>(simd, entries(), intercept, first).store(&mut buffer[first..]);
                }
            }
        }
        let classes = out.classes;
        match out.layout {
            Layout::SampleMajor => out.line(i).copy_from_slice(&buffer[..classes]),
            Layout::ClassMajor => {
                for (class, &z) in buffer[..classes].iter().enumerate() {
                    *out.at(i, class) = z;
                }
            }
        }
    }
}

/// Some registers of a sample's scores.
#[inline(always)]
fn row_of<'a, T: Logarithm, S: Simd, const N: usize>(
    simd: S,
    entries: impl Iterator<Item = (&'a [T], T)>,
    intercept: Option<&[T]>,
    first: usize,
) -> Vector<T, S, N> {
    let mut sum = match intercept {
        None => Vector::splat(simd, T::ZERO),
        Some(intercept) => Vector::load(simd, &intercept[first..]),
    };
    for (row, x) in entries {
        sum = Vector::splat(simd, x).mul_add(Vector::load(simd, &row[first..]), sum);
    }
    sum
}

#[inline(always)]
fn gradient<T: Logarithm, I: Index, S: Simd>(
    simd: S,
    x: SparseRowMatRef<'_, I, T>,
    product: &mut SparseGradient<'_, T>,
) {
    let SparseGradient { samples, weights, squared, has_intercept, residual, out, buffer, .. } = product;
    for (i, sample) in samples.clone().enumerate() {
        if weights.is_some_and(
            #[inline(always)]
            |weights| weights[i] == 0.0,
        ) {
            continue;
        }
        for (class, r) in buffer[..residual.classes].iter_mut().enumerate() {
            *r = *residual.at(i, class);
        }
        let (indices, numbers) = (x.symbolic().col_idx_of_row_raw(sample), x.val_of_row(sample));
        for (j, &x) in indices.iter().zip(numbers) {
            let x = if *squared { x * x } else { x };
            add_scaled(simd, column_mut(out.as_mut().col_mut(j.zx())), x, buffer);
        }
        if *has_intercept {
            add_scaled(simd, column_mut(out.as_mut().col_mut(x.ncols())), T::ONE, buffer);
        }
    }
}

/// out += x·row, of whole registers.
#[inline(always)]
fn add_scaled<T: Logarithm, S: Simd>(simd: S, out: &mut [T], x: T, row: &[T]) {
    let x = Vector::<T, S>::splat(simd, x);
    for (out, &row) in T::split_mut::<S>(out).0.iter_mut().zip(T::split::<S>(row).0) {
        *out = x.mul_add(Vector::of(simd, [row]), Vector::of(simd, [*out])).register();
    }
}
