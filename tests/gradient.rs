//! Promise: loss and gradient are those of the formulas, for every shape, layout, label type, reduction, block size,
//! SIMD level and parallelism; and everything else an objective computes agrees with them.
//!
//! The judge is `softmax_regression::reference`, and for f64 also the difference quotient of the loss. Tolerances:
//! `support/bound.rs`.

mod support;

use faer::{ColRef, Mat, MatRef, RowRef};
use softmax_regression::{Batch, Objective, Parallelism, Reduction, Targets, Workspace, loss_and_gradient};
use support::bound::{Bounded, Expected};
use support::{Everything, Float, Laid, Layout, PARALLELISMS, Problem, Random, for_each_float, levels};

for_each_float!(
    small_shapes,
    large_shapes,
    every_schedule,
    layouts,
    narrow_products,
    few_samples,
    single_samples_between_poisoned_ones,
    features_beyond_the_cache,
    copies_of_features_are_small,
    wide_products,
    repeated_and_overlapping_features,
    label_types,
    mean_does_not_depend_on_the_scale_of_the_weights,
    confident_samples,
    one_line_form,
    softmax_residual_layouts,
);

/// Every setting of an objective that leaves the result the same but for rounding.
fn objectives() -> Vec<Objective> {
    let mut all = PARALLELISMS.map(|parallelism| Objective::default().parallelism(parallelism)).to_vec();
    for level in levels() {
        // Blocks of 16 samples, a few blocks, and one of up to 1024.
        for block_bytes in [1, 4 << 10, usize::MAX] {
            let objective = Objective::default().simd_level(level).block_bytes(block_bytes);
            all.push(objective.parallelism(Parallelism::Serial));
        }
    }
    all
}

fn check_all<T: Float>((m, n, k): (usize, usize, usize), objectives: &[Objective]) {
    let problem = Problem::<T>::random(m, n, k);
    // One workspace for all: what an evaluation leaves there must not matter to the next.
    let mut workspace = Workspace::new();
    for weighted in [false, true] {
        let batch = problem.batch(weighted);
        let mut check = |expected: &Expected, reduction| {
            for objective in objectives.iter().map(|objective| objective.clone().reduction(reduction)) {
                let (x, theta) = (problem.x.as_ref(), problem.theta.as_ref());
                let found = Everything::of(&objective, &batch, x, theta, &mut workspace);
                expected.check(&found, &|| format!("{m}×{n}×{k}, weighted: {weighted}, {objective:?}"));
            }
        };
        let expected = Expected::of(&problem, weighted);
        check(&expected, Reduction::Sum);
        if batch.total_weight() > 0.0 {
            check(&expected.mean(batch.total_weight()), Reduction::Mean);
        }
    }
}

fn small_shapes<T: Float>() {
    let objectives = objectives();
    for m in [0, 1, 2, 3, 7] {
        for n in [0, 1, 2, 3, 7] {
            for k in [1, 2, 3, 7] {
                check_all::<T>((m, n, k), &objectives);
            }
        }
    }
}

fn large_shapes<T: Float>() {
    let objectives = objectives();
    let shapes = [
        (15, 16, 17),
        (16, 17, 15),
        (17, 15, 16),
        (31, 33, 5),
        (33, 2, 31),
        (64, 7, 33),
        (100, 3, 64),
        (129, 17, 100),
        (200, 64, 2),
        (300, 31, 3),
        (33, 31, 128),
        (31, 7, 129),
        (49, 5, 200),
        (65, 1, 300),
        (7, 300, 16),
        (3, 129, 300),
        (1025, 3, 3),
    ];
    for shape in shapes {
        check_all::<T>(shape, &objectives);
    }
}

/// Shapes large enough for threads: groups of blocks, and products in pieces, with lanes across samples and classes.
fn every_schedule<T: Float>() {
    let objectives = PARALLELISMS.map(|parallelism| Objective::default().parallelism(parallelism));
    for shape in [
        (20_000, 9, 3),
        (6000, 33, 10),
        (2501, 40, 10),
        (77, 784, 10),
        (401, 129, 100),
        (191, 129, 100),
        (50, 101, 200),
        (190, 101, 200),
        (385, 101, 200),
        (83, 6, 1101),
        (46, 5, 2789),
        (101, 9, 1203),
    ] {
        check_all::<T>(shape, &objectives);
    }
}

