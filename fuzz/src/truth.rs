//! One row of scores: what the contract promises of it, and how closely.
//!
//! With top = max z, dⱼ = top − zⱼ and eⱼ = exp(−dⱼ), in twice the precision. The contract: class j's residual errs by
//! at most (8 + dⱼ)·ε relatively, the loss and the residual at the label by (8 + d)·ε, where d is that of the score that
//! decides them: the largest of the other classes. Below the smallest normal number underflow is gradual: a few of the
//! smallest numbers are allowed there, as many as there are roundings.

use super::exact::{Double, exp, log_1p};
use super::number::Number;

/// The arithmetic that a result is computed in, and the constant of its bound.
#[derive(Clone, Copy, Debug)]
pub struct Precision {
    /// u = ε/2: the largest relative error of rounding.
    pub rounding: f64,
    /// Smallest normal number.
    pub smallest_normal: f64,
    /// Smallest number above 0.
    pub smallest: f64,
    /// Largest finite number.
    pub largest: f64,
    /// 8 in (8 + d)·ε.
    pub constant: f64,
}

impl Precision {
    /// The crate's kernels on a type.
    pub fn of<T: Number>() -> Self {
        Self {
            rounding: T::ROUNDING,
            smallest_normal: T::SMALLEST_NORMAL,
            smallest: T::SMALLEST,
            largest: T::LARGEST,
            constant: 8.0,
        }
    }

    /// The crate's reference: `f64`, and sums that err by up to ½ε a class.
    pub fn reference(classes: usize) -> Self {
        Self { constant: 8.0 + classes as f64, ..Self::of::<f64>() }
    }

    /// (8 + d)·ε
    pub fn relative(&self, distance: f64) -> f64 {
        (self.constant + distance) * 2.0 * self.rounding
    }
}

/// What a result has to be: a value, or NaN, to a tolerance.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// May be NaN or infinite.
    pub value: Double,
    /// Largest absolute error; +∞ if nothing is known.
    pub tolerance: f64,
}

impl Expect {
    /// Nothing is known.
    pub const ANYTHING: Self = Self { value: Double::ZERO, tolerance: f64::INFINITY };

    /// This number (of either sign if it is 0), or NaN.
    pub const fn exactly(x: f64) -> Self {
        Self { value: Double::of(x), tolerance: 0.0 }
    }

    /// A value, to a tolerance.
    pub fn near(value: Double, tolerance: f64) -> Self {
        Self { value, tolerance: if tolerance.is_nan() { f64::INFINITY } else { tolerance } }
    }

    /// A number of these, added in `f64` in any order: each addition rounds.
    pub fn sum(terms: &[Self]) -> Self {
        let any = |holds: fn(&Self) -> bool| terms.iter().any(holds);
        if any(|t| t.value.high.is_nan()) {
            return Self::exactly(f64::NAN);
        }
        if any(|t| t.tolerance == f64::INFINITY) {
            return Self::ANYTHING;
        }
        if any(|t| t.value.high == f64::INFINITY) {
            return Self::exactly(f64::INFINITY);
        }
        let tolerance: f64 = terms.iter().map(|t| t.tolerance).sum();
        let magnitude = terms.iter().map(|t| t.value.high.abs()).sum::<f64>() + tolerance;
        if magnitude >= f64::MAX / 4.0 {
            return Self::ANYTHING;
        }
        let additions = terms.len().saturating_sub(1) as f64;
        let value = terms.iter().fold(Double::ZERO, |sum, t| sum + t.value);
        Self::near(value, tolerance + additions * f64::ROUNDING * magnitude)
    }

    /// After rounding into a type.
    pub fn rounded<T: Number>(self) -> Self {
        let Self { value, tolerance } = self;
        if !value.high.is_finite() || (value.high == 0.0 && tolerance == 0.0) {
            return self;
        }
        Self::near(value, tolerance + T::ROUNDING * (value.high.abs() + tolerance) + T::SMALLEST / 2.0)
    }

    /// Times a number ≥ 0, in `f64`; whatever it was, nothing if that is 0.
    pub fn times(self, factor: f64) -> Self {
        self.mapped(factor, |x| x * Double::of(factor))
    }

    /// Over a number > 0, in `f64`.
    pub fn over(self, divisor: f64) -> Self {
        if divisor == 1.0 { self } else { self.mapped(divisor.recip(), |x| x / Double::of(divisor)) }
    }

    fn mapped(self, factor: f64, f: impl Fn(Double) -> Double) -> Self {
        let Self { value, tolerance } = self;
        if factor == 0.0 {
            return Self::exactly(0.0);
        }
        if !value.high.is_finite() || tolerance == f64::INFINITY || factor == 1.0 {
            return self;
        }
        let magnitude = (value.high.abs() + tolerance) * factor;
        if magnitude.is_nan() || magnitude >= f64::MAX / 4.0 {
            return Self::ANYTHING;
        }
        if value.high == 0.0 && tolerance == 0.0 {
            return self;
        }
        // One rounding; twice, for the tolerance's own.
        Self::near(f(value), tolerance * factor + 2.0 * f64::ROUNDING * magnitude + 2.0 * f64::SMALLEST)
    }

