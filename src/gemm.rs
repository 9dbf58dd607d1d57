//! Matrix products: narrow ones on this crate's own kernels, the rest by faer. The only file that names faer's product.

use crate::kernel::{MAX_LANES, Real, SimdLevel, Thin};
use crate::schedule::Parallelism;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// What becomes of what the destination held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    /// It is overwritten, unread: NaN there does not matter.
    Replace,
    /// The product is added to it.
    Add,
}

/// dst = A·B, or dst += A·B. Any strides.
pub(crate) struct Product<'a, T> {
    pub(crate) dst: MatMut<'a, T>,
    pub(crate) held: Destination,
    pub(crate) a: MatRef<'a, T>,
    pub(crate) b: MatRef<'a, T>,
    /// Whether A comes from memory, and not from a cache.
    pub(crate) is_cold: bool,
    /// What will be read soon in the place of A, or some rows of it: it may be fetched from memory meanwhile.
    pub(crate) next: Option<MatRef<'a, T>>,
}

impl<T: Real> Product<'_, T> {
    /// Carries it out on the caller's thread. A product over nothing is 0.
    ///
    /// Which kernel does it follows from the shape and the strides.
    pub(crate) fn run(self, level: SimdLevel) {
        match Thin::new(self) {
            Thin::Dot(dot) => T::run_dot(dot, level),
            Thin::Outer(outer) => T::run_outer(outer, level),
            Thin::Neither(Self { dst, held, a, b, .. }) => {
                let accum = match held {
                    Destination::Replace => Accum::Replace,
                    Destination::Add => Accum::Add,
                };
                matmul(dst, accum, a, b, T::ONE, Par::Seq);
            }
        }
    }

    /// Carries it out on all threads, its result cut into pieces that do not depend on who runs them. Of all shapes of a
    /// piece, faer is fastest with the wide ones, but a much wider one would read B again and again.
    pub(crate) fn run_in_pieces(self, level: SimdLevel, parallelism: Parallelism) {
        self.cut(level, parallelism, PIECE_DEPTH);
    }

    fn cut(self, level: SimdLevel, parallelism: Parallelism, depth: u32) {
        let (rows, cols) = self.dst.shape();
        if depth == 0 || rows * cols * self.a.ncols() < PIECE_WORK {
            return self.run(level);
        }
        let Self { dst, held, a, b, is_cold, .. } = self;
        let again = |dst: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>| {
            Product { dst, held, a, b, is_cold, next: None }.cut(level, parallelism, depth - 1);
        };
        if cols <= WIDE * rows {
            let half = (rows / 2).next_multiple_of(MAX_LANES).min(rows);
            let (dst_0, dst_1) = dst.split_at_row_mut(half);
            let (a_0, a_1) = a.split_at_row(half);
            parallelism.join(|| again(dst_0, a_0, b), || again(dst_1, a_1, b));
        } else {
            let half = (cols / 2).next_multiple_of(MAX_LANES).min(cols);
            let (dst_0, dst_1) = dst.split_at_col_mut(half);
            let (b_0, b_1) = b.split_at_col(half);
            parallelism.join(|| again(dst_0, a, b_0), || again(dst_1, a, b_1));
        }
    }
}

/// Columns a row up to which it is the rows that are split.
const WIDE: usize = 4;

/// A product is split in two this often.
const PIECE_DEPTH: u32 = 3;

/// Multiply-adds below which a product is not split further.
const PIECE_WORK: usize = 1 << 18;