fn layouts<T: Float>() {
    let shapes = [(1, 1, 1), (3, 1, 2), (17, 5, 3), (35, 17, 130), (1, 37, 40), (3, 21, 33), (6, 130, 131)];
    for (m, n, k) in shapes {
        let problem = Problem::<T>::random(m, n, k);
        let expected = Expected::of(&problem, true);
        let labels = problem.labels.as_slice();
        let laid = |matrix: MatRef<'_, T>| Layout::ALL.map(|layout| (layout, Laid::new(matrix, layout)));
        let thetas = laid(problem.theta.as_ref());
        for (x_layout, x) in laid(problem.x.as_ref()) {
            let batch = Batch::new(x.view(), labels).unwrap().with_sample_weights(&problem.weights).unwrap();
            for (theta_layout, theta) in &thetas {
                for layout in Layout::ALL {
                    let what = || format!("{m}×{n}×{k}, {x_layout:?}, {theta_layout:?}, {layout:?}");
                    let objective = Objective::default().block_bytes(1);
                    let mut workspace = Workspace::new();
                    let mut gradient = Laid::nan(n, k, layout);
                    objective
                        .loss_and_gradient(&batch, theta.view(), gradient.view_mut(), &mut workspace)
                        .unwrap();
                    expected.check_gradient(gradient.view(), &what);
                    assert!(gradient.outside_untouched(), "{}", what());

                    let mut probabilities = Laid::nan(m, k, layout);
                    objective
                        .probabilities(x.view(), theta.view(), probabilities.view_mut(), &mut workspace)
                        .unwrap();
                    expected.check_probabilities(probabilities.view(), &what);
                    assert!(probabilities.outside_untouched(), "{}", what());
                }
            }
        }
    }
}

/// Few classes, and rows or columns of X around the registers, strips and stretches of the kernels for narrow products,
/// in every layout and at every level: each number of classes in a tile, with and without a register that is shared. With the widest
/// registers classes up to 128 are few.
fn narrow_products<T: Float>() {
    let shapes = [
        (65, 16, 1),
        (33, 17, 2),
        (70, 16, 3),
        (90, 23, 7),
        (130, 31, 12),
        (130, 64, 3),
        (64, 70, 4),
        (17, 129, 5),
        (80, 100, 6),
        (70, 54, 7),
        (40, 64, 8),
        (19, 250, 9),
        (23, 130, 10),
        (33, 256, 11),
        (18, 128, 12),
        (34, 257, 12),
        (48, 784, 10),
        (20, 1100, 13),
        (21, 90, 14),
        (16, 33, 23),
        (5, 2100, 20),
        (1, 65, 32),
        (129, 65, 33),
        (70, 64, 128),
        (97, 300, 47),
        (130, 33, 100),
        (66, 40, 129),
        // Few features of many classes, and few samples of many features.
        (150, 3, 130),
        (171, 9, 41),
        (190, 13, 70),
        (165, 20, 70),
        (130, 30, 20),
        (25, 180, 40),
        (9, 161, 33),
        // Features that waste registers, of many classes: the second in pieces.
        (66, 35, 200),
        (66, 35, 1000),
    ];
    for shape in shapes {
        every_layout_and_level::<T>(shape, &[None]);
    }
}

