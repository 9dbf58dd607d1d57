//! A·B where B has many columns, on registers of 256 bits or more.
//!
//! The blocking is that of Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication", ACM Transactions on
//! Mathematical Software 34(3), 2008). A panel of A, which the second-level cache holds, is copied into the order in which
//! it is read: strips of two registers of rows, one depth after the other. Then come the columns of B, a few at a time,
//! copied to where the first-level cache keeps them. Each strip passes by these, and a tile of registers × columns of the
//! result adds up.
//!
//! A number of the result is a chain of multiply-adds for each stretch of the depth, and these are added in their order: its
//! bits do not depend on the pieces that the result is cut into.

use super::ahead::{Ahead, CACHE_LINE, each_line, prefetch};
use super::lanes::{Lanes, MAX_LANES};
use super::level::SimdLevel;
use super::lines::{By, Lines, LinesMut, line_mut, lines_mut};
use super::registers::{has_many_registers, is_wide, is_widest};
use super::shuffle::{BLOCK_BYTES, by_blocks};
use super::vector::{Aligned, Vector};
use crate::gemm::{Destination, Product};
use core::cell::Cell;
use pulp::{Simd, WithSimd, bytemuck};

/// Bytes of a panel: half of a second-level cache, of 2 MiB or of 512 KiB.
const fn panel_bytes<S: Simd>() -> usize {
    if is_widest::<S>() { 1 << 20 } else { 256 << 10 }
}

/// Bytes of a stretch of a column of B, and of a panel's row.
const STRETCH_BYTES: usize = 1 << 10;

/// Registers of a strip.
const STRIP: usize = 2;

/// Columns of a tile where a level has 32 registers.
const COLUMNS: usize = 12;

/// The same where it has 16.
const FEW_COLUMNS: usize = 6;

/// Columns of a tile where fewer are left.
const LAST_COLUMNS: usize = 4;

/// Columns of A from one that is copied to one that is asked for.
const COLUMNS_AHEAD: usize = 16;

/// Depths of a strip from one that is multiplied to one that is asked for, where a level has 32 registers.
const DEPTHS_AHEAD: usize = 4;

/// Depths for one test of whether there are more, where a level has 16 registers: a core that another program shares is short of
/// instructions before it is short of multiply-adds.
const AT_ONCE: usize = 8;

/// Depths of a tile that are multiplied before some more is fetched: of the tile's place, and of the next columns of B.
const DEPTHS_TOGETHER: usize = 64;

/// Bytes of the matrices of a product up to which a general kernel is faster.
const CACHED_BYTES: usize = 2 << 20;

/// Fewest rows of a result: each uses all that is copied of B.
const FEWEST_ROWS: usize = 256;

/// Fewest columns of a result: each uses all that is copied of A.
const FEWEST_COLUMNS: usize = 64;

/// Least depth: after each stretch the result is written.
const LEAST_DEPTH: usize = 128;

thread_local! {
    /// Room for a panel.
    static ROOM: Cell<Vec<f64>> = const { Cell::new(Vec::new()) };
}

/// A product of matrices that have contiguous lines.
pub(crate) struct Wide<'a, T> {
    /// By its columns.
    dst: LinesMut<'a, T>,
    held: Destination,
    a: By<'a, T>,
    b: By<'a, T>,
    depth: usize,
}

impl<'a, T: Lanes> Wide<'a, T> {
    /// Whether this kernel is faster than a general one, which is best at what a cache holds. That follows from the shape,
    /// the strides and the level.
    pub(crate) fn suits(product: &Product<'_, T>, level: SimdLevel) -> bool {
        let (dst, a, b) = (product.dst.as_ref(), product.a, product.b);
        let (dst, a, b) = match dst.row_stride() {
            1 => (dst, a, b),
            _ => (dst.transpose(), b.transpose(), a.transpose()),
        };
        let (rows, columns, depth) = (dst.nrows(), dst.ncols(), a.ncols());
        let numbers =
            rows.saturating_mul(depth).saturating_add(columns.saturating_mul(rows.saturating_add(depth)));
        numbers.saturating_mul(size_of::<T>()) >= CACHED_BYTES
            && rows >= FEWEST_ROWS
            && depth >= LEAST_DEPTH
            && columns >= FEWEST_COLUMNS
            && dst.row_stride() == 1
            && By::new(a).is_some()
            && By::new(b).is_some()
            && level.registers().are_wide()
    }

