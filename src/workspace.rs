//! Scratch that outlives an evaluation, so that the next one need not allocate.

use crate::Error;
use crate::block::{Linear, Problem};
use crate::kernel::{MAX_LANES, PER_SAMPLE, PerSample, Real};
use crate::schedule::{MatrixOrder, Partials, Run, Threads};
use faer::reborrow::IntoConst;
use faer::{MatMut, MatRef};
use std::sync::{Mutex, PoisonError};

/// Scratch memory for evaluations, owned by the caller. Make it once, pass it to every call.
///
/// It grows to what the largest evaluation so far needed and then stays: a call whose shapes are not larger than those
/// of an earlier one allocates nothing. (Two things outside it can: a thread's first product of many classes reserves a
/// packing buffer, faer's or 1 MiB of this crate's, and for a call from outside a rayon pool, rayon makes a small job for
/// each thread that helps. In `ThreadPool::install` it does not.)
#[derive(Debug)]
pub struct Workspace<T> {
    slots: Vec<Mutex<BlockScratch<T>>>,
    theta: Vec<T>,
    direction: Vec<T>,
    partials: Vec<T>,
    losses: Vec<f64>,
}

impl<T: Real> Workspace<T> {
    /// An empty workspace. Allocates nothing.
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            theta: Vec::new(),
            direction: Vec::new(),
            partials: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        let block =
            |slot: &Mutex<BlockScratch<T>>| slot.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        let numbers = [&self.theta, &self.direction, &self.partials];
        self.slots.iter().map(block).sum::<usize>()
            + numbers.iter().map(|numbers| numbers.capacity() * size_of::<T>()).sum::<usize>()
            + self.losses.capacity() * size_of::<f64>()
    }
}

impl<T: Real> Default for Workspace<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> Workspace<T> {
    /// Scratch for a problem, for each thread that works on a block. Its Θ, and its direction, may become a copy that the
    /// products read faster.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn reserve<'a>(&'a mut self, problem: &mut Problem<'a, T>) -> Result<Parts<'a, T>, Error> {
        let (plan, threads) = (problem.plan, problem.threads);
        let timer = problem.case.map(|case| case.timer(threads != Threads::One));
        // For a later one too, which threads may share.
        let count = problem.case.map_or(threads.count(), |case| case.threads());
        let slots = if plan.in_pieces() { 1 } else { count };
        if self.slots.len() < slots {
            let more = slots - self.slots.len();
            reserved(self.slots.try_reserve_exact(more), more.saturating_mul(size_of::<BlockScratch<T>>()))?;
            self.slots.resize_with(slots, || Mutex::new(BlockScratch::new()));
        }
        let sizes = problem.sizes();
        for slot in &mut self.slots[..slots] {
            slot.get_mut().unwrap_or_else(PoisonError::into_inner).reserve(sizes)?;
        }
        grow(&mut self.losses, plan.blocks(), 0.0)?;
        let rows = problem.options.theta_rows(problem.features.features());
        let partials = plan.partials(rows);
        let place = match partials.len() {
            0 => &mut [][..],
            len => aligned(&mut self.partials, len)?,
        };
        problem.theta = put_in_order(problem, problem.theta, &mut self.theta)?;
        if let Some(direction) = problem.direction {
            problem.direction = Some(put_in_order(problem, direction, &mut self.direction)?);
        }
        Ok(Parts {
            run: Run { plan, threads, _timer: timer, slots: &self.slots[..slots] },
            partials,
            place,
            losses: &mut self.losses[..plan.blocks()],
        })
    }
}