/// One sample, as many as have kernels of their own for many classes, and one more, in every layout and at every level.
fn few_samples<T: Float>() {
    let shapes = [
        (1, 40, 300),
        (1, 131, 10),
        (1, 300, 129),
        (1, 7, 50),
        (1, 13, 70),
        (2, 9, 40),
        (3, 5, 33),
        (5, 9, 136),
        (8, 15, 330),
        (6, 17, 60),
        (2, 131, 300),
        (3, 128, 129),
        (4, 127, 129),
        (5, 260, 100),
        (8, 150, 200),
        (9, 150, 200),
        (7, 20, 33),
        (12, 7, 60),
        (33, 7, 200),
        (12, 40, 49),
        (12, 35, 47),
        (5, 301, 1003),
    ];
    for shape in shapes {
        every_layout_and_level::<T>(shape, &[None]);
    }
    // The last block alone has few, and its gradient is added; there are fewer features than lanes, or some more.
    for shape in [(20, 3, 40), (17, 2, 140), (19, 5, 135), (24, 19, 130)] {
        every_layout_and_level::<T>(shape, &[Some(1)]);
    }
}

/// Samples of weight 0 whose features are no numbers: products of the single samples between them are added up.
fn single_samples_between_poisoned_ones<T: Float>() {
    for (n, k) in [(37, 5), (13, 20), (6, 9), (150, 140)] {
        let mut problem = Problem::<T>::random(5, n, k);
        problem.weights = [1.5, 0.0, 2.0, 0.0, 0.25].map(T::of).to_vec();
        let expected = Expected::of(&problem, true);
        for sample in [1, 3] {
            problem.x.as_mut().row_mut(sample).fill(T::of(f64::NAN));
        }
        let everything =
            Layout::ALL.into_iter().flat_map(|layout| levels().into_iter().map(move |level| (layout, level)));
        for (layout, level) in everything {
            let x = Laid::new(problem.x.as_ref(), layout);
            let batch = Batch::new(x.view(), &problem.labels).unwrap();
            let batch = batch.with_sample_weights(&problem.weights).unwrap();
            let objective = Objective::default().simd_level(level);
            let mut gradient = Mat::full(n, k, T::of(f64::NAN));
            let (theta, workspace) = (problem.theta.as_ref(), &mut Workspace::new());
            let loss = objective.loss_and_gradient(&batch, theta, gradient.as_mut(), workspace).unwrap();
            let what = || format!("5×{n}×{k}, {layout:?}, {level:?}");
            expected.check_gradient(gradient.as_ref(), &what);
            expected.loss.check(loss, what);
        }
    }
}

/// Serial, with blocks of so many bytes, or as they are chosen.
fn every_layout_and_level<T: Float>((m, n, k): (usize, usize, usize), block_bytes: &[Option<usize>]) {
    let problem = Problem::<T>::random(m, n, k);
    let expected = Expected::of(&problem, true);
    let theta = problem.theta.as_ref();
    for layout in Layout::ALL {
        let x = Laid::new(problem.x.as_ref(), layout);
        let batch = Batch::new(x.view(), &problem.labels).unwrap();
        let batch = batch.with_sample_weights(&problem.weights).unwrap();
        for level in levels() {
            let mut workspace = Workspace::new();
            for &bytes in block_bytes {
                let objective = Objective::default().simd_level(level).parallelism(Parallelism::Serial);
                let objective = match bytes {
                    Some(bytes) => objective.block_bytes(bytes),
                    None => objective,
                };
                let found = Everything::of(&objective, &batch, x.view(), theta, &mut workspace);
                expected.check(&found, &|| format!("{m}×{n}×{k}, {layout:?}, {objective:?}"));
            }
        }
    }
}

/// More of X than stays in a cache, so that it is fetched early, in every layout: with few columns, and with so many that
/// each pass over a block fetches its own; blocks as they are chosen, and such that a column has several stretches.
fn features_beyond_the_cache<T: Float>() {
    for (m, n, k) in [(5000, 60, 3), (2100, 260, 5), (1100, 300, 10), (700, 461, 20), (701, 459, 41)] {
        assert!(m * n * size_of::<T>() > 1 << 20);
        every_layout_and_level::<T>((m, n, k), &[Some(usize::MAX), None]);
    }
}

