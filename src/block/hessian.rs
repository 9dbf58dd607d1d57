//! The Hessian of a block's loss.
//!
//! Of two classes it is a product: with what the second derivatives of a sample have in common in one factor, and the sample's
//! probability of a class in each. So what is below the diagonal is a product for two halves of the classes, of one with the
//! other, and the same again within each half. Of one class, where that would cancel, it is a product of its own.

use super::features::{Pass, Rows, take_rows};
use super::{Gradient, Problem};
use crate::gemm::{Destination, Product};
use crate::kernel::{Curve, MAX_LANES, PerSample, Real, ScaledSamples, Span, Sparse, silent};
use crate::schedule::middle;
use crate::workspace::BlockScratch;
use core::ops::Range;
use faer::reborrow::IntoConst;
use faer::{MatMut, MatRef};

/// Rows of a square of which what is above the diagonal is computed too, or copied number by number.
const SMALL: usize = 64;

/// Multiply-adds that are worth a thread.
const SHARED: usize = 1 << 20;

/// The second derivatives of the losses by the scores of two classes: by those of k and j, of sample i, common_i·p_ik·p_ij; twice
/// by that of k, diagonal_ik.
#[derive(Clone, Copy)]
struct Second<'a, T> {
    common: &'a [T],
    probabilities: MatRef<'a, T>,
    diagonal: MatRef<'a, T>,
}

/// Some classes by the same: a part of the Hessian on its diagonal, and what becomes of it on that and below.
struct Square<'a, T> {
    out: MatMut<'a, T>,
    held: Destination,
    /// The samples, ...
    x: MatRef<'a, T>,
    /// ... the same times the probability of each class, in one of the factors times what they have in common too, ...
    left: MatRef<'a, T>,
    right: MatRef<'a, T>,
    /// ... and times the second derivative by the score of each class twice.
    diagonal: MatRef<'a, T>,
}

