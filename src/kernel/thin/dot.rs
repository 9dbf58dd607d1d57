//! Sums of products, lanes along the rows of A.

use super::turned::{turned, turned_rows};
use super::{STREAMED_LINES, asks_along, for_columns};
use crate::gemm::Destination;
use crate::kernel::ahead::{Ahead, Span};
use crate::kernel::lanes::{Lanes, MAX_LANES};
use crate::kernel::level::SimdLevel;
use crate::kernel::lines::{Lines, LinesMut, line_mut};
use crate::kernel::registers::{has_many_registers, is_widest};
use crate::kernel::vector::{Aligned, Mask, Vector};
use core::ops::Range;
use pulp::{Simd, WithSimd, bytemuck};

/// A product whose A has contiguous rows, and B and the result contiguous columns.
pub(crate) struct Dot<'a, T> {
    pub(super) dst: LinesMut<'a, T>,
    pub(super) held: Destination,
    /// Aᵀ.
    pub(super) a: Lines<'a, T>,
    pub(super) b: Lines<'a, T>,
    pub(super) is_streamed: bool,
    pub(super) next: Span,
    /// Rows of the product that this is all or a piece of: whether they are turned follows from that.
    pub(super) total: usize,
}

impl<T: Lanes> WithSimd for &mut Dot<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (rows, mut whole) = (self.dst.nrows(), 0);
        // In a constant, here and below, so that nothing is compiled for a level that does not use it.
        if const { is_widest::<S>() } {
            whole = turned_rows::<T, S>(self);
            if whole > 0 {
                turned(simd, self.part(0..whole));
                self.next = Span::NOTHING;
            }
        }
        if whole < rows {
            dot(simd, self.part(whole..rows));
        }
    }
}

impl<T> Dot<'_, T> {
    /// Some rows of the result.
    #[inline(always)]
    fn part(&mut self, rows: Range<usize>) -> Dot<'_, T> {
        let (start, count) = (rows.start, rows.len());
        Dot { dst: self.dst.as_mut().subrows_mut(start, count), a: self.a.subcols(start, count), ..*self }
    }
}

/// Longest stretch of a line that is worked on at once: with a tile's columns it fits the first cache, but for tiles of many
/// registers, which use each number so often that it may come from the second. Not so if the lines do not follow each other in
/// memory, as those of a column-major X: then it comes late.
const fn stretch_bytes<S: Simd>(follow: bool) -> usize {
    if has_many_registers::<S>() && follow { 8 << 10 } else { 4 << 10 }
}

/// Whether lines follow each other in memory, as the rows of a row-major matrix do.
pub(super) fn follow<T>(lines: Lines<'_, T>) -> bool {
    lines.col_stride().unsigned_abs() <= 2 * lines.nrows()
}

#[inline(always)]
fn dot<T: Lanes, S: Simd>(simd: S, product: Dot<'_, T>) {
    let Dot { mut dst, held, a, b, is_streamed, next, .. } = product;
    let (rows, columns, depth) = (dst.nrows(), dst.ncols(), a.nrows());
    let lanes = Vector::<T, S>::COUNT;
    // Halves of four lanes pay only for pairs of columns, in tiles of two rows.
    let has_halves = lanes >= 8 || (lanes == 4 && !has_many_registers::<S>() && columns >= PAIRED);
    let is_short = has_halves && depth <= SHORT * lanes / 2 && rows >= SHARING_ROWS;
    let follow = follow(a);
    let stretches = depth.div_ceil(stretch_bytes::<S>(follow) / size_of::<T>());
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
            ($shape:expr, $share:literal, $most:literal, $by:literal, $($n:literal)*) => {
                for_columns!(columns, $most, $by, $($n)*, |first, COLUMNS| {
                    const SHAPE: Shape = $shape(COLUMNS);
                    const ROWS: usize = SHAPE.rows;
                    const REGISTERS: usize = SHAPE.registers;
                    const BY_COLUMNS: bool = SHAPE.by_columns;
                    let ahead = ahead.get_or_insert_with(|| {
                        let rows_each = if BY_COLUMNS { 1 } else { $share };
                        let tiles = lines.ncols().div_ceil(ROWS * rows_each) * columns.div_ceil($most);
                        let steps = if asks_along::<S>($share) { lines.nrows() / lanes } else { 1 };
                        Ahead::new(soon, tiles * steps * passes)
                    });
                    let dst = dst.as_mut().subcols_mut(first, COLUMNS);
                    let columns = b.submatrix(from, first, to - from, COLUMNS);
                    let mut sums = [[Vector::splat(simd, T::ZERO); MAX_LANES / 2]; REGISTERS];
                    dot_groups::<T, S, ROWS, REGISTERS, $share, BY_COLUMNS>(
                        simd, dst, held, lines, columns, &mut sums, ahead,
                    );
                })
            };
        }
        // As many sums as there are registers for, beside a row's and a column's.
        if const { has_many_registers::<S>() } {
            if is_short {
                tiles!(Shape::shared, 2, 12, 2, 1 2 3 4 5 6 7 8 9 10 11 12);
            } else {
                tiles!(Shape::tall, 1, 5, 1, 1 2 3 4 5);
            }
        } else if const { Vector::<T, S>::COUNT >= 4 } && is_short {
            tiles!(Shape::paired, 2, 12, 2, 1 2 3 4 5 6 7 8 9 10 11 12);
        } else {
            tiles!(Shape::flat, 1, 6, 1, 1 2 3 4 5 6);
        }
    }
}