    /// A product whose matrices have contiguous lines; any other comes back.
    #[expect(clippy::result_large_err, reason = "it is the product, to be carried out by another kernel")]
    pub(crate) fn new(product: Product<'a, T>) -> Result<Self, Product<'a, T>> {
        let product = if product.dst.row_stride() == 1 { product } else { product.transposed() };
        match (By::new(product.a), By::new(product.b)) {
            (Some(a), Some(b)) if product.dst.row_stride() == 1 => {
                Ok(Self { depth: product.a.ncols(), dst: lines_mut(product.dst), held: product.held, a, b })
            }
            _ => Err(product),
        }
    }
}

impl<T: Lanes> WithSimd for &mut Wide<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        debug_assert!(is_wide::<S>());
        // For no other level is it worth being compiled.
        if const { is_wide::<S>() } {
            let mut room = ROOM.take();
            let len = panel_bytes::<S>() / size_of::<f64>();
            room.resize(len + MAX_LANES, 0.0);
            let start = room.as_ptr().align_offset(CACHE_LINE).min(MAX_LANES);
            let panel = bytemuck::cast_slice_mut(&mut room[start..][..len]);
            match const { size_of::<T>() } {
                4 => wide::<T, S, { STRETCH_BYTES / 4 }>(simd, self, panel),
                _ => wide::<T, S, { STRETCH_BYTES / 8 }>(simd, self, panel),
            }
            ROOM.set(room);
        }
    }
}

#[inline(always)]
fn wide<T: Lanes, S: Simd, const STRETCH: usize>(simd: S, product: &mut Wide<'_, T>, room: &mut [T]) {
    let &mut Wide { ref mut dst, held, a, b, depth } = product;
    let (rows, columns, lanes) = (dst.nrows(), dst.ncols(), Vector::<T, S>::COUNT);
    let mut near = [[T::ZERO; COLUMNS]; STRETCH];
    let stretches = depth.div_ceil(STRETCH);
    let panels = rows.div_ceil(panel_bytes::<S>() / STRETCH_BYTES);
    let most = rows.div_ceil(panels).next_multiple_of(STRIP * lanes);
    for stretch in 0..stretches {
        let depths = depth * stretch / stretches..depth * (stretch + 1) / stretches;
        let held = if stretch > 0 { Destination::Add } else { held };
        let b = b.part(depths.clone(), 0..columns);
        for start in (0..rows).step_by(most) {
            let height = most.min(rows - start);
            let panel = &mut room[..height.next_multiple_of(lanes) * depths.len()];
            pack(simd, a.part(start..start + height, depths.clone()), height, panel);
            let mut dst = dst.as_mut().subrows_mut(start, height);
            let steps = height.div_ceil(STRIP * lanes) * depths.len().div_ceil(DEPTHS_TOGETHER);
            let mut first = 0;
            while first < columns {
                macro_rules! tiles {
                    ($most:ident) => {{
                        let end = columns.min(first + $most);
                        let soon = end..columns.min(end + COLUMNS);
                        let mut ahead = Ahead::new(b.part(0..depths.len(), soon).span(), steps);
                        let dst = dst.as_mut().subcols_mut(first, end - first);
                        let b = b.part(0..depths.len(), first..end);
                        self::columns::<T, S, STRETCH, $most>(
                            simd, dst, held, panel, b, &mut near, &mut ahead,
                        );
                        first = end;
                    }};
                }
                if const { has_many_registers::<S>() } && columns - first >= COLUMNS {
                    tiles!(COLUMNS)
                } else if const { !has_many_registers::<S>() } && columns - first >= FEW_COLUMNS {
                    tiles!(FEW_COLUMNS)
                } else {
                    tiles!(LAST_COLUMNS)
                }
            }
        }
    }
}

/// Copies some rows of A, strip by strip, the last to whole registers of rows.
#[inline(always)]
fn pack<T: Lanes, S: Simd>(simd: S, a: By<'_, T>, rows: usize, panel: &mut [T]) {
    let lanes = Vector::<T, S>::COUNT;
    let width = STRIP * lanes;
    let depth = panel.len() / rows.next_multiple_of(lanes);
    match a {
        By::Columns(x) => pack_columns(simd, x, panel),
        By::Rows(x) => {
            for (strip, start) in panel.chunks_mut(width * depth).zip((0..rows).step_by(width)) {
                match strip.len() == width * depth {
                    true => pack_rows::<T, S, STRIP>(simd, x, start, strip),
                    false => pack_rows::<T, S, 1>(simd, x, start, strip),
                }
            }
        }
    }
}

