//! This crate's loss as a problem for [argmin](https://crates.io/crates/argmin)'s solvers (feature `argmin`).
//!
//! argmin's parameter is a flat vector; here the columns of Θ one after the other. It asks for cost, gradient and Hessian
//! in calls of their own; a [`Problem`] computes loss and gradient in one pass, and answers the second question about a
//! point from the first. Of the Hessian it hands out a [`HessianAt`] a point, which multiplies directions without ever
//! being a matrix: so Newton's method and trust regions work for any size.
//!
//! ```
//! use argmin::core::{Executor, State};
//! use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
//! use faer::mat;
//! use softmax_regression::{Batch, Objective, solver::Problem};
//!
//! let x = mat![[1.0, 0.5], [-0.3, 2.0], [0.7, -1.0_f64]];
//! let batch = Batch::new(&x, &[0_u32, 1, 2])?;
//! let problem = Problem::new(Objective::default().l2(0.1), batch, 3);
//! let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10);
//! let outcome = Executor::new(problem, solver).configure(|state| state.param(vec![0.0; 6])).run()?;
//! assert!(outcome.state.get_best_cost() < 1.0);
//! # Ok::<(), argmin::core::Error>(())
//! ```

use crate::batch::Batch;
use crate::kernel::Real;
use crate::objective::Objective;
use crate::workspace::Workspace;
use argmin::core::{CostFunction, Error, Gradient, Hessian};
use argmin_math::ArgminDot;
use faer::{MatMut, MatRef};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A function of Θ (r×K) with a gradient: of a batch, of a stream of batches, of the shards of many machines.
///
/// Every `FnMut(MatRef<F>, MatMut<F>) -> Result<f64, Error>` is one.
pub trait Evaluate<F> {
    /// The value at `theta`, and the gradient into `gradient`. Both are column-major.
    ///
    /// # Errors
    /// Whatever keeps it from an answer; the solver hands it on.
    fn loss_and_gradient(&mut self, theta: MatRef<'_, F>, gradient: MatMut<'_, F>) -> Result<f64, Error>;
}

/// One that has second derivatives.
pub trait Curved<F>: Evaluate<F> {
    /// The product of the Hessian at `theta` with `direction`, into `out`. All are column-major.
    ///
    /// # Errors
    /// Whatever keeps it from an answer.
    fn hessian_product(
        &mut self,
        theta: MatRef<'_, F>,
        direction: MatRef<'_, F>,
        out: MatMut<'_, F>,
    ) -> Result<(), Error>;
}

impl<F, E> Evaluate<F> for E
where
    E: FnMut(MatRef<'_, F>, MatMut<'_, F>) -> Result<f64, Error>,
{
    fn loss_and_gradient(&mut self, theta: MatRef<'_, F>, gradient: MatMut<'_, F>) -> Result<f64, Error> {
        self(theta, gradient)
    }
}

/// An [`Objective`] of a [`Batch`].
#[derive(Debug)]
pub struct BatchLoss<'a, T> {
    pub(crate) objective: Objective,
    pub(crate) batch: Batch<'a, T>,
    pub(crate) workspace: Workspace<T>,
}

impl<'a, T: Real> BatchLoss<'a, T> {
    /// With scratch of its own.
    pub fn new(objective: Objective, batch: Batch<'a, T>) -> Self {
        Self { objective, batch, workspace: Workspace::new() }
    }
}

impl<T: Real> Evaluate<T> for BatchLoss<'_, T> {
    fn loss_and_gradient(&mut self, theta: MatRef<'_, T>, gradient: MatMut<'_, T>) -> Result<f64, Error> {
        Ok(self.objective.loss_and_gradient(&self.batch, theta, gradient, &mut self.workspace)?)
    }
}

impl<T: Real> Curved<T> for BatchLoss<'_, T> {
    fn hessian_product(
        &mut self,
        theta: MatRef<'_, T>,
        direction: MatRef<'_, T>,
        out: MatMut<'_, T>,
    ) -> Result<(), Error> {
        Ok(self.objective.hessian_product(&self.batch, theta, direction, out, &mut self.workspace)?)
    }
}

/// A function of Θ as argmin's solvers want it: [`CostFunction`], [`Gradient`], and [`Hessian`] if it is [`Curved`].
///
/// The parameter is a `Vec` of the columns of Θ one after the other. A clone shares everything with the original, its
/// [`counts`](Self::counts) too.
#[derive(Debug)]
pub struct Problem<E, F> {
    rows: usize,
    classes: usize,
    shared: Arc<Mutex<Shared<E, F>>>,
}

impl<E, F> Clone for Problem<E, F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), ..*self }
    }
}

/// What was asked of a [`Problem`], and what it had to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times the cost was asked for.
    pub costs: u64,
    /// Times the gradient was.
    pub gradients: u64,
    /// Times a product with a Hessian was.
    pub products: u64,
    /// Passes over the data for loss and gradient.
    pub evaluations: u64,
    /// Passes over the data for a product.
    pub product_evaluations: u64,
}

#[derive(Debug)]
struct Shared<E, F> {
    function: E,
    /// The last point, and what was found there; nothing before there is one.
    point: Vec<F>,
    loss: f64,
    gradient: Vec<F>,
    counts: Counts,
}

impl<'a, T: Real> Problem<BatchLoss<'a, T>, T> {
    /// The objective of a batch of so many classes.
    pub fn new(objective: Objective, batch: Batch<'a, T>, classes: usize) -> Self {
        let rows = objective.theta_rows(batch.features().features());
        Self::from_fn(rows, classes, BatchLoss::new(objective, batch))
    }
}

