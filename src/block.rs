//! One block of samples: scores → softmax → residual → its part of the gradient; or the second derivative in its place.

use crate::batch::{Batch, Data, Features, Kind, Targets};
use crate::error::{Error, Operand};
use crate::gemm::{Destination, Product};
use crate::kernel::{
    Bend, ColumnSums, Curvature, Curve, Layout, MAX_LANES, Multiply, NO_LABEL, PerSample, Real, Residual,
    Scores, SimdLevel, SoftCap, Sparse, SparseGradient, SparseScores, Target, Transform, Want,
};
use crate::options::Options;
use crate::schedule::{Parallelism, Plan, Shape, Storage};
use crate::workspace::{BlockData, BlockScratch, Sizes};
use core::ops::Range;
use faer::reborrow::IntoConst;
use faer::{MatMut, MatRef, unzip, zip};

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    /// Scores, loss, gradient.
    Value,
    /// The product of the Hessian with a direction.
    HessianProduct,
    /// The diagonal of the Hessian.
    HessianDiagonal,
    /// The Hessian.
    Hessian,
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
    pub(crate) parallelism: Parallelism,
}

/// Which planes a block has beside its scores, in the order of [`BlockData`].
pub(crate) fn planes<T: Real>(options: &Options, targets: Option<Targets<'_, T>>, task: Task) -> [bool; 4] {
    let is_capped = options.soft_cap.is_some() && targets.is_some();
    let is_curved = task != Task::Value;
    let has_targets = match targets.map(|targets| targets.kind()) {
        None => false,
        Some(Kind::Labels(_)) => options.spells_out_labels() || (is_curved && is_capped),
        Some(Kind::Soft(_)) => true,
    };
    [has_targets, is_capped, is_curved, is_curved && is_capped]
}

/// Where the gradient of a block goes, or what lies as it does.
pub(crate) struct Gradient<'a, T> {
    pub(crate) matrix: MatMut<'a, T>,
    pub(crate) held: Destination,
}

/// The features of a block as the products read them.
#[derive(Clone, Copy)]
enum Rows<'a, T> {
    Dense(MatRef<'a, T>),
    Sparse {
        x: Sparse<'a, T>,
        /// First sample, and how many.
        start: usize,
        count: usize,
    },
}

impl<T> Rows<'_, T> {
    fn samples(&self) -> usize {
        match self {
            Self::Dense(x) => x.nrows(),
            Self::Sparse { count, .. } => *count,
        }
    }
}

/// The next block's features as one of the products of this block reads its own.
struct Next<'a, T> {
    for_scores: Option<MatRef<'a, T>>,
    for_gradient: Option<MatRef<'a, T>>,
}

impl<'a, T: Real> Problem<'a, T> {
    /// With targets and weights, and a divisor of the gradient.
    pub(crate) fn of(self, batch: &Batch<'a, T>, divisor: f64) -> Self {
        Self { targets: Some(batch.targets()), weights: batch.weights(), divisor, ..self }
    }

    /// What a block needs of scratch.
    pub(crate) fn sizes(&self) -> Sizes {
        let rows = self.plan.rows();
        let copies = match self.task {
            Task::Value | Task::HessianProduct => 0,
            Task::HessianDiagonal => 1,
            Task::Hessian => 2,
        } + usize::from(self.copies_features());
        Sizes {
            rows,
            plane: self.plan.scores_len(),
            planes: planes(self.options, self.targets, self.task),
            features: match self.features.data() {
                // A number a class.
                Data::Sparse(_) => self.plan.padded_classes(),
                _ => copies.saturating_mul(rows).saturating_mul(self.features_stride()),
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
            Task::Value => return self.loss_and_gradient(samples, scratch, out, input_gradient),
            Task::HessianProduct => self.curvature(samples, scratch, out, Curve::Product),
            Task::HessianDiagonal => self.curvature(samples, scratch, out, Curve::Diagonal),
            Task::Hessian => self.hessian(samples, scratch, out),
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
        let (mut block, room) = scratch.data(&self.sizes(), samples.len());
        let next = self.next(samples.end);
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), room);
        self.scores(x, &mut block, room, next.for_scores);
        let loss = self.softmax(&mut block, Want::Residual, None);
        if !block.slopes.is_empty() {
            T::run_multiply(Multiply { x: block.scores, by: block.slopes }, self.level);
        }
        let weights = self.weighs().then_some(&*block.weights);
        self.add_product(x, block.scores, weights, room, gradient, next.for_gradient);
        if let Some(mut out) = input_gradient {
            let residual = self.matrix(block.scores, samples.len()).into_const();
            let theta = self.theta.matrix.transpose();
            let held = Destination::Replace;
            self.product(Product { dst: out.as_mut(), held, a: residual, b: theta, next: None });
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
        let (mut block, room) = scratch.data(&self.sizes(), samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples, room);
        self.scores(x, &mut block, room, None);
        self.softmax(&mut block, Want::Loss, losses)
    }

    /// Probabilities of some samples.
    pub(crate) fn probabilities(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        mut out: MatMut<'_, T>,
    ) {
        let (mut block, room) = scratch.data(&self.sizes(), samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), room);
        self.scores(x, &mut block, room, None);
        self.softmax(&mut block, Want::Probabilities, None);
        out.copy_from(self.matrix(block.scores, samples.len()));
    }

