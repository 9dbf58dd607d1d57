//! What the evaluation of a batch has to yield: the contract on each row, through the rounding of the two products.
//!
//! With u the largest relative error of a rounding and γₜ = t·u / (1 − t·u), a sum of t products that are not 0 errs by at
//! most γₜ·Σ|products|, in whatever order it is formed, fused or not (Higham, *Accuracy and Stability of Numerical
//! Algorithms*, 2002, § 3.1): every product meets at most t roundings, for adding 0 is exact. Half the smallest number is
//! added for each product that underflows. Two cases are known to be exact: a single product that is a number of the
//! type, and products that are integers with Σ|products| ≤ 1/u. So
//!
//! ```text
//! score       δ_ik = γₜ·Σⱼ|x_ij θ_jk|                                    or 0
//! residual    ρ_ik = c_i·r_ik, off by τ_ik: see Row::expect_residual with δ_i = max_k δ_ik
//! gradient    Σᵢ|x_ij|·τ_ik + γₜ·Σᵢ|x_ij|(|ρ_ik| + τ_ik)                 γ: 0 for one product with a power of two
//! loss        Σᵢ w_i·(see Row::expect_loss) + γ₆₄·Σᵢ w_i·loss_i
//! ```
//!
//! The truth itself is computed in `f64`, except for the softmax, and has the same errors with the u of `f64`: they are
//! added. What can overflow on the way (Σ|products| beyond a quarter of the largest number) is not judged: it depends on
//! the order.

use super::exact::Double;
use super::number::Number;
use super::truth::{Disturbance, Expect, Precision, Row, special_loss};
use faer::MatRef;

/// What is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, T> {
    /// m×n
    pub x: MatRef<'a, T>,
    /// n×K
    pub theta: MatRef<'a, T>,
    /// All in range.
    pub labels: &'a [usize],
    /// One a sample.
    pub weights: Option<&'a [T]>,
    /// 1, or the total weight.
    pub divisor: f64,
}

/// What has to come out.
#[derive(Debug)]
pub struct Expectation {
    samples: Vec<Sample>,
    /// Of each sample, weight included, before it is rounded into T.
    pub sample_losses: Vec<Expect>,
    /// J(Θ)
    pub loss: Expect,
    /// How far two values of J(Θ), computed from the same scores, may lie apart; +∞ where J is not finite.
    pub loss_rounding: f64,
    /// ∇J(Θ), n×K, row by row.
    pub gradient: Vec<Expect>,
    /// P, m×K, row by row.
    pub probabilities: Vec<Expect>,
}

/// One score.
#[derive(Clone, Copy, Debug)]
struct Score {
    /// May be NaN or infinite.
    value: f64,
    /// δ; +∞ if it depends on the order of the sum whether that overflows.
    error: f64,
}

#[derive(Debug)]
struct Sample {
    scores: Vec<Score>,
    softmax: Softmax,
    label: usize,
    weight: f64,
}

/// The softmax of a sample.
#[derive(Debug)]
enum Softmax {
    /// Finite, of scores with errors up to δ.
    Finite(Row, f64),
    /// NaN.
    Nan,
    /// It depends on what overflows.
    Unknown,
}

fn gamma(terms: usize, rounding: f64) -> f64 {
    let t = terms as f64 * rounding;
    t / (1.0 - t)
}

impl Precision {
    /// Whether a product of two numbers of the type is one itself.
    fn holds(&self, a: f64, b: f64) -> bool {
        let Double { high, low } = Double::product(a, b);
        let exact = low == 0.0 && high.abs() >= f64::MIN_POSITIVE / f64::ROUNDING;
        exact && (self.rounding == f64::ROUNDING || f64::from(high as f32) == high)
    }

