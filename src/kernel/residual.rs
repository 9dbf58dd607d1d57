//! From a block of scores to its residual and loss, in place: the fused heart of the evaluation.
//!
//! Of a sample with scores z, targets t ≥ 0 (T their sum) and coefficient c (its weight, over the total weight if the
//! mean is asked for), with top = max z, eⱼ = exp(zⱼ − top), S = Σ eⱼ and log-sum-exp L = top + log S:
//!
//! ```text
//! loss     = Σⱼ tⱼ·(L − zⱼ) + ζ·L²  = Σⱼ tⱼ·(top − zⱼ) + T·log S + ζ·L²
//! residual = c·(eⱼ·(M − tⱼ) − tⱼ·(S − eⱼ)) / S,   M = T + 2ζ·L
//! ```
//!
//! Nothing here cancels that need not: one class, the **anchor**, is left out of the sum of the eⱼ, so that S − e of the
//! anchor is `rest`, that sum itself, and log S = log1p(rest + (e − 1)).
//!
//! - With a label y, t is 1 there and 0 elsewhere, and y is the anchor. The loss is (top − z_y) + log S: where y is the
//!   maximum, e_y = 1 exactly and log S = log1p(rest), precise however small; where it is not, S ≥ 1 + e_y and the loss
//!   is at least (top − z_y) + e_y ≥ 1, so that an error of one ulp of S is one of the loss. The residual at the label is
//!   −c·rest / S and never passes through 1 − p.
//! - With other targets the anchor is the first class of the largest score. No term of the loss is negative.
//!
//! Where only the sum of the losses is wanted, a few samples share a logarithm, Σ log Sᵢ = log Π Sᵢ, and the product is
//! kept as what it has above 1, so that the losses of confident samples count in full.
//!
//! Probabilities are the same computation for samples whose label is [`NO_LABEL`], which is no class.

mod across_classes;
mod across_samples;

use super::ahead::Span;
use super::lines::{Lines, lines};
use super::log::{Logarithm, log1p_by_inverse, log1p_nonnegative};
use super::scores::{Layout, Scores};
use super::sum::{SUMS, sum_of};
use super::vector::{UNROLL, Vector, alone};
use crate::schedule::Halves;
use across_classes::{label_rows, target_rows};
use across_samples::{LabelGroups, TargetGroups};
use faer::MatRef;
use pulp::{Simd, WithSimd};

/// Of a sample that has no label: its residual is its probabilities.
pub(crate) const NO_LABEL: u32 = u32::MAX;

/// What the samples of a block should be recognised as.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a, T> {
    /// t = 1 at the label, 0 elsewhere.
    Label,
    /// Any t ≥ 0, by the same lines as the scores.
    Soft(Lines<'a, T>),
}

impl<'a, T> Target<'a, T> {
    /// In the order of the scores.
    pub(crate) fn soft(data: &'a [T], scores: &Scores<'_, T>) -> Self {
        let (len, count) = scores.lines.shape();
        let stride = scores.lines.col_stride().unsigned_abs();
        Self::Soft(lines(MatRef::from_column_major_slice_with_stride(data, len, count, stride)))
    }

    /// Those of the first samples, and of the others.
    fn split_at(self, at: usize, layout: Layout) -> (Self, Self) {
        match self {
            Self::Label => (Self::Label, Self::Label),
            Self::Soft(targets) => {
                let (a, b) = match layout {
                    Layout::ClassMajor => targets.split_at_row(at),
                    Layout::SampleMajor => targets.split_at_col(at),
                };
                (Self::Soft(a), Self::Soft(b))
            }
        }
    }
}

/// What the kernel keeps of each sample while it works: one number each, padded to a multiple of `MAX_LANES`.
pub(crate) struct PerSample<'a, T> {
    /// With labels: the score of the label; −∞ where there is none. Else ½·Σ tⱼ·(top − zⱼ).
    pub(crate) label_score: &'a mut [T],
    /// c.
    pub(crate) coefficient: &'a mut [T],
    /// Maximum of the scores.
    pub(crate) top: &'a mut [T],
    /// log S; at first S − 1, if ζ is 0. Where nobody asks for the loss of a sample, some hold that of a few, and these 0.
    pub(crate) tail: &'a mut [T],
    /// T, where the targets are no labels.
    pub(crate) total: &'a mut [T],
}

