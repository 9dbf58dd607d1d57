//! Losses and residuals of scores that come from elsewhere.

use super::{Problem, Task, check_scores};
use crate::batch::{Kind, Targets};
use crate::error::{Error, Operand};
use crate::kernel::{Layout, MAX_LANES, MatrixCopy, PerSample, Real, Scores, SimdLevel, Span, Want};
use crate::options::Options;
use crate::schedule::Parallelism;
use crate::workspace::{BlockData, BlockScratch};
use core::ops::Range;
use faer::reborrow::IntoConst;
use faer::{MatMut, MatRef};

/// [`kernel::softmax_residual`](crate::kernel::softmax_residual) at a level.
pub(crate) fn residual_of_scores<T: Real>(
    scores: MatMut<'_, T>,
    targets: Targets<'_, T>,
    level: SimdLevel,
) -> Result<f64, Error> {
    let (samples, classes) = scores.shape();
    check(samples, classes, targets)?;
    let layout = layout_in_place(scores.as_ref(), targets);
    let count = match layout {
        None => 0,
        Some(Layout::ClassMajor) => samples - samples % MAX_LANES,
        Some(Layout::SampleMajor) => samples,
    };
    let (mut in_place, mut copied) = scores.split_at_row_mut(count);
    let mut total = 0.0;
    for_scores(0..count, classes, targets, level, layout, |problem, samples, block| {
        let part = in_place.as_mut().subrows_mut(samples.start, samples.len());
        let part = Scores::of(part, problem.plan.layout());
        total += problem.softmax_of(part, block, Want::Residual, None, Span::NOTHING);
    })?;
    for_scores(count..samples, classes, targets, level, None, |problem, samples, block| {
        let part = copied.as_mut().subrows_mut(samples.start - count, samples.len());
        T::run_copy(MatrixCopy::new(part.as_ref(), problem.matrix(block.scores, samples.len())), level);
        total += problem.softmax(block, Want::Residual, None, Span::NOTHING);
        let residual = problem.matrix(block.scores, samples.len()).into_const();
        T::run_copy(MatrixCopy::new(residual, part), level);
    })?;
    Ok(total)
}

/// The layout in which the kernel takes scores where they are, if they are not better copied: class-major, so many samples as
/// fill registers.
fn layout_in_place<T: Real>(scores: MatRef<'_, T>, targets: Targets<'_, T>) -> Option<Layout> {
    if matches!(targets.kind(), Kind::Soft(_)) {
        return None;
    }
    let (samples, classes) = scores.shape();
    let stride = scores.col_stride().unsigned_abs().saturating_mul(size_of::<T>());
    let evicts = stride.is_multiple_of(WAY_BYTES) && classes > WAYS;
    if scores.row_stride() == 1 && samples >= MAX_LANES && !evicts {
        Some(Layout::ClassMajor)
    } else if scores.col_stride() == 1 && classes.saturating_mul(size_of::<T>()) >= ROW_BYTES {
        Some(Layout::SampleMajor)
    } else {
        None
    }
}

/// Numbers so far apart have one place in a first-level cache, ...
const WAY_BYTES: usize = 4 << 10;

/// ... which is for so many of them.
const WAYS: usize = 8;

/// A row from which on lanes along it are worth a copy that they can do without.
const ROW_BYTES: usize = 768;

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
    let (samples, classes) = scores.shape();
    check(samples, classes, targets)?;
    let mut total = 0.0;
    for_scores(0..samples, classes, targets, level, None, |problem, samples, block| {
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

/// Whether there is a target for each sample, of one of the classes.
fn check<T: Real>(samples: usize, classes: usize, targets: Targets<'_, T>) -> Result<(), Error> {
    if targets.samples() != samples {
        let found = targets.samples();
        return Err(Error::SampleCount { features: samples, operand: Operand::Targets, found });
    }
    check_scores(samples, classes)?;
    targets.check_all(classes)
}

/// Runs `work` on every block of some samples whose scores come from elsewhere, its labels and targets prepared. With a layout, the
/// scores have it where they are, and need no other place.
fn for_scores<T: Real>(
    samples: Range<usize>,
    classes: usize,
    targets: Targets<'_, T>,
    level: SimdLevel,
    layout: Option<Layout>,
    mut work: impl FnMut(&Problem<'_, T>, Range<usize>, &mut BlockData<'_, T>),
) -> Result<(), Error> {
    if samples.is_empty() {
        return Ok(());
    }
    let options = Options::default();
    // No features, and none that lie apart.
    let features = MatRef::from_column_major_slice_with_stride(&[], 0, samples.len(), 1).transpose();
    let theta = MatRef::from_column_major_slice(&[], 0, classes);
    let (task, parallelism) = (Task::Value, Parallelism::Serial);
    let mut problem =
        Problem::new(features.into(), theta, Some(targets), &options, task, level, parallelism, None);
    let mut sizes = problem.sizes();
    if let Some(layout) = layout {
        problem.plan = problem.plan.with_layout(layout);
        sizes.plane = 0;
    }
    let mut scratch = BlockScratch::new();
    scratch.reserve(sizes)?;
    for block in 0..problem.plan.blocks() {
        let own = problem.plan.samples_of(block..block + 1);
        let own = samples.start + own.start..samples.start + own.end;
        let (mut block, _) = scratch.data(own.len());
        problem.prepare(own.clone(), &mut block);
        work(&problem, own, &mut block);
    }
    Ok(())
}
