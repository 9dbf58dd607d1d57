//! What an objective makes of targets and scores: all that it was told but how to compute.

use crate::error::{Error, Parameter};
use crate::kernel::{Real, SimdLevel, SumOfSquares};
use faer::{MatMut, MatRef, unzip, zip};

/// The options of an [`Objective`](crate::Objective) that change the value of the loss. Each is unused by default.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "fit", derive(serde::Serialize, serde::Deserialize))]
pub struct Options {
    /// Whether the last row of Θ is the intercept.
    pub intercept: bool,
    /// λ of ½·λ‖Θ‖².
    pub l2: f64,
    /// α: targets become (1 − α)·t + α/K.
    pub label_smoothing: f64,
    /// One a class, or none for 1.
    pub class_weights: Option<Vec<f64>>,
    /// The label of samples that count for nothing.
    pub ignore_label: Option<i64>,
    /// Scores are divided by it.
    pub temperature: f64,
    /// Scores become cap·tanh(score / cap), before the temperature.
    pub soft_cap: Option<f64>,
    /// ζ of ζ·(log-sum-exp)².
    pub z_loss: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            intercept: false,
            l2: 0.0,
            label_smoothing: 0.0,
            class_weights: None,
            ignore_label: None,
            temperature: 1.0,
            soft_cap: None,
            z_loss: 0.0,
        }
    }
}

impl Options {
    /// Whether every option has a value that makes sense.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`], [`Error::ClassWeightCount`], [`Error::InvalidClassWeight`].
    pub(crate) fn check(&self, classes: usize) -> Result<(), Error> {
        let non_negative = |value: f64| value >= 0.0 && value.is_finite();
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let cap = self.soft_cap.unwrap_or(1.0);
        let parameters = [
            (Parameter::L2, self.l2, non_negative(self.l2)),
            (Parameter::LabelSmoothing, self.label_smoothing, (0.0..=1.0).contains(&self.label_smoothing)),
            (Parameter::Temperature, self.temperature, positive(self.temperature)),
            (Parameter::SoftCap, cap, positive(cap)),
            (Parameter::ZLoss, self.z_loss, non_negative(self.z_loss)),
        ];
        if let Some(&(parameter, value, _)) = parameters.iter().find(|(.., valid)| !valid) {
            return Err(Error::InvalidParameter { parameter, value });
        }
        let Some(weights) = &self.class_weights else { return Ok(()) };
        if weights.len() != classes {
            return Err(Error::ClassWeightCount { classes, found: weights.len() });
        }
        match weights.iter().position(|&weight| !non_negative(weight)) {
            Some(class) => Err(Error::InvalidClassWeight { class, weight: weights[class] }),
            None => Ok(()),
        }
    }

    /// Rows of Θ for n features.
    pub(crate) fn theta_rows(&self, features: usize) -> usize {
        features + usize::from(self.intercept)
    }

    /// Weight of a class.
    pub(crate) fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights[class])
    }

    /// t of a class of which the target says `share`.
    pub(crate) fn target(&self, class: usize, share: f64, classes: usize) -> f64 {
        let smoothed = (1.0 - self.label_smoothing) * share + self.label_smoothing / classes as f64;
        self.class_weight(class) * smoothed
    }

    /// Whether labels have to be spelled out as targets of all classes: where they are smoothed, and where class weights
    /// are not a part of the sample's weight, since the z-loss does not know them.
    pub(crate) fn spells_out_labels(&self) -> bool {
        self.label_smoothing > 0.0 || (self.class_weights.is_some() && self.z_loss > 0.0)
    }

    /// Whether targets are other than they were given.
    pub(crate) fn changes_targets(&self) -> bool {
        self.label_smoothing > 0.0 || self.class_weights.is_some()
    }

    /// Whether scores go through more than the softmax.
    pub(crate) fn transforms(&self) -> bool {
        self.soft_cap.is_some() || self.temperature != 1.0
    }

    /// ½·λ‖Θ‖², the intercept aside.
    pub(crate) fn penalty<T: Real>(&self, theta: MatRef<'_, T>, features: usize, level: SimdLevel) -> f64 {
        if self.l2 == 0.0 {
            return 0.0;
        }
        0.5 * self.l2 * T::run_sum_of_squares(SumOfSquares { x: theta.subrows(0, features) }, level)
    }

    /// Adds λ·`matrix`, the row of the intercept aside.
    pub(crate) fn add_penalised<T: Real>(&self, out: MatMut<'_, T>, matrix: MatRef<'_, T>, features: usize) {
        if self.l2 > 0.0 {
            let lambda = T::from_f64(self.l2);
            zip!(out.subrows_mut(0, features), matrix.subrows(0, features))
                .for_each(|unzip!(out, x)| *out += lambda * *x);
        }
    }
}
