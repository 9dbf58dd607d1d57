//! One block of samples: scores → softmax → residual → its part of the gradient.

mod curvature;
mod features;
mod head;
mod hessian;
mod prediction;
mod targets;

pub(crate) use head::{losses_of_scores, residual_of_scores};

use crate::batch::{Data, Features, Kind, Targets};
use crate::error::Error;
use crate::gemm::{Destination, Product};
use crate::kernel::{
    ColumnSums, Curve, Layout, MatrixCopy, Multiply, NO_LABEL, Real, Residual, Scores, SimdLevel, SoftCap,
    Span, SparseGradient, SparseScores, Target, Transform, Want, silent,
};
use crate::options::Options;
use crate::schedule::{Case, Halves, Parallelism, Plan, Shape, Storage, Threads};
use crate::workspace::{BlockData, BlockScratch, Planes, Sizes};
use core::ops::Range;
use faer::reborrow::IntoConst;
use faer::{MatMut, MatRef};
use features::{Pass, Rows};

/// A linear map from features to scores: Θ, or a direction that Θ may take.
#[derive(Clone, Copy)]
pub(crate) struct Linear<'a, T> {
    /// n×K.
    pub(crate) matrix: MatRef<'a, T>,
    /// 1×K.
    pub(crate) intercept: Option<MatRef<'a, T>>,
    /// For sparse features, all rows one after the other, each padded to whole registers; else nothing.
    pub(crate) rows: &'a [T],
}

impl<'a, T> Linear<'a, T> {
    /// The last row of `matrix` is the intercept if there are more rows than features.
    pub(crate) fn new(matrix: MatRef<'a, T>, features: usize) -> Self {
        let (matrix, rest) = matrix.split_at_row(features);
        Self { matrix, intercept: (rest.nrows() > 0).then_some(rest), rows: &[] }
    }

    pub(crate) fn classes(&self) -> usize {
        self.matrix.ncols()
    }
}

/// What is to be computed, as far as scratch and schedule depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Task {
    /// Scores, and what follows from them for each sample.
    Prediction,
    /// The sum of the losses, and perhaps each of them.
    Loss,
    /// Loss and gradient.
    Gradient,
    /// Both, and the gradient of X.
    Gradients,
    /// The product of the Hessian with a direction.
    HessianProduct,
    /// The diagonal of the Hessian.
    HessianDiagonal,
    /// The Hessian.
    Hessian,
}

impl Task {
    /// Whether it is of second derivatives.
    fn is_curved(self) -> bool {
        matches!(self, Self::HessianProduct | Self::HessianDiagonal | Self::Hessian)
    }
}

/// What every block of an evaluation shares.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a, T> {
    pub(crate) features: Features<'a, T>,
    pub(crate) theta: Linear<'a, T>,
    /// What the second derivative is multiplied by.
    pub(crate) direction: Option<Linear<'a, T>>,
    /// None where only probabilities are wanted.
    pub(crate) targets: Option<Targets<'a, T>>,
    pub(crate) weights: Option<&'a [T]>,
    pub(crate) options: &'a Options,
    /// What the weights are divided by in the gradient: 1, or the total weight.
    pub(crate) divisor: f64,
    pub(crate) task: Task,
    pub(crate) level: SimdLevel,
    pub(crate) plan: Plan,
    pub(crate) threads: Threads,
    pub(crate) case: Option<Case>,
}

/// Where the gradient of a block goes, or what lies as it does.
pub(crate) struct Gradient<'a, T> {
    pub(crate) matrix: MatMut<'a, T>,
    pub(crate) held: Destination,
}

/// Which planes a block has beside its scores.
fn planes<T: Real>(options: &Options, targets: Option<Targets<'_, T>>, task: Task) -> Planes {
    let is_capped = options.soft_cap.is_some() && targets.is_some();
    let is_curved = task.is_curved();
    let has_targets = match targets.map(|targets| targets.kind()) {
        None => false,
        Some(Kind::Labels(_)) => options.spells_out_labels() || (is_curved && is_capped),
        Some(Kind::Soft(_)) => true,
    };
    Planes([has_targets, is_capped, is_curved, is_curved && is_capped])
}