impl<'a, T> PerSample<'a, T> {
    /// Those of the first samples, and of the others.
    fn split_at(self, at: usize) -> (Self, Self) {
        let part =
            |label_score, coefficient, top, tail, total| Self { label_score, coefficient, top, tail, total };
        let (label_score, coefficient) =
            (self.label_score.split_at_mut(at), self.coefficient.split_at_mut(at));
        let (top, tail) = (self.top.split_at_mut(at), self.tail.split_at_mut(at));
        let total = self.total.split_at_mut(at);
        (
            part(label_score.0, coefficient.0, top.0, tail.0, total.0),
            part(label_score.1, coefficient.1, top.1, tail.1, total.1),
        )
    }

    /// The same for a while.
    pub(crate) fn reborrow(&mut self) -> PerSample<'_, T> {
        PerSample {
            label_score: self.label_score,
            coefficient: self.coefficient,
            top: self.top,
            tail: self.tail,
            total: self.total,
        }
    }
}

/// How many numbers that is.
pub(crate) const PER_SAMPLE: usize = 5;

/// What is wanted of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// The losses; the scores are left in no particular state.
    Loss,
    /// The losses, and the residual in place of the scores.
    Residual,
    /// The losses, and the probabilities in place of the scores.
    Probabilities,
}

/// The whole of a block, as one dispatch.
pub(crate) struct Residual<'a, T> {
    pub(crate) scores: Scores<'a, T>,
    pub(crate) target: Target<'a, T>,
    /// One a sample.
    pub(crate) labels: &'a [u32],
    /// One a sample, or none for 1.
    pub(crate) weights: Option<&'a [f64]>,
    /// What the weight of a sample is divided by in its residual.
    pub(crate) divisor: f64,
    /// ζ.
    pub(crate) z_loss: f64,
    pub(crate) want: Want,
    pub(crate) per_sample: PerSample<'a, T>,
    /// Gets the loss of each sample, weight included.
    pub(crate) losses: Option<&'a mut [T]>,
    /// What will be read next: it may be fetched meanwhile.
    pub(crate) next: Span,
}

impl<T: Logarithm> Halves for Residual<'_, T> {
    fn can_be_halved(&self) -> bool {
        self.scores.can_be_halved()
    }

    fn halves(self) -> (Self, Self) {
        let Self { divisor, z_loss, want, .. } = self;
        let part = |scores, target, labels, weights, per_sample, losses, next| Self {
            scores,
            target,
            labels,
            weights,
            divisor,
            z_loss,
            want,
            per_sample,
            losses,
            next,
        };
        let at = self.scores.middle();
        let target = self.target.split_at(at, self.scores.layout);
        let (scores, labels) = (self.scores.split_at(at), self.labels.split_at(at));
        let weights = self.weights.map(|weights| weights.split_at(at)).unzip();
        let per_sample = self.per_sample.split_at(at);
        let losses = self.losses.map(|losses| losses.split_at_mut(at)).unzip();
        let next = self.next.split(1, 1);
        (
            part(scores.0, target.0, labels.0, weights.0, per_sample.0, losses.0, next.0),
            part(scores.1, target.1, labels.1, weights.1, per_sample.1, losses.1, next.1),
        )
    }
}

impl<T: Logarithm> WithSimd for &mut Residual<'_, T> {
    /// Sum of the losses.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        self.set_coefficients();
        match (self.scores.layout, self.target, self.want) {
            (Layout::ClassMajor, Target::Label, Want::Loss) => {
                self.class_major(simd, LabelGroups::<false>);
            }
            (Layout::ClassMajor, Target::Label, _) => self.class_major(simd, LabelGroups::<true>),
            (Layout::ClassMajor, Target::Soft(targets), _) => {
                self.class_major(simd, TargetGroups(targets));
            }
            (Layout::SampleMajor, Target::Label, _) => alone(
                simd,
                #[inline(always)]
                || label_rows(simd, self),
            ),
            (Layout::SampleMajor, Target::Soft(targets), _) => alone(
                simd,
                #[inline(always)]
                || target_rows(simd, self, targets),
            ),
        }
        self.take_logarithms(simd);
        self.sum_losses()
    }
}

impl<'a, T: Logarithm> Residual<'a, T> {
    /// Sets the coefficients, and makes samples of weight 0 harmless.
    #[inline(always)]
    fn set_coefficients(&mut self) {
        let coefficients = &mut *self.per_sample.coefficient;
        coefficients.fill(T::from_f64(1.0 / self.divisor));
        if let Some(weights) = self.weights {
            for (c, &weight) in coefficients.iter_mut().zip(weights) {
                // Divided, and in f64: 1 / the sum of the weights may be no normal number.
                *c = T::from_f64(weight / self.divisor);
            }
            for sample in silent(Some(weights)) {
                silence(&mut self.scores, sample);
            }
        }
    }

