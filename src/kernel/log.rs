//! The natural logarithm, and log(1 + a).
//!
//! With x = 2ᵏ·(1 + f), √½ ≤ 1 + f < √2, and s = f / (2 + f), so that log(1 + f) = 2 artanh(s):
//!
//! ```text
//! log(x) = k·ln 2 + f − (½f² − s·(½f² + R)),   R ≈ s²·L(s²)
//! ```
//!
//! the arrangement of fdlibm's `e_log.c` (Sun Microsystems, 1993), which keeps the relative error near x = 1. L is the
//! minimax polynomial (Sollya's `fpminimax`; relative error 2.0e-8 of R for f32, 3.1e-16 for f64). ln 2 is split so
//! that k·ln2_hi is exact.

use super::exp::Exponential;
use super::map::Elementwise;
use super::vector::Vector;
use pulp::{Simd, bytemuck};

/// Numbers with a logarithm. Domain: all. Error ≤ 1 ulp (measured: see `tests/ulp.rs`). log(±0) = −∞,
/// log(+∞) = +∞, log of NaN and of numbers below 0 is NaN; subnormal arguments count in full.
pub trait Logarithm: Exponential {
    /// Of zᵈ … z⁰ in L(z).
    const SERIES: &'static [Self];
    /// Smallest normal number.
    const MIN_NORMAL: Self;
    /// A power of two that makes every subnormal number normal.
    const LIFT: Self;
    /// −log₂ of [`LIFT`](Self::LIFT).
    const LIFTED: Self;

    /// (k, 1 + f) of normal numbers > 0.
    fn exponent_and_significand<S: Simd>(
        simd: S,
        x: Self::Register<S>,
    ) -> (Self::Register<S>, Self::Register<S>);
}

/// [`log`], element by element.
pub(crate) struct LogOf;

impl<T: Logarithm, S: Simd> Elementwise<T, S> for LogOf {
    #[inline(always)]
    fn of<const N: usize>(&self, x: Vector<T, S, N>) -> Vector<T, S, N> {
        log(x)
    }
}

/// log(x), any x.
#[inline(always)]
pub(crate) fn log<T: Logarithm, S: Simd, const N: usize>(x: Vector<T, S, N>) -> Vector<T, S, N> {
    let zero = x.constant(T::ZERO);
    let subnormal = x.less(x.constant(T::MIN_NORMAL));
    let lifted = (x * x.constant(T::LIFT)).or_else(subnormal, x);
    let y = log_normal(lifted, x.constant(T::LIFTED).or_else(subnormal, zero));

    let not_positive = x.constant(T::NEG_INFINITY).or_else(x.equal(zero), x.constant(T::NAN));
    let y = y.or_else(zero.less(x), not_positive);
    y.or_else(x.less(x.constant(T::INFINITY)), x)
}

/// log(1 + a) for 0 ≤ a < +∞, or NaN (which gives NaN). Relative error ≤ 2 ulp (measured) down to the smallest a.
///
/// u = 1 + a is rounded; what it lost, divided by u, is the first-order correction.
#[inline(always)]
pub(crate) fn log1p_nonnegative<T: Logarithm, S: Simd, const N: usize>(
    a: Vector<T, S, N>,
) -> Vector<T, S, N> {
    let one = a.constant(T::ONE);
    log1p_by_inverse(a, one / (one + a))
}

/// The same, where 1 / (1 + a) is known: to a few digits will do, but exactly where it is 1.
#[inline(always)]
pub(crate) fn log1p_by_inverse<T: Logarithm, S: Simd, const N: usize>(
    a: Vector<T, S, N>,
    inverse: Vector<T, S, N>,
) -> Vector<T, S, N> {
    let one = a.constant(T::ONE);
    let u = one + a;
    let lost = a.smaller(one) - (u - a.larger(one));
    // `lost` is NaN where a is.
    log_normal(u, a.constant(T::ZERO)) + lost * inverse
}

