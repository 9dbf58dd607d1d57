//! linfa's multinomial logistic regression. It keeps its loss and gradient to itself, so they are seen through `fit`:
//!
//! - `fit` with no iterations checks the data, encodes the labels, and computes loss and gradient once, at Θ;
//! - `fit` with a starting point of the wrong shape fails after the checks and the encoding;
//! - the difference is the evaluation. One iteration moves Θ along the gradient, which shows its direction.

use crate::engine::Engine;
use crate::problem::{Number, Problem, Request};
use linfa::prelude::{DatasetBase, Fit, ParamGuard};
use linfa_logistic::MultiLogisticRegression;
use linfa_logistic::error::Error as LinfaError;
use ndarray::{Array1, Array2, NdFloat};
use std::error::Error;
use std::time::{Duration, Instant};

/// How often the time before an evaluation is measured.
const OVERHEAD_RUNS: usize = 5;

type Data<F> = DatasetBase<Array2<F>, Array1<u32>>;

/// linfa's own trait for floats is private, so nothing can be generic over it.
trait Regress: NdFloat + Number {
    /// Θ after so many iterations from `theta`, without intercept and penalty, and the time they took.
    fn fit(
        data: &Data<Self>,
        theta: Array2<Self>,
        iterations: u64,
    ) -> (Duration, Result<Array2<Self>, LinfaError>);
}

macro_rules! regress {
    ($float:ty) => {
        impl Regress for $float {
            fn fit(
                data: &Data<Self>,
                theta: Array2<Self>,
                iterations: u64,
            ) -> (Duration, Result<Array2<Self>, LinfaError>) {
                let regression = MultiLogisticRegression::new()
                    .alpha(0.0)
                    .with_intercept(false)
                    .max_iterations(iterations)
                    .initial_params(theta);
                let start = Instant::now();
                let fitted = regression.check().and_then(|regression| regression.fit(data));
                (start.elapsed(), fitted.map(|fitted| fitted.params().clone()))
            }
        }
    };
}

regress!(f32);
regress!(f64);

struct Linfa<F> {
    data: Data<F>,
    theta: Array2<F>,
    /// Time that `fit` takes before it evaluates anything.
    overhead: Duration,
}

pub(crate) fn prepare(request: &Request) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    Ok(if request.is_f64 {
        Box::new(Linfa::<f64>::new(request)?)
    } else {
        Box::new(Linfa::<f32>::new(request)?)
    })
}

impl<F: Regress> Linfa<F> {
    fn new(request: &Request) -> Result<Self, Box<dyn Error>> {
        let problem = Problem::<F>::read(request)?;
        let x = Array2::from_shape_vec((request.m, request.n), problem.x)?;
        let data = DatasetBase::new(x, Array1::from(problem.labels));
        let theta = Array2::from_shape_vec((request.n, request.k), problem.theta)?;

        let misfit = Array2::zeros((request.n + 1, request.k));
        let mut overheads = Vec::new();
        for _ in 0..OVERHEAD_RUNS {
            let (time, fitted) = F::fit(&data, misfit.clone(), 0);
            if fitted.is_ok() {
                return Err("linfa took a starting point of the wrong shape".into());
            }
            overheads.push(time);
        }
        overheads.sort();
        Ok(Self { data, theta, overhead: overheads[OVERHEAD_RUNS / 2] })
    }
}

impl<F: Regress> Engine for Linfa<F> {
    fn evaluate(&mut self) -> Result<Duration, Box<dyn Error>> {
        let (time, fitted) = F::fit(&self.data, self.theta.clone(), 0);
        fitted?;
        Ok(time.saturating_sub(self.overhead))
    }

    fn result(&mut self) -> Result<(f64, Vec<f64>), Box<dyn Error>> {
        let (_, moved) = F::fit(&self.data, self.theta.clone(), 1);
        let step = &self.theta - &moved?;
        Ok((f64::NAN, step.iter().map(|s| s.to_f64().unwrap_or(f64::NAN)).collect()))
    }
}