    /// Whether the loss of a sample is (top − z_y) + log S, and only the sum of the losses is wanted.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        matches!(self.target, Target::Label)
            && self.z_loss == 0.0
            && self.weights.is_none()
            && self.losses.is_none()
    }

    /// From S − 1 of each sample to log S, at the end, where no sample waits for another's; unless the residuals needed it.
    #[inline(always)]
    fn take_logarithms<S: Simd>(&mut self, simd: S) {
        if self.z_loss != 0.0 {
            return;
        }
        let (lanes, samples) = (Vector::<T, S>::COUNT, self.scores.samples);
        // Padding must not share with samples.
        let width = UNROLL * lanes;
        let shared = if self.is_plain() { samples / width * width } else { 0 };
        let (shared, rest) = self.per_sample.tail[..samples.next_multiple_of(lanes)].split_at_mut(shared);
        for tails in shared.chunks_exact_mut(width) {
            log1p_of_product(Vector::<T, S, UNROLL>::load(simd, tails)).store(tails);
        }
        for tail in rest.chunks_exact_mut(lanes) {
            log1p_nonnegative(Vector::<T, S>::load(simd, tail)).store(tail);
        }
    }

    /// Σ weight·loss, in f64, where the difference of two finite f32 cannot overflow. Eight sums take turns, so that the
    /// order is the same at every level and the additions need not wait for one another.
    #[inline(always)]
    fn sum_losses(&mut self) -> f64 {
        let (whole, rest) = (self.scores.samples / SUMS, self.scores.samples % SUMS);
        let mut sums = [0.0; SUMS];
        if self.is_plain() {
            for chunk in 0..whole {
                self.add_losses::<true>(chunk, SUMS, &mut sums);
            }
        } else {
            for chunk in 0..whole {
                self.add_losses::<false>(chunk, SUMS, &mut sums);
            }
        }
        if rest > 0 {
            self.add_losses::<false>(whole, rest, &mut sums);
        }
        sum_of(sums)
    }

    /// Those of so many samples of a chunk, to a sum each. `PLAIN`: with labels, and no option changes a loss.
    #[inline(always)]
    fn add_losses<const PLAIN: bool>(&mut self, chunk: usize, count: usize, sums: &mut [f64; SUMS]) {
        let PerSample { label_score, top, tail, total, .. } = &self.per_sample;
        let (label_score, top, tail) =
            (chunk_of(label_score, chunk), chunk_of(top, chunk), chunk_of(tail, chunk));
        let mut losses = [0.0; SUMS];
        if !PLAIN && matches!(self.target, Target::Soft(_)) {
            let total = chunk_of(total, chunk);
            for i in 0..SUMS {
                losses[i] = 2.0 * label_score[i].to_f64() + total[i].to_f64() * tail[i].to_f64();
            }
        } else {
            for i in 0..SUMS {
                losses[i] = (top[i].to_f64() - label_score[i].to_f64()) + tail[i].to_f64();
            }
        }
        if !PLAIN {
            if self.z_loss != 0.0 {
                for i in 0..SUMS {
                    let log_sum_exp = top[i].to_f64() + tail[i].to_f64();
                    losses[i] += self.z_loss * (log_sum_exp * log_sum_exp);
                }
            }
            let samples = chunk * SUMS..chunk * SUMS + count;
            if let Some(weights) = self.weights {
                for (loss, weight) in losses.iter_mut().zip(&weights[samples.clone()]) {
                    *loss *= weight;
                }
            }
            if let Some(out) = &mut self.losses {
                for (out, &loss) in out[samples].iter_mut().zip(&losses) {
                    *out = T::from_f64(loss);
                }
            }
            // The padding of the scratch holds numbers too, but they are nobody's.
            losses[count..].fill(0.0);
        }
        for i in 0..SUMS {
            sums[i] += losses[i];
        }
    }
}

/// Some neighbouring samples' numbers.
#[inline(always)]
fn chunk_of<T>(numbers: &[T], chunk: usize) -> &[T; SUMS] {
    &numbers.as_chunks::<SUMS>().0[chunk]
}

/// The samples of weight 0. There are seldom any, so some are looked at together.
#[inline(always)]
pub(crate) fn silent(weights: Option<&[f64]>) -> impl Iterator<Item = usize> + '_ {
    const TOGETHER: usize = 64;
    let is_silent = |weight: f64| weight == 0.0;
    let chunks = weights.unwrap_or_default().chunks(TOGETHER).enumerate();
    let some = chunks.filter(move |(_, chunk)| chunk.iter().fold(false, |any, &w| any | is_silent(w)));
    some.flat_map(move |(i, chunk)| {
        let samples = (i * TOGETHER..).zip(chunk);
        samples.filter(move |&(_, &weight)| is_silent(weight)).map(|(sample, _)| sample)
    })
}

