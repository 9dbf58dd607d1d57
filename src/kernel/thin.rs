//! A·B where B has few columns, for an A whose rows or whose columns are contiguous: no padding, no packing.
//!
//! A general product pads the few columns of B to whole registers, or copies A into another order. Here the lanes run
//! along the contiguous lines of A, whatever the number of columns:
//!
//! - **dot**: the lines of A are its rows. A tile of rows × columns of the result is that many sums of products of two
//!   registers; at the end each sum is one over its lanes, a register of rows at a time. Where rows are short, two
//!   share a register, half of it each: the sums over the lanes have a step less.
//! - **outer**: the lines of A are its columns. A tile of registers × columns of the result adds up line after line, each
//!   times one number of B.
//!
//! With X row-major the scores X·Θ are of the first kind and the gradient Xᵀ·R of the second; with X column-major they
//! swap.

use super::ahead::{Ahead, CACHE_LINE, Lines, MOST_SOON, prefetch};
use super::lanes::{Aligned, Lanes, MAX_LANES, Mask, Vector};
use crate::gemm::{Destination, Product};
use faer::{ColMut, ContiguousFwd, MatMut, MatRef};
use pulp::{Simd, WithSimd};

/// Most columns of B for which this was faster than a general product.
pub(crate) const THIN: usize = 32;

/// Fewest rows for an outer product: below, those that complete the last strip are too many.
const OUTER_ROWS: usize = 32;

/// A matrix of contiguous columns.
pub(super) type LinesMut<'a, T> = MatMut<'a, T, usize, usize, ContiguousFwd>;

/// A product whose A has contiguous rows, and B and the result contiguous columns.
pub(crate) struct Dot<'a, T> {
    dst: LinesMut<'a, T>,
    held: Destination,
    /// Aᵀ.
    a: Lines<'a, T>,
    b: Lines<'a, T>,
    /// The transpose of what is read next.
    next: Option<Lines<'a, T>>,
}

/// A product whose A has contiguous columns, and B and the result too.
pub(crate) struct Outer<'a, T> {
    dst: LinesMut<'a, T>,
    held: Destination,
    a: Lines<'a, T>,
    b: Lines<'a, T>,
    is_cold: bool,
    next: Option<Lines<'a, T>>,
}

/// A product, and which kernel is for it: that follows from the shape and the strides.
pub(crate) enum Thin<'a, T> {
    Dot(Dot<'a, T>),
    Outer(Outer<'a, T>),
    Neither(Product<'a, T>),
}

impl<'a, T: Lanes> Thin<'a, T> {
    pub(crate) fn new(product: Product<'a, T>) -> Self {
        let Product { dst, held, a, b, is_cold, next } = product;
        let (rows, depth) = a.shape();
        let is_thin = b.ncols() <= THIN && dst.row_stride() == 1;
        let is_dot = is_thin && rows > 0 && depth >= MAX_LANES;
        let is_outer = is_thin && rows >= OUTER_ROWS && depth > 0;
        match (a.transpose().try_as_col_major(), a.try_as_col_major(), b.try_as_col_major()) {
            (Some(a), _, Some(b)) if is_dot => {
                let next = next.and_then(|next| next.transpose().try_as_col_major());
                Self::Dot(Dot { dst: lines_mut(dst), held, a, b, next })
            }
            (_, Some(a), Some(b)) if is_outer => {
                let next = next.and_then(MatRef::try_as_col_major);
                Self::Outer(Outer { dst: lines_mut(dst), held, a, b, is_cold, next })
            }
            _ => Self::Neither(Product { dst, held, a, b, is_cold, next }),
        }
    }
}

impl<T: Lanes> WithSimd for Dot<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        dot(simd, self);
    }
}

impl<T: Lanes> WithSimd for Outer<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        outer(simd, self);
    }
}

