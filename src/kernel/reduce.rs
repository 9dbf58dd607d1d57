//! Reductions over one row of scores: maximum, and sum of exponentials.

use super::exp::{Exponential, exp_nonpositive};
use super::lanes::{Lanes, Vector};
use pulp::Simd;

/// A sum of registers, lane by lane, with Kahan's compensation (*Pracniques: further remarks on reducing truncation
/// errors*, CACM 8, 1965): for non-negative terms the error is about one ulp whatever their number.
pub(crate) struct CompensatedSum<T: Lanes, S: Simd> {
    pub(crate) sum: Vector<T, S>,
    excess: Vector<T, S>,
}

impl<T: Lanes, S: Simd> CompensatedSum<T, S> {
    #[inline(always)]
    pub(crate) fn new(simd: S) -> Self {
        let zero = Vector::splat(simd, T::ZERO);
        Self { sum: zero, excess: zero }
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, x: Vector<T, S>) {
        let x = x - self.excess;
        let sum = self.sum + x;
        self.excess = (sum - self.sum) - x;
        self.sum = sum;
    }

    /// Four terms for one compensation: they are added pairwise first, which errs by at most an ulp of their sum.
    #[inline(always)]
    pub(crate) fn add_four(&mut self, [a, b, c, d]: [Vector<T, S>; 4]) {
        self.add((a + b) + (c + d));
    }
}

/// The largest element that is not NaN; −∞ if there is none.
#[inline(always)]
pub(crate) fn max_ignoring_nan<T: Lanes, S: Simd>(simd: S, row: &[T]) -> T {
    let (body, tail) = T::split::<S>(row);
    let (fours, rest) = body.as_chunks::<4>();
    let mut tops = [Vector::splat(simd, T::NEG_INFINITY); 4];
    for four in fours {
        for (top, &x) in tops.iter_mut().zip(four) {
            *top = top.larger(Vector::of(simd, x));
        }
    }
    for (top, &x) in tops.iter_mut().zip(rest) {
        *top = top.larger(Vector::of(simd, x));
    }
    let [a, b, c, d] = tops;
    let tail = Vector::load_or(simd, tail, T::NEG_INFINITY);
    let top = a.larger(b).larger(c.larger(d).larger(tail));
    top.lanes().iter().fold(T::NEG_INFINITY, |a, &b| if a < b { b } else { a })
}

/// Whether any element is NaN.
#[inline(always)]
pub(crate) fn has_nan<T: Lanes, S: Simd>(simd: S, row: &[T]) -> bool {
    let (body, tail) = T::split::<S>(row);
    // Stays 0 until it meets a NaN, then is NaN for good.
    let mut witness = Vector::splat(simd, T::ZERO);
    for &x in body {
        let x = Vector::of(simd, x);
        witness = witness.or_else(x.equal(x), x);
    }
    witness.lanes().iter().chain(tail).any(|x| x.to_f64().is_nan())
}

// Kernels are functions marked `inline(always)`, and closures are so marked where they are passed: one that is not
// inlined is compiled without the instruction set of its caller, and every operation in it becomes a call.

#[inline(always)]
fn exp_of<T: Exponential, S: Simd>(x: &T::Register<S>, top: Vector<T, S>) -> Vector<T, S> {
    exp_nonpositive(Vector::of(top.simd, *x) - top)
}

#[inline(always)]
fn exp_in<T: Exponential, S: Simd>(x: &mut T::Register<S>, top: Vector<T, S>) -> Vector<T, S> {
    let e = exp_of(x, top);
    *x = e.register;
    e
}

/// Σ exp(xⱼ − top), for top the maximum (or NaN).
#[inline(always)]
pub(crate) fn exp_sum<T: Exponential, S: Simd>(simd: S, row: &[T], top: T) -> T {
    let top = Vector::splat(simd, top);
    let mut sum = CompensatedSum::new(simd);
    let (body, tail) = T::split::<S>(row);
    let (fours, rest) = body.as_chunks::<4>();
    for [a, b, c, d] in fours {
        sum.add_four([exp_of(a, top), exp_of(b, top), exp_of(c, top), exp_of(d, top)]);
    }
    for x in rest {
        sum.add(exp_of(x, top));
    }
    sum.add(exp_of(&Vector::load_or(simd, tail, T::NEG_INFINITY).register, top));
    sum.sum.sum()
}

/// As [`exp_sum`], and xⱼ becomes exp(xⱼ − top).
#[inline(always)]
pub(crate) fn exp_and_sum<T: Exponential, S: Simd>(simd: S, row: &mut [T], top: T) -> T {
    let top = Vector::splat(simd, top);
    let mut sum = CompensatedSum::new(simd);
    let (body, tail) = T::split_mut::<S>(row);
    let (fours, rest) = body.as_chunks_mut::<4>();
    for [a, b, c, d] in fours {
        sum.add_four([exp_in(a, top), exp_in(b, top), exp_in(c, top), exp_in(d, top)]);
    }
    for x in rest {
        sum.add(exp_in(x, top));
    }
    let mut last = Vector::load_or(simd, tail, T::NEG_INFINITY);
    sum.add(exp_in(&mut last.register, top));
    last.store_partial(tail);
    sum.sum.sum()
}

/// Each element becomes f of it. The only loop with a tail that elementwise kernels need.
#[inline(always)]
pub(crate) fn map<T: Lanes, S: Simd>(simd: S, slice: &mut [T], f: impl Fn(Vector<T, S>) -> Vector<T, S>) {
    let (body, tail) = T::split_mut::<S>(slice);
    for x in body {
        *x = f(Vector::of(simd, *x)).register;
    }
    if !tail.is_empty() {
        f(Vector::load_or(simd, tail, T::ZERO)).store_partial(tail);
    }
}