/// Of an X that has to be copied, a block at a time, however many columns it has.
fn copies_of_features_are_small<T: Float>() {
    let (m, n, k) = (1100, 4000, 2);
    let (x, labels) = (Mat::<T>::zeros(m, n), vec![0_u8; m]);
    let (theta, mut gradient) = (Mat::zeros(n, k), Mat::zeros(n, k));
    let mut workspace = Workspace::new();
    let objective = Objective::default().parallelism(Parallelism::Serial);
    let batch = Batch::new(x.reverse_rows(), &labels).unwrap();
    objective.loss_and_gradient(&batch, theta.as_ref(), gradient.as_mut(), &mut workspace).unwrap();
    // 192 KiB, or 16 samples; and up to 16 partial gradients.
    let most = (192 << 10).max(16 * n * size_of::<T>()) + 16 * n * k * size_of::<T>() + (64 << 10);
    assert!(workspace.bytes() <= most, "{} of {most} bytes", workspace.bytes());
}

/// So many features and classes, at numbers that no tile divides, that the products go to the kernel for wide ones where a
/// level has it: with each matrix by its rows and by its columns, the input gradient too.
fn wide_products<T: Float>() {
    let (m, n, k) = (263, 1100, 391);
    let problem = Problem::<T>::random(m, n, k);
    let expected = Expected::of(&problem, true);
    let by_columns_and_rows = [Layout::ALL[2], Layout::ALL[3]];
    for (x_layout, theta_layout) in
        by_columns_and_rows.into_iter().flat_map(|x| by_columns_and_rows.map(|theta| (x, theta)))
    {
        let x = Laid::new(problem.x.as_ref(), x_layout);
        let theta = Laid::new(problem.theta.as_ref(), theta_layout);
        let batch = Batch::new(x.view(), &problem.labels).unwrap();
        let batch = batch.with_sample_weights(&problem.weights).unwrap();
        for layout in by_columns_and_rows {
            let mut first: Option<Mat<T>> = None;
            for level in levels() {
                let what = || format!("{x_layout:?}, {theta_layout:?}, {layout:?}, {level:?}");
                let objective = Objective::default().simd_level(level).parallelism(Parallelism::Serial);
                let (mut gradient, mut input) = (Laid::nan(n, k, layout), Laid::nan(m, n, layout));
                let workspace = &mut Workspace::new();
                let (gradient_out, input_out) = (gradient.view_mut(), input.view_mut());
                objective
                    .loss_and_gradients(&batch, theta.view(), gradient_out, input_out, workspace)
                    .unwrap();
                expected.check_gradient(gradient.view(), &what);
                assert!(gradient.outside_untouched() && input.outside_untouched(), "{}", what());
                // The first level has no kernel of its own for wide products.
                let scalar = first.get_or_insert_with(|| input.view().to_owned());
                let difference = (&*scalar - input.view()).norm_max();
                assert!(difference <= scalar.norm_max() * T::of(4096.0 * T::EPSILON), "{}", what());
            }
        }
    }
}

/// Strides of 0, strides that make rows overlap, and the diagonal of a matrix: views that only an input can have.
fn repeated_and_overlapping_features<T: Float>() {
    let (m, n, k) = (37, 6, 5);
    let problem = Problem::<T>::random(m, n, k);
    let numbers: Mat<T> = Random::new(1).matrix(m + n, 1, 1.0);
    let numbers = numbers.col_as_slice(0);
    let square: Mat<T> = Random::new(2).matrix(m, m, 1.0);
    let views = [
        MatRef::from_repeated_row(RowRef::from_slice(&numbers[..n]), m),
        MatRef::from_repeated_col(ColRef::from_slice(&numbers[..m]), n),
        MatRef::from_repeated_ref(&numbers[0], m, n),
        MatRef::from_column_major_slice_with_stride(numbers, m, n, 1),
        square.as_ref().diagonal().column_vector().as_mat(),
    ];
    for x in views {
        let theta = problem.theta.as_ref().subrows(0, x.ncols());
        let labels = &problem.labels;
        let expected = Expected::new(x, labels, None, theta);
        let batch = Batch::new(x, labels).unwrap();
        let found = Everything::of(&Objective::default(), &batch, x, theta, &mut Workspace::new());
        expected.check(&found, &|| format!("strides {} and {}", x.row_stride(), x.col_stride()));
    }
}

