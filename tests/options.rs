//! Promise: every option works with every other, for all that can be computed: values and derivatives are those of the
//! formulas, and the derivatives those of the values.

mod support;

use faer::sparse::{SparseRowMat, Triplet};
use faer::{Mat, MatRef};
use softmax_regression::reference::{self, Evaluation, evaluate};
use softmax_regression::{Accumulator, Batch, Features, Objective, Reduction, Workspace};
use std::ops::Range;
use support::{Float, Random, for_each_float, levels};

for_each_float!(pairs_of_options, levels_agree);

const STORAGES: [Storage; 3] = [Storage::Dense, Storage::SparseU32, Storage::SparseUsize];

const IGNORED: i64 = -7;

/// What can be turned on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Toggle {
    Mean,
    SampleWeights,
    Intercept,
    L2,
    Smoothing,
    ClassWeights,
    Ignore,
    Soft,
    Temperature,
    Cap,
    ZLoss,
}

use Toggle::{
    Cap, ClassWeights, Ignore, Intercept, L2, Mean, SampleWeights, Smoothing, Soft, Temperature, ZLoss,
};

const TOGGLES: [Toggle; 11] =
    [Mean, SampleWeights, Intercept, L2, Smoothing, ClassWeights, Ignore, Soft, Temperature, Cap, ZLoss];

/// None, each, each pair, all but one, all.
fn combinations() -> Vec<Vec<Toggle>> {
    let mut all = vec![vec![], TOGGLES.to_vec()];
    for (i, &a) in TOGGLES.iter().enumerate() {
        all.push(vec![a]);
        all.push(TOGGLES.iter().copied().filter(|&t| t != a).collect());
        all.extend(TOGGLES[i + 1..].iter().map(|&b| vec![a, b]));
    }
    all
}

/// How the features are stored.
#[derive(Clone, Copy, Debug)]
enum Storage {
    Dense,
    SparseU32,
    SparseUsize,
}

/// Features of some samples, stored.
enum Stored<T> {
    Dense(Mat<T>),
    U32(SparseRowMat<u32, T>),
    Usize(SparseRowMat<usize, T>),
}

impl<T: Float> Stored<T> {
    fn new(x: MatRef<'_, T>, storage: Storage) -> Self {
        let (m, n) = x.shape();
        let entries = (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|&at| x[at] != T::of(0.0));
        match storage {
            Storage::Dense => Self::Dense(x.to_owned()),
            Storage::SparseU32 => {
                let entries: Vec<_> =
                    entries.map(|(i, j)| Triplet::new(i as u32, j as u32, x[(i, j)])).collect();
                Self::U32(SparseRowMat::try_new_from_triplets(m, n, &entries).unwrap())
            }
            Storage::SparseUsize => {
                let entries: Vec<_> = entries.map(|(i, j)| Triplet::new(i, j, x[(i, j)])).collect();
                Self::Usize(SparseRowMat::try_new_from_triplets(m, n, &entries).unwrap())
            }
        }
    }
}

/// A problem with some options on, as this crate sees it and as the reference does.
struct Case<T> {
    x: Mat<T>,
    theta: Mat<T>,
    direction: Mat<T>,
    labels: Vec<i64>,
    soft: Option<Mat<T>>,
    weights: Option<Vec<T>>,
    options: reference::Options,
    objective: Objective,
}

impl<T: Float> Case<T> {
    fn new((m, n, k): (usize, usize, usize), on: &[Toggle]) -> Self {
        let on = |toggle: Toggle| on.contains(&toggle);
        let mut random = Random::new((m * 100 + n * 10 + k) as u64);
        let rows = n + usize::from(on(Intercept));
        let quarters = |random: &mut Random| random.below(9) as f64 / 4.0;
        let mut labels: Vec<i64> = (0..m).map(|_| random.below(k) as i64).collect();
        if on(Ignore) {
            (0..m).step_by(5).for_each(|i| labels[i] = IGNORED);
        }
        let soft = on(Soft).then(|| {
            let mut soft = Mat::from_fn(m, k, |_, _| random.below(8) as f64);
            for i in 0..m {
                // A row of one class now and then.
                if i % 4 == 0 {
                    soft.row_mut(i).fill(0.0);
                }
                soft[(i, i % k)] += 1.0;
                let sum: f64 = soft.row(i).iter().sum();
                soft.row_mut(i).iter_mut().for_each(|t| *t /= sum);
            }
            Mat::from_fn(m, k, |i, j| T::of(soft[(i, j)]))
        });
        let class_weights: Vec<f64> = (0..k).map(|_| quarters(&mut random)).collect();
        let options = reference::Options {
            mean: on(Mean),
            intercept: on(Intercept),
            l2: if on(L2) { 0.75 } else { 0.0 },
            label_smoothing: if on(Smoothing) { 0.25 } else { 0.0 },
            class_weights: on(ClassWeights).then_some(class_weights),
            ignore_label: on(Ignore).then_some(IGNORED),
            temperature: if on(Temperature) { 1.75 } else { 1.0 },
            soft_cap: on(Cap).then_some(1.5),
            z_loss: if on(ZLoss) { 0.125 } else { 0.0 },
        };
        let mut objective = Objective::default()
            .reduction(if options.mean { Reduction::Mean } else { Reduction::Sum })
            .intercept(options.intercept)
            .l2(options.l2)
            .label_smoothing(options.label_smoothing)
            .temperature(options.temperature)
            .z_loss(options.z_loss);
        if let Some(weights) = &options.class_weights {
            objective = objective.class_weights(weights);
        }
        if let Some(label) = options.ignore_label {
            objective = objective.ignore_label(label);
        }
        if let Some(cap) = options.soft_cap {
            objective = objective.soft_cap(cap);
        }
        Self {
            // Half of it zeros, some samples without any feature.
            x: Mat::from_fn(m, n, |i, _| {
                let x = random.symmetric();
                T::of(if i % 6 == 1 || random.below(2) == 0 { 0.0 } else { x })
            }),
            theta: random.matrix(rows, k, 1.5),
            direction: random.matrix(rows, k, 1.0),
            labels,
            soft,
            weights: on(SampleWeights).then(|| (0..m).map(|_| T::of(quarters(&mut random))).collect()),
            options,
            objective,
        }
    }

