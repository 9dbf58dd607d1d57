//! A ready estimator (feature `fit`): [`SoftmaxRegression::fit`].
//!
//! The solver is argmin's L-BFGS with the line search of Moré and Thuente. What this crate adds is the evaluation, and the
//! variables the solver works in: those in which features are uncorrelated. With G = XᵀWX, the Hessian of J never exceeds
//! ½·G ⊗ (I − 1/K) + λI (Böhning, *Multinomial logistic regression algorithm*, 1992), and at Θ = 0 it is G/K but for the
//! coupling of the classes. So with LLᵀ = G/K + λI the solver sees Φ = LᵀΘ, of which the Hessian is near 1 whatever the
//! units and correlations of the features are, and needs several times fewer evaluations.

use crate::batch::{Batch, Features};
use crate::block::check_scores;
use crate::error::{Error, Operand};
use crate::kernel::Real;
use crate::objective::{Objective, Reduction, check_output};
use crate::options::Options;
use crate::solver::{BatchLoss, Evaluate, Problem};
use crate::workspace::Workspace;
use argmin::core::{IterState, Problem as Counted, Solver, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use core::fmt;
use core::ops::{ControlFlow, Range};
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatMut, MatRef, Par, Side, unzip, zip};
use serde::{Deserialize, Serialize};

/// How to fit a [`SoftmaxRegression`], and when to stop.
pub struct FitOptions<'a, T> {
    classes: usize,
    objective: Objective,
    tolerance: f64,
    max_iterations: u64,
    start: Option<MatRef<'a, T>>,
    on_step: Option<OnStep<'a>>,
}

/// Called after each step.
type OnStep<'a> = Box<dyn FnMut(&Step) -> ControlFlow<()> + 'a>;

/// Where a fit is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Steps of the solver so far.
    pub iterations: u64,
    /// Passes over the data so far for loss and gradient.
    pub evaluations: u64,
    /// J.
    pub loss: f64,
    /// ‖∇J‖₂.
    pub gradient_norm: f64,
    /// What is held against the [tolerance](FitOptions::tolerance): the norm of the gradient in the solver's variables, over
    /// the square root of the weight of a loss of 1 (1 for the mean, the total weight for the sum). Half its square is
    /// about how far the loss of the average sample is from its minimum.
    pub scaled_gradient_norm: f64,
}

/// Why a fit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stop {
    /// The gradient is below the tolerance.
    Converged,
    /// The limit of iterations was reached before.
    IterationLimit,
    /// The solver finds no better point: the tolerance is below what rounding allows, or J has no minimum.
    NoProgress,
    /// The [callback](FitOptions::on_step) said so.
    Interrupted,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Converged => "converged",
            Self::IterationLimit => "the limit of iterations was reached",
            Self::NoProgress => "no better point was found",
            Self::Interrupted => "interrupted",
        })
    }
}

/// How a fit went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its last step.
    pub step: Step,
    /// Why it was the last.
    pub stop: Stop,
}

impl<T: Real> FitOptions<'_, T> {
    /// For K classes; J = Σᵢ lossᵢ + ½‖Θ‖² with an intercept, as scikit-learn's `LogisticRegression` has it (`C=1`).
    pub fn new(classes: usize) -> Self {
        Self {
            classes,
            objective: Objective::default().intercept(true).l2(1.0),
            tolerance: T::MACHINE_EPSILON.sqrt(),
            max_iterations: 1000,
            start: None,
            on_step: None,
        }
    }
}

impl<'a, T: Real> FitOptions<'a, T> {
    /// What to minimise, with all its options.
    pub fn objective(mut self, objective: Objective) -> Self {
        self.objective = objective;
        self
    }

    /// λ of the penalty ½·λ‖Θ‖²: scikit-learn's 1/C. 1 by default.
    pub fn l2(mut self, lambda: f64) -> Self {
        self.objective = self.objective.l2(lambda);
        self
    }

