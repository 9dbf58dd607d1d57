//! The exponential function.
//!
//! With n the integer nearest to x·log₂e and r = x − n·ln 2, |r| ≤ ½ ln 2:
//!
//! ```text
//! exp(x) = 2ⁿ·eʳ,   eʳ ≈ (1 + r) + r²·q(r)
//! ```
//!
//! - n comes from adding 1.5·2ᵖ⁻¹ (p: bits of the significand), which leaves the integer in the low bits of the sum.
//! - ln 2 is split in two, the upper part short enough that n·ln2_hi is exact (Cody and Waite, *Software Manual for
//!   the Elementary Functions*, 1980).
//! - q is the minimax polynomial of the relative error, coefficients rounded to the type (Sollya's `fpminimax`; relative
//!   error of eʳ 3.3e-9 for f32, 3.8e-18 for f64).
//! - 1 + r·(1 + r·q(r)) in two multiply-adds, where these round once: beside the last rounding, to half an ulp, only r and
//!   the inner sum are rounded, to at most a quarter and a sixth of one. Where they round twice that would be too much:
//!   there 1 + r is kept exactly, as a sum of two numbers.
//! - 2ⁿ need not be a normal number where the result underflows gradually, so there the polynomial is multiplied by
//!   2ⁿ⁺ʰ, always normal, and then by the constant 2⁻ʰ: one correct rounding, into the subnormal numbers too. Where no
//!   lane at hand has such a result, 2ⁿ alone gives the same bits.

use super::lanes::{Lanes, Mask, Vector};
use super::reduce::Elementwise;
use pulp::{Simd, bytemuck};

/// Numbers with an exponential. Domain: all. Error ≤ 1 ulp (measured: see `tests/ulp.rs`). exp(−∞) = 0,
/// exp(+∞) = +∞, exp(NaN) = NaN; results below the normal numbers are rounded, not flushed.
pub trait Exponential: Lanes {
    /// log₂ e.
    const LOG2_E: Self;
    /// Upper part of ln 2: n·LN2_HI is exact for every n that occurs.
    const LN2_HI: Self;
    /// ln 2 − LN2_HI.
    const LN2_LO: Self;
    /// Of rᵈ … r².
    const COEFFICIENTS: &'static [Self];
    /// 1.5·2ᵖ⁻¹ + the exponent bias: what is added to n so that the low bits of the sum are the exponent field of 2ⁿ.
    const ROUND: Self;
    /// h for arguments ≤ 0.
    const DOWN: Self;
    /// h for arguments > 0, negative.
    const UP: Self;
    /// 2⁻ʰ for arguments ≤ 0.
    const SCALE_DOWN: Self;
    /// 2⁻ʰ for arguments > 0.
    const SCALE_UP: Self;
    /// Between these two, and at them, exp and 2ⁿ are normal numbers.
    const NORMAL: [Self; 2];
    /// exp of all below rounds to 0.
    const LOWEST: Self;
    /// exp of all below is nothing in a sum that is a normal number. Above, 2ʰ times exp is one, for arguments ≤ 0.
    const NEGLIGIBLE: Self;
    /// In a sum as large as this, what its terms lose is nothing, however many they are.
    const SMALL_SUM: Self;
    /// exp of this and of all above overflows.
    const HIGHEST: Self;

    /// The low bits of each lane, moved to the exponent field.
    fn to_exponent<S: Simd>(simd: S, v: Self::Register<S>) -> Self::Register<S>;
}

/// [`exp`], element by element.
pub(crate) struct ExpOf;

impl<T: Exponential, S: Simd> Elementwise<T, S> for ExpOf {
    #[inline(always)]
    fn of<const N: usize>(&self, x: Vector<T, S, N>) -> Vector<T, S, N> {
        exp(x)
    }
}

