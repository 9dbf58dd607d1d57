//! Promise: samples of weight 0 count for nothing whatever they hold, sums over nothing are 0, underflow is gradual, and
//! no finite score overflows.

mod support;

use faer::Mat;
use softmax_regression::kernel::softmax_residual;
use softmax_regression::{Batch, Error, Objective, Parallelism, Reduction, Workspace};
use support::bound::{Expected, of_scores};
use support::{Everything, Float, PARALLELISMS, Problem, Random, elements, for_each_float, levels};

for_each_float!(
    samples_of_weight_zero,
    whole_blocks_of_weight_zero,
    nothing_but_weight_zero,
    gradual_underflow,
    largest_scores,
    no_samples,
    no_features,
    one_class,
);

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

fn zero<T: Float>(matrix: &Mat<T>) -> bool {
    elements(matrix.as_ref()).all(|x| x.value() == 0.0)
}

/// Takes the weight from some samples and poisons their features, then holds an evaluation against the reference,
/// which leaves such samples out.
fn check_weights<T: Float>(
    (m, n, k): (usize, usize, usize),
    poisoned: impl IntoIterator<Item = usize>,
    poison: impl Fn(usize) -> f64,
    objectives: &[Objective],
) {
    let mut problem = Problem::<T>::random(m, n, k);
    // Ordinary samples of weight 0 as well as poisoned ones; and some of weight 1 at least.
    problem.weights[m / 2] = T::of(1.0);
    for i in poisoned {
        problem.weights[i] = T::of(0.0);
        (0..n).filter(|&j| poison(j) != 0.0).for_each(|j| problem.x[(i, j)] = T::of(poison(j)));
    }
    let batch = problem.batch(true);
    let mut workspace = Workspace::new();
    let mut check = |expected: &Expected, reduction| {
        for objective in objectives.iter().map(|objective| objective.clone().reduction(reduction)) {
            let (x, theta) = (problem.x.as_ref(), problem.theta.as_ref());
            let found = Everything::of(&objective, &batch, x, theta, &mut workspace);
            let what = || format!("{m}×{n}×{k}, {objective:?}");
            for loss in [found.loss, found.loss_alone, found.loss_of_samples] {
                expected.loss.check(loss, || format!("loss, {}", what()));
            }
            expected.check_gradient(found.gradient.as_ref(), &what);
            for (i, loss) in found.sample_losses.iter().enumerate() {
                expected.sample_losses[i].check(loss.value(), || format!("loss of sample {i}, {}", what()));
            }
        }
    };
    let expected = Expected::of(&problem, true);
    check(&expected, Reduction::Sum);
    check(&expected.mean(batch.total_weight()), Reduction::Mean);
}

fn samples_of_weight_zero<T: Float>() {
    let objectives: Vec<_> = levels()
        .into_iter()
        .flat_map(|level| [1, 1 << 20].map(|bytes| Objective::default().simd_level(level).block_bytes(bytes)))
        .collect();
    for k in [3, 130] {
        for at in (0..40).step_by(if k == 3 { 1 } else { 7 }) {
            for poison in [NAN, INF, T::LARGEST] {
                check_weights::<T>((41, 5, k), [at], |_| poison, &objectives);
                // In one feature only; and beside neighbours.
                let one = |j| if j == at % 5 { poison } else { 0.0 };
                check_weights::<T>((41, 5, k), [at, 40, at / 2], one, &objectives);
            }
        }
    }
}

/// Blocks, and groups of blocks, that have nothing to add to the gradient: first, last, and every other one.
fn whole_blocks_of_weight_zero<T: Float>() {
    let objectives = PARALLELISMS.map(|parallelism| Objective::default().parallelism(parallelism));
    let blocks = objectives.clone().map(|objective| objective.block_bytes(1));
    for (shape, block) in [((20_000, 9, 3), 4096), ((257, 101, 200), 16), ((64, 3, 3), 16)] {
        let m = shape.0;
        let kept = |i: &usize| *i != m / 2;
        check_weights::<T>(shape, (0..m / 2).filter(kept), |_| NAN, &objectives);
        check_weights::<T>(shape, (m / 2..m).filter(kept), |_| NAN, &blocks);
        check_weights::<T>(shape, (0..m).filter(|i| i / block % 2 == 0).filter(kept), |_| INF, &blocks);
    }
}

fn nothing_but_weight_zero<T: Float>() {
    for (m, k) in [(1, 1), (1, 2), (33, 3), (20, 129)] {
        for poison in [NAN, INF, 1.0] {
            let x = Mat::full(m, 2, T::of(poison));
            let theta = Problem::<T>::random(m, 2, k).theta;
            let (labels, weights) = (vec![k - 1; m], vec![T::of(0.0); m]);
            let batch = Batch::new(&x, &labels).unwrap().with_sample_weights(&weights).unwrap();
            for level in levels() {
                let objective = Objective::default().simd_level(level);
                let (x, theta) = (x.as_ref(), theta.as_ref());
                let found = Everything::of(&objective, &batch, x, theta, &mut Workspace::new());
                assert_eq!([found.loss, found.loss_alone, found.loss_of_samples], [0.0; 3], "{level:?}");
                assert!(zero(&found.gradient), "{m}×{k}, {poison}, {level:?}");
                assert!(found.sample_losses.iter().all(|loss| loss.value() == 0.0), "{level:?}");
            }
        }
    }
}

