//! Scores sample by sample: lanes run across classes.

use super::{Residual, Sums, TargetResidual, Want, label_residual, sums};
use crate::kernel::exp::exp_nonpositive;
use crate::kernel::lines::Lines;
use crate::kernel::log::Logarithm;
use crate::kernel::map::{Pairwise, Scale, map, map_with};
use crate::kernel::reduce::{exp_and_sum, exp_sum, has_nan, max_ignoring_nan, position, spread_and_total};
use crate::kernel::vector::Vector;
use pulp::Simd;

/// Of a row whose anchor's score is −∞ now, so that its term in the sum is 0; unless the losses alone are wanted, the e
/// replace the scores.
#[inline(always)]
fn row_sums<T: Logarithm, S: Simd>(
    simd: S,
    row: &mut [T],
    top: T,
    anchor_score: T,
    z_loss: f64,
    want: Want,
) -> Sums<T, S, 1> {
    let rest =
        if want == Want::Loss { exp_sum(simd, row, top) } else { exp_and_sum::<_, _, false>(simd, row, top) };
    let [top, anchor_score, rest] = [top, anchor_score, rest].map(
        #[inline(always)]
        |x| Vector::splat(simd, x),
    );
    sums(top, exp_nonpositive(anchor_score - top), rest, z_loss)
}

/// Lanes across classes: a sample with a label at a time.
///
/// The label's score is taken out of the row first (−∞ in its place, so that its term in the sum is 0) and its residual
/// is put there last; between the two no lane differs from another.
#[inline(always)]
pub(super) fn label_rows<T: Logarithm, S: Simd>(simd: S, block: &mut Residual<'_, T>) {
    let Residual { scores, per_sample, labels, z_loss, want, .. } = block;
    for sample in 0..scores.samples {
        let row = scores.line(sample);
        let label = labels[sample];
        let label_score = match row.get_mut(label as usize) {
            Some(score) => core::mem::replace(score, T::NEG_INFINITY),
            None => T::NEG_INFINITY,
        };
        let others = max_ignoring_nan(simd, row);
        let top = if others < label_score { label_score } else { others };
        let infinite = top == T::INFINITY && !has_nan(simd, row);
        let sums = row_sums(simd, row, top, label_score, *z_loss, *want);
        if *want == Want::Probabilities {
            if let Some(e) = row.get_mut(label as usize) {
                *e = sums.at_anchor.first();
            }
            map(simd, row, Scale(sums.inverse));
        } else if *want == Want::Residual {
            let (scale, at_label) =
                label_residual(&sums, Vector::splat(simd, per_sample.coefficient[sample]));
            map(simd, row, Scale(scale));
            if let Some(residual) = row.get_mut(label as usize) {
                *residual = at_label.first();
            }
        }
        per_sample.label_score[sample] = label_score;
        per_sample.top[sample] = top;
        per_sample.tail[sample] = if infinite { T::ZERO } else { sums.tail.first() };
    }
}

/// Lanes across classes: a sample with targets of all classes at a time. The anchor takes the label's place.
#[inline(always)]
pub(super) fn target_rows<T: Logarithm, S: Simd>(
    simd: S,
    block: &mut Residual<'_, T>,
    targets: Lines<'_, T>,
) {
    let Residual { scores, per_sample, z_loss, want, .. } = block;
    for sample in 0..scores.samples {
        let (row, t) = (scores.line(sample), targets.col(sample).as_slice());
        let top = max_ignoring_nan(simd, row);
        let infinite = top == T::INFINITY && !has_nan(simd, row);
        let (spread, total) = spread_and_total(simd, row, t, top);
        let anchor = position(row, top).unwrap_or(0);
        let anchor_score = core::mem::replace(&mut row[anchor], T::NEG_INFINITY);
        let sums = row_sums(simd, row, top, anchor_score, *z_loss, *want);
        if *want == Want::Probabilities {
            row[anchor] = sums.at_anchor.first();
            map(simd, row, Scale(sums.inverse));
        } else if *want == Want::Residual {
            let residual = TargetResidual::new(
                &sums,
                Vector::splat(simd, per_sample.coefficient[sample]),
                Vector::splat(simd, total),
            );
            map_with(simd, row, t, RowResidual(residual));
            row[anchor] = residual.of(sums.at_anchor, Vector::splat(simd, t[anchor]), sums.rest).first();
        }
        per_sample.label_score[sample] = spread;
        per_sample.total[sample] = total;
        per_sample.top[sample] = top;
        per_sample.tail[sample] = if infinite { T::ZERO } else { sums.tail.first() };
    }
}

/// As a function of e and t, of classes that are not the anchor.
struct RowResidual<T: Logarithm, S: Simd>(TargetResidual<T, S, 1>);

impl<T: Logarithm, S: Simd> Pairwise<T, S> for RowResidual<T, S> {
    #[inline(always)]
    fn of<const N: usize>(&self, e: Vector<T, S, N>, t: Vector<T, S, N>) -> Vector<T, S, N> {
        let TargetResidual { scale, sum, multiplier } = self.0;
        let all = TargetResidual {
            scale: Vector::repeat(scale),
            sum: Vector::repeat(sum),
            multiplier: Vector::repeat(multiplier),
        };
        all.of(e, t, all.sum - e)
    }
}
