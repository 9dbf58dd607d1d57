//! The formulas, written naively: what tests, fuzzing and benches hold the rest against.
//!
//! Everything is in f64, sample by sample, without blocks, SIMD or threads. The formulas are those that do not cancel,
//! so that the results are accurate; the special values are those of the crate.

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
