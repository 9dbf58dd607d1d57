//! Sums of multiples of a few lines.

use super::{FEW_SAMPLES, for_columns};
use crate::gemm::Destination;
use crate::kernel::ahead::{Ahead, Span};
use crate::kernel::lanes::Lanes;
use crate::kernel::lines::{Lines, LinesMut};
use crate::kernel::vector::{Aligned, Mask, Vector};
use faer::MatRef;
use pulp::{Simd, WithSimd};

/// A product whose A has contiguous columns, at most [`FEW_SAMPLES`], and the result too. Of each number of B a register is made
/// once, however B lies.
pub(crate) struct Multiples<'a, T> {
    pub(super) dst: LinesMut<'a, T>,
    pub(super) held: Destination,
    pub(super) a: Lines<'a, T>,
    pub(super) b: MatRef<'a, T>,
    pub(super) next: Span,
}

/// Bytes of a stretch of the lines, which stays in the first cache while all columns are made of it.
const STRETCH_BYTES: usize = 16 << 10;

/// Columns side by side, two registers each, or of half as many four: several places in memory are written by turns, which is
/// faster than one after the other, and 16 registers hold the sums.
const COLUMNS: usize = 6;

impl<T: Lanes> WithSimd for &mut Multiples<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.dst.nrows() {
            rows if rows >= Vector::<T, S>::COUNT => {}
            8.. => return short_lines::<T, S, 8>(simd, self),
            4.. => return short_lines::<T, S, 4>(simd, self),
            2.. => return short_lines::<T, S, 2>(simd, self),
            1 => return short_lines::<T, S, 1>(simd, self),
            0 => return,
        }
        if self.a.ncols() == 1 {
            return one_line(simd, self);
        }
        let &mut Multiples { ref mut dst, held, a, b, next } = self;
        let (rows, columns) = dst.shape();
        let strip = 2 * Vector::<T, S>::COUNT;
        let mut ahead = Ahead::new(next, columns.div_ceil(COLUMNS) * rows.div_ceil(strip));
        let whole = columns / COLUMNS * COLUMNS;
        let (b, b_rest) = b.split_at_col(whole);
        let stretches = (a.ncols() * rows * size_of::<T>()).div_ceil(STRETCH_BYTES);
        let bound = |stretch: usize| (rows * stretch / stretches).next_multiple_of(strip).min(rows);
        for stretch in 0..stretches {
            let (from, count) = (bound(stretch), bound(stretch + 1) - bound(stretch));
            let a = a.subrows(from, count);
            let (many, rest) = dst.as_mut().subrows_mut(from, count).split_at_col_mut(whole);
            columns_of::<T, S, COLUMNS>(simd, many, held, a, b, &mut ahead);
            match columns - whole {
                1 => columns_of::<T, S, 1>(simd, rest, held, a, b_rest, &mut ahead),
                2 => columns_of::<T, S, 2>(simd, rest, held, a, b_rest, &mut ahead),
                3 => columns_of::<T, S, 3>(simd, rest, held, a, b_rest, &mut ahead),
                4 => columns_of::<T, S, 4>(simd, rest, held, a, b_rest, &mut ahead),
                5 => columns_of::<T, S, 5>(simd, rest, held, a, b_rest, &mut ahead),
                _ => {}
            }
        }
    }
}

/// Of lines shorter than a register, column by column. Of each, its first numbers and its last ones lie side by side in a register,
/// HALF each, so that no lane has to be masked; those that it has twice are computed twice.
#[inline(always)]
fn short_lines<T: Lanes, S: Simd, const HALF: usize>(simd: S, product: &mut Multiples<'_, T>) {
    let &mut Multiples { ref mut dst, held, a, b, .. } = product;
    let zero = Vector::<T, S>::splat(simd, T::ZERO);
    let mut x = [zero; FEW_SAMPLES];
    for (x, line) in x.iter_mut().zip(a.col_iter()) {
        *x = Vector::join(simd, halves::<T, HALF>(line.as_slice()), 0);
    }
    let x = &x[..a.ncols().min(FEW_SAMPLES)];
    for (out, y) in dst.as_mut().col_iter_mut().zip(b.col_iter()) {
        let out = out.as_slice_mut();
        let mut sum = match held {
            Destination::Add => Vector::join(simd, halves::<T, HALF>(out), 0),
            Destination::Replace => zero,
        };
        for (x, &y) in x.iter().zip(y.iter()) {
            sum = x.mul_add(Vector::splat(simd, y), sum);
        }
        let last = out.len() - HALF;
        for (part, start) in [0, last].into_iter().enumerate() {
            out[start..start + HALF].copy_from_slice(&sum.lanes()[part * HALF..(part + 1) * HALF]);
        }
    }
}

/// The first and the last so many numbers of a line.
#[inline(always)]
fn halves<T, const HALF: usize>(line: &[T]) -> [&[[T; HALF]]; 2] {
    let last = line.len() - HALF;
    [line[..HALF].as_chunks().0, line[last..].as_chunks().0]
}

/// Of one line, no shorter than a register. By single registers the columns take turns still sooner, and little is prepared.
#[inline(always)]
fn one_line<T: Lanes, S: Simd>(simd: S, product: &mut Multiples<'_, T>) {
    let &mut Multiples { ref mut dst, held, a, b, .. } = product;
    let line = a.col(0).as_slice();
    for_columns!(dst.ncols(), COLUMNS, 1, 1 2 3 4 5 6, |first, COUNT| {
        let y = core::array::from_fn::<_, COUNT, _>(
            #[inline(always)]
            |c| b[(0, first + c)],
        );
        of_one_line::<T, S, COUNT>(simd, dst.as_mut().subcols_mut(first, COUNT), held, line, y);
    });
}

