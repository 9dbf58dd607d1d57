//! The target `kernels`: slices, and scores already computed.

use super::draw::Source;
use super::exact::{self, Double, Scaled};
use super::labels::Labels;
use super::matrix::{Layout, Matrix};
use super::number::{Number, assert_same, same};
use super::truth::{Disturbance, Expect, Precision, Row, special_loss};
use faer::{Mat, MatRef};
use softmax_regression::kernel::{self, SimdLevel};
use softmax_regression::{Batch, Error, Objective, Operand, reference};

/// Checks the kernels on one input.
///
/// # Panics
/// If a result is not what the contract says.
pub fn run(data: &[u8]) {
    let source = &mut Source::new(data);
    if source.flag() { check::<f32>(source) } else { check::<f64>(source) }
}

fn check<T: Number>(source: &mut Source<'_>) {
    match source.below(4) {
        0 => elementwise::<T>(source),
        1 => row::<T>(source),
        _ => residual::<T>(source),
    }
}

fn vector<T: Number>(source: &mut Source<'_>, limit: usize) -> Vec<T> {
    let len = source.size(limit);
    let mut values = source.values();
    let mut x: Vec<T> = (0..len).map(|_| values.next(source)).collect();
    poke(source, &mut x);
    x
}

/// Puts a few special values anywhere.
fn poke<T: Number>(source: &mut Source<'_>, x: &mut [T]) {
    if x.is_empty() {
        return;
    }
    for _ in 0..source.below(8).saturating_sub(4) {
        let (at, which) = (source.below(x.len()), usize::from(source.byte()));
        x[at] = super::draw::special(which, 0);
    }
}

/// Runs a kernel in place, the slice beginning at several places of a buffer, and returns the result, which must be
/// the same wherever it begins; nothing beside the slice may be written.
fn in_place<T: Number>(x: &[T], offset: usize, what: &str, kernel: impl Fn(&mut [T])) -> Vec<T> {
    let run = |offset: usize| {
        let mut buffer = vec![T::SENTINEL; x.len() + offset + 17];
        buffer[offset..][..x.len()].copy_from_slice(x);
        kernel(&mut buffer[offset..][..x.len()]);
        let outside = buffer[..offset].iter().chain(&buffer[offset + x.len()..]);
        assert!(
            outside.into_iter().all(|x| x.bits() == T::SENTINEL.bits()),
            "{what}: written beside the slice"
        );
        buffer[offset..][..x.len()].to_vec()
    };
    let result = run(0);
    assert_same(&result, &run(1), what);
    assert_same(&result, &run(offset), what);
    result
}

/// A kernel that yields one number, under the same conditions.
fn reduce<T: Number>(x: &[T], offset: usize, what: &str, kernel: impl Fn(&[T]) -> T) -> T {
    let run = |offset: usize| {
        let mut buffer = vec![T::SENTINEL; x.len() + offset + 17];
        buffer[offset..][..x.len()].copy_from_slice(x);
        kernel(&buffer[offset..][..x.len()])
    };
    let result = run(0);
    assert!(same(result, run(1)) && same(result, run(offset)), "{what}: depends on where the slice begins");
    result
}

fn elementwise<T: Number>(source: &mut Source<'_>) {
    let x = vector::<T>(source, 150);
    let offset = source.below(17);
    let exps: Vec<_> = x.iter().map(|x| exp_truth(x.get())).collect();
    let logs: Vec<_> = x.iter().map(|x| log_truth(x.get())).collect();
    for level in SimdLevel::available() {
        let y = in_place(&x, offset, "exp", |x| level.exp(x));
        for ((&x, &y), &truth) in x.iter().zip(&y).zip(&exps) {
            let error = ulps(y, truth);
            assert!(error <= 1.0, "{level:?}: exp({x:?}) = {y:?} is off by {error} ulp");
        }
        let y = in_place(&x, offset, "log", |x| level.log(x));
        for ((&x, &y), &truth) in x.iter().zip(&y).zip(&logs) {
            let error = ulps(y, truth);
            assert!(error <= 1.0, "{level:?}: log({x:?}) = {y:?} is off by {error} ulp");
        }
        max(&x, offset, level);
    }
    assert_same(
        &in_place(&x, offset, "exp", kernel::exp),
        &in_place(&x, 0, "exp", |x| SimdLevel::best().exp(x)),
        "exp",
    );
    assert_same(
        &in_place(&x, offset, "log", kernel::log),
        &in_place(&x, 0, "log", |x| SimdLevel::best().log(x)),
        "log",
    );
    assert!(same(kernel::max(&x), SimdLevel::best().max(&x)), "max");
}