    /// Whether `found` is as expected, in numbers up to `largest`.
    pub fn is_met(self, found: f64, largest: f64) -> bool {
        let Self { value, tolerance } = self;
        if tolerance == f64::INFINITY || (value.high.is_nan() && found.is_nan()) {
            return true;
        }
        if found.is_infinite() {
            return value.high * found.signum() + tolerance >= largest;
        }
        value.distance(found) <= tolerance
    }

    /// Panics unless `found` is as expected.
    ///
    /// # Panics
    /// If it is not.
    pub fn check(self, found: f64, largest: f64, what: impl FnOnce() -> String) {
        assert!(
            self.is_met(found, largest),
            "{}: found {found:e}, expected {:e} ± {:e}; off by {:e}",
            what(),
            self.value.high,
            self.tolerance,
            self.value.distance(found),
        );
    }

    /// [`check`](Self::check) of a number of a type.
    ///
    /// # Panics
    /// If it is not as expected.
    pub fn check_number<T: Number>(self, found: T, what: impl FnOnce() -> String) {
        self.check(found.get(), T::LARGEST, what);
    }
}

/// What stands between the exact scores and a residual, beside its own rounding.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance {
    /// δ: how far each score may be off.
    pub score_error: f64,
    /// c ≥ 0, what the residual is multiplied by.
    pub coefficient: f64,
    /// μ: the relative error of that.
    pub coefficient_error: f64,
}

impl Disturbance {
    /// Nothing.
    pub const NONE: Self = Self { score_error: 0.0, coefficient: 1.0, coefficient_error: 0.0 };
}

/// A row without NaN, with a finite maximum.
#[derive(Clone, Debug)]
pub struct Row {
    /// zⱼ
    pub scores: Vec<f64>,
    /// max z
    pub top: f64,
    /// eⱼ·2ˢ, s = [`LIFT`].
    exps: Vec<Double>,
    /// Their sum.
    sum: Double,
    /// log(Σ e): of all but one of the largest, log1p.
    tail: Double,
}

/// By what power of two the exponentials are lifted, so that the smallest keep all their digits.
const LIFT: i32 = 500;

impl Row {
    /// None for the rows whose softmax is NaN: with NaN or +∞, without a finite score, empty.
    pub fn new(scores: &[f64]) -> Option<Self> {
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !top.is_finite() || scores.iter().any(|z| z.is_nan()) {
            return None;
        }
        let exp_of = |&z: &f64| {
            let distance = Double::sum(top, -z);
            if distance.high.is_infinite() {
                return Double::ZERO;
            }
            let e = exp(-distance);
            e.significand.scaled(e.exponent + LIFT)
        };
        let exps: Vec<Double> = scores.iter().map(exp_of).collect();
        let sum = exps.iter().fold(Double::ZERO, |sum, &e| sum + e);
        let mut row = Self { scores: scores.to_vec(), top, exps, sum, tail: Double::ZERO };
        row.tail = log_1p(row.others(row.argmax()).scaled(-LIFT));
        Some(row)
    }

    /// dⱼ
    pub fn distance(&self, class: usize) -> f64 {
        self.top - self.scores[class]
    }

    /// eⱼ / Σ e
    pub fn probability(&self, class: usize) -> Double {
        self.exps[class] / self.sum
    }

    /// The residual of a class: its probability, or at the label −Σ_{j≠y} eⱼ / Σ e.
    pub fn residual(&self, class: usize, label: usize) -> Double {
        if class == label { -(self.others(label) / self.sum) } else { self.probability(class) }
    }

    /// Σ_{j≠k} eⱼ·2ˢ
    fn others(&self, class: usize) -> Double {
        let others = self.exps.iter().enumerate().filter(|&(j, _)| j != class);
        others.fold(Double::ZERO, |sum, (_, &e)| sum + e)
    }

    fn argmax(&self) -> usize {
        self.scores.iter().position(|&z| z == self.top).unwrap_or(0)
    }

    /// −log of the probability of a class: +∞ for a score of −∞.
    pub fn loss(&self, label: usize) -> Double {
        let distance = Double::sum(self.top, -self.scores[label]);
        if distance.high == f64::INFINITY { distance } else { distance + self.tail }
    }

    /// The distance of the largest score of the other classes.
    pub fn decisive(&self, label: usize) -> f64 {
        let others = self.scores.iter().enumerate().filter(|&(j, _)| j != label);
        others.map(|(_, &z)| self.top - z).fold(f64::INFINITY, f64::min)
    }

    /// Where, as in log-sum-exp, log(Σ e) stands by itself.
    pub fn expect_tail(&self, precision: &Precision) -> Expect {
        self.expect_loss(self.argmax(), precision, 0.0)
    }

