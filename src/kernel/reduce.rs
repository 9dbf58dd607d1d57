//! Reductions of a row: its maximum, the sum of its exponentials, where an element is, whether one is NaN, the bounds of labels.

use super::exp::{Exponential, exp_normal, exp_term, restored};
use super::lanes::{Lanes, MAX_LANES};
use super::map::{Elementwise, unaligned};
use super::sum::CompensatedSum;
use super::vector::{Aligned, UNROLL, Vector};
use pulp::{Simd, WithSimd};

/// The largest element that is not NaN; −∞ if there is none.
#[inline(always)]
pub(crate) fn max_ignoring_nan<T: Lanes, S: Simd>(simd: S, row: &[T]) -> T {
    most_of(simd, row, T::NEG_INFINITY, Same).largest()
}

/// Whether no element is further from 0 than `bound`; NaN is not.
#[inline(always)]
pub(crate) fn are_within<T: Lanes, S: Simd>(simd: S, row: &[T], bound: T) -> bool {
    !most_of(simd, row, T::ZERO, Magnitude).any_above(bound)
}

/// Lane by lane the largest f of the elements in it that is not NaN, or `least` if that is larger.
#[inline(always)]
fn most_of<T: Lanes, S: Simd>(simd: S, row: &[T], least: T, f: impl Elementwise<T, S>) -> Vector<T, S> {
    let mut most = Vector::splat(simd, least);
    let start = unaligned::<T, S>(row);
    if start > 0 {
        // What it has in common with the next counts twice, which changes nothing.
        most = most.larger(f.of(Vector::load(simd, row)));
    }
    let (body, tail) = T::split::<S>(&row[start..]);
    let (many, rest) = body.as_chunks::<UNROLL>();
    let mut mosts = Vector::<T, S, UNROLL>::repeat(most);
    for &x in many {
        mosts = mosts.larger(f.of(Vector::of(simd, x)));
    }
    let mut most = mosts.most(most);
    for &x in rest {
        most = most.larger(f.of(Vector::of(simd, [x])));
    }
    if !tail.is_empty() {
        most = most.larger(f.of(Vector::load_or(simd, tail, T::NAN)));
    }
    most
}

/// x.
struct Same;

impl<T: Lanes, S: Simd> Elementwise<T, S> for Same {
    #[inline(always)]
    fn of<const N: usize>(&self, x: Vector<T, S, N>) -> Vector<T, S, N> {
        x
    }
}

/// |x|.
struct Magnitude;

impl<T: Lanes, S: Simd> Elementwise<T, S> for Magnitude {
    #[inline(always)]
    fn of<const N: usize>(&self, x: Vector<T, S, N>) -> Vector<T, S, N> {
        x.magnitude()
    }
}

/// Index of the first element equal to x. Whole chunks are compared first: that loop has no exit, so it is vectorised.
#[inline(always)]
pub(crate) fn position<T: Lanes>(row: &[T], x: T) -> Option<usize> {
    const CHUNK: usize = 64;
    let chunk = row.chunks(CHUNK).position(|c| c.iter().fold(false, |found, &y| found | (y == x)))?;
    let start = chunk * CHUNK;
    row[start..].iter().position(|&y| y == x).map(|i| start + i)
}

/// The smallest and the largest of some labels; nothing if there are none. A kernel only so that the compiler has the level's
/// instructions for it: of those of any processor few compare integers, and it took a hundredth of an evaluation.
pub(crate) struct Bounds<'a, L>(pub(crate) &'a [L]);

impl<L: Ord + Copy> WithSimd for Bounds<'_, L> {
    type Output = Option<(L, L)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let first = *self.0.first()?;
        let both = self.0.iter().fold(
            (first, first),
            #[inline(always)]
            |(low, high), &label| (low.min(label), high.max(label)),
        );
        Some(both)
    }
}

/// Whether any element is NaN.
#[inline(always)]
pub(crate) fn has_nan<T: Lanes, S: Simd>(simd: S, row: &[T]) -> bool {
    let (body, tail) = T::split::<S>(row);
    // Stays 0 until it meets a NaN, then is NaN for good.
    let mut witness = Vector::splat(simd, T::ZERO);
    for &x in body {
        let x = Vector::of(simd, [x]);
        witness = witness.or_else(x.equal(x), x);
    }
    witness.lanes().iter().chain(tail).any(|x| x.to_f64().is_nan())
}

/// Σ exp(xⱼ − top) over a row, for top its maximum, or NaN.
struct ExpSum<T: Lanes, S: Simd> {
    top: Vector<T, S>,
    sum: CompensatedSum<T, S>,
    /// See [`exp_term`].
    lost: Vector<T, S>,
    lost_of_many: Vector<T, S, UNROLL>,
}

impl<T: Exponential, S: Simd> ExpSum<T, S> {
    #[inline(always)]
    fn new(simd: S, top: T) -> Self {
        let zero = Vector::splat(simd, T::ZERO);
        Self {
            top: Vector::splat(simd, top),
            sum: CompensatedSum::new(simd),
            lost: zero,
            lost_of_many: Vector::repeat(zero),
        }
    }

