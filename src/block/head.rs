//! Losses and residuals of scores that come from elsewhere.

use super::{Problem, Task, check_scores};
use crate::batch::Targets;
use crate::error::{Error, Operand};
use crate::kernel::{MatrixCopy, PerSample, Real, SimdLevel, Span, Want};
use crate::options::Options;
use crate::schedule::Parallelism;
use crate::workspace::{BlockData, BlockScratch};
use core::ops::Range;
use faer::reborrow::IntoConst;
use faer::{MatMut, MatRef};

/// [`kernel::softmax_residual`](crate::kernel::softmax_residual) at a level.
pub(crate) fn residual_of_scores<T: Real>(
    mut scores: MatMut<'_, T>,
    targets: Targets<'_, T>,
    level: SimdLevel,
) -> Result<f64, Error> {
    let mut total = 0.0;
    for_scores(scores.shape(), targets, level, |problem, samples, block| {
        let part = scores.as_mut().subrows_mut(samples.start, samples.len());
        T::run_copy(MatrixCopy::new(part.as_ref(), problem.matrix(block.scores, samples.len())), level);
        total += problem.softmax(block, Want::Residual, None, Span::NOTHING);
        let residual = problem.matrix(block.scores, samples.len()).into_const();
        T::run_copy(MatrixCopy::new(residual, part), level);
    })?;
    Ok(total)
}

/// [`kernel::sample_losses`](crate::kernel::sample_losses) at a level.
pub(crate) fn losses_of_scores<T: Real>(
    scores: MatRef<'_, T>,
    targets: Targets<'_, T>,
    losses: &mut [T],
    log_sum_exp: &mut [T],
    level: SimdLevel,
) -> Result<f64, Error> {
    for (operand, found) in [(Operand::Losses, losses.len()), (Operand::LogSumExp, log_sum_exp.len())] {
        if found != scores.nrows() {
            return Err(Error::SampleCount { features: scores.nrows(), operand, found });
        }
    }
    let mut total = 0.0;
    for_scores(scores.shape(), targets, level, |problem, samples, block| {
        let part = scores.subrows(samples.start, samples.len());
        T::run_copy(MatrixCopy::new(part, problem.matrix(block.scores, samples.len())), level);
        total += problem.softmax(block, Want::Loss, Some(&mut losses[samples.clone()]), Span::NOTHING);
        let PerSample { top, tail, .. } = &block.per_sample;
        for (out, (&top, &tail)) in log_sum_exp[samples].iter_mut().zip(top.iter().zip(&**tail)) {
            *out = top + tail;
        }
    })?;
    Ok(total)
}

/// Runs `work` on every block of scores that come from elsewhere, its labels and targets prepared.
fn for_scores<T: Real>(
    (samples, classes): (usize, usize),
    targets: Targets<'_, T>,
    level: SimdLevel,
    mut work: impl FnMut(&Problem<'_, T>, Range<usize>, &mut BlockData<'_, T>),
) -> Result<(), Error> {
    if targets.samples() != samples {
        let found = targets.samples();
        return Err(Error::SampleCount { features: samples, operand: Operand::Targets, found });
    }
    check_scores(samples, classes)?;
    targets.check_all(classes)?;

    let options = Options::default();
    // No features, and none that lie apart.
    let features = MatRef::from_column_major_slice_with_stride(&[], 0, samples, 1).transpose();
    let theta = MatRef::from_column_major_slice(&[], 0, classes);
    let (task, parallelism) = (Task::Value, Parallelism::Serial);
    let problem =
        Problem::new(features.into(), theta, Some(targets), &options, task, level, parallelism, None);
    let mut scratch = BlockScratch::new();
    scratch.reserve(problem.sizes())?;
    for block in 0..problem.plan.blocks() {
        let samples = problem.plan.samples_of(block..block + 1);
        let (mut block, _) = scratch.data(samples.len());
        problem.prepare(samples.clone(), &mut block);
        work(&problem, samples, &mut block);
    }
    Ok(())
}