    /// Stops where the [scaled norm](Step::scaled_gradient_norm) of the gradient is at most this. It depends on the units
    /// neither of the features nor of the loss. √ε by default: 1.5e-8, or 3.5e-4 for `f32`, at which the loss is about as
    /// near its minimum as rounding lets it be told.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// The most steps to make. 1000 by default.
    pub fn max_iterations(mut self, iterations: u64) -> Self {
        self.max_iterations = iterations;
        self
    }

    /// A Θ to start from (r×K), rather than 0: of an earlier fit, for instance.
    pub fn warm_start(mut self, theta: MatRef<'a, T>) -> Self {
        self.start = Some(theta);
        self
    }

    /// Called at the start and after each step: for progress bars, and to stop early with [`ControlFlow::Break`].
    pub fn on_step(mut self, call: impl FnMut(&Step) -> ControlFlow<()> + 'a) -> Self {
        self.on_step = Some(Box::new(call));
        self
    }
}

/// Multinomial logistic regression, fitted.
///
/// ```
/// use faer::mat;
/// use softmax_regression::{Batch, FitOptions, SoftmaxRegression};
///
/// let x = mat![[0.0, 0.1], [0.2, 0.0], [2.0, 2.1], [2.2, 1.9], [0.1, 3.0], [0.0, 2.8_f64]];
/// let batch = Batch::new(&x, &[0_u8, 0, 1, 1, 2, 2])?;
/// let model = SoftmaxRegression::fit(&batch, FitOptions::new(3))?;
/// assert_eq!(model.predict(&x)?, [0, 0, 1, 1, 2, 2]);
/// assert_eq!(model.score(&batch)?, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(
    try_from = "Stored<T>",
    into = "Stored<T>",
    bound(serialize = "T: Real + Serialize", deserialize = "T: Real + Deserialize<'de>")
)]
pub struct SoftmaxRegression<T> {
    theta: Mat<T>,
    objective: Objective,
    report: Report,
}

/// Why there is no converged fit.
#[derive(Debug)]
#[non_exhaustive]
pub enum FitError<T> {
    /// The input was refused.
    Input(Error),
    /// The solver gave up.
    Solver(argmin::core::Error),
    /// linfa refused the dataset.
    #[cfg(feature = "linfa")]
    Linfa(linfa::Error),
    /// The gradient is still above the tolerance. The model as far as it went, its [report](SoftmaxRegression::report)
    /// saying why.
    NotConverged(Box<SoftmaxRegression<T>>),
}

impl<T> From<Error> for FitError<T> {
    fn from(error: Error) -> Self {
        Self::Input(error)
    }
}

#[cfg(feature = "linfa")]
impl<T> From<linfa::Error> for FitError<T> {
    fn from(error: linfa::Error) -> Self {
        Self::Linfa(error)
    }
}

impl<T> From<argmin::core::Error> for FitError<T> {
    fn from(error: argmin::core::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => Self::Input(error),
            Err(error) => Self::Solver(error),
        }
    }
}

impl<T> fmt::Display for FitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => error.fmt(f),
            Self::Solver(error) => error.fmt(f),
            #[cfg(feature = "linfa")]
            Self::Linfa(error) => error.fmt(f),
            Self::NotConverged(model) => {
                let Report { step, stop } = model.report;
                write!(
                    f,
                    "not converged after {} iterations: {stop}; loss {}, scaled norm of the gradient {:.1e}",
                    step.iterations, step.loss, step.scaled_gradient_norm
                )
            }
        }
    }
}

impl<T: fmt::Debug> core::error::Error for FitError<T> {}

