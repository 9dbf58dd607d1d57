//! Sums of products, lanes along the rows of A.

use super::{STREAMED_LINES, asks_along, for_columns};
use crate::gemm::Destination;
use crate::kernel::ahead::{Ahead, Span};
use crate::kernel::lanes::{Aligned, Lanes, MAX_LANES, Mask, Vector};
use crate::kernel::lines::{Lines, LinesMut, line_mut};
use pulp::{Simd, WithSimd};

/// A product whose A has contiguous rows, and B and the result contiguous columns.
pub(crate) struct Dot<'a, T> {
    pub(super) dst: LinesMut<'a, T>,
    pub(super) held: Destination,
    /// Aᵀ.
    pub(super) a: Lines<'a, T>,
    pub(super) b: Lines<'a, T>,
    pub(super) is_streamed: bool,
    pub(super) next: Span,
}

impl<T: Lanes> WithSimd for &mut Dot<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        dot(simd, self);
    }
}

/// Longest stretch of a line that is worked on at once: with a tile's columns it fits the first cache, but for tiles of many
/// registers, which use each number so often that it may come from the second.
const fn stretch_bytes<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 8 << 10 } else { 4 << 10 }
}

#[inline(always)]
fn dot<T: Lanes, S: Simd>(simd: S, product: &mut Dot<'_, T>) {
    let &mut Dot { ref mut dst, held, a, b, is_streamed, next } = product;
    let (rows, columns, depth) = (dst.nrows(), dst.ncols(), a.nrows());
    let lanes = Vector::<T, S>::COUNT;
    let is_short = lanes >= 8 && depth <= SHORT.min(8 * lanes);
    let stretches = depth.div_ceil(stretch_bytes::<S>() / size_of::<T>());
    let bound = |stretch: usize| {
        if stretch == stretches { depth } else { depth * stretch / stretches / MAX_LANES * MAX_LANES }
    };
    let together = if is_streamed { STREAMED_LINES } else { rows };
    let mut ahead = None;
    let (mut stretch, mut start) = (0, 0);
    while stretch < stretches {
        let (from, to, end) = (bound(stretch), bound(stretch + 1), rows.min(start + together));
        let held = if stretch > 0 { Destination::Add } else { held };
        let lines = a.submatrix(from, start, to - from, end - start);
        let mut dst = dst.as_mut().subrows_mut(start, end - start);
        (stretch, start) = if end < rows { (stretch, end) } else { (stretch + 1, 0) };
        // What to fetch, and in how many such passes over lines.
        let (soon, passes) = if !is_streamed {
            (next, stretches)
        } else {
            ahead = None;
            let rows = together.min(rows - start);
            let soon = if stretch < stretches {
                let from = bound(stretch);
                Span::of(a.submatrix(from, start, bound(stretch + 1) - from, rows).as_dyn_stride())
            } else {
                next.first(rows)
            };
            (soon, 1)
        };
        macro_rules! tiles {
            ($registers:expr, $share:literal, $most:literal, $($n:literal)*) => {
                for_columns!(columns, $most, $($n)*, |first, COLUMNS| {
                    const REGISTERS: usize = $registers(COLUMNS);
                    let ahead = ahead.get_or_insert_with(|| {
                        let tiles = lines.ncols().div_ceil(REGISTERS * $share) * b.ncols().div_ceil($most);
                        let steps = if asks_along::<S>($share) { lines.nrows() / lanes } else { 1 };
                        Ahead::new(soon, tiles * steps * passes)
                    });
                    let dst = dst.as_mut().subcols_mut(first, COLUMNS);
                    let columns = b.submatrix(from, first, to - from, COLUMNS);
                    let mut sums = [[Vector::splat(simd, T::ZERO); MAX_LANES / 2]; COLUMNS];
                    dot_groups::<T, S, REGISTERS, $share, COLUMNS>(simd, dst, held, lines, columns, &mut sums, ahead);
                })
            };
        }
        const fn two(_: usize) -> usize {
            2
        }
        const fn four(_: usize) -> usize {
            4
        }
        const fn two_or_four(columns: usize) -> usize {
            if columns <= 3 { 4 } else { 2 }
        }
        // As many sums as there are registers for, beside a row's and a column's.
        match (S::REGISTER_COUNT >= 32, is_short) {
            (true, true) => tiles!(two_or_four, 2, 12, 1 2 3 4 5 6 7 8 9 10 11 12),
            (true, false) => tiles!(four, 1, 5, 1 2 3 4 5),
            (false, true) => tiles!(two, 2, 6, 1 2 3 4 5 6),
            (false, false) => tiles!(two_or_four, 1, 6, 1 2 3 4 5 6),
        }
    }
}