fn label_types<T: Float>() {
    // So many classes that a u8 cannot hold all of them, nor an i8 any beyond half.
    let (m, n, k) = (70, 3, 256);
    let mut problem = Problem::<T>::random(m, n, k);
    problem.labels[0] = 255;
    problem.labels[m - 1] = 0;
    let expected = Expected::of(&problem, false);
    let check = |name: &str, targets: Targets<'_, T>| {
        let batch = Batch::new(&problem.x, targets).unwrap();
        assert_eq!((batch.samples(), targets.samples()), (m, m));
        let (x, theta) = (problem.x.as_ref(), problem.theta.as_ref());
        let objective = Objective::default().block_bytes(1);
        let found = Everything::of(&objective, &batch, x, theta, &mut Workspace::new());
        expected.check(&found, &|| name.to_string());
    };
    macro_rules! check {
        ($($t:ty),*) => {$({
            let labels: Vec<$t> = problem.labels.iter().map(|&label| label as $t).collect();
            let array: [$t; 70] = labels.as_slice().try_into().unwrap();
            check(stringify!($t), labels.as_slice().into());
            check(stringify!(Vec<$t>), (&labels).into());
            check(stringify!([$t; 70]), (&array).into());
        })*};
    }
    check!(u8, u16, u32, u64, usize, i32, i64);
}

/// Weights so large, or so small, that 1 / Σw alone would leave the normal numbers of the type.
fn mean_does_not_depend_on_the_scale_of_the_weights<T: Float>() {
    let (m, n, k) = (40_000, 2, 3);
    let problem = Problem::<T>::random(m, n, k);
    let expected = Expected::of(&problem, true).mean(problem.batch(true).total_weight());
    // Each weight has to fit the type, their total only f64.
    let exponent = (T::LARGEST.log2() as i32 - 3).min(1007);
    for scale in [-exponent, -exponent / 2, exponent / 2, exponent].map(|e| 2_f64.powi(e)) {
        let weights: Vec<T> = problem.weights.iter().map(|w| T::of(w.value() * scale)).collect();
        let batch = problem.batch(false).with_sample_weights(&weights).unwrap();
        let objective = Objective::default().reduction(Reduction::Mean);
        let mut gradient = Mat::full(n, k, T::of(f64::NAN));
        let loss = objective
            .loss_and_gradient(&batch, problem.theta.as_ref(), gradient.as_mut(), &mut Workspace::new())
            .unwrap();
        expected.loss.check(loss, || format!("loss, weights of {scale:e}"));
        expected.check_gradient(gradient.as_ref(), &|| format!("weights of {scale:e}"));
    }
}

/// Exact scores of samples that are all but certain: relative accuracy of each number, where 1 − p would be 0.
fn confident_samples<T: Float>() {
    for k in [2, 3, 10, 128, 129, 200] {
        // Exact in both types, as is each score, times 1.
        let theta: Mat<T> =
            Mat::from_fn(1, k, |_, c| T::of(if c == k - 1 { 60.0 } else { -(c as f64) / 8.0 }));
        let x = Mat::full(20, 1, T::of(1.0));
        for label in [k - 1, 0] {
            let labels = vec![label; x.nrows()];
            let batch = Batch::new(&x, &labels).unwrap();
            let row: Vec<T> = theta.row(0).iter().copied().collect();
            let (loss, residual) = support::bound::of_scores(&row, label);
            for level in levels() {
                let objective = Objective::default().simd_level(level);
                let what = || format!("K = {k}, label {label}, {level:?}");
                let found =
                    Everything::of(&objective, &batch, x.as_ref(), theta.as_ref(), &mut Workspace::new());
                found.sample_losses.iter().for_each(|found| loss.check(found.value(), what));
                for (class, r) in residual.iter().enumerate() {
                    // Twenty equal terms: exact but for the rounding of the sum.
                    let m = x.nrows() as f64;
                    let sum = Bounded { truth: m * r.truth, error: m * r.error * 2.0 };
                    sum.check(found.gradient[(0, class)].value(), || format!("class {class}, {}", what()));
                }
            }
        }
    }
}

