//! Promise: argmin's solvers work on this crate's loss, and each point costs one pass over the data.

mod support;

use argmin::core::{CostFunction, Executor, Gradient, Hessian, IterState, Solver, State};
use argmin::solver::linesearch::{BacktrackingLineSearch, MoreThuenteLineSearch, condition::ArmijoCondition};
use argmin::solver::newton::NewtonCG;
use argmin::solver::quasinewton::LBFGS;
use argmin::solver::trustregion::{Steihaug, TrustRegion};
use argmin_math::ArgminDot;
use core::cell::{Cell, RefCell};
use faer::{Mat, MatMut, MatRef};
use softmax_regression::solver::{BatchLoss, Counts, Evaluate, HessianAt, Problem};
use softmax_regression::{Accumulator, Batch, Error, Objective, Workspace};
use std::rc::Rc;
use support::{Float, Random, for_each_float};

for_each_float!(answers, errors);

const SAMPLES: usize = 60;
const FEATURES: usize = 4;
const CLASSES: usize = 3;
const PARAMETERS: usize = (FEATURES + 1) * CLASSES;

fn objective() -> Objective {
    Objective::default().intercept(true).l2(2.0)
}

/// Samples that no Θ tells apart.
fn samples<T: Float>() -> (Mat<T>, Vec<u32>) {
    let mut random = Random::new(1);
    let x = random.matrix(SAMPLES, FEATURES, 1.0);
    (x, (0..SAMPLES).map(|_| random.below(CLASSES) as u32).collect())
}

fn theta<T>(point: &[T]) -> MatRef<'_, T> {
    MatRef::from_column_major_slice(point, FEATURES + 1, CLASSES)
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

type Found<T> = Result<T, argmin::core::Error>;

/// A problem, and how often it was asked what another point costs than the one before.
#[derive(Clone)]
struct Asked<'a> {
    problem: Problem<BatchLoss<'a, f64>, f64>,
    last: Rc<RefCell<Vec<f64>>>,
    new_costs: Rc<Cell<u64>>,
}

impl Asked<'_> {
    /// Whether it is another point than the last.
    fn is_new(&self, point: &Vec<f64>) -> bool {
        self.last.replace(point.clone()) != *point
    }
}

impl CostFunction for Asked<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, point: &Vec<f64>) -> Found<f64> {
        self.new_costs.set(self.new_costs.get() + u64::from(self.is_new(point)));
        self.problem.cost(point)
    }
}

impl Gradient for Asked<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, point: &Vec<f64>) -> Found<Vec<f64>> {
        self.is_new(point);
        self.problem.gradient(point)
    }
}

impl<'a> Hessian for Asked<'a> {
    type Param = Vec<f64>;
    type Hessian = HessianAt<BatchLoss<'a, f64>, f64>;

    fn hessian(&self, point: &Vec<f64>) -> Found<Self::Hessian> {
        self.is_new(point);
        self.problem.hessian(point)
    }
}

type Newton<H> = IterState<Vec<f64>, Vec<f64>, (), H, (), f64>;

/// What was asked, what was computed; how often the cost of a new point was asked for; the minimum that was found.
fn minimise<'a, H, S>(batch: Batch<'a, f64>, solver: S, iterations: u64) -> (Counts, u64, f64)
where
    H: Clone,
    S: Solver<Asked<'a>, Newton<H>>,
    Newton<H>: State<Param = Vec<f64>, Float = f64>,
{
    let problem = Problem::new(objective(), batch, CLASSES);
    let asked = Asked { problem: problem.clone(), last: Rc::default(), new_costs: Rc::default() };
    let outcome = Executor::new(asked.clone(), solver)
        .configure(|state| state.param(vec![0.0; PARAMETERS]).max_iters(iterations))
        .run()
        .unwrap();
    let counts = problem.counts();
    println!("{iterations} iterations at most: {counts:?}");
    let point = outcome.state.get_best_param().unwrap();
    let gradient = problem.gradient(point).unwrap();
    // J is at most ‖∇J‖²/2λ above its minimum where Θ is penalised.
    assert!(norm(&gradient) < 1e-6, "{gradient:?}");
    (counts, asked.new_costs.get(), outcome.state.get_best_cost())
}

/// Their minima, and what each would have cost without the memory of the last point.
#[test]
fn solvers() {
    let (x, labels) = samples::<f64>();
    let batch = Batch::new(&x, &labels).unwrap();
    let line_search = MoreThuenteLineSearch::new();
    let lbfgs = LBFGS::new(line_search.clone(), 7).with_tolerance_grad(1e-8).unwrap();
    let (counts, new_costs, minimum) = minimise::<(), _>(batch, lbfgs, 100);
    assert!(counts.gradients + counts.costs > 2 * counts.evaluations, "{counts:?}");
    // Each point's cost is asked for first, so that no gradient costs anything, nor does a point again.
    assert_eq!(new_costs, counts.evaluations, "{counts:?}");

    let backtracking = BacktrackingLineSearch::new(ArmijoCondition::new(1e-4).unwrap());
    let newton_cg = NewtonCG::new(backtracking);
    let trust_region = TrustRegion::new(Steihaug::new());
    for (name, (counts, _, found)) in
        [("Newton-CG", minimise(batch, newton_cg, 100)), ("trust region", minimise(batch, trust_region, 12))]
    {
        assert!((found - minimum).abs() <= 1e-12 * minimum, "{name}: {found} instead of {minimum}");
        assert!(3 * (counts.costs + counts.gradients) >= 5 * counts.evaluations, "{name}: {counts:?}");
        // Mostly two questions a direction; those about 0 cost nothing.
        assert!(2 * counts.products >= 3 * counts.product_evaluations, "{name}: {counts:?}");
    }
}