impl<T: Real> SoftmaxRegression<T> {
    /// Minimises the objective on a batch.
    ///
    /// Whatever the type of the features is, Θ is sought in `f64`.
    ///
    /// # Errors
    /// [`FitError::NotConverged`] where the gradient did not fall below the tolerance, with the model and why;
    /// [`FitError::Input`] with the errors of [`Objective::loss_and_gradient`], [`Error::OutputShape`] if the start is not
    /// r×K, and [`Error::NotFinite`] if the gradient is NaN or infinite, as with features that are.
    pub fn fit(batch: &Batch<'_, T>, options: FitOptions<'_, T>) -> Result<Self, FitError<T>> {
        let FitOptions { classes, objective, tolerance, max_iterations, start, mut on_step } = options;
        check_scores(batch.samples(), classes)?;
        let rows = objective.theta_rows(batch.features().features());
        let mut theta = Mat::zeros(rows, classes);
        if let Some(start) = start {
            check_output(Operand::Theta, theta.shape(), start.shape())?;
            theta.copy_from(start);
        }
        let divisor = objective.check(batch, theta.as_ref())?;
        let unit = (batch.weight(objective.options(), classes) / divisor).sqrt();
        let variables = Variables::new(&objective, batch, classes, divisor)?;
        let start = variables.of(theta.as_ref());
        let function = InVariables {
            inner: BatchLoss::new(objective.clone(), *batch),
            scratch: start.clone(),
            gradient: theta.clone(),
            theta,
            gradient_norm: f64::NAN,
            variables,
        };
        let problem = Problem::from_fn(rows, classes, function);
        let mut descent = Descent::new(problem.clone(), columns(start.as_ref()))?;
        let mut hope = Hope::new();
        let report = loop {
            let iterations = descent.iterations;
            let step = problem.with(&descent.point, |function, loss, gradient| Step {
                iterations,
                evaluations: 0,
                loss,
                gradient_norm: function.gradient_norm,
                scaled_gradient_norm: norm(gradient) / unit,
            })?;
            let step = Step { evaluations: problem.counts().evaluations, ..step };
            let go_on = on_step.as_mut().is_none_or(|call| call(&step).is_continue());
            let stop = match () {
                // Not a number of 0 samples: they have no unit.
                () if step.gradient_norm == 0.0 || step.scaled_gradient_norm <= tolerance => Stop::Converged,
                () if !go_on => Stop::Interrupted,
                () if iterations >= max_iterations => Stop::IterationLimit,
                () if hope.is_lost_at(&step) || !descent.step()? => Stop::NoProgress,
                () => continue,
            };
            break Report { step, stop };
        };
        let theta = problem.with(&descent.point, |function, _, _| function.theta.clone())?;
        let model = Self { theta, objective, report };
        if report.stop == Stop::Converged { Ok(model) } else { Err(FitError::NotConverged(Box::new(model))) }
    }

    /// The most probable class of each sample, as [`Objective::predict`].
    ///
    /// # Errors
    /// Those of [`Objective::predict`].
    pub fn predict<'x>(&self, x: impl Into<Features<'x, T>>) -> Result<Vec<u32>, Error> {
        let x = x.into();
        let mut labels = vec![0; x.samples()];
        self.objective.predict(x, self.theta(), &mut labels, &mut Workspace::new())?;
        Ok(labels)
    }

    /// The probability of each class for each sample (m×K), as [`Objective::probabilities`].
    ///
    /// # Errors
    /// Those of [`Objective::probabilities`].
    pub fn probabilities<'x>(&self, x: impl Into<Features<'x, T>>) -> Result<Mat<T>, Error> {
        let x = x.into();
        let mut out = Mat::zeros(x.samples(), self.theta.ncols());
        self.objective.probabilities(x, self.theta(), out.as_mut(), &mut Workspace::new())?;
        Ok(out)
    }

    /// The share of the weight of a batch, without samples to be ignored, whose class is predicted; of soft targets, the
    /// probability that they give to the predicted class.
    ///
    /// # Errors
    /// Those of [`predict`](Self::predict), those of targets that do not fit the classes, and [`Error::TotalWeight`] if there is nothing to predict.
    pub fn score(&self, batch: &Batch<'_, T>) -> Result<f64, Error> {
        let predicted = self.predict(batch.features())?;
        batch.share_of(&predicted, self.objective.options(), self.theta.ncols())
    }

    /// Θ: a column for each class, a row for each feature and, if there is one, the intercept last.
    pub fn theta(&self) -> MatRef<'_, T> {
        self.theta.as_ref()
    }

    /// What was minimised.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// How the fit went.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// The variables that the solver works in, linear in Θ: Φ = LᵀΘ.
