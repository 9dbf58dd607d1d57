//! Numbers of twice the precision, as unevaluated sums of two `f64` (Dekker, *A floating-point technique for extending
//! the available precision*, 1971), with exp and log: errors of some 2⁻⁹⁵, for a bound of an ulp of `f64` to be
//! checked without slack.

use core::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::LazyLock;

/// high + low, |low| ≤ ½ ulp(high).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Double {
    /// The number, rounded.
    pub high: f64,
    /// What rounding lost.
    pub low: f64,
}

const LN_2: Double = Double { high: core::f64::consts::LN_2, low: 2.319_046_813_846_299_6e-17 };

impl Double {
    /// 0.
    pub const ZERO: Self = Self::of(0.0);
    /// 1.
    pub const ONE: Self = Self::of(1.0);

    /// x itself.
    pub const fn of(x: f64) -> Self {
        Self { high: x, low: 0.0 }
    }

    /// a + b, exactly (Knuth's two-sum); an overflow stays an infinity.
    pub fn sum(a: f64, b: f64) -> Self {
        let high = a + b;
        if !high.is_finite() {
            return Self::of(high);
        }
        let c = high - a;
        Self { high, low: (a - (high - c)) + (b - c) }
    }

    /// a·b, exactly but for underflow.
    pub fn product(a: f64, b: f64) -> Self {
        let high = a * b;
        Self { high, low: a.mul_add(b, -high) }
    }

    /// self·2ᵏ, exactly but for underflow.
    pub fn scaled(self, k: i32) -> Self {
        Self { high: scaled(self.high, k), low: scaled(self.low, k) }
    }

    /// |found − self|, for a finite self.
    pub fn distance(self, found: f64) -> f64 {
        ((found - self.high) - self.low).abs()
    }
}

/// x·2ᵏ with one rounding, for |k| ≤ 2000 and x near 1.
pub fn scaled(x: f64, k: i32) -> f64 {
    let half = k / 2;
    x * power_of_two(half) * power_of_two(k - half)
}

/// 2ᵏ, −1022 ≤ k ≤ 1023.
pub fn power_of_two(k: i32) -> f64 {
    f64::from_bits(((k + 1023) as u64) << 52)
}

impl Add for Double {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        let (high, low) = (Self::sum(self.high, b.high), Self::sum(self.low, b.low));
        let high = Self::sum(high.high, high.low + low.high);
        Self::sum(high.high, high.low + low.low)
    }
}

impl Neg for Double {
    type Output = Self;
    fn neg(self) -> Self {
        Self { high: -self.high, low: -self.low }
    }
}

impl Sub for Double {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        self + -b
    }
}

impl Mul for Double {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        let p = Self::product(self.high, b.high);
        Self::sum(p.high, p.low + (self.high * b.low + self.low * b.high))
    }
}

impl Div for Double {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        let q = self.high / b.high;
        let rest = self - b * Self::of(q);
        let r = rest.high / b.high;
        let rest = rest - b * Self::of(r);
        Self::sum(q, r) + Self::of(rest.high / b.high)
    }
}

/// m·2ᵏ, m near 1: the low half is kept even where the number is below the normal ones.
#[derive(Clone, Copy, Debug)]
pub struct Scaled {
    /// m.
    pub significand: Double,
    /// k.
    pub exponent: i32,
}

impl Scaled {
    /// As one number, which may underflow or overflow.
    pub fn get(self) -> Double {
        self.significand.scaled(self.exponent)
    }
}

/// Arguments beyond which exp is taken at the bound: it is 0 or infinite in `f64` by a factor of 2³⁰⁰ and more.
const RANGE: f64 = 1000.0;

/// exp(x), x finite.
pub fn exp(x: Double) -> Scaled {
    let x = if x.high.abs() > RANGE { Double::of(RANGE.copysign(x.high)) } else { x };
    let k = (x.high / LN_2.high).round();
    let r = x - LN_2 * Double::of(k);
    Scaled { significand: Double::ONE + reduced_exp_m1(r), exponent: k as i32 }
}

/// exp(r) − 1 for |r| ≤ 0.4, relatively accurate: Taylor's series of r/2⁸, then eʰ − 1 ↦ e²ʰ − 1 eight times.
fn reduced_exp_m1(r: Double) -> Double {
    const HALVINGS: i32 = 8;
    /// 1/n! for n = 10, …, 1: the next term is below 2⁻¹²⁰ of the sum.
    static COEFFICIENTS: LazyLock<[Double; 10]> = LazyLock::new(|| {
        let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
        core::array::from_fn(|i| Double::ONE / Double::of(factorial(10 - i)))
    });
    let s = r.scaled(-HALVINGS);
    let series = COEFFICIENTS.iter().fold(Double::ZERO, |sum, &c| sum * s + c);
    (0..HALVINGS).fold(series * s, |t, _| t * t + t.scaled(1))
}

/// log(1 + a) for −½ ≤ a < 2¹⁰⁰⁰, relatively accurate: one step of Newton from the `f64` result.
pub fn log_1p(a: Double) -> Double {
    if a.high.abs() < power_of_two(-110) {
        return a;
    }
    let y = a.high.ln_1p();
    let exp_m1 =
        if y.abs() < 0.3 { reduced_exp_m1(Double::of(y)) } else { exp(Double::of(y)).get() - Double::ONE };
    Double::of(y) + (a - exp_m1) / (Double::ONE + a)
}

/// log(x) for finite x > 0.
pub fn log(x: f64) -> Double {
    let lift = if x < f64::MIN_POSITIVE { 54 } else { 0 };
    let bits = scaled(x, lift).to_bits();
    let mut k = (bits >> 52) as i32 - 1023;
    let mut significand = f64::from_bits(bits & ((1 << 52) - 1) | (1023 << 52));
    if significand > core::f64::consts::SQRT_2 {
        significand /= 2.0;
        k += 1;
    }
    // significand − 1 is exact.
    LN_2 * Double::of(f64::from(k - lift)) + log_1p(Double::of(significand - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const E: Double = Double { high: core::f64::consts::E, low: 1.445_646_891_729_250_2e-16 };

    /// |a − b| ≤ 2⁻⁹⁵·scale
    fn close(a: Double, b: Double, scale: f64) -> bool {
        (a - b).high.abs() <= scale.abs() * power_of_two(-95)
    }

    #[test]
    fn e_is_e() {
        assert!(close(exp(Double::ONE).get(), E, 1.0));
        assert!(close(log(E.high) + log_1p(Double::of(E.low / E.high)), Double::ONE, 1.0));
    }

    #[test]
    fn exp_and_log_invert_each_other() {
        for i in -650..700 {
            let x = f64::from(i) * 1.000_123;
            let e = exp(Double::of(x)).get();
            let log = log(e.high) + log_1p(Double::of(e.low) / Double::of(e.high));
            assert!(close(log, Double::of(x), x.abs().max(1.0)), "{x}");
            let small = x * 1e-20;
            assert!(close(log_1p(reduced_exp_m1(Double::of(small))), Double::of(small), small), "{small}");
        }
    }
}