fn one_line_form<T: Float>() {
    for (m, n, k) in [(0, 3, 2), (50, 7, 3), (40, 3, 150), (9000, 20, 7)] {
        let problem = Problem::<T>::random(m, n, k);
        let mut gradient = Laid::nan(n, k, Layout::ALL[3]);
        let theta = problem.theta.as_ref();
        let loss = loss_and_gradient(&problem.x, &problem.labels, theta, gradient.view_mut()).unwrap();
        let expected = Expected::of(&problem, false);
        expected.loss.check(loss, || format!("loss, {m}×{n}×{k}"));
        expected.check_gradient(gradient.view(), &|| format!("{m}×{n}×{k}"));
    }
}

/// The middle of the evaluation alone, from scores: within the contract for exact scores.
fn softmax_residual_layouts<T: Float>() {
    let sizes = [(0, 3), (1, 1), (1, 129), (17, 2), (40, 17), (40, 128), (40, 129), (33, 1024), (1500, 3)];
    // Columns that have one place in a cache are copied, others are not.
    for (m, k) in sizes.into_iter().chain([(512, 9), (1024, 9)]) {
        let mut random = Random::new((m * k) as u64);
        let scores: Mat<T> = random.matrix(m, k, 30.0);
        let labels: Vec<u16> = (0..m).map(|_| random.below(k) as u16).collect();
        let truth: Vec<_> = (0..m)
            .map(|i| {
                let row: Vec<T> = scores.row(i).iter().copied().collect();
                support::bound::of_scores(&row, labels[i].into())
            })
            .collect();
        for layout in Layout::ALL {
            let what = || format!("{m}×{k}, {layout:?}");
            let mut residual = Laid::new(scores.as_ref(), layout);
            let loss = softmax_regression::kernel::softmax_residual(residual.view_mut(), &labels).unwrap();
            let total = truth.iter().fold(Bounded::default(), |sum, (loss, _)| sum.plus(*loss));
            total.check(loss, || format!("loss, {}", what()));
            for (i, (_, row)) in truth.iter().enumerate() {
                for (class, r) in row.iter().enumerate() {
                    r.check(residual.view()[(i, class)].value(), || format!("({i}, {class}), {}", what()));
                }
            }
            assert!(residual.outside_untouched(), "{}", what());
        }
    }
}

/// (J(Θ + hE) − J(Θ − hE)) / 2h in every direction E = e_j e_kᵀ. Unlike the reference this knows no gradient formula.
#[test]
fn difference_quotient() {
    for (m, n, k) in [(1, 1, 2), (7, 3, 4), (40, 2, 3), (5, 2, 130), (2000, 2, 5)] {
        let problem = Problem::<f64>::random(m, n, k);
        let batch = problem.batch(true);
        let objective = Objective::default().parallelism(Parallelism::Serial);
        let mut workspace = Workspace::new();
        let mut gradient = Mat::full(n, k, f64::NAN);
        objective
            .loss_and_gradient(&batch, problem.theta.as_ref(), gradient.as_mut(), &mut workspace)
            .unwrap();
        let loss_error = Expected::of(&problem, true).loss.error;
        let h = f64::EPSILON.cbrt();
        for class in 0..k {
            for j in 0..n {
                let mut moved = |by: f64| {
                    let mut theta = problem.theta.clone();
                    theta[(j, class)] += by;
                    let loss = objective.loss(&batch, theta.as_ref(), &mut workspace).unwrap();
                    (theta[(j, class)], loss)
                };
                let ((up, above), (down, below)) = (moved(h), moved(-h));
                // |J'''| ≤ Σ w |x|³·max |p(1−p)(1−2p)|, and that is below 1/10.
                let third: f64 =
                    (0..m).map(|i| problem.weights[i] * problem.x[(i, j)].abs().powi(3) / 10.0).sum();
                let rounding = loss_error / h;
                let quotient = Bounded { truth: gradient[(j, class)], error: h * h / 6.0 * third + rounding };
                quotient.check((above - below) / (up - down), || format!("{m}×{n}×{k}, ({j}, {class})"));
            }
        }
    }
}
