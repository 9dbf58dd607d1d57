//! Promise: losses, gradients and second derivatives are those of PyTorch and scikit-learn, to 1e-12 of the largest
//! number compared; and a published model has the log-likelihood, parameters and standard errors that were published.
//!
//! `golden/README.md` tells what the numbers are and where they come from. `cargo test --test truth -- --nocapture`
//! prints the largest deviation from each source.

use faer::linalg::solvers::DenseSolveCore;
use faer::{Mat, MatRef, Side};
use serde_json::Value;
use softmax_regression::{Batch, Objective, Reduction, Workspace};

/// Largest deviation from numbers that others have computed in `f64`, as a share of the largest that are compared.
const ROUNDING: f64 = 1e-12;

/// What was found, held against one source.
struct Source {
    name: &'static str,
    allowed: f64,
    largest: f64,
}

impl Source {
    fn new(name: &'static str, allowed: f64) -> Self {
        Self { name, allowed, largest: 0.0 }
    }

    /// One number, its deviation relative to the scale.
    #[track_caller]
    fn number(&mut self, what: &str, found: f64, truth: f64, scale: f64) {
        let deviation = (found - truth).abs() / scale;
        assert!(
            deviation <= self.allowed,
            "{}, {what}: {found:e} instead of {truth:e}, a deviation of {deviation:.1e} where {:.1e} is allowed",
            self.name,
            self.allowed
        );
        self.largest = self.largest.max(deviation);
    }

    /// Numbers that belong together, their deviations relative to the largest of them.
    #[track_caller]
    fn numbers(&mut self, what: &str, found: &[f64], truth: &Value) {
        let truth = numbers(truth);
        assert_eq!(found.len(), truth.len(), "{}, {what}: how many", self.name);
        let scale = truth.iter().fold(0.0_f64, |largest, number| largest.max(number.abs()));
        for (place, (&found, &truth)) in found.iter().zip(&truth).enumerate() {
            self.number(&format!("{what}, number {place}"), found, truth, scale);
        }
    }

    fn report(&self) {
        println!("{}: largest deviation {:.1e}", self.name, self.largest);
    }
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("a golden file is JSON")
}

fn list(json: &Value) -> &[Value] {
    json.as_array().expect("a list")
}

