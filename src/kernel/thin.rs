//! A·B where B has few columns, for an A whose rows or whose columns are contiguous: no padding, no packing.
//!
//! A general product pads the few columns of B to whole registers, or copies A into another order. Here the lanes run
//! along the contiguous lines of A, whatever the number of columns:
//!
//! - **dot**: the lines of A are its rows. A tile of rows × columns of the result is that many sums of products of two
//!   registers; at the end each sum is one over its lanes, a register of rows at a time.
//! - **outer**: the lines of A are its columns. A tile of registers × columns of the result adds up line after line, each
//!   times one number of B.
//!
//! With X row-major the scores X·Θ are of the first kind and the gradient Xᵀ·R of the second; with X column-major they
//! swap.

use super::lanes::{Lanes, MAX_LANES, Mask, Vector};
use crate::gemm::{Destination, Product};
use faer::{ColMut, ColRef, MatMut, MatRef};
use pulp::{Simd, WithSimd};

/// Most columns of B for which this was faster than a general product.
const THIN: usize = 32;

/// Fewest rows for an outer product: below, those that complete the last strip are too many.
const OUTER_ROWS: usize = 64;

/// A product whose A has contiguous rows.
pub(crate) struct Dot<'a, T>(pub(crate) Product<'a, T>);

/// A product whose A has contiguous columns.
pub(crate) struct Outer<'a, T>(pub(crate) Product<'a, T>);

impl<T: Lanes> Dot<'_, T> {
    pub(crate) fn suits(product: &Product<'_, T>) -> bool {
        product.a.col_stride() == 1 && product.a.ncols() >= MAX_LANES && has_thin_columns(product)
    }
}

impl<T: Lanes> Outer<'_, T> {
    pub(crate) fn suits(product: &Product<'_, T>) -> bool {
        let (rows, depth) = product.a.shape();
        product.a.row_stride() == 1 && rows >= OUTER_ROWS && depth > 0 && has_thin_columns(product)
    }
}

/// Whether B and the result are narrow, and have contiguous columns.
fn has_thin_columns<T: Lanes>(product: &Product<'_, T>) -> bool {
    product.b.ncols() <= THIN && product.b.row_stride() == 1 && product.dst.row_stride() == 1
}

impl<T: Lanes> WithSimd for Dot<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        dot(simd, self.0);
    }
}

impl<T: Lanes> WithSimd for Outer<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        outer(simd, self.0);
    }
}

#[inline(always)]
fn column<T>(x: ColRef<'_, T>) -> &[T] {
    x.try_as_col_major().map_or(&[], ColRef::as_slice)
}

/// A contiguous column as a slice.
#[inline(always)]
pub(super) fn column_mut<T>(x: ColMut<'_, T>) -> &mut [T] {
    match x.try_as_col_major_mut() {
        Some(x) => x.as_slice_mut(),
        None => &mut [],
    }
}

/// Asks for the cache line of x, without waiting for it.
#[inline(always)]
fn prefetch<T>(x: &T) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        sse._mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T1 }>(core::ptr::from_ref(x).cast());
    }
}

/// Asks for contiguous rows, a few cache lines at each step: as many steps as a product has tiles, since one alone has
/// not the time that memory needs.
struct Ahead<'a, T> {
    rows: Option<MatRef<'a, T>>,
    row: usize,
    column: usize,
    lines_per_step: usize,
}

impl<'a, T> Ahead<'a, T> {
    /// Numbers in a cache line.
    const LINE: usize = 64 / size_of::<T>();

    #[inline(always)]
    fn new(rows: Option<MatRef<'a, T>>, steps: usize) -> Self {
        let rows = rows.filter(|rows| rows.col_stride() == 1);
        let lines = rows.map_or(0, |rows| rows.nrows() * rows.ncols().div_ceil(Self::LINE));
        Self { rows, row: 0, column: 0, lines_per_step: lines.div_ceil(steps.max(1)) }
    }

    #[inline(always)]
    fn step(&mut self) {
        let Some(rows) = self.rows else { return };
        let mut left = self.lines_per_step;
        while left > 0 && self.row < rows.nrows() {
            let rest = &column(rows.row(self.row).transpose())[self.column..];
            let lines = left.min(rest.len().div_ceil(Self::LINE));
            for line in 0..lines {
                prefetch(&rest[line * Self::LINE]);
            }
            left -= lines;
            self.column += lines * Self::LINE;
            if self.column >= rows.ncols() {
                (self.row, self.column) = (self.row + 1, 0);
            }
        }
    }
}

