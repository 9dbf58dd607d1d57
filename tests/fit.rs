//! Promise: a fit is at the optimum, or says why it is not.

mod support;

use core::ops::ControlFlow;
use faer::Mat;
use faer::sparse::{SparseRowMat, Triplet};
use serde_json::Value;
use softmax_regression::{
    Batch, Error, FitError, FitOptions, Objective, Reduction, SoftmaxRegression, Stop, Workspace,
};
use support::{Float, Random, for_each_float};

for_each_float!(stays_at_the_optimum, input_errors, stored_and_read);

/// Samples that no Θ tells apart, their features of very different sizes, one the sum of two others.
fn samples<T: Float>(m: usize) -> (Mat<T>, Vec<u32>) {
    let mut random = Random::new(3);
    let x: Mat<f64> = random.matrix(m, 4, 1.0);
    let x = Mat::from_fn(m, 5, |i, j| match j {
        4 => T::of(x[(i, 0)] + x[(i, 1)]),
        j => T::of(x[(i, j)] * 30_f64.powi(j as i32 - 1) + j as f64),
    });
    (x, (0..m).map(|_| random.below(3) as u32).collect())
}

fn gradient_norm<T: Float>(model: &SoftmaxRegression<T>, batch: &Batch<'_, T>) -> f64 {
    let mut gradient = Mat::<T>::zeros(model.theta().nrows(), model.theta().ncols());
    let mut workspace = Workspace::new();
    model.objective().loss_and_gradient(batch, model.theta(), gradient.as_mut(), &mut workspace).unwrap();
    gradient.col_iter().flat_map(|c| c.iter()).map(|g| g.value().powi(2)).sum::<f64>().sqrt()
}

/// The optima that scikit-learn's `LogisticRegression` finds (`golden/README.md`): J within 1e-9.
#[test]
fn optima_of_scikit_learn() {
    let json = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let matrix = |value: &Value| {
        let rows = value.as_array().unwrap();
        let columns = rows[0].as_array().unwrap().len();
        Mat::from_fn(rows.len(), columns, |i, j| rows[i][j].as_f64().unwrap())
    };
    let labels = |value: &Value| -> Vec<u64> {
        value["labels"].as_array().unwrap().iter().map(|label| label.as_u64().unwrap()).collect()
    };
    let (wine, anes96) = (json(include_str!("golden/wine.json")), json(include_str!("golden/anes96.json")));
    let digits: Vec<Vec<f64>> = include_str!("../data/digits.csv")
        .lines()
        .map(|line| line.split(',').map(|number| number.parse().unwrap()).collect())
        .collect();
    let pixels = |scale: f64| Mat::from_fn(digits.len(), 64, |i, j| digits[i][j] / scale);
    let cases = json(include_str!("golden/optima.json"))["cases"].take();
    for case in cases.as_array().unwrap() {
        let (name, l2) = (case["data"].as_str().unwrap(), case["l2"].as_f64().unwrap());
        let (x, labels) = match name {
            "wine" => (matrix(&wine["x"]), labels(&wine)),
            "anes96" => (matrix(&anes96["x"]), labels(&anes96)),
            _ => {
                let scale = if name == "digits" { 1.0 } else { 16.0 };
                (pixels(scale), digits.iter().map(|line| line[64] as u64).collect())
            }
        };
        let (classes, optimum) = (*labels.iter().max().unwrap() as usize + 1, case["loss"].as_f64().unwrap());
        let batch = Batch::new(&x, &labels).unwrap();
        let model = SoftmaxRegression::fit(&batch, FitOptions::new(classes).l2(l2)).unwrap();
        let step = model.report().step;
        println!("{name}, {l2}: {:.1e} from the optimum, {step:?}", step.loss / optimum - 1.0);
        assert!((step.loss - optimum).abs() <= 1e-9 * optimum, "{name}, {l2}: {} for {optimum}", step.loss);
        assert_eq!(model.report().stop, Stop::Converged);
    }
    assert_eq!(cases.as_array().unwrap().len(), 5);
}

/// Every kind of X, both ways to choose the variables, weights, and the mean; started where it ended, it takes no step.
fn stays_at_the_optimum<T: Float>() {
    let (x, labels) = samples::<T>(120);
    let entries: Vec<_> = (0..120)
        .flat_map(|i| (0..5).map(move |j| (i, j)))
        .map(|(i, j)| Triplet::new(i, j, x[(i, j)]))
        .collect();
    let sparse = SparseRowMat::<usize, T>::try_new_from_triplets(120, 5, &entries).unwrap();
    let weights: Vec<T> = (0..120).map(|i| T::of((i % 4) as f64 / 2.0)).collect();
    // Fewer samples than features, which are scaled one by one then.
    let (wide, few) = (Random::new(4).matrix::<T>(6, 40, 3.0), [0_u32, 1, 2, 0, 1, 2]);
    let dense = Batch::new(&x, &labels).unwrap();
    for (name, batch) in [
        ("dense", dense),
        ("sparse", Batch::new(&sparse, &labels).unwrap()),
        ("weighted", dense.with_sample_weights(&weights).unwrap()),
        ("wide", Batch::new(&wide, &few).unwrap()),
    ] {
        for reduction in [Reduction::Sum, Reduction::Mean] {
            let objective = Objective::default().reduction(reduction).intercept(true).l2(0.01);
            let options = || FitOptions::new(3).objective(objective.clone());
            let model = SoftmaxRegression::fit(&batch, options()).unwrap();
            let (at_zero, at_end) = (model.report().step.loss, gradient_norm(&model, &batch));
            assert!(at_zero.is_finite(), "{name}");
            let found = model.report().step.gradient_norm;
            assert!((at_end - found).abs() <= 1e-3 * found.max(1e-6), "{name}: {at_end}, reported {found}");
            // Rounding of Θ to T and back moves it a little.
            let again = options().tolerance(2.0 * T::EPSILON.sqrt()).warm_start(model.theta());
            let again = SoftmaxRegression::fit(&batch, again).unwrap();
            assert_eq!(again.report().step.iterations, 0, "{name}");
        }
    }
}