impl<T: Real> Problem<'_, T> {
    /// Adds to a matrix (of as many rows and columns as Θ has numbers, the columns of Θ one after the other) what some
    /// samples contribute to the Hessian, on the diagonal and below.
    pub(super) fn hessian(&self, samples: Range<usize>, scratch: &mut BlockScratch<T>, out: Gradient<'_, T>) {
        let (mut block, room) = scratch.data(samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), Pass::Softmax, room);
        self.curve(x, &mut block, room, Curve::Diagonal);
        self.chain(&mut block);
        let Some(diagonal) = block.direction else { return };
        let PerSample { coefficient: common, top, tail, total, .. } = &mut block.per_sample;
        let common = &mut common[..samples.len()];
        for (i, common) in common.iter_mut().enumerate() {
            let total = if block.targets.is_none() { 1.0 } else { total[i].to_f64() };
            let multiplier = match 2.0 * self.options.z_loss {
                0.0 => total,
                z_loss => total + z_loss * (top[i].to_f64() + tail[i].to_f64() - 1.0),
            };
            *common = T::from_f64(-multiplier * common.to_f64() / self.options.temperature);
        }
        let mut probabilities = self.matrix(block.scores, samples.len());
        let mut diagonal = self.matrix(diagonal, samples.len());
        let weights = block.weights.as_deref();
        for i in silent(weights) {
            common[i] = T::ZERO;
            probabilities.as_mut().row_mut(i).fill(T::ZERO);
            diagonal.as_mut().row_mut(i).fill(T::ZERO);
        }
        let (probabilities, diagonal) = (probabilities.into_const(), diagonal.into_const());
        let second = Second { common, probabilities, diagonal };
        match x {
            Rows::Dense { x, .. } => self.add_dense(x, second, weights, room, out),
            Rows::Sparse { x, start, .. } => self.add_sparse(x, start, second, weights, out),
        }
    }

    /// Number by number of the features that are stored.
    fn add_sparse(
        &self,
        x: Sparse<'_, T>,
        start: usize,
        second: Second<'_, T>,
        weights: Option<&[f64]>,
        out: Gradient<'_, T>,
    ) {
        let Gradient { mut matrix, held } = out;
        if held == Destination::Replace {
            matrix.fill(T::ZERO);
        }
        let width = self.options.theta_rows(self.features.features());
        let intercept = self.options.intercept.then(|| (width - 1, T::ONE));
        let is_heard = |i: &usize| weights.is_none_or(|weights| weights[*i] != 0.0);
        for i in (0..second.common.len()).filter(is_heard) {
            let features = || x.row(start + i).chain(intercept);
            for k in 0..self.classes() {
                for j in 0..=k {
                    let second = second.of(i, k, j);
                    for (a, x_a) in features() {
                        for (b, x_b) in features() {
                            matrix[(k * width + a, j * width + b)] += x_a * second * x_b;
                        }
                    }
                }
            }
        }
    }

    /// With the factors of all products in the room for copies.
    fn add_dense(
        &self,
        features: MatRef<'_, T>,
        second: Second<'_, T>,
        weights: Option<&[f64]>,
        room: &mut [T],
        out: Gradient<'_, T>,
    ) {
        let Gradient { matrix, held } = out;
        let (rows, columns) = (features.nrows(), self.options.theta_rows(features.ncols()));
        if columns == 0 {
            return;
        }
        let [each, all] = [self.features_stride(), self.products_stride()];
        let (mut x, room) = take_rows(room, rows, each);
        let (mut shared, room) = take_rows(room, rows, each);
        let (mut left, room) = take_rows(room, rows, all);
        let (mut right, room) = take_rows(room, rows, all);
        let (mut diagonal, _) = take_rows(room, rows, all);
        self.copy(features, x.as_mut().subcols_mut(0, features.ncols()));
        x.as_mut().subcols_mut(features.ncols(), columns - features.ncols()).fill(T::ONE);
        for i in silent(weights) {
            // It may be what would poison the product.
            x.as_mut().row_mut(i).fill(T::ZERO);
        }
        let x = x.into_const();
        let common = MatRef::from_column_major_slice(second.common, rows, 1);
        let scale = |x: MatRef<'_, T>, by: MatRef<'_, T>, out: MatMut<'_, T>| {
            let samples = ScaledSamples::new(columns, x, by, out);
            self.run(samples, &|part| T::run_scaled_samples(part, self.level), &|(), ()| ());
        };
        scale(x, common, shared.as_mut());
        scale(shared.as_ref(), second.probabilities, left.as_mut());
        scale(x, second.probabilities, right.as_mut());
        scale(x, second.diagonal, diagonal.as_mut());
        let x = x.subcols(0, columns);
        let [left, right, diagonal] =
            [left, right, diagonal].map(|all| all.into_const().subcols(0, matrix.ncols()));
        self.add_square(Square { out: matrix, held, x, left, right, diagonal });
    }

    /// On the diagonal and below it.
    fn add_square(&self, square: Square<'_, T>) {
        let Square { out, held, x, left, right, diagonal } = square;
        let (width, classes) = (x.ncols(), out.ncols() / x.ncols());
        if classes == 1 {
            return self.add_symmetric(out, held, diagonal, x);
        }
        let at = classes / 2 * width;
        let (out_0, _, below, out_1) = out.split_at_mut(at, at);
        let (left_0, left_1) = left.split_at_col(at);
        let (right_0, right_1) = right.split_at_col(at);
        let (diagonal_0, diagonal_1) = diagonal.split_at_col(at);
        let first = Square { out: out_0, held, x, left: left_0, right: right_0, diagonal: diagonal_0 };
        let last = Square { out: out_1, held, x, left: left_1, right: right_1, diagonal: diagonal_1 };
        let work = at * at * x.nrows();
        self.both(
            work,
            || self.add_transposed(below, held, left_1, right_0),
            || self.both(work / 2, || self.add_square(first), || self.add_square(last)),
        );
    }

    /// Adds Aᵀ·B, which is symmetric, on the diagonal and below.
    fn add_symmetric(&self, out: MatMut<'_, T>, held: Destination, a: MatRef<'_, T>, b: MatRef<'_, T>) {
        if out.nrows() <= SMALL {
            return self.add_transposed(out, held, a, b);
        }
        let at = middle(out.nrows());
        let (out_0, _, below, out_1) = out.split_at_mut(at, at);
        let ((a_0, a_1), (b_0, b_1)) = (a.split_at_col(at), b.split_at_col(at));
        let work = at * at * a.nrows();
        self.both(
            work,
            || self.add_transposed(below, held, a_1, b_0),
            || {
                self.both(
                    work / 2,
                    || self.add_symmetric(out_0, held, a_0, b_0),
                    || self.add_symmetric(out_1, held, a_1, b_1),
                );
            },
        );
    }

    /// Adds Aᵀ·B.
    fn add_transposed(&self, dst: MatMut<'_, T>, held: Destination, a: MatRef<'_, T>, b: MatRef<'_, T>) {
        let product = Product { dst, held, a: a.transpose(), b, is_streamed: false, next: Span::NOTHING };
        if self.plan.in_pieces() {
            product.run_in_large_pieces(self.level, self.threads, 4 * SHARED);
        } else {
            product.run(self.level);
        }
    }

    /// Both, each so many multiply-adds: at once if that is worth it.
    fn both(&self, work: usize, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        if self.plan.in_pieces() && work >= SHARED {
            self.threads.join(a, b);
        } else {
            a();
            b();
        }
    }

    /// Distance of neighbouring samples of which there is a product for each number of Θ, and room for a register more.
    fn products_stride(&self) -> usize {
        let theta = self.options.theta_rows(self.features.features()).saturating_mul(self.classes());
        theta.next_multiple_of(MAX_LANES).saturating_add(MAX_LANES)
    }

    /// Numbers of the copies of the features that a block of so many samples takes.
    pub(super) fn hessian_room(&self, rows: usize) -> usize {
        let [x, products] = [(2, self.features_stride()), (3, self.products_stride())]
            .map(|(count, stride)| rows.saturating_mul(stride).saturating_mul(count));
        x.saturating_add(products)
    }

    /// Copies what is below the diagonal of a matrix to where it is above.
    pub(crate) fn mirror(&self, mut matrix: MatMut<'_, T>) {
        let size = matrix.nrows();
        if size <= SMALL {
            for k in 0..size {
                for j in k + 1..size {
                    matrix[(k, j)] = matrix[(j, k)];
                }
            }
            return;
        }
        let at = middle(size);
        let (first, above, below, last) = matrix.split_at_mut(at, at);
        self.copy(below.into_const().transpose(), above);
        self.both(size * size, || self.mirror(first), || self.mirror(last));
    }
}

impl<T: Real> Second<'_, T> {
    /// By the scores of classes k and j, of sample i.
    fn of(&self, i: usize, k: usize, j: usize) -> T {
        if j == k {
            self.diagonal[(i, k)]
        } else {
            self.common[i] * (self.probabilities[(i, k)] * self.probabilities[(i, j)])
        }
    }
}
