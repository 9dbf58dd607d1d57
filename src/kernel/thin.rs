//! A·B where B has few columns, or where A has few rows or few columns: for an A whose rows or whose columns are contiguous, no
//! padding, no packing.
//!
//! A general product pads the few columns of B to whole registers, or copies A into another order. Here the lanes run
//! along the contiguous lines of A, whatever the number of columns:
//!
//! - **dot**: the lines of A are its rows. A tile of rows × columns of the result is that many sums of products of two
//!   registers; at the end each sum is one over its lanes, a register of rows at a time. Where rows are short, two
//!   columns share a register, half of it each, or two rows do: the sums over the lanes have a step less. Where registers
//!   are large and columns not too few, short rows are turned in them instead: then no lanes are left to be summed.
//! - **outer**: the lines of A are its columns. A tile of registers × columns of the result adds up line after line, each
//!   times one number of B.
//! - **multiples**: the same of so few lines that what a tile prepares would take longer than its products.
//!
//! With X row-major the scores X·Θ are of the first kind and the gradient Xᵀ·R of the second; with X column-major they
//! swap. The scores of a few samples that lie sample by sample are (Θᵀ·Xᵀ)ᵀ: of the first kind too, with the columns of Θ
//! for rows; or, with Θ row-major, of the second, with its rows for lines. So is then the gradient, (Rᵀ·X)ᵀ.

mod dot;
mod fold;
mod multiples;
mod outer;
mod turned;

pub(super) use dot::Dot;
use dot::SHARING_ROWS;
pub(crate) use dot::filled;
pub(super) use multiples::Multiples;
pub(super) use outer::Outer;

use super::Real;
use super::lanes::{Lanes, MAX_LANES};
use super::level::SimdLevel;
use super::lines::{lines, lines_mut};
use super::registers::has_many_registers;
use crate::gemm::Product;
use pulp::Simd;

/// Most columns of B for which this was faster than a general product, ...
pub(crate) const THIN: usize = 32;

/// ... and with the widest registers, if A has [`MANY_LINES`]: what is done for each of so many columns must be worth it.
const WIDEST_THIN: usize = 128;

/// Lines of A that are many.
const MANY_LINES: usize = 64;

/// With any registers, if A has fewer lines: a general product pads rows to whole registers, and gains little from copying columns
/// that it uses so seldom.
const FAIRLY_THIN: usize = 256;

/// Depth from which on sums over lanes cost little beside the products.
pub(crate) const DEEP: usize = 160;

/// Rows from which on lines are long enough for an outer product of few.
const LONG: usize = 128;

/// Bytes of half of the largest register.
pub(crate) const HALF_REGISTER: usize = MAX_LANES * size_of::<f32>() / 2;

/// Samples so few that a general product spends its time on bringing Θ into an order of its own, and the gradient out of it.
pub(crate) const FEW_SAMPLES: usize = 8;

/// The same as bytes of a column of scores, of which more would take longer here: then Θ may have any number of columns.
const FLAT_BYTES: usize = 32;

/// Depth for each row of a result of few rows, so that lanes across its columns are faster than a general product.
const DEPTH_OF_ROW: usize = 3;

/// Bytes of a Θ that no second-level cache holds.
const LARGE_BYTES: usize = 1 << 20;

/// Samples that a Θ passes by so slowly that asking for it is worth it.
const SLOW_SAMPLES: usize = 4;

/// Fewest rows for an outer product: below, those that complete the last strip are too many, ...
pub(crate) const OUTER_ROWS: usize = 32;

/// ... but with the widest registers, and so many columns, it is faster from [`MAX_LANES`] rows on.
const OUTER_COLUMNS: usize = 3;

/// A kernel for thin products.
///
/// It computes each number of a result in the same way wherever that is cut, so long as no piece is narrower than a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Thin {
    /// Of so many rows, from which follows whether they are turned.
    Dot {
        rows: usize,
    },
    Outer,
    Multiples,
}

