//! Softmax, its logarithm and log-sum-exp of one row, lanes across the classes.
//!
//! A row is shifted by its own maximum, so no finite score overflows; softmax of a long one only where a score is so far from 0
//! that it has to be. NaN anywhere gives NaN everywhere.

use super::exp::exp_nonpositive;
use super::log::{Logarithm, log1p_nonnegative};
use super::map::{Elementwise, Scale, map_row};
use super::reduce::{are_within, exp_and_sum, exp_sum_without, has_nan, max_ignoring_nan, position};
use super::vector::{Mask, Vector, alone};
use core::ops::Range;
use pulp::Simd;

/// What to do with a row: for one that some registers hold, with their number as a constant, else for any.
macro_rules! by_length {
    ($row:ident, $t:ident, $s:ident, |$count:ident| $short:expr, $long:expr) => {{
        macro_rules! short {
            ($number:literal) => {{
                const $count: usize = $number;
                $short
            }};
        }
        match $row.len().div_ceil(Vector::<$t, $s>::COUNT) {
            0 | 1 => short!(1),
            2 => short!(2),
            3 => short!(3),
            4 => short!(4),
            5 => short!(5),
            6 => short!(6),
            7 => short!(7),
            8 => short!(8),
            _ => $long,
        }
    }};
}

/// xⱼ becomes exp(xⱼ) / Σ exp. A row with +∞, or of −∞ alone, becomes NaN.
#[inline(always)]
pub(crate) fn softmax<T: Logarithm, S: Simd>(simd: S, row: &mut [T]) {
    macro_rules! few {
        ($($count:literal)*) => {
            match row.len() {
                $($count if $count <= Vector::<T, S>::COUNT => return softmax_of_few::<T, S, $count>(simd, row),)*
                _ => {}
            }
        };
    }
    few!(2 3 4 5 6 7);
    by_length!(
        row,
        T,
        S,
        |COUNT| {
            let held = Row::<T, S, COUNT>::load(simd, row);
            let e = exp_nonpositive(held.x - held.x.constant(held.top()));
            held.store(e * e.constant(T::ONE / held.sum(e)), row);
        },
        {
            let sum = exps_of_central(simd, row).unwrap_or_else(
                #[inline(always)]
                || {
                    let top = max_ignoring_nan(simd, row);
                    exp_and_sum::<_, _, false>(simd, row, top)
                },
            );
            map_row(simd, row, Scale(Vector::splat(simd, T::ONE / sum)));
        }
    );
}

/// Of a row of more than a register whose numbers are all near enough to 0 to need no shift: exp(xⱼ) in the place of xⱼ, and their
/// sum. To find that out takes no longer than to find the maximum, and then no number has to be looked at for itself.
#[inline(always)]
fn exps_of_central<T: Logarithm, S: Simd>(simd: S, row: &mut [T]) -> Option<T> {
    alone(
        simd,
        #[inline(always)]
        || {
            // What masks a row often does so up to its end.
            let end = &row[row.len() - Vector::<T, S>::COUNT..];
            (are_within(simd, end, T::CENTRAL) && are_within(simd, row, T::CENTRAL)).then(
                #[inline(always)]
                || exp_and_sum::<_, _, true>(simd, row, T::ZERO),
            )
        },
    )
}

/// A row that N registers hold, so that nothing is read that has just been written in part. The last of several ends where the
/// row does: what it has in common with the one before is there twice. Behind a row shorter than a register is −∞.
struct Row<T: Logarithm, S: Simd, const N: usize> {
    x: Vector<T, S, N>,
    /// Of the last register, the lanes that no other has.
    fresh: Mask<T, S>,
}

impl<T: Logarithm, S: Simd, const N: usize> Row<T, S, N> {
    /// The place of a register in a row.
    #[inline(always)]
    fn place(i: usize, len: usize) -> Range<usize> {
        let lanes = Vector::<T, S>::COUNT;
        if N == 1 {
            return 0..len;
        }
        let start = (i * lanes).min(len - lanes);
        start..start + lanes
    }

