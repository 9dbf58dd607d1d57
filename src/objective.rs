//! The interface: what can be asked of a batch and a Θ, and how it is done. Start reading here.

use crate::accumulator::Accumulator;
use crate::batch::{Batch, Features, Targets};
use crate::block::{Gradient, Linear, Problem, Task, check_scores};
use crate::error::{Error, Operand};
use crate::gemm::Destination;
use crate::kernel::{AddUp, Real, SimdLevel};
use crate::options::Options;
use crate::schedule::{ByBlock, ByGroup, Parallelism, Run};
use crate::workspace::{Parts, Workspace};
use faer::{MatMut, MatRef, unzip, zip};

/// How the losses of the samples become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "fit", derive(serde::Serialize, serde::Deserialize))]
pub enum Reduction {
    /// Σᵢ wᵢ·lossᵢ.
    #[default]
    Sum,
    /// Σᵢ wᵢ·lossᵢ / Σᵢ wᵢ·c(yᵢ), where c is the weight of a class: 1 if none are given, and 1 for soft targets. Samples
    /// with the ignored label are in neither sum.
    ///
    /// That is what PyTorch's `cross_entropy` divides by, and what scikit-learn does, which multiplies class weights into
    /// sample weights.
    Mean,
}

/// What is computed, and how: the loss of softmax regression and what derives from it.
///
/// With X (m×n) and labels y of a [`Batch`], weights w (1 if none are given), and Θ (n×K), column k belonging to
/// class k:
///
/// ```text
/// P = softmax(XΘ), row by row        J(Θ) = −Σᵢ wᵢ log P_i,yᵢ
/// R = P − 1{y = k}                   ∇J(Θ) = Xᵀ (w ⊙ R)
/// ```
///
/// (Bishop, *Pattern Recognition and Machine Learning*, 2006, eqs. 4.104–4.109.)
///
/// With all options, for a sample with scores s = Θᵀx + b and targets q (1 at the label, or what soft targets say):
///
/// ```text
/// z = cap·tanh(s / cap) / temperature      L = log Σⱼ exp(zⱼ)
/// t = c ⊙ ((1 − α)·q + α/K)                loss = Σⱼ tⱼ·(L − zⱼ) + ζ·L²
/// J = Σᵢ wᵢ·lossᵢ (over the divisor of the mean) + ½·λ‖Θ‖²
/// ```
///
/// with class weights c, label smoothing α, z-loss ζ and the penalty λ, which spares the intercept b. An option that is
/// not used costs nothing.
///
/// Θ and the gradient are n×K of any strides. A K×n weight, as PyTorch and scikit-learn store it, is the same memory:
/// pass `.transpose()`.
///
/// ```
/// use faer::{Mat, mat};
/// use softmax_regression::{Batch, Objective, Reduction, Workspace};
///
/// let x = mat![[1.0, 0.0], [0.0, 1.0], [1.0, 1.0_f64]];
/// let batch = Batch::new(&x, &[0_u8, 1, 2])?;
/// let theta = Mat::<f64>::zeros(2, 3);
///
/// let objective = Objective::default().reduction(Reduction::Mean);
/// let mut workspace = Workspace::new();
/// let mut gradient = Mat::<f64>::zeros(2, 3);
/// let loss = objective.loss_and_gradient(&batch, theta.as_ref(), gradient.as_mut(), &mut workspace)?;
/// assert!((loss - 3_f64.ln()).abs() < 1e-15);
/// assert!((gradient[(0, 0)] - (2.0 / 3.0 - 1.0) / 3.0).abs() < 1e-15);
/// # Ok::<(), softmax_regression::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Objective {
    reduction: Reduction,
    options: Options,
    parallelism: Parallelism,
    block_bytes: Option<usize>,
    level: Option<SimdLevel>,
}

impl Objective {
    /// Sum (the default) or weighted mean of the losses.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Whether Θ has one more row, the last: the intercept b, as if every sample had one more feature that is 1. It is
    /// never penalised. Not by default.
    pub fn intercept(mut self, intercept: bool) -> Self {
        self.options.intercept = intercept;
        self
    }

