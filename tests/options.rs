//! Promise: every option works with every other, for all that can be computed: values and derivatives are those of the
//! formulas, and the derivatives those of the values.

mod support;

use faer::sparse::{SparseRowMat, Triplet};
use faer::{Mat, MatRef};
use softmax_regression::kernel::sample_losses;
use softmax_regression::reference::{self, Evaluation, evaluate};
use softmax_regression::{
    Accumulator, Batch, Error, Features, Objective, Operand, Parallelism, Parameter, Reduction, Targets,
    Workspace,
};
use std::ops::Range;
use support::{Float, Random, for_each_float, levels};

for_each_float!(
    pairs_of_options,
    levels_agree,
    threads_agree,
    hessians,
    pieces,
    least_shapes,
    bad_options,
    bad_targets,
    silent_samples,
    scores_of_minus_infinity,
    one_hot_targets,
    most_probable_classes,
    losses_of_scores,
);

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

    fn features(&self) -> Features<'_, T> {
        match self {
            Self::Dense(x) => x.into(),
            Self::U32(x) => x.into(),
            Self::Usize(x) => x.as_ref().into(),
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
    mean: bool,
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
            .reduction(if on(Mean) { Reduction::Mean } else { Reduction::Sum })
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
            mean: on(Mean),
            objective,
        }
    }

    fn batch<'a>(&'a self, samples: Range<usize>, x: &'a Stored<T>) -> Batch<'a, T> {
        let x = x.features();
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
        evaluate(
            wide(self.x.as_ref()).as_ref(),
            &targets,
            weights.as_deref(),
            theta,
            &self.options,
            self.mean,
        )
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

/// A workspace in which an earlier evaluation left nothing but NaN.
fn worn<T: Float>() -> Workspace<T> {
    let (m, n, k) = (40, 30, 210);
    let nan = Mat::full(m, n, T::of(f64::NAN));
    let theta = Mat::full(n, k, T::of(f64::NAN));
    let labels = vec![0_u8; m];
    let mut workspace = Workspace::new();
    let objective = Objective::default().soft_cap(1.0).label_smoothing(0.5);
    for storage in STORAGES {
        let stored = Stored::new(nan.as_ref(), storage);
        let batch = Batch::new(stored.features(), &labels).unwrap();
        // Row-major, which gets a partial gradient.
        let mut out = Mat::full(k, n, T::of(0.0));
        let (theta, mut out) = (theta.as_ref(), out.as_mut().transpose_mut());
        objective.loss_and_gradient(&batch, theta, out.as_mut(), &mut workspace).unwrap();
        objective.hessian_product(&batch, theta, theta, out, &mut workspace).unwrap();
    }
    workspace
}

fn everything<T: Float>(case: &Case<T>, storage: Storage, objective: &Objective, what: &str) {
    let (m, n) = case.x.shape();
    let (rows, k) = case.theta.shape();
    let theta = case.theta.as_ref();
    let truth = case.reference(wide(theta).as_ref());
    let stored = Stored::new(case.x.as_ref(), storage);
    let (batch, mut workspace) = (case.batch(0..m, &stored), worn());
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
        objective.accumulate(&batch, theta, accumulator, &mut worn()).unwrap();
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

/// The shapes of [`Case`]s that only ask whether, not how exactly.
const SHAPE: (usize, usize, usize) = (20, 3, 4);

fn pools() -> [rayon::ThreadPool; 3] {
    [1, 2, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap())
}

/// The same bits for any number of threads, of every derivative that is as Θ is.
fn threads_agree<T: Float>() {
    let pools = pools();
    let all_but_soft: Vec<Toggle> = TOGGLES.iter().copied().filter(|&t| t != Soft).collect();
    for on in [&TOGGLES[..], &all_but_soft] {
        for shape in [(20_000, 8, 4), (300, 40, 150), (83, 6, 1101)] {
            for storage in STORAGES {
                let case = Case::<T>::new(shape, on);
                let stored = Stored::new(case.x.as_ref(), storage);
                let (batch, theta) = (case.batch(0..shape.0, &stored), case.theta.as_ref());
                let bits = |parallelism| {
                    let objective = case.objective.clone().parallelism(parallelism);
                    let mut out = vec![Mat::<T>::zeros(theta.nrows(), theta.ncols()); 3];
                    let mut inputs = Mat::<T>::zeros(shape.0, shape.1);
                    let [gradient, product, diagonal] = &mut out[..] else { unreachable!() };
                    let mut workspace = Workspace::new();
                    let (a, b) = (gradient.as_mut(), inputs.as_mut());
                    let loss = objective.loss_and_gradients(&batch, theta, a, b, &mut workspace).unwrap();
                    let direction = case.direction.as_ref();
                    objective
                        .hessian_product(&batch, theta, direction, product.as_mut(), &mut workspace)
                        .unwrap();
                    objective.hessian_diagonal(&batch, theta, diagonal.as_mut(), &mut workspace).unwrap();
                    let mut bits = vec![loss.to_bits()];
                    for matrix in out.iter().chain([&inputs]) {
                        bits.extend(support::elements(matrix.as_ref()).map(T::bits));
                    }
                    bits
                };
                let serial = bits(Parallelism::Serial);
                assert!(bits(Parallelism::Rayon) == serial, "{on:?}, {shape:?}, {storage:?}, outside");
                for pool in &pools {
                    let found = pool.install(|| bits(Parallelism::Rayon));
                    assert!(found == serial, "{on:?}, {shape:?}, {storage:?}, {pool:?}");
                }
            }
        }
    }
}

/// A Hessian that several groups add up, and one whose products are split: right, into rows and into columns, and of the same bits
/// for any number of threads.
fn hessians<T: Float>() {
    let pools = pools();
    for shape in [(300, 16, 8), (230, 40, 16)] {
        let case = Case::<T>::new(shape, &[SampleWeights, Intercept, ZLoss]);
        let stored = Stored::new(case.x.as_ref(), Storage::Dense);
        let (batch, theta) = (case.batch(0..shape.0, &stored), case.theta.as_ref());
        let truth = case.reference(wide(theta).as_ref()).hessian;
        for is_row_major in [false, true] {
            let hessian = |parallelism| {
                let mut out = Mat::full(truth.nrows(), truth.nrows(), T::of(f64::NAN));
                let view = if is_row_major { out.as_mut().transpose_mut() } else { out.as_mut() };
                let objective = case.objective.clone().parallelism(parallelism);
                objective.hessian(&batch, theta, view, &mut worn()).unwrap();
                out
            };
            let serial = hessian(Parallelism::Serial);
            near(serial.as_ref(), truth.as_ref(), &format!("{shape:?}, {is_row_major}"));
            assert!(hessian(Parallelism::Rayon) == serial, "{shape:?}, {is_row_major}, outside");
            for pool in &pools {
                let found = pool.install(|| hessian(Parallelism::Rayon));
                assert!(found == serial, "{shape:?}, {is_row_major}, {pool:?}");
            }
        }
    }
}

/// A block whose softmax is done piece by piece, as the same samples in blocks too small for that.
fn pieces<T: Float>() {
    let all_but_soft: Vec<Toggle> = TOGGLES.iter().copied().filter(|&t| t != Soft).collect();
    for on in [&TOGGLES[..], &all_but_soft] {
        // Of the second shape the Hessian, which is made in pieces whatever the storage and the layout of the scores.
        for (shape, has_hessian) in [((250, 40, 150), false), ((150, 2, 130), true)] {
            for storage in STORAGES {
                let case = Case::<T>::new(shape, on);
                let stored = Stored::new(case.x.as_ref(), storage);
                let (batch, theta) = (case.batch(0..shape.0, &stored), case.theta.as_ref());
                let (rows, k) = theta.shape();
                let outputs = |block_bytes: usize| {
                    let objective = case.objective.clone().block_bytes(block_bytes);
                    let mut workspace = worn();
                    let [mut gradient, mut product] = [(); 2].map(|()| Mat::<T>::zeros(rows, k));
                    let (mut losses, mut inputs) = (vec![T::of(0.0); shape.0], Mat::zeros(shape.0, shape.1));
                    objective.sample_losses(&batch, theta, &mut losses, &mut workspace).unwrap();
                    let (a, b) = (gradient.as_mut(), inputs.as_mut());
                    objective.loss_and_gradients(&batch, theta, a, b, &mut workspace).unwrap();
                    let (direction, out) = (case.direction.as_ref(), product.as_mut());
                    objective.hessian_product(&batch, theta, direction, out, &mut workspace).unwrap();
                    let size = if has_hessian { rows * k } else { 0 };
                    let mut hessian = Mat::zeros(size, size);
                    if has_hessian {
                        objective.hessian(&batch, theta, hessian.as_mut(), &mut workspace).unwrap();
                    }
                    let losses = MatRef::from_column_major_slice(&losses, shape.0, 1).to_owned();
                    [losses, gradient, inputs, product, hessian]
                };
                for (i, (found, truth)) in outputs(1 << 20).iter().zip(outputs(1)).enumerate() {
                    let what = format!("{on:?}, {shape:?}, {storage:?}, output {i}");
                    near(found.as_ref(), wide(truth.as_ref()).as_ref(), &what);
                }
            }
        }
    }
}

/// No samples, no features, one class; and of the Hessian's diagonal, copies of nothing.
fn least_shapes<T: Float>() {
    let all_but_mean: Vec<Toggle> = TOGGLES.iter().copied().filter(|&t| t != Mean).collect();
    for on in [vec![], vec![Intercept], vec![Cap], vec![Soft, L2], all_but_mean] {
        for shape in [(5, 0, 3), (0, 3, 2), (0, 0, 1), (4, 3, 1), (1, 1, 1), (1, 2, 200)] {
            for storage in STORAGES {
                let case = Case::<T>::new(shape, &on);
                everything(&case, storage, &case.objective, &format!("{on:?}, {shape:?}, {storage:?}"));
            }
        }
    }
}

fn bad_options<T: Float>() {
    let case = Case::<T>::new(SHAPE, &[]);
    let (x, theta) = (Stored::new(case.x.as_ref(), Storage::Dense), case.theta.as_ref());
    let batch = case.batch(0..SHAPE.0, &x);
    let refused = |objective: Objective, expected: &dyn Fn(&Error) -> bool| {
        let nan = T::of(f64::NAN);
        let (mut gradient, mut labels) = (Mat::full(SHAPE.1, SHAPE.2, nan), vec![77; SHAPE.0]);
        let mut workspace = Workspace::new();
        let loss = objective.loss_and_gradient(&batch, theta, gradient.as_mut(), &mut workspace).unwrap_err();
        assert!(expected(&loss), "{loss}");
        let mut hessian = Mat::full(12, 12, nan);
        let error = objective.hessian(&batch, theta, hessian.as_mut(), &mut workspace).unwrap_err();
        assert!(format!("{error}") == format!("{loss}"));
        let error = objective.hessian_product(&batch, theta, theta, gradient.as_mut(), &mut workspace);
        assert!(format!("{}", error.unwrap_err()) == format!("{loss}"));
        let error = objective.predict(&case.x, theta, &mut labels, &mut workspace).unwrap_err();
        assert!(format!("{error}") == format!("{loss}"));
        let mut accumulator = Accumulator::new(SHAPE.1, SHAPE.2);
        let error = objective.accumulate(&batch, theta, &mut accumulator, &mut workspace).unwrap_err();
        assert!(format!("{error}") == format!("{loss}"));
        assert!(accumulator.as_parts().2.col_iter().all(|c| c.iter().all(|&x| x == T::of(0.0))));
        assert!(labels.iter().all(|&label| label == 77));
        let untouched = |x: &Mat<T>| x.col_iter().all(|c| c.iter().all(|x| x.value().is_nan()));
        assert!(untouched(&gradient) && untouched(&hessian));
    };
    let default = Objective::default;
    let not_positive = [0.0, -1.0, f64::NAN, f64::INFINITY];
    let negative = [-1e-300, f64::NAN, f64::INFINITY];
    for value in not_positive {
        let is = |which| move |e: &Error| matches!(*e, Error::InvalidParameter { parameter, value: v } if parameter == which && v.to_bits() == value.to_bits());
        refused(default().temperature(value), &is(Parameter::Temperature));
        refused(default().soft_cap(value), &is(Parameter::SoftCap));
    }
    for value in negative {
        let is = |which| move |e: &Error| matches!(*e, Error::InvalidParameter { parameter, value: v } if parameter == which && v.to_bits() == value.to_bits());
        refused(default().l2(value), &is(Parameter::L2));
        refused(default().z_loss(value), &is(Parameter::ZLoss));
        refused(default().label_smoothing(value), &is(Parameter::LabelSmoothing));
        refused(
            default().class_weights(&[1.0, 1.0, value, 1.0]),
            &|e| matches!(*e, Error::InvalidClassWeight { class: 2, weight } if weight.to_bits() == value.to_bits()),
        );
    }
    refused(default().label_smoothing(1.0 + f64::EPSILON), &|e| {
        matches!(e, Error::InvalidParameter { parameter: Parameter::LabelSmoothing, .. })
    });
    refused(default().class_weights(&[1.0; 3]), &|e| {
        matches!(e, Error::ClassWeightCount { classes: 4, found: 3 })
    });
    refused(default().intercept(true), &|e| {
        matches!(e, Error::ThetaShape { features: (20, 3), expected: 4, theta: (3, 4) })
    });
    // Nothing to divide by: only where something is to be divided.
    let nothing = default().class_weights(&[0.0; 4]).reduction(Reduction::Mean);
    let error = nothing.loss(&batch, theta, &mut Workspace::new()).unwrap_err();
    assert_eq!(error, Error::TotalWeight { samples: 20, total: 0.0 });
    let mut accumulator = Accumulator::new(SHAPE.1, SHAPE.2);
    nothing.accumulate(&batch, theta, &mut accumulator, &mut Workspace::new()).unwrap();
    let mut gradient = Mat::full(SHAPE.1, SHAPE.2, T::of(7.0));
    let error = accumulator.finish(&nothing, theta, gradient.as_mut()).unwrap_err();
    assert!(matches!(error, Error::TotalWeight { total: 0.0, .. }) && gradient[(1, 1)].value() == 7.0);
}

fn bad_targets<T: Float>() {
    let x = Mat::<T>::full(2, 1, T::of(1.0));
    let refused = |targets: [[f64; 2]; 2]| {
        let targets = Mat::from_fn(2, 2, |i, k| T::of(targets[i][k]));
        Batch::new(&x, &targets).unwrap_err()
    };
    for bad in [-0.25, f64::NAN, f64::INFINITY] {
        let error = refused([[0.5, 0.5], [0.25, bad]]);
        assert!(
            matches!(error, Error::InvalidTarget { sample: 1, class: 1, value } if value.to_bits() == bad.to_bits())
        );
    }
    assert_eq!(refused([[0.5, 0.25], [1.0, 0.0]]), Error::TargetSum { sample: 0, sum: 0.75 });
    let targets = Mat::from_fn(2, 2, |_, _| T::of(0.5));
    let batch = Batch::new(&x, &targets).unwrap();
    let theta = Mat::<T>::zeros(1, 3);
    let error = Objective::default().loss(&batch, theta.as_ref(), &mut Workspace::new()).unwrap_err();
    assert_eq!(error, Error::TargetShape { expected: (2, 3), found: (2, 2) });
    // A label that is ignored need not be a class; any other must be.
    let labels = [-100_i64, 3];
    let batch = Batch::new(&x, &labels).unwrap();
    let objective = Objective::default().ignore_label(-100);
    let error = objective.loss(&batch, theta.as_ref(), &mut Workspace::new()).unwrap_err();
    assert_eq!(error, Error::LabelOutOfRange { sample: 1, label: 3, classes: 3 });
}

/// Samples that count for nothing do so with NaN and infinities in them, whatever else is on.
fn silent_samples<T: Float>() {
    for on in combinations() {
        if on.contains(&Soft) || !(on.contains(&Ignore) || on.contains(&SampleWeights)) {
            continue;
        }
        for shape in [SHAPE, (9, 2, 130)] {
            for storage in STORAGES {
                let mut case = Case::<T>::new(shape, &on);
                let is_silent = |case: &Case<T>, i: usize| {
                    case.options.ignore_label == Some(case.labels[i])
                        || case.weights.as_ref().is_some_and(|weights| weights[i] == T::of(0.0))
                };
                let silent: Vec<usize> = (0..shape.0).filter(|&i| is_silent(&case, i)).collect();
                for i in silent {
                    case.x.row_mut(i).fill(T::of([f64::NAN, f64::INFINITY, -T::HUGE][i % 3]));
                }
                let what = format!("{on:?}, {shape:?}, {storage:?}");
                everything(&case, storage, &case.objective.clone().block_bytes(1), &what);
            }
        }
    }
}

/// One class of several is left without a target: its score may be −∞, and the loss stays finite.
fn scores_of_minus_infinity<T: Float>() {
    let infinite = T::of(f64::NEG_INFINITY);
    let theta = Mat::from_fn(1, 3, |_, k| [T::of(0.5), T::of(-0.25), infinite][k]);
    let x = Mat::full(1, 1, T::of(1.0));
    let e = 0.75_f64.exp();
    let (p, loss) = ([e / (e + 1.0), 1.0 / (e + 1.0)], |t: f64| (e + 1.0).ln() - t * 0.75);
    let soft = Mat::from_fn(1, 3, |_, k| T::of([0.75, 0.25, 0.0][k]));
    let batch = Batch::new(&x, &soft).unwrap();
    let mut gradient = Mat::full(1, 3, infinite);
    let mut workspace = Workspace::new();
    let (theta, out) = (theta.as_ref(), gradient.as_mut());
    let found = Objective::default().loss_and_gradient(&batch, theta, out, &mut workspace).unwrap();
    assert!((found - loss(0.75)).abs() < 4.0 * T::EPSILON);
    assert!((gradient[(0, 0)].value() - (p[0] - 0.75)).abs() < 4.0 * T::EPSILON);
    assert!((gradient[(0, 1)].value() - (p[1] - 0.25)).abs() < 4.0 * T::EPSILON);
    assert_eq!(gradient[(0, 2)].value(), 0.0);
    // With a target there, the loss is +∞ and the residual that target, less nothing.
    let smoothed = Objective::default().label_smoothing(0.3);
    let batch = Batch::new(&x, &[0_u8]).unwrap();
    let found = smoothed.loss_and_gradient(&batch, theta, gradient.as_mut(), &mut workspace).unwrap();
    assert_eq!(found, f64::INFINITY);
    assert!((gradient[(0, 2)].value() + 0.1).abs() < T::EPSILON);
    // A cap makes it a score like any other.
    let capped = Objective::default().soft_cap(2.0);
    let found = capped.loss_and_gradient(&batch, theta, gradient.as_mut(), &mut workspace).unwrap();
    let z = [2.0 * 0.25_f64.tanh(), -2.0 * 0.125_f64.tanh(), -2.0];
    let expected = z.iter().map(|x| (x - z[0]).exp()).sum::<f64>().ln();
    assert!((found - expected).abs() < 8.0 * T::EPSILON, "{found} {expected}");
    assert_eq!(gradient[(0, 2)].value(), 0.0);
}

/// Soft targets of one class are as accurate as labels: the residual there is not 1 less 1.
fn one_hot_targets<T: Float>() {
    let theta = Mat::from_fn(1, 3, |_, k| T::of([40.0, 0.0, -3.0][k]));
    let x = Mat::full(1, 1, T::of(1.0));
    let soft = Mat::from_fn(1, 3, |_, k| T::of([1.0, 0.0, 0.0][k]));
    let mut workspace = Workspace::new();
    let mut of = |batch: &Batch<'_, T>| {
        let mut gradient = Mat::zeros(1, 3);
        let objective = Objective::default();
        let loss =
            objective.loss_and_gradient(batch, theta.as_ref(), gradient.as_mut(), &mut workspace).unwrap();
        (loss, gradient)
    };
    let (loss, gradient) = of(&Batch::new(&x, &soft).unwrap());
    let (label_loss, label_gradient) = of(&Batch::new(&x, &[0_u8]).unwrap());
    assert!((loss / label_loss - 1.0).abs() <= 2.0 * T::EPSILON && loss > 4e-18, "{loss} {label_loss}");
    for k in 0..3 {
        let ratio = gradient[(0, k)].value() / label_gradient[(0, k)].value();
        assert!((ratio - 1.0).abs() <= 4.0 * T::EPSILON, "{k}: {ratio}");
    }
}

fn most_probable_classes<T: Float>() {
    for shape in [(37, 4, 6), (5, 4, 130)] {
        let case = Case::<T>::new(shape, &[Intercept, Temperature, Cap]);
        let ((m, _, k), theta) = (shape, case.theta.as_ref());
        let mut x = case.x.clone();
        // Ties, and no number.
        x.row_mut(0).fill(T::of(0.0));
        x[(m - 1, 0)] = T::of(f64::NAN);
        let mut theta = theta.to_owned();
        theta.row_mut(4).fill(T::of(0.125));
        let (theta, mut workspace) = (theta.as_ref(), Workspace::new());
        let mut all = Mat::zeros(m, k);
        case.objective.probabilities(&x, theta, all.as_mut(), &mut workspace).unwrap();
        let mut first = vec![0; m];
        case.objective.predict(&x, theta, &mut first, &mut workspace).unwrap();
        for count in [0, 1, 3, k] {
            let mut classes = Mat::full(m, count, 999_u32);
            let mut probabilities = Mat::full(m, count, T::of(f64::NAN));
            let (a, b) = (classes.as_mut(), probabilities.as_mut());
            case.objective.top_k(&x, theta, a, b, &mut workspace).unwrap();
            for i in 0..m {
                let mut expected: Vec<usize> = (0..k).collect();
                expected.sort_by(|&a, &b| {
                    all[(i, b)].partial_cmp(&all[(i, a)]).unwrap_or(std::cmp::Ordering::Equal)
                });
                for c in 0..count {
                    assert_eq!(classes[(i, c)] as usize, expected[c], "{shape:?}, sample {i}, place {c}");
                    assert_eq!(probabilities[(i, c)].bits(), all[(i, expected[c])].bits());
                }
                if count > 0 {
                    assert_eq!(classes[(i, 0)], first[i]);
                }
            }
        }
        let (mut classes, mut probabilities) = (Mat::full(m, k + 1, 9_u32), Mat::full(m, k + 1, T::of(0.0)));
        let (a, b) = (classes.as_mut(), probabilities.as_mut());
        let error = case.objective.top_k(&x, theta, a, b, &mut workspace).unwrap_err();
        let (expected, found) = ((m, k), (m, k + 1));
        assert_eq!(error, Error::OutputShape { operand: Operand::TopClasses, expected, found });
    }
}

fn losses_of_scores<T: Float>() {
    for (m, k) in [(37, 5), (9, 130)] {
        let mut random = Random::new(5);
        let scores = random.matrix::<T>(m, k, 3.0);
        let soft = Mat::from_fn(m, k, |i, c| T::of(if c == i % k || c == (i + 1) % k { 0.5 } else { 0.0 }));
        let labels: Vec<usize> = (0..m).map(|i| (i * 7) % k).collect();
        let (mut losses, mut log_sum_exp) = (vec![T::of(0.0); m], vec![T::of(0.0); m]);
        for (targets, is_soft) in [(Targets::from(&labels), false), (Targets::from(&soft), true)] {
            let total = sample_losses(scores.as_ref(), targets, &mut losses, &mut log_sum_exp).unwrap();
            let mut sum = 0.0;
            for i in 0..m {
                let z = |c: usize| scores[(i, c)].value();
                let truth = (0..k).map(|c| z(c).exp()).sum::<f64>().ln();
                let loss =
                    if is_soft { truth - 0.5 * (z(i % k) + z((i + 1) % k)) } else { truth - z(labels[i]) };
                assert!((log_sum_exp[i].value() - truth).abs() <= 4.0 * T::EPSILON * truth.abs().max(1.0));
                assert!((losses[i].value() - loss).abs() <= 8.0 * T::EPSILON * loss.max(1.0), "{i}");
                sum += losses[i].value();
            }
            assert!((total - sum).abs() <= 1e-6 * sum);
        }
        let error = sample_losses(scores.as_ref(), &labels, &mut losses[1..], &mut log_sum_exp).unwrap_err();
        assert_eq!(error, Error::SampleCount { features: m, operand: Operand::Losses, found: m - 1 });
    }
}

/// Halves give what the same numbers as `f32` give.
#[test]
fn halves() {
    use half::{bf16, f16};
    let case = Case::<f32>::new((700, 9, 4), &[Intercept, L2]);
    let (theta, objective) = (case.theta.as_ref(), &case.objective);
    let evaluate = |x: Features<'_, f32>| {
        let batch = Batch::new(x, &case.labels).unwrap();
        let mut gradient = Mat::zeros(theta.nrows(), theta.ncols());
        let mut workspace = Workspace::new();
        let loss = objective.loss_and_gradient(&batch, theta, gradient.as_mut(), &mut workspace).unwrap();
        let mut probabilities = Mat::zeros(x.samples(), theta.ncols());
        objective.probabilities(x, theta, probabilities.as_mut(), &mut workspace).unwrap();
        (loss, gradient, probabilities)
    };
    let near = |(a, g, p): &(f64, Mat<f32>, Mat<f32>), (b, h, q): &(f64, Mat<f32>, Mat<f32>)| {
        assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} {b}");
        support::elements(g.as_ref())
            .zip(support::elements(h.as_ref()))
            .for_each(|(g, h)| assert!((g - h).abs() < 1e-3));
        support::elements(p.as_ref())
            .zip(support::elements(q.as_ref()))
            .for_each(|(p, q)| assert!((p - q).abs() < 1e-6));
    };
    let x = Mat::from_fn(700, 9, |i, j| f16::from_f32(case.x[(i, j)]));
    let wide = Mat::from_fn(700, 9, |i, j| x[(i, j)].to_f32());
    near(&evaluate(x.as_ref().into()), &evaluate((&wide).into()));
    near(&evaluate(x.as_ref().reverse_rows().reverse_rows().into()), &evaluate((&wide).into()));
    let x = Mat::from_fn(700, 9, |i, j| bf16::from_f32(case.x[(i, j)]));
    let wide = Mat::from_fn(700, 9, |i, j| x[(i, j)].to_f32());
    near(&evaluate(x.as_ref().into()), &evaluate((&wide).into()));
}