/// A tile: registers that rows fill or share, and those that columns do, and whether it is columns that share.
struct Shape {
    rows: usize,
    registers: usize,
    by_columns: bool,
}

/// Rows of a tile, but where many columns leave no registers for so many.
const TILE_ROWS: usize = 4;

/// So many rows, to whole tiles and to whole registers of numbers of so many bytes.
pub(crate) fn filled(rows: usize, size: usize, level: SimdLevel) -> [usize; 2] {
    [TILE_ROWS, level.registers().lanes(size)].map(|by| rows.next_multiple_of(by))
}

impl Shape {
    const fn tall(columns: usize) -> Self {
        Self { rows: TILE_ROWS, registers: columns, by_columns: false }
    }

    const fn flat(columns: usize) -> Self {
        Self { rows: if columns <= 3 { TILE_ROWS } else { 2 }, registers: columns, by_columns: false }
    }

    /// Columns share registers if none is left alone: then a row goes to both halves of one at once.
    const fn shared(columns: usize) -> Self {
        if columns.is_multiple_of(2) && columns >= 4 {
            Self { rows: TILE_ROWS, registers: columns / 2, by_columns: true }
        } else {
            Self::flat(columns)
        }
    }

    /// The same where registers are few. A column that is left alone has both halves: three columns by four rows that share
    /// registers are a sum too many, and seven are far too many.
    const fn paired(columns: usize) -> Self {
        match columns {
            3 | 4 => Self { rows: TILE_ROWS, registers: 2, by_columns: true },
            PAIRED.. => Self { rows: 2, registers: columns.div_ceil(2), by_columns: true },
            _ => Self::flat(columns),
        }
    }
}

/// Columns from which on pairs of them are worth one tile for all of them.
const PAIRED: usize = 7;

/// Rows from which on it pays to share registers: for fewer, to bring columns together takes longer than it saves.
pub(super) const SHARING_ROWS: usize = 16;

/// Halves of registers that a short row fills, at most.
const SHORT: usize = 32;

/// The same of rows so short that a place for longer ones would take longer to clear than it is used.
const FEW: usize = 16;

/// Groups of as many rows as a register has lanes, or as a tile has.
///
/// A function of its own, for each height and width of a tile, so that none keeps in registers what another needs.
#[inline(never)]
fn dot_groups<
    T: Lanes,
    S: Simd,
    const ROWS: usize,
    const REGISTERS: usize,
    const SHARE: usize,
    const BY_COLUMNS: bool,