    fn score<T: Number>(&self, x: MatRef<'_, T>, theta: MatRef<'_, T>, i: usize, k: usize) -> Score {
        let (mut sum, mut magnitude, mut special) = (0.0, 0.0, 0.0);
        let (mut terms, mut tiny) = (0, 0);
        let (mut held, mut integers) = (true, true);
        for j in 0..x.ncols() {
            let (a, b) = (x[(i, j)].get(), theta[(j, k)].get());
            if !(a.is_finite() && b.is_finite()) {
                special += a * b;
            } else if a != 0.0 && b != 0.0 {
                let p = a * b;
                held &= terms == 0 && self.holds(a, b);
                integers &= p.fract() == 0.0;
                terms += 1;
                tiny += usize::from(p.abs() < self.smallest_normal);
                sum += p;
                magnitude += p.abs();
            }
        }
        let overflows = magnitude > self.largest / 4.0;
        if special.is_nan() || special != 0.0 {
            return Score {
                value: special,
                error: if overflows && !special.is_nan() { f64::INFINITY } else { 0.0 },
            };
        }
        if overflows {
            return Score { value: 0.0, error: f64::INFINITY };
        }
        let error = if held || (integers && tiny == 0 && magnitude <= 1.0 / self.rounding) {
            0.0
        } else {
            (gamma(terms, self.rounding) + gamma(terms, f64::ROUNDING)) * magnitude
                + tiny as f64 * self.smallest
        };
        Score { value: sum, error }
    }
}

impl Sample {
    fn new<T: Number>(problem: &Problem<'_, T>, i: usize, precision: &Precision) -> Self {
        let classes = problem.theta.ncols();
        let scores: Vec<_> = (0..classes).map(|k| precision.score(problem.x, problem.theta, i, k)).collect();
        let values: Vec<f64> = scores.iter().map(|score| score.value).collect();
        let error = scores.iter().map(|score| score.error).fold(0.0, f64::max);
        let softmax = if values.iter().any(|z| z.is_nan()) {
            Softmax::Nan
        } else if error == f64::INFINITY {
            Softmax::Unknown
        } else {
            Row::new(&values).map_or(Softmax::Nan, |row| Softmax::Finite(row, error))
        };
        Self {
            scores,
            softmax,
            label: problem.labels[i],
            weight: problem.weights.map_or(1.0, |w| w[i].get()),
        }
    }

    fn loss(&self, precision: &Precision) -> Expect {
        match &self.softmax {
            Softmax::Finite(row, error) => row.expect_loss(self.label, precision, *error),
            Softmax::Nan => {
                let values: Vec<f64> = self.scores.iter().map(|score| score.value).collect();
                Expect::exactly(special_loss(&values, self.label))
            }
            Softmax::Unknown => Expect::ANYTHING,
        }
    }

    fn residual(
        &self,
        class: usize,
        label: Option<usize>,
        precision: &Precision,
        disturbed: Disturbance,
    ) -> Expect {
        match &self.softmax {
            Softmax::Finite(row, score_error) => row.expect_residual(
                class,
                label,
                precision,
                Disturbance { score_error: *score_error, ..disturbed },
            ),
            Softmax::Nan => Expect::exactly(f64::NAN),
            Softmax::Unknown => Expect::ANYTHING,
        }
    }
}

impl Expectation {
    /// Of a problem without errors, in a precision.
    pub fn new<T: Number>(problem: &Problem<'_, T>, precision: Precision) -> Self {
        let samples: Vec<_> = (0..problem.x.nrows()).map(|i| Sample::new(problem, i, &precision)).collect();
        let each = samples.iter().map(|sample| sample.loss(&precision).times(sample.weight));
        let sample_losses: Vec<_> = each.collect();
        Self {
            loss: Expect::sum(&sample_losses).over(problem.divisor),
            sample_losses,
            loss_rounding: loss_rounding(&samples, &precision) / problem.divisor + 2.0 * f64::SMALLEST,
            gradient: gradient(problem, &samples, &precision),
            probabilities: samples
                .iter()
                .flat_map(|sample| {
                    let classes = 0..problem.theta.ncols();
                    classes.map(|k| sample.residual(k, None, &precision, Disturbance::NONE))
                })
                .collect(),
            samples,
        }
    }

    /// Whether the probabilities of a sample are numbers that add up to 1.
    pub fn is_distribution(&self, sample: usize) -> bool {
        matches!(self.samples[sample].softmax, Softmax::Finite(..))
    }