/// Of many samples, the variables are chosen from some: what these lack must not matter, nor the samples' order.
#[test]
fn many_samples_in_order() {
    let (x, mut labels) = samples::<f64>(4000);
    labels.sort_unstable();
    let rare = |i: usize| if i % 250 == 200 { 1e3 } else { 0.0 };
    let x = Mat::from_fn(4000, 6, |i, j| if j < 5 { x[(i, j)] } else { rare(i) });
    let sparse: Vec<_> = (0..4000)
        .flat_map(|i| (0..6).map(move |j| (i, j)))
        .filter(|&at| x[at] != 0.0)
        .map(|(i, j)| Triplet::new(i, j, x[(i, j)]))
        .collect();
    // Of this form, all samples are looked at.
    let sparse = SparseRowMat::<usize, f64>::try_new_from_triplets(4000, 6, &sparse).unwrap();
    let fit = |batch: &Batch<'_, f64>| SoftmaxRegression::fit(batch, FitOptions::new(3)).unwrap();
    let batch = Batch::new(&x, &labels).unwrap();
    let (some, all) = (fit(&batch), fit(&Batch::new(&sparse, &labels).unwrap()));
    println!("{:?}\n{:?}", some.report().step, all.report().step);
    assert!((some.report().step.loss / all.report().step.loss - 1.0).abs() < 1e-12);
    assert!(some.theta()[(5, 0)] != 0.0);
    assert!(some.report().step.iterations <= all.report().step.iterations + 10);
}

/// Never silently.
#[test]
fn unconverged() {
    let (x, labels) = samples::<f64>(120);
    let batch = Batch::new(&x, &labels).unwrap();
    let stopped = |options: FitOptions<'_, f64>| match SoftmaxRegression::fit(&batch, options) {
        Err(FitError::NotConverged(model)) => *model,
        other => panic!("{other:?}"),
    };
    let model = stopped(FitOptions::new(3).max_iterations(2));
    assert_eq!((model.report().stop, model.report().step.iterations), (Stop::IterationLimit, 2));
    let model = stopped(FitOptions::new(3).tolerance(0.0));
    assert_eq!(model.report().stop, Stop::NoProgress);
    assert!(model.report().step.scaled_gradient_norm < 1e-7, "{:?}", model.report());

    let mut seen = Vec::new();
    let model = stopped(FitOptions::new(3).on_step(|step| {
        seen.push(*step);
        if step.iterations == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    assert_eq!(model.report().stop, Stop::Interrupted);
    assert_eq!(seen.iter().map(|step| step.iterations).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(seen.windows(2).all(|pair| pair[1].loss < pair[0].loss), "{seen:?}");
    assert_eq!(model.report().step, seen[3]);
}

fn input_errors<T: Float>() {
    let (mut x, labels) = samples::<T>(30);
    let input = |x: &Mat<T>, options: FitOptions<'_, T>| match SoftmaxRegression::fit(
        &Batch::new(x, &labels).unwrap(),
        options,
    ) {
        Err(FitError::Input(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(input(&x, FitOptions::new(0)), Error::NoClasses);
    assert!(matches!(input(&x, FitOptions::new(2)), Error::LabelOutOfRange { label: 2, classes: 2, .. }));
    let start = Mat::zeros(5, 3);
    let error = input(&x, FitOptions::new(3).warm_start(start.as_ref()));
    assert!(matches!(error, Error::OutputShape { expected: (6, 3), found: (5, 3), .. }), "{error:?}");
    x[(7, 2)] = T::of(f64::NAN);
    assert!(matches!(input(&x, FitOptions::new(3)), Error::NotFinite { .. }));
}

fn stored_and_read<T: Float + serde::Serialize + serde::de::DeserializeOwned>() {
    let (x, labels) = samples::<T>(60);
    let batch = Batch::new(&x, &labels).unwrap();
    let objective = Objective::default().intercept(true).l2(0.1).temperature(2.0).soft_cap(5.0);
    let model = SoftmaxRegression::fit(&batch, FitOptions::new(3).objective(objective)).unwrap();
    let text = serde_json::to_string(&model).unwrap();
    let read: SoftmaxRegression<T> = serde_json::from_str(&text).unwrap();
    assert!(read.theta() == model.theta());
    assert_eq!(read.report(), model.report());
    assert!(read.probabilities(&x).unwrap() == model.probabilities(&x).unwrap());

    let predicted = read.predict(&x).unwrap();
    let right = predicted.iter().zip(&labels).filter(|(a, b)| a == b).count();
    assert_eq!(read.score(&batch).unwrap(), right as f64 / 60.0);

    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["classes"] = 4.into();
    let error = serde_json::from_value::<SoftmaxRegression<T>>(json).unwrap_err();
    assert!(error.to_string().contains("24 numbers"), "{error}");
}