/// exp(x), any x.
#[inline(always)]
pub(crate) fn exp<T: Exponential, S: Simd, const N: usize>(x: Vector<T, S, N>) -> Vector<T, S, N> {
    let (below, above) = (x.less(x.constant(T::NORMAL[0])), x.constant(T::NORMAL[1]).less(x));
    if !below.any(x.simd) && !above.any(x.simd) {
        return normal_exp(x);
    }
    // By comparison, so that NaN passes through.
    let highest = x.constant(T::HIGHEST);
    let x = highest.or_else(highest.less(x), x);
    let negative = x.less(x.constant(T::ZERO));
    let h = x.constant(T::DOWN).or_else(negative, x.constant(T::UP));
    let scale = x.constant(T::SCALE_DOWN).or_else(negative, x.constant(T::SCALE_UP));
    scaled_exp(x, x.constant(T::ROUND) + h, x.less(x.constant(T::LOWEST))) * scale
}

/// exp(x) for x ≤ 0 or NaN: what is left of [`exp`] when the scores are shifted by their maximum. Same bits.
#[inline(always)]
pub(crate) fn exp_nonpositive<T: Exponential, S: Simd, const N: usize>(
    x: Vector<T, S, N>,
) -> Vector<T, S, N> {
    exp_term(x, &mut x.constant(T::ZERO))
}

/// The same of a term of a sum. To `lost` goes 2ʰ times what a result that is no normal number was rounded by.
#[inline(always)]
pub(crate) fn exp_term<T: Exponential, S: Simd, const N: usize>(
    x: Vector<T, S, N>,
    lost: &mut Vector<T, S, N>,
) -> Vector<T, S, N> {
    if !x.less(x.constant(T::NORMAL[0])).any(x.simd) {
        return normal_exp(x);
    }
    let scaled = scaled_exp(x, x.constant(T::ROUND + T::DOWN), x.less(x.constant(T::NEGLIGIBLE)));
    let zero = x.constant(T::ZERO);
    let e = zero.or_else(x.less(x.constant(T::LOWEST)), scaled) * x.constant(T::SCALE_DOWN);
    *lost = *lost + (scaled - e * x.constant(T::ONE / T::SCALE_DOWN));
    e
}

/// A sum of [`exp_term`]s with what they lost, where that counts: some hundred numbers that are not normal ones add up to
/// one that is, and of that it would be many ulp.
#[inline(always)]
pub(crate) fn restored<T: Exponential, S: Simd, const N: usize>(
    sum: Vector<T, S, N>,
    lost: Vector<T, S, N>,
) -> Vector<T, S, N> {
    let is_small = sum.less(sum.constant(T::SMALL_SUM));
    if !is_small.any(sum.simd) {
        return sum;
    }
    lost.or_else(is_small, lost.constant(T::ZERO)).mul_add(lost.constant(T::SCALE_DOWN), sum)
}

/// exp(x) for x between the NORMAL, or NaN: the same bits in fewer operations.
#[inline(always)]
fn normal_exp<T: Exponential, S: Simd, const N: usize>(x: Vector<T, S, N>) -> Vector<T, S, N> {
    let (p, power) = factors(x, x.constant(T::ROUND));
    p * power
}

/// 2ʰ·exp(x), for `round` = ROUND + h and 2ⁿ⁺ʰ a normal number; but 0 where `is_zero`.
///
/// There it is computed of 0 and 0 put in its place: a processor that sees a product underflow starts a program of its
/// own, which takes a hundred times as long.
#[inline(always)]
fn scaled_exp<T: Exponential, S: Simd, const N: usize>(
    x: Vector<T, S, N>,
    round: Vector<T, S, N>,
    is_zero: Mask<T, S, N>,
) -> Vector<T, S, N> {
    let zero = x.constant(T::ZERO);
    let (p, power) = factors(zero.or_else(is_zero, x), round);
    zero.or_else(is_zero, p * power)
}

