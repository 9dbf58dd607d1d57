//! Whole fits by this crate and by linfa, for `fits.py`. The requests:
//!
//! - `prepare DIRECTORY f64 M N K THREADS`: as for an evaluation;
//! - `fit L2 PATH`: minimises Σ losses + ½·L2‖Θ‖² with intercept, writes Θ ((n + 1)×K row-major, the intercept last,
//!   little-endian `f64`) to PATH, and answers how many seconds the fit took.

use crate::problem::{Problem, Request};
use faer::MatRef;
#[cfg(feature = "linfa")]
use linfa::prelude::{DatasetBase, Fit as _, ParamGuard};
use softmax_regression::{Batch, FitOptions, SoftmaxRegression};
use std::error::Error;
use std::time::{Duration, Instant};

/// Θ row by row, and the time it took.
pub(crate) type Fitted = Result<(Duration, Vec<f64>), Box<dyn Error>>;

/// Minimises the objective of this penalty.
pub(crate) type Fit = fn(&Problem<f64>, &Request, f64) -> Fitted;

pub(crate) fn fit_named(name: &str) -> Option<Fit> {
    match name {
        "fits-ours" => Some(ours),
        #[cfg(feature = "linfa")]
        "fits-linfa" => Some(with_linfa),
        _ => None,
    }
}

/// Answers the requests.
pub(crate) fn serve(fit: Fit) -> Result<(), Box<dyn Error>> {
    let mut prepared = None;
    crate::serve(|request, words| {
        Ok(match request {
            "prepare" => {
                let request: Request = words.parse()?;
                prepared = Some((Problem::<f64>::read(&request)?, request));
                "ready".to_owned()
            }
            "fit" => {
                let (l2, path) = words.split_once(' ').ok_or("fit wants L2 and PATH")?;
                let (problem, request) = prepared.as_ref().ok_or("nothing is prepared")?;
                let (time, theta) = fit(problem, request, l2.parse()?)?;
                crate::write_numbers(path, &theta)?;
                time.as_secs_f64().to_string()
            }
            _ => return Err(format!("unknown request {request:?}").into()),
        })
    })
}

fn ours(problem: &Problem<f64>, &Request { m, n, k, .. }: &Request, l2: f64) -> Fitted {
    let begin = Instant::now();
    let batch = Batch::new(MatRef::from_row_major_slice(&problem.x, m, n), &problem.labels)?;
    let model = SoftmaxRegression::fit(&batch, FitOptions::new(k).l2(l2))?;
    let time = begin.elapsed();
    let theta = model.theta();
    Ok((time, (0..=n).flat_map(|j| (0..k).map(move |c| theta[(j, c)])).collect()))
}

/// Its L-BFGS as far as it goes: until its gradient is below 1e-8, or its line search fails.
#[cfg(feature = "linfa")]
fn with_linfa(problem: &Problem<f64>, &Request { m, n, .. }: &Request, l2: f64) -> Fitted {
    let x = ndarray::Array2::from_shape_vec((m, n), problem.x.clone())?;
    let data = DatasetBase::new(x, ndarray::Array1::from(problem.labels.clone()));
    let begin = Instant::now();
    let model = linfa_logistic::MultiLogisticRegression::new()
        .alpha(l2)
        .gradient_tolerance(1e-8)
        .max_iterations(10_000)
        .check()?
        .fit(&data)?;
    let time = begin.elapsed();
    Ok((time, model.params().iter().chain(model.intercept()).copied().collect()))
}
