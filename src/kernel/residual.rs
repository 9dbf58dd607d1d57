//! From a block of scores to its residual and loss, in place: the fused heart of the evaluation.
//!
//! Of a sample with scores z, label y and coefficient c (its weight, over the total weight if the mean is asked for),
//! with top = max z and eⱼ = exp(zⱼ − top):
//!
//! ```text
//! rest     = Σ_{j≠y} eⱼ,   S = rest + e_y
//! loss     = (top − z_y) + log1p(rest + (e_y − 1))
//! residual = c·eⱼ / S  for j ≠ y,   −c·rest / S  at the label
//! ```
//!
//! Nothing here cancels. Where y is the maximum, e_y = 1 exactly and the loss is log1p(rest), precise however small.
//! Where it is not, S ≥ 1 + e_y and the loss is at least (top − z_y) + e_y ≥ 1: an error of one ulp of S is one of the
//! loss. The residual at the label never passes through 1 − p.
//!
//! Probabilities are the same computation for samples whose label is [`NO_LABEL`], which is no class.

use super::exp::exp_nonpositive;
use super::lanes::{MAX_LANES, UNROLL, Vector};
use super::log::{Logarithm, log1p_nonnegative};
use super::reduce::{CompensatedSum, Scale, exp_and_sum, exp_sum, has_nan, map, max_ignoring_nan};
use pulp::{Simd, WithSimd};

/// Of a sample that has no label: its residual is its probabilities.
pub(crate) const NO_LABEL: u32 = u32::MAX;

/// How the scores of a block lie in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// Class by class, each `stride` long (a multiple of [`MAX_LANES`]): lanes run across samples.
    ClassMajor,
    /// Sample by sample, each `stride` long: lanes run across classes.
    SampleMajor,
}

/// A block of scores, samples × classes.
pub(crate) struct Scores<'a, T> {
    pub(crate) data: &'a mut [T],
    pub(crate) layout: Layout,
    pub(crate) stride: usize,
    pub(crate) samples: usize,
    pub(crate) classes: usize,
}

impl<T> Scores<'_, T> {
    #[inline(always)]
    fn index(&self, sample: usize, class: usize) -> usize {
        match self.layout {
            Layout::ClassMajor => class * self.stride + sample,
            Layout::SampleMajor => sample * self.stride + class,
        }
    }
}

/// What the kernel keeps of each sample while it works: one number each, padded to a multiple of [`MAX_LANES`].
pub(crate) struct PerSample<'a, T> {
    /// Score of the label; −∞ where there is none.
    pub(crate) label_score: &'a mut [T],
    /// c.
    pub(crate) coefficient: &'a mut [T],
    /// Maximum of the scores.
    pub(crate) top: &'a mut [T],
    /// log1p(rest + (e_y − 1)).
    pub(crate) tail: &'a mut [T],
}

/// What is wanted of a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The losses; the scores are left in no particular state.
    Loss,
    /// The losses, and the residual in place of the scores.
    Residual,
}

/// The whole of a block, as one dispatch.
pub(crate) struct Residual<'a, T> {
    pub(crate) scores: Scores<'a, T>,
    /// One a sample.
    pub(crate) labels: &'a [u32],
    /// One a sample, or none for 1.
    pub(crate) weights: Option<&'a [T]>,
    /// What the weight of a sample is divided by in its residual.
    pub(crate) divisor: f64,
    pub(crate) want: Want,
    pub(crate) per_sample: PerSample<'a, T>,
    /// Gets the loss of each sample, weight included.
    pub(crate) losses: Option<&'a mut [T]>,
}

impl<T: Logarithm> WithSimd for Residual<'_, T> {
    /// Sum of the losses.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> f64 {
        self.set_coefficients();
        match (self.scores.layout, self.want) {
            (Layout::ClassMajor, Want::Loss) => class_major::<T, S, false>(simd, &mut self),
            (Layout::ClassMajor, Want::Residual) => class_major::<T, S, true>(simd, &mut self),
            (Layout::SampleMajor, Want::Loss) => sample_major::<T, S, false>(simd, &mut self),
            (Layout::SampleMajor, Want::Residual) => sample_major::<T, S, true>(simd, &mut self),
        }
        self.sum_losses()
    }
}

impl<'a, T: Logarithm> Residual<'a, T> {
    /// Sets the coefficients, and makes samples of weight 0 harmless.
    #[inline(always)]
    fn set_coefficients(&mut self) {
        self.per_sample.coefficient.fill(T::from_f64(1.0 / self.divisor));
        if let Some(weights) = self.weights {
            for (i, (c, &weight)) in self.per_sample.coefficient.iter_mut().zip(weights).enumerate() {
                // Divided, and in f64: 1 / the sum of the weights may be no normal number.
                *c = T::from_f64(weight.to_f64() / self.divisor);
                if weight == T::ZERO {
                    silence(&mut self.scores, i);
                }
            }
        }
    }

