//! How an evaluation is cut up: block sizes, partial gradients, who runs what, and the order of every sum.
//!
//! All but who runs what follows from the [`Shape`], `block_bytes` and the size of registers alone, never from the number of threads
//! or from the clock: so the bits of the result do not either. There are two ways to use threads:
//!
//! - **Groups.** The blocks are dealt to groups of neighbours, each with a partial gradient of its own. Every thread takes
//!   the next few groups until there is none left. At the end the partials are added in their order.
//! - **Pieces.** Where K·n is so large for the samples, or all of it so short, that partial gradients would cost more than they
//!   bring, there is one group; its blocks run in order, and the threads split each product of a block into pieces of its result, and
//!   its softmax into pieces of its samples.
//!
//! Whether a shorter evaluation uses them at all follows from what others like it have taken (`experience.rs`).

mod clock;
mod experience;
mod offers;
mod parallelism;
mod partials;
mod run;
mod shape;
mod sharing;

pub(crate) use experience::Case;
pub use parallelism::Parallelism;
pub(crate) use parallelism::{Halves, Threads, middle};
pub(crate) use partials::{ByGroup, Partials};
pub(crate) use run::{ByBlock, Run};
pub(crate) use shape::{Shape, Storage};
use sharing::Sharing;

use crate::gemm::Destination;
use crate::kernel::{DEEP, FEW_SAMPLES, Layout, MAX_LANES, OUTER_ROWS, PAGE, THIN};
use core::hash::Hash;
use core::ops::Range;
use faer::MatRef;

/// Classes up to which lanes run across samples, unless these are few.
const FEW_CLASSES: usize = 128;

/// Samples of a block from which on lanes run across them however many classes there are: faer's products are faster
/// with the scores in that order, by up to a fifth. With fewer samples, too many lanes would be idle.
const MANY_SAMPLES: usize = 64;

/// Samples up to which lanes across them would be idle, ...
const IDLE_SAMPLES: usize = 12;

/// ... and lanes along the classes not, if there are so many for each sample.
const CLASSES_OF_SAMPLE: usize = 4;

/// Classes up to which lanes run across samples though features are so few that lanes along them would be idle too often, ...
const SOME_CLASSES: usize = 256;

/// ... and where features fill registers.
const FEWER_CLASSES: usize = 192;

/// Samples that fill registers of 32 bytes. With many features lanes run across them, since the products are faster so.
const FULL_SAMPLES: usize = 8;

/// Features from which on they are.
const MANY_FEATURES: usize = 128;

/// Classes from which on an `f32` cannot number them, as the kernels across samples do.
pub(crate) const MOST_CLASS_MAJOR: usize = 1 << 24;

/// Blocks of a group from which on one more or less does not matter.
const MANY_BLOCKS: usize = 8;

/// Features that need not be asked for early: doing so took a twentieth of the time of 1797×64×10.
const CACHED_BYTES: usize = 1 << 20;

/// Scratch of a block, its part of X included: with the next block's part, which is fetched meanwhile, and the gradient
/// it fits a second-level cache of 512 KiB.
const BLOCK_BYTES: usize = 192 << 10;

/// The same where X is column-major, of more columns than [`FEW_PAGES`] and many classes. With few classes a block has a whole page
/// of every column. Neither fits a second-level cache, but the stretch of a column is to be worth the page it is on.
const MANY_PAGES_BLOCK_BYTES: usize = 1 << 20;

/// Columns up to which a processor keeps the addresses of their pages from one pass over a block to the next.
const FEW_PAGES: usize = 200;

/// Samples that are not cut apart where they lie one after the other: tiles take as many at once. Else it is a register of them.
const SAMPLES_TOGETHER: usize = 4;

/// Scratch of a block that adds to a Hessian, ...
const HESSIAN_BLOCK_BYTES: usize = 4 << 20;

/// ... and samples that it has at least, so that the Hessian is not read and written too often.
const HESSIAN_SAMPLES: usize = 256;

/// Most samples of a block.
const MOST_ROWS: usize = 1 << 10;

/// The same where Θ is large: of threads that share a block, each copies all of Θ for its samples.
const MOST_TALL: usize = 1 << 11;

/// Scratch of a block, its part of X included, that stays in a cache that the threads share.
const SHARED_BLOCK_BYTES: usize = 8 << 20;

/// Features from which on a sample has enough of them for products along them.
const FEW_FEATURES: usize = 32;

/// Classes from which on a copy of so few features by columns is worth its cost, ...
const SHARING_CLASSES: usize = 16;