/// Column by column to all strips: one is read as it lies in memory, where the next may be on another page.
#[inline(always)]
fn pack_columns<T: Lanes, S: Simd>(simd: S, columns: Lines<'_, T>, panel: &mut [T]) {
    let depth = columns.ncols();
    let whole = STRIP * Vector::<T, S>::COUNT * depth;
    let (whole, last) = panel.split_at_mut(panel.len() / whole * whole);
    let whole = T::split_mut::<S>(whole).0.as_chunks_mut::<STRIP>().0;
    let last = T::split_mut::<S>(last).0;
    for t in 0..depth {
        if t + COLUMNS_AHEAD < depth {
            let soon = columns.col(t + COLUMNS_AHEAD).as_slice();
            each_line(soon).for_each(prefetch);
        }
        let (registers, tail) = T::split::<S>(columns.col(t).as_slice());
        let (full, rest) = registers.as_chunks::<STRIP>();
        let mut strips = whole.chunks_exact_mut(depth);
        for (registers, strip) in full.iter().zip(strips.by_ref()) {
            strip[t] = *registers;
        }
        let place = match strips.next() {
            Some(strip) => &mut strip[t][..],
            None => last.get_mut(t..=t).unwrap_or_default(),
        };
        let tail = (!tail.is_empty()).then(
            #[inline(always)]
            || Vector::<T, S>::load_padded(simd, tail, T::ZERO).register(),
        );
        for (out, register) in place.iter_mut().zip(rest.iter().copied().chain(tail)) {
            *out = register;
        }
    }
}

/// The same, of rows, which are turned block by block.
#[inline(always)]
fn pack_rows<T: Lanes, S: Simd, const REGISTERS: usize>(
    simd: S,
    rows: Lines<'_, T>,
    start: usize,
    strip: &mut [T],
) {
    let strip = T::split_mut::<S>(strip).0.as_chunks_mut::<REGISTERS>().0;
    for register in 0..REGISTERS {
        let first = start + register * Vector::<T, S>::COUNT;
        macro_rules! pack {
            ($block:literal, $parts:literal) => {
                pack_turned::<T, S, REGISTERS, $block, $parts>(simd, rows, first, register, strip)
            };
        }
        match const { size_of::<S::f64s>() / size_of::<T>() } {
            16 => pack!(4, 4),
            8 if const { size_of::<T>() == 4 } => pack!(4, 2),
            8 => pack!(2, 4),
            _ => pack!(2, 2),
        }
    }
}

/// A register of rows, to its place in a strip.
#[inline(always)]
fn pack_turned<T: Lanes, S: Simd, const REGISTERS: usize, const BLOCK: usize, const PARTS: usize>(
    simd: S,
    rows: Lines<'_, T>,
    first: usize,
    register: usize,
    strip: &mut [[T::Register<S>; REGISTERS]],
) {
    let (lanes, last) = (BLOCK * PARTS, rows.ncols() - 1);
    let steps = rows.nrows() / BLOCK;
    // The last row again in place of those that complete a register: nothing reads what becomes of it.
    let blocks_from = |first: usize| -> [[&[[T; BLOCK]]; PARTS]; BLOCK] {
        by_blocks(
            #[inline(always)]
            |i| &rows.col((first + i).min(last)).as_slice().as_chunks().0[..steps],
        )
    };
    let (blocks, soon) = (blocks_from(first), blocks_from(first + lanes));
    let (turned, rest) = strip.split_at_mut(steps * BLOCK);
    for (step, out) in turned.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        if step % (CACHE_LINE / BLOCK_BYTES) == 0 {
            for i in 0..BLOCK {
                for part in 0..PARTS {
                    prefetch(&soon[i][part][step]);
                }
            }
        }
        let columns = Vector::turned(simd, blocks, step);
        for t in 0..BLOCK {
            out[t][register] = columns[t].register();
        }
    }
    for (out, t) in rest.iter_mut().zip(steps * BLOCK..) {
        let out = &mut bytemuck::cast_slice_mut(out)[register * lanes..][..lanes];
        for (i, out) in out.iter_mut().enumerate() {
            *out = rows.col((first + i).min(last)).as_slice()[t];
        }
    }
}

/// Some columns of the result: those of B are copied near, then every strip passes by. Meanwhile what the next columns need
/// is fetched.
#[inline(always)]
fn columns<T: Lanes, S: Simd, const STRETCH: usize, const TILE: usize>(
    simd: S,
    dst: LinesMut<'_, T>,
    held: Destination,
    panel: &[T],
    b: By<'_, T>,
    near: &mut [[T; COLUMNS]; STRETCH],
    ahead: &mut Ahead,
) {
    match b {
        By::Rows(rows) => {
            for (near, t) in near.iter_mut().zip(0..rows.ncols()) {
                let row = rows.col(t).as_slice();
                match row.first_chunk::<TILE>() {
                    Some(row) => near[..TILE].copy_from_slice(row),
                    None => near.iter_mut().zip(row).for_each(|(near, &x)| *near = x),
                }
            }
            strips::<T, S, STRETCH, TILE, true>(simd, dst, held, panel, rows.ncols(), near, ahead);
        }
        By::Columns(columns) => {
            for (near, c) in near.as_flattened_mut().chunks_exact_mut(STRETCH).zip(0..columns.ncols()) {
                Vector::<T, S>::copy(simd, columns.col(c).as_slice(), near);
            }
            strips::<T, S, STRETCH, TILE, false>(simd, dst, held, panel, columns.nrows(), near, ahead);
        }
    }
}

