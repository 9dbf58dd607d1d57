//! Elementwise passes over rows, tails included.

use super::lanes::Lanes;
use super::vector::{UNROLL, Vector};
use pulp::Simd;

/// A function of single numbers, on registers.
///
/// A trait and not a closure, since it takes one register or several; and a closure that is not inlined is compiled
/// without the instruction set of its caller, so that every operation in it becomes a call.
pub(crate) trait Elementwise<T: Lanes, S: Simd> {
    /// f of each lane.
    fn of<const N: usize>(&self, x: Vector<T, S, N>) -> Vector<T, S, N>;
}

/// Each element becomes f of it. The only loop with a tail that elementwise kernels need.
#[inline(always)]
pub(crate) fn map<T: Lanes, S: Simd>(simd: S, slice: &mut [T], f: impl Elementwise<T, S>) {
    let (body, tail) = T::split_mut::<S>(slice);
    let (many, rest) = body.as_chunks_mut::<UNROLL>();
    for x in many {
        *x = f.of(Vector::of(simd, *x)).registers;
    }
    for x in rest {
        *x = f.of(Vector::of(simd, [*x])).register();
    }
    if !tail.is_empty() {
        f.of(Vector::load_or(simd, tail, T::ZERO)).store_partial(tail);
    }
}

/// The same for a function that takes no longer than to load and to store. A long row is passed along the lines of the cache, since a
/// register on two of them takes twice as long: the first is computed and stored by itself, and what it has in common with the next
/// comes to be the same twice.
#[inline(always)]
pub(crate) fn map_row<T: Lanes, S: Simd>(simd: S, row: &mut [T], f: impl Elementwise<T, S>) {
    let start = unaligned::<T, S>(row);
    if start == 0 {
        return map(simd, row, f);
    }
    let first = f.of(Vector::<T, S>::load(simd, row));
    map(simd, &mut row[start..], f);
    first.store(row);
}

/// x·factor.
pub(crate) struct Scale<T: Lanes, S: Simd>(pub(crate) Vector<T, S>);

impl<T: Lanes, S: Simd> Elementwise<T, S> for Scale<T, S> {
    #[inline(always)]
    fn of<const N: usize>(&self, x: Vector<T, S, N>) -> Vector<T, S, N> {
        x * Vector::repeat(self.0)
    }
}

/// A function of two numbers, on registers.
pub(crate) trait Pairwise<T: Lanes, S: Simd> {
    /// f of each pair of lanes.
    fn of<const N: usize>(&self, x: Vector<T, S, N>, y: Vector<T, S, N>) -> Vector<T, S, N>;
}

/// Each element of `slice` becomes f of it and of the one beside it in `other`, which is as long.
#[inline(always)]
pub(crate) fn map_with<T: Lanes, S: Simd>(simd: S, slice: &mut [T], other: &[T], f: impl Pairwise<T, S>) {
    let (body, tail) = T::split_mut::<S>(slice);
    let (other, other_tail) = T::split::<S>(other);
    let (many, rest) = body.as_chunks_mut::<UNROLL>();
    let (other_many, other_rest) = other.as_chunks::<UNROLL>();
    for (x, y) in many.iter_mut().zip(other_many) {
        *x = f.of(Vector::of(simd, *x), Vector::of(simd, *y)).registers;
    }
    for (x, y) in rest.iter_mut().zip(other_rest) {
        *x = f.of(Vector::of(simd, [*x]), Vector::of(simd, [*y])).register();
    }
    if !tail.is_empty() {
        let (x, y) = (Vector::load_or(simd, tail, T::ZERO), Vector::load_or(simd, other_tail, T::ZERO));
        f.of(x, y).store_partial(tail);
    }
}

/// Whether to pass along the lines of the cache is worth what it costs the row.
#[inline(always)]
fn is_long<T: Lanes, S: Simd>(row: &[T]) -> bool {
    row.len() >= 32 * Vector::<T, S>::COUNT
}

/// Elements of a row before the first register that lies on one line of the cache; none of a row that is not long.
#[inline(always)]
pub(super) fn unaligned<T: Lanes, S: Simd>(row: &[T]) -> usize {
    let lanes = Vector::<T, S>::COUNT;
    if is_long::<T, S>(row) { row.as_ptr().align_offset(lanes * size_of::<T>()).min(lanes) } else { 0 }
}
