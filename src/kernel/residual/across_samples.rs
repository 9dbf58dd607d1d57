//! Scores class by class: lanes run across samples.

use super::{PerSample, Residual, TargetResidual, Want, label_residual, sums};
use crate::kernel::ahead::{Ahead, each_line, prefetch};
use crate::kernel::exp::{exp_term, restored};
use crate::kernel::lanes::MAX_LANES;
use crate::kernel::lines::{Lines, line_mut};
use crate::kernel::log::Logarithm;
use crate::kernel::registers::is_emulated;
use crate::kernel::sum::CompensatedSum;
use crate::kernel::vector::{UNROLL, Vector, alone};
use pulp::Simd;

/// Classes up to which the scores of some registers of samples stay near from one pass over them to the next.
const NEAR_CLASSES: usize = 1 << 10;

/// Classes from one that is worked on to one that is asked for, where there are more.
const CLASSES_AHEAD: usize = 16;

/// What is done with some registers of samples, all their classes. `ASKS` tells whether to ask for the scores early.
pub(super) trait Groups<T: Logarithm>: Copy {
    fn group<S: Simd, const N: usize, const ASKS: bool>(
        self,
        simd: S,
        block: &mut Residual<'_, T>,
        start: usize,
    );
}

impl<T: Logarithm> Residual<'_, T> {
    /// Lanes across samples: some registers of samples at a time.
    #[inline(always)]
    pub(super) fn class_major<S: Simd>(&mut self, simd: S, groups: impl Groups<T>) {
        let lanes = Vector::<T, S>::COUNT;
        // The labels as numbers, in the place of their scores; of the padding, no class.
        let (numbers, padding) = self.per_sample.label_score.split_at_mut(self.labels.len());
        for (number, &label) in numbers.iter_mut().zip(self.labels) {
            *number = T::from_f64(f64::from(label));
        }
        padding.fill(-T::ONE);
        let samples = self.scores.samples.next_multiple_of(lanes);
        let asks = self.scores.classes > NEAR_CLASSES;
        let mut ahead = Ahead::new(self.next, samples / lanes);
        let mut start = 0;
        macro_rules! take {
            ($registers:expr, $asks:literal) => {
                let width = $registers * lanes;
                let end = start + (samples - start) / width * width;
                if start < end {
                    alone(
                        simd,
                        #[inline(always)]
                        || {
                            for start in (start..end).step_by(width) {
                                ahead.step($registers);
                                groups.group::<S, { $registers }, $asks>(simd, self, start);
                            }
                        },
                    );
                    start = end;
                }
            };
        }
        // Emulated, several at a time would be of no use, and take compilers minutes.
        if const { !is_emulated::<S>() } {
            if asks {
                take!(UNROLL, true);
            }
            take!(UNROLL, false);
            take!(UNROLL / 2, false);
        }
        take!(1, false);
        debug_assert_eq!(start, samples);
    }
}

/// Samples with labels. Which lanes a class is the label of is found by comparison, so that no lane is touched alone.
///
/// `WRITES` tells whether the scores are to be replaced.
#[derive(Clone, Copy)]
pub(super) struct LabelGroups<const WRITES: bool>;