    /// λ of the penalty ½·λ‖Θ‖², added after the reduction. 0 by default.
    pub fn l2(mut self, lambda: f64) -> Self {
        self.options.l2 = lambda;
        self
    }

    /// α, in \[0, 1\]: a target of q becomes (1 − α)·q + α/K (Szegedy et al., *Rethinking the inception architecture for
    /// computer vision*, 2016; as PyTorch defines it, class weights multiplied afterwards). 0 by default.
    pub fn label_smoothing(mut self, alpha: f64) -> Self {
        self.options.label_smoothing = alpha;
        self
    }

    /// A weight for each class: what a sample's target for a class is multiplied by. With labels and no smoothing, the
    /// weight of a sample's class multiplies its own. 1 by default.
    pub fn class_weights(mut self, weights: &[f64]) -> Self {
        self.options.class_weights = Some(weights.to_vec());
        self
    }

    /// Samples with this label, which may be outside 0..K, count for nothing, in the divisor of the mean too, whatever
    /// their features are. None by default. Soft targets have no label.
    pub fn ignore_label(mut self, label: i64) -> Self {
        self.options.ignore_label = Some(label);
        self
    }

    /// What the scores are divided by, above 0 (Hinton et al., *Distilling the knowledge in a neural network*, 2015).
    /// 1 by default.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.options.temperature = temperature;
        self
    }

    /// A bound that the scores approach but do not pass, above 0: s becomes cap·tanh(s / cap) (Bello et al., *Neural
    /// combinatorial optimization with reinforcement learning*, 2016), before the temperature. None by default.
    pub fn soft_cap(mut self, cap: f64) -> Self {
        self.options.soft_cap = Some(cap);
        self
    }

    /// ζ: the loss of a sample grows by ζ·L², which keeps the log-sum-exp L of its scores near 0 (Chowdhery et al., *PaLM*,
    /// 2022). The sample's weight applies to it, class weights do not. 0 by default.
    pub fn z_loss(mut self, zeta: f64) -> Self {
        self.options.z_loss = zeta;
        self
    }

    /// Who does the work. All threads of the current rayon pool by default.
    pub fn parallelism(mut self, parallelism: Parallelism) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// Bytes for a block of samples that a thread works on, to the nearest 16 samples: their scores and, where Θ is small,
    /// their part of X. The default is 192 KiB, 1 MiB if X is column-major, enough for 64 samples where K > 32, and 8 MiB
    /// where also Θ is larger than 1 MiB, or 48 above 5 MiB; for few samples, whose products threads share, up to 8 MiB, if
    /// that is enough for all.
    ///
    /// A block has at least 16 samples and at most 1024, or 2048 where Θ is larger than 1 MiB. The size changes the order
    /// of the sums, and so the last bits of the result.
    pub fn block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = Some(bytes);
        self
    }

    /// The instruction set of the kernels. The best of the processor by default.
    pub fn simd_level(mut self, level: SimdLevel) -> Self {
        self.level = Some(level);
        self
    }

    /// With other options in the place of its own.
    #[cfg(feature = "fit")]
    pub(crate) fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    #[cfg(feature = "fit")]
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// What it computes, without how.
    #[cfg(feature = "fit")]
    pub(crate) fn into_parts(self) -> (Reduction, Options) {
        (self.reduction, self.options)
    }

    /// Rows of Θ for n features: n, or n + 1 with an intercept.
    pub fn theta_rows(&self, features: usize) -> usize {
        self.options.theta_rows(features)
    }

    /// J(Θ).
    ///
    /// # Errors
    /// Those of [`loss_and_gradient`](Self::loss_and_gradient), but for the gradient's.
    pub fn loss<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<f64, Error> {
        Ok(self.losses(batch, theta, None, workspace)? + self.penalty(batch, theta))
    }

    /// The loss of every sample, wᵢ·lossᵢ, and their sum or mean. The single losses are not divided, and the penalty is in
    /// neither.
    ///
    /// # Errors
    /// Those of [`loss`](Self::loss), and [`Error::SampleCount`] if `losses` does not have m elements.
    pub fn sample_losses<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        losses: &mut [T],
        workspace: &mut Workspace<T>,
    ) -> Result<f64, Error> {
        self.losses(batch, theta, Some(losses), workspace)
    }

    /// J(Θ), and ∇J(Θ) into `gradient` (of the shape of Θ, any strides; what it held is not read).
    ///
    /// # Errors
    /// Nothing has been written when there is one:
    /// - [`Error::ThetaShape`]: Θ does not have n rows, or n + 1 with an intercept; [`Error::NoClasses`]: it has no columns;
    /// - [`Error::OutputShape`]: `gradient` is not of the shape of Θ;
    /// - [`Error::LabelOutOfRange`]: a label is not in 0..K; [`Error::TargetShape`]: the soft targets are not m×K;
    /// - [`Error::InvalidParameter`], [`Error::ClassWeightCount`], [`Error::InvalidClassWeight`]: an option is out of range;
    /// - [`Error::TotalWeight`]: the mean of nothing was asked for;
    /// - [`Error::TooManyScores`], [`Error::OutOfMemory`]: the shapes are beyond this machine.
    pub fn loss_and_gradient<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        gradient: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<f64, Error> {
        self.gradients(batch, theta, gradient, None, workspace)
    }

    /// As [`loss_and_gradient`](Self::loss_and_gradient), and ∂J/∂X = R·Θᵀ into `input_gradient` (m×n, any strides): what
    /// the layers below need.
    ///
    /// # Errors
    /// Those of [`loss_and_gradient`](Self::loss_and_gradient), and [`Error::OutputShape`] if `input_gradient` is not m×n.
    ///
    /// ```
    /// use faer::{Mat, mat};
    /// use softmax_regression::{Batch, Objective, Workspace};
    /// let x = mat![[1.0, -1.0], [0.5, 2.0_f64]];
    /// let theta = mat![[0.3, -0.3], [0.0, 0.2_f64]];
    /// let batch = Batch::new(&x, &[0_u8, 1])?;
    /// let (mut gradient, mut input_gradient) = (Mat::zeros(2, 2), Mat::zeros(2, 2));
    /// let mut workspace = Workspace::new();
    /// Objective::default().loss_and_gradients(
    ///     &batch,
    ///     theta.as_ref(),
    ///     gradient.as_mut(),
    ///     input_gradient.as_mut(),
    ///     &mut workspace,
    /// )?;
    /// // Scores 0.3 and −0.5: the residual is ∓1/(1 + exp(0.8)), and Θ turns it into −0.6 and −0.2 of that.
    /// let p = 1.0 / (1.0 + 0.8_f64.exp());
    /// assert!((input_gradient[(0, 0)] + 0.6 * p).abs() < 1e-15);
    /// assert!((input_gradient[(0, 1)] - 0.2 * p).abs() < 1e-15);
    /// # Ok::<(), softmax_regression::Error>(())
    /// ```
    pub fn loss_and_gradients<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        gradient: MatMut<'_, T>,
        input_gradient: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<f64, Error> {
        self.gradients(batch, theta, gradient, Some(input_gradient), workspace)
    }

    /// H·V into `out`, of the Hessian H of J at Θ and a direction V, all three of the shape of Θ:
    ///
    /// ```text
    /// H·V = Xᵀ (w ⊙ P ⊙ (XV − rowsum(P ⊙ XV))) + λV
    /// ```
    ///
    /// (and what the options add), without H.
    ///
    /// # Errors
    /// Those of [`loss_and_gradient`](Self::loss_and_gradient), with [`Error::OutputShape`] if `direction` or `out` is not
    /// of the shape of Θ.
    pub fn hessian_product<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        direction: MatRef<'_, T>,
        mut out: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        let divisor = self.check(batch, theta)?;
        check_output(Operand::Direction, theta.shape(), direction.shape())?;
        check_output(Operand::HessianProduct, theta.shape(), out.shape())?;
        let mut problem = self.problem_of(batch, theta, Task::HessianProduct, divisor);
        problem.direction = Some(Linear::new(direction, batch.features().features()));
        run_blocks(&mut problem, out.as_mut(), None, Destination::Replace, workspace)?;
        self.add_penalised(batch, out, direction);
        Ok(())
    }

    /// The diagonal of the Hessian of J at Θ into `out`, of the shape of Θ: what a preconditioner wants.
    ///
    /// # Errors
    /// Those of [`loss_and_gradient`](Self::loss_and_gradient), with [`Error::OutputShape`] if `out` is not of the shape
    /// of Θ.
    pub fn hessian_diagonal<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        mut out: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        let divisor = self.check(batch, theta)?;
        check_output(Operand::HessianDiagonal, theta.shape(), out.shape())?;
        let mut problem = self.problem_of(batch, theta, Task::HessianDiagonal, divisor);
        run_blocks(&mut problem, out.as_mut(), None, Destination::Replace, workspace)?;
        if self.options.l2 > 0.0 {
            let mut penalised = out.subrows_mut(0, batch.features().features());
            zip!(&mut penalised).for_each(|unzip!(h)| *h += T::from_f64(self.options.l2));
        }
        Ok(())
    }

    /// The Hessian of J at Θ into `out`: symmetric, one row and one column for each number of Θ, its columns one after
    /// the other. Of r rows of Θ, class k and feature j are at k·r + j.
    ///
    /// It takes ½·m·(rK)² multiply-adds and (rK)² numbers of memory: for rK up to a few thousand. Scratch is some 4 MiB, or 800·rK
    /// numbers if that is more; where four Hessians fit 4 MiB, as much for each thread, and the sums of groups of samples.
    ///
    /// # Errors
    /// Those of [`loss_and_gradient`](Self::loss_and_gradient), with [`Error::OutputShape`] if `out` is not rK×rK.
    pub fn hessian<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        mut out: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        let divisor = self.check(batch, theta)?;
        let (rows, classes) = theta.shape();
        let size = rows.saturating_mul(classes);
        check_output(Operand::Hessian, (size, size), out.shape())?;
        let mut problem = self.problem_of(batch, theta, Task::Hessian, divisor);
        run_blocks(&mut problem, out.as_mut(), None, Destination::Replace, workspace)?;
        problem.mirror(out.as_mut());
        if self.options.l2 > 0.0 {
            let features = batch.features().features();
            for k in (0..size).filter(|k| k % rows < features) {
                out[(k, k)] += T::from_f64(self.options.l2);
            }
        }
        Ok(())
    }

    /// P = softmax of the scores (temperature and cap applied) into `out` (m×K, any strides).
    ///
    /// # Errors
    /// [`Error::ThetaShape`], [`Error::NoClasses`], [`Error::OutputShape`], [`Error::InvalidParameter`],
    /// [`Error::TooManyScores`], [`Error::OutOfMemory`]. Nothing has been written then.
    pub fn probabilities<'x, T: Real>(
        &self,
        x: impl Into<Features<'x, T>>,
        theta: MatRef<'_, T>,
        out: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        let x = x.into();
        self.check_theta(&x, theta)?;
        check_output(Operand::Probabilities, (x.samples(), theta.ncols()), out.shape())?;
        let mut problem = self.problem(x, theta, None, Task::Prediction);
        let run = workspace.reserve(&mut problem)?.run;
        run.for_each_block(out, &|samples, out, scratch| problem.probabilities(samples, scratch, out));
        Ok(())
    }

    /// The class of the largest score of every sample, the lowest of several equal ones. A NaN score is never the largest;
    /// a sample without any other gets class 0. (Temperature and cap do not change the order, so they are not applied.)
    ///
    /// # Errors
    /// [`Error::ThetaShape`], [`Error::NoClasses`], [`Error::SampleCount`] if `labels` does not have m elements,
    /// [`Error::InvalidParameter`], [`Error::TooManyScores`], [`Error::OutOfMemory`]. Nothing has been written then.
    pub fn predict<'x, T: Real>(
        &self,
        x: impl Into<Features<'x, T>>,
        theta: MatRef<'_, T>,
        labels: &mut [u32],
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        let x = x.into();
        self.check_theta(&x, theta)?;
        check_count(x.samples(), Operand::Labels, labels.len())?;
        let mut problem = self.problem(x, theta, None, Task::Prediction);
        let run = workspace.reserve(&mut problem)?.run;
        run.for_each_block(labels, &|samples, labels, scratch| problem.predict(samples, scratch, labels));
        Ok(())
    }

    /// The most probable classes of every sample, and their probabilities, the most probable first: as many as the two
    /// outputs have columns (m×k, any strides). Of equal scores the lowest class comes first, and NaN last.
    ///
    /// # Errors
    /// [`Error::ThetaShape`], [`Error::NoClasses`], [`Error::OutputShape`] if the outputs do not have m rows, or not the
    /// same number of columns, or more than K; [`Error::InvalidParameter`], [`Error::TooManyScores`],
    /// [`Error::OutOfMemory`]. Nothing has been written then.
    pub fn top_k<'x, T: Real>(
        &self,
        x: impl Into<Features<'x, T>>,
        theta: MatRef<'_, T>,
        classes: MatMut<'_, u32>,
        probabilities: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        let x = x.into();
        self.check_theta(&x, theta)?;
        let expected = (x.samples(), classes.ncols().min(theta.ncols()));
        check_output(Operand::TopClasses, expected, classes.shape())?;
        check_output(Operand::Probabilities, expected, probabilities.shape())?;
        let mut problem = self.problem(x, theta, None, Task::Prediction);
        let run = workspace.reserve(&mut problem)?.run;
        run.for_each_block((classes, probabilities), &|samples, (classes, probabilities), scratch| {
            problem.top_k(samples, scratch, classes, probabilities);
        });
        Ok(())
    }

    /// Adds a batch to what an [`Accumulator`] holds: its loss, total weight and gradient, none of them divided or
    /// penalised yet. [`Accumulator::finish`] does both.
    ///
    /// # Errors
    /// Those of [`loss_and_gradient`](Self::loss_and_gradient), with [`Error::OutputShape`] if the accumulator was made
    /// for another shape of Θ; but the weights of one batch may sum to 0.
    pub fn accumulate<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        accumulator: &mut Accumulator<T>,
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        self.check_batch(batch, theta)?;
        check_output(Operand::Accumulator, theta.shape(), accumulator.gradient.shape())?;
        let mut problem = self.problem_of(batch, theta, Task::Gradient, 1.0);
        let gradient = accumulator.gradient.as_mut();
        let loss = run_blocks(&mut problem, gradient, None, Destination::Add, workspace)?;
        accumulator.loss += loss;
        accumulator.weight += batch.weight(&self.options, theta.ncols());
        Ok(())
    }

    /// [`Accumulator::finish`], the shapes checked.
    pub(crate) fn finish<T: Real>(
        &self,
        loss: f64,
        weight: f64,
        sum: MatRef<'_, T>,
        theta: MatRef<'_, T>,
        mut gradient: MatMut<'_, T>,
    ) -> Result<f64, Error> {
        self.options.check(theta.ncols())?;
        let features = theta.nrows() - self.options.theta_rows(0).min(theta.nrows());
        let divisor = match self.reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => check_weight(0, weight)?,
        };
        zip!(&mut gradient, sum).for_each(|unzip!(out, x)| *out = T::from_f64(x.to_f64() / divisor));
        self.options.add_penalised(gradient, theta, features);
        Ok(loss / divisor + self.options.penalty(theta, features, self.level()))
    }

    fn gradients<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        mut gradient: MatMut<'_, T>,
        input_gradient: Option<MatMut<'_, T>>,
        workspace: &mut Workspace<T>,
    ) -> Result<f64, Error> {
        let divisor = self.check(batch, theta)?;
        check_output(Operand::Gradient, theta.shape(), gradient.shape())?;
        if let Some(out) = &input_gradient {
            let expected = (batch.samples(), batch.features().features());
            check_output(Operand::InputGradient, expected, out.shape())?;
        }
        let task = if input_gradient.is_some() { Task::Gradients } else { Task::Gradient };
        let mut problem = self.problem_of(batch, theta, task, divisor);
        let (out, held) = (gradient.as_mut(), Destination::Replace);
        let loss = run_blocks(&mut problem, out, input_gradient, held, workspace)?;
        self.add_penalised(batch, gradient, theta);
        Ok(loss / divisor + self.penalty(batch, theta))
    }

    fn losses<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        sample_losses: Option<&mut [T]>,
        workspace: &mut Workspace<T>,
    ) -> Result<f64, Error> {
        let divisor = self.check(batch, theta)?;
        if let Some(losses) = &sample_losses {
            check_count(batch.samples(), Operand::Losses, losses.len())?;
        }
        let mut problem = self.problem_of(batch, theta, Task::Loss, divisor);
        let Parts { run, losses, .. } = workspace.reserve(&mut problem)?;
        run.for_each_block((ByBlock(losses), sample_losses), &|samples, (loss, sample_losses), scratch| {
            loss.0[0] = problem.loss(samples, scratch, sample_losses);
        });
        Ok(total(losses) / divisor)
    }

    /// ½·λ‖Θ‖².
    fn penalty<T: Real>(&self, batch: &Batch<'_, T>, theta: MatRef<'_, T>) -> f64 {
        self.options.penalty(theta, batch.features().features(), self.level())
    }

    /// Adds λ·`matrix` but for the row of the intercept.
    fn add_penalised<T: Real>(&self, batch: &Batch<'_, T>, out: MatMut<'_, T>, matrix: MatRef<'_, T>) {
        self.options.add_penalised(out, matrix, batch.features().features());
    }

    /// Checks a batch against Θ, and returns what its loss is divided by.
    pub(crate) fn check<T: Real>(&self, batch: &Batch<'_, T>, theta: MatRef<'_, T>) -> Result<f64, Error> {
        self.check_batch(batch, theta)?;
        match self.reduction {
            Reduction::Sum => Ok(1.0),
            Reduction::Mean => check_weight(batch.samples(), batch.weight(&self.options, theta.ncols())),
        }
    }

    fn check_batch<T: Real>(&self, batch: &Batch<'_, T>, theta: MatRef<'_, T>) -> Result<(), Error> {
        self.check_theta(&batch.features(), theta)?;
        batch.check_targets(theta.ncols(), self.options.ignore_label)
    }

    fn check_theta<T: Real>(&self, x: &Features<'_, T>, theta: MatRef<'_, T>) -> Result<(), Error> {
        let expected = self.options.theta_rows(x.features());
        if theta.nrows() != expected {
            let features = (x.samples(), x.features());
            return Err(Error::ThetaShape { features, expected, theta: theta.shape() });
        }
        check_scores(x.samples(), theta.ncols())?;
        self.options.check(theta.ncols())
    }

    fn level(&self) -> SimdLevel {
        self.level.unwrap_or_else(SimdLevel::best)
    }

    /// What can be computed of a batch.
    fn problem_of<'a, T: Real>(
        &'a self,
        batch: &Batch<'a, T>,
        theta: MatRef<'a, T>,
        task: Task,
        divisor: f64,
    ) -> Problem<'a, T> {
        let problem = self.problem(batch.features(), theta, Some(batch.targets()), task);
        problem.weighted(batch.weights(), divisor)
    }

    /// What can be computed of features with perhaps targets.
    fn problem<'a, T: Real>(
        &'a self,
        features: Features<'a, T>,
        theta: MatRef<'a, T>,
        targets: Option<Targets<'a, T>>,
        task: Task,
    ) -> Problem<'a, T> {
        let level = self.level();
        let (options, parallelism, block_bytes) = (&self.options, self.parallelism, self.block_bytes);
        Problem::new(features, theta, targets, options, task, level, parallelism, block_bytes)
    }
}

