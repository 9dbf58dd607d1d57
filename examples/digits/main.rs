//! The main job on real data: learn to read handwritten digits, `cargo run --release --example digits`.
//!
//! Softmax regression on the 1797 images of `data/digits.csv`, 8×8 pixels each: L-BFGS, from the crate `argmin`, asks
//! for J(Θ) and ∇J(Θ) until the gradient vanishes; this crate answers. (Who wants the model and not the way to it needs
//! `SoftmaxRegression::fit` alone.) Shown on the way:
//!
//! - [`Problem`] makes of the objective and a [`Batch`] what argmin's solvers take, one pass over the data a point;
//! - a [`Batch`] is made once and evaluated often, with one [`Workspace`]: a warm call allocates nothing;
//! - Θ is n×K and column k is θ⁽ᵏ⁾, so an optimiser's flat vector is viewed as Θ, column by column, without a copy;
//! - an intercept and a ridge penalty are two options of the [`Objective`]. The penalty is needed: a linear model
//!   separates the training images, so without it ‖Θ‖ would grow for ever;
//! - [`Objective::loss`] for the loss curves, [`Objective::predict`] for the accuracy.
//!
//! Every fourth image of each digit, in the order of the file, is held out as a test. (It does not say who
//! wrote which. A writer's digits may be in both parts, which flatters the accuracy.) Θ and the loss curves are drawn
//! to `target/digits.png`.

#[path = "../support/digits.rs"]
mod digits;
mod plot;
#[path = "../support/progress.rs"]
mod progress;

use argmin::core::observers::{Observe, ObserverMode};
use argmin::core::{Executor, IterState, KV, State};
use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
use digits::{CLASSES, Digits, PIXELS, read_digits};
use faer::{MatMut, MatRef};
use progress::Progress;
use softmax_regression::{Batch, Objective, Reduction, Workspace, solver::Problem};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Rows of Θ: a pixel each, and the intercepts.
const ROWS: usize = PIXELS + 1;
/// λ of ½·λ‖Θ‖². About 1/m: a prior of variance 1 on each pixel's coefficient.
const RIDGE: f64 = 1e-3;
/// L-BFGS stops where ‖∇J‖ is below. J, λ-strongly convex but for the intercepts, is then within ‖∇J‖²/2λ = 5e-6 of
/// its minimum.
const TOLERANCE: f64 = 1e-4;

fn main() -> Result<()> {
    let (train, test) = read_digits()?;
    let (train, test) = (Images::new(train), Images::new(test));
    let (train_batch, test_batch) = (train.batch()?, test.batch()?);
    println!("{} images to train on, {} to test on", train_batch.samples(), test_batch.samples());

    let objective = Objective::default().reduction(Reduction::Mean).intercept(true);
    let visited = Rc::new(RefCell::new(Vec::new()));
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10)
        .with_tolerance_grad(TOLERANCE)?
        .with_tolerance_cost(0.0)?;
    let problem = Problem::new(objective.clone().l2(RIDGE), train_batch, CLASSES);
    let outcome = Executor::new(problem.clone(), solver)
        .configure(|state| state.param(vec![0.0; ROWS * CLASSES]).max_iters(500))
        .add_observer(
            Observer { progress: Progress::new(TOLERANCE), visited: visited.clone() },
            ObserverMode::Always,
        )
        .run()?;
    let visited = visited.take();
    let best = visited.last().ok_or("the optimiser visited no point")?;

    let mut workspace = Workspace::new();
    let mut predicted = vec![0; test_batch.samples()];
    objective.predict(test_batch.features(), theta(best), &mut predicted, &mut workspace)?;
    let correct = predicted.iter().zip(&test.labels).filter(|&(&p, &label)| p == u32::from(label)).count();
    let accuracy = correct as f64 / predicted.len() as f64;

    let mut curve = |batch| -> Result<Vec<f64>> {
        visited.iter().map(|point| Ok(objective.loss(&batch, theta(point), &mut workspace)?)).collect()
    };
    let (train_losses, test_losses) = (curve(train_batch)?, curve(test_batch)?);

    let mut gradient = vec![0.0; ROWS * CLASSES];
    let seconds = median_seconds(500, || {
        let gradient = MatMut::from_column_major_slice_mut(&mut gradient, ROWS, CLASSES);
        objective.loss_and_gradient(&train_batch, theta(best), gradient, &mut workspace)?;
        Ok(())
    })?;

    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/digits.png");
    plot::draw(&picture, &train_losses, &test_losses, theta(best).subrows(0, PIXELS))?;

    println!("trained in     {} iterations: {}", outcome.state.get_iter(), outcome.state.termination_status);
    println!("evaluations    {} of loss and gradient", problem.counts().evaluations);
    println!("one of them    {:.1} µs, the median of 500", seconds * 1e6);
    println!("train loss     {:.4}", train_losses[train_losses.len() - 1]);
    println!("test loss      {:.4}", test_losses[test_losses.len() - 1]);
    println!("test accuracy  {:.1} %, {correct} of {}", 100.0 * accuracy, predicted.len());
    println!("picture        {}", picture.display());
    if accuracy < 0.95 { Err("the test accuracy should be 95 % at least".into()) } else { Ok(()) }
}

/// Images, one a row of X, with their labels.
struct Images {
    x: Vec<f64>,
    labels: Vec<u8>,
}

impl Images {
    fn new(digits: Digits) -> Self {
        let x = digits.pixels.into_iter().flatten().map(f64::from).collect();
        Self { x, labels: digits.labels }
    }

    fn batch(&self) -> Result<Batch<'_, f64>> {
        let x = MatRef::from_row_major_slice(&self.x, self.labels.len(), PIXELS);
        Ok(Batch::new(x, &self.labels)?)
    }
}

/// The optimiser's flat vector as Θ, its columns one after the other.
fn theta(point: &[f64]) -> MatRef<'_, f64> {
    MatRef::from_column_major_slice(point, ROWS, CLASSES)
}

/// Shows how far the training is, and keeps the points it went through.
struct Observer {
    progress: Progress,
    visited: Rc<RefCell<Vec<Vec<f64>>>>,
}

type Iteration = IterState<Vec<f64>, Vec<f64>, (), (), (), f64>;

impl Observer {
    fn see(&mut self, state: &Iteration) {
        let mut visited = self.visited.borrow_mut();
        self.progress.show(visited.len() as u64, state.get_cost(), gradient_norm(state));
        visited.extend(state.get_param().cloned());
    }
}

impl Observe<Iteration> for Observer {
    fn observe_init(&mut self, _: &str, state: &Iteration, _: &KV) -> Result<(), argmin::core::Error> {
        self.see(state);
        Ok(())
    }

    fn observe_iter(&mut self, state: &Iteration, _: &KV) -> Result<(), argmin::core::Error> {
        self.see(state);
        Ok(())
    }

    fn observe_final(&mut self, _: &Iteration) -> Result<(), argmin::core::Error> {
        self.progress.end();
        Ok(())
    }
}

fn gradient_norm(state: &Iteration) -> f64 {
    state.get_gradient().map_or(f64::NAN, |gradient| gradient.iter().map(|g| g * g).sum::<f64>().sqrt())
}

/// The median time of a call, the first few not counted.
fn median_seconds(calls: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    for _ in 0..20 {
        call()?;
    }
    let mut seconds = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        call()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[calls / 2])
}
