//! The formulas, written naively: what tests, fuzzing and benches hold the rest against.
//!
//! Everything is in f64, sample by sample, without blocks, SIMD or threads. The formulas are those that do not cancel,
//! so that the results are accurate; the special values are those of the crate.

pub use crate::options::Options;

use crate::kernel::Real;
use faer::{Mat, MatRef};

/// Loss and residual of one sample: scores z, label y. Weight 1.
pub fn sample(z: &[f64], label: usize) -> (f64, Vec<f64>) {
    if z.iter().any(|z| z.is_nan()) {
        return (f64::NAN, vec![f64::NAN; z.len()]);
    }
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !top.is_finite() {
        let loss = if top > z[label] { f64::INFINITY } else { f64::NAN };
        return (loss, vec![f64::NAN; z.len()]);
    }
    let e: Vec<f64> = z.iter().map(|z| (z - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    let argmax = z.iter().position(|&z| z == top).unwrap_or(0);
    let all_but = |k: usize| e.iter().enumerate().filter(|&(j, _)| j != k).map(|(_, e)| e).sum::<f64>();
    let loss = (top - z[label]) + all_but(if z[label] == top { label } else { argmax }).ln_1p();
    let residual =
        (0..z.len()).map(|k| if k == label { -all_but(label) / sum } else { e[k] / sum }).collect();
    (loss, residual)
}

/// Scores XΘ, m×K.
pub fn scores<T: Real>(x: MatRef<'_, T>, theta: MatRef<'_, T>) -> Mat<f64> {
    Mat::from_fn(x.nrows(), theta.ncols(), |i, k| {
        (0..x.ncols()).map(|j| x[(i, j)].to_f64() * theta[(j, k)].to_f64()).sum()
    })
}

/// Loss Σᵢ wᵢ·lossᵢ and gradient Xᵀ(w ⊙ R). Samples of weight 0 are left out.
pub fn loss_and_gradient<T: Real>(
    x: MatRef<'_, T>,
    labels: &[usize],
    weights: Option<&[T]>,
    theta: MatRef<'_, T>,
) -> (f64, Mat<f64>) {
    let z = scores(x, theta);
    let mut loss = 0.0;
    let mut gradient = Mat::zeros(x.ncols(), theta.ncols());
    for i in 0..x.nrows() {
        let weight = weights.map_or(1.0, |w| w[i].to_f64());
        if weight == 0.0 {
            continue;
        }
        let row: Vec<f64> = z.row(i).iter().copied().collect();
        let (sample_loss, residual) = sample(&row, labels[i]);
        loss += weight * sample_loss;
        for (k, r) in residual.iter().enumerate() {
            for j in 0..x.ncols() {
                gradient[(j, k)] += x[(i, j)].to_f64() * (weight * r);
            }
        }
    }
    (loss, gradient)
}

/// Targets of [`evaluate`].
#[derive(Clone, Debug)]
pub enum Targets {
    /// A label a sample.
    Labels(Vec<i64>),
    /// m×K.
    Soft(Mat<f64>),
}

/// All that [`evaluate`] finds.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// J.
    pub loss: f64,
    /// wᵢ·lossᵢ.
    pub sample_losses: Vec<f64>,
    /// ∇J.
    pub gradient: Mat<f64>,
    /// ∂J/∂X.
    pub input_gradient: Mat<f64>,
    /// Second derivative, the columns of Θ one after the other.
    pub hessian: Mat<f64>,
}

/// J with all options, the sum or the mean of the losses, and its derivatives, by the formulas of
/// [`Objective`](crate::Objective)'s documentation.
pub fn evaluate(
    x: MatRef<'_, f64>,
    targets: &Targets,
    weights: Option<&[f64]>,
    theta: MatRef<'_, f64>,
    options: &Options,
    mean: bool,
) -> Evaluation {
    let (m, n) = x.shape();
    let (rows, classes) = theta.shape();
    let class_weight = |k: usize| options.class_weights.as_ref().map_or(1.0, |weights| weights[k]);
    let feature = |i: usize, j: usize| if j < n { x[(i, j)] } else { 1.0 };
    let ignored =
        |i: usize| matches!(targets, Targets::Labels(labels) if Some(labels[i]) == options.ignore_label);
    let weight = |i: usize| if ignored(i) { 0.0 } else { weights.map_or(1.0, |weights| weights[i]) };
    let total: f64 = (0..m)
        .map(|i| match targets {
            _ if weight(i) == 0.0 => 0.0,
            Targets::Labels(labels) => weight(i) * class_weight(labels[i] as usize),
            Targets::Soft(_) => weight(i),
        })
        .sum();
    let divisor = if mean { total } else { 1.0 };

    let mut all = Evaluation {
        loss: 0.0,
        sample_losses: vec![0.0; m],
        gradient: Mat::zeros(rows, classes),
        input_gradient: Mat::zeros(m, n),
        hessian: Mat::zeros(rows * classes, rows * classes),
    };
    for i in (0..m).filter(|&i| weight(i) != 0.0) {
        let score = |k: usize| (0..rows).map(|j| feature(i, j) * theta[(j, k)]).sum::<f64>();
        let scores: Vec<f64> = (0..classes).map(score).collect();
        // z, and its first and second derivative by the score.
        let transformed = |s: f64| match options.soft_cap {
            None => (s / options.temperature, 1.0 / options.temperature, 0.0),
            Some(cap) => {
                let tanh = (s / cap).tanh();
                let slope = 1.0 / (s / cap).cosh().powi(2);
                let bend = -2.0 * tanh * slope / cap;
                (cap * tanh / options.temperature, slope / options.temperature, bend / options.temperature)
            }
        };
        let z: Vec<(f64, f64, f64)> = scores.iter().map(|&s| transformed(s)).collect();
        let share = |k: usize| match targets {
            Targets::Labels(labels) => f64::from(u8::from(labels[i] == k as i64)),
            Targets::Soft(targets) => targets[(i, k)],
        };
        let alpha = options.label_smoothing;
        let t: Vec<f64> = (0..classes)
            .map(|k| class_weight(k) * ((1.0 - alpha) * share(k) + alpha / classes as f64))
            .collect();
        let top = z.iter().map(|z| z.0).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = z.iter().map(|z| (z.0 - top).exp()).sum();
        let log_sum_exp = top + sum.ln();
        let p: Vec<f64> = z.iter().map(|z| (z.0 - top).exp() / sum).collect();
        let cross_entropy: f64 = z.iter().zip(&t).map(|(z, t)| t * (log_sum_exp - z.0)).sum();
        all.sample_losses[i] = weight(i) * (cross_entropy + options.z_loss * log_sum_exp.powi(2));
        all.loss += all.sample_losses[i] / divisor;

        let multiplier = t.iter().sum::<f64>() + 2.0 * options.z_loss * log_sum_exp;
        let by_z: Vec<f64> = (0..classes).map(|k| multiplier * p[k] - t[k]).collect();
        let scale = weight(i) / divisor;
        for k in 0..classes {
            let residual = scale * z[k].1 * by_z[k];
            for j in 0..rows {
                all.gradient[(j, k)] += feature(i, j) * residual;
            }
            for j in 0..n {
                all.input_gradient[(i, j)] += residual * theta[(j, k)];
            }
            for l in 0..classes {
                let same = f64::from(u8::from(k == l));
                let curved = multiplier * p[k] * (same - p[l]) + 2.0 * options.z_loss * p[k] * p[l];
                let curved = scale * (z[k].1 * curved * z[l].1 + same * z[k].2 * by_z[k]);
                for (j, h) in (0..rows).flat_map(|j| (0..rows).map(move |h| (j, h))) {
                    all.hessian[(k * rows + j, l * rows + h)] += feature(i, j) * curved * feature(i, h);
                }
            }
        }
    }
    for k in 0..classes {
        for j in 0..n {
            all.loss += 0.5 * options.l2 * theta[(j, k)].powi(2);
            all.gradient[(j, k)] += options.l2 * theta[(j, k)];
            all.hessian[(k * rows + j, k * rows + j)] += options.l2;
        }
    }
    all
}
