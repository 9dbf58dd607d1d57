//! How an evaluation is cut up: block sizes, partial gradients, who runs what, and the order of every sum.
//!
//! Everything here follows from the [`Shape`] and `block_bytes` alone, never from the number of threads: so the bits of
//! the result do not either. There are two ways to use threads:
//!
//! - **Groups.** The blocks are dealt to groups of neighbours, each with a partial gradient of its own, and the groups to
//!   threads. At the end the partials are added in their order.
//! - **Pieces.** Where K·n is so large that partial gradients would cost more than they bring, there is one group; its
//!   blocks run in order, and the threads split each product of a block into pieces of its result.

use crate::kernel::{Layout, MAX_LANES};
use crate::workspace::BlockScratch;
use core::ops::Range;
use faer::MatMut;
use std::sync::{Mutex, PoisonError};

/// Who does the work.
///
/// Neither changes a bit of any result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Parallelism {
    /// The caller's thread.
    Serial,
    /// The threads of the rayon pool that the call is made from (the global one if from none), if there is enough work
    /// for more than one.
    #[default]
    Rayon,
}

impl Parallelism {
    /// Both, at once if threads may be used.
    pub(crate) fn join<A: Send, B: Send>(
        self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match self {
            Self::Serial => (a(), b()),
            Self::Rayon => rayon::join(a, b),
        }
    }

    /// Runs `f` where a later [`join`](Self::join) does not have to enter the pool again.
    pub(crate) fn enter<A: Send>(self, f: impl FnOnce() -> A + Send) -> A {
        self.join(f, || ()).0
    }

    /// How many threads there are to use.
    pub(crate) fn threads(self) -> usize {
        match self {
            Self::Serial => 1,
            Self::Rayon => rayon::current_num_threads(),
        }
    }

    /// Which of them this is.
    fn thread(self) -> usize {
        match self {
            Self::Serial => 0,
            Self::Rayon => rayon::current_thread_index().unwrap_or(0),
        }
    }
}

/// Classes up to which lanes run across samples however few there are.
const FEW_CLASSES: usize = 128;

/// Samples of a block from which on lanes run across them however many classes there are: faer's products are faster
/// with the scores in that order, by up to a fifth. With fewer samples, too many lanes would be idle.
const MANY_SAMPLES: usize = 64;

/// Multiply-adds below which threads cost more than they bring: some 20 µs of one core.
const SERIAL_WORK: usize = 1 << 20;

/// Most partial gradients: enough to keep 64 threads busy, and cheap to add up.
const MAX_GROUPS: usize = 64;

/// Scratch of a block, its part of X included: with the next block's part, which is fetched meanwhile, and the gradient
/// it fits a second-level cache of 512 KiB.
const BLOCK_BYTES: usize = 128 << 10;

/// The same where X is column-major, so that the stretch of a column in a block is worth the page it is on.
const COLUMN_MAJOR_BLOCK_BYTES: usize = 512 << 10;

/// Bytes of a Θ that no longer fits the cache.
const LARGE_THETA_BYTES: usize = 256 << 10;

/// Scratch of a block where Θ is large: it is streamed once a block, so blocks are tall.
const TALL_BLOCK_BYTES: usize = 48 << 20;

/// What the cuts follow from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) samples: usize,
    pub(crate) features: usize,
    pub(crate) classes: usize,
    /// Bytes of a number.
    pub(crate) size: usize,
    /// Whether the features of a sample lie far apart, and the samples of a feature side by side.
    pub(crate) column_major: bool,
}

/// The shape of an evaluation, cut up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    shape: Shape,
    rows: usize,
    groups: usize,
    layout: Layout,
    in_pieces: bool,
    partials: bool,
}

impl Plan {
    pub(crate) fn new(shape: Shape, block_bytes: Option<usize>) -> Self {
        let Shape { samples, features, classes, size, column_major } = shape;
        let theta = features.saturating_mul(classes);
        let work = samples.saturating_mul(theta.saturating_add(8 * classes)).saturating_mul(2);

        // A partial gradient costs writing and adding K·n numbers; a group of m/groups samples reads n·m/groups.
        let affordable = samples / (8 * classes.max(1));
        let wanted = (work / SERIAL_WORK).clamp(1, MAX_GROUPS);
        let in_pieces = affordable < 4 && wanted >= 4;
        let groups = if in_pieces { 1 } else { wanted.min(affordable).max(1) };

        let tall = theta.saturating_mul(size) > LARGE_THETA_BYTES;
        let budget = block_bytes.unwrap_or(match (tall, column_major) {
            (true, _) => TALL_BLOCK_BYTES,
            (false, true) => COLUMN_MAJOR_BLOCK_BYTES,
            (false, false) => BLOCK_BYTES,
        });
        let per_row = if tall { classes.max(features / 4) } else { classes.saturating_add(features) };
        let rows = (budget / per_row.saturating_mul(size).max(1)).clamp(MAX_LANES, 1024);
        let rows = (rows / MAX_LANES * MAX_LANES).min(samples.div_ceil(groups)).max(1);
        // Blocks of the same size, but for the last.
        let blocks = samples.div_ceil(rows).max(1);
        let rows = samples.div_ceil(blocks).next_multiple_of(MAX_LANES).clamp(1, rows);
        let class_major = classes <= FEW_CLASSES || rows >= MANY_SAMPLES;
        let layout = if class_major { Layout::ClassMajor } else { Layout::SampleMajor };
        let groups = groups.min(samples.div_ceil(rows)).max(1);
        Self { shape, rows, groups, layout, in_pieces, partials: false }
    }