/// [`Objective::loss_and_gradient`] in one line: the sum of the losses over samples of weight 1, with scratch of its
/// own.
///
/// ```
/// use faer::{Mat, mat};
/// let x = mat![[1.0, 0.0], [0.0, 1.0_f32]];
/// let theta = Mat::<f32>::zeros(2, 3);
/// let mut gradient = Mat::<f32>::zeros(2, 3);
/// let loss = softmax_regression::loss_and_gradient(&x, &[0_u32, 2], theta.as_ref(), gradient.as_mut())?;
/// assert!((loss - 2.0 * 3_f64.ln()).abs() < 1e-6);
/// # Ok::<(), softmax_regression::Error>(())
/// ```
///
/// # Errors
/// Those of [`Batch::new`] and [`Objective::loss_and_gradient`].
pub fn loss_and_gradient<'a, T: Real>(
    x: impl Into<Features<'a, T>>,
    labels: impl Into<Targets<'a, T>>,
    theta: MatRef<'_, T>,
    gradient: MatMut<'_, T>,
) -> Result<f64, Error> {
    let batch = Batch::new(x, labels)?;
    Objective::default().loss_and_gradient(&batch, theta, gradient, &mut Workspace::new())
}

/// Runs all blocks: what they add to a matrix of the shape of the gradient, and the sum of their losses. What there is one
/// row a sample of they write too.
fn run_blocks<'a, T: Real>(
    problem: &mut Problem<'a, T>,
    out: MatMut<'_, T>,
    by_sample: Option<MatMut<'_, T>>,
    held: Destination,
    workspace: &'a mut Workspace<T>,
) -> Result<f64, Error> {
    problem.plan = problem.plan.with_partials(out.as_ref(), held);
    let Parts { run, partials, place, losses } = workspace.reserve(problem)?;
    let mut out = out;
    if partials.is_gradient_first {
        run_groups(&run, problem, partials.by_group(out.as_mut(), place), by_sample, held, losses);
        add_up(problem, out, place);
    } else {
        let (sum, others) = place.split_at_mut(partials.each());
        let mut sum = partials.one(sum);
        let matrices = partials.by_group(sum.as_mut(), others);
        run_groups(&run, problem, matrices, by_sample, Destination::Replace, losses);
        add_up(problem, sum.as_mut(), others);
        let sum = sum.as_ref().subcols(0, out.ncols());
        match held {
            Destination::Replace => problem.copy(sum, out),
            Destination::Add => zip!(out, sum).for_each(|unzip!(out, x)| *out += *x),
        }
    }
    Ok(total(losses))
}