/// The maximum; NaN at any position, and an infinity, which a NaN must outdo.
fn max<T: Number>(x: &[T], offset: usize, level: SimdLevel) {
    let found = reduce(x, offset, "max", |x| level.max(x)).get();
    let nan = x.iter().any(|x| x.get().is_nan());
    let largest = x.iter().fold(f64::NEG_INFINITY, |max, x| max.max(x.get()));
    let truth = if nan { f64::NAN } else { largest };
    assert!(
        found == truth || (found.is_nan() && truth.is_nan()),
        "{level:?}: max {found:e}, not {truth:e}: {x:?}"
    );

    let mut poisoned: Vec<T> = x.iter().map(|&x| if x.get().is_nan() { T::of(0.0) } else { x }).collect();
    for i in 0..x.len() {
        let before = core::mem::replace(&mut poisoned[i], T::SENTINEL);
        let other = (i + offset) % x.len();
        let kept = poisoned[other];
        if other != i {
            poisoned[other] = T::of(f64::INFINITY);
        }
        assert!(level.max(&poisoned).get().is_nan(), "{level:?}: max misses NaN at {i} of {}", x.len());
        poisoned[other] = kept;
        poisoned[i] = T::of(f64::INFINITY);
        assert!(
            level.max(&poisoned).get() == f64::INFINITY,
            "{level:?}: max misses +∞ at {i} of {}",
            x.len()
        );
        poisoned[i] = before;
    }
}

/// A function value: special, or to twice the precision.
#[derive(Clone, Copy, Debug)]
enum Value {
    Special(f64),
    Number(Scaled),
}

fn exp_truth(x: f64) -> Value {
    if x.is_finite() {
        Value::Number(exact::exp(Double::of(x)))
    } else {
        Value::Special(if x == f64::NEG_INFINITY { 0.0 } else { x })
    }
}

fn log_truth(x: f64) -> Value {
    if x > 0.0 && x.is_finite() {
        return Value::Number(Scaled { significand: exact::log(x), exponent: 0 });
    }
    Value::Special(if x == 0.0 {
        f64::NEG_INFINITY
    } else if x < 0.0 {
        f64::NAN
    } else {
        x
    })
}

/// |y − truth| in ulps of the truth; infinite if a special value is another, or +0 has become −0.
///
/// Everything is divided by 2ᵏ of the truth first, so that nothing underflows. An infinite y stands for the number that
/// would follow the largest.
fn ulps<T: Number>(y: T, truth: Value) -> f64 {
    let y = y.get();
    match truth {
        Value::Special(truth) => {
            let same = y == truth && y.is_sign_negative() == truth.is_sign_negative();
            if same || (y.is_nan() && truth.is_nan()) { 0.0 } else { f64::INFINITY }
        }
        Value::Number(Scaled { significand, exponent }) => {
            let log2_ulp_of_1 = (2.0 * T::ROUNDING).log2() as i32;
            let log2_smallest = T::SMALLEST_NORMAL.log2() as i32 + log2_ulp_of_1;
            let ulp =
                exact::scaled(1.0, (binade(significand.high) + log2_ulp_of_1).max(log2_smallest - exponent));
            let scaled_y = if y.is_infinite() {
                let log2_beyond = 2 - T::SMALLEST_NORMAL.log2() as i32;
                // A truth that is far beyond is right to be infinite.
                let beyond = exact::scaled(1.0, log2_beyond - exponent).copysign(y);
                if significand.high.abs() >= beyond.abs() { return 0.0 } else { beyond }
            } else {
                unscaled(y, exponent)
            };
            significand.distance(scaled_y) / ulp
        }
    }
}

/// y·2⁻ᵏ: y may be subnormal, and 2⁻ᵏ beyond the numbers.
fn unscaled(y: f64, k: i32) -> f64 {
    let third = -k / 3;
    y * exact::power_of_two(third) * exact::power_of_two(third) * exact::power_of_two(-k - 2 * third)
}

