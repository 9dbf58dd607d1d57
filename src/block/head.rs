//! Losses and residuals of scores that come from elsewhere.

use super::{Problem, Task, check_scores};
use crate::batch::{Kind, Targets};
use crate::error::{Error, Operand};
use crate::kernel::{Layout, MAX_LANES, PerSample, Real, Scores, SimdLevel, Span, Want};
use crate::options::Options;
use crate::schedule::{MOST_CLASS_MAJOR, Parallelism};
use crate::workspace::{BlockData, BlockScratch, Sizes};
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
    let options = Options::default();
    let problem = |count| problem_of(count, classes, targets, &options, level);
    let mut scratch = BlockScratch::new();
    if 0 < count && count < samples {
        // What the others need too, before anything is written.
        scratch.reserve(problem(samples - count).sizes())?;
    }

    let (mut in_place, mut copied) = scores.split_at_row_mut(count);
    let mut total = 0.0;
    if let Some(layout) = layout {
        let mut problem = problem(count);
        problem.plan = problem.plan.with_layout(layout);
        scratch.reserve(Sizes { plane: 0, ..problem.sizes() })?;
        problem.for_blocks(0, &mut scratch, |samples, block| {
            let part = in_place.as_mut().subrows_mut(samples.start, samples.len());
            let part = Scores::of(part, problem.plan.layout());
            total += problem.softmax_of(part, block, Want::Residual, None, Span::NOTHING);
        });
    }
    if count < samples {
        let problem = problem(samples - count);
        scratch.reserve(problem.sizes())?;
        problem.for_blocks(count, &mut scratch, |samples, block| {
            let part = copied.as_mut().subrows_mut(samples.start - count, samples.len());
            problem.copy(part.as_ref(), problem.matrix(block.scores, samples.len()));
            total += problem.softmax(block, Want::Residual, None, Span::NOTHING);
            let residual = problem.matrix(block.scores, samples.len()).into_const();
            problem.copy(residual, part);
        });
    }
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
    let are_many = samples >= MAX_LANES && samples * classes >= LEAST_SCORES;
    if scores.row_stride() == 1 && are_many && classes < MOST_CLASS_MAJOR && !evicts {
        Some(Layout::ClassMajor)
    } else if scores.col_stride() == 1 && classes.saturating_mul(size_of::<T>()) >= ROW_BYTES {
        Some(Layout::SampleMajor)
    } else {
        None
    }
}

/// Scores that are worth a kernel of its own for the last samples.
const LEAST_SCORES: usize = 1 << 11;

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
    let options = Options::default();
    let problem = problem_of(samples, classes, targets, &options, level);
    let mut scratch = BlockScratch::new();
    scratch.reserve(problem.sizes())?;
    let mut total = 0.0;
    problem.for_blocks(0, &mut scratch, |samples, block| {
        let part = scores.subrows(samples.start, samples.len());
        problem.copy(part, problem.matrix(block.scores, samples.len()));
        total += problem.softmax(block, Want::Loss, Some(&mut losses[samples.clone()]), Span::NOTHING);
        let PerSample { top, tail, .. } = &block.per_sample;
        for (out, (&top, &tail)) in log_sum_exp[samples].iter_mut().zip(top.iter().zip(&**tail)) {
            *out = top + tail;
        }
    });
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

/// Some samples whose scores come from elsewhere: no features, and none that lie apart.
fn problem_of<'a, T: Real>(
    samples: usize,
    classes: usize,
    targets: Targets<'a, T>,
    options: &'a Options,
    level: SimdLevel,
) -> Problem<'a, T> {
    let features = MatRef::from_column_major_slice_with_stride(&[], 0, samples, 1).transpose();
    let theta = MatRef::from_column_major_slice(&[], 0, classes);
    let (task, parallelism) = (Task::Gradients, Parallelism::Serial);
    Problem::new(features.into(), theta, Some(targets), options, task, level, parallelism, None)
}

impl<T: Real> Problem<'_, T> {
    /// Runs `work` on every block, labels and targets prepared: those from `first` on, from which its samples are counted.
    fn for_blocks(
        &self,
        first: usize,
        scratch: &mut BlockScratch<T>,
        mut work: impl FnMut(Range<usize>, &mut BlockData<'_, T>),
    ) {
        for block in 0..self.plan.blocks() {
            let Range { start, end } = self.plan.samples_of(block..block + 1);
            let samples = first + start..first + end;
            let (mut block, _) = scratch.data(samples.len());
            self.prepare(samples.clone(), &mut block);
            work(samples, &mut block);
        }
    }
}