    fn batch<'a>(&'a self, samples: Range<usize>, x: &'a Stored<T>) -> Batch<'a, T> {
        let x: Features<'a, T> = match x {
            Stored::Dense(x) => x.into(),
            Stored::U32(x) => x.into(),
            Stored::Usize(x) => x.as_ref().into(),
        };
        let batch = match &self.soft {
            None => Batch::new(x, &self.labels[samples.clone()]),
            Some(soft) => Batch::new(x, soft.subrows(samples.start, samples.len())),
        };
        match &self.weights {
            None => batch.unwrap(),
            Some(weights) => batch.unwrap().with_sample_weights(&weights[samples]).unwrap(),
        }
    }

    fn reference(&self, theta: MatRef<'_, f64>) -> Evaluation {
        let targets = match &self.soft {
            None => reference::Targets::Labels(self.labels.clone()),
            Some(soft) => reference::Targets::Soft(wide(soft.as_ref())),
        };
        let weights: Option<Vec<f64>> =
            self.weights.as_ref().map(|weights| weights.iter().map(|w| w.value()).collect());
        evaluate(wide(self.x.as_ref()).as_ref(), &targets, weights.as_deref(), theta, &self.options)
    }
}

fn wide<T: Float>(x: MatRef<'_, T>) -> Mat<f64> {
    Mat::from_fn(x.nrows(), x.ncols(), |i, j| x[(i, j)].value())
}

/// A matrix against the truth: by so many ε of its largest element, or of 1.
#[track_caller]
fn near<T: Float>(found: MatRef<'_, T>, truth: MatRef<'_, f64>, what: &str) {
    let largest = truth.col_iter().flat_map(|c| c.iter()).fold(1.0_f64, |a, b| a.max(b.abs()));
    for j in 0..truth.ncols() {
        for i in 0..truth.nrows() {
            let error = (found[(i, j)].value() - truth[(i, j)]).abs();
            // NaN is no error that is small.
            assert!(
                error <= 64.0 * T::EPSILON * largest,
                "{what} ({i}, {j}): {} instead of {}",
                found[(i, j)],
                truth[(i, j)]
            );
        }
    }
}

/// One number as a matrix.
fn one(x: f64) -> Mat<f64> {
    Mat::full(1, 1, x)
}