/// The exponent of a normal number; of 0, one below them all.
fn binade(x: f64) -> i32 {
    (x.to_bits() >> 52 & 0x7ff) as i32 - 1023
}

fn row<T: Number>(source: &mut Source<'_>) {
    let x = vector::<T>(source, 1024);
    let offset = source.below(17);
    let scores: Vec<f64> = x.iter().map(|x| x.get()).collect();
    let row = Row::new(&scores);
    let precision = &Precision::of::<T>();
    let lse = log_sum_exp_truth::<T>(&scores, row.as_ref());
    let expected: Vec<(Expect, Expect)> = (0..x.len())
        .map(|k| match &row {
            None => (Expect::exactly(f64::NAN), Expect::exactly(f64::NAN)),
            Some(row) => {
                let loss = row.expect_loss(k, precision, 0.0);
                (
                    row.expect_residual(k, None, precision, Disturbance::NONE),
                    Expect { value: -loss.value, ..loss },
                )
            }
        })
        .collect();
    for level in SimdLevel::available() {
        let found = reduce(&x, offset, "log_sum_exp", |x| level.log_sum_exp(x));
        lse.check_number(found, || format!("{level:?}: log_sum_exp({x:?})"));
        let softmax = in_place(&x, offset, "softmax", |x| level.softmax(x));
        let log_softmax = in_place(&x, offset, "log_softmax", |x| level.log_softmax(x));
        for (k, &(p, log_p)) in expected.iter().enumerate() {
            p.check_number(softmax[k], || format!("{level:?}: softmax, {k}: {x:?}"));
            log_p.check_number(log_softmax[k], || format!("{level:?}: log_softmax, {k}: {x:?}"));
        }
    }
    let best = SimdLevel::best();
    assert!(same(kernel::log_sum_exp(&x), best.log_sum_exp(&x)), "log_sum_exp");
    let (free, method) = (in_place(&x, 0, "", kernel::softmax), in_place(&x, 0, "", |x| best.softmax(x)));
    assert_same(&free, &method, "softmax");
    let (free, method) =
        (in_place(&x, 0, "", kernel::log_softmax), in_place(&x, 0, "", |x| best.log_softmax(x)));
    assert_same(&free, &method, "log_softmax");
}

/// top + tail: the tail errs as the contract says, the sum is rounded once.
fn log_sum_exp_truth<T: Number>(scores: &[f64], row: Option<&Row>) -> Expect {
    let Some(row) = row else {
        let top = scores.iter().fold(f64::NEG_INFINITY, |top, &z| top.max(z));
        let nan = scores.iter().any(|z| z.is_nan());
        return Expect::exactly(if nan { f64::NAN } else { top });
    };
    let Expect { value: tail, tolerance } = row.expect_tail(&Precision::of::<T>());
    let value = Double::of(row.top) + tail;
    Expect::near(value, tolerance + T::ROUNDING * (value.high.abs() + tolerance))
}

