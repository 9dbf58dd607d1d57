//! Sums of products of short rows, a lane for each row: a block of 16 bytes of every row is turned in registers, so that its
//! columns have one lane a row, while the multiply-adds of the blocks before are under way.

use super::dot::Dot;
use super::for_columns;
use crate::gemm::Destination;
use crate::kernel::ahead::Ahead;
use crate::kernel::lanes::Lanes;
use crate::kernel::lines::{Lines, LinesMut, line_mut};
use crate::kernel::shuffle::{BLOCK_BYTES, by_blocks};
use crate::kernel::vector::{Aligned, Vector};
use pulp::Simd;

/// Numbers of the longest row: of longer ones, turning may cost more than sums over lanes do.
const LONGEST: usize = 64;

/// Fewest columns: they share the cost of turning.
const FEWEST: usize = 5;

/// Most columns of a tile: as many sums as there are registers for, beside a block's.
const MOST: usize = 16;

/// Blocks that a register has.
const PARTS: usize = 4;

/// How many rows of the result are to be computed so, at the widest level: the first ones, by whole groups of as many as a
/// register has lanes. None if more are left over than are worth a second kernel, or fewer than it shares registers for.
#[inline(always)]
pub(super) fn turned_rows<T: Lanes, S: Simd>(product: &Dot<'_, T>) -> usize {
    let (rows, lanes) = (product.dst.nrows(), Vector::<T, S>::COUNT);
    let is_short = product.a.nrows() <= LONGEST && !product.is_streamed;
    let rest = product.total % lanes;
    let leaves_little = rest == 0 || product.total - rest >= 8 * rest && product.a.nrows() >= lanes;
    if is_short && product.b.ncols() >= FEWEST && leaves_little { rows - rows % lanes } else { 0 }
}

/// A product of whole groups, in tiles of one by up to [`MOST`] columns.
#[inline(always)]
pub(super) fn turned<T: Lanes, S: Simd>(simd: S, product: Dot<'_, T>) {
    let Dot { mut dst, held, a, b, next, .. } = product;
    let columns = dst.ncols();
    // What is read next is asked for as often as a register of each row is turned.
    let groups = dst.nrows() / Vector::<T, S>::COUNT * columns.div_ceil(MOST);
    let asks = (a.nrows() * size_of::<T>() / BLOCK_BYTES).div_ceil(PARTS);
    let mut ahead = Ahead::new(next, groups * asks);
    for_columns!(columns, MOST, 1, 5 6 7 8 9 10 11 12 13 14 15 16, |first, COLUMNS| {
        let (dst, b) = (dst.as_mut().subcols_mut(first, COLUMNS), b.subcols(first, COLUMNS));
        match const { BLOCK_BYTES / size_of::<T>() } {
            4 => turned_groups::<T, S, COLUMNS, 4, { LONGEST / 4 + 1 }>(simd, dst, held, a, b, &mut ahead),
            _ => turned_groups::<T, S, COLUMNS, 2, { LONGEST / 2 + 1 }>(simd, dst, held, a, b, &mut ahead),
        }
    });
}

/// Every group, by some columns: a function of its own, for each width, as the other tiles are.
#[inline(never)]
fn turned_groups<T: Lanes, S: Simd, const COLUMNS: usize, const BLOCK: usize, const BLOCKS: usize>(
    simd: S,
    mut dst: LinesMut<'_, T>,
    held: Destination,
    lines: Lines<'_, T>,
    columns: Lines<'_, T>,
    ahead: &mut Ahead,
) {
    simd.vectorize(
        #[inline(always)]
        move || {
            let (rows, depth, lanes) = (dst.nrows(), lines.nrows(), PARTS * BLOCK);
            let (steps, rest) = (depth / BLOCK, depth % BLOCK);
            // The columns by blocks, at distances that the compiler knows, so that one address is enough for all: first the block
            // whose beginning is left over, then the others.
            let mut near = Aligned([[[T::ZERO; BLOCK]; COLUMNS]; BLOCKS]);
            for c in 0..COLUMNS {
                let column = columns.col(c).as_slice();
                near.0[0][c] = column.as_chunks().0[0];
                for (near, &block) in near.0[1..].iter_mut().zip(column.as_rchunks().1) {
                    near[c] = block;
                }
            }
            let (first, y) = (&near.0[0], &near.0[1..=steps]);
            for start in (0..rows).step_by(lanes) {
                let lines = lines.subcols(start, lanes);
                let x: [[&[T]; PARTS]; BLOCK] = by_blocks(
                    #[inline(always)]
                    |row| lines.col(row).as_slice(),
                );
                let mut sums = [Vector::<T, S>::splat(simd, T::ZERO); COLUMNS];
                if rest > 0 {
                    let x = Vector::turned::<BLOCK, PARTS>(
                        simd,
                        by_blocks(
                            #[inline(always)]
                            |row| &x[row % BLOCK][row / BLOCK].as_chunks().0[..1],
                        ),
                        0,
                    );
                    for t in 0..BLOCK - 1 {
                        if t < rest {
                            for c in 0..COLUMNS {
                                sums[c] = x[t].mul_add(Vector::splat(simd, first[c][t]), sums[c]);
                            }
                        }
                    }
                }
                let x: [[&[[T; BLOCK]]; PARTS]; BLOCK] = by_blocks(
                    #[inline(always)]
                    |row| &x[row % BLOCK][row / BLOCK].as_rchunks().1[..steps],
                );
                for asked in (0..steps).step_by(PARTS) {
                    ahead.step(1);
                    for s in asked..steps.min(asked + PARTS) {
                        let x = Vector::turned::<BLOCK, PARTS>(simd, x, s);
                        for t in 0..BLOCK {
                            for c in 0..COLUMNS {
                                sums[c] = x[t].mul_add(Vector::splat(simd, y[s][c][t]), sums[c]);
                            }
                        }
                    }
                }
                for c in 0..COLUMNS {
                    let out = &mut line_mut(&mut dst, c)[start..start + lanes];
                    let mut sum = sums[c];
                    if held == Destination::Add {
                        sum = sum + Vector::load(simd, out);
                    }
                    sum.store(out);
                }
            }
        },
    );
}