/// Checks one sample of exact scores in every form: alone, and as sample `at` of ordinary ones.
fn check_scores<T: Float>(z: &[T], label: usize, at: usize) {
    let k = z.len();
    let (loss, residual) = of_scores(z, label);
    let mut scores: Mat<T> = Random::new(k as u64).matrix(at + 1, k, 1.0);
    z.iter().enumerate().for_each(|(class, &z)| scores[(at, class)] = z);
    softmax_residual(scores.as_mut(), &vec![label; at + 1]).unwrap();
    for (class, r) in residual.iter().enumerate() {
        r.check(scores[(at, class)].value(), || format!("class {class} of {k}, label {label}, sample {at}"));
    }

    let x = Mat::full(1, 1, T::of(1.0));
    let theta = Mat::from_fn(1, k, |_, class| z[class]);
    let labels = [label];
    let batch = Batch::new(&x, &labels).unwrap();
    for level in levels() {
        let objective = Objective::default().simd_level(level);
        let what = || format!("label {label} of {k}, {level:?}");
        let found = Everything::of(&objective, &batch, x.as_ref(), theta.as_ref(), &mut Workspace::new());
        loss.check(found.loss, || format!("loss, {}", what()));
        loss.check(found.loss_alone, || format!("loss alone, {}", what()));
        for (class, r) in residual.iter().enumerate() {
            r.check(found.gradient[(0, class)].value(), || format!("class {class}, {}", what()));
            if class != label {
                r.check(found.probabilities[(0, class)].value(), || {
                    format!("p of class {class}, {}", what())
                });
            }
        }
    }
}

/// Probabilities, and losses of confident samples, down to the smallest subnormal number.
fn gradual_underflow<T: Float>() {
    // exp(−lowest) is about the smallest number; the smallest normal one is 2ᵖ⁻¹ above it.
    let lowest = -T::SMALLEST.ln();
    let subnormal = lowest + T::EPSILON.ln();
    for step in 0..=40 {
        let distance = subnormal - 2.0 + (lowest - subnormal + 3.0) * f64::from(step) / 40.0;
        for k in [2, 3, 5, 129, 150] {
            let low = step as usize % k;
            let top = (low + 1) % k;
            let place = |class| {
                if class == top {
                    0.5
                } else if class == low {
                    0.5 - distance
                } else {
                    -INF
                }
            };
            let z: Vec<T> = (0..k).map(|class| T::of(place(class))).collect();
            for label in [low, top] {
                check_scores(&z, label, step as usize % 20);
            }
        }
    }
}

fn largest_scores<T: Float>() {
    let max = T::LARGEST;
    let scores = [max, -max, max / 2.0, -max / 2.0, max * (1.0 - T::EPSILON), 0.0, -0.0, 1.0, T::SMALLEST];
    for k in [2, 3, 4, 130] {
        for first in 0..scores.len() {
            for second in 0..scores.len() {
                let z = |class| scores[if class % 2 == 0 { first } else { second }];
                let z: Vec<T> = (0..k).map(|class| T::of(z(class))).collect();
                check_scores(&z, 0, first + second);
                check_scores(&z, k - 1, first + second);
            }
        }
    }
}

fn no_samples<T: Float>() {
    for (n, k) in [(0, 1), (3, 2), (5, 200)] {
        let (x, theta) = (Mat::<T>::zeros(0, n), Mat::<T>::zeros(n, k));
        let labels: [u32; 0] = [];
        let batch = Batch::new(&x, &labels).unwrap();
        let objective = Objective::default();
        let found = Everything::of(&objective, &batch, x.as_ref(), theta.as_ref(), &mut Workspace::new());
        for loss in [found.loss, found.loss_alone, found.loss_of_samples] {
            // Not −0, which a sum over nothing is in Rust.
            assert_eq!(loss.to_bits(), 0, "n = {n}, K = {k}");
        }
        assert!(zero(&found.gradient), "n = {n}, K = {k}");
        let loss = objective.reduction(Reduction::Mean).loss(&batch, theta.as_ref(), &mut Workspace::new());
        assert_eq!(loss, Err(Error::TotalWeight { samples: 0, total: 0.0 }));
        assert_eq!(softmax_residual(Mat::<T>::zeros(0, k).as_mut(), &labels).unwrap().to_bits(), 0);
    }
}

/// m·ln K.
fn no_features<T: Float>() {
    for (m, k) in [(1, 1), (1, 2), (40, 10), (5000, 3), (33, 1000)] {
        let problem = Problem::<T>::random(m, 0, k);
        let truth = m as f64 * (k as f64).ln();
        for level in levels() {
            let objective = Objective::default().simd_level(level);
            let (x, theta) = (problem.x.as_ref(), problem.theta.as_ref());
            let found = Everything::of(&objective, &problem.batch(false), x, theta, &mut Workspace::new());
            approx::assert_relative_eq!(found.loss, truth, max_relative = 8.0 * T::EPSILON);
            let mean = objective.reduction(Reduction::Mean);
            let loss = mean.loss(&problem.batch(false), theta, &mut Workspace::new()).unwrap();
            approx::assert_relative_eq!(loss, (k as f64).ln(), max_relative = 8.0 * T::EPSILON);
        }
    }
}

/// P = 1 exactly: no loss and no gradient, whatever the scores.
fn one_class<T: Float>() {
    for m in [1, 7, 40, 3000] {
        let problem = Problem::<T>::random(m, 3, 1);
        for (objective, weighted) in [(Parallelism::Serial, false), (Parallelism::Rayon, true)] {
            let objective = Objective::default().parallelism(objective);
            let (x, theta) = (problem.x.as_ref(), problem.theta.as_ref());
            let found = Everything::of(&objective, &problem.batch(weighted), x, theta, &mut Workspace::new());
            assert_eq!([found.loss, found.loss_alone, found.loss_of_samples], [0.0; 3], "{m}");
            assert!(zero(&found.gradient), "{m}");
            assert!(elements(found.probabilities.as_ref()).all(|p| p.value() == 1.0), "{m}");
        }
    }
}