/// Makes a sample of weight 0 harmless: its scores become 0, so that its loss and residual are finite, and 0 after
/// weighting.
#[cold]
#[inline(never)]
fn silence<T: Logarithm>(scores: &mut Scores<'_, T>, sample: usize) {
    for class in 0..scores.classes {
        *scores.at(sample, class) = T::ZERO;
    }
}

/// What is known of some registers of samples once the eⱼ are summed.
struct Sums<T: Logarithm, S: Simd, const N: usize> {
    /// e of the anchor.
    at_anchor: Vector<T, S, N>,
    /// Σ e of the others.
    rest: Vector<T, S, N>,
    /// S.
    sum: Vector<T, S, N>,
    /// 1 / S.
    inverse: Vector<T, S, N>,
    /// S − 1; log S, if ζ is not 0.
    tail: Vector<T, S, N>,
    /// 2ζ·L, if ζ is not 0.
    slope: Option<Vector<T, S, N>>,
}

/// From the e of the anchor and the sum of the others'.
#[inline(always)]
fn sums<T: Logarithm, S: Simd, const N: usize>(
    top: Vector<T, S, N>,
    at_anchor: Vector<T, S, N>,
    rest: Vector<T, S, N>,
    z_loss: f64,
) -> Sums<T, S, N> {
    let one = top.constant(T::ONE);
    let sum = rest + at_anchor;
    let inverse = one / sum;
    let above_one = rest + (at_anchor - one);
    let (tail, slope) = if z_loss == 0.0 {
        (above_one, None)
    } else {
        let tail = log1p_by_inverse(above_one, inverse);
        (tail, Some((top + tail) * top.constant(T::from_f64(2.0 * z_loss))))
    };
    Sums { at_anchor, rest, sum, inverse, tail, slope }
}

/// Σ log(1 + a) of some registers, as one logarithm: in the first, and 0 in the others.
#[inline(always)]
fn log1p_of_product<T: Logarithm, S: Simd, const N: usize>(a: Vector<T, S, N>) -> Vector<T, S, N> {
    let mut product = a.part(0);
    for i in 1..N {
        // (1 + a)·(1 + b) − 1 = a + b + a·b: no term is negative, so nothing cancels.
        product = product.mul_add(a.part(i), product + a.part(i));
    }
    let mut log = a.constant(T::ZERO);
    log.registers[0] = log1p_nonnegative(product).register();
    log
}

/// Of samples with labels: what the eⱼ are multiplied by, and the residual at the label.
#[inline(always)]
fn label_residual<T: Logarithm, S: Simd, const N: usize>(
    sums: &Sums<T, S, N>,
    coefficient: Vector<T, S, N>,
) -> (Vector<T, S, N>, Vector<T, S, N>) {
    let scale = coefficient * sums.inverse;
    let one = scale.constant(T::ONE);
    // The probability of the others: exactly 1 where the label's is too small to be seen in S.
    let others = one.or_else(sums.rest.equal(sums.sum), sums.rest * sums.inverse);
    match sums.slope {
        None => (scale, scale.constant(T::ZERO) - coefficient * others),
        Some(slope) => {
            (scale * (one + slope), coefficient * (slope * (sums.at_anchor * sums.inverse) - others))
        }
    }
}

/// Of samples with other targets: what turns e and t of a class into its residual.
#[derive(Clone, Copy)]
struct TargetResidual<T: Logarithm, S: Simd, const N: usize> {
    scale: Vector<T, S, N>,
    sum: Vector<T, S, N>,
    /// M.
    multiplier: Vector<T, S, N>,
}

impl<T: Logarithm, S: Simd, const N: usize> TargetResidual<T, S, N> {
    #[inline(always)]
    fn new(sums: &Sums<T, S, N>, coefficient: Vector<T, S, N>, total: Vector<T, S, N>) -> Self {
        let multiplier = match sums.slope {
            None => total,
            Some(slope) => total + slope,
        };
        Self { scale: coefficient * sums.inverse, sum: sums.sum, multiplier }
    }

    /// `others` is S − e.
    #[inline(always)]
    fn of(&self, e: Vector<T, S, N>, t: Vector<T, S, N>, others: Vector<T, S, N>) -> Vector<T, S, N> {
        self.scale * (e * (self.multiplier - t) - t * others)
    }
}
