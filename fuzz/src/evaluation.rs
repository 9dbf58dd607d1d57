//! The target `evaluation`: the whole of [`Objective`].

use super::case::Case;
use super::draw::Source;
use super::expectation::{Expectation, Problem};
use super::matrix::Matrix;
use super::number::{Number, assert_same};
use super::truth::{Expect, Precision};
use faer::{Mat, MatRef};
use softmax_regression::kernel::SimdLevel;
use softmax_regression::{Batch, Error, Objective, Operand, Parallelism, Reduction, Workspace};

/// Checks an evaluation on one input.
///
/// # Panics
/// If a result is not what the contract says.
pub fn run(data: &[u8]) {
    let source = &mut Source::new(data);
    if source.flag() { check::<f32>(source) } else { check::<f64>(source) }
}

fn check<T: Number>(source: &mut Source<'_>) {
    if source.byte() == 0xff {
        return uncountable::<T>(source);
    }
    let case = Case::<T>::draw(source);
    let labels = case.labels.targets();
    let Some(mut batch) = accepted(Batch::new(case.x.view(), labels), &case.batch_refusals(), "Batch::new")
    else {
        return;
    };
    if let Some(weights) = &case.weights {
        let weighted = batch.with_sample_weights(weights);
        match accepted(weighted, &case.weight_refusals(weights), "with_sample_weights") {
            Some(weighted) => batch = weighted,
            None => return,
        }
    }
    let refusals = Refusals::of(&case);
    let levels: Vec<SimdLevel> = SimdLevel::available().collect();
    let expectation = refusals.loss.is_empty().then(|| case.expectation(Precision::of::<T>()));
    for (i, &level) in levels.iter().enumerate() {
        if case.large && i != case.level % levels.len() {
            continue;
        }
        let objective = case.objective.clone().simd_level(level);
        let evaluate = |parallelism, workspace: &mut Workspace<T>| {
            Results::new(&case, &batch, &objective.clone().parallelism(parallelism), &refusals, workspace)
        };
        let serial = T::with_workspace(|workspace| evaluate(Parallelism::Serial, workspace));
        let threads = T::with_workspace(|workspace| evaluate(Parallelism::Rayon, workspace));
        serial.assert_same(&threads, &format!("{level:?}: serial and rayon"));
        if i == case.level % levels.len() {
            let fresh = evaluate(Parallelism::Serial, &mut Workspace::new());
            serial.assert_same(&fresh, &format!("{level:?}: reused and fresh workspace"));
        }
        if let Some(expectation) = &expectation {
            serial.check(&case, expectation, &format!("{level:?} {:?}", case.shape));
        }
    }
    if expectation.is_some() && case.shape.0 * case.shape.1 * case.shape.2 <= 20_000 {
        case.check_reference();
    }
    case.check_one_line(&refusals);
    if refusals.any() {
        T::with_workspace(still_serves);
    }
}