/// log(x) + k₀ ln 2 for normal x > 0.
#[inline(always)]
fn log_normal<T: Logarithm, S: Simd, const N: usize>(
    x: Vector<T, S, N>,
    k0: Vector<T, S, N>,
) -> Vector<T, S, N> {
    let (mut k, mut significand) = (x, x);
    for i in 0..N {
        (k.registers[i], significand.registers[i]) = T::exponent_and_significand(x.simd, x.registers[i]);
    }
    let k = k + k0;
    let f = significand - x.constant(T::ONE);
    let s = f / (f + x.constant(T::from_f64(2.0)));
    let z = s * s;
    let mut l = x.constant(T::SERIES[0]);
    for &c in &T::SERIES[1..] {
        l = l.mul_add(z, x.constant(c));
    }
    let half_square = x.constant(T::from_f64(0.5)) * f * f;
    let low = s.mul_add(z.mul_add(l, half_square), k * x.constant(T::LN2_LO));
    k * x.constant(T::LN2_HI) - ((half_square - low) - f)
}

impl Logarithm for f32 {
    const SERIES: &'static [Self] = &[0.225_762_08, 0.285_896_63, 0.399_995_5, 0.666_666_7];
    const MIN_NORMAL: Self = f32::MIN_POSITIVE;
    const LIFT: Self = 33_554_432.0;
    const LIFTED: Self = -25.0;

    #[inline(always)]
    fn exponent_and_significand<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
        // Bits of √½: adding 1 − √½ carries into the exponent exactly where the significand is ≥ √2.
        const SQRT_HALF: u32 = 0x3f35_04f3;
        const ONE: u32 = 0x3f80_0000;
        // As bits, 2²³ + an integer below 2²³ is the float of that value.
        const TWO_23: u32 = 0x4b00_0000;
        let bits = simd.add_u32s(simd.transmute_u32s_f32s(x), simd.splat_u32s(ONE - SQRT_HALF));
        let biased = simd.wrapping_dyn_shr_u32s(bits, simd.splat_u32s(23));
        let biased = simd.transmute_f32s_u32s(simd.or_u32s(biased, simd.splat_u32s(TWO_23)));
        let k = simd.sub_f32s(biased, simd.splat_f32s(8_388_608.0 + 127.0));
        let significand = simd.and_u32s(bits, simd.splat_u32s(0x007f_ffff));
        let significand = simd.add_u32s(significand, simd.splat_u32s(SQRT_HALF));
        (k, simd.transmute_f32s_u32s(significand))
    }
}

impl Logarithm for f64 {
    const SERIES: &'static [Self] = &[
        0.146_170_654_907_937_6,
        0.153_316_744_920_917_93,
        0.181_828_904_013_674_73,
        0.222_222_111_208_699_8,
        0.285_714_286_260_147_9,
        0.399_999_999_998_996_9,
        0.666_666_666_666_667,
    ];
    const MIN_NORMAL: Self = f64::MIN_POSITIVE;
    const LIFT: Self = 18_014_398_509_481_984.0;
    const LIFTED: Self = -54.0;

    #[inline(always)]
    fn exponent_and_significand<S: Simd>(simd: S, x: S::f64s) -> (S::f64s, S::f64s) {
        const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
        const ONE: u64 = 0x3ff0_0000_0000_0000;
        const TWO_52: u64 = 0x4330_0000_0000_0000;
        let bits = simd.add_u64s(simd.transmute_u64s_f64s(x), simd.splat_u64s(ONE - SQRT_HALF));
        let mut biased = bits;
        for lane in bytemuck::cast_slice_mut::<S::u64s, u64>(core::slice::from_mut(&mut biased)) {
            *lane >>= 52;
        }
        let biased = simd.transmute_f64s_u64s(simd.or_u64s(biased, simd.splat_u64s(TWO_52)));
        let k = simd.sub_f64s(biased, simd.splat_f64s(4_503_599_627_370_496.0 + 1023.0));
        let significand = simd.and_u64s(bits, simd.splat_u64s(0x000f_ffff_ffff_ffff));
        let significand = simd.add_u64s(significand, simd.splat_u64s(SQRT_HALF));
        (k, simd.transmute_f64s_u64s(significand))
    }
}
