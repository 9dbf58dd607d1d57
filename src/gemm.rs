//! Matrix products: on this crate's own kernels where they are faster, else by faer. The only file that names faer's product.

use crate::kernel::{FEW_SAMPLES, MAX_LANES, Real, SimdLevel, Span, Thin, Wide};
use crate::schedule::{Threads, middle};
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
    /// Whether the product fetches A itself, line by line: it is in no cache.
    pub(crate) is_streamed: bool,
    /// What will be read next: it may be fetched meanwhile.
    pub(crate) next: Span,
}

impl<T: Real> Product<'_, T> {
    /// Carries it out on the caller's thread. A product over nothing is 0.
    ///
    /// Which kernel does it follows from the shape, the strides and the level.
    pub(crate) fn run(self, level: SimdLevel) {
        if Wide::suits(&self, level) { self.run_wide(level) } else { self.run_thin(level) }
    }

    /// Carries it out on all threads, its result cut into pieces.
    pub(crate) fn run_in_pieces(self, level: SimdLevel, threads: Threads) {
        if Wide::suits(&self, level) {
            // Of any piece the bits are the same, and the fewer there are, the less is copied.
            let count = threads.count();
            let times = count.next_power_of_two().ilog2() + if count.is_power_of_two() { 0 } else { 2 };
            self.cut(threads, times, 1, PIECE_WORK, &|piece| piece.run_wide(level));
            return;
        }
        let (thin, product) = Thin::choose(self, level);
        let most_wide = match product.dst.row_stride() {
            // Multiples of a few lines are written as they lie in memory.
            1 if product.a.ncols() <= FEW_SAMPLES => 0,
            // Of all shapes of a piece, faer is fastest with the wide ones, but a much wider one would read B again
            // and again.
            _ => MOST_WIDE,
        };
        if let Some(thin) = thin {
            // The bits are the same here, too; but columns of multiples are best written some after the others.
            let times = if threads.count() == 1 && thin != Thin::Multiples { 0 } else { PIECE_DEPTH };
            product.cut(threads, times, most_wide, PIECE_WORK, &|piece| thin.run(piece, level));
        } else {
            product.cut(threads, PIECE_DEPTH, most_wide, PIECE_WORK, &|piece| piece.run_thin(level));
        }
    }

    /// The same in pieces as large as can be, of so many multiply-adds at most.
    pub(crate) fn run_in_large_pieces(self, level: SimdLevel, threads: Threads, most: usize) {
        self.cut(threads, u32::MAX, 1, most, &|piece| piece.run(level));
    }

    /// On the kernel for wide products, which suits it.
    fn run_wide(self, level: SimdLevel) {
        match Wide::new(self) {
            Ok(wide) => T::run_wide(wide, level),
            Err(product) => product.run_general(),
        }
    }

    /// On a kernel for thin products, or by faer.
    fn run_thin(self, level: SimdLevel) {
        let (thin, product) = Thin::choose(self, level);
        match thin {
            Some(thin) => thin.run(product, level),
            None => product.run_general(),
        }
    }

    fn run_general(self) {
        let accum = match self.held {
            Destination::Replace => Accum::Replace,
            Destination::Add => Accum::Add,
        };
        matmul(self.dst, accum, self.a, self.b, T::ONE, Par::Seq);
    }

    /// Cuts it in two, so many times, across its rows where it has up to so many columns a row, but nothing of fewer than so many
    /// multiply-adds, and runs the pieces.
    fn cut(
        self,
        threads: Threads,
        times: u32,
        most_columns: usize,
        least: usize,
        run: &(impl Fn(Self) + Sync),
    ) {
        let (rows, cols) = self.dst.shape();
        // No piece is narrower than a register.
        let least_side = 2 * MAX_LANES;
        let across_rows = cols < least_side || rows >= least_side && cols <= most_columns * rows;
        let side = if across_rows { rows } else { cols };
        if times == 0 || side < least_side || rows * cols * self.a.ncols() < least {
            return run(self);
        }
        let half = middle(side).min((side - MAX_LANES) / MAX_LANES * MAX_LANES);
        let Self { dst, held, a, b, is_streamed, .. } = self;
        let again = |dst, a, b| {
            Product { dst, held, a, b, is_streamed, next: Span::NOTHING }.cut(
                threads,
                times - 1,
                most_columns,
                least,
                run,
            );
        };
        if across_rows {
            let (dst_0, dst_1) = dst.split_at_row_mut(half);
            let (a_0, a_1) = a.split_at_row(half);
            threads.join(|| again(dst_0, a_0, b), || again(dst_1, a_1, b));
        } else {
            let (dst_0, dst_1) = dst.split_at_col_mut(half);
            let (b_0, b_1) = b.split_at_col(half);
            threads.join(|| again(dst_0, a, b_0), || again(dst_1, a, b_1));
        }
    }
}

impl<T> Product<'_, T> {
    /// The same, with the transpose of its result: Bᵀ·Aᵀ.
    pub(crate) fn transposed(self) -> Self {
        let Self { dst, held, a, b, .. } = self;
        Self {
            dst: dst.transpose_mut(),
            held,
            a: b.transpose(),
            b: a.transpose(),
            is_streamed: false,
            next: Span::NOTHING,
        }
    }
}

/// Columns a row up to which it is the rows that are split, of a general product.
const MOST_WIDE: usize = 4;

/// A general product is split in two this often.
const PIECE_DEPTH: u32 = 3;

/// Multiply-adds below which a product is not split further, and no evaluation is shared in pieces.
pub(crate) const PIECE_WORK: usize = 1 << 18;