#[derive(Debug)]
enum Variables {
    /// L is lower triangular: features are uncorrelated.
    Uncorrelated(Mat<f64>),
    /// L is diagonal: features have the same size.
    Scaled(Vec<f64>),
}

impl Variables {
    /// Rows of Θ up to which features are made uncorrelated. The factor takes r³/3 multiply-adds, and r² numbers.
    const MOST_UNCORRELATED: usize = 2048;

    fn new<T: Real>(
        objective: &Objective,
        batch: &Batch<'_, T>,
        classes: usize,
        divisor: f64,
    ) -> Result<Self, Error> {
        let features = batch.features().features();
        let rows = objective.theta_rows(features);
        // One class, loss ½·score²: that has the Hessian XᵀWX.
        let squares = objective.clone().with_options(Options {
            intercept: rows > features,
            z_loss: 0.5,
            ..Options::default()
        });
        let (weights, labels) = (batch.counted_weights(objective.options()), vec![0_u8; batch.samples()]);
        let batch = Batch::new(batch.features(), &labels)?.with_sample_weights(&weights)?;
        let (theta, mut workspace) = (Mat::zeros(rows, 1), Workspace::new());
        let mut diagonal = Mat::<T>::zeros(rows, 1);
        squares.hessian_diagonal(&batch, theta.as_ref(), diagonal.as_mut(), &mut workspace)?;
        let shrink = 1.0 / (divisor * classes as f64);
        let diagonal: Vec<f64> = (0..rows).map(|i| diagonal[(i, 0)].to_f64() * shrink).collect();
        let l2 = |row: usize| if row < features { objective.options().l2 } else { 0.0 };
        // Solving with L costs r²K; a pass over the data should cost more.
        if rows <= Self::MOST_UNCORRELATED && rows * rows <= batch.features().stored() {
            let correlations = correlations(&squares, batch.features(), &labels, &weights, &mut workspace)?;
            // A little more on the diagonal, as rounding and features that depend on others could have made it too small.
            let slack = 1.0 + 16.0 * rows as f64 * T::MACHINE_EPSILON;
            let curvature = Mat::from_fn(rows, rows, |i, j| match i == j {
                true => positive(diagonal[i] * slack + l2(i)),
                false => correlations[(i, j)] * (diagonal[i] * diagonal[j]).sqrt(),
            });
            if let Ok(factor) = curvature.llt(Side::Lower) {
                return Ok(Self::Uncorrelated(factor.L().to_owned()));
            }
        }
        Ok(Self::Scaled((0..rows).map(|i| positive(diagonal[i] + l2(i)).sqrt()).collect()))
    }

    /// Φ = LᵀΘ.
    fn of<T: Real>(&self, theta: MatRef<'_, T>) -> Mat<f64> {
        let theta = Mat::from_fn(theta.nrows(), theta.ncols(), |i, j| theta[(i, j)].to_f64());
        match self {
            Self::Uncorrelated(factor) => factor.transpose() * theta,
            Self::Scaled(scale) => {
                Mat::from_fn(theta.nrows(), theta.ncols(), |i, j| theta[(i, j)] * scale[i])
            }
        }
    }

    /// Φ becomes Θ = L⁻ᵀΦ.
    fn to_theta(&self, mut point: MatMut<'_, f64>) {
        match self {
            Self::Uncorrelated(factor) => {
                solve_upper_triangular_in_place(factor.transpose(), point, Par::Seq)
            }
            Self::Scaled(scale) => divide_rows(&mut point, scale),
        }
    }

    /// ∂J/∂Θ becomes ∂J/∂Φ = L⁻¹∂J/∂Θ.
    fn to_gradient(&self, mut gradient: MatMut<'_, f64>) {
        match self {
            Self::Uncorrelated(factor) => {
                solve_lower_triangular_in_place(factor.as_ref(), gradient, Par::Seq)
            }
            Self::Scaled(scale) => divide_rows(&mut gradient, scale),
        }
    }
}