    /// The class of the largest score of some samples, the lowest of several; NaN is never the largest.
    pub(crate) fn predict(&self, samples: Range<usize>, scratch: &mut BlockScratch<T>, out: &mut [u32]) {
        let (block, room) = scratch.data(&self.sizes(), samples.len());
        let (x, room) = self.block_features(samples.clone(), room);
        self.linear(x, self.theta, block.scores, room, None);
        let scores = self.matrix(block.scores, samples.len());
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

    /// The classes of the largest scores of some samples, and their probabilities: as many as `classes` has columns. Of
    /// equal scores the lowest class first; NaN last.
    pub(crate) fn top_k(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        mut classes: MatMut<'_, u32>,
        mut probabilities: MatMut<'_, T>,
    ) {
        let (mut block, room) = scratch.data(&self.sizes(), samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), room);
        // Before the transform, which keeps the order but may make scores equal.
        self.linear(x, self.theta, block.scores, room, None);
        let count = classes.ncols();
        let scores = self.matrix(block.scores, samples.len());
        let is_above = |a: T, b: T| a > b || (b.to_f64().is_nan() && !a.to_f64().is_nan());
        for i in 0..samples.len() {
            for class in 0..scores.ncols() {
                let score = scores[(i, class)];
                let mut at = class.min(count);
                while at > 0 && is_above(score, scores[(i, classes[(i, at - 1)] as usize)]) {
                    at -= 1;
                }
                for later in (at + 1..count.min(class + 1)).rev() {
                    classes[(i, later)] = classes[(i, later - 1)];
                }
                if at < count {
                    classes[(i, at)] = class as u32;
                }
            }
        }
        self.transform(samples.len(), &mut block);
        self.softmax(&mut block, Want::Probabilities, None);
        let all = self.matrix(block.scores, samples.len());
        for k in 0..count {
            for i in 0..samples.len() {
                probabilities[(i, k)] = all[(i, classes[(i, k)] as usize)];
            }
        }
    }

