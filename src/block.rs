//! One block of samples: scores → softmax → residual → its part of the gradient.

use crate::batch::{Batch, Labels, Targets};
use crate::error::{Error, Operand};
use crate::gemm::{Destination, Product};
use crate::kernel::{Layout, MAX_LANES, NO_LABEL, Real, Residual, Scores, SimdLevel, Want};
use crate::schedule::{Parallelism, Plan, Shape};
use crate::workspace::BlockScratch;
use core::ops::Range;
use faer::{MatMut, MatRef};

/// What every block of an evaluation shares.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a, T> {
    pub(crate) features: MatRef<'a, T>,
    pub(crate) theta: MatRef<'a, T>,
    /// None where only probabilities are wanted.
    pub(crate) labels: Option<Labels<'a>>,
    pub(crate) weights: Option<&'a [T]>,
    /// What the weights are divided by in the gradient: 1, or the total weight.
    pub(crate) divisor: f64,
    pub(crate) level: SimdLevel,
    pub(crate) plan: Plan,
    pub(crate) parallelism: Parallelism,
}

/// Where the gradient of a block goes.
pub(crate) struct Gradient<'a, T> {
    pub(crate) matrix: MatMut<'a, T>,
    pub(crate) held: Destination,
}

/// The next block's features as one of the products of this block reads its own.
struct Next<'a, T> {
    for_scores: Option<MatRef<'a, T>>,
    for_gradient: Option<MatRef<'a, T>>,
}

impl<'a, T: Real> Problem<'a, T> {
    /// With labels and weights, and a divisor of the gradient.
    pub(crate) fn of(self, batch: &Batch<'a, T>, divisor: f64) -> Self {
        Self { labels: Some(batch.targets().labels()), weights: batch.weights(), divisor, ..self }
    }

    /// Adds the gradient of some samples to a matrix, and returns the sum of their losses.
    pub(crate) fn loss_and_gradient(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        gradient: Gradient<'_, T>,
    ) -> f64 {
        let next = self.next(samples.end);
        self.scores(samples.clone(), scratch, next.for_scores);
        let loss = self.softmax_of_scores(samples.clone(), scratch, Want::Residual, None);
        let residual = self.view(samples.len(), scratch);
        let mut held = gradient.held;
        let mut matrix = gradient.matrix;
        for run in unpoisoned(self.features, self.weights, samples.clone()) {
            let x = self.features.subrows(run.start, run.len());
            let r = residual.as_ref().subrows(run.start - samples.start, run.len());
            self.product(Product {
                dst: matrix.as_mut(),
                held,
                a: x.transpose(),
                b: r,
                next: next.for_gradient,
            });
            held = Destination::Add;
        }
        if held == Destination::Replace {
            matrix.fill(T::ZERO);
        }
        loss
    }

    /// Sum of the losses of some samples; each of them too, if there is a place for them.
    pub(crate) fn loss(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        losses: Option<&mut [T]>,
    ) -> f64 {
        self.softmax(samples, scratch, Want::Loss, losses)
    }

    /// Probabilities of some samples.
    pub(crate) fn probabilities(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        mut out: MatMut<'_, T>,
    ) {
        self.softmax(samples.clone(), scratch, Want::Residual, None);
        out.copy_from(self.view(samples.len(), scratch));
    }

    /// The class of the largest score of some samples, the lowest of several; NaN is never the largest.
    pub(crate) fn predict(&self, samples: Range<usize>, scratch: &mut BlockScratch<T>, out: &mut [u32]) {
        self.scores(samples.clone(), scratch, None);
        let scores = self.view(samples.len(), scratch);
        for (i, label) in out.iter_mut().enumerate() {
            let mut top = None;
            *label = 0;
            for class in 0..scores.ncols() {
                let score = scores[(i, class)];
                if top.map_or(!score.to_f64().is_nan(), |top| score > top) {
                    top = Some(score);
                    *label = class as u32;
                }
            }
        }
    }

    /// Z = X Θ of some samples.
    fn scores(&self, samples: Range<usize>, scratch: &mut BlockScratch<T>, next: Option<MatRef<'_, T>>) {
        let x = self.features.subrows(samples.start, samples.len());
        let dst = self.view(samples.len(), scratch);
        self.product(Product { dst, held: Destination::Replace, a: x, b: self.theta, next });
    }