impl<'a, T: Real> Problem<'a, T> {
    /// Of features with perhaps targets; by default of samples of weight 1, and their sum.
    pub(crate) fn new(
        features: Features<'a, T>,
        theta: MatRef<'a, T>,
        targets: Option<Targets<'a, T>>,
        options: &'a Options,
        task: Task,
        level: SimdLevel,
        parallelism: Parallelism,
        block_bytes: Option<usize>,
    ) -> Self {
        let (samples, n) = (features.samples(), features.features());
        let storage = match features.data() {
            Data::Sparse(x) => Storage::Sparse { entries: x.entries() },
            // Where neither stride is 1, the products read a copy by rows.
            Data::Dense(x) if x.row_stride() == 1 && x.col_stride().unsigned_abs() > 1 => {
                Storage::ColumnMajor
            }
            _ => Storage::RowMajor,
        };
        let planes = planes(options, targets, task).count();
        let shape = Shape {
            samples,
            features: n,
            classes: theta.ncols(),
            planes,
            size: size_of::<T>(),
            storage,
            level,
        };
        let plan = match task {
            Task::Hessian => Plan::of_hessian(shape, block_bytes),
            _ => Plan::new(shape, block_bytes),
        };
        let (threads, case) = plan.threads(parallelism, task);
        Self {
            features,
            theta: Linear::new(theta, n),
            direction: None,
            targets,
            weights: None,
            options,
            divisor: 1.0,
            task,
            level,
            plan,
            threads,
            case,
        }
    }

    /// With weights, and a divisor of the gradient.
    pub(crate) fn weighted(self, weights: Option<&'a [T]>, divisor: f64) -> Self {
        Self { weights, divisor, ..self }
    }

    /// What a block needs of scratch.
    pub(crate) fn sizes(&self) -> Sizes {
        let rows = self.plan.rows();
        let copies = match self.task {
            Task::HessianDiagonal => rows.saturating_mul(self.features_stride()),
            Task::Hessian => self.hessian_room(rows),
            _ => 0,
        };
        Sizes {
            rows,
            plane: self.plan.scores_len(),
            planes: planes(self.options, self.targets, self.task),
            weights: self.weighs(),
            features: match self.features.data() {
                // A number a class.
                Data::Sparse(_) => self.plan.padded_classes(),
                _ => copies.saturating_add(self.copied_features(rows)),
            },
        }
    }

    fn classes(&self) -> usize {
        self.theta.classes()
    }

    /// Adds to a matrix what some samples contribute to the derivative that is the task, and returns the sum of their
    /// losses if that is the gradient.
    pub(crate) fn add_derivative(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        out: Gradient<'_, T>,
        input_gradient: Option<MatMut<'_, T>>,
    ) -> f64 {
        match self.task {
            Task::HessianProduct => self.curvature(samples, scratch, out, Curve::Product),
            Task::HessianDiagonal => self.curvature(samples, scratch, out, Curve::Diagonal),
            Task::Hessian => self.hessian(samples, scratch, out),
            _ => return self.loss_and_gradient(samples, scratch, out, input_gradient),
        }
        0.0
    }

