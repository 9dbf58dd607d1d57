//! The interface: what can be asked of a batch and a Θ, and how it is done. Start reading here.

use crate::batch::{Batch, Features, Targets};
use crate::block::{Gradient, Problem, check_scores};
use crate::error::{Error, Operand};
use crate::gemm::Destination;
use crate::kernel::{Real, SimdLevel};
use crate::schedule::{ByBlock, ByGroup, Parallelism, Plan, Run, Shape};
use crate::workspace::{Parts, Workspace};
use faer::{MatMut, MatRef, unzip, zip};

/// How the losses of the samples become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Σᵢ wᵢ·lossᵢ.
    #[default]
    Sum,
    /// Σᵢ wᵢ·lossᵢ / Σᵢ wᵢ.
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Objective {
    reduction: Reduction,
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

    /// Who does the work. All threads of the current rayon pool by default.
    pub fn parallelism(mut self, parallelism: Parallelism) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// Bytes of scratch a thread may use for a block of samples: their scores and, where Θ is small, their part of X.
    /// The default is a quarter of a second-level cache of 512 KiB, all of it if X is column-major, and 48 MiB where Θ
    /// is larger than half of it.
    ///
    /// A block has at least 16 samples and at most 1024. The size changes the order of the sums, and so the last bits
    /// of the result.
    pub fn block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = Some(bytes);
        self
    }

    /// The instruction set of the kernels. The best of the processor by default.
    pub fn simd_level(mut self, level: SimdLevel) -> Self {
        self.level = Some(level);
        self
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
        self.losses(batch, theta, None, workspace)
    }

    /// The loss of every sample, wᵢ·lossᵢ, and J(Θ). With [`Reduction::Mean`] the returned number is their mean; the
    /// single losses are not divided.
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

    /// J(Θ), and ∇J(Θ) into `gradient` (n×K, any strides; what it held is not read).
    ///
    /// # Errors
    /// Nothing has been written when there is one:
    /// - [`Error::ThetaShape`]: Θ does not have n rows; [`Error::NoClasses`]: it has no columns;
    /// - [`Error::OutputShape`]: `gradient` is not n×K;
    /// - [`Error::LabelOutOfRange`]: a label is not in 0..K;
    /// - [`Error::TotalWeight`]: the mean of nothing was asked for;
    /// - [`Error::TooManyScores`], [`Error::OutOfMemory`]: the shapes are beyond this machine.
    pub fn loss_and_gradient<T: Real>(
        &self,
        batch: &Batch<'_, T>,
        theta: MatRef<'_, T>,
        mut gradient: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<f64, Error> {
        let divisor = self.check(batch, theta)?;
        check_output(Operand::Gradient, theta.shape(), gradient.shape())?;
        let mut problem = self.problem(batch.features(), theta).of(batch, divisor);
        problem.plan = problem.plan.with_partials(gradient.row_stride() == 1);
        let Parts { run, theta, partials, losses } = workspace.reserve(&problem)?;
        let problem = Problem { theta, ..problem };
        if batch.samples() == 0 {
            gradient.fill(T::ZERO);
        }
        match partials {
            None => add_blocks(&run, &problem, gradient, losses),
            Some(mut partials) => {
                add_blocks(&run, &problem, partials.as_mut(), losses);
                sum_partials(gradient, partials.as_ref());
            }
        }
        Ok(total(losses) / divisor)
    }

    /// P = softmax(XΘ) into `out` (m×K, any strides).
    ///
    /// # Errors
    /// [`Error::ThetaShape`], [`Error::NoClasses`], [`Error::OutputShape`], [`Error::TooManyScores`],
    /// [`Error::OutOfMemory`]. Nothing has been written then.
    pub fn probabilities<'x, T: Real>(
        &self,
        x: impl Into<Features<'x, T>>,
        theta: MatRef<'_, T>,
        out: MatMut<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        let x = x.into();
        check_theta(&x, theta)?;
        check_output(Operand::Probabilities, (x.samples(), theta.ncols()), out.shape())?;
        let problem = self.problem(x, theta);
        let Parts { run, theta, .. } = workspace.reserve(&problem)?;
        let problem = Problem { theta, ..problem };
        run.for_each_block(out, &|samples, out, scratch| problem.probabilities(samples, scratch, out));
        Ok(())
    }

    /// The most probable class of every sample, the lowest of several equal ones. A NaN score is never the largest; a
    /// sample without any other gets class 0.
    ///
    /// # Errors
    /// [`Error::ThetaShape`], [`Error::NoClasses`], [`Error::SampleCount`] if `labels` does not have m elements,
    /// [`Error::TooManyScores`], [`Error::OutOfMemory`]. Nothing has been written then.
    pub fn predict<'x, T: Real>(
        &self,
        x: impl Into<Features<'x, T>>,
        theta: MatRef<'_, T>,
        labels: &mut [u32],
        workspace: &mut Workspace<T>,
    ) -> Result<(), Error> {
        let x = x.into();
        check_theta(&x, theta)?;
        check_count(x.samples(), Operand::Labels, labels.len())?;
        let problem = self.problem(x, theta);
        let Parts { run, theta, .. } = workspace.reserve(&problem)?;
        let problem = Problem { theta, ..problem };
        run.for_each_block(labels, &|samples, labels, scratch| problem.predict(samples, scratch, labels));
        Ok(())
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
        let problem = self.problem(batch.features(), theta).of(batch, divisor);
        let Parts { run, theta, losses, .. } = workspace.reserve(&problem)?;
        let problem = Problem { theta, ..problem };
        run.for_each_block((ByBlock(losses), sample_losses), &|samples, (loss, sample_losses), scratch| {
            loss.0[0] = problem.loss(samples, scratch, sample_losses);
        });
        Ok(total(losses) / divisor)
    }

    /// Checks a batch against Θ, and returns what its loss is divided by.
    fn check<T: Real>(&self, batch: &Batch<'_, T>, theta: MatRef<'_, T>) -> Result<f64, Error> {
        check_theta(&batch.features(), theta)?;
        batch.check_labels(theta.ncols())?;
        match (self.reduction, batch.total_weight()) {
            (Reduction::Sum, _) => Ok(1.0),
            (Reduction::Mean, total) if total > 0.0 && total.is_finite() => Ok(total),
            (Reduction::Mean, total) => Err(Error::TotalWeight { samples: batch.samples(), total }),
        }
    }

    /// What can be computed of features alone.
    fn problem<'a, T: Real>(&self, features: Features<'a, T>, theta: MatRef<'a, T>) -> Problem<'a, T> {
        let (samples, n) = (features.samples(), features.features());
        let x = features.dense();
        let column_major = x.row_stride().unsigned_abs() < x.col_stride().unsigned_abs();
        let shape =
            Shape { samples, features: n, classes: theta.ncols(), size: size_of::<T>(), column_major };
        let plan = Plan::new(shape, self.block_bytes);
        Problem {
            features: x,
            theta,
            labels: None,
            weights: None,
            divisor: 1.0,
            level: self.level.unwrap_or_else(SimdLevel::best),
            plan,
            // A problem too small to gain from threads stays on the caller's.
            parallelism: if plan.is_parallel() { self.parallelism } else { Parallelism::Serial },
        }
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

/// The gradient of each group into a matrix of its own, side by side, and the loss of each block.
fn add_blocks<T: Real>(
    run: &Run<'_, T>,
    problem: &Problem<'_, T>,
    gradients: MatMut<'_, T>,
    losses: &mut [f64],
) {
    let out = (ByGroup { matrices: gradients, classes: problem.theta.ncols() }, ByBlock(losses));
    run.for_each_group(out, &|blocks, (mut gradient, losses), scratch| {
        let mut held = Destination::Replace;
        for (block, loss) in blocks.zip(losses.0) {
            let samples = problem.plan.samples_of(block..block + 1);
            let gradient = Gradient { matrix: gradient.matrices.as_mut(), held };
            *loss = problem.loss_and_gradient(samples, scratch, gradient);
            held = Destination::Add;
        }
    });
}

/// The sum of the losses of the blocks, in their order; +0 if there are none.
fn total(losses: &[f64]) -> f64 {
    losses.iter().fold(0.0, |total, loss| total + loss)
}

/// The sum of the partial gradients, in their order.
fn sum_partials<T: Real>(mut gradient: MatMut<'_, T>, partials: MatRef<'_, T>) {
    let classes = gradient.ncols();
    gradient.copy_from(partials.subcols(0, classes));
    for first in (classes..partials.ncols()).step_by(classes) {
        zip!(gradient.as_mut(), partials.subcols(first, classes)).for_each(|unzip!(sum, x)| *sum += *x);
    }
}

fn check_theta<T: Real>(x: &Features<'_, T>, theta: MatRef<'_, T>) -> Result<(), Error> {
    if theta.nrows() != x.features() {
        return Err(Error::ThetaShape { features: (x.samples(), x.features()), theta: theta.shape() });
    }
    check_scores(x.samples(), theta.ncols())
}

fn check_output(operand: Operand, expected: (usize, usize), found: (usize, usize)) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::OutputShape { operand, expected, found }) }
}

fn check_count(samples: usize, operand: Operand, found: usize) -> Result<(), Error> {
    if found == samples { Ok(()) } else { Err(Error::SampleCount { features: samples, operand, found }) }
}