    /// The features of the block that starts at a sample, for the product that is to fetch them early, if it is of use:
    /// not where the features of a sample lie apart.
    fn next(&self, start: usize) -> Next<'a, T> {
        /// Rows up to which it is better to fetch one after the other: the product of the scores can.
        const SHORT_ROW_BYTES: usize = 1 << 10;
        let count = self.plan.rows().min(self.features.nrows() - start);
        let next = self.features.subrows(start, count);
        match self.features.ncols() * size_of::<T>() {
            _ if count == 0 || next.col_stride() != 1 => Next { for_scores: None, for_gradient: None },
            ..=SHORT_ROW_BYTES => Next { for_scores: Some(next), for_gradient: None },
            _ => Next { for_scores: None, for_gradient: Some(next.transpose()) },
        }
    }

    /// The scores of some samples, and in their place what is wanted of them.
    fn softmax(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        want: Want,
        losses: Option<&mut [T]>,
    ) -> f64 {
        self.scores(samples.clone(), scratch, None);
        self.softmax_of_scores(samples, scratch, want, losses)
    }

    /// What is wanted of the scores in the scratch, in their place.
    fn softmax_of_scores(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        want: Want,
        losses: Option<&mut [T]>,
    ) -> f64 {
        let (data, per_sample, labels) = scratch.parts(&self.plan, samples.len());
        match self.labels {
            Some(all) => all.copy_to(samples.clone(), labels),
            None => labels.fill(NO_LABEL),
        }
        let scores = Scores {
            data,
            layout: self.plan.layout(),
            stride: self.plan.stride(),
            samples: samples.len(),
            classes: self.theta.ncols(),
        };
        let weights = self.weights.map(|weights| &weights[samples]);
        let block = Residual { scores, labels, weights, divisor: self.divisor, want, per_sample, losses };
        self.level.dispatch(block)
    }

    /// A block of scores as a matrix.
    fn view<'s>(&self, rows: usize, scratch: &'s mut BlockScratch<T>) -> MatMut<'s, T> {
        let (data, ..) = scratch.parts(&self.plan, rows);
        let (classes, stride) = (self.theta.ncols(), self.plan.stride());
        let column_major = MatMut::from_column_major_slice_with_stride_mut;
        match self.plan.layout() {
            Layout::ClassMajor => column_major(data, rows, classes, stride),
            // Not faer's row-major constructor with a stride, which mixes up the two strides as of 0.24.4.
            Layout::SampleMajor => column_major(data, classes, rows, stride).transpose_mut(),
        }
    }

    fn product(&self, product: Product<'_, T>) {
        if self.plan.in_pieces() {
            self.product_in_pieces(product, PIECE_DEPTH);
        } else {
            product.run(self.level);
        }
    }

    /// A product, its result cut along its longer side into pieces that do not depend on who runs them.
    fn product_in_pieces(&self, product: Product<'_, T>, depth: u32) {
        let Product { dst, held, a, b, next } = product;
        let (rows, cols) = dst.shape();
        if depth == 0 || rows * cols * a.ncols() < PIECE_WORK {
            return Product { dst, held, a, b, next }.run(self.level);
        }
        let again = |dst: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>| {
            self.product_in_pieces(Product { dst, held, a, b, next: None }, depth - 1);
        };
        if rows > cols {
            let half = (rows / 2).next_multiple_of(MAX_LANES).min(rows);
            let (dst_0, dst_1) = dst.split_at_row_mut(half);
            let (a_0, a_1) = a.split_at_row(half);
            self.parallelism.join(|| again(dst_0, a_0, b), || again(dst_1, a_1, b));
        } else {
            let half = (cols / 2).next_multiple_of(MAX_LANES).min(cols);
            let (dst_0, dst_1) = dst.split_at_col_mut(half);
            let (b_0, b_1) = b.split_at_col(half);
            self.parallelism.join(|| again(dst_0, a, b_0), || again(dst_1, a, b_1));
        }
    }
}

/// A product is split in two this often.
const PIECE_DEPTH: u32 = 3;

/// Multiply-adds below which a product is not split further.
const PIECE_WORK: usize = 1 << 18;

/// The samples without those that have weight 0 and features that are not finite, as runs of neighbours: their
/// residual is 0, but 0·NaN and 0·∞ would poison a product.
fn unpoisoned<'a, T: Real>(
    features: MatRef<'a, T>,
    weights: Option<&'a [T]>,
    samples: Range<usize>,
) -> impl Iterator<Item = Range<usize>> + 'a {
    let poisoned = move |sample: usize| {
        weights.is_some_and(|w| w[sample] == T::ZERO)
            && features.row(sample).iter().any(|x| !x.to_f64().is_finite())
    };
    let mut rest = samples;
    core::iter::from_fn(move || {
        if weights.is_none() {
            return (!rest.is_empty()).then(|| core::mem::replace(&mut rest, 0..0));
        }
        let start = rest.clone().find(|&sample| !poisoned(sample))?;
        let end = (start..rest.end).find(|&sample| poisoned(sample)).unwrap_or(rest.end);
        rest.start = end;
        Some(start..end)
    })
}

/// [`kernel::softmax_residual`](crate::kernel::softmax_residual) at a level.
pub(crate) fn residual_of_scores<T: Real>(
    mut scores: MatMut<'_, T>,
    targets: Targets<'_, T>,
    level: SimdLevel,
) -> Result<f64, Error> {
    let (samples, classes) = scores.shape();
    if targets.samples() != samples {
        let found = targets.samples();
        return Err(Error::SampleCount { features: samples, operand: Operand::Targets, found });
    }
    check_scores(samples, classes)?;
    targets.labels().check(classes)?;

    let shape = Shape { samples, features: 0, classes, size: size_of::<T>(), column_major: false };
    let plan = Plan::new(shape, None);
    let mut scratch = BlockScratch::new();
    scratch.reserve(&plan)?;
    let problem = Problem {
        features: MatRef::from_column_major_slice(&[], samples, 0),
        theta: MatRef::from_column_major_slice(&[], 0, classes),
        labels: Some(targets.labels()),
        weights: None,
        divisor: 1.0,
        level,
        plan,
        parallelism: Parallelism::Serial,
    };
    let mut total = 0.0;
    for block in 0..plan.blocks() {
        let rows = plan.samples_of(block..block + 1);
        let mut part = scores.as_mut().subrows_mut(rows.start, rows.len());
        problem.view(rows.len(), &mut scratch).copy_from(part.as_ref());
        total += problem.softmax_of_scores(rows.clone(), &mut scratch, Want::Residual, None);
        part.copy_from(problem.view(rows.len(), &mut scratch));
    }
    Ok(total)
}

/// Whether there are classes, and scores can be counted.
pub(crate) fn check_scores(samples: usize, classes: usize) -> Result<(), Error> {
    if classes == 0 {
        return Err(Error::NoClasses);
    }
    if classes >= NO_LABEL as usize || samples.checked_mul(classes).is_none() {
        return Err(Error::TooManyScores { samples, classes });
    }
    Ok(())
}