/// Most columns of a tile.
const MOST_COLUMNS: usize = 6;

/// Runs `$tile` on the columns in tiles of a constant number of them, as equal as possible.
macro_rules! for_columns {
    ($columns:expr, |$first:ident, $COUNT:ident| $tile:expr) => {{
        let columns: usize = $columns;
        let tiles = columns.div_ceil(MOST_COLUMNS);
        for tile in 0..tiles {
            let $first = columns * tile / tiles;
            for_columns!(@match columns * (tile + 1) / tiles - $first, $COUNT, $tile, 1 2 3 4 5 6)
        }
    }};
    (@match $count:expr, $COUNT:ident, $tile:expr, $($n:literal)*) => {
        match $count {
            $($n => { const $COUNT: usize = $n; $tile })*
            _ => {}
        }
    };
}

/// Longest stretch of a line that is worked on at once: with a tile's columns it fits half of the first cache.
const STRETCH_BYTES: usize = 4 << 10;

/// Lines that are worked on together.
const LINES: usize = 64;

/// The same of columns each on a page of its own: with those asked for meanwhile, they are no more pages than the processor
/// has the addresses of at hand.
const FAR_LINES: usize = 16;

/// Bytes of a page of memory.
const PAGE: usize = 4 << 10;

/// The first lines of A's columns, at most [`LINES`].
#[inline(always)]
fn lines_of<T>(a: MatRef<'_, T>) -> [&[T]; LINES] {
    let mut lines: [&[T]; LINES] = [&[]; LINES];
    for (line, x) in lines.iter_mut().zip(a.col_iter()) {
        *line = column(x);
    }
    lines
}

#[inline(always)]
fn dot<T: Lanes, S: Simd>(simd: S, product: Product<'_, T>) {
    let Product { mut dst, held, a, b, next } = product;
    let (rows, columns, depth) = (dst.nrows(), dst.ncols(), a.ncols());
    let stretches = depth.div_ceil(STRETCH_BYTES / size_of::<T>());
    // Tiles have at most four rows.
    let mut ahead = Ahead::new(next, rows.div_ceil(4) * columns.div_ceil(MOST_COLUMNS) * stretches);
    let mut sums = [[Vector::splat(simd, T::ZERO); MAX_LANES]; MOST_COLUMNS];
    for start in (0..rows).step_by(LINES) {
        let count = LINES.min(rows - start);
        // Stretches of the lines, so that a tile's columns stay in the first cache while the lines pass by.
        let bound = |stretch: usize| {
            if stretch == stretches { depth } else { depth * stretch / stretches / MAX_LANES * MAX_LANES }
        };
        for stretch in 0..stretches {
            let (from, to) = (bound(stretch), bound(stretch + 1));
            let held = if stretch > 0 { Destination::Add } else { held };
            let lines = a.submatrix(start, from, count, to - from);
            for_columns!(columns, |first, COLUMNS| {
                let dst = dst.as_mut().submatrix_mut(start, first, count, COLUMNS);
                let columns: [&[T]; COLUMNS] = core::array::from_fn(
                    #[inline(always)]
                    |c| &column(b.col(first + c))[from..to],
                );
                // As many sums as there are registers for, beside a row's and a column's.
                if S::REGISTER_COUNT >= 32 || COLUMNS <= 3 {
                    dot_groups::<T, S, 4, COLUMNS>(simd, dst, held, lines, columns, &mut sums, &mut ahead);
                } else {
                    dot_groups::<T, S, 2, COLUMNS>(simd, dst, held, lines, columns, &mut sums, &mut ahead);
                }
            });
        }
    }
}