impl<T: Logarithm, const WRITES: bool> Groups<T> for LabelGroups<WRITES> {
    #[inline(always)]
    fn group<S: Simd, const N: usize, const ASKS: bool>(
        self,
        simd: S,
        block: &mut Residual<'_, T>,
        start: usize,
    ) {
        let Residual { scores, per_sample, z_loss, want, .. } = block;
        let classes = scores.classes;
        let mut lines = scores.lines.as_mut().subrows_mut(start, N * Vector::<T, S>::COUNT);
        let zero = Vector::<T, S, N>::splat(simd, T::ZERO);
        // The number of a class, in all lanes of one register.
        let (first, one) = (Vector::<T, S>::splat(simd, T::ZERO), Vector::splat(simd, T::ONE));
        let label = Vector::<T, S, N>::load(simd, &per_sample.label_score[start..]);

        let mut top = Vector::splat(simd, T::NEG_INFINITY);
        for class in 0..classes {
            ask_ahead::<T, ASKS>(lines.as_ref(), class);
            top = top.larger(Vector::load(simd, line_mut(&mut lines, class)));
        }
        let infinite = infinite_rows(lines.as_ref(), top);

        let mut rest = CompensatedSum::<T, S, N>::new(simd);
        let mut lost = zero;
        let (mut label_score, mut at_label) = (Vector::splat(simd, T::NEG_INFINITY), zero);
        let mut this = first;
        rest.add_by_pairs(
            classes,
            #[inline(always)]
            |class| {
                ask_ahead::<T, ASKS>(lines.as_ref(), class);
                let at = line_mut(&mut lines, class);
                let z = Vector::load(simd, at);
                let e = exp_term(z - top, &mut lost);
                let is_label = Vector::repeat(this).equal(label);
                label_score = z.or_else(is_label, label_score);
                at_label = e.or_else(is_label, at_label);
                if WRITES {
                    e.store(at);
                }
                this = this + one;
                zero.or_else(is_label, e)
            },
        );

        let sums = sums(top, at_label, restored(rest.sum, lost), *z_loss);
        if WRITES {
            let (scale, at_label) = if *want == Want::Probabilities {
                (sums.inverse, sums.at_anchor * sums.inverse)
            } else {
                label_residual(&sums, Vector::load(simd, &per_sample.coefficient[start..]))
            };
            let mut this = first;
            for class in 0..classes {
                ask_ahead::<T, ASKS>(lines.as_ref(), class);
                let at = line_mut(&mut lines, class);
                let other = Vector::load(simd, at) * scale;
                at_label.or_else(Vector::repeat(this).equal(label), other).store(at);
                this = this + one;
            }
        }
        label_score.store(&mut per_sample.label_score[start..]);
        per_sample.keep(start, top, sums.tail, infinite);
    }
}

/// Samples with targets of all classes.
#[derive(Clone, Copy)]
pub(super) struct TargetGroups<'a, T>(pub(super) Lines<'a, T>);

impl<T: Logarithm> Groups<T> for TargetGroups<'_, T> {
    #[inline(always)]
    fn group<S: Simd, const N: usize, const ASKS: bool>(
        self,
        simd: S,
        block: &mut Residual<'_, T>,
        start: usize,
    ) {
        let Residual { scores, per_sample, z_loss, want, .. } = block;
        let classes = scores.classes;
        let mut lines = scores.lines.as_mut().subrows_mut(start, N * Vector::<T, S>::COUNT);
        let targets = self.0.subrows(start, lines.nrows());
        let zero = Vector::<T, S, N>::splat(simd, T::ZERO);
        let (first, one) = (Vector::<T, S>::splat(simd, T::ZERO), Vector::splat(simd, T::ONE));
        let mut top = Vector::splat(simd, T::NEG_INFINITY);
        let (mut anchor, mut this) = (zero, first);
        for class in 0..classes {
            ask_ahead::<T, ASKS>(lines.as_ref(), class);
            let z = Vector::load(simd, line_mut(&mut lines, class));
            anchor = Vector::repeat(this).or_else(top.less(z), anchor);
            top = top.larger(z);
            this = this + one;
        }
        let infinite = infinite_rows(lines.as_ref(), top);

        let half = Vector::splat(simd, T::from_f64(0.5));
        let half_top = top * half;
        let mut rest = CompensatedSum::<T, S, N>::new(simd);
        let mut spread = CompensatedSum::<T, S, N>::new(simd);
        let mut total = CompensatedSum::<T, S, N>::new(simd);
        let (mut at_anchor, mut lost) = (zero, zero);
        let mut this = first;
        for class in 0..classes {
            ask_ahead::<T, ASKS>(lines.as_ref(), class);
            ask_ahead::<T, ASKS>(targets, class);
            let at = line_mut(&mut lines, class);
            let z = Vector::load(simd, at);
            let t = Vector::load(simd, targets.col(class).as_slice());
            let e = exp_term(z - top, &mut lost);
            let is_anchor = Vector::repeat(this).equal(anchor);
            at_anchor = e.or_else(is_anchor, at_anchor);
            rest.add(zero.or_else(is_anchor, e));
            total.add(t);
            // Halves, whose difference cannot overflow; and 0·∞ is 0 here.
            spread.add(zero.or_else(t.equal(zero), t * (half_top - z * half)));
            if *want != Want::Loss {
                e.store(at);
            }
            this = this + one;
        }

        let sums = sums(top, at_anchor, restored(rest.sum, lost), *z_loss);
        if *want == Want::Probabilities {
            for class in 0..classes {
                ask_ahead::<T, ASKS>(lines.as_ref(), class);
                let at = line_mut(&mut lines, class);
                (Vector::load(simd, at) * sums.inverse).store(at);
            }
        } else if *want == Want::Residual {
            let coefficient = Vector::load(simd, &per_sample.coefficient[start..]);
            let residual = TargetResidual::new(&sums, coefficient, total.sum);
            let mut this = first;
            for class in 0..classes {
                ask_ahead::<T, ASKS>(lines.as_ref(), class);
                ask_ahead::<T, ASKS>(targets, class);
                let at = line_mut(&mut lines, class);
                let e = Vector::load(simd, at);
                let others = sums.rest.or_else(Vector::repeat(this).equal(anchor), sums.sum - e);
                residual.of(e, Vector::load(simd, targets.col(class).as_slice()), others).store(at);
                this = this + one;
            }
        }
        spread.sum.store(&mut per_sample.label_score[start..]);
        total.sum.store(&mut per_sample.total[start..]);
        per_sample.keep(start, top, sums.tail, infinite);
    }
}

