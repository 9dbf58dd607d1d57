//! The second derivative of a block's loss: its product with a direction, its diagonal, and all of it.

use super::features::{Pass, Rows};
use super::{Gradient, Problem};
use crate::gemm::{Destination, Product};
use crate::kernel::{Bend, Curvature, Curve, PerSample, Real, Span, Want};
use crate::workspace::{BlockData, BlockScratch};
use core::ops::Range;
use faer::reborrow::IntoConst;

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

    /// Adds to a matrix (of as many rows and columns as Θ has numbers, the columns of Θ one after the other) what some
    /// samples contribute to the Hessian, in the blocks on and below the diagonal.
    pub(super) fn hessian(&self, samples: Range<usize>, scratch: &mut BlockScratch<T>, out: Gradient<'_, T>) {
        let Gradient { mut matrix, held } = out;
        let (mut block, room) = scratch.data(samples.len());
        self.prepare(samples.clone(), &mut block);
        let (x, room) = self.block_features(samples.clone(), Pass::Softmax, room);
        self.curve(x, &mut block, room, Curve::Diagonal);
        self.chain(&mut block);
        let weights = block.weights.as_deref();
        let is_silent = |i: usize| weights.is_some_and(|weights| weights[i] == 0.0);
        let rows = samples.len();
        let PerSample { coefficient, top, tail, total, .. } = &mut block.per_sample;
        // What the second derivatives by the scores of two classes have in common, in the coefficient's place.
        for (i, common) in coefficient.iter_mut().enumerate() {
            let total = if block.targets.is_none() { 1.0 } else { total[i].to_f64() };
            let multiplier = match 2.0 * self.options.z_loss {
                0.0 => total,
                z_loss => total + z_loss * (top[i].to_f64() + tail[i].to_f64() - 1.0),
            };
            *common = T::from_f64(-multiplier * common.to_f64() / self.options.temperature);
        }
        let common = &*coefficient;
        let probabilities = self.matrix(block.scores, rows).into_const();
        let diagonal = block.direction.map(|direction| self.matrix(direction, rows).into_const());
        // The second derivative of a sample's loss by the scores of classes k and j.
        let second = |i: usize, k: usize, j: usize| match diagonal {
            _ if is_silent(i) => T::ZERO,
            Some(diagonal) if j == k => diagonal[(i, k)],
            _ => common[i] * (probabilities[(i, k)] * probabilities[(i, j)]),
        };
        let width = self.options.theta_rows(self.features.features());
        let pairs = (0..self.classes()).flat_map(|k| (0..=k).map(move |j| (k, j)));
        let x = match x {
            Rows::Dense { x, .. } => x,
            Rows::Sparse { x, start, .. } => {
                if held == Destination::Replace {
                    matrix.fill(T::ZERO);
                }
                let intercept = self.options.intercept.then(|| (width - 1, T::ONE));
                for i in (0..rows).filter(|&i| !is_silent(i)) {
                    for (k, j) in pairs.clone() {
                        let second = second(i, k, j);
                        for (a, x_a) in x.row(start + i).chain(intercept) {
                            for (b, x_b) in x.row(start + i).chain(intercept) {
                                let out = &mut matrix[(k * width + a, j * width + b)];
                                *out += x_a * second * x_b;
                            }
                        }
                    }
                }
                return;
            }
        };
        // Samples with the 1 of the intercept, those of weight 0 without what could poison the product; and the same times
        // a number each.
        let (all, room) = self.copy_rows(rows, width, room, |i, out| {
            for (j, out) in out.iter_mut().enumerate() {
                *out = match j {
                    _ if is_silent(i) => T::ZERO,
                    j if j < x.ncols() => x[(i, j)],
                    _ => T::ONE,
                };
            }
        });
        for (k, j) in pairs {
            let (scaled, _) = self.copy_rows(rows, width, room, |i, out| {
                let second = second(i, k, j);
                out.iter_mut().zip(all.row(i).iter()).for_each(|(out, &x)| *out = second * x);
            });
            let dst = matrix.as_mut().submatrix_mut(k * width, j * width, width, width);
            self.product(Product {
                dst,
                held,
                a: scaled.transpose(),
                b: all,
                is_streamed: false,
                next: Span::NOTHING,
            });
        }
    }

    /// The second derivative of the losses in the space of the scores, along the direction or on the diagonal, in the
    /// direction's place; probabilities in that of the scores.
    fn curve(&self, x: Rows<'_, T>, block: &mut BlockData<'_, T>, room: &mut [T], curve: Curve) {
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