/// A linear map in the order that the products like best: a copy, if it is not in that order.
fn put_in_order<'a, T: Real>(
    problem: &Problem<'_, T>,
    map: Linear<'a, T>,
    copy: &'a mut Vec<T>,
) -> Result<Linear<'a, T>, Error> {
    let (plan, matrix) = (&problem.plan, map.matrix);
    let (rows, cols) = matrix.shape();
    if plan.is_sparse() {
        let stride = plan.padded_classes();
        let count = rows + usize::from(map.intercept.is_some());
        let data = aligned(copy, count.saturating_mul(stride))?;
        let mut copy = |first: usize, from: MatRef<'_, T>| {
            let to = &mut data[first * stride..][..from.nrows() * stride];
            for row in to.chunks_exact_mut(stride) {
                // Not what an earlier problem left: it could be no number.
                row[cols..].fill(T::ZERO);
            }
            let to = MatMut::from_column_major_slice_with_stride_mut(to, cols, from.nrows(), stride);
            problem.copy(from, to.transpose_mut());
        };
        // A few at a time, so that they stay in a cache between the two steps.
        for first in (0..rows).step_by(ROWS_TOGETHER) {
            copy(first, matrix.subrows(first, ROWS_TOGETHER.min(rows - first)));
        }
        if let Some(intercept) = map.intercept {
            copy(rows, intercept);
        }
        return Ok(Linear { rows: data, ..map });
    }
    let Some(order) = plan.copies(matrix) else { return Ok(map) };
    let data = aligned(copy, rows.saturating_mul(cols))?;
    let mut to = match order {
        MatrixOrder::ColumnMajor => MatMut::from_column_major_slice_mut(data, rows, cols),
        MatrixOrder::RowMajor => MatMut::from_row_major_slice_mut(data, rows, cols),
    };
    problem.copy(matrix, to.as_mut());
    Ok(Linear { matrix: to.into_const(), ..map })
}

/// Rows of a linear map that are copied at a time.
const ROWS_TOGETHER: usize = 64;

/// What an evaluation uses of a workspace.
pub(crate) struct Parts<'a, T> {
    /// The plan with scratch for its blocks.
    pub(crate) run: Run<'a, T>,
    /// The partial gradients, ...
    pub(crate) partials: Partials,
    /// ... and the place of those that need one.
    pub(crate) place: &'a mut [T],
    /// The loss of each block.
    pub(crate) losses: &'a mut [f64],
}

/// What is kept of a block while it is worked on.
#[derive(Debug)]
pub(crate) struct BlockScratch<T> {
    /// What was reserved.
    sizes: Sizes,
    planes: Vec<T>,
    per_sample: Vec<T>,
    features: Vec<T>,
    labels: Vec<u32>,
    weights: Vec<f64>,
}

/// How much of each there is, in numbers.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Sizes {
    /// Samples of a block.
    pub(crate) rows: usize,
    /// One number a score.
    pub(crate) plane: usize,
    /// Which planes there are beside the scores.
    pub(crate) planes: Planes,
    /// Whether samples have weights.
    pub(crate) weights: bool,
    /// Copies of the features.
    pub(crate) features: usize,
}

/// Which planes a block has beside its scores, in the order of [`BlockData`].
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Planes(pub(crate) [bool; 4]);

impl Planes {
    /// How many, that of the scores included.
    pub(crate) fn count(self) -> usize {
        1 + self.0.into_iter().filter(|&used| used).count()
    }
}

impl Sizes {
    /// One number a sample, to whole registers.
    fn padded(&self) -> usize {
        self.rows.next_multiple_of(MAX_LANES)
    }
}

/// Scratch of a block, by use: None where a problem has none.
pub(crate) struct BlockData<'a, T> {
    pub(crate) scores: &'a mut [T],
    /// Targets of all classes, in the order of the scores, as are the next three.
    pub(crate) targets: Option<&'a mut [T]>,
    /// Derivative of the scores' transform.
    pub(crate) slopes: Option<&'a mut [T]>,
    /// Scores of a direction.
    pub(crate) direction: Option<&'a mut [T]>,
    /// Second derivative of the scores' transform, along the direction.
    pub(crate) bends: Option<&'a mut [T]>,
    pub(crate) per_sample: PerSample<'a, T>,
    pub(crate) labels: &'a mut [u32],
    /// Of the samples, where they are not all 1.
    pub(crate) weights: Option<&'a mut [f64]>,
}

