//! How far a result may be from the reference: the only place that says so.
//!
//! To first order, with ε the distance from 1 to the next number and γ(n) the growth of rounding errors over n additions:
//!
//! ```text
//! scores         |δzᵢ| ≤ γ(n)·ε·Dᵢ,              Dᵢ = max_k Σⱼ |x_ij θ_jk|
//! probabilities  |δp| ≤ (2|δzᵢ| + cᵢ ε)·p,        cᵢ = 8 + max zᵢ − min zᵢ: the contract for exact scores
//! residual       the same, relatively: nothing cancels in it
//! loss           2|δzᵢ|·min(1, lossᵢ) + cᵢ ε·lossᵢ:  ∂loss/∂z = R, and Σ|R| = 2(1 − p_y) ≤ 2 min(1, loss)
//! gradient       Σᵢ |x_ij| wᵢ |R_ik|·(residual's + (γ(2m) + 3) ε)
//! ```
//!
//! A wrong or missing term is of the order of 1 or of 1/m, relatively; the bounds are of the order of √n·ε and √m·ε.

use super::{Float, Problem};
use approx::AbsDiffEq;
use faer::{Mat, MatRef};
use softmax_regression::reference;

/// What second-order terms may add.
const SECOND_ORDER: f64 = 1.01;

/// γ(n): at most n; for many terms 4√n, which independent roundings exceed with a probability of e⁻³² (Higham and Mary,
/// *A new approach to probabilistic rounding error analysis*, 2019, with λ = 8 units of ε/2).
fn growth(n: usize) -> f64 {
    (n as f64).min(4.0 * (n as f64).sqrt())
}

/// A true value, and how far one computed may be from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bounded {
    pub(crate) truth: f64,
    pub(crate) error: f64,
}

impl Bounded {
    /// Also where both are NaN, or the same infinity.
    #[track_caller]
    pub(crate) fn check(&self, found: f64, what: impl Fn() -> String) {
        let Self { truth, error } = *self;
        let same = (truth.is_nan() && found.is_nan()) || truth == found;
        assert!(
            same || found.abs_diff_eq(&truth, error),
            "{}: found {found:e}, truth {truth:e}, off by {:e}, allowed {error:e}",
            what(),
            (found - truth).abs()
        );
    }

    /// The sum, rounded to f64.
    pub(crate) fn plus(self, other: Self) -> Self {
        let truth = self.truth + other.truth;
        Self { truth, error: self.error + other.error + f64::EPSILON * truth.abs() }
    }

    fn scaled(self, factor: f64) -> Self {
        Self { truth: self.truth * factor, error: self.error * factor }
    }
}

/// Given exact scores: how far the loss and each residual of a sample may be off.
pub(crate) fn of_scores<T: Float>(z: &[T], label: usize) -> (Bounded, Vec<Bounded>) {
    let z: Vec<f64> = z.iter().map(|z| z.value()).collect();
    let (loss, residual) = reference::sample(&z, label);
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // The reference errs too, by less than what the contract allows for f64.
    let epsilon = T::EPSILON + f64::EPSILON;
    let others = z.iter().enumerate().filter(|&(k, _)| k != label).map(|(_, &z)| z);
    let runner_up = others.fold(f64::NEG_INFINITY, f64::max);
    let bounded = |truth: f64, decides: f64| {
        // Below −750, exp is 0 in every type, and the absolute error is what is bounded.
        let conditioning = 8.0 + (top - decides).min(750.0);
        let relative = SECOND_ORDER * conditioning * epsilon * truth.abs();
        Bounded { truth, error: relative.max(2.0 * T::SMALLEST) }
    };
    let residual = residual.iter().enumerate().map(|(k, &r)| match z[k] {
        _ if k == label => bounded(r, runner_up),
        f64::NEG_INFINITY if r == 0.0 => Bounded::default(),
        score => bounded(r, score),
    });
    (bounded(loss, if z[label] == top { runner_up } else { top }), residual.collect())
}

/// The truth of a problem, and how far each result may be from it.
pub(crate) struct Expected {
    pub(crate) loss: Bounded,
    pub(crate) sample_losses: Vec<Bounded>,
    pub(crate) gradient: Mat<Bounded>,
    pub(crate) probabilities: Mat<Bounded>,
    /// Scores, and how far each of a row may be off.
    scores: Mat<f64>,
    score_errors: Vec<f64>,
}

impl Expected {
    pub(crate) fn of<T: Float>(problem: &Problem<T>, weighted: bool) -> Self {
        let Problem { x, labels, weights, theta } = problem;
        let weights = weighted.then_some(weights.as_slice());
        Self::new(x.as_ref(), labels, weights, theta.as_ref())
    }

    /// Of the mean, where this is of the sum.
    pub(crate) fn mean(mut self, total_weight: f64) -> Self {
        self.loss = self.loss.scaled(1.0 / total_weight);
        for column in self.gradient.col_iter_mut() {
            column.iter_mut().for_each(|x| *x = x.scaled(1.0 / total_weight));
        }
        self
    }