/// They are the objective's own.
fn answers<T: Float>() {
    let (x, labels) = samples::<T>();
    let batch = Batch::new(&x, &labels).unwrap();
    let problem = Problem::new(objective(), batch, CLASSES);
    let mut random = Random::new(2);
    let mut draw = || (0..PARAMETERS).map(|_| T::of(random.symmetric())).collect::<Vec<T>>();
    let (point, other, direction) = (draw(), draw(), draw());

    let mut workspace = Workspace::new();
    let mut expected = vec![T::of(0.0); PARAMETERS];
    let view = MatMut::from_column_major_slice_mut(&mut expected, FEATURES + 1, CLASSES);
    let loss = objective().loss_and_gradient(&batch, theta(&point), view, &mut workspace).unwrap();
    for _ in 0..2 {
        assert_eq!(problem.gradient(&point).unwrap(), expected);
        assert_eq!(problem.cost(&point).unwrap(), T::of(loss));
        assert_ne!(problem.gradient(&other).unwrap(), expected);
    }
    assert_eq!(problem.counts().evaluations, 4);

    // The Hessian stays that of its point.
    let hessian = problem.hessian(&point).unwrap();
    problem.cost(&other).unwrap();
    let view = MatMut::from_column_major_slice_mut(&mut expected, FEATURES + 1, CLASSES);
    objective().hessian_product(&batch, theta(&point), theta(&direction), view, &mut workspace).unwrap();
    let before = problem.counts();
    assert_eq!(hessian.dot(&direction), expected);
    assert_eq!(hessian.clone().dot(&direction), expected);
    assert_eq!(hessian.dot(&vec![T::of(0.0); PARAMETERS]), vec![T::of(0.0); PARAMETERS]);
    assert_eq!(problem.counts().products - before.products, 3);
    assert_eq!(problem.counts().product_evaluations - before.product_evaluations, 1);
}

/// They come through typed, and leave no wrong answer behind.
fn errors<T: Float>() {
    let (x, labels) = samples::<T>();
    let batch = Batch::new(&x, &labels).unwrap();
    let problem = Problem::new(objective(), batch, CLASSES);
    let typed = |error: argmin::core::Error| error.downcast::<Error>().unwrap();
    let short = vec![T::of(0.0); PARAMETERS - 1];
    let expected = Error::ParameterCount { expected: PARAMETERS, found: PARAMETERS - 1 };
    assert_eq!(typed(problem.cost(&short).unwrap_err()), expected);
    assert_eq!(typed(problem.hessian(&short).err().unwrap()), expected);

    let zeros = vec![T::of(0.0); PARAMETERS];
    let wrong = Problem::new(objective(), batch, CLASSES - 1);
    let expected = Error::LabelOutOfRange {
        sample: labels.iter().position(|&label| label as usize == CLASSES - 1).unwrap(),
        label: CLASSES as i128 - 1,
        classes: CLASSES - 1,
    };
    assert_eq!(typed(wrong.gradient(&zeros[FEATURES + 1..].to_vec()).unwrap_err()), expected);

    let mut poisoned = x.clone();
    poisoned[(3, 1)] = T::of(f64::NAN);
    let problem = Problem::new(objective(), Batch::new(&poisoned, &labels).unwrap(), CLASSES);
    assert!(problem.cost(&zeros).unwrap().value().is_nan());
    let Error::NotFinite { at, value } = typed(problem.hessian(&zeros).err().unwrap()) else { panic!() };
    assert!(value.is_nan() && at < PARAMETERS);

    // One that fails in between.
    let mut calls = 0;
    let function = |theta: MatRef<'_, T>, mut gradient: MatMut<'_, T>| {
        calls += 1;
        gradient.fill(theta[(0, 0)]);
        if calls == 2 { Err(argmin::core::Error::msg("no more")) } else { Ok(theta[(0, 0)].value()) }
    };
    let problem = Problem::from_fn(FEATURES + 1, CLASSES, function);
    let (ones, twos) = (vec![T::of(1.0); PARAMETERS], vec![T::of(2.0); PARAMETERS]);
    assert_eq!(problem.cost(&ones).unwrap().value(), 1.0);
    assert_eq!(problem.cost(&twos).unwrap_err().to_string(), "no more");
    assert_eq!(problem.gradient(&ones).unwrap(), ones);
    assert_eq!(problem.gradient(&twos).unwrap(), twos);
}

/// Batches that arrive one after another are a function of Θ as well.
#[test]
fn streams() {
    let (x, labels) = samples::<f64>();
    let (mut accumulator, mut workspace) = (Accumulator::new(FEATURES + 1, CLASSES), Workspace::new());
    let objective = objective();
    let stream = |theta: MatRef<'_, f64>, gradient: MatMut<'_, f64>| {
        accumulator.clear();
        for start in (0..SAMPLES).step_by(25) {
            let count = (SAMPLES - start).min(25);
            let batch = Batch::new(x.subrows(start, count), &labels[start..start + count])?;
            objective.accumulate(&batch, theta, &mut accumulator, &mut workspace)?;
        }
        Ok(accumulator.finish(&objective, theta, gradient)?)
    };
    fn minimum(problem: Problem<impl Evaluate<f64>, f64>) -> f64 {
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), 7);
        let outcome =
            Executor::new(problem, solver).configure(|state| state.param(vec![0.0; PARAMETERS])).run();
        outcome.unwrap().state.get_best_cost()
    }
    let found = minimum(Problem::from_fn(FEATURES + 1, CLASSES, stream));
    let whole = minimum(Problem::new(objective.clone(), Batch::new(&x, &labels).unwrap(), CLASSES));
    assert!((found - whole).abs() <= 1e-14 * whole, "{found} instead of {whole}");
}
