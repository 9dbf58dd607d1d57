//! The second derivative of a block's loss: its product with a direction, and its diagonal.

use super::features::{Pass, Rows};
use super::{Gradient, Problem};
use crate::kernel::{Bend, Curvature, Curve, Real, Want};
use crate::workspace::{BlockData, BlockScratch};
use core::ops::Range;

impl<T: Real> Problem<'_, T> {
    /// Adds to a matrix what some samples contribute to the product of the Hessian with the direction; or to its
    /// diagonal, for which there is no direction.
    pub(super) fn curvature(
        &self,
        samples: Range<usize>,
        scratch: &mut BlockScratch<T>,
        out: Gradient<'_, T>,
        curve: Curve,
    ) {
        let (mut block, room) = scratch.data(samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), Pass::Gradient, room);
        self.curve(x, &mut block, room, curve);
        let weights = block.weights.as_deref();
        let Some(curved) = block.direction else { return };
        match x {
            Rows::Dense { x, next } if curve == Curve::Diagonal => {
                let (squares, room) = self.copy_rows(x.nrows(), x.ncols(), room, |i, out| {
                    out.iter_mut().zip(x.row(i).iter()).for_each(|(out, &x)| *out = x * x);
                });
                let squares = Rows::Dense { x: squares, next };
                self.add_product(squares, curved, weights, room, out);
            }
            _ => self.add_product(x, curved, weights, room, out),
        }
    }

    /// The second derivative of the losses in the space of the scores, along the direction or on the diagonal, in the
    /// direction's place; probabilities in that of the scores.
    pub(super) fn curve(&self, x: Rows<'_, T>, block: &mut BlockData<'_, T>, room: &mut [T], curve: Curve) {
        if let Some(out) = block.direction.as_deref_mut() {
            match self.direction {
                Some(direction) => self.linear(x, direction, out, room),
                None => out.fill(T::ONE),
            }
        }
        self.scores(x, block, room);
        self.softmax(block, Want::Probabilities, None, x.for_softmax());
        let BlockData { scores, targets, slopes, direction, bends, per_sample, .. } = block;
        let Some(direction) = direction else { return };
        let bend = match (slopes, bends, &targets) {
            (Some(slopes), Some(bends), Some(targets)) => Some(Bend { slopes, bends, targets }),
            _ => None,
        };
        let curvature = Curvature {
            probabilities: scores,
            layout: self.plan.layout(),
            stride: self.plan.stride(),
            shape: (x.samples(), self.classes()),
            direction,
            bend,
            z_loss: self.options.z_loss,
            curve,
            coefficient: per_sample.coefficient,
            top: per_sample.top,
            tail: per_sample.tail,
            total: targets.is_some().then_some(&*per_sample.total),
        };
        T::run_curvature(curvature, self.level);
    }
}
