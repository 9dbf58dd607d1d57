//! Outer products, lanes along the columns of A.

use super::{STREAMED_LINES, asks_along, for_columns};
use crate::gemm::Destination;
use crate::kernel::ahead::{Ahead, Span};
use crate::kernel::lanes::Lanes;
use crate::kernel::lines::{Lines, LinesMut, line_mut};
use crate::kernel::registers::has_many_registers;
use crate::kernel::vector::{Aligned, Vector};
use pulp::{Simd, WithSimd};

/// A product whose A has contiguous columns, and B and the result too.
pub(crate) struct Outer<'a, T> {
    pub(super) dst: LinesMut<'a, T>,
    pub(super) held: Destination,
    pub(super) a: Lines<'a, T>,
    pub(super) b: Lines<'a, T>,
    pub(super) is_streamed: bool,
    pub(super) next: Span,
}

impl<T: Lanes> WithSimd for &mut Outer<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        outer(simd, self);
    }
}

/// Most lines that are worked on together: a number of the result is a sum of sums of so many products. Longer ones would round
/// more, shorter ones go to the result and back more often.
const fn most_lines<S: Simd>() -> usize {
    if has_many_registers::<S>() { 2 * NEAR_LINES } else { NEAR_LINES }
}

/// Lines that are worked on together where the numbers of B are copied.
const NEAR_LINES: usize = 64;

/// Most columns of a tile: as many sums as there are registers for, beside a line's and a column's, and not many more addresses
/// than that.
const fn most_columns<S: Simd>() -> usize {
    if has_many_registers::<S>() { MANY_COLUMNS } else { FEW_COLUMNS }
}

const MANY_COLUMNS: usize = 10;
const FEW_COLUMNS: usize = 6;

#[inline(always)]
fn outer<T: Lanes, S: Simd>(simd: S, product: &mut Outer<'_, T>) {
    let &mut Outer { ref mut dst, mut held, a, b, is_streamed, next } = product;
    let (depth, columns) = (a.ncols(), dst.ncols());
    let together = if is_streamed { STREAMED_LINES } else { most_lines::<S>() };
    // Tiles that each line is in.
    let tiles = columns.div_ceil(most_columns::<S>())
        * dst
            .nrows()
            .div_ceil(strip_registers::<T, S>(dst.nrows(), dst.nrows(), columns) * Vector::<T, S>::COUNT);
    let mut ahead = Ahead::new(if is_streamed { Span::NOTHING } else { next }, depth * tiles);
    // Where registers are few, so are those for addresses: the numbers of B at distances that the compiler knows, so that one
    // address is enough for all.
    let mut copies;
    let near: &mut [[T; NEAR_LINES]] = if has_many_registers::<S>() {
        &mut []
    } else {
        copies = Aligned([[T::ZERO; NEAR_LINES]; FEW_COLUMNS]);
        &mut copies.0
    };
    let mut start = 0;
    while start < depth {
        let end = depth.min(start + together);
        let lines = a.subcols(start, end - start);
        if is_streamed {
            let soon = if end < depth {
                Span::of(a.subcols(end, together.min(depth - end)).as_dyn_stride())
            } else {
                next.first(together)
            };
            ahead = Ahead::new(soon, (end - start) * tiles);
        }
        macro_rules! tiles {
            ($most:ident, $($n:literal)*) => {
                for_columns!(columns, $most, 1, $($n)*, |first, COLUMNS| {
                    let dst = dst.as_mut().subcols_mut(first, COLUMNS);
                    let b = b.submatrix(start, first, end - start, COLUMNS);
                    outer_strips::<T, S, COLUMNS>(simd, dst, held, lines, b, near, &mut ahead);
                })
            };
        }
        if const { has_many_registers::<S>() } {
            tiles!(MANY_COLUMNS, 1 2 3 4 5 6 7 8 9 10);
        } else {
            tiles!(FEW_COLUMNS, 1 2 3 4 5 6);
        }
        held = Destination::Add;
        start = end;
    }
}