/// A number, or those of a list, or those of a list of rows one after another.
fn numbers(json: &Value) -> Vec<f64> {
    match json {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

fn integers(json: &Value) -> Vec<i64> {
    list(json).iter().map(|number| number.as_i64().expect("an integer")).collect()
}

/// From a list of rows.
fn matrix(json: &Value) -> Mat<f64> {
    let (rows, numbers) = (list(json).len(), numbers(json));
    let columns = numbers.len() / rows;
    Mat::from_fn(rows, columns, |i, j| numbers[i * columns + j])
}

/// Row after row, as the golden files have it.
fn elements(matrix: MatRef<'_, f64>) -> Vec<f64> {
    (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| matrix[(i, j)])).collect()
}

/// With the settings that are named; the others are left alone.
fn objective(settings: &Value) -> Objective {
    let mut objective = Objective::default();
    if let Some(smoothing) = settings["label_smoothing"].as_f64() {
        objective = objective.label_smoothing(smoothing);
    }
    if let Some(temperature) = settings["temperature"].as_f64() {
        objective = objective.temperature(temperature);
    }
    if let Some(cap) = settings["soft_cap"].as_f64() {
        objective = objective.soft_cap(cap);
    }
    if let Some(coefficient) = settings["z_loss"].as_f64() {
        objective = objective.z_loss(coefficient);
    }
    objective
}

/// Everything of a case but its results.
fn description(case: &Value) -> String {
    let fields = case.as_object().expect("a case").iter();
    let settings = fields.filter(|(_, value)| !value.is_array() && !value.is_object());
    settings.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

/// Derivatives in the scores: cross-entropy in every variant, transformed scores, z-loss.
#[test]
fn pytorch_in_the_scores() {
    let golden = read(include_str!("golden/pytorch.json"));
    let mut source = Source::new("PyTorch, in the scores", ROUNDING);

    let scores = matrix(&golden["scores"]);
    let (m, k) = scores.shape();
    // If X is the identity, Θ is the scores, and the gradient in Θ is that in the scores.
    let x = Mat::<f64>::identity(m, m);
    let soft_targets = matrix(&golden["soft_targets"]);
    let class_weights = numbers(&golden["class_weights"]);
    let sample_weights = numbers(&golden["sample_weights"]);

    let mut workspace = Workspace::new();
    let mut losses = vec![0.0; m];
    let mut gradient = Mat::<f64>::zeros(m, k);
    for case in list(&golden["cases"]) {
        let what = description(case);
        let targets = case["targets"].as_str().expect("the name of a list");
        let labels = if targets == "soft_targets" { Vec::new() } else { integers(&golden[targets]) };
        let batch = match targets {
            "soft_targets" => Batch::new(&x, &soft_targets),
            _ => Batch::new(&x, &labels),
        };
        let mut batch = batch.unwrap();
        if case["sample_weights"] == true {
            batch = batch.with_sample_weights(&sample_weights).unwrap();
        }
        let mut objective = objective(case);
        if case["class_weights"] == true {
            objective = objective.class_weights(&class_weights);
        }
        if targets == "labels_ignored" {
            objective = objective.ignore_label(-100);
        }

        let loss = objective.sample_losses(&batch, scores.as_ref(), &mut losses, &mut workspace).unwrap();
        source.numbers(&format!("{what}: losses"), &losses, &case["losses"]);
        source.numbers(&format!("{what}: sum of the losses"), &[loss], &case["sum"]["loss"]);

        for (name, reduction) in [("sum", Reduction::Sum), ("mean", Reduction::Mean)] {
            let truth = &case[name];
            if truth.is_null() {
                continue;
            }
            let loss = objective
                .clone()
                .reduction(reduction)
                .loss_and_gradient(&batch, scores.as_ref(), gradient.as_mut(), &mut workspace)
                .unwrap();
            source.numbers(&format!("{what}, {name}: loss"), &[loss], &truth["loss"]);
            source.numbers(
                &format!("{what}, {name}: gradient"),
                &elements(gradient.as_ref()),
                &truth["gradient"],
            );
        }
    }
    source.report();
}

/// Derivatives in Θ and X, the second ones of a loss with label smoothing, temperature, soft cap and z-loss.
#[test]
fn pytorch_in_theta_and_x() {
    let golden = read(include_str!("golden/pytorch_linear.json"));
    let mut source = Source::new("PyTorch, in Θ and X", ROUNDING);

    let (x, theta) = (matrix(&golden["x"]), matrix(&golden["theta"]));
    let direction = matrix(&golden["direction"]);
    let labels = integers(&golden["labels"]);
    let batch = Batch::new(&x, &labels).unwrap();
    let (n, k) = theta.shape();

    let mut workspace = Workspace::new();
    let mut gradient = Mat::<f64>::zeros(n, k);
    let mut input_gradient = Mat::<f64>::zeros(x.nrows(), n);
    let every_setting = objective(&golden["settings"]);
    for (name, objective) in [("plain", &Objective::default()), ("all", &every_setting)] {
        let loss = objective
            .loss_and_gradients(
                &batch,
                theta.as_ref(),
                gradient.as_mut(),
                input_gradient.as_mut(),
                &mut workspace,
            )
            .unwrap();
        let truth = &golden[name];
        source.numbers(&format!("{name}: loss"), &[loss], &truth["loss"]);
        source.numbers(&format!("{name}: gradient"), &elements(gradient.as_ref()), &truth["gradient"]);
        source.numbers(
            &format!("{name}: gradient in X"),
            &elements(input_gradient.as_ref()),
            &truth["input_gradient"],
        );
    }

    let mut product = Mat::<f64>::zeros(n, k);
    every_setting
        .hessian_product(&batch, theta.as_ref(), direction.as_ref(), product.as_mut(), &mut workspace)
        .unwrap();
    source.numbers("Hessian product", &elements(product.as_ref()), &golden["hessian_product"]);

    let mut hessian = Mat::<f64>::zeros(n * k, n * k);
    every_setting.hessian(&batch, theta.as_ref(), hessian.as_mut(), &mut workspace).unwrap();
    source.numbers("Hessian", &elements(hessian.as_ref()), &golden["hessian"]);
    source.report();
}

/// Weighted samples, an intercept, a penalty: loss, gradient, Hessian product.
#[test]
fn scikit_learn() {
    let mut source = Source::new("scikit-learn", ROUNDING);

    let golden = read(include_str!("golden/digits.json"));
    let labels = integers(&golden["labels"]);
    let images: Vec<Vec<f64>> = include_str!("../data/digits.csv")
        .lines()
        .take(labels.len())
        .map(|line| line.split(',').map(|number| number.parse().expect("a number")).collect())
        .collect();
    for (image, &label) in images.iter().zip(&labels) {
        assert_eq!(image[64], label as f64, "digits.csv is not the one of the golden file");
    }
    let scale = golden["scale"].as_f64().expect("a number");
    let x = Mat::from_fn(labels.len(), 64, |i, j| images[i][j] / scale);
    linear_model_loss(&mut source, "digits", &golden, &x, &labels);

    let golden = read(include_str!("golden/wine.json"));
    let labels = integers(&golden["labels"]);
    let wines = matrix(&golden["x"]);
    let (mean, scale) = (numbers(&golden["mean"]), numbers(&golden["scale"]));
    let x = Mat::from_fn(wines.nrows(), wines.ncols(), |i, j| (wines[(i, j)] - mean[j]) / scale[j]);
    linear_model_loss(&mut source, "wine", &golden, &x, &labels);
    source.report();
}

fn linear_model_loss(source: &mut Source, data: &str, golden: &Value, x: &Mat<f64>, labels: &[i64]) {
    let weights = numbers(&golden["weights"]);
    let batch = Batch::new(x, labels).unwrap().with_sample_weights(&weights).unwrap();
    // K×(n + 1), the intercept last: Θ is the transpose.
    let (coef, direction) = (matrix(&golden["coef"]), matrix(&golden["direction"]));
    let (theta, direction) = (coef.transpose(), direction.transpose());
    let total = golden["divisor"].as_f64().expect("a number");

    let mut workspace = Workspace::new();
    let mut out = Mat::<f64>::zeros(theta.nrows(), theta.ncols());
    for case in list(&golden["cases"]) {
        let l2 = case["l2"].as_f64().expect("a number");
        // The penalty is added to the mean. So the sum has one that is larger by the divisor.
        for (name, reduction, divisor) in [("mean", Reduction::Mean, 1.0), ("sum", Reduction::Sum, total)] {
            let what = format!("{data}, {name}, l2 {l2}");
            let objective = Objective::default().reduction(reduction).intercept(true).l2(l2 * divisor);
            let divided = |out: &Mat<f64>| -> Vec<f64> {
                elements(out.transpose()).iter().map(|number| number / divisor).collect()
            };

            let loss = objective.loss_and_gradient(&batch, theta, out.as_mut(), &mut workspace).unwrap();
            source.numbers(&format!("{what}: loss"), &[loss / divisor], &case["loss"]);
            source.numbers(&format!("{what}: gradient"), &divided(&out), &case["gradient"]);

            objective.hessian_product(&batch, theta, direction, out.as_mut(), &mut workspace).unwrap();
            source.numbers(&format!("{what}: Hessian product"), &divided(&out), &case["hessian_product"]);
        }
    }
}

/// A multinomial logit of American voters, as Stata has printed it and as statsmodels finds it.
#[test]
fn published_fit() {
    let golden = read(include_str!("golden/anes96.json"));
    let (published, fitted) = (&golden["published"], &golden["fitted"]);
    let x = matrix(&golden["x"]);
    let labels = integers(&golden["labels"]);
    let batch = Batch::new(&x, &labels).unwrap();
    let objective = Objective::default().intercept(true);

    // The parameters of class 0 are 0, and not in the files.
    let (parameters, standard_errors) = (matrix(&published["params"]), matrix(&published["bse"]));
    let (rows, classes) = (parameters.nrows(), parameters.ncols() + 1);
    let mut theta = Mat::from_fn(rows, classes, |j, k| if k == 0 { 0.0 } else { parameters[(j, k - 1)] });
    let mut gradient = Mat::<f64>::zeros(rows, classes);
    let mut workspace = Workspace::new();

    // At the published parameters. The log-likelihood was printed with 9 decimals, of which not all are right: by
    // statsmodels it is -1461.92274725, not -1461.92274731.
    let llf = published["llf"].as_f64().expect("a number");
    let mut log_likelihood = Source::new("Stata, log-likelihood", 1e-10);
    let loss =
        objective.loss_and_gradient(&batch, theta.as_ref(), gradient.as_mut(), &mut workspace).unwrap();
    log_likelihood.number("published parameters", -loss, llf, llf.abs());
    log_likelihood.report();

    // Were they exact, the gradient would be 0. They have about 8 digits, and so it is 0 to about 8 digits of what it
    // is the sum of.
    let mut slope = Source::new("Stata, gradient", 1e-7);
    for j in 0..rows {
        let size = |i: usize| if j < x.ncols() { x[(i, j)].abs() } else { 1.0 };
        let scale: f64 = (0..x.nrows()).map(size).sum();
        for k in 0..classes {
            slope.number(&format!("row {j}, class {k}"), gradient[(j, k)], 0.0, scale);
        }
    }
    slope.report();

    // From there to the minimum by Newton's method, classes 1 and above being free. Parameter `index` of these is
    // Θ[j, k] at `place(index)`.
    let free = rows * (classes - 1);
    let place = |index: usize| (index % rows, 1 + index / rows);
    let mut hessian = Mat::<f64>::zeros(rows * classes, rows * classes);
    let mut covariance = Mat::<f64>::zeros(free, free);
    for _ in 0..3 {
        objective.loss_and_gradient(&batch, theta.as_ref(), gradient.as_mut(), &mut workspace).unwrap();
        objective.hessian(&batch, theta.as_ref(), hessian.as_mut(), &mut workspace).unwrap();
        covariance = hessian.submatrix(rows, rows, free, free).llt(Side::Lower).unwrap().inverse();
        for a in 0..free {
            for b in 0..free {
                theta[place(a)] -= covariance[(a, b)] * gradient[place(b)];
            }
        }
    }
    let loss = objective.loss(&batch, theta.as_ref(), &mut workspace).unwrap();
    let found = theta.subcols(1, classes - 1);
    let mut errors = Mat::<f64>::zeros(rows, classes - 1);
    for index in 0..free {
        let (j, k) = place(index);
        errors[(j, k - 1)] = covariance[(index, index)].sqrt();
    }

    // To the digits printed: of a parameter 8, half a unit of which is at most 5e-8 of a number from 1 to 10;
    // 10 decimals of a standard error.
    let mut digits = Source::new("Stata, parameters", 5e-8);
    let mut error_digits = Source::new("Stata, standard errors", 1e-8);
    for j in 0..rows {
        for k in 0..classes - 1 {
            let what = format!("row {j}, class {}", k + 1);
            let (parameter, error) = (parameters[(j, k)], standard_errors[(j, k)]);
            digits.number(&what, found[(j, k)], parameter, parameter.abs().max(1.0));
            error_digits.number(&what, errors[(j, k)], error, error);
        }
    }
    digits.report();
    error_digits.report();

    // The Hessian of unscaled features has a condition of 1e6: 10 digits of 16 remain.
    let mut statsmodels = Source::new("statsmodels", 1e-10);
    statsmodels.numbers("log-likelihood", &[-loss], &fitted["llf"]);
    statsmodels.numbers("parameters", &elements(found), &fitted["params"]);
    statsmodels.numbers("standard errors", &elements(errors.as_ref()), &fitted["bse"]);
    statsmodels.report();
}