    /// Adds to a matrix what some samples contribute to the product of the Hessian with the direction; or to its
    /// diagonal, for which there is no direction.
    fn curvature(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        out: Gradient<'_, T>,
        curve: Curve,
    ) {
        let (mut block, room) = scratch.data(&self.sizes(), samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), room);
        self.curve(x, &mut block, room, curve);
        let weights = self.weighs().then_some(&*block.weights);
        match x {
            Rows::Dense(x) if curve == Curve::Diagonal => {
                let (squares, room) = self.copy_features(x, room, |x| x * x);
                self.add_product(squares, block.direction, weights, room, out, None);
            }
            _ => self.add_product(x, block.direction, weights, room, out, None),
        }
    }

    /// Adds to a matrix (of as many rows and columns as Θ has numbers, the columns of Θ one after the other) what some
    /// samples contribute to the Hessian, in the blocks on and below the diagonal.
    fn hessian(&self, samples: Range<usize>, scratch: &mut BlockScratch<T>, out: Gradient<'_, T>) {
        let Gradient { mut matrix, held } = out;
        let (mut block, room) = scratch.data(&self.sizes(), samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), room);
        self.curve(x, &mut block, room, Curve::Diagonal);
        if !block.slopes.is_empty() {
            T::run_multiply(Multiply { x: block.scores, by: block.slopes }, self.level);
        }
        let weights = self.weighs().then_some(&*block.weights);
        let is_silent = |i: usize| weights.is_some_and(|weights| weights[i] == 0.0);
        let rows = samples.len();
        let probabilities = self.matrix(block.scores, rows).into_const();
        let diagonal = self.matrix(block.direction, rows).into_const();
        let per_sample = &block.per_sample;
        // The second derivative of a sample's loss by the scores of classes k and j, in closed form for k ≠ j.
        let second = |i: usize, k: usize, j: usize| {
            if is_silent(i) {
                return T::ZERO;
            }
            if j == k {
                return diagonal[(i, k)];
            }
            let total = if block.targets.is_empty() { 1.0 } else { per_sample.total[i].to_f64() };
            let multiplier = match 2.0 * self.options.z_loss {
                0.0 => total,
                z_loss => total + z_loss * (per_sample.top[i].to_f64() + per_sample.tail[i].to_f64() - 1.0),
            };
            let common = -multiplier * per_sample.coefficient[i].to_f64() / self.options.temperature;
            T::from_f64(common) * (probabilities[(i, k)] * probabilities[(i, j)])
        };
        let width = self.options.theta_rows(self.features.features());
        let pairs = (0..self.classes()).flat_map(|k| (0..=k).map(move |j| (k, j)));
        let x = match x {
            Rows::Dense(x) => x,
            Rows::Sparse { x, start, .. } => {
                if held == Destination::Replace {
                    matrix.fill(T::ZERO);
                }
                let intercept = self.options.intercept.then(|| (width - 1, T::ONE));
                for i in (0..rows).filter(|&i| !is_silent(i)) {
                    for (k, j) in pairs.clone() {
                        let second = second(i, k, j);
                        for (a, x_a) in x.row(start + i).chain(intercept) {
                            for (b, x_b) in x.row(start + i).chain(intercept) {
                                let out = &mut matrix[(k * width + a, j * width + b)];
                                *out += x_a * second * x_b;
                            }
                        }
                    }
                }
                return;
            }
        };
        // Samples with the 1 of the intercept, those of weight 0 without what could poison the product; and the same times
        // a number each.
        let stride = self.features_stride();
        let (all, scaled) = room.split_at_mut(stride * rows);
        for (i, row) in all.chunks_exact_mut(stride).enumerate() {
            for (j, out) in row[..width].iter_mut().enumerate() {
                *out = match j {
                    _ if is_silent(i) => T::ZERO,
                    j if j < x.ncols() => x[(i, j)],
                    _ => T::ONE,
                };
            }
        }
        for (k, j) in pairs {
            for (i, (row, out)) in all.chunks_exact(stride).zip(scaled.chunks_exact_mut(stride)).enumerate() {
                let second = second(i, k, j);
                for (out, &x) in out[..width].iter_mut().zip(row) {
                    *out = second * x;
                }
            }
            let dst = matrix.as_mut().submatrix_mut(k * width, j * width, width, width);
            let a = rows_of(scaled, width, rows, stride).transpose();
            self.product(Product { dst, held, a, b: rows_of(all, width, rows, stride), next: None });
        }
    }

    /// The second derivative of the losses in the space of the scores, along the direction or on the diagonal, in the
    /// direction's place; probabilities in that of the scores.
    fn curve(&self, x: Rows<'_, T>, block: &mut BlockData<'_, T>, room: &mut [T], curve: Curve) {
        match self.direction {
            Some(direction) => self.linear(x, direction, block.direction, room, None),
            None => block.direction.fill(T::ONE),
        }
        self.scores(x, block, room, None);
        let rows = x.samples();
        self.softmax(block, Want::Probabilities, None);
        let PerSample { coefficient, top, tail, total, .. } = &block.per_sample;
        let curvature = Curvature {
            scores: self.view(block.scores, rows),
            direction: block.direction,
            bend: (!block.bends.is_empty()).then_some(Bend {
                slopes: block.slopes,
                bends: block.bends,
                targets: block.targets,
            }),
            z_loss: self.options.z_loss,
            curve,
            coefficient,
            top,
            tail,
            total: (!block.targets.is_empty()).then_some(&**total),
        };
        T::run_curvature(curvature, self.level);
    }

    /// Whether samples have weights of their own.
    fn weighs(&self) -> bool {
        self.targets.is_some()
            && (self.weights.is_some() || self.options.ignore_label.is_some() || self.weighs_labels())
    }

    /// Whether the weight of a class is one of the samples with that label.
    fn weighs_labels(&self) -> bool {
        self.options.class_weights.is_some()
            && !self.options.spells_out_labels()
            && matches!(self.targets.map(|t| t.kind()), Some(Kind::Labels(_)))
    }

    /// Labels, weights and targets of some samples.
    fn prepare(&self, samples: Range<usize>, block: &mut BlockData<'_, T>) {
        match self.targets.map(|targets| targets.kind()) {
            None => block.labels.fill(NO_LABEL),
            Some(Kind::Labels(labels)) => labels.copy_to(samples.clone(), block.labels),
            Some(Kind::Soft(_)) => block.labels.fill(0),
        }
        if self.weighs() {
            match self.weights {
                None => block.weights.fill(1.0),
                Some(weights) => {
                    for (out, weight) in block.weights.iter_mut().zip(&weights[samples.clone()]) {
                        *out = weight.to_f64();
                    }
                }
            }
            if let (Some(Kind::Labels(labels)), Some(ignore)) =
                (self.targets.map(|targets| targets.kind()), self.options.ignore_label)
            {
                labels.for_each_equal(samples.clone(), ignore, |i| {
                    (block.labels[i], block.weights[i]) = (0, 0.0)
                });
            }
            if self.weighs_labels() {
                for (weight, &label) in block.weights.iter_mut().zip(&*block.labels) {
                    *weight *= self.options.class_weight(label as usize);
                }
            }
        }
        if !block.targets.is_empty() {
            self.prepare_targets(samples, block);
        }
    }

    /// The targets of some samples for all classes, smoothed and weighted.
    fn prepare_targets(&self, samples: Range<usize>, block: &mut BlockData<'_, T>) {
        let classes = self.classes();
        let mut out = self.matrix(block.targets, samples.len());
        // Linear in what is given: 0 or 1, or anything between.
        let at = |class: usize, share: f64| self.options.target(class, share, classes);
        match self.targets.map(|targets| targets.kind()) {
            Some(Kind::Soft(targets)) => {
                let targets = targets.subrows(samples.start, samples.len());
                if !self.options.changes_targets() {
                    return out.copy_from(targets);
                }
                for class in 0..classes {
                    let (off, rise) =
                        (T::from_f64(at(class, 0.0)), T::from_f64(at(class, 1.0) - at(class, 0.0)));
                    zip!(out.as_mut().col_mut(class), targets.col(class))
                        .for_each(|unzip!(out, t)| *out = *t * rise + off);
                }
            }
            _ => {
                for class in 0..classes {
                    out.as_mut().col_mut(class).fill(T::from_f64(self.label_target(class, false)));
                }
                for (i, &label) in block.labels.iter().enumerate() {
                    out[(i, label as usize)] = T::from_f64(self.label_target(label as usize, true));
                }
            }
        }
    }

    /// t of a class that is the label or is not. The class weight may be a part of the sample's.
    fn label_target(&self, class: usize, is_label: bool) -> f64 {
        let share = f64::from(u8::from(is_label));
        if self.options.spells_out_labels() {
            self.options.target(class, share, self.classes())
        } else {
            share
        }
    }

    /// Whether the products read a copy of a block's features: where neither those of a sample nor those of a feature
    /// are neighbours, or they are of a smaller type.
    fn copies_features(&self) -> bool {
        match self.features.data() {
            Data::Dense(x) => x.row_stride() != 1 && x.col_stride() != 1,
            #[cfg(feature = "half")]
            Data::Half(_) => true,
            Data::Sparse(_) => false,
        }
    }

    /// Distance of neighbouring samples in a copy of the features, which has room for the 1 of an intercept.
    fn features_stride(&self) -> usize {
        self.options.theta_rows(self.features.features()).max(1).next_multiple_of(MAX_LANES)
    }

    /// The features of some samples as the products read them, and what is left of the room for copies.
    fn block_features<'s>(&self, samples: Range<usize>, room: &'s mut [T]) -> (Rows<'s, T>, &'s mut [T])
    where
        'a: 's,
    {
        match self.features.data() {
            Data::Sparse(x) => (Rows::Sparse { x, start: samples.start, count: samples.len() }, room),
            #[cfg(feature = "half")]
            Data::Half(x) => {
                let stride = self.features_stride();
                let (copy, room) = room.split_at_mut(stride * samples.len());
                let features = self.features.features();
                for (out, sample) in copy.chunks_exact_mut(stride).zip(samples.clone()) {
                    x.widen(sample, &mut out[..features]);
                }
                (Rows::Dense(rows_of(copy, features, samples.len(), stride)), room)
            }
            Data::Dense(x) => {
                let x = x.subrows(samples.start, samples.len());
                if self.copies_features() {
                    self.copy_features(x, room, |x| x)
                } else {
                    (Rows::Dense(x), room)
                }
            }
        }
    }

    /// f of features, sample by sample.
    fn copy_features<'s>(
        &self,
        x: MatRef<'_, T>,
        room: &'s mut [T],
        f: impl Fn(T) -> T,
    ) -> (Rows<'s, T>, &'s mut [T]) {
        let stride = self.features_stride();
        let (copy, room) = room.split_at_mut(stride * x.nrows());
        for (out, x) in copy.chunks_exact_mut(stride).zip(x.row_iter()) {
            for (out, &x) in out.iter_mut().zip(x.iter()) {
                *out = f(x);
            }
        }
        (Rows::Dense(rows_of(copy, x.ncols(), x.nrows(), stride)), room)
    }

    /// Z = X Θ of a block, transformed.
    fn scores(
        &self,
        x: Rows<'_, T>,
        block: &mut BlockData<'_, T>,
        room: &mut [T],
        next: Option<MatRef<'_, T>>,
    ) {
        self.linear(x, self.theta, block.scores, room, next);
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
                    slopes: (!block.slopes.is_empty()).then_some(&mut *block.slopes),
                    bends: (!block.bends.is_empty()).then_some(&mut *block.bends),
                }),
                direction: (!block.direction.is_empty()).then_some(&mut *block.direction),
            };
            T::run_transform(transform, self.level);
        }
        // Where a residual is 0, what it is multiplied by must be finite.
        for sample in silent(self.weighs().then_some(&*block.weights)) {
            for plane in [&mut *block.slopes, &mut *block.direction, &mut *block.bends] {
                if !plane.is_empty() {
                    self.matrix(plane, samples).row_mut(sample).fill(T::ZERO);
                }
            }
        }
    }

    /// X·B + 1·b of a block.
    fn linear(
        &self,
        x: Rows<'_, T>,
        map: Linear<'_, T>,
        out: &mut [T],
        room: &mut [T],
        next: Option<MatRef<'_, T>>,
    ) {
        let x = match x {
            Rows::Dense(x) => x,
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
        self.product(Product { dst, held, a: x, b: map.matrix, next });
    }

    /// The features of the block that starts at a sample, for the product that is to fetch them early, if it is of use:
    /// not where the features of a sample lie apart.
    fn next(&self, start: usize) -> Next<'a, T> {
        /// Rows up to which it is better to fetch one after the other: the product of the scores can.
        const SHORT_ROW_BYTES: usize = 1 << 10;
        let Data::Dense(x) = self.features.data() else {
            return Next { for_scores: None, for_gradient: None };
        };
        let count = self.plan.rows().min(x.nrows() - start);
        let next = x.subrows(start, count);
        match x.ncols() * size_of::<T>() {
            _ if count == 0 || next.col_stride() != 1 => Next { for_scores: None, for_gradient: None },
            ..=SHORT_ROW_BYTES => Next { for_scores: Some(next), for_gradient: None },
            _ => Next { for_scores: None, for_gradient: Some(next.transpose()) },
        }
    }

    /// What is wanted of the scores of a block, in their place, and the sum of the losses.
    fn softmax(&self, block: &mut BlockData<'_, T>, want: Want, losses: Option<&mut [T]>) -> f64 {
        let BlockData { scores, targets, per_sample, labels, weights, .. } = block;
        let residual = Residual {
            scores: self.view(scores, labels.len()),
            target: if targets.is_empty() { Target::Label } else { Target::Soft(targets) },
            labels,
            weights: self.weighs().then_some(&**weights),
            // The derivative of the temperature is the same for all.
            divisor: self.divisor * self.options.temperature,
            z_loss: self.options.z_loss,
            want,
            per_sample: per_sample.reborrow(),
            losses,
        };
        T::run_residual(residual, self.level)
    }

    /// A plane of a block as the kernels see it.
    fn view<'s>(&self, data: &'s mut [T], samples: usize) -> Scores<'s, T> {
        let (layout, stride) = (self.plan.layout(), self.plan.stride());
        Scores { data, layout, stride, samples, classes: self.classes() }
    }

    /// A plane of a block as a matrix.
    fn matrix<'s>(&self, data: &'s mut [T], rows: usize) -> MatMut<'s, T> {
        let (classes, stride) = (self.classes(), self.plan.stride());
        let column_major = MatMut::from_column_major_slice_with_stride_mut;
        match self.plan.layout() {
            Layout::ClassMajor => column_major(data, rows, classes, stride),
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
        next: Option<MatRef<'_, T>>,
    ) {
        let Gradient { mut matrix, mut held } = out;
        let x = match x {
            Rows::Dense(x) => x,
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
            self.product(Product { dst: matrix.as_mut(), held, a, b, next });
            held = Destination::Add;
        }
        if held == Destination::Replace {
            matrix.fill(T::ZERO);
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

/// A matrix whose rows are so far apart.
fn rows_of<T>(data: &[T], columns: usize, rows: usize, stride: usize) -> MatRef<'_, T> {
    MatRef::from_column_major_slice_with_stride(data, columns, rows, stride).transpose()
}

/// The samples of weight 0.
fn silent(weights: Option<&[f64]>) -> impl Iterator<Item = usize> + '_ {
    let weights = weights.unwrap_or_default().iter().enumerate();
    weights.filter(|&(_, &weight)| weight == 0.0).map(|(sample, _)| sample)
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
    let mut rest = 0..features.nrows();
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
    let mut total = 0.0;
    for_scores(scores.shape(), targets, level, |problem, samples, block| {
        let mut part = scores.as_mut().subrows_mut(samples.start, samples.len());
        problem.matrix(block.scores, samples.len()).copy_from(part.as_ref());
        total += problem.softmax(block, Want::Residual, None);
        part.copy_from(problem.matrix(block.scores, samples.len()));
    })?;
    Ok(total)
}