/// ... and with the widest registers, if these would be filled badly.
const WIDEST_SHARING_CLASSES: usize = 12;

/// Numbers of a Θ so small that it is for more classes than a thin product has, too, where features fill no register.
const SMALL_THETA: usize = 1 << 10;

/// Bytes of a Θ that no longer fits the cache.
const LARGE_THETA_BYTES: usize = 1 << 20;

/// Bytes of a Θ that stays in a cache that the threads share, beside its gradient and a block.
const SHARED_THETA_BYTES: usize = 5 << 20;

/// Scratch of a block where Θ is larger: it is streamed once a block, so blocks are tall.
const TALL_BLOCK_BYTES: usize = 48 << 20;

/// In which order a matrix lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MatrixOrder {
    ColumnMajor,
    RowMajor,
}

impl MatrixOrder {
    /// Whether a matrix lies so: its columns, or its rows, contiguous.
    fn is_that_of<T>(self, matrix: MatRef<'_, T>) -> bool {
        1 == match self {
            Self::ColumnMajor => matrix.row_stride(),
            Self::RowMajor => matrix.col_stride(),
        }
    }
}

/// The shape of an evaluation, cut up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    shape: Shape,
    /// Samples that are not cut apart.
    step: usize,
    rows: usize,
    blocks: usize,
    groups: usize,
    layout: Layout,
    in_pieces: bool,
    /// Whether it takes so long that a caller who is no thread of the pool had better wait.
    is_long: bool,
    rows_are_best: bool,
    /// Whether what is computed is not as Θ is, but has a row and a column for each of its numbers.
    is_square: bool,
    /// How many partial gradients there are beside the first, ...
    partials: usize,
    /// ... and whether that is the gradient itself.
    is_gradient_first: bool,
}

impl Plan {
    pub(crate) fn new(shape: Shape, block_bytes: Option<usize>) -> Self {
        Self::cut(shape, block_bytes, Sharing::new(&shape))
    }

    /// For a result of a number for each two of Θ. A block keeps its features three times for each class.
    pub(crate) fn of_hessian(shape: Shape, block_bytes: Option<usize>) -> Self {
        let Shape { features, classes, planes, size, storage, .. } = shape;
        let (planes, block_bytes) = match storage {
            Storage::Sparse { .. } => (planes, block_bytes),
            _ => {
                let planes = features.saturating_mul(3).saturating_add(planes);
                let each = classes.saturating_mul(planes).saturating_add(features).saturating_mul(size);
                let least = each.saturating_mul(HESSIAN_SAMPLES);
                (planes, block_bytes.or(Some(least.max(HESSIAN_BLOCK_BYTES))))
            }
        };
        let plan = Self::cut(Shape { planes, ..shape }, block_bytes, Sharing::of_hessian(&shape));
        Self { is_square: true, ..plan }
    }