>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    held: Destination,
    lines: Lines<'_, T>,
    columns: Lines<'_, T>,
    sums: &mut [[Vector<T, S>; MAX_LANES / 2]; REGISTERS],
    ahead: &mut Ahead,
) {
    simd.vectorize(
        #[inline(always)]
        move || {
            let lanes = Vector::<T, S>::COUNT;
            let rows_each = const { if BY_COLUMNS { 1 } else { SHARE } };
            let columns_each = const { if BY_COLUMNS { SHARE } else { 1 } };
            let columns: [[&[T]; SHARE]; REGISTERS] = core::array::from_fn(
                #[inline(always)]
                |c| {
                    core::array::from_fn(
                        #[inline(always)]
                        |part| {
                            let column = c * columns_each + part % columns_each;
                            columns.col(column.min(columns.ncols() - 1)).as_slice()
                        },
                    )
                },
            );
            let zero = Vector::<T, S>::splat(simd, T::ZERO).register();
            let (mut few, mut many);
            let y: [&[T]; REGISTERS] = if BY_COLUMNS && lines.nrows() <= FEW * lanes / SHARE {
                few = Aligned([[zero; FEW]; REGISTERS]);
                join_columns::<T, S, REGISTERS, SHARE, FEW>(columns, &mut few.0)
            } else if BY_COLUMNS {
                many = Aligned([[zero; SHORT]; REGISTERS]);
                join_columns::<T, S, REGISTERS, SHARE, SHORT>(columns, &mut many.0)
            } else {
                core::array::from_fn(
                    #[inline(always)]
                    |c| columns[c][0],
                )
            };
            let ends = Ends::<T, S, SHARE>::new(simd, lines.nrows());
            let y_ends: [Vector<T, S>; REGISTERS] = core::array::from_fn(
                #[inline(always)]
                |c| ends.of(simd, columns[c]),
            );
            // Where a register has a lane for each row, the sums are folded before they leave the registers.
            let rows_together = ROWS * rows_each;
            // Else sums of both halves would be folded into one.
            assert!(!BY_COLUMNS || ROWS * columns_each <= lanes);
            let folds = lanes >= rows_together;
            let (together, tiles) = if folds { (lanes, lanes / rows_together) } else { (rows_together, 1) };
            // The last line again in place of those that complete a group.
            let last = lines.ncols() - 1;
            for start in (0..dst.nrows()).step_by(together) {
                let end = dst.nrows().min(start + together);
                for tile in 0..tiles {
                    let first = tile * ROWS;
                    if start + Vector::<T, S>::lane_of(first, 0, rows_each) >= end {
                        break;
                    }
                    let rows: [[&[T]; SHARE]; ROWS] = core::array::from_fn(
                        #[inline(always)]
                        |i| {
                            core::array::from_fn(
                                #[inline(always)]
                                |part| {
                                    let lane =
                                        Vector::<T, S>::lane_of(first + i, part % rows_each, rows_each);
                                    lines.col((start + lane).min(last)).as_slice()
                                },
                            )
                        },
                    );
                    if !asks_along::<S>(SHARE) {
                        ahead.step(1);
                    }
                    // The ends first: after the rest, each sum would be moved to another place for them.
                    let mut products = [[Vector::<T, S>::splat(simd, T::ZERO); ROWS]; REGISTERS];
                    if ends.are_some {
                        let x = core::array::from_fn::<_, ROWS, _>(
                            #[inline(always)]
                            |i| ends.of(simd, rows[i]),
                        );
                        for c in 0..REGISTERS {
                            for i in 0..ROWS {
                                products[c][i] = x[i] * y_ends[c];
                            }
                        }
                    }
                    macro_rules! products {
                        ($part:literal) => {
                            dot_tile::<T, S, $part, ROWS, REGISTERS, SHARE, BY_COLUMNS>(
                                simd, rows, y, products, ahead,
                            )
                        };
                    }
                    let products = match const { Vector::<T, S>::COUNT / SHARE } {
                        16 => products!(16),
                        8 => products!(8),
                        4 => products!(4),
                        2 => products!(2),
                        _ => products!(1),
                    };
                    for c in 0..REGISTERS {
                        if folds {
                            sums[c][tile] = Vector::fold_first(products[c]);
                        } else {
                            let out = &mut line_mut(&mut dst, c)[start..end];
                            for (out, products) in out.iter_mut().zip(products[c]) {
                                let sum = products.sum();
                                *out = if held == Destination::Add { *out + sum } else { sum };
                            }
                        }
                    }
                }
                if folds {
                    for c in 0..REGISTERS {
                        let sums = Vector::lane_sums(sums[c], tiles, ROWS, columns_each);
                        for part in 0..columns_each {
                            let column = c * columns_each + part;
                            if column < dst.ncols() {
                                let out = &mut line_mut(&mut dst, column)[start..end];
                                let mut sum = sums[part];
                                if held == Destination::Add {
                                    sum = sum + Vector::load_padded(simd, out, T::ZERO);
                                }
                                sum.store_padded(out);
                            }
                        }
                    }
                }
            }
        },
    );
}