/// [`kernel::sample_losses`](crate::kernel::sample_losses) at a level.
pub(crate) fn losses_of_scores<T: Real>(
    scores: MatRef<'_, T>,
    targets: Targets<'_, T>,
    losses: &mut [T],
    log_sum_exp: &mut [T],
    level: SimdLevel,
) -> Result<f64, Error> {
    for (operand, found) in [(Operand::Losses, losses.len()), (Operand::LogSumExp, log_sum_exp.len())] {
        if found != scores.nrows() {
            return Err(Error::SampleCount { features: scores.nrows(), operand, found });
        }
    }
    let mut total = 0.0;
    for_scores(scores.shape(), targets, level, |problem, samples, block| {
        let part = scores.subrows(samples.start, samples.len());
        problem.matrix(block.scores, samples.len()).copy_from(part);
        total += problem.softmax(block, Want::Loss, Some(&mut losses[samples.clone()]));
        let PerSample { top, tail, .. } = &block.per_sample;
        for (out, (&top, &tail)) in log_sum_exp[samples].iter_mut().zip(top.iter().zip(&**tail)) {
            *out = top + tail;
        }
    })?;
    Ok(total)
}

/// Runs `work` on every block of scores that come from elsewhere, its labels and targets prepared.
fn for_scores<T: Real>(
    (samples, classes): (usize, usize),
    targets: Targets<'_, T>,
    level: SimdLevel,
    mut work: impl FnMut(&Problem<'_, T>, Range<usize>, &mut BlockData<'_, T>),
) -> Result<(), Error> {
    if targets.samples() != samples {
        let found = targets.samples();
        return Err(Error::SampleCount { features: samples, operand: Operand::Targets, found });
    }
    check_scores(samples, classes)?;
    targets.check_all(classes)?;

    let options = Options::default();
    let planes = 1 + planes(&options, Some(targets), Task::Value).iter().filter(|&&used| used).count();
    let storage = Storage::RowMajor;
    let shape = Shape { samples, features: 0, classes, planes, size: size_of::<T>(), storage };
    let no_theta = MatRef::from_column_major_slice(&[], 0, classes);
    let problem = Problem {
        features: MatRef::from_column_major_slice(&[], samples, 0).into(),
        theta: Linear::new(no_theta, 0),
        direction: None,
        targets: Some(targets),
        weights: None,
        options: &options,
        divisor: 1.0,
        task: Task::Value,
        level,
        plan: Plan::new(shape, None),
        parallelism: Parallelism::Serial,
    };
    let sizes = problem.sizes();
    let mut scratch = BlockScratch::new();
    scratch.reserve(&sizes)?;
    for block in 0..problem.plan.blocks() {
        let samples = problem.plan.samples_of(block..block + 1);
        let (mut block, _) = scratch.data(&sizes, samples.len());
        problem.prepare(samples.clone(), &mut block);
        work(&problem, samples, &mut block);
    }
    Ok(())
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