    /// Adds the gradient of some samples to a matrix, and returns the sum of their losses. Their part of the input
    /// gradient too, if there is a place for it.
    fn loss_and_gradient(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        gradient: Gradient<'_, T>,
        input_gradient: Option<MatMut<'_, T>>,
    ) -> f64 {
        let (mut block, room) = scratch.data(samples.len());
        self.prepare(samples.clone(), &mut block);
        let last = if input_gradient.is_some() { Pass::InputGradient } else { Pass::Gradient };
        let (mut x, room) = self.block_features(samples.clone(), last, room);
        if let Some(out) = &input_gradient {
            x = x.with_input_gradient(Span::of(out.as_ref()));
        }
        self.scores(x, &mut block, room);
        let loss = self.softmax(&mut block, Want::Residual, None, x.for_softmax());
        self.chain(&mut block);
        let weights = block.weights.as_deref();
        self.add_product(x, block.scores, weights, room, gradient);
        if let Some(mut out) = input_gradient {
            let residual = self.matrix(block.scores, samples.len()).into_const();
            let theta = self.theta.matrix.transpose();
            let held = Destination::Replace;
            self.product(Product {
                dst: out.as_mut(),
                held,
                a: residual,
                b: theta,
                is_streamed: false,
                next: Span::NOTHING,
            });
            for sample in silent(weights) {
                out.as_mut().row_mut(sample).fill(T::ZERO);
            }
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
        let (mut block, room) = scratch.data(samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples, Pass::Softmax, room);
        self.scores(x, &mut block, room);
        self.softmax(&mut block, Want::Loss, losses, x.for_softmax())
    }

    /// Z = X Θ of a block, transformed.
    fn scores(&self, x: Rows<'_, T>, block: &mut BlockData<'_, T>, room: &mut [T]) {
        self.linear(x, self.theta, block.scores, room);
        self.transform(x.samples(), block);
    }

    /// What the scores of a block go through before the softmax, and what derivatives need of it.
    fn transform(&self, samples: usize, block: &mut BlockData<'_, T>) {
        if self.options.transforms() {
            let transform = Transform {
                scores: block.scores,
                temperature: self.options.temperature,
                soft_cap: self.options.soft_cap.map(|cap| SoftCap {
                    cap,
                    slopes: block.slopes.as_deref_mut(),
                    bends: block.bends.as_deref_mut(),
                }),
                direction: block.direction.as_deref_mut(),
            };
            self.run(transform, &|part| T::run_transform(part, self.level), &|(), ()| ());
        }
        // Where a residual is 0, what it is multiplied by must be finite.
        let planes = [&mut block.slopes, &mut block.direction, &mut block.bends];
        for plane in planes.into_iter().filter_map(|plane| plane.as_deref_mut()) {
            for sample in silent(block.weights.as_deref()) {
                self.matrix(plane, samples).row_mut(sample).fill(T::ZERO);
            }
        }
    }

    /// From a derivative in the space of the transformed scores, in the scores' place, to one in that of the scores.
    fn chain(&self, block: &mut BlockData<'_, T>) {
        if let Some(by) = block.slopes.as_deref() {
            let multiply = Multiply { x: block.scores, by };
            self.run(multiply, &|part| T::run_multiply(part, self.level), &|(), ()| ());
        }
    }

    /// X·B + 1·b of a block.
    fn linear(&self, x: Rows<'_, T>, map: Linear<'_, T>, out: &mut [T], room: &mut [T]) {
        let (x, next, is_streamed) = match x {
            Rows::Dense { x, next } => (x, next.for_scores, next.is_streamed),
            Rows::Sparse { x, start, count } => {
                let product = SparseScores {
                    x,
                    samples: start..start + count,
                    rows: map.rows,
                    has_intercept: map.intercept.is_some(),
                    out: self.view(out, count),
                    buffer: room,
                };
                return T::run_sparse_scores(product, self.level);
            }
        };
        let mut dst = self.matrix(out, x.nrows());
        let held = match map.intercept {
            None => Destination::Replace,
            Some(intercept) => {
                for class in 0..map.classes() {
                    dst.as_mut().col_mut(class).fill(intercept[(0, class)]);
                }
                Destination::Add
            }
        };
        self.product(Product { dst, held, a: x, b: map.matrix, is_streamed, next });
    }

    /// What is wanted of the scores of a block, in their place, and the sum of the losses.
    fn softmax(&self, block: &mut BlockData<'_, T>, want: Want, losses: Option<&mut [T]>, next: Span) -> f64 {
        let data = core::mem::take(&mut block.scores);
        let loss = self.softmax_of(self.view(&mut *data, block.labels.len()), block, want, losses, next);
        block.scores = data;
        loss
    }

    /// The same, of scores in another place than the block's.
    fn softmax_of(
        &self,
        scores: Scores<'_, T>,
        block: &mut BlockData<'_, T>,
        want: Want,
        losses: Option<&mut [T]>,
        next: Span,
    ) -> f64 {
        let BlockData { targets, per_sample, labels, weights, .. } = block;
        let residual = Residual {
            target: targets.as_deref().map_or(Target::Label, |targets| Target::soft(targets, &scores)),
            scores,
            labels,
            weights: weights.as_deref(),
            // The derivative of the temperature is the same for all.
            divisor: self.divisor * self.options.temperature,
            z_loss: self.options.z_loss,
            want,
            per_sample: per_sample.reborrow(),
            losses,
            next,
        };
        self.run(residual, &|part| T::run_residual(part, self.level), &|a, b| a + b)
    }

    /// A plane of a block as the kernels see it.
    fn view<'s>(&self, data: &'s mut [T], samples: usize) -> Scores<'s, T> {
        Scores::new(data, self.plan.layout(), self.plan.stride(), (samples, self.classes()))
    }

    /// A plane of a block as a matrix.
    fn matrix<'s>(&self, data: &'s mut [T], rows: usize) -> MatMut<'s, T> {
        let (classes, stride) = (self.classes(), self.plan.stride());
        let column_major = MatMut::from_column_major_slice_with_stride_mut;
        match self.plan.layout() {
            Layout::ClassMajor => column_major(data, rows, classes, stride),
            // Of one sample, both strides are 1.
            Layout::SampleMajor if rows == 1 => column_major(&mut data[..classes], 1, classes, 1),
            // Not faer's row-major constructor with a stride, which mixes up the two strides as of 0.24.4.
            Layout::SampleMajor => column_major(data, classes, rows, stride).transpose_mut(),
        }
    }

    /// Adds Xᵀ·R of a block to a matrix, and the sums of R's columns to the row of the intercept if there is one.
    fn add_product(
        &self,
        x: Rows<'_, T>,
        r: &mut [T],
        weights: Option<&[f64]>,
        room: &mut [T],
        out: Gradient<'_, T>,
    ) {
        let Gradient { mut matrix, mut held } = out;
        let (x, next, is_streamed) = match x {
            Rows::Dense { x, next } => (x, next.for_gradient, next.is_streamed),
            Rows::Sparse { x, start, count } => {
                if held == Destination::Replace {
                    matrix.fill(T::ZERO);
                }
                let product = SparseGradient {
                    x,
                    samples: start..start + count,
                    weights,
                    squared: self.task == Task::HessianDiagonal,
                    has_intercept: self.options.intercept,
                    residual: self.view(r, count),
                    out: matrix.transpose_mut(),
                    buffer: room,
                };
                return T::run_sparse_gradient(product, self.level);
            }
        };
        let r = self.matrix(r, x.nrows()).into_const();
        let (mut matrix, mut intercept) = matrix.split_at_row_mut(x.ncols());
        if intercept.nrows() > 0 {
            T::run_column_sums(ColumnSums { x: r, out: intercept.as_mut(), held }, self.level);
        }
        for run in unpoisoned(x, weights) {
            let a = x.subrows(run.start, run.len()).transpose();
            let b = r.subrows(run.start, run.len());
            self.product(Product { dst: matrix.as_mut(), held, a, b, is_streamed, next });
            held = Destination::Add;
        }
        if held == Destination::Replace {
            matrix.fill(T::ZERO);
        }
    }

    /// A kernel on all of a block; in pieces if there are some for threads.
    fn run<W: Halves, R: Send>(
        &self,
        work: W,
        kernel: &(impl Fn(W) -> R + Sync),
        add: &(impl Fn(R, R) -> R + Sync),
    ) -> R {
        if self.plan.in_pieces() { self.threads.in_pieces(work, kernel, add) } else { kernel(work) }
    }

    /// A matrix copied; in pieces, as a kernel.
    pub(crate) fn copy(&self, from: MatRef<'_, T>, to: MatMut<'_, T>) {
        self.run(MatrixCopy::new(from, to), &|part| T::run_copy(part, self.level), &|(), ()| ());
    }

    fn product(&self, product: Product<'_, T>) {
        if self.plan.in_pieces() {
            product.run_in_pieces(self.level, self.threads);
        } else {
            product.run(self.level);
        }
    }
}

/// The samples without those that have weight 0 and features that are not finite, as runs of neighbours: their
/// residual is 0, but 0·NaN and 0·∞ would poison a product.
fn unpoisoned<'a, T: Real>(
    features: MatRef<'a, T>,
    weights: Option<&'a [f64]>,
) -> impl Iterator<Item = Range<usize>> + 'a {
    let poisoned = move |sample: usize| {
        weights.is_some_and(|weights| weights[sample] == 0.0)
            && features.row(sample).iter().any(|x| !x.to_f64().is_finite())
    };
    let has_silent = silent(weights).next().is_some();
    let mut rest = 0..features.nrows();
    core::iter::from_fn(move || {
        if !has_silent {
            return (!rest.is_empty()).then(|| core::mem::replace(&mut rest, 0..0));
        }
        let start = rest.clone().find(|&sample| !poisoned(sample))?;
        let end = (start..rest.end).find(|&sample| poisoned(sample)).unwrap_or(rest.end);
        rest.start = end;
        Some(start..end)
    })
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