/// Length up to which a row is short.
const SHORT: usize = 128;

/// Groups of as many rows as the widest register has lanes.
///
/// A function of its own, for each height and width of a tile, so that none keeps in registers what another needs.
#[inline(never)]
fn dot_groups<T: Lanes, S: Simd, const REGISTERS: usize, const SHARE: usize, const COLUMNS: usize>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    held: Destination,
    lines: Lines<'_, T>,
    columns: Lines<'_, T>,
    sums: &mut [[Vector<T, S>; MAX_LANES / 2]; COLUMNS],
    ahead: &mut Ahead,
) {
    simd.vectorize(
        #[inline(always)]
        move || {
            let (lanes, rows_together) = (Vector::<T, S>::COUNT, REGISTERS * SHARE);
            // The last line again in place of those that complete a group.
            let last = lines.ncols() - 1;
            let mut columns: [&[T]; COLUMNS] = core::array::from_fn(
                #[inline(always)]
                |c| columns.col(c).as_slice(),
            );
            // Short columns at distances that the compiler knows: one address is enough for all.
            let mut near: Aligned<[[T; SHORT]; COLUMNS]>;
            if SHARE > 1 {
                near = Aligned([[T::ZERO; SHORT]; COLUMNS]);
                for (column, near) in columns.iter_mut().zip(&mut near.0) {
                    Vector::<T, S>::copy(simd, column, near);
                    *column = &near[..column.len()];
                }
            }
            let ends = Ends::<T, S, SHARE>::new(simd, lines.nrows());
            let y_ends: [Vector<T, S>; COLUMNS] = core::array::from_fn(
                #[inline(always)]
                |c| ends.of(simd, [columns[c]; SHARE]),
            );
            // Rows of a tile are so far apart that its sums can be folded into a register before they leave it.
            let (together, apart) =
                if lanes >= rows_together { (lanes, lanes / rows_together) } else { (rows_together, 1) };
            for start in (0..dst.nrows()).step_by(MAX_LANES) {
                let count = MAX_LANES.min(dst.nrows() - start);
                let mut results = Aligned([[T::ZERO; MAX_LANES]; COLUMNS]);
                for group in (0..count).step_by(together) {
                    // Of the tiles, those that have a row which is wanted: their first.
                    for r in 0..apart.min(count - group) {
                        let rows: [[&[T]; SHARE]; REGISTERS] = core::array::from_fn(
                            #[inline(always)]
                            |i| {
                                core::array::from_fn(
                                    #[inline(always)]
                                    |part| {
                                        let row = start + group + r + (i + part * REGISTERS) * apart;
                                        lines.col(row.min(last)).as_slice()
                                    },
                                )
                            },
                        );
                        if !asks_along::<S>(SHARE) {
                            ahead.step(1);
                        }
                        macro_rules! tile {
                            ($part:literal) => {
                                dot_tile::<T, S, $part, REGISTERS, SHARE, COLUMNS>(simd, rows, columns, ahead)
                            };
                        }
                        let mut tile = match lanes / SHARE {
                            16 => tile!(16),
                            8 => tile!(8),
                            4 => tile!(4),
                            2 => tile!(2),
                            _ => tile!(1),
                        };
                        if ends.are_some {
                            let x: [Vector<T, S>; REGISTERS] = core::array::from_fn(
                                #[inline(always)]
                                |i| ends.of(simd, rows[i]),
                            );
                            for c in 0..COLUMNS {
                                for i in 0..REGISTERS {
                                    tile[c][i] = x[i].mul_add(y_ends[c], tile[c][i]);
                                }
                            }
                        }
                        for c in 0..COLUMNS {
                            if lanes >= rows_together {
                                sums[c][r] = Vector::fold_first::<REGISTERS, SHARE>(tile[c]);
                            } else {
                                for (result, sum) in results.0[c][group..].iter_mut().zip(tile[c]) {
                                    *result = sum.sum();
                                }
                            }
                        }
                    }
                    if lanes >= rows_together {
                        for c in 0..COLUMNS {
                            Vector::lane_sums(sums[c], apart).store(&mut results.0[c][group..]);
                        }
                    }
                }
                for c in 0..COLUMNS {
                    let out = &mut line_mut(&mut dst, c)[start..start + count];
                    let result = results.0[c];
                    match (<&mut [T; MAX_LANES]>::try_from(&mut *out), held) {
                        (Ok(out), Destination::Replace) => *out = result,
                        (_, Destination::Replace) => out.copy_from_slice(&result[..count]),
                        (_, Destination::Add) => {
                            for (out, x) in out.iter_mut().zip(result) {
                                *out = *out + x;
                            }
                        }
                    }
                }
            }
        },
    );
}