    /// Its blocks, and the order of their scores.
    fn cut(shape: Shape, block_bytes: Option<usize>, sharing: Sharing) -> Self {
        let Shape { samples, features, classes, planes, size, storage, .. } = shape;
        let Sharing { groups, in_pieces, .. } = sharing;
        let theta_bytes = features.saturating_mul(classes).saturating_mul(size);
        let is_sparse = shape.is_sparse();
        let tall = !is_sparse && classes > THIN && theta_bytes > LARGE_THETA_BYTES;
        let kept = classes.saturating_mul(planes);
        let per_row = match storage {
            _ if tall => kept.max(features / 4),
            Storage::Sparse { entries } => kept.saturating_add(entries / samples.max(1)),
            _ => kept.saturating_add(features),
        };
        let row_bytes = per_row.saturating_mul(size).max(1);
        let budget = block_bytes.unwrap_or_else(|| match storage {
            _ if tall && theta_bytes <= SHARED_THETA_BYTES => SHARED_BLOCK_BYTES,
            _ if tall => TALL_BLOCK_BYTES,
            // Threads share each pass over a block, so one is best, where no pass but the first comes from memory.
            _ if in_pieces && row_bytes.saturating_mul(samples) <= SHARED_BLOCK_BYTES => SHARED_BLOCK_BYTES,
            Storage::ColumnMajor if features > FEW_PAGES && classes > THIN => MANY_PAGES_BLOCK_BYTES,
            Storage::ColumnMajor if features > FEW_PAGES => row_bytes.saturating_mul(PAGE / size),
            // faer brings both factors into an order of its own, which few samples are not worth.
            Storage::ColumnMajor | Storage::RowMajor if classes > THIN => {
                row_bytes.saturating_mul(MANY_SAMPLES).clamp(BLOCK_BYTES, TALL_BLOCK_BYTES)
            }
            _ => BLOCK_BYTES,
        });
        // Whole registers, as many as come nearest: where rows are long, 16 samples less would be half of them.
        let most = if tall { MOST_TALL } else { MOST_ROWS };
        let rows = ((budget / row_bytes).min(most) + MAX_LANES / 2) / MAX_LANES * MAX_LANES;
        let mut blocks = samples.div_ceil(rows.max(MAX_LANES));
        // As many in each group, where one more would count.
        if blocks < MANY_BLOCKS * groups {
            blocks = blocks.next_multiple_of(groups);
        }
        let rows_are_best = shape.rows_are_best(in_pieces);
        let some = if shape.fills_none() { SOME_CLASSES } else { FEWER_CLASSES };
        let are_long = rows_are_best && classes > some;
        let step = if are_long { SAMPLES_TOGETHER } else { MAX_LANES };
        let steps = samples.div_ceil(step);
        let blocks = blocks.min(steps);
        let rows = (steps.div_ceil(blocks.max(1)) * step).min(samples).max(1);
        let full = samples == FULL_SAMPLES && features >= MANY_FEATURES;
        let few = samples <= IDLE_SAMPLES && classes >= CLASSES_OF_SAMPLE * samples && !full;
        let many = !is_sparse && (full || rows >= MANY_SAMPLES) && classes < MOST_CLASS_MAJOR;
        let class_major = samples > 1 && !few && !are_long && (classes <= FEW_CLASSES || many);
        let layout = if class_major { Layout::ClassMajor } else { Layout::SampleMajor };
        let groups = groups.min(blocks).max(1);
        Self {
            shape,
            step,
            rows,
            blocks,
            groups,
            layout,
            in_pieces,
            is_long: sharing.is_long(),
            rows_are_best,
            is_square: false,
            partials: 0,
            is_gradient_first: true,
        }
    }

    /// Who is to carry it out; and the case that it is, if that is learnt from time.
    pub(crate) fn threads(&self, wanted: Parallelism, task: impl Hash) -> (Threads, Option<Case>) {
        let threads = if self.is_shared() { wanted.threads() } else { Threads::One };
        if threads.count() == 1 {
            return (Threads::One, None);
        }
        if self.is_long {
            let is_to_wait = threads == Threads::BesidePool && (self.in_pieces || offers::are_stalled());
            return (if is_to_wait { Threads::OfPool } else { threads }, None);
        }
        let Shape { samples, features, classes, planes, size, storage, .. } = self.shape;
        let alike = (features, classes, planes, size, storage, task, self.in_pieces, threads);
        let case = Case::of(samples, alike, threads.count());
        let are_free = threads != Threads::BesidePool || !offers::are_stalled();
        (if are_free && case.is_shared() { threads } else { Threads::One }, Some(case))
    }

    /// Whether there is something to do for a second thread.
    pub(crate) fn is_shared(&self) -> bool {
        self.in_pieces || self.groups > 1
    }

    /// Whether the products of a block are to be split.
    pub(crate) fn in_pieces(&self) -> bool {
        self.in_pieces
    }

    /// Whether the features are so few that they stay in a second-level cache from one evaluation to the next.
    pub(crate) fn fits_cache(&self) -> bool {
        let Shape { samples, features, size, .. } = self.shape;
        samples.saturating_mul(features).saturating_mul(size) <= CACHED_BYTES
    }

    /// Whether each pass over a block fetches the features itself, column by column: of so many pages, a block of a
    /// column-major X would not find the next block's addresses, nor even its own in the next pass.
    pub(crate) fn is_streamed(&self) -> bool {
        self.shape.storage == Storage::ColumnMajor && self.shape.features > FEW_PAGES && !self.fits_cache()
    }

    /// Whether the products of row-major features read a copy of them by columns, so that lanes run along the samples: the few
    /// features of one fill no registers. Where some are filled, the more classes share the cost of the copy the better.
    pub(crate) fn turns_features(&self) -> bool {
        let Shape { samples, features, classes, level, .. } = self.shape;
        let is_worth_it = match features {
            ..MAX_LANES => classes <= THIN || features.saturating_mul(classes) <= SMALL_THETA,
            FEW_FEATURES.. => false,
            _ if !level.registers().are_widest() => (SHARING_CLASSES..=THIN).contains(&classes),
            _ if classes > THIN && self.rows < DEEP => false,
            _ => (WIDEST_SHARING_CLASSES..=FEW_CLASSES).contains(&classes) && self.shape.wastes_a_quarter(),
        };
        is_worth_it && samples >= MAX_LANES && self.layout == Layout::ClassMajor
    }

