//! The class of the largest score of each sample of a block.

use super::lanes::{Lanes, MAX_LANES};
use super::reduce::{max_ignoring_nan, position};
use super::scores::{Layout, Scores};
use super::vector::{Aligned, UNROLL, Vector};
use crate::schedule::Halves;
use pulp::{Simd, WithSimd};

/// The lowest of several; 0 where there is none. NaN is never the largest.
pub(crate) struct LargestClass<'a, T> {
    pub(crate) scores: Scores<'a, T>,
    /// One a sample.
    pub(crate) out: &'a mut [u32],
}

impl<T: Lanes> Halves for LargestClass<'_, T> {
    fn can_be_halved(&self) -> bool {
        self.scores.can_be_halved()
    }

    fn halves(self) -> (Self, Self) {
        let at = self.scores.middle();
        let (scores, out) = (self.scores.split_at(at), self.out.split_at_mut(at));
        (Self { scores: scores.0, out: out.0 }, Self { scores: scores.1, out: out.1 })
    }
}

impl<T: Lanes> WithSimd for &mut LargestClass<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = Vector::<T, S>::COUNT;
        let LargestClass { scores, out } = self;
        match scores.layout {
            Layout::SampleMajor => {
                for (sample, class) in out.iter_mut().enumerate() {
                    let row = scores.line(sample);
                    *class = position(row, max_ignoring_nan(simd, row)).unwrap_or(0) as u32;
                }
            }
            Layout::ClassMajor => {
                let (many, rest) = out.split_at_mut(out.len() / (UNROLL * lanes) * (UNROLL * lanes));
                let done = many.len();
                for (i, out) in many.chunks_mut(UNROLL * lanes).enumerate() {
                    across_samples::<T, S, UNROLL>(simd, scores, i * UNROLL * lanes, out);
                }
                for (i, out) in rest.chunks_mut(lanes).enumerate() {
                    across_samples::<T, S, 1>(simd, scores, done + i * lanes, out);
                }
            }
        }
    }
}

/// Of some registers of samples, from `start` on.
#[inline(always)]
fn across_samples<T: Lanes, S: Simd, const N: usize>(
    simd: S,
    scores: &mut Scores<'_, T>,
    start: usize,
    out: &mut [u32],
) {
    let (mut this, one) = (Vector::<T, S>::splat(simd, T::ZERO), Vector::splat(simd, T::ONE));
    let mut top = Vector::<T, S, N>::splat(simd, T::NEG_INFINITY);
    let mut class = Vector::repeat(this);
    for line in 0..scores.classes {
        let z = Vector::load(simd, &scores.line(line)[start..]);
        class = Vector::repeat(this).or_else(top.less(z), class);
        top = top.larger(z);
        this = this + one;
    }
    let mut classes = Aligned([T::ZERO; UNROLL * MAX_LANES]);
    class.store(&mut classes.0);
    for (out, class) in out.iter_mut().zip(classes.0) {
        *out = class.to_f64() as u32;
    }
    let lowest = top.least(Vector::splat(simd, T::INFINITY));
    if lowest.equal(lowest.constant(T::NEG_INFINITY)).any() {
        // Nothing is above −∞: the first that is no NaN.
        for (i, out) in out.iter_mut().enumerate() {
            let row = scores.lines.as_ref().row(start + i);
            if !row.iter().any(|&z| z > T::NEG_INFINITY) {
                *out = row.iter().position(|&z| z == T::NEG_INFINITY).unwrap_or(0) as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LargestClass;
    use crate::kernel::{Layout, MAX_LANES, Real, Scores, SimdLevel};
    use crate::schedule::Threads;

    /// What it is, score by score.
    fn expected(row: &[f64]) -> u32 {
        let classes = (0..row.len()).filter(|&class| !row[class].is_nan());
        classes.reduce(|top, class| if row[class] > row[top] { class } else { top }).unwrap_or(0) as u32
    }

    /// In both layouts, at every level, in one piece and in several; with ties, and scores that are no finite numbers.
    fn the_first_of_the_largest<T: Real>() {
        let scores = [f64::NAN, f64::NEG_INFINITY, f64::INFINITY, -0.0, 0.0, -3.5, 2.0, 7.0];
        let mut state = 1_u32;
        let mut score = |most: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            scores[((state >> 16) % most) as usize]
        };
        for (samples, classes) in [
            (0, 3),
            (1, 1),
            (1, 70),
            (7, 2),
            (16, 1),
            (39, 3),
            (67, 40),
            (67, 70),
            (150, 5),
            (150, 29),
            (333, 9),
            (333, 13),
        ] {
            // Of a sample, only some: in many, nothing is above −∞.
            let rows: Vec<Vec<f64>> =
                (0..samples).map(|i| (0..classes).map(|_| score([1, 2, 3, 8][i % 4])).collect()).collect();
            let expected: Vec<u32> = rows.iter().map(|row| expected(row)).collect();
            for layout in [Layout::ClassMajor, Layout::SampleMajor] {
                let stride = match layout {
                    Layout::ClassMajor => samples.next_multiple_of(MAX_LANES),
                    Layout::SampleMajor => classes + 3,
                };
                // What is behind a line is no score.
                let mut data = vec![T::from_f64(9.0); stride * samples.max(classes)];
                for (i, row) in rows.iter().enumerate() {
                    for (class, &z) in row.iter().enumerate() {
                        let at = if layout == Layout::ClassMajor {
                            class * stride + i
                        } else {
                            i * stride + class
                        };
                        data[at] = T::from_f64(z);
                    }
                }
                for level in SimdLevel::available() {
                    let (mut whole, mut pieces) = (vec![99; samples], vec![99; samples]);
                    let kernel = |part: LargestClass<'_, T>| T::run_largest_class(part, level);
                    let scores = Scores::new(&mut data, layout, stride, (samples, classes));
                    kernel(LargestClass { scores, out: &mut whole });
                    let scores = Scores::new(&mut data, layout, stride, (samples, classes));
                    let largest = LargestClass { scores, out: &mut pieces };
                    Threads::One.in_pieces(largest, &kernel, &|(), ()| ());
                    assert_eq!(whole, expected, "{samples}×{classes}, {layout:?}, {level:?}");
                    assert_eq!(pieces, expected, "{samples}×{classes}, {layout:?}, {level:?}, in pieces");
                }
            }
        }
    }

    #[test]
    fn the_first_of_the_largest_f32() {
        the_first_of_the_largest::<f32>();
    }

    #[test]
    fn the_first_of_the_largest_f64() {
        the_first_of_the_largest::<f64>();
    }
}
