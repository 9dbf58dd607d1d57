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
//! - To multiply by 2ⁿ is to add n to the exponent field, which some processors do beside their multiply-adds. That takes a
//!   normal result. Where it underflows gradually, n + h is added, so that it is normal, and the constant 2⁻ʰ multiplied
//!   with: one correct rounding, into the subnormal numbers too. Where no lane at hand has such a result, n alone gives the
//!   same bits.

use super::lanes::Lanes;
use super::map::Elementwise;
use super::vector::{Mask, Vector};
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
    /// 1.5·2ᵖ⁻¹: what is added to n so that the low bits of the sum are n.
    const ROUND: Self;
    /// ROUND and as much as exponent field and sign have values: its low bits say n = 0.
    const NO_POWER: Self;
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
    /// Of numbers no further than this from 0 exp is a normal number, and so is the sum, however many they are.
    const CENTRAL: Self;
    /// exp of all below rounds to 0.
    const LOWEST: Self;
    /// exp of all below is nothing in a sum that is a normal number. Above, 2ʰ times exp is one, for arguments ≤ 0.
    const NEGLIGIBLE: Self;
    /// In a sum as large as this, what its terms lose is nothing, however many they are.
    const SMALL_SUM: Self;
    /// exp of this and of all above overflows.
    const HIGHEST: Self;

    /// p·2ⁿ, a normal number, for the n in the low bits of each lane of t: added to the exponent field.
    fn times_power<S: Simd>(simd: S, p: Self::Register<S>, t: Self::Register<S>) -> Self::Register<S>;
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
    if !x.any_below(T::NORMAL[0]) && !x.any_above(T::NORMAL[1]) {
        return exp_times_power(x, x.constant(T::ROUND));
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
    if !x.any_below(T::NORMAL[0]) {
        return exp_times_power(x, x.constant(T::ROUND));
    }
    let zero = x.constant(T::ZERO);
    let scaled = scaled_exp(x, x.constant(T::ROUND + T::DOWN), x.less(x.constant(T::NEGLIGIBLE)));
    let e = zero.or_else(x.less(x.constant(T::LOWEST)), scaled) * x.constant(T::SCALE_DOWN);
    *lost = *lost + (scaled - e * x.constant(T::ONE / T::SCALE_DOWN));
    e
}

/// exp(x) where that is a normal number, and NaN of NaN: the bits of [`exp`], in two rounds, register after register. Of steps that
/// take all registers at once compilers make one long chain after the other where nothing else is near, and a processor does not
/// look as far as the next.
#[inline(always)]
pub(crate) fn exp_normal<T: Exponential, S: Simd, const N: usize>(x: Vector<T, S, N>) -> Vector<T, S, N> {
    let (mut r, mut t) = (x, x);
    for i in 0..N {
        let x = x.part(i);
        let (own_r, own_t) = reduce_argument(x, x.constant(T::ROUND));
        (r.registers[i], t.registers[i]) = (own_r.register(), own_t.register());
    }
    let mut e = r;
    for i in 0..N {
        e.registers[i] = reconstruct(r.part(i), t.part(i)).register();
    }
    e
}

/// A sum of [`exp_term`]s with what they lost, where that counts: some hundred numbers that are not normal ones add up to
/// one that is, and of that it would be many ulp.
#[inline(always)]
pub(crate) fn restored<T: Exponential, S: Simd, const N: usize>(
    sum: Vector<T, S, N>,
    lost: Vector<T, S, N>,
) -> Vector<T, S, N> {
    if !sum.any_below(T::SMALL_SUM) {
        return sum;
    }
    let is_small = sum.less(sum.constant(T::SMALL_SUM));
    lost.or_else(is_small, lost.constant(T::ZERO)).mul_add(lost.constant(T::SCALE_DOWN), sum)
}

/// 2ʰ·exp(x), for `round` = ROUND + h, where that is a normal number; but 0 where `is_zero`.
///
/// There it is computed of 0, too, and 0 put in its place. Were it not, this would be the computation for normal numbers, and
/// compilers would do it once for both, and then all that only the others need.
#[inline(always)]
fn scaled_exp<T: Exponential, S: Simd, const N: usize>(
    x: Vector<T, S, N>,
    round: Vector<T, S, N>,
    is_zero: Mask<T, S, N>,
) -> Vector<T, S, N> {
    let zero = x.constant(T::ZERO);
    zero.or_else(is_zero, exp_times_power(zero.or_else(is_zero, x), round))
}

