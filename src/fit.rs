//! A ready estimator (feature `fit`): [`SoftmaxRegression::fit`].
//!
//! The solver is argmin's L-BFGS with the line search of Moré and Thuente (`descent.rs`). What this crate adds is the
//! evaluation, and the variables the solver works in: those in which features are uncorrelated (`variables.rs`).

mod descent;
mod variables;

use crate::batch::{Batch, Features};
use crate::block::check_scores;
use crate::error::{Error, Operand};
use crate::kernel::Real;
use crate::objective::{Objective, Reduction, check_output};
use crate::options::Options;
use crate::solver::{BatchLoss, Problem};
use crate::workspace::Workspace;
use core::fmt;
use core::ops::ControlFlow;
use descent::{Descent, Hope};
use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};
use variables::{InVariables, Variables};

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