    /// Samples in a block, at most.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The blocks of some neighbouring groups.
    pub(crate) fn blocks_of(&self, groups: Range<usize>) -> Range<usize> {
        shared_out(self.blocks, self.groups, groups)
    }

    /// The samples of some neighbouring blocks, which have as many steps of them each, or one less.
    pub(crate) fn samples_of(&self, blocks: Range<usize>) -> Range<usize> {
        let samples = self.shape.samples;
        let steps = shared_out(samples.div_ceil(self.step), self.blocks, blocks);
        (steps.start * self.step).min(samples)..(steps.end * self.step).min(samples)
    }

    /// With partial gradients for all groups: the first is the gradient itself, unless that does not lie as the products like it best
    /// and is so small that another costs little, or still holds what the sum of several is to be added to.
    pub(crate) fn with_partials<T>(self, gradient: MatRef<'_, T>, held: Destination) -> Self {
        let is_gradient_first = match self.groups {
            1 if self.is_square => true,
            _ if self.is_sparse() => false,
            1 => self.copies(gradient).is_none(),
            _ => held == Destination::Replace && self.order_of_partials().is_that_of(gradient),
        };
        Self { partials: self.groups - 1, is_gradient_first, ..self }
    }

    /// The partial gradients, or Hessians, of a Θ of so many rows.
    pub(crate) fn partials(&self, rows: usize) -> Partials {
        let theta = rows.saturating_mul(self.shape.classes);
        let (rows, columns, stacked) = match self.is_sparse() {
            _ if self.is_square => (theta, theta, false),
            true => (rows, self.padded_classes(), true),
            false => (rows, self.shape.classes, self.order_of_partials() == MatrixOrder::RowMajor),
        };
        let (others, is_gradient_first) = (self.partials, self.is_gradient_first);
        Partials { rows, columns, others, is_gradient_first, stacked }
    }

    /// Whether features are sparse.
    pub(crate) fn is_sparse(&self) -> bool {
        self.shape.is_sparse()
    }

    /// K, to whole registers.
    pub(crate) fn padded_classes(&self) -> usize {
        self.shape.classes.next_multiple_of(MAX_LANES)
    }

    /// With scores that lie in another order than they would have in a block's scratch.
    pub(crate) fn with_layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// In which order Θ, or a gradient, is to be copied: if it does not lie as the products like it best, and that costs little.
    pub(crate) fn copies<T>(&self, matrix: MatRef<'_, T>) -> Option<MatrixOrder> {
        self.best_order().filter(|order| !order.is_that_of(matrix))
    }

    fn order_of_partials(&self) -> MatrixOrder {
        self.best_order().filter(|_| !self.is_square).unwrap_or(MatrixOrder::ColumnMajor)
    }

    /// How the products like Θ and the gradient to lie; nothing if either way will do, or copies would cost too much.
    fn best_order(&self) -> Option<MatrixOrder> {
        let Shape { samples, classes, .. } = self.shape;
        match self.layout {
            // Of samples that lie one after the other, lanes run along the rows of both, if these are long enough.
            Layout::SampleMajor if self.rows_are_best => Some(MatrixOrder::RowMajor),
            Layout::SampleMajor if classes >= OUTER_ROWS && samples <= FEW_SAMPLES => None,
            _ => (classes <= FEW_CLASSES).then_some(MatrixOrder::ColumnMajor),
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Distance of neighbouring classes (class-major) or samples (sample-major) in a block's scores.
    pub(crate) fn stride(&self) -> usize {
        match self.layout {
            Layout::ClassMajor => column_stride(self.rows),
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

/// Distance of neighbouring columns that have a number for each sample of a block: to whole registers, and a line more, so that
/// the same sample of all columns does not fall into one set of the cache.
pub(crate) fn column_stride(samples: usize) -> usize {
    samples.next_multiple_of(MAX_LANES) + MAX_LANES
}

/// Of `total` things dealt to `count` neighbours, as many to each or to the first one more, those of some.
fn shared_out(total: usize, count: usize, neighbours: Range<usize>) -> Range<usize> {
    let count = count.max(1);
    let (each, rest) = (total / count, total % count);
    let bound = |i: usize| each * i + i.min(rest);
    bound(neighbours.start)..bound(neighbours.end)
}