    #[inline(always)]
    fn load(simd: S, row: &[T]) -> Self {
        let mut x = Vector::splat(simd, T::ZERO);
        for i in 0..N {
            let part = &row[Self::place(i, row.len())];
            x.registers[i] = Vector::<T, S>::load_padded(simd, part, T::NEG_INFINITY).register();
        }
        let twice = if N == 1 { 0 } else { N * Vector::<T, S>::COUNT - row.len() };
        Self { x, fresh: Vector::lanes_from(simd, twice) }
    }

    /// The largest number that is not NaN.
    #[inline(always)]
    fn top(&self) -> T {
        self.x.most(Vector::splat(self.x.simd, T::NEG_INFINITY)).largest()
    }

    /// The sum of what became of the numbers; of what is behind them, 0.
    #[inline(always)]
    fn sum(&self, y: Vector<T, S, N>) -> T {
        let mut sum = y.part(N - 1);
        if N > 1 {
            sum = sum.or_else(self.fresh, Vector::splat(y.simd, T::ZERO));
        }
        for i in 0..N - 1 {
            sum = sum + y.part(i);
        }
        sum.sum()
    }

    /// Puts what became of the numbers in their place.
    #[inline(always)]
    fn store(&self, y: Vector<T, S, N>, row: &mut [T]) {
        for i in 0..N {
            let place = Self::place(i, row.len());
            y.part(i).store_padded(&mut row[place]);
        }
    }

    /// log1p(Σ exp(xⱼ − top)) over all but one that equals `top`, whose term is exactly 1. NaN if the top is infinite.
    #[inline(always)]
    fn log1p_rest(&self, top: T) -> T {
        let (zero, one) = (self.x.constant(T::ZERO), self.x.constant(T::ONE));
        let is_top = self.x.equal(self.x.constant(top));
        let others = self.sum(zero.or_else(is_top, exp_nonpositive(self.x - self.x.constant(top))));
        let tops = self.sum(one.or_else(is_top, zero));
        if top.to_f64().is_finite() { log1p(self.x.simd, others + (tops - T::ONE)) } else { T::NAN }
    }
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
    by_length!(
        row,
        T,
        S,
        |COUNT| {
            let held = Row::<T, S, COUNT>::load(simd, row);
            let top = held.top();
            let tail = held.x.constant(held.log1p_rest(top));
            held.store((held.x - held.x.constant(top)) - tail, row);
        },
        {
            let top = max_ignoring_nan(simd, row);
            let tail = Vector::splat(simd, log1p_rest(simd, row, top));
            map_row(simd, row, Shift { top: Vector::splat(simd, top), tail });
        }
    );
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
    let (top, tail) = by_length!(
        row,
        T,
        S,
        |COUNT| {
            let held = Row::<T, S, COUNT>::load(simd, row);
            let top = held.top();
            (top, held.log1p_rest(top))
        },
        {
            let top = max_ignoring_nan(simd, row);
            (top, log1p_rest(simd, row, top))
        }
    );
    if top == T::INFINITY || top == T::NEG_INFINITY {
        return if has_nan(simd, row) { T::NAN } else { top };
    }
    top + tail
}

/// log1p(Σ exp(xⱼ − top)) over all but the first element that equals `top`, whose term is exactly 1. NaN if the top is
/// infinite, since then no difference from it is a number.
#[inline(always)]
fn log1p_rest<T: Logarithm, S: Simd>(simd: S, row: &[T], top: T) -> T {
    match position(row, top) {
        Some(at) if top.to_f64().is_finite() => log1p(simd, exp_sum_without(simd, row, at, top)),
        _ => T::NAN,
    }
}

/// log(1 + x) for x ≥ 0, or NaN.
#[inline(always)]
fn log1p<T: Logarithm, S: Simd>(simd: S, x: T) -> T {
    log1p_nonnegative(Vector::<_, _, 1>::splat(simd, x)).first()
}