/// XᵀWX over the square roots of its diagonal, from both sides; what a Hessian is of which that is one. Of many samples,
/// some are looked at: the variables need not be exactly uncorrelated.
fn correlations<T: Real>(
    squares: &Objective,
    features: Features<'_, T>,
    labels: &[u8],
    weights: &[T],
    workspace: &mut Workspace<T>,
) -> Result<Mat<f64>, Error> {
    /// Samples for each row of Θ: with so many, the eigenvalues of what should be I are between (1 ± ¼)².
    const SAMPLES_PER_ROW: usize = 16;
    /// Pieces of neighbouring samples, spread evenly, in case their order means something.
    const PIECES: usize = 16;

    let (rows, samples) = (squares.theta_rows(features.features()), features.samples());
    let theta = Mat::zeros(rows, 1);
    let mut gram_of = |features, samples: Range<usize>| {
        let batch = Batch::new(features, &labels[samples.clone()])?.with_sample_weights(&weights[samples])?;
        let mut gram = Mat::<T>::zeros(rows, rows);
        squares.hessian(&batch, theta.as_ref(), gram.as_mut(), workspace)?;
        Ok::<_, Error>(Mat::from_fn(rows, rows, |i, j| gram[(i, j)].to_f64()))
    };
    let each = SAMPLES_PER_ROW * rows / PIECES;
    let mut gram = None;
    if samples > 2 * PIECES * each {
        for start in (0..PIECES).map(|piece| samples / PIECES * piece) {
            let Some(part) = features.part(start..start + each) else { break };
            let part = gram_of(part, start..start + each)?;
            gram = Some(gram.map_or_else(|| part.clone(), |gram: Mat<f64>| gram + &part));
        }
    }
    let gram = gram.map_or_else(|| gram_of(features, 0..samples), Ok)?;
    let size: Vec<f64> = (0..rows).map(|i| positive(gram[(i, i)]).sqrt()).collect();
    Ok(Mat::from_fn(rows, rows, |i, j| gram[(i, j)] / (size[i] * size[j])))
}

/// A curvature to divide by: 1 for a feature that has none, being 0 everywhere, and where it is no number.
fn positive(curvature: f64) -> f64 {
    if curvature > 0.0 && curvature.is_finite() { curvature } else { 1.0 }
}

fn divide_rows(matrix: &mut MatMut<'_, f64>, by: &[f64]) {
    for column in matrix.as_mut().col_iter_mut() {
        column.iter_mut().zip(by).for_each(|(x, by)| *x /= by);
    }
}

/// J as a function of Φ.
#[derive(Debug)]
struct InVariables<'a, T> {
    inner: BatchLoss<'a, T>,
    variables: Variables,
    scratch: Mat<f64>,
    /// Of the last point.
    theta: Mat<T>,
    gradient: Mat<T>,
    /// ‖∇J‖₂ there.
    gradient_norm: f64,
}

impl<T: Real> Evaluate<f64> for InVariables<'_, T> {
    fn loss_and_gradient(
        &mut self,
        point: MatRef<'_, f64>,
        mut out: MatMut<'_, f64>,
    ) -> Result<f64, argmin::core::Error> {
        self.scratch.copy_from(point);
        self.variables.to_theta(self.scratch.as_mut());
        zip!(&mut self.theta, &self.scratch).for_each(|unzip!(theta, x)| *theta = T::from_f64(*x));
        let loss = self.inner.loss_and_gradient(self.theta.as_ref(), self.gradient.as_mut())?;
        zip!(&mut out, &self.gradient).for_each(|unzip!(out, g)| *out = g.to_f64());
        let numbers = columns(out.as_ref());
        if let Some(at) = numbers.iter().position(|g| !g.is_finite()) {
            return Err(Error::NotFinite { at, value: numbers[at] }.into());
        }
        self.gradient_norm = norm(&numbers);
        self.variables.to_gradient(out);
        Ok(loss)
    }
}

type Lbfgs = LBFGS<MoreThuenteLineSearch<Vec<f64>, Vec<f64>, f64>, Vec<f64>, Vec<f64>, f64>;

/// argmin's L-BFGS, a step at a time.
struct Descent<E> {
    problem: Problem<E, f64>,
    /// Where it is.
    point: Vec<f64>,
    iterations: u64,
    solver: Lbfgs,
    counted: Counted<Problem<E, f64>>,
    state: IterState<Vec<f64>, Vec<f64>, (), (), (), f64>,
}