fn everything<T: Float>(case: &Case<T>, storage: Storage, objective: &Objective, what: &str) {
    let (m, n) = case.x.shape();
    let (rows, k) = case.theta.shape();
    let theta = case.theta.as_ref();
    let truth = case.reference(wide(theta).as_ref());
    let stored = Stored::new(case.x.as_ref(), storage);
    let (batch, mut workspace) = (case.batch(0..m, &stored), Workspace::new());
    let nan = T::of(f64::NAN);
    let what = |output: &str| format!("{what}, {output}");
    let loss_near = |loss: f64, output: &str| {
        let found = Mat::full(1, 1, T::of(loss));
        near(found.as_ref(), one(truth.loss).as_ref(), &what(output));
    };

    loss_near(objective.loss(&batch, theta, &mut workspace).unwrap(), "loss");
    let mut gradient = Mat::full(rows, k, nan);
    let loss = objective.loss_and_gradient(&batch, theta, gradient.as_mut(), &mut workspace).unwrap();
    loss_near(loss, "loss with gradient");
    near(gradient.as_ref(), truth.gradient.as_ref(), &what("gradient"));

    let (mut again, mut input_gradient) = (Mat::full(rows, k, nan), Mat::full(m, n, nan));
    let (a, b) = (again.as_mut(), input_gradient.as_mut());
    loss_near(
        objective.loss_and_gradients(&batch, theta, a, b, &mut workspace).unwrap(),
        "loss with gradients",
    );
    assert!(again == gradient, "{}", what("gradient beside the input gradient"));
    near(input_gradient.as_ref(), truth.input_gradient.as_ref(), &what("input gradient"));

    let mut losses = vec![nan; m];
    objective.sample_losses(&batch, theta, &mut losses, &mut workspace).unwrap();
    let (found, expected) = (MatRef::from_column_major_slice(&losses, m, 1), &truth.sample_losses);
    near(found, MatRef::from_column_major_slice(expected, m, 1), &what("losses of samples"));

    let direction = wide(case.direction.as_ref());
    let vector = Mat::from_fn(rows * k, 1, |i, _| direction[(i % rows, i / rows)]);
    let product = &truth.hessian * &vector;
    let product = Mat::from_fn(rows, k, |j, c| product[(c * rows + j, 0)]);
    let diagonal = Mat::from_fn(rows, k, |j, c| truth.hessian[(c * rows + j, c * rows + j)]);
    let mut out = Mat::full(rows, k, nan);
    let direction = case.direction.as_ref();
    objective.hessian_product(&batch, theta, direction, out.as_mut(), &mut workspace).unwrap();
    near(out.as_ref(), product.as_ref(), &what("Hessian product"));
    objective.hessian_diagonal(&batch, theta, out.as_mut(), &mut workspace).unwrap();
    near(out.as_ref(), diagonal.as_ref(), &what("diagonal of the Hessian"));
    let mut hessian = Mat::full(rows * k, rows * k, nan);
    objective.hessian(&batch, theta, hessian.as_mut(), &mut workspace).unwrap();
    near(hessian.as_ref(), truth.hessian.as_ref(), &what("Hessian"));

    // In three batches, the last of which is another machine's.
    let accumulate = |samples: Range<usize>, accumulator: &mut Accumulator<T>| {
        let x = Stored::new(case.x.subrows(samples.start, samples.len()), storage);
        let batch = case.batch(samples, &x);
        objective.accumulate(&batch, theta, accumulator, &mut Workspace::new()).unwrap();
    };
    let (mut accumulator, mut other) = (Accumulator::new(rows, k), Accumulator::new(rows, k));
    accumulate(0..m / 3, &mut accumulator);
    accumulate(m / 3..m / 2, &mut accumulator);
    accumulate(m / 2..m, &mut other);
    let (loss, weight, sum) = other.as_parts();
    accumulator.merge(&Accumulator::from_parts(loss, weight, sum.to_owned())).unwrap();
    out.fill(nan);
    loss_near(accumulator.finish(objective, theta, out.as_mut()).unwrap(), "accumulated loss");
    near(out.as_ref(), truth.gradient.as_ref(), &what("accumulated gradient"));
}

fn pairs_of_options<T: Float>() {
    for on in combinations() {
        for shape in [(37, 5, 3), (9, 2, 130)] {
            let case = Case::<T>::new(shape, &on);
            // Blocks of 16 samples, so that there are several.
            let objective = case.objective.clone().block_bytes(1);
            for storage in STORAGES {
                everything(&case, storage, &objective, &format!("{on:?}, {shape:?}, {storage:?}"));
            }
        }
    }
}

fn levels_agree<T: Float>() {
    for level in levels() {
        for shape in [(150, 6, 5), (9, 2, 130)] {
            for on in [&TOGGLES[..], &TOGGLES[..4]] {
                for storage in STORAGES {
                    let case = Case::<T>::new(shape, on);
                    let objective = case.objective.clone().simd_level(level);
                    everything(
                        &case,
                        storage,
                        &objective,
                        &format!("{level:?}, {on:?}, {shape:?}, {storage:?}"),
                    );
                }
            }
        }
    }
}

/// The reference's gradient and Hessian are those of its loss, by central differences.
#[test]
fn reference_derivatives() {
    const STEP: f64 = 1e-5;
    for on in combinations() {
        let case = Case::<f64>::new((11, 2, 3), &on);
        let truth = case.reference(case.theta.as_ref());
        let moved = |by: f64| case.reference((&case.theta + faer::Scale(by) * &case.direction).as_ref());
        let (ahead, behind) = (moved(STEP), moved(-STEP));
        let rows = case.theta.nrows();
        let along: f64 = (0..truth.gradient.ncols())
            .flat_map(|k| (0..rows).map(move |j| (j, k)))
            .map(|at| truth.gradient[at] * case.direction[at])
            .sum();
        let difference = (ahead.loss - behind.loss) / (2.0 * STEP);
        assert!((difference - along).abs() < 1e-8 * along.abs().max(1.0), "{on:?}: {difference} and {along}");
        for k in 0..truth.hessian.ncols() {
            let at = (k % rows, k / rows);
            let along: f64 = (0..truth.hessian.ncols())
                .map(|j| truth.hessian[(k, j)] * case.direction[(j % rows, j / rows)])
                .sum();
            let difference = (ahead.gradient[at] - behind.gradient[at]) / (2.0 * STEP);
            assert!(
                (difference - along).abs() < 1e-8 * along.abs().max(1.0),
                "{on:?}, {k}: {difference} and {along}"
            );
        }
    }
}