fn residual<T: Number>(source: &mut Source<'_>) {
    let (samples, classes) = match source.below(4) {
        0 => (source.size(3), source.size(1024)),
        1 => (source.size(6), source.size(200)),
        2 => (source.size(600), source.size(4)),
        _ => (source.size(40), source.size(40)),
    };
    let layout = Layout::draw(source, false);
    let labels = Labels::draw(source, samples, classes);
    let mut values = source.values();
    let mut elements: Vec<T> = (0..samples * classes).map(|_| values.next(source)).collect();
    poke(source, &mut elements);
    let scores = Matrix::from_fn(samples, classes, layout, |i, k| elements[i * classes + k]);

    let mut found = scores.clone();
    let result = kernel::softmax_residual(found.view_mut(), labels.targets());
    let refusal = if labels.len() != samples {
        Some(Error::SampleCount { features: samples, operand: Operand::Targets, found: labels.len() })
    } else if classes == 0 {
        Some(Error::NoClasses)
    } else {
        labels.first_outside(classes).map(|(sample, label)| Error::LabelOutOfRange { sample, label, classes })
    };
    if let Some(error) = refusal {
        // With no classes, no label is in range either.
        let also =
            labels.first_outside(0).map(|(sample, label)| Error::LabelOutOfRange { sample, label, classes });
        assert!(result == Err(error) || (classes == 0 && result.err() == also), "{result:?}, not {error:?}");
        found.assert_untouched(&scores, "softmax_residual");
        return;
    }
    let loss = result.unwrap_or_else(|error| panic!("{error:?}"));
    found.assert_nothing_outside_written("softmax_residual");

    let labels = labels.in_range();
    let precision = &Precision::of::<T>();
    let mut losses = Vec::with_capacity(samples);
    let mut residuals = Vec::with_capacity(samples * classes);
    for (i, &label) in labels.iter().enumerate() {
        let z: Vec<f64> = (0..classes).map(|k| elements[i * classes + k].get()).collect();
        let row = Row::new(&z);
        losses.push(match &row {
            Some(row) => row.expect_loss(label, precision, 0.0),
            None => Expect::exactly(special_loss(&z, label)),
        });
        residuals.extend((0..classes).map(|k| match &row {
            Some(row) => row.expect_residual(k, Some(label), precision, Disturbance::NONE),
            None => Expect::exactly(f64::NAN),
        }));
        check_reference(&z, label, row.as_ref());
    }
    let context = |i: usize| format!("scores {:?}, label {}", &elements[i * classes..][..classes], labels[i]);
    for (at, (found, expected)) in found.elements().into_iter().zip(&residuals).enumerate() {
        let (i, k) = (at / classes, at % classes);
        expected.check_number(found, || {
            format!("softmax_residual, ({i}, {k}) of {samples}×{classes}: {}", context(i))
        });
    }
    Expect::sum(&losses).check(loss, f64::MAX, || {
        let few = (0..samples.min(2)).map(context).collect::<Vec<_>>();
        format!("softmax_residual, loss of {samples}×{classes}: {few:?}")
    });
    if elements.iter().all(|z| z.get().is_finite()) && samples <= 64 {
        every_level(scores.view(), &labels, &losses, &residuals);
    }
}

/// The same at every level, by way of an evaluation: with the identity for X the scores are Θ, and the gradient is the
/// residual.
fn every_level<T: Number>(scores: MatRef<'_, T>, labels: &[usize], losses: &[Expect], residuals: &[Expect]) {
    let (samples, classes) = scores.shape();
    let identity = Mat::<T>::from_fn(samples, samples, |i, j| T::of(f64::from(u8::from(i == j))));
    let batch = Batch::new(&identity, labels).unwrap_or_else(|error| panic!("{error:?}"));
    let mut gradient = Mat::<T>::from_fn(samples, classes, |_, _| T::SENTINEL);
    let mut sample_losses = vec![T::SENTINEL; samples];
    for level in SimdLevel::available() {
        let objective = Objective::default().simd_level(level);
        T::with_workspace(|workspace| {
            let loss = objective.loss_and_gradient(&batch, scores, gradient.as_mut(), workspace);
            let loss = loss.unwrap_or_else(|error| panic!("{error:?}"));
            Expect::sum(losses).check(loss, f64::MAX, || format!("{level:?}: loss of {samples}×{classes}"));
            let outcome = objective.sample_losses(&batch, scores, &mut sample_losses, workspace);
            outcome.unwrap_or_else(|error| panic!("{error:?}"));
        });
        for (i, (&found, expected)) in sample_losses.iter().zip(losses).enumerate() {
            expected
                .rounded::<T>()
                .check_number(found, || format!("{level:?}: loss of sample {i} of {samples}×{classes}"));
        }
        for (at, expected) in residuals.iter().enumerate() {
            let (i, k) = (at / classes, at % classes);
            expected
                .check_number(gradient[(i, k)], || format!("{level:?}: ({i}, {k}) of {samples}×{classes}"));
        }
    }
}

/// The crate's own oracle against this one.
fn check_reference(z: &[f64], label: usize, row: Option<&Row>) {
    let (loss, residual) = reference::sample(z, label);
    let precision = &Precision::reference(z.len());
    let expected = match row {
        Some(row) => row.expect_loss(label, precision, 0.0),
        None => Expect::exactly(special_loss(z, label)),
    };
    expected.check(loss, f64::MAX, || format!("reference, loss: {z:?}, label {label}"));
    for (k, &found) in residual.iter().enumerate() {
        let expected = row.map_or(Expect::exactly(f64::NAN), |row| {
            row.expect_residual(k, Some(label), precision, Disturbance::NONE)
        });
        expected.check(found, f64::MAX, || format!("reference, residual {k}: {z:?}, label {label}"));
    }
}
