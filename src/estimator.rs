//! The estimator behind [linfa](https://crates.io/crates/linfa)'s traits (feature `linfa`).
//!
//! ```
//! # use ndarray_0_16 as ndarray;
//! use linfa::prelude::*;
//! use ndarray::array;
//! use softmax_regression::estimator::Estimator;
//!
//! let data = Dataset::new(array![[0.0, 0.1], [2.0, 2.1], [0.1, 3.0], [0.2, 0.0_f64]], array!["a", "b", "c", "a"]);
//! let model = Estimator::default().l2(0.1).fit(&data)?;
//! assert_eq!(model.predict(&data), array!["a", "b", "c", "a"]);
//! # Ok::<(), softmax_regression::FitError<f64>>(())
//! ```
//!
//! Its arrays are those of ndarray 0.16, as linfa's are. (The feature `ndarray` is for the current version.)

use crate::batch::Batch;
use crate::error::Error;
use crate::fit::{FitError, FitOptions, SoftmaxRegression};
use crate::kernel::Real;
use crate::objective::Objective;
use faer::{Mat, MatRef};
use linfa::dataset::{AsSingleTargets, DatasetBase};
use linfa::traits::{Fit, PredictInplace};
use ndarray_0_16::{Array1, Array2, ArrayBase, ArrayView2, Data, Ix2};

/// How to fit a [`Classifier`] to a dataset: linfa's `fit` takes it from here.
#[derive(Clone, Debug)]
pub struct Estimator<T> {
    objective: Objective,
    tolerance: Option<f64>,
    max_iterations: Option<u64>,
    start: Option<Mat<T>>,
}

impl<T> Default for Estimator<T> {
    /// With an intercept and the penalty ½‖Θ‖², which are linfa-logistic's defaults too.
    fn default() -> Self {
        let objective = Objective::default().intercept(true).l2(1.0);
        Self { objective, tolerance: None, max_iterations: None, start: None }
    }
}

impl<T: Real> Estimator<T> {
    /// What to minimise, with all its options.
    pub fn objective(mut self, objective: Objective) -> Self {
        self.objective = objective;
        self
    }

    /// λ of the penalty ½·λ‖Θ‖²: linfa-logistic's alpha. 1 by default.
    pub fn l2(mut self, lambda: f64) -> Self {
        self.objective = self.objective.l2(lambda);
        self
    }

    /// [`FitOptions::tolerance`].
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = Some(tolerance);
        self
    }

    /// [`FitOptions::max_iterations`].
    pub fn max_iterations(mut self, iterations: u64) -> Self {
        self.max_iterations = Some(iterations);
        self
    }

    /// [`FitOptions::warm_start`], of the classes in their order.
    pub fn warm_start(mut self, theta: MatRef<'_, T>) -> Self {
        self.start = Some(theta.to_owned());
        self
    }
}

impl<T, C, D, Y> Fit<ArrayBase<D, Ix2>, Y, FitError<T>> for Estimator<T>
where
    T: Real,
    C: Ord + Clone,
    D: Data<Elem = T>,
    Y: AsSingleTargets<Elem = C>,
{
    type Object = Classifier<T, C>;

    /// The classes are the labels that occur, in their order. The weights of the dataset are those of the samples.
    ///
    /// # Errors
    /// Those of [`SoftmaxRegression::fit`].
    fn fit(&self, dataset: &DatasetBase<ArrayBase<D, Ix2>, Y>) -> Result<Self::Object, FitError<T>> {
        let targets = dataset.as_single_targets();
        let mut classes: Vec<C> = targets.iter().cloned().collect();
        classes.sort_unstable();
        classes.dedup();
        let label = |target| classes.binary_search(target).unwrap_or(classes.len());
        let labels: Vec<usize> = targets.iter().map(label).collect();
        let weights: Option<Vec<T>> =
            dataset.weights().map(|weights| weights.iter().map(|&w| T::from_f64(f64::from(w))).collect());

        let mut copy = None;
        let mut batch = Batch::new(matrix(dataset.records().view(), &mut copy), &labels)?;
        if let Some(weights) = &weights {
            batch = batch.with_sample_weights(weights)?;
        }
        let mut options = FitOptions::new(classes.len()).objective(self.objective.clone());
        if let Some(tolerance) = self.tolerance {
            options = options.tolerance(tolerance);
        }
        if let Some(iterations) = self.max_iterations {
            options = options.max_iterations(iterations);
        }
        if let Some(start) = &self.start {
            options = options.warm_start(start.as_ref());
        }
        Ok(Classifier { model: SoftmaxRegression::fit(&batch, options)?, classes })
    }
}

/// A fitted [`SoftmaxRegression`] that knows the names of its classes.
#[derive(Clone, Debug)]
pub struct Classifier<T, C> {
    model: SoftmaxRegression<T>,
    classes: Vec<C>,
}

impl<T: Real, C> Classifier<T, C> {
    /// The model, to which a class is a number.
    pub fn model(&self) -> &SoftmaxRegression<T> {
        &self.model
    }

    /// The names of classes 0, 1, ….
    pub fn classes(&self) -> &[C] {
        &self.classes
    }

    /// The probability of each class for each sample (m×K).
    ///
    /// # Errors
    /// Those of [`SoftmaxRegression::probabilities`].
    pub fn probabilities<D: Data<Elem = T>>(&self, x: &ArrayBase<D, Ix2>) -> Result<Array2<T>, Error> {
        let out = self.model.probabilities(matrix(x.view(), &mut None))?;
        Ok(Array2::from_shape_fn(out.shape(), |at| out[at]))
    }
}

impl<T: Real, C: Clone, D: Data<Elem = T>> PredictInplace<ArrayBase<D, Ix2>, Array1<C>> for Classifier<T, C> {
    /// # Panics
    /// If the shapes do not fit, as linfa's models do: its trait knows no errors.
    fn predict_inplace<'a>(&'a self, x: &'a ArrayBase<D, Ix2>, y: &mut Array1<C>) {
        assert_eq!(x.nrows(), y.len(), "the number of samples and that of targets differ");
        match self.model.predict(matrix(x.view(), &mut None)) {
            Err(error) => panic!("{error}"),
            Ok(labels) => y.iter_mut().zip(labels).for_each(|(y, k)| y.clone_from(&self.classes[k as usize])),
        }
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<C> {
        (0..x.nrows()).map(|_| self.classes[0].clone()).collect()
    }
}

/// Records as they are, if their rows or columns are contiguous; else a copy.
fn matrix<'a, T: Real>(x: ArrayView2<'a, T>, copy: &'a mut Option<Vec<T>>) -> MatRef<'a, T> {
    let (m, n) = x.dim();
    if let Some(rows) = x.to_slice() {
        return MatRef::from_row_major_slice(rows, m, n);
    }
    match x.reversed_axes().to_slice() {
        Some(columns) => MatRef::from_column_major_slice(columns, m, n),
        None => MatRef::from_row_major_slice(copy.insert(x.iter().copied().collect()), m, n),
    }
}