impl<E: Evaluate<F>, F: Real> Problem<E, F> {
    /// Any function of a Θ of so many rows (n, or n + 1 with an intercept) and classes: a closure from Θ and the place of
    /// the gradient to the value, for instance.
    pub fn from_fn(rows: usize, classes: usize, function: E) -> Self {
        let shared = Shared {
            function,
            point: Vec::new(),
            loss: f64::NAN,
            gradient: vec![F::ZERO; rows * classes],
            counts: Counts::default(),
        };
        Self { rows, classes, shared: Arc::new(Mutex::new(shared)) }
    }

    /// What was asked of it so far, and of its clones.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// What `f` makes of the function, and of loss and gradient of a point.
    #[cfg(feature = "fit")]
    pub(crate) fn with<R>(&self, point: &[F], f: impl FnOnce(&E, f64, &[F]) -> R) -> Result<R, Error> {
        let shared = self.at(point)?;
        Ok(f(&shared.function, shared.loss, &shared.gradient))
    }

    fn lock(&self) -> MutexGuard<'_, Shared<E, F>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With loss and gradient of a point.
    fn at(&self, point: &[F]) -> Result<MutexGuard<'_, Shared<E, F>>, Error> {
        let mut guard = self.lock();
        let shared = &mut *guard;
        if shared.point != point {
            let expected = self.rows * self.classes;
            if point.len() != expected {
                return Err(crate::Error::ParameterCount { expected, found: point.len() }.into());
            }
            // Not the last point if this fails.
            shared.point.clear();
            let theta = MatRef::from_column_major_slice(point, self.rows, self.classes);
            let gradient = MatMut::from_column_major_slice_mut(&mut shared.gradient, self.rows, self.classes);
            shared.loss = shared.function.loss_and_gradient(theta, gradient)?;
            shared.counts.evaluations += 1;
            shared.point.extend_from_slice(point);
        }
        Ok(guard)
    }
}

impl<E: Evaluate<F>, F: Real> CostFunction for Problem<E, F> {
    type Param = Vec<F>;
    type Output = F;

    fn cost(&self, param: &Vec<F>) -> Result<F, Error> {
        let mut shared = self.at(param)?;
        shared.counts.costs += 1;
        Ok(F::from_f64(shared.loss))
    }
}

impl<E: Evaluate<F>, F: Real> Gradient for Problem<E, F> {
    type Param = Vec<F>;
    type Gradient = Vec<F>;

    fn gradient(&self, param: &Vec<F>) -> Result<Vec<F>, Error> {
        let mut shared = self.at(param)?;
        shared.counts.gradients += 1;
        Ok(shared.gradient.clone())
    }
}

impl<E: Curved<F>, F: Real> Hessian for Problem<E, F> {
    type Param = Vec<F>;
    type Hessian = HessianAt<E, F>;

    /// # Errors
    /// Those of the function, also where its gradient or its product with that is not finite: a solver would go on for
    /// ever.
    fn hessian(&self, param: &Vec<F>) -> Result<HessianAt<E, F>, Error> {
        let descent = self.at(param)?.gradient.iter().map(|&g| -g).collect();
        let hessian = HessianAt {
            problem: self.clone(),
            point: param.clone(),
            last: Arc::new(Mutex::new((Vec::new(), Vec::new()))),
        };
        // The solvers' first direction. What fails for it would fail for the others, and only here can it be told.
        let product = hessian.product(&descent)?;
        match product.iter().position(|x| !x.to_f64().is_finite()) {
            None => Ok(hessian),
            Some(at) => Err(crate::Error::NotFinite { at, value: product[at].to_f64() }.into()),
        }
    }
}

/// The Hessian at a point, as far as solvers need one: [`ArgminDot`] multiplies it by a direction.
///
/// Asked twice for the same direction, as they do, it computes the product once.
#[derive(Debug)]
pub struct HessianAt<E, F> {
    problem: Problem<E, F>,
    point: Vec<F>,
    /// Direction and product.
    last: Arc<Mutex<(Vec<F>, Vec<F>)>>,
}

impl<E, F: Clone> Clone for HessianAt<E, F> {
    fn clone(&self) -> Self {
        Self { problem: self.problem.clone(), point: self.point.clone(), last: Arc::clone(&self.last) }
    }
}

impl<E: Curved<F>, F: Real> HessianAt<E, F> {
    fn product(&self, direction: &Vec<F>) -> Result<Vec<F>, Error> {
        let mut shared = self.problem.lock();
        let Shared { function, counts, .. } = &mut *shared;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        counts.products += 1;
        if direction.iter().all(|&x| x == F::ZERO) {
            return Ok(vec![F::ZERO; direction.len()]);
        }
        if last.0 != *direction {
            let Problem { rows, classes, .. } = self.problem;
            let view = |numbers| MatRef::from_column_major_slice(numbers, rows, classes);
            let mut out = vec![F::ZERO; rows * classes];
            let place = MatMut::from_column_major_slice_mut(&mut out, rows, classes);
            function.hessian_product(view(&self.point), view(direction), place)?;
            counts.product_evaluations += 1;
            *last = (direction.clone(), out);
        }
        Ok(last.1.clone())
    }
}

impl<E: Curved<F>, F: Real> ArgminDot<Vec<F>, Vec<F>> for HessianAt<E, F> {
    /// NaN where the function fails, which it did not for the first direction.
    fn dot(&self, direction: &Vec<F>) -> Vec<F> {
        self.product(direction).unwrap_or_else(|_| vec![F::from_f64(f64::NAN); direction.len()])
    }
}
