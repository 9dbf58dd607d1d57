//! The variables that the solver works in: those in which features are uncorrelated.
//!
//! With G = XᵀWX, the Hessian of J never exceeds ½·G ⊗ (I − 1/K) + λI (Böhning, *Multinomial logistic regression
//! algorithm*, 1992), and at Θ = 0 it is G/K but for the coupling of the classes. So with LLᵀ = G/K + λI the solver sees
//! Φ = LᵀΘ, of which the Hessian is near 1 whatever the units and correlations of the features are, and needs several
//! times fewer evaluations.

use super::{columns, norm};
use crate::batch::{Batch, Features};
use crate::error::Error;
use crate::kernel::Real;
use crate::objective::Objective;
use crate::options::Options;
use crate::solver::{BatchLoss, Evaluate};
use crate::workspace::Workspace;
use core::ops::Range;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatMut, MatRef, Par, Side, unzip, zip};

/// The variables that the solver works in, linear in Θ: Φ = LᵀΘ.
#[derive(Debug)]
pub(super) enum Variables {
    /// L is lower triangular: features are uncorrelated.
    Uncorrelated(Mat<f64>),
    /// L is diagonal: features have the same size.
    Scaled(Vec<f64>),
}

impl Variables {
    /// Rows of Θ up to which features are made uncorrelated. The factor takes r³/3 multiply-adds, and r² numbers.
    const MOST_UNCORRELATED: usize = 2048;

    pub(super) fn new<T: Real>(
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
        let exact_diagonal = |workspace: &mut Workspace<T>| {
            let mut diagonal = Mat::<T>::zeros(rows, 1);
            squares.hessian_diagonal(&batch, theta.as_ref(), diagonal.as_mut(), workspace)?;
            Ok::<_, Error>((0..rows).map(|i| diagonal[(i, 0)].to_f64()).collect::<Vec<_>>())
        };
        let shrink = 1.0 / (divisor * classes as f64);
        let l2 = |row: usize| if row < features { objective.options().l2 } else { 0.0 };
        // Solving with L costs r²K; a pass over the data should cost more.
        if rows <= Self::MOST_UNCORRELATED && rows * rows <= batch.features().stored() {
            let pieces = pieces(batch.features(), rows);
            let (mut gram, mut part) = (Mat::<f64>::zeros(rows, rows), Mat::<T>::zeros(rows, rows));
            for (features, samples) in &pieces {
                let batch = Batch::new(*features, &labels[samples.clone()])?;
                let batch = batch.with_sample_weights(&weights[samples.clone()])?;
                squares.hessian(&batch, theta.as_ref(), part.as_mut(), &mut workspace)?;
                zip!(&mut gram, &part).for_each(|unzip!(sum, x)| *sum += x.to_f64());
            }
            // Of some samples, only the correlations are taken: a feature may be in the others alone.
            let own: Vec<f64> = (0..rows).map(|i| gram[(i, i)]).collect();
            let diagonal = if pieces.len() == 1 { own.clone() } else { exact_diagonal(&mut workspace)? };
            let scale: Vec<f64> =
                diagonal.iter().zip(&own).map(|(d, own)| (d / positive(*own)).sqrt()).collect();
            // A little more on the diagonal, as rounding and features that depend on others could have made it too small.
            let slack = 1.0 + 16.0 * rows as f64 * T::MACHINE_EPSILON;
            let curvature = Mat::from_fn(rows, rows, |i, j| {
                if i == j {
                    positive(shrink * diagonal[i] * slack + l2(i))
                } else {
                    shrink * gram[(i, j)] * scale[i] * scale[j]
                }
            });
            if let Ok(factor) = curvature.llt(Side::Lower) {
                return Ok(Self::Uncorrelated(factor.L().to_owned()));
            }
        }
        let diagonal = exact_diagonal(&mut workspace)?;
        Ok(Self::Scaled((0..rows).map(|i| positive(shrink * diagonal[i] + l2(i)).sqrt()).collect()))
    }

    /// Φ = LᵀΘ.
    pub(super) fn of<T: Real>(&self, theta: MatRef<'_, T>) -> Mat<f64> {
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

/// The samples whose features are to be made uncorrelated: all; or of many, some, since for the rest they need not be so
/// exactly.
fn pieces<T: Copy>(features: Features<'_, T>, rows: usize) -> Vec<(Features<'_, T>, Range<usize>)> {
    /// Neighbours each, spread evenly in case their order means something, and of each as many as Θ has rows: then the
    /// eigenvalues of what should be I are about (1 ± ¼)².
    const PIECES: usize = 16;
    let samples = features.samples();
    let piece = |at: usize| {
        let start = samples / PIECES * at;
        Some((features.part(start..start + rows)?, start..start + rows))
    };
    let some = (samples > 2 * PIECES * rows).then(|| (0..PIECES).map(piece).collect()).flatten();
    some.unwrap_or_else(|| vec![(features, 0..samples)])
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
pub(super) struct InVariables<'a, T> {
    pub(super) inner: BatchLoss<'a, T>,
    pub(super) variables: Variables,
    pub(super) scratch: Mat<f64>,
    /// Of the last point.
    pub(super) theta: Mat<T>,
    pub(super) gradient: Mat<T>,
    /// ‖∇J‖₂ there.
    pub(super) gradient_norm: f64,
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