/// Every number of 16 bits: `wide` is what it is.
fn every_half<H: Copy + Default>(from_bits: impl Fn(u16) -> H, wide: impl Fn(H) -> f32)
where
    for<'a> MatRef<'a, H>: Into<Features<'a, f32>>,
{
    for level in levels() {
        let objective = Objective::default().simd_level(level);
        let mut workspace = Workspace::new();
        let mut evaluate = |x: &[H; 16], label: u8, theta: &Mat<f32>| {
            let mut gradient = Mat::<f32>::zeros(16, 2);
            let (x, label) = (MatRef::from_row_major_slice(x, 1, 16), [label]);
            let batch = Batch::new(x, &label).unwrap();
            let loss = objective
                .loss_and_gradient(&batch, theta.as_ref(), gradient.as_mut(), &mut workspace)
                .unwrap();
            (loss, gradient)
        };
        // With Θ = 0 the gradient of the class that is not the label is half of a sample.
        for first in (0..=u16::MAX).step_by(16) {
            let x = core::array::from_fn(|i| from_bits(first + i as u16));
            let (_, gradient) = evaluate(&x, 0, &Mat::zeros(16, 2));
            for (j, x) in x.map(&wide).into_iter().enumerate().filter(|(_, x)| x.is_finite()) {
                let poisoned = gradient[(j, 1)].is_nan();
                assert!(gradient[(j, 1)] == x / 2.0 || poisoned, "{level:?}: {x:e}");
                assert!(!poisoned || (0..16).any(|i| !wide(from_bits(first + i)).is_finite()));
            }
        }
        // With opposite scores, an infinity against the label is an infinite loss.
        let opposite = Mat::from_fn(16, 2, |_, k| [-1.0, 1.0][k]);
        for x in (0..=u16::MAX).map(&from_bits).filter(|&x| !wide(x).is_finite()) {
            let mut sample = [H::default(); 16];
            sample[3] = x;
            let (loss, _) = evaluate(&sample, u8::from(wide(x) < 0.0), &opposite);
            assert!(
                if wide(x).is_nan() { loss.is_nan() } else { loss == f64::INFINITY },
                "{level:?}: {loss}"
            );
        }
    }
}

#[test]
fn every_number_of_16_bits() {
    every_half(half::f16::from_bits, half::f16::to_f32);
    every_half(half::bf16::from_bits, half::bf16::to_f32);
}