/// The result, or nothing where it had to be, and was, refused with one of the errors that apply.
fn accepted<R>(result: Result<R, Error>, refusals: &[Error], what: &str) -> Option<R> {
    match result {
        Ok(result) => {
            assert!(refusals.is_empty(), "{what}: accepted, in spite of {refusals:?}");
            Some(result)
        }
        Err(error) => {
            // As text, in which a NaN equals itself.
            let found = format!("{error:?}");
            assert!(
                refusals.iter().any(|e| format!("{e:?}") == found),
                "{what}: {found}, not one of {refusals:?}"
            );
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// The errors that apply to each method; the crate may return any of them.
struct Refusals {
    loss: Vec<Error>,
    gradient: Vec<Error>,
    sample_losses: Vec<Error>,
    probabilities: Vec<Error>,
    predict: Vec<Error>,
}

impl Refusals {
    fn of<T: Number>(case: &Case<T>) -> Self {
        let (m, n) = case.x.view().shape();
        let (rows, classes) = case.theta.view().shape();
        let mut scores = Vec::new();
        if rows != n {
            scores.push(Error::ThetaShape { features: (m, n), expected: n, theta: (rows, classes) });
        }
        if classes == 0 {
            scores.push(Error::NoClasses);
        }
        let mut loss = scores.clone();
        if let Some((sample, label)) = case.labels.first_outside(classes) {
            loss.push(Error::LabelOutOfRange { sample, label, classes });
        }
        let total = case.total_weight();
        if case.reduction == Reduction::Mean && !(total > 0.0 && total.is_finite()) {
            loss.push(Error::TotalWeight { samples: m, total });
        }
        let with = |errors: &[Error], wrong: bool, error| {
            let mut errors = errors.to_vec();
            errors.extend(wrong.then_some(error));
            errors
        };
        let count = |errors: &[Error], operand, found| {
            with(errors, found != m, Error::SampleCount { features: m, operand, found })
        };
        let output = |errors: &[Error], operand, expected, found| {
            with(errors, found != expected, Error::OutputShape { operand, expected, found })
        };
        let gradient = case.gradient.view().shape();
        let probabilities = case.probabilities.view().shape();
        Self {
            gradient: output(&loss, Operand::Gradient, (rows, classes), gradient),
            sample_losses: count(&loss, Operand::Losses, case.losses),
            probabilities: output(&scores, Operand::Probabilities, (m, classes), probabilities),
            predict: count(&scores, Operand::Labels, case.predicted),
            loss,
        }
    }

    fn any(&self) -> bool {
        let all = [&self.loss, &self.gradient, &self.sample_losses, &self.probabilities, &self.predict];
        all.iter().any(|errors| !errors.is_empty())
    }
}

impl<T: Number> Case<T> {
    fn batch_refusals(&self) -> Vec<Error> {
        let (features, found) = (self.shape.0, self.labels.len());
        let error = Error::SampleCount { features, operand: Operand::Targets, found };
        if found == features { Vec::new() } else { vec![error] }
    }

    fn weight_refusals(&self, weights: &[T]) -> Vec<Error> {
        let (features, found) = (self.shape.0, weights.len());
        let mut errors = Vec::new();
        if found != features {
            errors.push(Error::SampleCount { features, operand: Operand::SampleWeights, found });
        }
        let bad = |weight: &f64| weight.is_nan() || *weight < 0.0 || *weight == f64::INFINITY;
        if let Some((sample, weight)) = weights.iter().map(|w| w.get()).enumerate().find(|(_, w)| bad(w)) {
            errors.push(Error::InvalidWeight { sample, weight });
        }
        errors
    }

    fn total_weight(&self) -> f64 {
        self.weights.as_ref().map_or(self.shape.0 as f64, |w| w.iter().fold(0.0, |sum, w| sum + w.get()))
    }

    fn expectation(&self, precision: Precision) -> Expectation {
        let divisor = if self.reduction == Reduction::Mean { self.total_weight() } else { 1.0 };
        let labels = self.labels.in_range();
        let (x, theta, weights) = (self.x.view(), self.theta.view(), self.weights.as_deref());
        Expectation::new(&Problem { x, theta, labels: &labels, weights, divisor }, precision)
    }

    /// The crate's own oracle against this one.
    fn check_reference(&self) {
        let labels = self.labels.in_range();
        let (x, theta, weights) = (self.x.view(), self.theta.view(), self.weights.as_deref());
        let problem = Problem { x, theta, labels: &labels, weights, divisor: 1.0 };
        let expectation = Expectation::new(&problem, Precision::reference(theta.ncols()));
        let (loss, gradient) = softmax_regression::reference::loss_and_gradient(x, &labels, weights, theta);
        expectation.loss.check(loss, f64::MAX, || format!("reference, loss: {self:?}"));
        let classes = theta.ncols();
        for (at, expected) in expectation.gradient.iter().enumerate() {
            let (j, k) = (at / classes, at % classes);
            expected
                .check(gradient[(j, k)], f64::MAX, || format!("reference, gradient ({j}, {k}): {self:?}"));
        }
    }

    /// The function that needs no objective does what the default one does.
    fn check_one_line(&self, refusals: &Refusals) {
        if self.weights.is_some() || self.large || self.reduction == Reduction::Mean {
            return;
        }
        let (mut found, mut expected) = (self.gradient.clone(), self.gradient.clone());
        let (x, theta) = (self.x.view(), self.theta.view());
        let loss = softmax_regression::loss_and_gradient(x, self.labels.targets(), theta, found.view_mut());
        let Some(loss) = accepted(loss, &refusals.gradient, "loss_and_gradient in one line") else {
            return found.assert_unwritten("loss_and_gradient in one line");
        };
        let again = Batch::new(x, self.labels.targets()).and_then(|batch| {
            let mut workspace = Workspace::new();
            Objective::default().loss_and_gradient(&batch, theta, expected.view_mut(), &mut workspace)
        });
        assert_same(&[loss], &[again.unwrap_or(f64::NAN)], "loss in one line");
        assert_same(&found.elements(), &expected.elements(), "gradient in one line");
    }
}

/// All that an objective says of a batch; nothing where it refuses.
struct Results<T> {
    loss: Option<f64>,
    gradient: Option<(f64, Vec<T>)>,
    sample_losses: Option<(f64, Vec<T>)>,
    probabilities: Option<Vec<T>>,
    predicted: Option<Vec<u32>>,
}

impl<T: Number> Results<T> {
    fn new(
        case: &Case<T>,
        batch: &Batch<'_, T>,
        objective: &Objective,
        refusals: &Refusals,
        workspace: &mut Workspace<T>,
    ) -> Self {
        const UNWRITTEN: u32 = 0xdead_beef;
        let theta = case.theta.view();
        let loss = accepted(objective.loss(batch, theta, workspace), &refusals.loss, "loss");

        let mut gradient = case.gradient.clone();
        let result = objective.loss_and_gradient(batch, theta, gradient.view_mut(), workspace);
        let result = accepted(result, &refusals.gradient, "loss_and_gradient");
        let gradient = result.map(|loss| (loss, written(&gradient, "gradient"))).or_else(|| {
            gradient.assert_unwritten("gradient");
            None
        });

        let mut losses = vec![T::SENTINEL; case.losses];
        let result = objective.sample_losses(batch, theta, &mut losses, workspace);
        let result = accepted(result, &refusals.sample_losses, "sample_losses");
        if result.is_none() {
            assert!(
                losses.iter().all(|x| x.bits() == T::SENTINEL.bits()),
                "losses: written in spite of an error"
            );
        }
        let sample_losses = result.map(|loss| (loss, losses));

        let mut out = case.probabilities.clone();
        let result = objective.probabilities(case.x.view(), theta, out.view_mut(), workspace);
        let result = accepted(result, &refusals.probabilities, "probabilities");
        let probabilities = result.map(|()| written(&out, "probabilities")).or_else(|| {
            out.assert_unwritten("probabilities");
            None
        });

        let mut labels = vec![UNWRITTEN; case.predicted];
        let result = objective.predict(case.x.view(), theta, &mut labels, workspace);
        let result = accepted(result, &refusals.predict, "predict");
        if result.is_none() {
            assert!(labels.iter().all(|&label| label == UNWRITTEN), "labels: written in spite of an error");
        }
        let predicted = result.map(|()| labels);
        Self { loss, gradient, sample_losses, probabilities, predicted }
    }

    fn assert_same(&self, other: &Self, what: &str) {
        let losses = |results: &Self| {
            let of = |loss: Option<f64>| loss.unwrap_or(f64::NAN);
            let gradient = results.gradient.as_ref().map(|&(loss, _)| loss);
            [of(results.loss), of(gradient), of(results.sample_losses.as_ref().map(|&(loss, _)| loss))]
        };
        assert_same(&losses(self), &losses(other), &format!("{what}: losses"));
        let pair = |results: &Option<(f64, Vec<T>)>| results.as_ref().map_or(Vec::new(), |(_, v)| v.clone());
        assert_same(&pair(&self.gradient), &pair(&other.gradient), &format!("{what}: gradient"));
        assert_same(
            &pair(&self.sample_losses),
            &pair(&other.sample_losses),
            &format!("{what}: sample losses"),
        );
        let empty = Vec::new();
        let [ours, theirs] = [self, other].map(|results| results.probabilities.as_ref().unwrap_or(&empty));
        assert_same(ours, theirs, &format!("{what}: probabilities"));
        assert_eq!(self.predicted, other.predicted, "{what}: predicted");
    }

    fn check(&self, case: &Case<T>, expectation: &Expectation, what: &str) {
        let (samples, _, classes) = case.shape;
        let loss = self.loss.unwrap_or(f64::NAN);
        expectation.loss.check(loss, f64::MAX, || format!("{what}: loss: {case:?}"));
        let agrees = Expect::near(super::exact::Double::of(loss), expectation.loss_rounding);
        if let Some((loss, gradient)) = &self.gradient {
            expectation.loss.check(*loss, f64::MAX, || format!("{what}: loss with gradient: {case:?}"));
            agrees.check(*loss, f64::MAX, || format!("{what}: loss with and without gradient: {case:?}"));
            for (at, (&found, expected)) in gradient.iter().zip(&expectation.gradient).enumerate() {
                let (j, k) = (at / classes, at % classes);
                expected.check_number(found, || format!("{what}: gradient ({j}, {k}): {case:?}"));
            }
        }
        if let Some((loss, losses)) = &self.sample_losses {
            agrees.check(*loss, f64::MAX, || {
                format!("{what}: loss with and without those of samples: {case:?}")
            });
            for (i, (&found, expected)) in losses.iter().zip(&expectation.sample_losses).enumerate() {
                expected
                    .rounded::<T>()
                    .check_number(found, || format!("{what}: loss of sample {i}: {case:?}"));
            }
            // Each was rounded into T; the sum rounds m times, and so does this one.
            let size: f64 = losses.iter().map(|x| x.get().abs()).sum();
            if size < f64::MAX / 4.0 {
                let rounding = T::ROUNDING + 2.0 * (samples + 2) as f64 * f64::ROUNDING;
                let tolerance = 1.01 * rounding * size + samples as f64 * T::SMALLEST;
                let divisor = if case.reduction == Reduction::Mean { case.total_weight() } else { 1.0 };
                let sum = losses.iter().fold(0.0, |sum, x| sum + x.get());
                let expected = Expect::near(super::exact::Double::of(sum), tolerance).over(divisor);
                expected
                    .check(*loss, f64::MAX, || format!("{what}: loss and the sum over samples: {case:?}"));
            }
        }
        if let Some(probabilities) = &self.probabilities {
            for (i, row) in probabilities.chunks(classes).enumerate() {
                for (k, &found) in row.iter().enumerate() {
                    let expected = expectation.probabilities[i * classes + k];
                    expected.check_number(found, || format!("{what}: probability ({i}, {k}): {case:?}"));
                }
                let sum: f64 = row.iter().map(|p| p.get()).sum();
                let tolerance = classes as f64 * (2.0 * T::ROUNDING + T::SMALLEST);
                let one = !expectation.is_distribution(i) || (sum - 1.0).abs() <= tolerance;
                assert!(one, "{what}: probabilities of sample {i} add up to {sum}: {case:?}");
            }
        }
        if let Some(predicted) = &self.predicted {
            for (i, &label) in predicted.iter().enumerate() {
                let can = expectation.can_win(i, label as usize);
                assert!(can, "{what}: class {label} predicted for sample {i}: {case:?}");
            }
        }
    }
}

/// The elements of an output, which must be all that was written.
fn written<T: Number>(output: &Matrix<T>, what: &str) -> Vec<T> {
    output.assert_nothing_outside_written(what);
    let elements = output.elements();
    assert!(elements.iter().all(|x| x.bits() != T::SENTINEL.bits()), "{what}: not all written");
    elements
}

/// After an error, a workspace is as good as before.
fn still_serves<T: Number>(workspace: &mut Workspace<T>) {
    let x = Mat::<T>::from_fn(3, 2, |i, j| T::of((i + j) as f64));
    let batch = Batch::new(&x, &[0_u8, 1, 2]).unwrap_or_else(|error| panic!("{error:?}"));
    let theta = Mat::<T>::from_fn(2, 3, |_, _| T::of(0.0));
    let loss = Objective::default().loss(&batch, theta.as_ref(), workspace).unwrap_or(f64::NAN);
    let truth = 3.0 * 3_f64.ln();
    assert!((loss - truth).abs() <= 16.0 * T::ROUNDING * truth, "after an error: {loss}");
}

/// Shapes whose scores cannot be counted; no memory is behind them.
fn uncountable<T: Number>(source: &mut Source<'_>) {
    let huge = [usize::MAX, 1 << 40, 1 << 33, u32::MAX as usize];
    let (samples, classes) = (source.choose(&huge), source.choose(&huge));
    let samples = if source.flag() { samples } else { source.below(2) };
    let x = MatRef::<T>::from_column_major_slice(&[], samples, 0);
    let theta = MatRef::<T>::from_column_major_slice(&[], 0, classes);
    let error = Error::TooManyScores { samples, classes };
    let objective = Objective::default();
    T::with_workspace(|workspace| {
        let mut labels = vec![7_u32; samples.min(1)];
        let count = Error::SampleCount { features: samples, operand: Operand::Labels, found: labels.len() };
        let result = objective.predict(x, theta, &mut labels, workspace);
        assert!(result == Err(error) || (labels.len() != samples && result == Err(count)), "{result:?}");
        assert!(labels.iter().all(|&label| label == 7));
        if samples <= 1 {
            let batch = Batch::new(x, &[0_u8][..samples]).unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(objective.loss(&batch, theta, workspace), Err(error));
        }
        still_serves(workspace);
    });
}
