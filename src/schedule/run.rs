//! Who carries out which part of a plan: threads take groups, and each group its blocks.

use super::experience::Timer;
use super::{Plan, Threads};
use crate::workspace::BlockScratch;
use core::ops::Range;
use faer::MatMut;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A plan with the threads and the scratch to carry it out.
pub(crate) struct Run<'a, T> {
    pub(crate) plan: Plan,
    pub(crate) threads: Threads,
    /// For what can be learnt of the time that it takes.
    pub(crate) _timer: Option<Timer>,
    pub(crate) slots: &'a [Mutex<BlockScratch<T>>],
}

impl<T: Send> Run<'_, T> {
    /// Every group once: its blocks, its part of `out`, and scratch.
    pub(crate) fn for_each_group<O: Split>(
        &self,
        out: O,
        work: &(impl Fn(Range<usize>, O, &mut BlockScratch<T>) + Sync),
    ) {
        if self.plan.groups == 1 {
            self.threads.enter(|| work(self.plan.blocks_of(0..1), out, &mut locked(&self.slots[0])));
        } else {
            self.share_groups(out, work);
        }
    }

    fn share_groups<O: Split>(&self, out: O, work: &(impl Fn(Range<usize>, O, &mut BlockScratch<T>) + Sync)) {
        let queue = Mutex::new(Some(Groups { plan: &self.plan, range: 0..self.plan.groups, out }));
        let threads = self.threads.count().min(self.plan.groups);
        // One group after the other.
        let worker = |id: usize| {
            let (plan, queue) = (&self.plan, &queue);
            let mut scratch = locked(&self.slots[id]);
            let mut run = None;
            move || {
                let Some(groups) = run.take().or_else(|| take_run(queue, threads)) else { return false };
                let (group, rest) = groups.split(1);
                work(plan.blocks_of(group.range), group.out, &mut scratch);
                run = (!rest.range.is_empty()).then_some(rest);
                true
            }
        };
        self.threads.share(0..threads, &worker);
    }

    /// Every block once: its samples, its part of `out`, and scratch.
    pub(crate) fn for_each_block<O: Split>(
        &self,
        out: O,
        work: &(impl Fn(Range<usize>, O, &mut BlockScratch<T>) + Sync),
    ) {
        self.for_each_group(out, &|blocks, mut rest, scratch| {
            for block in blocks {
                let samples = self.plan.samples_of(block..block + 1);
                let (own, others) = rest.split(Cut { groups: 0, blocks: 1, samples: samples.len() });
                work(samples, own, scratch);
                rest = others;
            }
        });
    }
}

/// Neighbouring groups, and what they write.
struct Groups<'a, O> {
    plan: &'a Plan,
    range: Range<usize>,
    out: O,
}

impl<O: Split> Groups<'_, O> {
    /// The first of them, and the rest.
    fn split(self, count: usize) -> (Self, Self) {
        let Self { plan, range, out } = self;
        let middle = range.start + count;
        let blocks = plan.blocks_of(range.start..middle);
        let samples = plan.samples_of(blocks.clone()).len();
        let (a, b) = out.split(Cut { groups: count, blocks: blocks.len(), samples });
        (Self { plan, range: range.start..middle, out: a }, Self { plan, range: middle..range.end, out: b })
    }
}

/// Takes as many neighbours as leave every thread as much again: what a block fetches of the next one is then seldom for another
/// thread, and in the end all threads have something left to do.
fn take_run<'a, O: Split>(queue: &Mutex<Option<Groups<'a, O>>>, threads: usize) -> Option<Groups<'a, O>> {
    let mut queue = locked(queue);
    let groups = queue.take()?;
    let count = (groups.range.len() / (2 * threads)).max(1);
    let (run, rest) = groups.split(count);
    *queue = (!rest.range.is_empty()).then_some(rest);
    Some(run)
}

pub(super) fn locked<A>(mutex: &Mutex<A>) -> MutexGuard<'_, A> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a run of neighbouring groups ends and the next begins, counted from the start of the first.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    pub(super) groups: usize,
    blocks: usize,
    samples: usize,
}

/// Something that groups, or blocks, write each its own part of.
pub(crate) trait Split: Send + Sized {
    /// The part before the cut, and the part from it on.
    fn split(self, at: Cut) -> (Self, Self);
}

/// One row a sample.
impl<T: Send> Split for MatMut<'_, T> {
    fn split(self, at: Cut) -> (Self, Self) {
        self.split_at_row_mut(at.samples)
    }
}

/// One element a sample.
impl<T: Send> Split for &mut [T] {
    fn split(self, at: Cut) -> (Self, Self) {
        self.split_at_mut(at.samples)
    }
}

/// One element a block.
pub(crate) struct ByBlock<'a>(pub(crate) &'a mut [f64]);

impl Split for ByBlock<'_> {
    fn split(self, at: Cut) -> (Self, Self) {
        let (a, b) = self.0.split_at_mut(at.blocks);
        (Self(a), Self(b))
    }
}

impl<A: Split> Split for Option<A> {
    fn split(self, at: Cut) -> (Self, Self) {
        self.map(|a| a.split(at)).unzip()
    }
}

impl<A: Split, B: Split> Split for (A, B) {
    fn split(self, at: Cut) -> (Self, Self) {
        let ((a0, a1), (b0, b1)) = (self.0.split(at), self.1.split(at));
        ((a0, b0), (a1, b1))
    }
}
