//! The way down: argmin's L-BFGS, driven step by step, and when to give up.

use super::Step;
use crate::solver::{Evaluate, Problem};
use argmin::core::{IterState, Problem as Counted, Solver, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;

type Lbfgs = LBFGS<MoreThuenteLineSearch<Vec<f64>, Vec<f64>, f64>, Vec<f64>, Vec<f64>, f64>;

/// argmin's L-BFGS, a step at a time.
pub(super) struct Descent<E> {
    problem: Problem<E, f64>,
    /// Where it is.
    pub(super) point: Vec<f64>,
    pub(super) iterations: u64,
    solver: Lbfgs,
    counted: Counted<Problem<E, f64>>,
    state: IterState<Vec<f64>, Vec<f64>, (), (), (), f64>,
}

impl<E: Evaluate<f64>> Descent<E> {
    /// Pairs of differences that are remembered.
    const MEMORY: usize = 20;

    pub(super) fn new(problem: Problem<E, f64>, point: Vec<f64>) -> Result<Self, argmin::core::Error> {
        let mut solver = LBFGS::new(MoreThuenteLineSearch::new(), Self::MEMORY);
        let mut counted = Counted::new(problem.clone());
        let (mut state, _) = solver.init(&mut counted, IterState::new().param(point.clone()))?;
        state.update();
        Ok(Self { problem, point, iterations: 0, solver, counted, state })
    }

    /// Whether there is a next point; then it is there. A line search that fails is tried once more without what is
    /// remembered.
    pub(super) fn step(&mut self) -> Result<bool, argmin::core::Error> {
        if self.try_step()? {
            return Ok(true);
        }
        let fresh = Self::new(self.problem.clone(), core::mem::take(&mut self.point))?;
        *self = Self { iterations: self.iterations, ..fresh };
        self.try_step()
    }

    fn try_step(&mut self) -> Result<bool, argmin::core::Error> {
        let state = core::mem::take(&mut self.state);
        let (mut state, _) = self.solver.next_iter(&mut self.counted, state)?;
        let Some(point) = state.get_param().filter(|&point| *point != self.point) else { return Ok(false) };
        self.point.clone_from(point);
        self.iterations += 1;
        state.update();
        state.increment_iter();
        self.state = state;
        Ok(true)
    }
}

/// Whether it is worth to go on.
pub(super) struct Hope {
    lowest_loss: f64,
    smallest_norm: f64,
    /// Steps since one of them was.
    barren: u64,
}

impl Hope {
    /// Steps in a row that bring neither a lower loss nor a smaller gradient, after which none will.
    const MOST_BARREN: u64 = 8;

    pub(super) fn new() -> Self {
        Self { lowest_loss: f64::INFINITY, smallest_norm: f64::INFINITY, barren: 0 }
    }

    pub(super) fn is_lost_at(&mut self, step: &Step) -> bool {
        let fruitful = step.loss < self.lowest_loss || step.scaled_gradient_norm < self.smallest_norm;
        self.barren = if fruitful { 0 } else { self.barren + 1 };
        self.lowest_loss = self.lowest_loss.min(step.loss);
        self.smallest_norm = self.smallest_norm.min(step.scaled_gradient_norm);
        self.barren > Self::MOST_BARREN
    }
}