    /// The residual of a class times a coefficient; the probability if there is no label.
    ///
    /// Scores that are off by up to δ each change eⱼ/Σe by a factor of at most e^{±2δ}, and a distance by up to 2δ. So a
    /// residual r, computed from these with a relative error κ, and times a coefficient with a relative error μ, is off by
    /// at most |r|·(e^{2δ}·(1 + κ)·(1 + μ) − 1), and, being in −1..1, by no more than 1 and its rounding.
    pub fn expect_residual(
        &self,
        class: usize,
        label: Option<usize>,
        precision: &Precision,
        disturbed: Disturbance,
    ) -> Expect {
        let Disturbance { score_error, coefficient, coefficient_error } = disturbed;
        let at_label = label == Some(class);
        let (value, distance, terms) = if !at_label {
            // exp rounds, its product with c/Σ rounds.
            (self.probability(class), self.distance(class), 2)
        } else {
            (self.residual(class, class), self.decisive(class), self.exps.len())
        };
        let smallest = |size: f64| {
            let below = |bound: f64| f64::from(u8::from(size * (-2.0 * score_error).exp() < bound));
            let terms = below(precision.smallest_normal) * terms as f64 * coefficient;
            // c/Σ, and its product with e, round once more.
            let scale = coefficient / self.exps.len() as f64;
            let scaled = scale < precision.smallest_normal || size * coefficient < precision.smallest_normal;
            (terms + if scaled { 2.0 } else { 0.0 }) * precision.smallest
        };
        let value_of = |r: Double| r * Double::of(coefficient);
        if coefficient == 0.0
            || (!at_label && self.scores[class] == f64::NEG_INFINITY)
            || (at_label && self.alone(class))
        {
            return Expect::exactly(0.0);
        }
        if self.scores[class] == f64::NEG_INFINITY {
            let below = if coefficient < precision.smallest_normal { 2.0 * precision.smallest } else { 0.0 };
            return Expect::near(value_of(Double::of(-1.0)), coefficient * coefficient_error + below);
        }
        let size = value.high.abs();
        let kappa = precision.relative(distance + 2.0 * score_error);
        let factor = (2.0 * score_error + kappa.ln_1p() + coefficient_error.ln_1p()).exp_m1();
        let error = if size == 0.0 && score_error == 0.0 {
            0.0
        } else {
            // A residual too small for `f64` need not be with other scores.
            (size.max(f64::SMALLEST) * factor).min(1.0 + precision.relative(0.0))
        };
        Expect::near(value_of(value), coefficient * error + smallest(size))
    }

    /// The loss, of scores that are off by up to δ each.
    ///
    /// ∂loss/∂z is the residual, whose magnitudes add up to 2(1 − p_y): along the way from the true scores to the
    /// disturbed ones at most 2·min(1, e^{2δ}(1 − p_y)).
    pub fn expect_loss(&self, label: usize, precision: &Precision, score_error: f64) -> Expect {
        if self.alone(label) {
            return Expect::exactly(0.0);
        }
        let value = self.loss(label);
        if value.high == f64::INFINITY {
            return Expect::exactly(f64::INFINITY);
        }
        let moved = self.loss_moved(label, score_error);
        Expect::near(value, moved + self.loss_rounding(label, precision, score_error))
    }

    fn loss_moved(&self, label: usize, score_error: f64) -> f64 {
        let off_label = self.residual(label, label).high.abs().max(f64::SMALLEST);
        2.0 * score_error * ((2.0 * score_error).exp() * off_label).min(1.0)
    }

    /// How far a finite loss errs given its scores.
    pub fn loss_rounding(&self, label: usize, precision: &Precision, score_error: f64) -> f64 {
        if self.alone(label) {
            return 0.0;
        }
        let moved = self.loss_moved(label, score_error);
        let value = self.loss(label).high;
        let below = if value - moved < precision.smallest_normal { self.exps.len() as f64 } else { 0.0 };
        let relative = precision.relative(self.decisive(label) + 2.0 * score_error);
        let error = if value + moved == 0.0 { 0.0 } else { (value + moved) * relative };
        error + below * precision.smallest
    }

    /// Whether all other scores are −∞: the class has probability 1.
    fn alone(&self, class: usize) -> bool {
        self.scores.iter().enumerate().all(|(j, &z)| j == class || z == f64::NEG_INFINITY)
    }
}

/// The loss of a row that [`Row::new`] refuses: NaN, or +∞ if +∞ stands elsewhere than at the label and nothing is NaN.
pub fn special_loss(scores: &[f64], label: usize) -> f64 {
    let nan = scores.iter().any(|z| z.is_nan());
    if !nan && scores.contains(&f64::INFINITY) && scores[label] < f64::INFINITY {
        f64::INFINITY
    } else {
        f64::NAN
    }
}