/// A few columns of the multiples of one line.
#[inline(always)]
fn of_one_line<T: Lanes, S: Simd, const COUNT: usize>(
    simd: S,
    dst: LinesMut<'_, T>,
    held: Destination,
    line: &[T],
    y: [T; COUNT],
) {
    let lanes = Vector::<T, S>::COUNT;
    let y: [Vector<T, S>; COUNT] = core::array::from_fn(
        #[inline(always)]
        |c| Vector::splat(simd, y[c]),
    );
    let mut columns = dst.col_iter_mut();
    let out: [&mut [T]; COUNT] = core::array::from_fn(
        #[inline(always)]
        |_| match columns.next() {
            Some(column) => &mut column.as_slice_mut()[..line.len()],
            None => &mut [],
        },
    );
    let whole = T::split::<S>(line).0;
    for (i, &x) in whole.iter().enumerate() {
        let x = Vector::of(simd, [x]);
        for c in 0..COUNT {
            let out = &mut T::split_mut::<S>(out[c]).0[i];
            let new =
                if held == Destination::Add { x.mul_add(y[c], Vector::of(simd, [*out])) } else { x * y[c] };
            *out = new.register();
        }
    }
    let done = whole.len() * lanes;
    if done < line.len() {
        // What the last register has in common with the one before is done: to be replaced by the same, but not added again.
        let last = line.len() - lanes;
        let fresh = Vector::<T, S>::lanes_from(simd, done - last);
        let x = Vector::load(simd, &line[last..]);
        for c in 0..COUNT {
            let out = &mut out[c][last..];
            let new = if held == Destination::Add {
                let old = Vector::load(simd, out);
                x.mul_add(y[c], old).or_else(fresh, old)
            } else {
                x * y[c]
            };
            new.store(out);
        }
    }
}

/// All columns of the result, so many at a time: a function of its own, for each number of them.
#[inline(never)]
fn columns_of<T: Lanes, S: Simd, const COUNT: usize>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    held: Destination,
    lines: Lines<'_, T>,
    b: MatRef<'_, T>,
    ahead: &mut Ahead,
) {
    simd.vectorize(
        #[inline(always)]
        move || {
            let lanes = Vector::<T, S>::COUNT;
            let (rows, depth) = (dst.nrows(), lines.ncols().min(FEW_SAMPLES));
            let zero = Vector::<T, S>::splat(simd, T::ZERO);
            let mut y = Aligned([[zero.register(); COUNT]; FEW_SAMPLES]);
            let y = &mut y.0[..depth];
            for first in (0..dst.ncols()).step_by(COUNT) {
                for (t, y) in y.iter_mut().enumerate() {
                    for (c, y) in y.iter_mut().enumerate() {
                        *y = T::splat(simd, b[(t, first + c)]);
                    }
                }
                let mut columns = dst.as_mut().subcols_mut(first, COUNT).col_iter_mut();
                let mut out: [&mut [T]; COUNT] = core::array::from_fn(
                    #[inline(always)]
                    |_| match columns.next() {
                        Some(column) => column.as_slice_mut(),
                        None => &mut [],
                    },
                );
                let mut at = 0;
                while COUNT <= COLUMNS / 2 && at + 4 * lanes <= rows {
                    ahead.step(2);
                    tile::<T, S, 4, COUNT>(simd, &mut out, held, lines, y, at, None);
                    at += 4 * lanes;
                }
                while at + 2 * lanes <= rows {
                    ahead.step(1);
                    tile::<T, S, 2, COUNT>(simd, &mut out, held, lines, y, at, None);
                    at += 2 * lanes;
                }
                if at + lanes <= rows {
                    tile::<T, S, 1, COUNT>(simd, &mut out, held, lines, y, at, None);
                    at += lanes;
                }
                if at < rows {
                    // What the last register has in common with the one before is done: to be replaced by the same, but
                    // not added again.
                    let last = rows - lanes;
                    let fresh = (held == Destination::Add).then(
                        #[inline(always)]
                        || Vector::lanes_from(simd, at - last),
                    );
                    tile::<T, S, 1, COUNT>(simd, &mut out, held, lines, y, last, fresh);
                }
            }
        },
    );
}

/// Some registers of each column, from row `at` on; only the `fresh` lanes, if not all are.
#[inline(always)]
fn tile<T: Lanes, S: Simd, const REGISTERS: usize, const COUNT: usize>(
    simd: S,
    out: &mut [&mut [T]; COUNT],
    held: Destination,
    lines: Lines<'_, T>,
    y: &[[T::Register<S>; COUNT]],
    at: usize,
    fresh: Option<Mask<T, S>>,
) {
    let width = REGISTERS * Vector::<T, S>::COUNT;
    let mut acc = [Vector::<T, S, REGISTERS>::splat(simd, T::ZERO); COUNT];
    if held == Destination::Add {
        for c in 0..COUNT {
            acc[c] = Vector::load(simd, &out[c][at..at + width]);
        }
    }
    for (line, y) in lines.subrows(at, width).col_iter().zip(y) {
        let x = Vector::<T, S, REGISTERS>::load(simd, line.as_slice());
        for c in 0..COUNT {
            acc[c] = x.mul_add(Vector::repeat(Vector::of(simd, [y[c]])), acc[c]);
        }
    }
    for c in 0..COUNT {
        let out = &mut out[c][at..at + width];
        match fresh {
            Some(fresh) => {
                let new = acc[c].part(0).or_else(fresh, Vector::load(simd, out));
                new.store(out);
            }
            None => acc[c].store(out),
        }
    }
}