impl<E: Evaluate<f64>> Descent<E> {
    /// Pairs of differences that are remembered.
    const MEMORY: usize = 20;

    fn new(problem: Problem<E, f64>, point: Vec<f64>) -> Result<Self, argmin::core::Error> {
        let mut solver = LBFGS::new(MoreThuenteLineSearch::new(), Self::MEMORY);
        let mut counted = Counted::new(problem.clone());
        let (mut state, _) = solver.init(&mut counted, IterState::new().param(point.clone()))?;
        state.update();
        Ok(Self { problem, point, iterations: 0, solver, counted, state })
    }

    /// Whether there is a next point; then it is there. A line search that fails is tried once more without what is
    /// remembered.
    fn step(&mut self) -> Result<bool, argmin::core::Error> {
        if self.try_step()? {
            return Ok(true);
        }
        let fresh = Self::new(self.problem.clone(), core::mem::take(&mut self.point))?;
        *self = Self { iterations: self.iterations, ..fresh };
        self.try_step()
    }

    fn try_step(&mut self) -> Result<bool, argmin::core::Error> {
        let state = core::mem::take(&mut self.state);
        let (mut state, _) = self.solver.next_iter(&mut self.counted, state)?;
        let Some(point) = state.get_param().filter(|&point| *point != self.point) else { return Ok(false) };
        self.point.clone_from(point);
        self.iterations += 1;
        state.update();
        state.increment_iter();
        self.state = state;
        Ok(true)
    }
}

/// Whether it is worth to go on.
struct Hope {
    lowest_loss: f64,
    smallest_norm: f64,
    /// Steps since one of them was.
    barren: u64,
}

impl Hope {
    /// Steps in a row that bring neither a lower loss nor a smaller gradient, after which none will.
    const MOST_BARREN: u64 = 8;

    fn new() -> Self {
        Self { lowest_loss: f64::INFINITY, smallest_norm: f64::INFINITY, barren: 0 }
    }

    fn is_lost_at(&mut self, step: &Step) -> bool {
        let fruitful = step.loss < self.lowest_loss || step.scaled_gradient_norm < self.smallest_norm;
        self.barren = if fruitful { 0 } else { self.barren + 1 };
        self.lowest_loss = self.lowest_loss.min(step.loss);
        self.smallest_norm = self.smallest_norm.min(step.scaled_gradient_norm);
        self.barren > Self::MOST_BARREN
    }
}

fn norm(numbers: &[f64]) -> f64 {
    numbers.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The columns of a matrix one after the other.
fn columns(matrix: MatRef<'_, f64>) -> Vec<f64> {
    matrix.col_iter().flat_map(|column| column.iter().copied()).collect()
}

/// A model as it is written.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    rows: usize,
    classes: usize,
    /// The columns of Θ one after the other.
    theta: Vec<T>,
    reduction: Reduction,
    options: Options,
    report: Report,
}

impl<T: Real> From<SoftmaxRegression<T>> for Stored<T> {
    fn from(model: SoftmaxRegression<T>) -> Self {
        let SoftmaxRegression { theta, objective, report } = model;
        let (reduction, options) = objective.into_parts();
        let (rows, classes) = theta.shape();
        let theta = theta.col_iter().flat_map(|column| column.iter().copied()).collect();
        Self { rows, classes, theta, reduction, options, report }
    }
}

impl<T: Real> TryFrom<Stored<T>> for SoftmaxRegression<T> {
    type Error = Error;

    fn try_from(stored: Stored<T>) -> Result<Self, Error> {
        let Stored { rows, classes, theta, reduction, options, report } = stored;
        let (expected, found) = (rows.saturating_mul(classes), theta.len());
        if found != expected {
            return Err(Error::ParameterCount { expected, found });
        }
        check_scores(rows, classes)?;
        options.check(classes)?;
        let theta = MatRef::from_column_major_slice(&theta, rows, classes).to_owned();
        Ok(Self { theta, objective: Objective::default().reduction(reduction).with_options(options), report })
    }
}