    /// Whether a class can be the first of the largest score of a sample, NaN left out; class 0 if all are.
    pub fn can_win(&self, sample: usize, class: usize) -> bool {
        let scores = &self.samples[sample].scores;
        if scores.iter().any(|z| z.error == f64::INFINITY) {
            return class < scores.len();
        }
        let known = scores.iter().filter(|z| !z.value.is_nan());
        let least = known.clone().map(|z| z.value - z.error).fold(f64::NEG_INFINITY, f64::max);
        if known.clone().all(|z| z.error == 0.0) {
            let first = scores.iter().position(|z| z.value == least);
            return class == first.unwrap_or(0);
        }
        scores.get(class).is_some_and(|z| z.value + z.error >= least)
    }
}

/// Twice what the loss of each sample and the sum err.
fn loss_rounding(samples: &[Sample], precision: &Precision) -> f64 {
    let mut total = 0.0;
    for sample in samples.iter().filter(|sample| sample.weight != 0.0) {
        let Softmax::Finite(row, error) = &sample.softmax else { return f64::INFINITY };
        let loss = row.expect_loss(sample.label, precision, *error);
        let each = row.loss_rounding(sample.label, precision, *error);
        let sum = gamma(samples.len() + 3, f64::ROUNDING) * (loss.value.high + loss.tolerance);
        total += 2.0 * (sample.weight * (each + sum) + f64::SMALLEST);
    }
    total
}

/// ∇J, row by row.
fn gradient<T: Number>(problem: &Problem<'_, T>, samples: &[Sample], precision: &Precision) -> Vec<Expect> {
    let (features, classes) = problem.theta.shape();
    let counted: Vec<usize> = (0..samples.len()).filter(|&i| samples[i].weight != 0.0).collect();
    if counted.iter().any(|&i| matches!(samples[i].softmax, Softmax::Nan)) {
        return vec![Expect::exactly(f64::NAN); features * classes];
    }
    if counted.iter().any(|&i| matches!(samples[i].softmax, Softmax::Unknown)) {
        return vec![Expect::ANYTHING; features * classes];
    }
    // One over the total, its product with the weight, and the quotient here.
    let coefficient_error = if problem.divisor == 1.0 { 0.0 } else { 3.0 * precision.rounding };
    let residuals: Vec<Expect> = counted
        .iter()
        .flat_map(|&i| {
            let sample = &samples[i];
            let coefficient = sample.weight / problem.divisor;
            let disturbed = Disturbance { score_error: 0.0, coefficient, coefficient_error };
            (0..classes).map(move |k| sample.residual(k, Some(sample.label), precision, disturbed))
        })
        .collect();
    let element = |j: usize, k: usize| {
        let terms = counted.iter().zip(residuals.iter().skip(k).step_by(classes));
        gradient_element(terms.map(|(&i, &residual)| (problem.x[(i, j)].get(), residual)), precision)
    };
    (0..features).flat_map(|j| (0..classes).map(move |k| (j, k))).map(|(j, k)| element(j, k)).collect()
}

/// Σ x·ρ
fn gradient_element(products: impl Iterator<Item = (f64, Expect)>, precision: &Precision) -> Expect {
    let (mut sum, mut magnitude, mut tolerance) = (0.0, 0.0, 0.0);
    let (mut terms, mut tiny) = (0, 0);
    let mut last = (0.0, Expect::exactly(0.0));
    for (x, residual) in products {
        let size = x.abs() * (residual.value.high.abs() + residual.tolerance);
        if x == 0.0 || size == 0.0 && residual.value.high == 0.0 {
            continue;
        }
        terms += 1;
        tiny += usize::from(size < precision.smallest_normal);
        sum += x * residual.value.high;
        magnitude += size;
        tolerance += x.abs() * residual.tolerance;
        last = (x, residual);
    }
    if magnitude.is_nan() || magnitude > precision.largest / 4.0 {
        return Expect::ANYTHING;
    }
    let underflow = tiny as f64 * (precision.smallest + f64::SMALLEST);
    if terms == 1 {
        let (x, residual) = last;
        let rounding = if x.to_bits() << 12 == 0 { 0.0 } else { precision.rounding };
        return Expect::near(Double::of(x) * residual.value, tolerance + rounding * magnitude + underflow);
    }
    let rounding = gamma(terms, precision.rounding) + gamma(terms + 1, f64::ROUNDING);
    Expect::near(Double::of(sum), tolerance + rounding * magnitude + underflow)
}
