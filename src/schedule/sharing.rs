//! Whether threads share an evaluation in groups or in pieces, and in how many groups.

use super::{FEW_FEATURES, Shape, Storage};
use crate::gemm::PIECE_WORK;

/// What the softmax of a score counts, in multiply-adds of each of the two products: for how many groups there are, or whether there
/// are pieces, ...
const SHARED_SCORE_WORK: usize = 8;

/// ... and what it takes, with all else that a score does, for whether to call threads at all.
const SCORE_WORK: usize = 40;

/// What a number of X takes, which is read for each of the products.
const NUMBER_WORK: usize = 2;

/// What a number of Θ takes, and one of the gradient: a few samples hardly do more than read the one and write the other.
const THETA_WORK: usize = 4;

/// Multiply-adds of `f32`, and what is worth as many, below which groups cost more than they bring: some 20 to 40 µs of one core.
const SERIAL_WORK: usize = 11 << 17;

/// Numbers of X for each of Θ beside which a partial gradient costs so little that half of that is enough: whether threads bring
/// anything is found out in time, and one alone loses some hundredths.
const LIGHT_PARTIAL: usize = 64;

/// Multiply-adds of `f32` that take some 4 ms: beside that it is nothing that a caller who is no thread of the pool waits until one
/// there has woken. Else that caller is one thread more than the pool has, and now and then one waits as long as a piece takes for the
/// processor of another.
const ENTERED_WORK: usize = 300 * GROUP_WORK;

/// Multiply-adds of a group, so that a thread that wakes late still finds some left: some 10 to 20 µs.
const GROUP_WORK: usize = 1 << 19;

/// Samples of a group whose multiply-adds take so long that its partial gradient costs next to nothing beside them. To have
/// [`FEW_GROUPS`], the last may have fewer.
const GROUP_SAMPLES: usize = 128;

/// The same for these few, where a partial gradient is small.
const LEAST_GROUP_SAMPLES: usize = 64;

/// Features whose multiply-adds take as long as the softmax, by which one of a few features counts for more than one of these samples.
const SOFTMAX_FEATURES: usize = 20;

/// Groups that are few, and yet enough for a few threads.
const FEW_GROUPS: usize = 4;

/// Bytes of a partial gradient that costs less than threads that wait for each other.
const SMALL_THETA_BYTES: usize = 48 << 10;

/// Most partial gradients: enough to keep 64 threads busy, and cheap to add up.
const MAX_GROUPS: usize = 64;

/// Partial gradients that stay in a cache that the threads share until they are added up.
const PARTIALS_BYTES: usize = 4 << 20;

/// How an evaluation is shared among threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    pub(super) groups: usize,
    pub(super) in_pieces: bool,
    /// Multiply-adds of `f32`, and what is worth as many.
    work: usize,
}

impl Sharing {
    /// Of one with a gradient, or less.
    pub(super) fn new(shape: &Shape) -> Self {
        let Shape { samples, features, classes, size, storage, .. } = *shape;
        let theta = features.saturating_mul(classes);
        let theta_bytes = theta.saturating_mul(size);
        let numbers = match storage {
            Storage::Sparse { entries } => entries,
            _ => samples.saturating_mul(features),
        };
        // Two products; and a number of eight bytes takes as long as two of four.
        let both = 2 * size / 4;
        let work_with = |score: usize| {
            let each = numbers.saturating_add(samples.saturating_mul(score));
            classes.saturating_mul(each).saturating_mul(both)
        };
        let shared = work_with(SHARED_SCORE_WORK);
        let passing = theta.saturating_mul(THETA_WORK).saturating_mul(both);
        let reading = numbers.saturating_mul(NUMBER_WORK).saturating_mul(both);
        let groups_work = work_with(SCORE_WORK).saturating_add(reading);
        let work = groups_work.saturating_add(passing);
        let mut groups = 1;
        let serial = if theta <= numbers / LIGHT_PARTIAL { SERIAL_WORK / 2 } else { SERIAL_WORK };
        if groups_work >= serial {
            let wanted = (shared / GROUP_WORK).clamp(2, MAX_GROUPS);
            let is_small = theta_bytes <= SMALL_THETA_BYTES;
            let are_thin = features < FEW_FEATURES;
            // How many partial gradients are worth their cost: one costs writing and adding K·n numbers, K more with an
            // intercept. A group of m/groups samples reads n·m/groups, or multiplies each of its entries by K.
            let affordable = match storage {
                Storage::Sparse { entries } => entries / (4 * features.max(1)),
                _ => {
                    let few = samples / (8 * classes.max(1));
                    let in_cache = PARTIALS_BYTES / theta.saturating_add(classes).saturating_mul(size).max(1);
                    let many = (few / 4).max(in_cache.min(samples / GROUP_SAMPLES));
                    let each = if is_small { LEAST_GROUP_SAMPLES } else { GROUP_SAMPLES };
                    let softmax = samples.saturating_mul(SOFTMAX_FEATURES) / features.max(1);
                    let worth = samples.saturating_add(if are_thin { softmax } else { 0 });
                    many.max(few.max(in_cache.min(worth / each + 1)).min(FEW_GROUPS))
                }
            };
            // Fewer had better be pieces.
            let least = if shape.is_sparse() || is_small || are_thin { 2 } else { FEW_GROUPS };
            if affordable >= least {
                // A power of two, so that a few threads have equally many.
                groups = 1 << wanted.min(affordable).ilog2();
            }
        }
        // A product, or the softmax, is to be so long that it is cut.
        let longest = numbers.max(samples.saturating_mul(SHARED_SCORE_WORK)).saturating_mul(classes);
        let in_pieces = groups == 1 && !shape.is_sparse() && longest >= PIECE_WORK;
        Self { groups, in_pieces, work }
    }

    /// In groups only where each may well have a Hessian of its own.
    pub(super) fn of_hessian(shape: &Shape) -> Self {
        let Shape { samples, features, classes, size, storage, .. } = *shape;
        let theta = features.saturating_mul(classes);
        let square = theta.saturating_mul(theta);
        // It is symmetric.
        let work = square.saturating_mul(samples).saturating_mul(size / 4) / 2;
        let in_cache = PARTIALS_BYTES / square.saturating_mul(size).max(1);
        let affordable = match storage {
            Storage::Sparse { .. } => 0,
            _ => in_cache.min((samples / GROUP_SAMPLES).max(FEW_GROUPS.min(samples / LEAST_GROUP_SAMPLES))),
        };
        if affordable >= FEW_GROUPS && work >= SERIAL_WORK {
            let wanted = (work / GROUP_WORK).clamp(2, MAX_GROUPS);
            Self { groups: 1 << wanted.min(affordable).ilog2(), in_pieces: false, work }
        } else {
            Self { groups: 1, in_pieces: work >= SERIAL_WORK, work }
        }
    }

    /// Whether it takes so long that a caller who is no thread of the pool had better wait.
    pub(super) fn is_long(&self) -> bool {
        self.work >= ENTERED_WORK
    }
}