impl<T: Real> BlockScratch<T> {
    pub(crate) fn new() -> Self {
        Self {
            sizes: Sizes::default(),
            planes: Vec::new(),
            per_sample: Vec::new(),
            features: Vec::new(),
            labels: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Bytes it holds.
    fn bytes(&self) -> usize {
        let numbers = [&self.planes, &self.per_sample, &self.features];
        numbers.iter().map(|numbers| numbers.capacity() * size_of::<T>()).sum::<usize>()
            + self.labels.capacity() * size_of::<u32>()
            + self.weights.capacity() * size_of::<f64>()
    }

    pub(crate) fn reserve(&mut self, sizes: Sizes) -> Result<(), Error> {
        self.sizes = sizes;
        aligned(&mut self.planes, sizes.plane.saturating_mul(sizes.planes.count()))?;
        aligned(&mut self.per_sample, PER_SAMPLE * sizes.padded())?;
        aligned(&mut self.features, sizes.features)?;
        grow(&mut self.labels, sizes.rows, 0)?;
        grow(&mut self.weights, if sizes.weights { sizes.rows } else { 0 }, 0.0)
    }

    /// What was reserved, for a block of `rows` samples, and room for copies of its features.
    pub(crate) fn data(&mut self, rows: usize) -> (BlockData<'_, T>, &mut [T]) {
        let sizes = self.sizes;
        let mut planes = aligned_again(&mut self.planes);
        let mut next = || {
            let (plane, rest) = core::mem::take(&mut planes).split_at_mut(sizes.plane);
            planes = rest;
            plane
        };
        let scores = next();
        let [targets, slopes, direction, bends] = sizes.planes.0.map(|used| used.then(&mut next));
        let padded = rows.next_multiple_of(MAX_LANES);
        let per_sample = &mut aligned_again(&mut self.per_sample)[..PER_SAMPLE * padded];
        let (label_score, rest) = per_sample.split_at_mut(padded);
        let (coefficient, rest) = rest.split_at_mut(padded);
        let (top, rest) = rest.split_at_mut(padded);
        let (tail, total) = rest.split_at_mut(padded);
        let block = BlockData {
            scores,
            targets,
            slopes,
            direction,
            bends,
            per_sample: PerSample { label_score, coefficient, top, tail, total },
            labels: &mut self.labels[..rows],
            weights: sizes.weights.then(|| &mut self.weights[..rows]),
        };
        (block, &mut aligned_again(&mut self.features)[..sizes.features])
    }
}

/// Bytes of a cache line, and of the widest register.
const ALIGNMENT: usize = 64;

/// The first `len` elements of a vector from its first aligned one on, after growing it to hold them.
fn aligned<T: Real>(vec: &mut Vec<T>, len: usize) -> Result<&mut [T], Error> {
    grow(vec, len.saturating_add(ALIGNMENT / size_of::<T>()), T::ZERO)?;
    Ok(&mut aligned_again(vec)[..len])
}

/// A vector from its first aligned element on.
fn aligned_again<T>(vec: &mut [T]) -> &mut [T] {
    let skip = vec.as_ptr().align_offset(ALIGNMENT).min(vec.len());
    &mut vec[skip..]
}

fn grow<T: Clone>(vec: &mut Vec<T>, len: usize, fill: T) -> Result<(), Error> {
    if vec.len() < len {
        let more = len - vec.len();
        reserved(vec.try_reserve_exact(more), len.saturating_mul(size_of::<T>()))?;
        vec.resize(len, fill);
    }
    Ok(())
}

fn reserved(outcome: Result<(), std::collections::TryReserveError>, bytes: usize) -> Result<(), Error> {
    outcome.map_err(|_| Error::OutOfMemory { bytes })
}