impl Thin {
    /// The kernel for a product, if there is one, and the product as that takes it. Which follows from the shape, the strides and
    /// the level.
    pub(crate) fn choose<T: Lanes>(
        product: Product<'_, T>,
        level: SimdLevel,
    ) -> (Option<Self>, Product<'_, T>) {
        // Lanes run along the rows of the result, if they can, where it has few, or where these are multiples of a few lines.
        let (rows, depth) = product.a.shape();
        let has_few_rows = rows <= FEW_SAMPLES.max(depth / DEPTH_OF_ROW);
        let has_few_lines = depth <= FEW_SAMPLES && product.dst.row_stride() != 1;
        let by_rows = (has_few_rows || has_few_lines) && product.dst.col_stride() == 1;
        let was_streamed = product.is_streamed;
        let mut product = if by_rows { product.transposed() } else { product };
        // What passes by now is Θ, which nobody has asked for.
        let bytes = product.a.nrows().saturating_mul(depth).saturating_mul(size_of::<T>());
        product.is_streamed |= by_rows && product.b.ncols() >= SLOW_SAMPLES && bytes > LARGE_BYTES;
        let Product { ref dst, a, b, .. } = product;
        let (rows, depth) = a.shape();
        let (is_contiguous, is_thin) = (dst.row_stride() == 1, b.ncols() <= THIN);
        let registers = || level.registers();
        let has_many =
            |lines: usize| lines >= MANY_LINES && b.ncols() <= WIDEST_THIN && registers().are_widest();
        let has_few = |lines: usize| lines < MANY_LINES && b.ncols() <= FAIRLY_THIN;
        let wastes_less = || {
            let [in_tiles, in_registers] = filled(rows, size_of::<T>(), level);
            in_tiles < in_registers
        };
        let is_flat = rows * size_of::<T>() <= FLAT_BYTES;
        // Two short lines share a register.
        let is_half = by_rows && rows >= SHARING_ROWS && depth * size_of::<T>() >= HALF_REGISTER;
        let may_be_dot = is_contiguous && rows > 0 && (depth >= MAX_LANES || is_half);
        let is_short = || has_few(rows) && depth >= DEEP && wastes_less();
        let is_dot = |a| may_be_dot && (is_thin || is_flat || is_short() || has_many(rows) && dot::follow(a));
        let fills_one = rows >= MAX_LANES && b.ncols() >= OUTER_COLUMNS && registers().are_widest();
        let has_rows = rows >= OUTER_ROWS || fills_one;
        let has_lines = has_many(depth) || has_few(depth) && rows >= LONG;
        let is_outer = is_contiguous && has_rows && depth > 0 && (is_thin || has_lines);
        let are_multiples = is_contiguous && depth <= FEW_SAMPLES && depth > 0;
        let kernel = match (a.transpose().try_as_col_major(), a.row_stride() == 1, b.row_stride() == 1) {
            (_, true, _) if are_multiples => Self::Multiples,
            (Some(a), _, true) if is_dot(a) => Self::Dot { rows },
            (_, true, true) if is_outer => Self::Outer,
            _ if by_rows => {
                return (None, Product { is_streamed: was_streamed, ..product.transposed() });
            }
            _ => return (None, product),
        };
        (Some(kernel), product)
    }

    /// Carries out a product that it was chosen for, or a piece of it.
    pub(crate) fn run<T: Real>(self, product: Product<'_, T>, level: SimdLevel) {
        let Product { dst, held, a, b, is_streamed, next } = product;
        let dst = lines_mut(dst);
        match self {
            Self::Dot { rows } => {
                let (a, b) = (lines(a.transpose()), lines(b));
                T::run_dot(Dot { dst, held, a, b, is_streamed, next, total: rows }, level);
            }
            Self::Outer => {
                let (a, b) = (lines(a), lines(b));
                T::run_outer(Outer { dst, held, a, b, is_streamed, next }, level);
            }
            Self::Multiples => T::run_multiples(Multiples { dst, held, a: lines(a), b, next }, level),
        }
    }
}

/// Whether a tile asks for what is read next within its loop, and not before it: where a step of the loop is long enough.
const fn asks_along<S: Simd>(share: usize) -> bool {
    has_many_registers::<S>() && share == 1
}

/// Lines of a streamed A that are worked on together: it fetches the next ones meanwhile.
const STREAMED_LINES: usize = 32;

/// Runs `$tile` on the columns in tiles of a constant number of them, a multiple of `$by` but for the last, and else as equal
/// as possible.
macro_rules! for_columns {
    ($columns:expr, $most:expr, $by:expr, $($n:literal)*, |$first:ident, $COUNT:ident| $tile:expr) => {{
        let columns: usize = $columns;
        let tiles = columns.div_ceil($most);
        let bound = |tile: usize| (columns * tile / tiles).next_multiple_of($by).min(columns);
        for tile in 0..tiles {
            let $first = bound(tile);
            match bound(tile + 1) - $first {
                $($n => { const $COUNT: usize = $n; $tile })*
                _ => {}
            }
        }
    }};
}
use for_columns;