    /// Σ weight·((top − z_y) + tail), in f64, where the difference of two finite f32 cannot overflow. Eight sums take
    /// turns, so that the order is the same at every level and the additions need not wait for one another.
    #[inline(always)]
    fn sum_losses(&mut self) -> f64 {
        const SUMS: usize = 8;
        let PerSample { label_score, top, tail, .. } = &self.per_sample;
        let samples = self.scores.samples;
        let weights = self.weights;
        let mut sums = [0.0_f64; SUMS];
        // The padding of the scratch holds numbers too, but they are nobody's.
        for start in (0..samples).step_by(SUMS) {
            let [label_score, top, tail] = [label_score, top, tail].map(|x| &x[start..start + SUMS]);
            let mut losses: [f64; SUMS] =
                core::array::from_fn(|i| (top[i].to_f64() - label_score[i].to_f64()) + tail[i].to_f64());
            let count = SUMS.min(samples - start);
            if let Some(weights) = weights {
                for (loss, weight) in losses.iter_mut().zip(&weights[start..start + count]) {
                    *loss *= weight.to_f64();
                }
            }
            if let Some(out) = &mut self.losses {
                for (out, &loss) in out[start..start + count].iter_mut().zip(&losses) {
                    *out = T::from_f64(loss);
                }
            }
            losses[count..].fill(0.0);
            for (sum, loss) in sums.iter_mut().zip(losses) {
                *sum += loss;
            }
        }
        let [a, b, c, d, e, f, g, h] = sums;
        ((a + b) + (c + d)) + ((e + f) + (g + h))
    }
}

/// Makes a sample of weight 0 harmless: its scores become 0, so that its loss and residual are finite, and 0 after
/// weighting.
#[cold]
#[inline(never)]
fn silence<T: Logarithm>(scores: &mut Scores<'_, T>, sample: usize) {
    for class in 0..scores.classes {
        let at = scores.index(sample, class);
        scores.data[at] = T::ZERO;
    }
}

/// The last step of a register of samples.
struct Finished<T: Logarithm, S: Simd, const N: usize> {
    /// c / S.
    scale: Vector<T, S, N>,
    /// −c·rest / S.
    label_residual: Vector<T, S, N>,
    /// log1p(rest + (e_y − 1)).
    tail: Vector<T, S, N>,
}

#[inline(always)]
fn finish<T: Logarithm, S: Simd, const N: usize>(
    top: Vector<T, S, N>,
    label_score: Vector<T, S, N>,
    rest: Vector<T, S, N>,
    coefficient: Vector<T, S, N>,
) -> Finished<T, S, N> {
    let at_label = exp_nonpositive(label_score - top);
    let sum = rest + at_label;
    Finished {
        scale: coefficient / sum,
        label_residual: (top.constant(T::ZERO) - coefficient) * (rest / sum),
        tail: log1p_nonnegative(rest + (at_label - top.constant(T::ONE))),
    }
}

/// Lanes across samples: some registers of samples at a time, all their classes.
#[inline(always)]
fn class_major<T: Logarithm, S: Simd, const RESIDUAL: bool>(simd: S, block: &mut Residual<'_, T>) {
    let lanes = Vector::<T, S>::COUNT;
    // The labels as numbers, in the place of their scores; of the padding, no class.
    block.per_sample.label_score.fill(-T::ONE);
    for (number, &label) in block.per_sample.label_score.iter_mut().zip(block.labels) {
        *number = T::from_f64(f64::from(label));
    }
    let samples = block.scores.samples.next_multiple_of(lanes);
    let mut start = 0;
    while start + UNROLL * lanes <= samples {
        class_major_group::<T, S, RESIDUAL, UNROLL>(simd, block, start);
        start += UNROLL * lanes;
    }
    while start < samples {
        class_major_group::<T, S, RESIDUAL, 1>(simd, block, start);
        start += lanes;
    }
}