/// What each group adds up, in a matrix of its own, and the loss of each block.
fn run_groups<T: Real>(
    run: &Run<'_, T>,
    problem: &Problem<'_, T>,
    matrices: ByGroup<'_, T>,
    by_sample: Option<MatMut<'_, T>>,
    held: Destination,
    losses: &mut [f64],
) {
    let out = (matrices, (ByBlock(losses), by_sample));
    run.for_each_group(out, &|blocks, (mut group, (losses, mut by_sample)), scratch| {
        let mut held = held;
        if blocks.is_empty() && held == Destination::Replace {
            group.matrix().fill(T::ZERO);
        }
        for (block, loss) in blocks.zip(losses.0) {
            let samples = problem.plan.samples_of(block..block + 1);
            let matrix = Gradient { matrix: group.matrix(), held };
            let (own, rest) = by_sample.map(|all| all.split_at_row_mut(samples.len())).unzip();
            *loss = problem.add_derivative(samples, scratch, matrix, own);
            by_sample = rest;
            held = Destination::Add;
        }
    });
}

/// The sum of the losses of the blocks, in their order; +0 if there are none.
fn total(losses: &[f64]) -> f64 {
    losses.iter().fold(0.0, |total, loss| total + loss)
}

/// To the first of the partial gradients the others are added, in their order.
fn add_up<T: Real>(problem: &Problem<'_, T>, first: MatMut<'_, T>, others: &[T]) {
    if !others.is_empty() {
        let sum = if first.row_stride() == 1 { first } else { first.transpose_mut() };
        T::run_add_up(AddUp { sum, others }, problem.level);
    }
}

/// A total weight that can be divided by.
pub(crate) fn check_weight(samples: usize, total: f64) -> Result<f64, Error> {
    if total > 0.0 && total.is_finite() { Ok(total) } else { Err(Error::TotalWeight { samples, total }) }
}

pub(crate) fn check_output(
    operand: Operand,
    expected: (usize, usize),
    found: (usize, usize),
) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::OutputShape { operand, expected, found }) }
}

fn check_count(samples: usize, operand: Operand, found: usize) -> Result<(), Error> {
    if found == samples { Ok(()) } else { Err(Error::SampleCount { features: samples, operand, found }) }
}