/// Σ over the parts that lines have whole, of rows times columns, lane by lane. Of a register, SHARE rows have a part each.
#[inline(always)]
fn dot_tile<
    T: Lanes,
    S: Simd,
    const PART: usize,
    const REGISTERS: usize,
    const SHARE: usize,
    const COLUMNS: usize,
>(
    simd: S,
    rows: [[&[T]; SHARE]; REGISTERS],
    columns: [&[T]; COLUMNS],
    ahead: &mut Ahead,
) -> [[Vector<T, S>; REGISTERS]; COLUMNS] {
    let steps = columns[0].len() / PART;
    let x: [[&[[T; PART]]; SHARE]; REGISTERS] = core::array::from_fn(
        #[inline(always)]
        |i| {
            core::array::from_fn(
                #[inline(always)]
                |part| &rows[i][part].as_chunks::<PART>().0[..steps],
            )
        },
    );
    let y: [&[[T; PART]]; COLUMNS] = core::array::from_fn(
        #[inline(always)]
        |c| &columns[c].as_chunks::<PART>().0[..steps],
    );
    let mut sums = [[Vector::splat(simd, T::ZERO); REGISTERS]; COLUMNS];
    for s in 0..steps {
        if asks_along::<S>(SHARE) {
            ahead.step(1);
        }
        // The shorter side stays in registers while the longer passes by.
        if REGISTERS <= COLUMNS {
            let x: [Vector<T, S>; REGISTERS] = core::array::from_fn(
                #[inline(always)]
                |i| Vector::join(simd, x[i], s),
            );
            for c in 0..COLUMNS {
                let y = Vector::join(simd, [y[c]; SHARE], s);
                for i in 0..REGISTERS {
                    sums[c][i] = x[i].mul_add(y, sums[c][i]);
                }
            }
        } else {
            let y: [Vector<T, S>; COLUMNS] = core::array::from_fn(
                #[inline(always)]
                |c| Vector::join(simd, [y[c]; SHARE], s),
            );
            for i in 0..REGISTERS {
                let x = Vector::join(simd, x[i], s);
                for c in 0..COLUMNS {
                    sums[c][i] = x.mul_add(y[c], sums[c][i]);
                }
            }
        }
    }
    sums
}

/// What is left of lines behind the parts that they have whole.
struct Ends<T: Lanes, S: Simd, const SHARE: usize> {
    are_some: bool,
    /// Of the last part of each line, the lanes that are not in the part before.
    fresh: Mask<T, S>,
}

impl<T: Lanes, S: Simd, const SHARE: usize> Ends<T, S, SHARE> {
    const PART: usize = Vector::<T, S>::COUNT / SHARE;

    #[inline(always)]
    fn new(simd: S, len: usize) -> Self {
        let common = len.next_multiple_of(Self::PART) - len;
        let lane: [T; MAX_LANES] = core::array::from_fn(
            #[inline(always)]
            |lane| T::from_f64((lane % Self::PART) as f64),
        );
        // common ≤ lane, that is common − ½ < lane
        let fresh = Vector::splat(simd, T::from_f64(common as f64 - 0.5)).less(Vector::load(simd, &lane));
        Self { are_some: common > 0, fresh }
    }

    /// The last part of each line; what it has in common with the one before counts as 0.
    #[inline(always)]
    fn of(&self, simd: S, lines: [&[T]; SHARE]) -> Vector<T, S> {
        let mut lanes = [T::ZERO; MAX_LANES];
        for (part, line) in lines.into_iter().enumerate() {
            lanes[part * Self::PART..(part + 1) * Self::PART]
                .copy_from_slice(&line[line.len() - Self::PART..]);
        }
        Vector::load(simd, &lanes).or_else(self.fresh, Vector::splat(simd, T::ZERO))
    }
}
