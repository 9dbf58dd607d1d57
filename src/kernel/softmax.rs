//! Softmax, its logarithm and log-sum-exp of one row, lanes across the classes.
//!
//! A row is shifted by its own maximum, so no finite score overflows. NaN anywhere gives NaN everywhere.

use super::exp::exp_nonpositive;
use super::lanes::Vector;
use super::log::{Logarithm, log1p_nonnegative};
use super::reduce::{Elementwise, Scale, exp_and_sum, exp_sum, has_nan, map, max_ignoring_nan, position};
use pulp::Simd;

/// xⱼ becomes exp(xⱼ) / Σ exp. A row with +∞, or of −∞ alone, becomes NaN.
#[inline(always)]
pub(crate) fn softmax<T: Logarithm, S: Simd>(simd: S, row: &mut [T]) {
    if row.len() <= Vector::<T, S>::COUNT {
        return match row.len() {
            2 => softmax_of_few::<T, S, 2>(simd, row),
            3 => softmax_of_few::<T, S, 3>(simd, row),
            4 => softmax_of_few::<T, S, 4>(simd, row),
            _ => short_softmax(simd, row),
        };
    }
    let top = max_ignoring_nan(simd, row);
    let sum = exp_and_sum(simd, row, top);
    let scale = Vector::splat(simd, T::ONE / sum);
    map(simd, row, Scale(scale));
}

/// Of a row that a register holds: what has just been written in part would take long to be read as a whole.
#[inline(always)]
fn short_softmax<T: Logarithm, S: Simd>(simd: S, row: &mut [T]) {
    let x = Vector::load_padded(simd, row, T::NEG_INFINITY);
    let top = x.constant(T::NEG_INFINITY).larger(x).largest();
    let e = exp_nonpositive(x - x.constant(top));
    (e * x.constant(T::ONE / e.sum())).store_padded(row);
}

/// Of a row of a few numbers, which are put into registers and added one by one: what moves lanes about takes longer.
#[inline(always)]
fn softmax_of_few<T: Logarithm, S: Simd, const COUNT: usize>(simd: S, row: &mut [T]) {
    let Some(row) = row.first_chunk_mut::<COUNT>() else { return };
    let iota = Vector::<T, S>::load(simd, &T::IOTA);
    let (mut x, mut top) = (Vector::<T, S>::splat(simd, row[0]), T::NEG_INFINITY);
    for i in 0..COUNT {
        top = if top < row[i] { row[i] } else { top };
        x = x.constant(row[i]).or_else(iota.equal(x.constant(T::IOTA[i])), x);
    }
    let e = exp_nonpositive(x - x.constant(top));
    let Some(e) = e.lanes().first_chunk::<COUNT>() else { return };
    let mut sum = e[0];
    for i in 1..COUNT {
        sum = sum + e[i];
    }
    let scale = T::ONE / sum;
    for i in 0..COUNT {
        row[i] = e[i] * scale;
    }
}

/// xⱼ becomes log softmax(x)ⱼ = (xⱼ − top) − log1p(rest): every difference is at most 0, so nothing cancels.
#[inline(always)]
pub(crate) fn log_softmax<T: Logarithm, S: Simd>(simd: S, row: &mut [T]) {
    let top = max_ignoring_nan(simd, row);
    let tail = Vector::splat(simd, log1p_rest(simd, row, top));
    let top = Vector::splat(simd, top);
    map(simd, row, Shift { top, tail });
}

/// (x − top) − tail.
struct Shift<T: Logarithm, S: Simd> {
    top: Vector<T, S>,
    tail: Vector<T, S>,
}

impl<T: Logarithm, S: Simd> Elementwise<T, S> for Shift<T, S> {
    #[inline(always)]
    fn of<const N: usize>(&self, x: Vector<T, S, N>) -> Vector<T, S, N> {
        (x - Vector::repeat(self.top)) - Vector::repeat(self.tail)
    }
}

/// log Σ exp(xⱼ); −∞ for an empty row and one of −∞ alone, +∞ for one with +∞ and no NaN.
#[inline(always)]
pub(crate) fn log_sum_exp<T: Logarithm, S: Simd>(simd: S, row: &[T]) -> T {
    let top = max_ignoring_nan(simd, row);
    if top == T::INFINITY || top == T::NEG_INFINITY {
        return if has_nan(simd, row) { T::NAN } else { top };
    }
    top + log1p_rest(simd, row, top)
}

/// log1p(Σ exp(xⱼ − top)) over all but the first element that equals `top`, whose term is exactly 1. NaN if the top is
/// infinite, since then no difference from it is a number.
#[inline(always)]
fn log1p_rest<T: Logarithm, S: Simd>(simd: S, row: &[T], top: T) -> T {
    match position(row, top) {
        Some(at) if top.to_f64().is_finite() => {
            let rest = exp_sum(simd, &row[..at], top) + exp_sum(simd, &row[at + 1..], top);
            log1p_nonnegative(Vector::<_, _, 1>::splat(simd, rest)).first()
        }
        _ => T::NAN,
    }
}