/// eʳ and 2ⁿ⁺ʰ, for `round` = ROUND + h.
#[inline(always)]
fn factors<T: Exponential, S: Simd, const N: usize>(
    x: Vector<T, S, N>,
    round: Vector<T, S, N>,
) -> (Vector<T, S, N>, Vector<T, S, N>) {
    let t = x.mul_add(x.constant(T::LOG2_E), round);
    let n = t - round;
    let r = n.mul_add(x.constant(-T::LN2_HI), x);
    let r = n.mul_add(x.constant(-T::LN2_LO), r);
    let mut q = x.constant(T::COEFFICIENTS[0]);
    for &c in &T::COEFFICIENTS[1..] {
        q = q.mul_add(r, x.constant(c));
    }
    let one = x.constant(T::ONE);
    let p = if Vector::<T, S>::fuses(x.simd) {
        q.mul_add(r, one).mul_add(r, one)
    } else {
        // |r| < 1
        let sum = one + r;
        let lost = r - (sum - one);
        sum + (r * r).mul_add(q, lost)
    };
    (p, t.each(T::to_exponent))
}

impl Exponential for f32 {
    const LOG2_E: Self = core::f32::consts::LOG2_E;
    const LN2_HI: Self = 0.693_145_75;
    const LN2_LO: Self = 1.428_606_8e-6;
    const COEFFICIENTS: &'static [Self] =
        &[0.001_378_249_4, 0.008_368_673, 0.041_668_963, 0.166_665_21, 0.499_999_9];
    const ROUND: Self = 12_582_912.0 + 127.0;
    const DOWN: Self = 63.0;
    const UP: Self = -64.0;
    const SCALE_DOWN: Self = f32::from_bits((127 - 63) << 23);
    const SCALE_UP: Self = f32::from_bits((127 + 64) << 23);
    const NORMAL: [Self; 2] = [-87.0, 88.0];
    const LOWEST: Self = -104.0;
    const NEGLIGIBLE: Self = -128.0;
    const SMALL_SUM: Self = f32::from_bits((127 - 100) << 23);
    const HIGHEST: Self = 89.0;

    #[inline(always)]
    fn to_exponent<S: Simd>(simd: S, v: S::f32s) -> S::f32s {
        let bits = simd.transmute_u32s_f32s(v);
        simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23)))
    }
}

impl Exponential for f64 {
    const LOG2_E: Self = core::f64::consts::LOG2_E;
    const LN2_HI: Self = 0.693_147_180_560_117_7;
    const LN2_LO: Self = -1.723_944_452_561_483_5e-13;
    const COEFFICIENTS: &'static [Self] = &[
        2.500_455_071_903_744_8e-8,
        2.763_045_883_179_372e-7,
        2.755_757_217_330_999_4e-6,
        2.480_149_244_919_886_3e-5,
        0.000_198_412_695_225_291_56,
        0.001_388_888_894_433_831_7,
        0.008_333_333_333_487_045,
        0.041_666_666_666_526_99,
        0.166_666_666_666_664_24,
        0.500_000_000_000_001_1,
    ];
    const ROUND: Self = 6_755_399_441_055_744.0 + 1023.0;
    const DOWN: Self = 511.0;
    const UP: Self = -512.0;
    const SCALE_DOWN: Self = f64::from_bits((1023 - 511) << 52);
    const SCALE_UP: Self = f64::from_bits((1023 + 512) << 52);
    const NORMAL: [Self; 2] = [-708.0, 709.0];
    const LOWEST: Self = -746.0;
    const NEGLIGIBLE: Self = -800.0;
    const SMALL_SUM: Self = f64::from_bits((1023 - 960) << 52);
    const HIGHEST: Self = 710.0;

    #[inline(always)]
    fn to_exponent<S: Simd>(_: S, mut v: S::f64s) -> S::f64s {
        // pulp has no 64-bit shift; LLVM makes one instruction of this loop.
        for lane in bytemuck::cast_slice_mut::<S::f64s, u64>(core::slice::from_mut(&mut v)) {
            *lane <<= 52;
        }
        v
    }
}
