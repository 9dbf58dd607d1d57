//! Reductions: the maximum of a row of scores and the sum of its exponentials, the bounds of labels, partial gradients to one.

use super::exp::{Exponential, exp_normal, exp_term, restored};
use super::lanes::{Lanes, MAX_LANES};
use super::vector::{Aligned, UNROLL, Vector};
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

/// Whether to pass along the lines of the cache is worth what it costs the row.
#[inline(always)]
fn is_long<T: Lanes, S: Simd>(row: &[T]) -> bool {
    row.len() >= 32 * Vector::<T, S>::COUNT
}

/// Elements of a row before the first register that lies on one line of the cache; none of a row that is not long.
#[inline(always)]
fn unaligned<T: Lanes, S: Simd>(row: &[T]) -> usize {
    let lanes = Vector::<T, S>::COUNT;
    if is_long::<T, S>(row) { row.as_ptr().align_offset(lanes * size_of::<T>()).min(lanes) } else { 0 }
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