    /// The terms of some registers, counted in. `NORMAL` tells that these are normal numbers, or NaN.
    #[inline(always)]
    fn add_many<const NORMAL: bool>(&mut self, x: [T::Register<S>; UNROLL]) -> Vector<T, S, UNROLL> {
        let x = Vector::of(self.top.simd, x) - Vector::repeat(self.top);
        let e = if NORMAL { exp_normal(x) } else { exp_term(x, &mut self.lost_of_many) };
        self.sum.add_all(e);
        e
    }

    /// The terms of one, counted in.
    #[inline(always)]
    fn add<const NORMAL: bool>(&mut self, x: Vector<T, S>) -> Vector<T, S> {
        let x = x - self.top;
        let e = if NORMAL { exp_normal(x) } else { exp_term(x, &mut self.lost) };
        self.sum.add(e);
        e
    }

    /// Those of a row.
    #[inline(always)]
    fn add_row(&mut self, row: &[T]) {
        let simd = self.top.simd;
        let (body, tail) = T::split::<S>(row);
        let (many, rest) = body.as_chunks::<UNROLL>();
        for &x in many {
            self.add_many::<false>(x);
        }
        for &x in rest {
            self.add::<false>(Vector::of(simd, [x]));
        }
        if !tail.is_empty() {
            self.add::<false>(Vector::load_or(simd, tail, T::NEG_INFINITY));
        }
    }

    #[inline(always)]
    fn sum(&self) -> T {
        let sum = self.sum.sum.sum();
        // Else what was lost does not count, and to add it up would take a short row a fifth of its time.
        if sum < T::SMALL_SUM {
            let mut lost = self.lost;
            for i in 0..UNROLL {
                lost = lost + self.lost_of_many.part(i);
            }
            restored(self.top.constant(sum), self.top.constant(lost.sum())).first()
        } else {
            sum
        }
    }
}

/// Σ exp(xⱼ − top), for top the maximum (or NaN).
#[inline(always)]
pub(crate) fn exp_sum<T: Exponential, S: Simd>(simd: S, row: &[T], top: T) -> T {
    let mut sum = ExpSum::new(simd, top);
    sum.add_row(row);
    sum.sum()
}

/// The same over all but the element at `at`.
#[inline(always)]
pub(crate) fn exp_sum_without<T: Exponential, S: Simd>(simd: S, row: &[T], at: usize, top: T) -> T {
    let width = UNROLL * Vector::<T, S>::COUNT;
    let (before, rest) = row.split_at(at - at % width);
    let (near, after) = rest.split_at(width.min(rest.len()));
    let mut without = Aligned([T::NEG_INFINITY; UNROLL * MAX_LANES]);
    let without = &mut without.0[..near.len()];
    without.copy_from_slice(near);
    without[at % width] = T::NEG_INFINITY;
    let mut sum = ExpSum::new(simd, top);
    for part in [before, without, after] {
        sum.add_row(part);
    }
    sum.sum()
}

/// As [`exp_sum`], and xⱼ becomes exp(xⱼ − top). `NORMAL` tells that these are normal numbers, or NaN, and the least of the normal
/// numbers nothing beside their sum.
#[inline(always)]
pub(crate) fn exp_and_sum<T: Exponential, S: Simd, const NORMAL: bool>(simd: S, row: &mut [T], top: T) -> T {
    let mut sum = ExpSum::new(simd, top);
    let (body, tail) = T::split_mut::<S>(row);
    let (many, rest) = body.as_chunks_mut::<UNROLL>();
    for x in many {
        *x = sum.add_many::<NORMAL>(*x).registers;
    }
    for x in rest {
        *x = sum.add::<NORMAL>(Vector::of(simd, [*x])).register();
    }
    if !tail.is_empty() {
        let nothing = if NORMAL { top + T::NORMAL[0] } else { T::NEG_INFINITY };
        sum.add::<NORMAL>(Vector::load_or(simd, tail, nothing)).store_partial(tail);
    }
    sum.sum()
}

/// ½·Σ tⱼ·(top − xⱼ) and Σ tⱼ. Halves, whose difference cannot overflow; and 0·∞ is 0 here.
#[inline(always)]
pub(crate) fn spread_and_total<T: Lanes, S: Simd>(simd: S, row: &[T], t: &[T], top: T) -> (T, T) {
    let mut spread = CompensatedSum::<T, S>::new(simd);
    let mut total = CompensatedSum::<T, S>::new(simd);
    let (zero, half) = (Vector::splat(simd, T::ZERO), Vector::splat(simd, T::from_f64(0.5)));
    let half_top = Vector::splat(simd, top) * half;
    let lanes = Vector::<T, S>::COUNT;
    for (x, t) in row.chunks(lanes).zip(t.chunks(lanes)) {
        let (x, t) = (Vector::load_padded(simd, x, top), Vector::load_padded(simd, t, T::ZERO));
        total.add(t);
        spread.add(zero.or_else(t.equal(zero), t * (half_top - x * half)));
    }
    (spread.sum.sum(), total.sum.sum())
}
