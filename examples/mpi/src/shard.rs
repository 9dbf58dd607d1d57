//! A rank's samples as its part of a function of Θ.

use crate::agreement::{Disagreement, same_shape};
use crate::guard::problem;
use crate::reduce::{Buffer, all_reduce};
use argmin::core::Error;
use faer::{MatMut, MatRef};
use mpi::traits::Communicator;
use softmax_regression::solver::{Evaluate, Problem};
use softmax_regression::{Accumulator, Batch, Objective, Workspace};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Which of so many samples are those of a rank: neighbours, and on no rank more than one more than on another.
pub fn share(samples: usize, rank: i32, ranks: i32) -> Range<usize> {
    let bound = |rank: i32| (samples as u128 * rank as u128 / ranks as u128) as usize;
    bound(rank)..bound(rank + 1)
}

/// The samples of this rank, and an objective of the samples of all: loss and gradient of all are its
/// [`loss_and_gradient`](Evaluate::loss_and_gradient), for which every rank must ask at the same Θ.
///
/// It may have no samples.
#[derive(Debug)]
pub struct Shard<'a, C> {
    world: &'a C,
    objective: Objective,
    batch: Batch<'a, f64>,
    rows: usize,
    classes: usize,
    accumulator: Accumulator<f64>,
    workspace: Workspace<f64>,
    buffer: Buffer,
    spent: Spent,
}

/// What the evaluations of a [`Shard`] took on this rank.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// How many there were.
    pub evaluations: u64,
    /// Time in the loss and gradient of this rank's samples.
    pub computation: Duration,
    /// Time in the allreduce, packing included, and the wait for ranks that come to it later.
    pub communication: Duration,
}

impl<'a, C: Communicator> Shard<'a, C> {
    /// This rank's batch of samples of so many classes. All ranks must call it.
    ///
    /// # Errors
    /// [`Disagreement::Shape`], on all ranks, if they have other numbers of features or classes.
    pub fn new(
        world: &'a C,
        objective: Objective,
        batch: Batch<'a, f64>,
        classes: usize,
    ) -> Result<Self, Disagreement> {
        let rows = objective.theta_rows(batch.features().features());
        same_shape(world, (rows, classes))?;
        Ok(Self {
            world,
            objective,
            batch,
            rows,
            classes,
            accumulator: Accumulator::new(rows, classes),
            workspace: Workspace::new(),
            buffer: Buffer::default(),
            spent: Spent::default(),
        })
    }

    /// Rows and columns of Θ.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.classes)
    }

    /// The numbers of Θ.
    pub fn parameters(&self) -> usize {
        self.rows * self.classes
    }

    /// The numbers that a rank sends an evaluation: the gradient, the loss, and the total weight.
    pub fn numbers_sent(&self) -> usize {
        self.parameters() + 2
    }

    /// What the evaluations took so far.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// For argmin's solvers: as [`problem`] of its loss and gradient, so an evaluation that fails ends the job. The shard
    /// is free again when the problem is gone.
    pub fn problem(&mut self) -> Problem<impl Evaluate<f64>, f64> {
        let (world, shape) = (self.world, self.shape());
        problem(world, shape, |theta: MatRef<'_, f64>, gradient: MatMut<'_, f64>| {
            self.loss_and_gradient(theta, gradient)
        })
    }
}

impl<C: Communicator> Evaluate<f64> for Shard<'_, C> {
    /// # Errors
    /// Those of [`Objective::accumulate`], which strike one rank alone, and those of [`Accumulator::finish`].
    fn loss_and_gradient(&mut self, theta: MatRef<'_, f64>, gradient: MatMut<'_, f64>) -> Result<f64, Error> {
        let begin = Instant::now();
        self.accumulator.clear();
        self.objective.accumulate(&self.batch, theta, &mut self.accumulator, &mut self.workspace)?;
        let computed = Instant::now();
        all_reduce(self.world, &mut self.accumulator, &mut self.buffer);
        self.spent.communication += computed.elapsed();
        self.spent.computation += computed - begin;
        self.spent.evaluations += 1;
        // Mean and penalty are of all samples: once, after the sum.
        Ok(self.accumulator.finish(&self.objective, theta, gradient)?)
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn every_sample_is_of_one_rank() {
        for (samples, ranks) in [(0, 1), (1, 3), (2, 3), (1797, 1), (1797, 2), (1797, 7)] {
            let shares: Vec<_> = (0..ranks).map(|rank| share(samples, rank, ranks)).collect();
            assert!(shares.iter().cloned().flatten().eq(0..samples), "{shares:?}");
            let (least, most) = (samples / ranks as usize, samples.div_ceil(ranks as usize));
            assert!(shares.iter().all(|share| (least..=most).contains(&share.len())), "{shares:?}");
        }
    }
}