/// A matrix whose columns are known to be contiguous, as one of that type.
#[inline(always)]
pub(super) fn lines_mut<T>(x: MatMut<'_, T>) -> LinesMut<'_, T> {
    match x.try_as_col_major_mut() {
        Some(x) => x,
        None => unreachable!("the stride was looked at"),
    }
}

/// A contiguous column as a slice.
#[inline(always)]
pub(super) fn column_mut<T>(x: ColMut<'_, T>) -> &mut [T] {
    match x.try_as_col_major_mut() {
        Some(x) => x.as_slice_mut(),
        None => &mut [],
    }
}

/// Whether a tile asks for what is read next within its loop, and not before it: where a step of the loop is long enough.
const fn asks_along<S: Simd>(share: usize) -> bool {
    S::REGISTER_COUNT >= 32 && share == 1
}

/// Most columns of a tile.
const MOST_COLUMNS: usize = 12;

/// Runs `$tile` on the columns in tiles of a constant number of them, as equal as possible.
macro_rules! for_columns {
    ($columns:expr, $most:expr, $($n:literal)*, |$first:ident, $COUNT:ident| $tile:expr) => {{
        let columns: usize = $columns;
        let tiles = columns.div_ceil($most);
        for tile in 0..tiles {
            let $first = columns * tile / tiles;
            match columns * (tile + 1) / tiles - $first {
                $($n => { const $COUNT: usize = $n; $tile })*
                _ => {}
            }
        }
    }};
}

/// Longest stretch of a line that is worked on at once: with a tile's columns it fits the first cache.
const STRETCH_BYTES: usize = 4 << 10;

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
fn dot<T: Lanes, S: Simd>(simd: S, product: Dot<'_, T>) {
    let Dot { mut dst, held, a, b, next } = product;
    let (rows, columns, depth) = (dst.nrows(), dst.ncols(), a.nrows());
    let lanes = Vector::<T, S>::COUNT;
    let is_short = lanes >= 8 && depth <= SHORT.min(8 * lanes);
    let stretches = depth.div_ceil(STRETCH_BYTES / size_of::<T>());
    let mut sums = [[Vector::splat(simd, T::ZERO); MAX_LANES / 2]; MOST_COLUMNS];
    // Stretches of the lines, so that a tile's columns stay in the first cache while the lines pass by.
    let bound = |stretch: usize| {
        if stretch == stretches { depth } else { depth * stretch / stretches / MAX_LANES * MAX_LANES }
    };
    for stretch in 0..stretches {
        let (from, to) = (bound(stretch), bound(stretch + 1));
        let held = if stretch > 0 { Destination::Add } else { held };
        let lines = a.subrows(from, to - from);
        let next = next.map(|next| next.subrows(from, to - from));
        macro_rules! tiles {
            ($registers:expr, $share:literal, $most:literal, $($n:literal)*) => {
                for_columns!(columns, $most, $($n)*, |first, COLUMNS| {
                    const REGISTERS: usize = $registers(COLUMNS);
                    let dst = dst.as_mut().subcols_mut(first, COLUMNS);
                    let columns = b.submatrix(from, first, to - from, COLUMNS);
                    let groups = rows.div_ceil(REGISTERS * $share);
                    // Tiles can differ in height: what is not asked for along the way, the first asks for.
                    let part = match asks_along::<S>($share) {
                        true => first..first + COLUMNS,
                        false if first == 0 => 0..b.ncols(),
                        false => 0..0,
                    };
                    let ahead = Ahead::new(next, groups, part, b.ncols());
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
    sums: &mut [[Vector<T, S>; MAX_LANES / 2]; MOST_COLUMNS],
    ahead: Ahead<'_, T>,
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
                        let at = (start + group) / rows_together + r;
                        let soon = if asks_along::<S>(SHARE) { ahead.of(at) } else { [&[][..]; MOST_SOON] };
                        let soon =
                            if asks_along::<S>(SHARE) { &soon[..ahead.count.min(MOST_SOON)] } else { &[] };
                        if !asks_along::<S>(SHARE) {
                            ahead.fetch(at);
                        }
                        macro_rules! tile {
                            ($part:literal) => {
                                dot_tile::<T, S, $part, REGISTERS, SHARE, COLUMNS>(simd, rows, columns, soon)
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
                    let out = &mut dst.as_mut().col_mut(c).as_slice_mut()[start..start + count];
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
    soon: &[&[T]],
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
        if asks_along::<S>(SHARE) && (s * PART).is_multiple_of(CACHE_LINE / size_of::<T>()) {
            soon.iter().filter_map(|line| line.get(s * PART)).for_each(prefetch);
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

#[inline(always)]
fn outer<T: Lanes, S: Simd>(simd: S, product: Outer<'_, T>) {
    let Outer { mut dst, mut held, a, b, is_cold, next } = product;
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
        let out = &mut dst.as_mut().col_mut(c).as_slice_mut()[from..from + width];
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
