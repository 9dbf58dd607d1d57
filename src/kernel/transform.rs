//! What the scores go through before the softmax, element by element: z = cap·tanh(s / cap) / temperature.

use super::lanes::Lanes;
use super::map::{Pairwise, Scale, map, map_with};
use super::tanh::{Tangent, tanh_and_slope};
use super::vector::{UNROLL, Vector};
use crate::schedule::{Halves, middle};
use pulp::{Simd, WithSimd};

/// A block's scores s, which become z, with what derivatives need of the cap. (Those leave the temperature to their
/// coefficient: it is the same for all.) All slices are as long as the scores.
pub(crate) struct Transform<'a, T> {
    pub(crate) scores: &'a mut [T],
    pub(crate) temperature: f64,
    pub(crate) soft_cap: Option<SoftCap<'a, T>>,
    /// A direction u in the space of s, which becomes that of z: slope·u / temperature.
    pub(crate) direction: Option<&'a mut [T]>,
}

/// The cap, and where its derivatives go.
pub(crate) struct SoftCap<'a, T> {
    pub(crate) cap: f64,
    /// 1 − tanh²(s / cap).
    pub(crate) slopes: Option<&'a mut [T]>,
    /// The second derivative, −2·tanh(s / cap)·slope / cap, times u.
    pub(crate) bends: Option<&'a mut [T]>,
}

/// Numbers that are worth a thread: some 10 µs of one core.
const PIECE: usize = 1 << 14;

impl<T: Send + Sync> Halves for Transform<'_, T> {
    fn can_be_halved(&self) -> bool {
        self.scores.len() > PIECE
    }

    fn halves(self) -> (Self, Self) {
        let Self { scores, temperature, soft_cap, direction } = self;
        let at = middle(scores.len());
        let (scores, scores_1) = scores.split_at_mut(at);
        let (soft_cap, soft_cap_1) = soft_cap.map(|soft_cap| soft_cap.split_at(at)).unzip();
        let (direction, direction_1) = direction.map(|direction| direction.split_at_mut(at)).unzip();
        (
            Self { scores, temperature, soft_cap, direction },
            Self { scores: scores_1, temperature, soft_cap: soft_cap_1, direction: direction_1 },
        )
    }
}

impl<T> SoftCap<'_, T> {
    fn split_at(self, at: usize) -> (Self, Self) {
        let Self { cap, slopes, bends } = self;
        let (slopes, slopes_1) = slopes.map(|slopes| slopes.split_at_mut(at)).unzip();
        let (bends, bends_1) = bends.map(|bends| bends.split_at_mut(at)).unzip();
        (Self { cap, slopes, bends }, Self { cap, slopes: slopes_1, bends: bends_1 })
    }
}

impl<T: Tangent> WithSimd for &mut Transform<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Transform { scores, temperature, soft_cap, direction } = self;
        let cool = Vector::<T, S>::splat(simd, T::from_f64(1.0 / *temperature));
        match soft_cap {
            Some(soft_cap) => capped(scores, cool, soft_cap, direction.as_deref_mut()),
            None if *temperature != 1.0 => {
                map(simd, scores, Scale(cool));
                if let Some(direction) = direction {
                    map(simd, direction, Scale(cool));
                }
            }
            None => {}
        }
    }
}

/// Planes are made of whole registers.
#[inline(always)]
fn capped<T: Tangent, S: Simd>(
    scores: &mut [T],
    cool: Vector<T, S>,
    soft_cap: &mut SoftCap<'_, T>,
    mut direction: Option<&mut [T]>,
) {
    let lanes = Vector::<T, S>::COUNT;
    let mut start = 0;
    while start + UNROLL * lanes <= scores.len() {
        cap_at::<T, S, UNROLL>(start, scores, cool, soft_cap, direction.as_deref_mut());
        start += UNROLL * lanes;
    }
    while start < scores.len() {
        cap_at::<T, S, 1>(start, scores, cool, soft_cap, direction.as_deref_mut());
        start += lanes;
    }
}

#[inline(always)]
fn cap_at<T: Tangent, S: Simd, const N: usize>(
    start: usize,
    scores: &mut [T],
    cool: Vector<T, S>,
    SoftCap { cap, slopes, bends }: &mut SoftCap<'_, T>,
    direction: Option<&mut [T]>,
) {
    let simd = cool.simd;
    let cool = Vector::<T, S, N>::repeat(cool);
    let inverse = cool.constant(T::from_f64(1.0 / *cap));
    let bend = cool.constant(T::from_f64(-2.0 / *cap));
    let (tanh, slope) = tanh_and_slope(Vector::<T, S, N>::load(simd, &scores[start..]) * inverse);
    (cool.constant(T::from_f64(*cap)) * tanh * cool).store(&mut scores[start..]);
    if let Some(slopes) = slopes {
        slope.store(&mut slopes[start..]);
    }
    if let Some(direction) = direction {
        let u = Vector::<T, S, N>::load(simd, &direction[start..]);
        (slope * u * cool).store(&mut direction[start..]);
        if let Some(bends) = bends {
            (bend * tanh * slope * u).store(&mut bends[start..]);
        }
    }
}

/// x becomes x·by, element by element: the chain rule.
pub(crate) struct Multiply<'a, T> {
    pub(crate) x: &'a mut [T],
    pub(crate) by: &'a [T],
}

impl<T: Send + Sync> Halves for Multiply<'_, T> {
    fn can_be_halved(&self) -> bool {
        self.x.len() > PIECE
    }

    fn halves(self) -> (Self, Self) {
        let at = middle(self.x.len());
        let ((x, x_1), (by, by_1)) = (self.x.split_at_mut(at), self.by.split_at(at));
        (Self { x, by }, Self { x: x_1, by: by_1 })
    }
}

impl<T: Lanes> WithSimd for &mut Multiply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        map_with(simd, self.x, self.by, Times);
    }
}

struct Times;

impl<T: Lanes, S: Simd> Pairwise<T, S> for Times {
    #[inline(always)]
    fn of<const N: usize>(&self, x: Vector<T, S, N>, y: Vector<T, S, N>) -> Vector<T, S, N> {
        x * y
    }
}
