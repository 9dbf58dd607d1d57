//! Outer products, lanes along the columns of A.

use super::{MOST_COLUMNS, asks_along, for_columns};
use crate::gemm::Destination;
use crate::kernel::ahead::Ahead;
use crate::kernel::lanes::{Aligned, Lanes, Vector};
use crate::kernel::lines::{Lines, LinesMut, line_mut};
use pulp::{Simd, WithSimd};

/// A product whose A has contiguous columns, and B and the result too.
pub(crate) struct Outer<'a, T> {
    pub(super) dst: LinesMut<'a, T>,
    pub(super) held: Destination,
    pub(super) a: Lines<'a, T>,
    pub(super) b: Lines<'a, T>,
    pub(super) is_cold: bool,
    pub(super) next: Option<Lines<'a, T>>,
}

impl<T: Lanes> WithSimd for &mut Outer<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        outer(simd, self);
    }
}

/// Lines that are worked on together.
const LINES: usize = 64;

/// Lines after which it asks for more of what is read next.
const FEW_LINES: usize = 8;

/// Lines that are worked on together where each is on a page of its own: with those asked for meanwhile, they are no
/// more pages than the processor has the addresses of at hand.
const FAR_LINES: usize = 16;

/// Bytes of a page of memory.
const PAGE: usize = 4 << 10;

#[inline(always)]
fn outer<T: Lanes, S: Simd>(simd: S, product: &mut Outer<'_, T>) {
    let &mut Outer { ref mut dst, mut held, a, b, is_cold, next } = product;
    let (depth, columns) = (a.ncols(), dst.ncols());
    let are_far = is_cold && a.col_stride().unsigned_abs() * size_of::<T>() >= PAGE;
    let together = if are_far { FAR_LINES } else { LINES };
    // The numbers of B, at distances that the compiler knows: one address is enough for all.
    let mut near = Aligned([[T::ZERO; LINES]; MOST_COLUMNS]);
    for start in (0..depth).step_by(together) {
        let end = depth.min(start + together);
        let lines = a.subcols(start, end - start);
        // Far lines come from memory now: of them, the next ones.
        let soon = if are_far && end < depth {
            Some(a.subcols(end, together.min(depth - end)))
        } else if are_far {
            next.map(|x| x.subcols(0, together.min(x.ncols())))
        } else {
            next.map(|x| {
                x.subcols(x.ncols() * start / depth, x.ncols() * end / depth - x.ncols() * start / depth)
            })
        };
        macro_rules! tiles {
            ($most:literal, $($n:literal)*) => {
                for_columns!(columns, $most, $($n)*, |first, COLUMNS| {
                    let dst = dst.as_mut().subcols_mut(first, COLUMNS);
                    let b = b.submatrix(start, first, end - start, COLUMNS);
                    let soon = if first == 0 { soon } else { None };
                    outer_strips::<T, S, COLUMNS>(simd, dst, held, lines, b, &mut near.0, soon);
                })
            };
        }
        // As many sums as there are registers for, beside a line's.
        if S::REGISTER_COUNT >= 32 {
            tiles!(12, 1 2 3 4 5 6 7 8 9 10 11 12);
        } else {
            tiles!(6, 1 2 3 4 5 6);
        }
        held = Destination::Add;
    }
}

/// Every strip of some lines: a function of its own too.
#[inline(never)]
fn outer_strips<T: Lanes, S: Simd, const COLUMNS: usize>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    held: Destination,
    lines: Lines<'_, T>,
    columns: Lines<'_, T>,
    near: &mut [[T; LINES]; MOST_COLUMNS],
    soon: Option<Lines<'_, T>>,
) {
    simd.vectorize(
        #[inline(always)]
        move || {
            let Some(y) = near.first_chunk_mut::<COLUMNS>() else { return };
            for c in 0..COLUMNS {
                Vector::<T, S>::copy(simd, columns.col(c).as_slice(), &mut y[c]);
            }
            let rows = dst.nrows();
            let mut done = 0;
            while done < rows {
                let registers = strip_registers::<T, S>(rows, rows - done, COLUMNS);
                let width = registers * Vector::<T, S>::COUNT;
                let strip = Strip { lines, from: done.min(rows - width), done, held };
                let dst = dst.as_mut();
                match registers {
                    4 if COLUMNS <= 3 => outer_tile::<T, S, 4, COLUMNS>(simd, dst, strip, y, soon),
                    2 => outer_tile::<T, S, 2, COLUMNS>(simd, dst, strip, y, soon),
                    _ => outer_tile::<T, S, 1, COLUMNS>(simd, dst, strip, y, soon),
                }
                done = strip.from + width;
            }
        },
    );
}

/// Registers of a strip: as many sums as there are registers for, beside a line's, and enough that none waits for itself.
/// No more than there are rows for, or left.
#[inline(always)]
fn strip_registers<T: Lanes, S: Simd>(rows: usize, left: usize, columns: usize) -> usize {
    let lanes = Vector::<T, S>::COUNT;
    match (rows / lanes).min(left.div_ceil(lanes)) {
        3.. if columns <= 3 && rows >= 4 * lanes => 4,
        2.. => 2,
        _ => 1,
    }
}

/// A few registers of each line.
#[derive(Clone, Copy)]
struct Strip<'a, T> {
    lines: Lines<'a, T>,
    /// The first row.
    from: usize,
    /// Rows that earlier strips have done.
    done: usize,
    held: Destination,
}

#[inline(always)]
fn outer_tile<T: Lanes, S: Simd, const REGISTERS: usize, const COLUMNS: usize>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    strip: Strip<'_, T>,
    y: &[[T; LINES]; COLUMNS],
    soon: Option<Lines<'_, T>>,
) {
    let Strip { lines, from, done, held } = strip;
    let lanes = Vector::<T, S>::COUNT;
    let width = REGISTERS * lanes;
    let mut acc = [[Vector::splat(simd, T::ZERO); COLUMNS]; REGISTERS];
    let count = lines.ncols().min(LINES);
    let ahead = Ahead::new(soon, count.div_ceil(FEW_LINES), 0..1, 1);
    if !asks_along::<S>(1) {
        (0..count.div_ceil(FEW_LINES)).for_each(|group| ahead.fetch_rows(group, from..from + width));
    }
    for (t, line) in lines.subrows(from, width).subcols(0, count).col_iter().enumerate() {
        if asks_along::<S>(1) && t % FEW_LINES == 0 {
            ahead.fetch_rows(t / FEW_LINES, from..from + width);
        }
        let x = T::split::<S>(line.as_slice()).0;
        let x: [Vector<T, S>; REGISTERS] = core::array::from_fn(
            #[inline(always)]
            |v| Vector::of(simd, [x[v]]),
        );
        for c in 0..COLUMNS {
            let y = Vector::splat(simd, y[c][t]);
            for v in 0..REGISTERS {
                acc[v][c] = x[v].mul_add(y, acc[v][c]);
            }
        }
    }
    for c in 0..COLUMNS {
        let out = &mut line_mut(&mut dst, c)[from..from + width];
        for v in 0..REGISTERS {
            let out = &mut out[v * lanes..(v + 1) * lanes];
            let old = Vector::load(simd, out);
            let mut new = if held == Destination::Add { old + acc[v][c] } else { acc[v][c] };
            if from < done {
                // What an earlier strip has done is done.
                let over = done as f64 - (from + v * lanes) as f64 - 0.5;
                let fresh = Vector::splat(simd, T::from_f64(over)).less(Vector::load(simd, &T::IOTA));
                new = new.or_else(fresh, old);
            }
            new.store(out);
        }
    }
}