/// Groups of as many rows as the widest register has lanes.
#[inline(always)]
fn dot_groups<T: Lanes, S: Simd, const ROWS: usize, const COLUMNS: usize>(
    simd: S,
    mut dst: MatMut<'_, T>,
    held: Destination,
    lines: MatRef<'_, T>,
    columns: [&[T]; COLUMNS],
    sums: &mut [[Vector<T, S>; MAX_LANES]; MOST_COLUMNS],
    ahead: &mut Ahead<'_, T>,
) {
    let lanes = Vector::<T, S>::COUNT;
    let depth = columns[0].len();
    let whole = depth / lanes * lanes;
    // The last line again in place of those that complete a group.
    let last = lines.nrows() - 1;
    // The register that ends with a line; what it has in common with the one before counts as 0.
    let (fresh, zero) = (fresh::<T, S>(simd, depth), Vector::splat(simd, T::ZERO));
    let ends: [Vector<T, S>; COLUMNS] = core::array::from_fn(
        #[inline(always)]
        |c| Vector::load(simd, &columns[c][depth - lanes..]).or_else(fresh, zero),
    );
    // Rows of a tile are so far apart that its sums can be folded into a register before they leave it.
    let (together, apart) = if lanes >= ROWS { (lanes, lanes / ROWS) } else { (ROWS, 1) };
    for start in (0..dst.nrows()).step_by(MAX_LANES) {
        let count = MAX_LANES.min(dst.nrows() - start);
        let mut results = [[T::ZERO; MAX_LANES]; COLUMNS];
        for group in (0..count).step_by(together) {
            // Of the tiles, those that have a row which is wanted: their first.
            for r in 0..apart.min(count - group) {
                let rows: [&[T]; ROWS] = core::array::from_fn(
                    #[inline(always)]
                    |i| column(lines.row((start + group + r + i * apart).min(last)).transpose()),
                );
                ahead.step();
                let mut tile = dot_tile(simd, rows, columns, whole);
                if whole < depth {
                    let x: [Vector<T, S>; ROWS] = core::array::from_fn(
                        #[inline(always)]
                        |i| Vector::load(simd, &rows[i][depth - lanes..]).or_else(fresh, zero),
                    );
                    for c in 0..COLUMNS {
                        for i in 0..ROWS {
                            tile[c][i] = x[i].mul_add(ends[c], tile[c][i]);
                        }
                    }
                }
                for c in 0..COLUMNS {
                    if lanes >= ROWS {
                        sums[c][r] = Vector::fold_first(tile[c]);
                    } else {
                        for (result, sum) in results[c][group..].iter_mut().zip(tile[c]) {
                            *result = sum.sum();
                        }
                    }
                }
            }
            if lanes >= ROWS {
                for c in 0..COLUMNS {
                    Vector::lane_sums(sums[c], apart).store(&mut results[c][group..]);
                }
            }
        }
        for c in 0..COLUMNS {
            let out = &mut column_mut(dst.as_mut().col_mut(c))[start..start + count];
            let result = results[c];
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
}

/// Σ over the first `whole` elements of rows times columns, lane by lane.
#[inline(always)]
fn dot_tile<T: Lanes, S: Simd, const ROWS: usize, const COLUMNS: usize>(
    simd: S,
    rows: [&[T]; ROWS],
    columns: [&[T]; COLUMNS],
    whole: usize,
) -> [[Vector<T, S>; ROWS]; COLUMNS] {
    let steps = whole / Vector::<T, S>::COUNT;
    let x: [&[T::Register<S>]; ROWS] = core::array::from_fn(
        #[inline(always)]
        |i| &T::split::<S>(rows[i]).0[..steps],
    );
    let y: [&[T::Register<S>]; COLUMNS] = core::array::from_fn(
        #[inline(always)]
        |c| &T::split::<S>(columns[c]).0[..steps],
    );
    let mut sums = [[Vector::splat(simd, T::ZERO); ROWS]; COLUMNS];
    for s in 0..steps {
        // The shorter side stays in registers while the longer passes by.
        if ROWS <= COLUMNS {
            let x: [Vector<T, S>; ROWS] = core::array::from_fn(
                #[inline(always)]
                |i| Vector::of(simd, [x[i][s]]),
            );
            for c in 0..COLUMNS {
                let y = Vector::of(simd, [y[c][s]]);
                for i in 0..ROWS {
                    sums[c][i] = x[i].mul_add(y, sums[c][i]);
                }
            }
        } else {
            let y: [Vector<T, S>; COLUMNS] = core::array::from_fn(
                #[inline(always)]
                |c| Vector::of(simd, [y[c][s]]),
            );
            for i in 0..ROWS {
                let x = Vector::of(simd, [x[i][s]]);
                for c in 0..COLUMNS {
                    sums[c][i] = x.mul_add(y[c], sums[c][i]);
                }
            }
        }
    }
    sums
}

/// Of the last register of a line, which lanes are not in the register before.
#[inline(always)]
fn fresh<T: Lanes, S: Simd>(simd: S, len: usize) -> Mask<T, S> {
    let lanes = Vector::<T, S>::COUNT;
    let common = len.div_ceil(lanes) * lanes - len;
    // common ≤ lane, that is common − ½ < lane
    Vector::splat(simd, T::from_f64(common as f64 - 0.5)).less(Vector::load(simd, &T::IOTA))
}

#[inline(always)]
fn outer<T: Lanes, S: Simd>(simd: S, product: Product<'_, T>) {
    let Product { mut dst, mut held, a, b, next } = product;
    let (depth, columns) = (a.ncols(), dst.ncols());
    let are_far = a.col_stride().unsigned_abs() * size_of::<T>() >= PAGE;
    let together = if are_far { FAR_LINES } else { LINES };
    for start in (0..depth).step_by(together) {
        let count = together.min(depth - start);
        let lines = lines_of(a.subcols(start, count));
        let lines = &lines[..count];
        // What is read next is fetched evenly over the tiles, since one alone has not the time that memory needs. Far lines
        // come from memory now: of them, the next ones.
        let following = start + count;
        let (from, at) = match next {
            _ if are_far && following < depth => (Some(a), following),
            next if are_far => (next, 0),
            next => (next, start),
        };
        let soon = from.map(|x| x.subcols(at.min(x.ncols()), together.min(x.ncols().saturating_sub(at))));
        let next_lines = soon.map_or([&[][..]; LINES], lines_of);
        let next_count = soon.map_or(0, |soon| soon.ncols());
        for_columns!(columns, |first, COLUMNS| {
            let y: [&[T]; COLUMNS] = core::array::from_fn(
                #[inline(always)]
                |c| &column(b.col(first + c))[start..start + count],
            );
            let dst = dst.as_mut().subcols_mut(first, COLUMNS);
            let soon = &next_lines[next_count * first / columns..next_count * (first + COLUMNS) / columns];
            // As many sums as there are registers for, beside a line's.
            if S::REGISTER_COUNT >= 32 || COLUMNS <= 2 {
                outer_strips::<T, S, 4, COLUMNS>(simd, dst, held, lines, y, soon);
            } else {
                outer_strips::<T, S, 2, COLUMNS>(simd, dst, held, lines, y, soon);
            }
        });
        held = Destination::Add;
    }
}

#[inline(always)]
fn outer_strips<T: Lanes, S: Simd, const REGISTERS: usize, const COLUMNS: usize>(
    simd: S,
    mut dst: MatMut<'_, T>,
    held: Destination,
    lines: &[&[T]],
    y: [&[T]; COLUMNS],
    soon: &[&[T]],
) {
    let rows = dst.nrows();
    let mut done = 0;
    while done < rows {
        if rows >= REGISTERS * Vector::<T, S>::COUNT {
            done = outer_tile::<T, S, REGISTERS, COLUMNS>(simd, dst.as_mut(), held, lines, y, soon, done);
        } else {
            done = outer_tile::<T, S, 1, COLUMNS>(simd, dst.as_mut(), held, lines, y, soon, done);
        }
    }
}

/// A strip from row `done` on, or the last of the whole matrix, and where the next starts.
#[inline(always)]
fn outer_tile<T: Lanes, S: Simd, const REGISTERS: usize, const COLUMNS: usize>(
    simd: S,
    mut dst: MatMut<'_, T>,
    held: Destination,
    lines: &[&[T]],
    y: [&[T]; COLUMNS],
    soon: &[&[T]],
    done: usize,
) -> usize {
    let lanes = Vector::<T, S>::COUNT;
    let width = REGISTERS * lanes;
    let from = done.min(dst.nrows() - width);
    let y: [&[T]; COLUMNS] = core::array::from_fn(
        #[inline(always)]
        |c| &y[c][..lines.len()],
    );
    let mut acc = [[Vector::splat(simd, T::ZERO); COLUMNS]; REGISTERS];
    soon.iter().filter_map(|line| line.get(from)).for_each(prefetch);
    for (t, line) in lines.iter().enumerate() {
        let x = T::split::<S>(&line[from..from + width]).0;
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
        let out = &mut column_mut(dst.as_mut().col_mut(c))[from..from + width];
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
    from + width
}