    /// Whether there is anything for a second thread to do.
    pub(crate) fn is_parallel(&self) -> bool {
        self.groups > 1 || self.in_pieces
    }

    /// Whether the products of a block are to be split.
    pub(crate) fn in_pieces(&self) -> bool {
        self.in_pieces
    }

    /// Samples in a block; the last may have fewer.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn blocks(&self) -> usize {
        self.shape.samples.div_ceil(self.rows)
    }

    /// The blocks of some neighbouring groups.
    pub(crate) fn blocks_of(&self, groups: Range<usize>) -> Range<usize> {
        let bound = |group: usize| group * self.blocks() / self.groups;
        bound(groups.start)..bound(groups.end)
    }

    /// The samples of some neighbouring blocks.
    pub(crate) fn samples_of(&self, blocks: Range<usize>) -> Range<usize> {
        (blocks.start * self.rows).min(self.shape.samples)..(blocks.end * self.rows).min(self.shape.samples)
    }

    /// With partial gradients, if there are several groups, or if the gradient itself does not lie as the products like
    /// it best and is so small that another costs little.
    pub(crate) fn with_partials(self, gradient_is_column_major: bool) -> Self {
        let own = !gradient_is_column_major && self.shape.classes <= FEW_CLASSES;
        Self { partials: self.groups > 1 || own, ..self }
    }

    /// Shape of the partial gradients, side by side; none if the gradient itself serves.
    pub(crate) fn partials(&self) -> Option<(usize, usize)> {
        self.partials.then(|| (self.shape.features, self.shape.classes * self.groups))
    }

    /// Whether to bring Θ into the order that the products like best: if it is not, and copying it costs little.
    pub(crate) fn copies_theta(&self, theta_is_column_major: bool) -> bool {
        !theta_is_column_major && self.shape.classes <= FEW_CLASSES && self.shape.samples > 1
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Distance of neighbouring classes (class-major) or samples (sample-major) in a block's scores.
    pub(crate) fn stride(&self) -> usize {
        match self.layout {
            // One line more, so that the same sample of all classes does not fall into one set of the cache.
            Layout::ClassMajor => self.rows.next_multiple_of(MAX_LANES) + MAX_LANES,
            Layout::SampleMajor => self.shape.classes.next_multiple_of(MAX_LANES),
        }
    }

    pub(crate) fn scores_len(&self) -> usize {
        match self.layout {
            _ if self.shape.samples == 0 => 0,
            Layout::ClassMajor => self.stride().saturating_mul(self.shape.classes),
            Layout::SampleMajor => self.stride().saturating_mul(self.rows),
        }
    }
}

/// Where a run of neighbouring groups ends and the next begins, counted from the start of the first.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    groups: usize,
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

/// A matrix for each group, side by side, each of as many columns as there are classes.
pub(crate) struct ByGroup<'a, T> {
    pub(crate) matrices: MatMut<'a, T>,
    pub(crate) classes: usize,
}

impl<T: Send> Split for ByGroup<'_, T> {
    fn split(self, at: Cut) -> (Self, Self) {
        let classes = self.classes;
        let (a, b) = self.matrices.split_at_col_mut(at.groups * classes);
        (Self { matrices: a, classes }, Self { matrices: b, classes })
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

/// A plan with the threads and the scratch to carry it out.
pub(crate) struct Run<'a, T> {
    pub(crate) plan: Plan,
    pub(crate) parallelism: Parallelism,
    pub(crate) slots: &'a [Mutex<BlockScratch<T>>],
}

impl<T: Send> Run<'_, T> {
    /// Every group once: its blocks, its part of `out`, and scratch.
    pub(crate) fn for_each_group<O: Split>(
        &self,
        out: O,
        work: &(impl Fn(Range<usize>, O, &mut BlockScratch<T>) + Sync),
    ) {
        self.parallelism.enter(|| self.groups(0..self.plan.groups, out, work));
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

    fn groups<O: Split>(
        &self,
        groups: Range<usize>,
        out: O,
        work: &(impl Fn(Range<usize>, O, &mut BlockScratch<T>) + Sync),
    ) {
        if groups.len() <= 1 {
            // A block whose products are split runs alone, in the first slot.
            let slot = if self.plan.in_pieces { 0 } else { self.parallelism.thread() };
            let mut scratch = self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner);
            return work(self.plan.blocks_of(groups), out, &mut scratch);
        }
        let half = groups.start..groups.start + groups.len() / 2;
        let blocks = self.plan.blocks_of(half.clone());
        let samples = self.plan.samples_of(blocks.clone()).len();
        let (a, b) = out.split(Cut { groups: half.len(), blocks: blocks.len(), samples });
        let rest = half.end..groups.end;
        self.parallelism.join(|| self.groups(half, a, work), || self.groups(rest, b, work));
    }
}