/// Every strip of a panel, times the numbers near, which lie depth by depth or column by column.
///
/// A function of its own, so that what other loops keep in registers takes none of those for the sums.
#[inline(never)]
fn strips<T: Lanes, S: Simd, const STRETCH: usize, const TILE: usize, const BY_DEPTH: bool>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    held: Destination,
    panel: &[T],
    depth: usize,
    near: &[[T; COLUMNS]; STRETCH],
    ahead: &mut Ahead,
) {
    let (rows, lanes) = (dst.nrows(), Vector::<T, S>::COUNT);
    let width = STRIP * lanes;
    simd.vectorize(
        #[inline(always)]
        || {
            for (strip, start) in panel.chunks(width * depth).zip((0..rows).step_by(width)) {
                let dst = dst.as_mut().subrows_mut(start, width.min(rows - start));
                if strip.len() == width * depth {
                    tile::<T, S, STRETCH, STRIP, TILE, BY_DEPTH>(simd, dst, held, strip, depth, near, ahead);
                } else {
                    tile::<T, S, STRETCH, 1, TILE, BY_DEPTH>(simd, dst, held, strip, depth, near, ahead);
                }
            }
        },
    );
}

/// REGISTERS × TILE of the result, or less at its edges: the sum over the depth of the rows of a strip times the numbers
/// near.
#[inline(always)]
fn tile<
    T: Lanes,
    S: Simd,
    const STRETCH: usize,
    const REGISTERS: usize,
    const TILE: usize,
    const BY_DEPTH: bool,
>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    held: Destination,
    strip: &[T],
    depth: usize,
    near: &[[T; COLUMNS]; STRETCH],
    ahead: &mut Ahead,
) {
    let lanes = Vector::<T, S>::COUNT;
    let (rows, columns) = (dst.nrows(), dst.ncols());
    let strip = &T::split::<S>(strip).0.as_chunks::<REGISTERS>().0[..depth];
    let by_column = near.as_flattened().as_chunks::<STRETCH>().0;
    assert!(depth <= STRETCH);
    let mut sums = [[Vector::<T, S>::splat(simd, T::ZERO); TILE]; REGISTERS];
    let mut start = 0;
    while start < depth {
        ahead.step(1);
        let end = depth.min(start + DEPTHS_TOGETHER);
        for c in columns * start / depth..columns * end / depth {
            each_line(dst.as_ref().col(c).as_slice()).for_each(prefetch);
        }
        macro_rules! multiply_add {
            ($rows:expr, $t:expr) => {
                for c in 0..TILE {
                    let y = Vector::splat(simd, if BY_DEPTH { near[$t][c] } else { by_column[c][$t] });
                    for i in 0..REGISTERS {
                        sums[i][c] = Vector::of(simd, [$rows[i]]).mul_add(y, sums[i][c]);
                    }
                }
            };
        }
        // With more sums, a test at every depth costs little.
        let whole = if has_many_registers::<S>() { start } else { end };
        let (whole, _) = strip[start..whole].as_chunks::<AT_ONCE>();
        for (rows, t) in whole.iter().zip((start..).step_by(AT_ONCE)) {
            for u in 0..AT_ONCE {
                multiply_add!(rows[u], t + u);
            }
        }
        let rest = start + whole.len() * AT_ONCE;
        for (rows, t) in strip[rest..end].iter().zip(rest..) {
            if const { has_many_registers::<S>() }
                && let Some(soon) = strip.get(t + DEPTHS_AHEAD)
            {
                soon.iter().for_each(prefetch);
            }
            multiply_add!(rows, t);
        }
        start = end;
    }
    if rows == REGISTERS * lanes && columns == TILE {
        for c in 0..TILE {
            let out = line_mut(&mut dst, c);
            for i in 0..REGISTERS {
                let out = &mut out[i * lanes..];
                let sum = match held {
                    Destination::Replace => sums[i][c],
                    Destination::Add => Vector::load(simd, out) + sums[i][c],
                };
                sum.store(out);
            }
        }
    } else {
        let mut results = Aligned([[T::ZERO; STRIP * MAX_LANES]; TILE]);
        for c in 0..TILE {
            for i in 0..REGISTERS {
                sums[i][c].store(&mut results.0[c][i * lanes..]);
            }
        }
        for (c, results) in results.0.iter().enumerate().take(columns) {
            let out = line_mut(&mut dst, c).iter_mut().zip(results);
            match held {
                Destination::Replace => out.for_each(|(out, &x)| *out = x),
                Destination::Add => out.for_each(|(out, &x)| *out = *out + x),
            }
        }
    }
}