/// Asks for the numbers of a class that comes soon, if at all.
#[inline(always)]
fn ask_ahead<T, const ASKS: bool>(lines: Lines<'_, T>, class: usize) {
    if ASKS && class + CLASSES_AHEAD < lines.ncols() {
        let soon = lines.col(class + CLASSES_AHEAD).as_slice();
        each_line(soon).for_each(prefetch);
    }
}

/// Of some registers of samples class by class: which have a score of +∞ and none of NaN, if any. Their log-sum-exp is +∞,
/// and no more is to be added to the difference between it and a score.
#[inline(always)]
fn infinite_rows<T: Logarithm, S: Simd, const N: usize>(
    lines: Lines<'_, T>,
    top: Vector<T, S, N>,
) -> Option<[[bool; MAX_LANES]; N]> {
    let mut infinite = None;
    for i in 0..N {
        if top.part(i).lanes().iter().fold(false, |any, &t| any | (t == T::INFINITY)) {
            infinite.get_or_insert([[false; MAX_LANES]; N])[i] =
                infinite_lanes(lines, i * Vector::<T, S>::COUNT, top.part(i).lanes());
        }
    }
    infinite
}

#[cold]
#[inline(never)]
fn infinite_lanes<T: Logarithm>(lines: Lines<'_, T>, start: usize, top: &[T]) -> [bool; MAX_LANES] {
    let mut infinite = [false; MAX_LANES];
    for (lane, &top) in top.iter().enumerate() {
        let mut row = lines.row(start + lane).iter();
        infinite[lane] = top == T::INFINITY && !row.any(|z| z.to_f64().is_nan());
    }
    infinite
}

/// Puts 0 where `which`, of the lanes of some registers.
#[cold]
#[inline(never)]
fn clear<T: Logarithm, const N: usize>(lanes: &mut [T], count: usize, which: [[bool; MAX_LANES]; N]) {
    for (lanes, which) in lanes.chunks_mut(count).zip(which) {
        for (x, _) in lanes.iter_mut().zip(which).filter(|(_, which)| *which) {
            *x = T::ZERO;
        }
    }
}

impl<T> PerSample<'_, T> {
    /// What the log-sum-exp of some registers of samples is made of: top and tail, but top alone where that is infinite.
    #[inline(always)]
    fn keep<S: Simd, const N: usize>(
        &mut self,
        start: usize,
        top: Vector<T, S, N>,
        tail: Vector<T, S, N>,
        infinite: Option<[[bool; MAX_LANES]; N]>,
    ) where
        T: Logarithm,
    {
        top.store(&mut self.top[start..]);
        tail.store(&mut self.tail[start..]);
        if let Some(infinite) = infinite {
            clear(&mut self.tail[start..], Vector::<T, S>::COUNT, infinite);
        }
    }
}