/// N registers of samples. Which lanes a class is the label of is found by comparison, so that no lane is touched alone.
#[inline(always)]
fn class_major_group<T: Logarithm, S: Simd, const RESIDUAL: bool, const N: usize>(
    simd: S,
    block: &mut Residual<'_, T>,
    start: usize,
) {
    let Residual { scores, per_sample, .. } = block;
    let (stride, classes) = (scores.stride, scores.classes);
    let data = &mut scores.data[start..];
    let (zero, one) = (Vector::<T, S, N>::splat(simd, T::ZERO), Vector::splat(simd, T::ONE));
    let label = Vector::<T, S, N>::load_all(simd, &per_sample.label_score[start..]);

    let mut top = Vector::splat(simd, T::NEG_INFINITY);
    let mut label_score = top;
    let mut this = zero;
    for class in 0..classes {
        let z = Vector::load_all(simd, &data[class * stride..]);
        top = top.larger(z);
        label_score = z.or_else(this.equal(label), label_score);
        this = this + one;
    }

    let mut infinite = [[false; MAX_LANES]; N];
    for i in 0..N {
        if top.part(i).lanes().iter().fold(false, |any, &t| any | (t == T::INFINITY)) {
            let data = &data[i * Vector::<T, S>::COUNT..];
            infinite[i] = infinite_losses(data, stride, classes, label_score.part(i).lanes());
        }
    }

    let mut rest = CompensatedSum::<T, S, N>::new(simd);
    let mut this = zero;
    for class in 0..classes {
        let at = &mut data[class * stride..];
        let e = exp_nonpositive(Vector::load_all(simd, at) - top);
        rest.add(zero.or_else(this.equal(label), e));
        if RESIDUAL {
            e.store_all(at);
        }
        this = this + one;
    }

    let coefficient = Vector::load_all(simd, &per_sample.coefficient[start..]);
    let done = finish(top, label_score, rest.sum, coefficient);
    if RESIDUAL {
        let mut this = zero;
        for class in 0..classes {
            let at = &mut data[class * stride..];
            let other = Vector::load_all(simd, at) * done.scale;
            done.label_residual.or_else(this.equal(label), other).store_all(at);
            this = this + one;
        }
    }
    label_score.store_all(&mut per_sample.label_score[start..]);
    top.store_all(&mut per_sample.top[start..]);
    done.tail.store_all(&mut per_sample.tail[start..]);
    for (i, infinite) in infinite.iter().enumerate() {
        for lane in (0..MAX_LANES).filter(|&lane| infinite[lane]) {
            per_sample.tail[start + i * Vector::<T, S>::COUNT + lane] = T::ZERO;
        }
    }
}

/// Of a register of samples class by class, one of which has a score of +∞: whether the loss is +∞, since the label
/// has a lower score and none is NaN.
#[cold]
#[inline(never)]
fn infinite_losses<T: Logarithm>(
    data: &[T],
    stride: usize,
    classes: usize,
    label_score: &[T],
) -> [bool; MAX_LANES] {
    let mut infinite = [false; MAX_LANES];
    for (lane, &label_score) in label_score.iter().enumerate() {
        let mut others = data.iter().skip(lane).step_by(stride).take(classes);
        infinite[lane] = label_score < T::INFINITY
            && others.clone().any(|&z| z == T::INFINITY)
            && !others.any(|z| z.to_f64().is_nan());
    }
    infinite
}

/// Lanes across classes: a sample at a time.
///
/// The label's score is taken out of the row first (−∞ in its place, so that its term in the sum is 0) and its residual
/// is put there last; between the two no lane differs from another.
#[inline(always)]
fn sample_major<T: Logarithm, S: Simd, const RESIDUAL: bool>(simd: S, block: &mut Residual<'_, T>) {
    let Residual { scores, per_sample, labels, .. } = block;
    for sample in 0..scores.samples {
        let row = &mut scores.data[sample * scores.stride..][..scores.classes];
        let label = labels[sample];
        let label_score = match row.get_mut(label as usize) {
            Some(score) => core::mem::replace(score, T::NEG_INFINITY),
            None => T::NEG_INFINITY,
        };
        let others = max_ignoring_nan(simd, row);
        let top = if others < label_score { label_score } else { others };
        let infinite_loss = others == T::INFINITY && label_score < T::INFINITY && !has_nan(simd, row);
        let rest = if RESIDUAL { exp_and_sum(simd, row, top) } else { exp_sum(simd, row, top) };
        let done = finish(
            Vector::<T, S>::splat(simd, top),
            Vector::splat(simd, label_score),
            Vector::splat(simd, rest),
            Vector::splat(simd, per_sample.coefficient[sample]),
        );
        if RESIDUAL {
            map(simd, row, Scale(done.scale));
            if let Some(residual) = row.get_mut(label as usize) {
                *residual = done.label_residual.first();
            }
        }
        per_sample.label_score[sample] = label_score;
        per_sample.top[sample] = top;
        per_sample.tail[sample] = if infinite_loss { T::ZERO } else { done.tail.first() };
    }
}
