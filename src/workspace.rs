//! Scratch that outlives an evaluation, so that the next one need not allocate.

use crate::Error;
use crate::block::Problem;
use crate::kernel::{MAX_LANES, PerSample, Real};
use crate::schedule::{Plan, Run};
use faer::{MatMut, MatRef};
use std::sync::{Mutex, PoisonError};

/// Scratch memory for evaluations, owned by the caller. Make it once, pass it to every call.
///
/// It grows to what the largest evaluation so far needed and then stays: a call whose shapes are not larger than those
/// of an earlier one allocates nothing. (Two things outside this crate can: a thread's first matrix product reserves
/// faer's packing buffer, and for a call from outside a rayon pool, rayon makes a small job for each thread that helps.
/// In `ThreadPool::install` it does not.)
#[derive(Debug)]
pub struct Workspace<T> {
    slots: Vec<Mutex<BlockScratch<T>>>,
    theta: Vec<T>,
    partials: Vec<T>,
    losses: Vec<f64>,
}

impl<T> Workspace<T> {
    /// An empty workspace. Allocates nothing.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), theta: Vec::new(), partials: Vec::new(), losses: Vec::new() }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        let block = |slot: &Mutex<BlockScratch<T>>| {
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            (slot.scores.capacity() + slot.per_sample.capacity()) * size_of::<T>()
                + slot.labels.capacity() * size_of::<u32>()
        };
        self.slots.iter().map(block).sum::<usize>()
            + (self.theta.capacity() + self.partials.capacity()) * size_of::<T>()
            + self.losses.capacity() * size_of::<f64>()
    }
}

impl<T> Default for Workspace<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Real> Workspace<T> {
    /// Scratch for a problem, for each thread that works on a block.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn reserve<'a>(&'a mut self, problem: &Problem<'a, T>) -> Result<Parts<'a, T>, Error> {
        let Problem { plan, parallelism, theta, .. } = *problem;
        let slots = if plan.in_pieces() { 1 } else { parallelism.threads() };
        if self.slots.len() < slots {
            let more = slots - self.slots.len();
            reserved(self.slots.try_reserve_exact(more), more.saturating_mul(size_of::<BlockScratch<T>>()))?;
            self.slots.resize_with(slots, || Mutex::new(BlockScratch::new()));
        }
        for slot in &mut self.slots[..slots] {
            slot.get_mut().unwrap_or_else(PoisonError::into_inner).reserve(&plan)?;
        }
        grow(&mut self.losses, plan.blocks(), 0.0)?;
        let partials = match plan.partials() {
            None => None,
            Some((rows, cols)) => {
                let data = aligned(&mut self.partials, rows.saturating_mul(cols))?;
                Some(MatMut::from_column_major_slice_mut(data, rows, cols))
            }
        };
        let theta = if plan.copies_theta(theta.row_stride() == 1) {
            let (rows, cols) = theta.shape();
            let data = aligned(&mut self.theta, rows.saturating_mul(cols))?;
            MatMut::from_column_major_slice_mut(&mut *data, rows, cols).copy_from(theta);
            MatRef::from_column_major_slice(data, rows, cols)
        } else {
            theta
        };
        Ok(Parts {
            run: Run { plan, parallelism, slots: &self.slots[..slots] },
            theta,
            partials,
            losses: &mut self.losses[..plan.blocks()],
        })
    }
}

/// What an evaluation uses of a workspace.
pub(crate) struct Parts<'a, T> {
    /// The plan with scratch for its blocks.
    pub(crate) run: Run<'a, T>,
    /// Θ, or a copy of it that the products can read faster.
    pub(crate) theta: MatRef<'a, T>,
    /// The partial gradients, side by side; none if the gradient itself serves.
    pub(crate) partials: Option<MatMut<'a, T>>,
    /// The loss of each block.
    pub(crate) losses: &'a mut [f64],
}

/// What is kept of a block while it is worked on.
#[derive(Debug)]
pub(crate) struct BlockScratch<T> {
    scores: Vec<T>,
    per_sample: Vec<T>,
    labels: Vec<u32>,
}

impl<T: Real> BlockScratch<T> {
    pub(crate) const fn new() -> Self {
        Self { scores: Vec::new(), per_sample: Vec::new(), labels: Vec::new() }
    }

    pub(crate) fn reserve(&mut self, plan: &Plan) -> Result<(), Error> {
        let rows = plan.rows().next_multiple_of(MAX_LANES);
        aligned(&mut self.scores, plan.scores_len())?;
        aligned(&mut self.per_sample, 4 * rows)?;
        grow(&mut self.labels, plan.rows(), 0)
    }

    /// The scores, what is kept of each sample, and the labels of a block of `rows` samples.
    pub(crate) fn parts(&mut self, plan: &Plan, rows: usize) -> (&mut [T], PerSample<'_, T>, &mut [u32]) {
        let padded = rows.next_multiple_of(MAX_LANES);
        let per_sample = &mut aligned_again(&mut self.per_sample)[..4 * padded];
        let (label_score, rest) = per_sample.split_at_mut(padded);
        let (coefficient, rest) = rest.split_at_mut(padded);
        let (top, tail) = rest.split_at_mut(padded);
        (
            &mut aligned_again(&mut self.scores)[..plan.scores_len()],
            PerSample { label_score, coefficient, top, tail },
            &mut self.labels[..rows],
        )
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
