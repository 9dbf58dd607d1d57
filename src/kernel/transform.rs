//! What the scores go through before the softmax, element by element: z = cap·tanh(s / cap) / temperature.

use super::lanes::{Lanes, UNROLL, Vector};
use super::reduce::{Pairwise, Scale, map, map_with};
use super::tanh::{Tangent, tanh_and_slope};
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

impl<T: Tangent> WithSimd for Transform<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scores, temperature, soft_cap, mut direction } = self;
        let cool = Vector::<T, S>::splat(simd, T::from_f64(1.0 / temperature));
        match soft_cap {
            Some(soft_cap) => capped(simd, scores, cool, soft_cap, direction),
            None if temperature != 1.0 => {
                map(simd, scores, Scale(cool));
                if let Some(direction) = &mut direction {
                    map(simd, direction, Scale(cool));
                }
            }
            None => {}
        }
    }
}

#[inline(always)]
fn capped<T: Tangent, S: Simd>(
    simd: S,
    scores: &mut [T],
    cool: Vector<T, S>,
    soft_cap: SoftCap<'_, T>,
    mut direction: Option<&mut [T]>,
) {
    let SoftCap { cap, mut slopes, mut bends } = soft_cap;
    let cool = Vector::<T, S, UNROLL>::repeat(cool);
    let inverse = cool.constant(T::from_f64(1.0 / cap));
    let bend = cool.constant(T::from_f64(-2.0 / cap));
    let cap = cool.constant(T::from_f64(cap));
    let width = UNROLL * Vector::<T, S>::COUNT;
    for start in (0..scores.len()).step_by(width) {
        let end = scores.len().min(start + width);
        let (tanh, slope) = tanh_and_slope(load_some(simd, &scores[start..end]) * inverse);
        store_some(cap * tanh * cool, &mut scores[start..end]);
        if let Some(slopes) = &mut slopes {
            store_some(slope, &mut slopes[start..end]);
        }
        if let Some(direction) = &mut direction {
            let u = load_some(simd, &direction[start..end]);
            store_some(slope * u * cool, &mut direction[start..end]);
            if let Some(bends) = &mut bends {
                store_some(bend * tanh * slope * u, &mut bends[start..end]);
            }
        }
    }
}

/// The first registers from a slice of at most as many, zeros behind.
#[inline(always)]
fn load_some<T: Tangent, S: Simd>(simd: S, x: &[T]) -> Vector<T, S, UNROLL> {
    let lanes = Vector::<T, S>::COUNT;
    if x.len() == UNROLL * lanes {
        return Vector::load(simd, x);
    }
    let mut all = Vector::splat(simd, T::ZERO);
    for (register, x) in all.registers.iter_mut().zip(x.chunks(lanes)) {
        *register = Vector::load_padded(simd, x, T::ZERO).register();
    }
    all
}

/// The first registers to a slice of at most as many.
#[inline(always)]
fn store_some<T: Tangent, S: Simd>(v: Vector<T, S, UNROLL>, out: &mut [T]) {
    let lanes = Vector::<T, S>::COUNT;
    if out.len() == UNROLL * lanes {
        return v.store(out);
    }
    for (i, out) in out.chunks_mut(lanes).enumerate() {
        v.part(i).store_padded(out);
    }
}

/// x becomes x·by, element by element: the chain rule.
pub(crate) struct Multiply<'a, T> {
    pub(crate) x: &'a mut [T],
    pub(crate) by: &'a [T],
}

impl<T: Lanes> WithSimd for Multiply<'_, T> {
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