    pub(crate) fn new<T: Float>(
        x: MatRef<'_, T>,
        labels: &[usize],
        weights: Option<&[T]>,
        theta: MatRef<'_, T>,
    ) -> Self {
        let (m, n, classes) = (x.nrows(), x.ncols(), theta.ncols());
        let epsilon = T::EPSILON + f64::EPSILON;
        let magnitude = |matrix: MatRef<'_, T>| {
            Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| T::of(matrix[(i, j)].value().abs()))
        };
        let magnitudes = reference::scores(magnitude(x).as_ref(), magnitude(theta).as_ref());
        let scores = reference::scores(x, theta);
        let weight = |i: usize| weights.map_or(1.0, |w| w[i].value());
        let (loss, gradient) = reference::loss_and_gradient(x, labels, weights, theta);

        let mut loss = Bounded { truth: loss, error: 0.0 };
        let mut gradient = Mat::from_fn(n, classes, |j, k| Bounded { truth: gradient[(j, k)], error: 0.0 });
        let mut probabilities = Mat::full(m, classes, Bounded::default());
        let (mut sample_losses, mut score_errors) = (Vec::new(), Vec::new());
        for i in 0..m {
            let z: Vec<f64> = scores.row(i).iter().copied().collect();
            let largest = magnitudes.row(i).iter().copied().fold(0.0, f64::max);
            let delta = growth(n) * epsilon * largest;
            let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let bottom = z.iter().copied().fold(f64::INFINITY, f64::min);
            let contract = (8.0 + top - bottom) * epsilon;
            let (truth, residual) = reference::sample(&z, labels[i]);
            let error = SECOND_ORDER * (2.0 * delta * truth.min(1.0) + contract * truth);
            // In f64 whatever T, but each is stored as T.
            let stored = Bounded { truth, error: error + T::EPSILON * truth };
            let w = weight(i);
            sample_losses.push(if w == 0.0 { Bounded::default() } else { stored.scaled(w) });
            score_errors.push(delta);

            let relative = SECOND_ORDER * (2.0 * delta + contract);
            let sum: f64 = z.iter().map(|z| (z - top).exp()).sum();
            for (k, &r) in residual.iter().enumerate() {
                let truth = (z[k] - top).exp() / sum;
                probabilities[(i, k)] = Bounded { truth, error: relative * truth };
                for j in 0..if w == 0.0 { 0 } else { n } {
                    let summing = (growth(2 * m) + 3.0) * epsilon;
                    gradient[(j, k)].error += x[(i, j)].value().abs() * w * r.abs() * (relative + summing);
                }
            }
            if w != 0.0 {
                loss.error += w * (error + growth(2 * m) * f64::EPSILON * truth);
            }
        }
        Self { loss, sample_losses, gradient, probabilities, scores, score_errors }
    }

    #[track_caller]
    pub(crate) fn check_gradient<T: Float>(&self, found: MatRef<'_, T>, what: &dyn Fn() -> String) {
        check_matrix(&self.gradient, found, &|| format!("gradient, {}", what()));
    }

    #[track_caller]
    pub(crate) fn check_probabilities<T: Float>(&self, found: MatRef<'_, T>, what: &dyn Fn() -> String) {
        check_matrix(&self.probabilities, found, &|| format!("probabilities, {}", what()));
    }

    /// All of it; predictions too, unless scores are as close as their errors.
    #[track_caller]
    pub(crate) fn check<T: Float>(&self, found: &super::Everything<T>, what: &dyn Fn() -> String) {
        for loss in [found.loss, found.loss_alone, found.loss_of_samples] {
            self.loss.check(loss, || format!("loss, {}", what()));
        }
        self.check_gradient(found.gradient.as_ref(), what);
        self.check_probabilities(found.probabilities.as_ref(), what);
        assert_eq!(found.sample_losses.len(), self.sample_losses.len());
        for (i, (expected, loss)) in self.sample_losses.iter().zip(&found.sample_losses).enumerate() {
            expected.check(loss.value(), || format!("loss of sample {i}, {}", what()));
        }
        for (i, &label) in found.predictions.iter().enumerate() {
            let chosen = self.scores[(i, label as usize)];
            let top = self.scores.row(i).iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!(top - chosen <= 2.0 * self.score_errors[i], "prediction {label} of {i}, {}", what());
        }
    }
}

#[track_caller]
fn check_matrix<T: Float>(expected: &Mat<Bounded>, found: MatRef<'_, T>, what: &dyn Fn() -> String) {
    assert_eq!(expected.shape(), found.shape(), "{}", what());
    for k in 0..found.ncols() {
        for j in 0..found.nrows() {
            expected[(j, k)].check(found[(j, k)].value(), || format!("({j}, {k}) of {}", what()));
        }
    }
}