/// Every strip of some lines: a function of its own too.
#[inline(never)]
fn outer_strips<T: Lanes, S: Simd, const COLUMNS: usize>(
    simd: S,
    dst: LinesMut<'_, T>,
    held: Destination,
    lines: Lines<'_, T>,
    columns: Lines<'_, T>,
    near: &mut [[T; NEAR_LINES]],
    ahead: &mut Ahead,
) {
    simd.vectorize(
        #[inline(always)]
        move || {
            if const { has_many_registers::<S>() } {
                let y: [&[T]; COLUMNS] = core::array::from_fn(
                    #[inline(always)]
                    |c| &columns.col(c).as_slice()[..lines.ncols()],
                );
                outer_tiles::<T, S, COLUMNS>(
                    simd,
                    dst,
                    held,
                    lines,
                    #[inline(always)]
                    |c, t| y[c][t],
                    ahead,
                );
            } else if let Some(near) = near.first_chunk_mut::<COLUMNS>() {
                for c in 0..COLUMNS {
                    Vector::<T, S>::copy(simd, columns.col(c).as_slice(), &mut near[c]);
                }
                outer_tiles::<T, S, COLUMNS>(
                    simd,
                    dst,
                    held,
                    lines.subcols(0, lines.ncols().min(NEAR_LINES)),
                    #[inline(always)]
                    |c, t| near[c][t],
                    ahead,
                );
            }
        },
    );
}

/// `y` is the number of B for a column and a line.
#[inline(always)]
fn outer_tiles<T: Lanes, S: Simd, const COLUMNS: usize>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    held: Destination,
    lines: Lines<'_, T>,
    y: impl Fn(usize, usize) -> T,
    ahead: &mut Ahead,
) {
    let rows = dst.nrows();
    let mut done = 0;
    while done < rows {
        let registers = strip_registers::<T, S>(rows, rows - done, COLUMNS);
        let width = registers * Vector::<T, S>::COUNT;
        let strip = Strip { lines, from: done.min(rows - width), done, held };
        let dst = dst.as_mut();
        match registers {
            4 if const { COLUMNS <= 3 } => outer_tile::<T, S, 4, COLUMNS>(simd, dst, strip, &y, ahead),
            3 if const { COLUMNS <= 3 } => outer_tile::<T, S, 3, COLUMNS>(simd, dst, strip, &y, ahead),
            2 => outer_tile::<T, S, 2, COLUMNS>(simd, dst, strip, &y, ahead),
            _ => outer_tile::<T, S, 1, COLUMNS>(simd, dst, strip, &y, ahead),
        }
        done = strip.from + width;
    }
}

/// Registers of a strip: as many sums as there are registers for, beside a column's and a line's, and enough that none waits
/// for itself; of the last two strips the same number. No more than there are rows for.
#[inline(always)]
fn strip_registers<T: Lanes, S: Simd>(rows: usize, left: usize, columns: usize) -> usize {
    let lanes = Vector::<T, S>::COUNT;
    let (most, left) = (if columns <= 3 { 4 } else { 2 }, left.div_ceil(lanes));
    let wanted = if most < left && left < 2 * most { left.div_ceil(2) } else { most.min(left) };
    wanted.min(rows / lanes).max(1)
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
    y: &impl Fn(usize, usize) -> T,
    ahead: &mut Ahead,
) {
    let Strip { lines, from, done, held } = strip;
    let lanes = Vector::<T, S>::COUNT;
    let width = REGISTERS * lanes;
    let mut acc = [[Vector::splat(simd, T::ZERO); COLUMNS]; REGISTERS];
    if !asks_along::<S>(1) {
        ahead.step(lines.ncols());
    }
    for (t, line) in lines.subrows(from, width).col_iter().enumerate() {
        if asks_along::<S>(1) {
            ahead.step(1);
        }
        let x = T::split::<S>(line.as_slice()).0;
        // The shorter side stays in registers while the longer passes by.
        if REGISTERS <= COLUMNS {
            let x: [Vector<T, S>; REGISTERS] = core::array::from_fn(
                #[inline(always)]
                |v| Vector::of(simd, [x[v]]),
            );
            for c in 0..COLUMNS {
                let y = Vector::splat(simd, y(c, t));
                for v in 0..REGISTERS {
                    acc[v][c] = x[v].mul_add(y, acc[v][c]);
                }
            }
        } else {
            let y: [Vector<T, S>; COLUMNS] = core::array::from_fn(
                #[inline(always)]
                |c| Vector::splat(simd, y(c, t)),
            );
            for v in 0..REGISTERS {
                let x = Vector::of(simd, [x[v]]);
                for c in 0..COLUMNS {
                    acc[v][c] = x.mul_add(y[c], acc[v][c]);
                }
            }
        }
    }
    for c in 0..COLUMNS {
        let out = &mut line_mut(&mut dst, c)[from..from + width];
        for v in 0..REGISTERS {
            let out = &mut out[v * lanes..(v + 1) * lanes];
            let mut new = acc[v][c];
            if held == Destination::Add {
                if from < done {
                    // What an earlier strip has added is added.
                    let fresh = Vector::lanes_from(simd, done.saturating_sub(from + v * lanes));
                    new = new.or_else(fresh, Vector::splat(simd, T::ZERO));
                }
                new = Vector::load(simd, out) + new;
            }
            new.store(out);
        }
    }
}
