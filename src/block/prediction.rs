//! What the scores of a block predict.

use super::Problem;
use super::features::Pass;
use crate::kernel::{LargestClass, Real, Want};
use crate::workspace::BlockScratch;
use core::ops::Range;
use faer::MatMut;
use faer::reborrow::IntoConst;

impl<T: Real> Problem<'_, T> {
    /// Probabilities of some samples.
    pub(crate) fn probabilities(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        out: MatMut<'_, T>,
    ) {
        let (mut block, room) = scratch.data(samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), Pass::Softmax, room);
        self.scores(x, &mut block, room);
        self.softmax(&mut block, Want::Probabilities, None, x.for_softmax());
        let probabilities = self.matrix(block.scores, samples.len()).into_const();
        self.copy(probabilities, out);
    }

    /// The class of the largest score of some samples, the lowest of several; NaN is never the largest.
    pub(crate) fn predict(&self, samples: Range<usize>, scratch: &mut BlockScratch<T>, out: &mut [u32]) {
        let (block, room) = scratch.data(samples.len());
        let (x, room) = self.block_features(samples.clone(), Pass::Scores, room);
        self.linear(x, self.theta, block.scores, room);
        let largest = LargestClass { scores: self.view(block.scores, samples.len()), out };
        self.run(largest, &|part| T::run_largest_class(part, self.level), &|(), ()| ());
    }

    /// The classes of the largest scores of some samples, and their probabilities: as many as `classes` has columns. Of
    /// equal scores the lowest class first; NaN last.
    pub(crate) fn top_k(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        mut classes: MatMut<'_, u32>,
        mut probabilities: MatMut<'_, T>,
    ) {
        let (mut block, room) = scratch.data(samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), Pass::Softmax, room);
        // Before the transform, which keeps the order but may make scores equal.
        self.linear(x, self.theta, block.scores, room);
        let count = classes.ncols();
        let scores = self.matrix(block.scores, samples.len());
        let is_above = |a: T, b: T| a > b || (b.to_f64().is_nan() && !a.to_f64().is_nan());
        for i in 0..samples.len() {
            for class in 0..scores.ncols() {
                let score = scores[(i, class)];
                let mut at = class.min(count);
                while at > 0 && is_above(score, scores[(i, classes[(i, at - 1)] as usize)]) {
                    at -= 1;
                }
                for later in (at + 1..count.min(class + 1)).rev() {
                    classes[(i, later)] = classes[(i, later - 1)];
                }
                if at < count {
                    classes[(i, at)] = class as u32;
                }
            }
        }
        self.transform(samples.len(), &mut block);
        self.softmax(&mut block, Want::Probabilities, None, x.for_softmax());
        let all = self.matrix(block.scores, samples.len());
        for k in 0..count {
            for i in 0..samples.len() {
                probabilities[(i, k)] = all[(i, classes[(i, k)] as usize)];
            }
        }
    }
}