/// eʳ·2ⁿ⁺ʰ, for `round` = ROUND + h, where that is a normal number; NaN of NaN.
#[inline(always)]
fn exp_times_power<T: Exponential, S: Simd, const N: usize>(
    x: Vector<T, S, N>,
    round: Vector<T, S, N>,
) -> Vector<T, S, N> {
    let (r, t) = reduce_argument(x, round);
    reconstruct(r, t)
}

/// r, and in the low bits of t n + h, for `round` = ROUND + h.
#[inline(always)]
fn reduce_argument<T: Exponential, S: Simd, const N: usize>(
    x: Vector<T, S, N>,
    round: Vector<T, S, N>,
) -> (Vector<T, S, N>, Vector<T, S, N>) {
    let t = x.mul_add(x.constant(T::LOG2_E), round);
    let n = t - round;
    let r = n.mul_add(x.constant(-T::LN2_HI), x);
    (n.mul_add(x.constant(-T::LN2_LO), r), t)
}

/// eʳ times two to the power that the low bits of t are.
#[inline(always)]
fn reconstruct<T: Exponential, S: Simd, const N: usize>(
    r: Vector<T, S, N>,
    t: Vector<T, S, N>,
) -> Vector<T, S, N> {
    let mut q = r.constant(T::COEFFICIENTS[0]);
    for &c in &T::COEFFICIENTS[1..] {
        q = q.mul_add(r, r.constant(c));
    }
    let one = r.constant(T::ONE);
    let mut p = if Vector::<T, S>::fuses(r.simd) {
        q.mul_add(r, one).mul_add(r, one)
    } else {
        // |r| < 1
        let sum = one + r;
        let lost = r - (sum - one);
        sum + (r * r).mul_add(q, lost)
    };
    // The low bits of NaN are any.
    let t = t.constant(T::NO_POWER).smaller(t);
    for i in 0..N {
        p.registers[i] = T::times_power(r.simd, p.registers[i], t.registers[i]);
    }
    p
}

impl Exponential for f32 {
    const LOG2_E: Self = core::f32::consts::LOG2_E;
    const LN2_HI: Self = 0.693_145_75;
    const LN2_LO: Self = 1.428_606_8e-6;
    const COEFFICIENTS: &'static [Self] =
        &[0.001_378_249_4, 0.008_368_673, 0.041_668_963, 0.166_665_21, 0.499_999_9];
    const ROUND: Self = 12_582_912.0;
    const NO_POWER: Self = Self::ROUND + 512.0;
    const DOWN: Self = 63.0;
    const UP: Self = -64.0;
    const SCALE_DOWN: Self = f32::from_bits((127 - 63) << 23);
    const SCALE_UP: Self = f32::from_bits((127 + 64) << 23);
    const NORMAL: [Self; 2] = [-87.0, 88.0];
    const CENTRAL: Self = 64.0;
    const LOWEST: Self = -104.0;
    const NEGLIGIBLE: Self = -128.0;
    const SMALL_SUM: Self = f32::from_bits((127 - 100) << 23);
    const HIGHEST: Self = 89.0;

    #[inline(always)]
    fn times_power<S: Simd>(simd: S, p: S::f32s, t: S::f32s) -> S::f32s {
        let power = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(t), simd.splat_u32s(23));
        simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), power))
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
    const ROUND: Self = 6_755_399_441_055_744.0;
    const NO_POWER: Self = Self::ROUND + 4096.0;
    const DOWN: Self = 511.0;
    const UP: Self = -512.0;
    const SCALE_DOWN: Self = f64::from_bits((1023 - 511) << 52);
    const SCALE_UP: Self = f64::from_bits((1023 + 512) << 52);
    const NORMAL: [Self; 2] = [-708.0, 709.0];
    const CENTRAL: Self = 512.0;
    const LOWEST: Self = -746.0;
    const NEGLIGIBLE: Self = -800.0;
    const SMALL_SUM: Self = f64::from_bits((1023 - 960) << 52);
    const HIGHEST: Self = 710.0;

    #[inline(always)]
    fn times_power<S: Simd>(simd: S, p: S::f64s, t: S::f64s) -> S::f64s {
        let mut power = simd.transmute_u64s_f64s(t);
        // pulp has no 64-bit shift; LLVM makes one instruction of this loop.
        for lane in bytemuck::cast_slice_mut::<S::u64s, u64>(core::slice::from_mut(&mut power)) {
            *lane <<= 52;
        }
        simd.transmute_f64s_u64s(simd.add_u64s(simd.transmute_u64s_f64s(p), power))
    }
}