/// Of columns that share registers, register by register: the parts that they have whole.
#[inline(always)]
fn join_columns<'a, T: Lanes, S: Simd, const REGISTERS: usize, const SHARE: usize, const MOST: usize>(
    columns: [[&[T]; SHARE]; REGISTERS],
    joined: &'a mut [[T::Register<S>; MOST]; REGISTERS],
) -> [&'a [T]; REGISTERS] {
    let part = Vector::<T, S>::COUNT / SHARE;
    for c in 0..REGISTERS {
        let joined: &mut [T] = bytemuck::cast_slice_mut(&mut joined[c]);
        for at in 0..SHARE {
            let parts = columns[c][at].chunks_exact(part);
            for (joined, own) in joined.chunks_exact_mut(SHARE * part).zip(parts) {
                joined[at * part..(at + 1) * part].copy_from_slice(own);
            }
        }
    }
    core::array::from_fn(
        #[inline(always)]
        |c| bytemuck::cast_slice(&joined[c]),
    )
}

/// To `sums` added, lane by lane: Σ over the parts that lines have whole, of rows times columns. Of a register, SHARE rows or
/// columns have a part each.
#[inline(always)]
fn dot_tile<
    T: Lanes,
    S: Simd,
    const PART: usize,
    const ROWS: usize,
    const REGISTERS: usize,
    const SHARE: usize,
    const BY_COLUMNS: bool,
>(
    simd: S,
    rows: [[&[T]; SHARE]; ROWS],
    columns: [&[T]; REGISTERS],
    mut sums: [[Vector<T, S>; ROWS]; REGISTERS],
    ahead: &mut Ahead,
) -> [[Vector<T, S>; ROWS]; REGISTERS] {
    let steps = rows[0][0].len() / PART;
    let x: [[&[[T; PART]]; SHARE]; ROWS] = core::array::from_fn(
        #[inline(always)]
        |i| {
            core::array::from_fn(
                #[inline(always)]
                |part| &rows[i][part].as_chunks::<PART>().0[..steps],
            )
        },
    );
    // Whole registers, or parts.
    let y: [&[T::Register<S>]; REGISTERS] = core::array::from_fn(
        #[inline(always)]
        |c| if BY_COLUMNS { &T::split::<S>(columns[c]).0[..steps] } else { &[] },
    );
    let y_parts: [&[[T; PART]]; REGISTERS] = core::array::from_fn(
        #[inline(always)]
        |c| if BY_COLUMNS { &[] } else { &columns[c].as_chunks::<PART>().0[..steps] },
    );
    let y_at = |c: usize, s: usize| {
        if BY_COLUMNS { Vector::of(simd, [y[c][s]]) } else { Vector::join(simd, [y_parts[c]; SHARE], s) }
    };
    for s in 0..steps {
        if asks_along::<S>(SHARE) {
            ahead.step(1);
        }
        // The shorter side stays in registers while the longer passes by.
        if ROWS <= REGISTERS {
            let x: [Vector<T, S>; ROWS] = core::array::from_fn(
                #[inline(always)]
                |i| Vector::join(simd, x[i], s),
            );
            for c in 0..REGISTERS {
                let y = y_at(c, s);
                for i in 0..ROWS {
                    sums[c][i] = x[i].mul_add(y, sums[c][i]);
                }
            }
        } else {
            let y: [Vector<T, S>; REGISTERS] = core::array::from_fn(
                #[inline(always)]
                |c| y_at(c, s),
            );
            for i in 0..ROWS {
                let x = Vector::join(simd, x[i], s);
                for c in 0..REGISTERS {
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
