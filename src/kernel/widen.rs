//! Numbers of 16 bits as wider ones, exactly, by shifts and at most one product: what every instruction set has.

use super::lanes::Lanes;
use pulp::{Simd, WithSimd};

/// What 16 bits mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Narrow {
    /// IEEE 754 binary16: 5 bits of exponent, 10 of fraction.
    F16,
    /// The upper half of an `f32`.
    Bf16,
}

/// As many numbers as there is place for.
pub(crate) struct Widen<'a, T> {
    pub(crate) bits: &'a [u16],
    pub(crate) narrow: Narrow,
    pub(crate) out: &'a mut [T],
}

impl<T: Lanes> WithSimd for &mut Widen<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let all = self.out.iter_mut().zip(self.bits);
        // The compiler makes vectors of both loops.
        match self.narrow {
            Narrow::F16 => all.for_each(
                #[inline(always)]
                |(out, &x)| *out = T::from_f32(from_f16(x)),
            ),
            Narrow::Bf16 => all.for_each(
                #[inline(always)]
                |(out, &x)| *out = T::from_f32(f32::from_bits(u32::from(x) << 16)),
            ),
        }
    }
}

/// The exponent of an `f32` beyond that of a binary16 with the same bits, as a power of 2: 127 − 15.
const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);

/// Exponent and fraction are moved to where an `f32` has them, and multiplied by what their biases differ in, which makes
/// subnormal numbers right too. Infinities and NaN get the exponent that those of an `f32` have.
#[inline(always)]
fn from_f16(x: u16) -> f32 {
    let x = u32::from(x);
    let (sign, magnitude) = ((x & 0x8000) << 16, (x & 0x7fff) << 13);
    let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
    let magnitude = if magnitude >= 0x1f << 23 { magnitude | 0xff << 23 } else { finite };
    f32::from_bits(sign | magnitude)
}
