//! Quality of wine: `cargo run --release --example winequality`.
//!
//! Shows the estimator behind linfa's traits on the data of linfa-logistic's own multinomial example (1,599 red wines of 11
//! features, graded): only the line that makes the estimator is another. Both are then fitted in turns, and each model is
//! judged by the same J: the sum of the losses and half the squared norm of the coefficients, intercepts excepted.

use faer::{Mat, MatRef};
use linfa::prelude::*;
use linfa_logistic::{MultiFittedLogisticRegression, MultiLogisticRegression};
use ndarray_0_16::{Array1, Array2};
use softmax_regression::estimator::Estimator;
use softmax_regression::{Batch, Objective, Workspace};
use std::error::Error;
use std::time::Instant;

/// Fits that are timed.
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let (train, valid) = linfa_datasets::winequality().split_with_ratio(0.9);
    println!("wines          {} to train on, {} to test on", train.nsamples(), valid.nsamples());

    let model = Estimator::default().fit(&train)?;
    let predicted = model.predict(&valid);
    let matrix = predicted.confusion_matrix(&valid)?;
    println!("{matrix:?}");
    println!("accuracy       {:.4}, MCC {:.4}", matrix.accuracy(), matrix.mcc());

    // Theirs stops, as linfa's example has it, after 50 iterations; or, in its own time, as near its optimum as it gets.
    let (example, patient) = (theirs(1e-4, 50), theirs(1e-8, 10_000));
    let (slow, nearest) = time(|| patient.fit(&train))?;
    let (mut seconds, mut stopped) = ([Vec::new(), Vec::new(), vec![slow]], None);
    for _ in 0..ROUNDS {
        seconds[0].push(time(|| Estimator::default().fit(&train))?.0);
        let (quick, model) = time(|| example.fit(&train))?;
        seconds[1].push(quick);
        stopped = Some(model);
    }
    let stopped = stopped.ok_or("no rounds")?;

    let x = Mat::from_fn(train.nsamples(), train.nfeatures(), |i, j| train.records[(i, j)]);
    let label = |grade| model.classes().partition_point(|class| class < grade);
    let labels: Vec<usize> = train.targets.iter().map(label).collect();
    let batch = Batch::new(&x, &labels)?;
    let objective = Objective::default().intercept(true).l2(1.0);
    let loss = |theta: MatRef<'_, f64>| objective.loss(&batch, theta, &mut Workspace::new());
    let losses =
        [loss(model.model().theta())?, loss(theta(&stopped).as_ref())?, loss(theta(&nearest).as_ref())?];
    let names = ["this crate", "linfa-logistic, 50 iterations", "linfa-logistic, 10,000"];
    for ((name, seconds), loss) in names.iter().zip(&mut seconds).zip(losses) {
        seconds.sort_by(f64::total_cmp);
        let (median, fits) = (1e3 * seconds[seconds.len() / 2], seconds.len());
        println!("{name:31} {median:9.2} ms, the median of {fits}; J = {loss:.6}");
    }
    if losses[1..].iter().any(|&other| other < losses[0] * (1.0 - 1e-9)) {
        return Err("linfa-logistic should not find a lower J".into());
    }
    Ok(())
}

fn theirs(tolerance: f64, iterations: u64) -> MultiLogisticRegression<f64> {
    MultiLogisticRegression::default().gradient_tolerance(tolerance).max_iterations(iterations)
}

/// The seconds that it takes, and what it returns.
fn time<R, E>(fit: impl FnOnce() -> Result<R, E>) -> Result<(f64, R), E> {
    let begin = Instant::now();
    let fitted = fit()?;
    Ok((begin.elapsed().as_secs_f64(), fitted))
}

/// Coefficients, and the intercepts below them.
fn theta(model: &MultiFittedLogisticRegression<f64, usize>) -> Mat<f64> {
    let (coefficients, intercepts): (&Array2<f64>, &Array1<f64>) = (model.params(), model.intercept());
    let features = coefficients.nrows();
    Mat::from_fn(features + 1, coefficients.ncols(), |j, k| {
        if j < features { coefficients[(j, k)] } else { intercepts[k] }
    })
}
