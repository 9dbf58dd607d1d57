//! Promise: exp and log err by at most 1 ulp, at every SIMD level.
//!
//! `f32`: all 2³² inputs in a release build, every 61st 4,096 of them otherwise, against the `f64` kernels, whose own
//! error is some 10⁻⁹ of an `f32` ulp. `f64`: on random numbers, edges and hard cases, against arithmetic of twice the
//! precision, which must itself round to what the correctly rounded functions of CORE-MATH return.
//!
//! `cargo test --release --test ulp -- --nocapture` prints the worst errors.

use qd::Quad;
use rayon::prelude::*;
use softmax_regression::kernel::SimdLevel;
use std::fmt::Debug;

/// Largest error allowed, in ulps. The only tolerance of this file.
const MAX_ULP: f64 = 1.0;

/// The largest error seen, in ulps of the true value, and where.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    ulp: f64,
    x: f64,
}

impl Worst {
    fn or(self, other: Self) -> Self {
        if other.ulp > self.ulp { other } else { self }
    }
}

/// Error of y in ulps of truth; infinite if special values differ.
fn error_f32(y: f32, truth: f64) -> f64 {
    let rounded = truth as f32;
    if !rounded.is_finite() || rounded == 0.0 {
        let same = y == rounded || (y.is_nan() && rounded.is_nan());
        // Just beyond the largest number, and just above 0, either neighbour is within an ulp.
        let near = (truth.abs() < 2_f64.powi(128) && y.abs() == f32::MAX)
            || (truth != 0.0 && y == f32::from_bits(1));
        return if same {
            0.0
        } else if near {
            0.5
        } else {
            f64::INFINITY
        };
    }
    let exponent = (rounded.abs().to_bits() >> 23).max(1) as i32 - 127 - 23;
    if y.is_infinite() {
        return if rounded == f32::MAX { 1.0 } else { f64::INFINITY };
    }
    (f64::from(y) - truth).abs() / 2_f64.powi(exponent)
}

/// Error of y in ulps of a truth of twice the precision, given as truth·2^-scale; `rounded` is the truth, rounded.
fn error_f64(y: f64, truth: Quad, scale: i32, rounded: f64) -> f64 {
    if !y.is_finite() || !rounded.is_finite() || rounded == 0.0 {
        return if y.to_bits() == rounded.to_bits() || (y.is_nan() && rounded.is_nan()) {
            0.0
        } else {
            1e300
        };
    }
    let exponent = (rounded.abs().to_bits() >> 52).max(1) as i32 - 1023 - 52;
    let difference = (power(y, -scale) - truth.0) - truth.1;
    difference.abs() / power(1.0, exponent - scale)
}

/// x·2ᵏ, in two steps so that 2ᵏ itself need not be a normal number.
fn power(x: f64, k: i32) -> f64 {
    x * 2_f64.powi(k / 2) * 2_f64.powi(k - k / 2)
}

/// Levels whose arithmetic differs: the emulated one computes what the scalar one does, sixteen times.
fn distinct_levels() -> Vec<SimdLevel> {
    SimdLevel::available().filter(|level| format!("{level:?}") != "Emulated").collect()
}

fn all_f32(name: &str, kernel: impl Fn(SimdLevel, &mut [f32]) + Sync, truth: impl Fn(&mut [f64]) + Sync) {
    const CHUNK: usize = 1 << 12;
    // Without optimisation all inputs take too long: every 61st chunk then, which meets every exponent.
    let step = if cfg!(debug_assertions) { 61 } else { 1 };
    let levels = distinct_levels();
    let worst = (0..((1_u64 << 32) / CHUNK as u64).div_ceil(step))
        .into_par_iter()
        .map(|chunk| chunk * step)
        .fold(
            || vec![Worst { ulp: 0.5, x: f64::NAN }; levels.len()],
            |mut worst, chunk| {
                let mut inputs = [0.0_f32; CHUNK];
                for (i, x) in inputs.iter_mut().enumerate() {
                    *x = f32::from_bits(chunk as u32 * CHUNK as u32 + i as u32);
                }
                let mut expected = inputs.map(f64::from);
                truth(&mut expected);
                for (&level, worst) in levels.iter().zip(&mut worst) {
                    let mut outputs = inputs;
                    kernel(level, &mut outputs);
                    for ((&x, &y), &truth) in inputs.iter().zip(&outputs).zip(&expected) {
                        // The nearest number errs by at most half an ulp: only others can be the worst.
                        if y.to_bits() != (truth as f32).to_bits() {
                            *worst = worst.or(Worst { ulp: error_f32(y, truth), x: f64::from(x) });
                        }
                    }
                }
                worst
            },
        )
        .reduce_with(|a, b| a.into_iter().zip(b).map(|(a, b)| a.or(b)).collect())
        .unwrap_or_default();
    check(name, "f32", &levels, &worst);
}

fn check(name: &str, scalar: &str, levels: &[SimdLevel], worst: &[Worst]) {
    for (level, worst) in levels.iter().zip(worst) {
        println!("{name} {scalar} {level:?}: {:.4} ulp at {:e}", worst.ulp, worst.x);
        assert!(worst.ulp <= MAX_ULP, "{name} {scalar} {level:?}: {worst:?}");
    }
}

#[test]
fn exp_of_every_f32() {
    all_f32("exp", |level, x| level.exp(x), |x| SimdLevel::best().exp(x));
}

#[test]
fn log_of_every_f32() {
    all_f32("log", |level, x| level.log(x), |x| SimdLevel::best().log(x));
}

/// Uniform random bits (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn uniform(state: &mut u64, low: f64, high: f64) -> f64 {
    low + (high - low) * (random(state) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A number with some of the neighbours on each side.
fn around(x: f64, neighbours: i64) -> impl Iterator<Item = f64> {
    (-neighbours..=neighbours).map(move |i| f64::from_bits((x.to_bits() as i64 + i) as u64))
}

fn special() -> Vec<f64> {
    let positive =
        [0.0, 5e-324, 1e-310, f64::MIN_POSITIVE, f64::EPSILON, 0.5, 1.0, 2.0, 1e300, f64::MAX, f64::INFINITY];
    positive.into_iter().flat_map(|x| [x, -x]).chain([f64::NAN]).collect()
}

/// Inputs in chunks, at every level, against a truth of twice the precision and one correctly rounded.
fn many_f64(
    name: &str,
    inputs: &[f64],
    kernel: impl Fn(SimdLevel, &mut [f64]) + Sync,
    truth: impl Fn(f64) -> (Quad, i32) + Sync,
    rounded: impl Fn(f64) -> f64 + Sync,
) {
    let levels: Vec<_> = SimdLevel::available().collect();
    let worst = inputs
        .par_chunks(1021)
        .map(|inputs| {
            let mut worst = vec![Worst::default(); levels.len()];
            let truths: Vec<_> = inputs.iter().map(|&x| (truth(x), rounded(x))).collect();
            for (&level, worst) in levels.iter().zip(&mut worst) {
                let mut outputs = inputs.to_vec();
                kernel(level, &mut outputs);
                for ((&x, &y), &((truth, scale), rounded)) in inputs.iter().zip(&outputs).zip(&truths) {
                    let ulp = error_f64(y, truth, scale, rounded);
                    *worst = worst.or(Worst { ulp, x });
                    let oracle = error_f64(rounded, truth, scale, rounded);
                    assert!(oracle <= 0.5 + 1e-9, "{name}({x:e}): the two truths differ by {oracle} ulp");
                }
            }
            worst
        })
        .reduce_with(|a, b| a.into_iter().zip(b).map(|(a, b)| a.or(b)).collect())
        .unwrap_or_default();
    check(name, "f64", &levels, &worst);
}

#[test]
fn exp_of_f64() {
    let mut state = 1;
    let mut inputs = special();
    inputs.extend((0..400_000).map(|_| uniform(&mut state, -746.0, 710.0)));
    inputs.extend((0..200_000).map(|_| uniform(&mut state, -40.0, 1.0)));
    inputs.extend((0..100_000).map(|_| f64::from_bits(random(&mut state))));
    // Where the reduced argument is largest, and changes sign; the ends of the range, and of the normal numbers.
    let half_ln2 = core::f64::consts::LN_2 / 2.0;
    inputs.extend((-2152..2050).flat_map(|k| around(k as f64 * half_ln2, 20)));
    inputs.extend(
        [-745.133, -745.2, -708.396, 709.7827, -745.0, -746.0, 710.0]
            .into_iter()
            .flat_map(|x| around(x, 1000)),
    );
    many_f64(
        "exp",
        &inputs,
        |level, x| level.exp(x),
        |x| {
            let scale =
                if x.is_finite() { (x.clamp(-746.0, 710.0) / core::f64::consts::LN_2).round() } else { 0.0 };
            ((Quad::from_f64(x) - Quad::LN_2 * Quad::from_f64(scale)).exp(), scale as i32)
        },
        core_math::exp,
    );
}

#[test]
fn log_of_f64() {
    let mut state = 2;
    let mut inputs = special();
    inputs.extend((0..300_000).map(|_| f64::from_bits(random(&mut state) >> 1)));
    inputs.extend((0..300_000).map(|_| uniform(&mut state, 0.0, 4.0)));
    inputs
        .extend((0..100_000).map(|_| 1.0 + uniform(&mut state, -1.0, 1.0) * uniform(&mut state, 0.0, 1e-3)));
    inputs.extend((0..100_000).map(|_| f64::from_bits(random(&mut state) >> 12)));
    // Around 1, and where the significand is folded.
    inputs.extend(around(1.0, 1000));
    inputs.extend((-1074..1024).flat_map(|k| {
        around(power(1.0, k), 10).chain(around(power(core::f64::consts::SQRT_2, k), 10)).collect::<Vec<_>>()
    }));
    many_f64("log", &inputs, |level, x| level.log(x), |x| (log_quad(x), 0), core_math::log);
}

/// log(x) of twice the precision, relatively, near 1 too.
fn log_quad(x: f64) -> Quad {
    let f = x - 1.0;
    if f.abs() > 1e-3 {
        // A power of two apart, since exp(−log x) would overflow or underflow at the ends.
        let lift = if x < 1.0 { 200.0 } else { -200.0 };
        return Quad::from_f64(x * 2_f64.powf(lift)).ln() - Quad::LN_2 * Quad::from_f64(lift);
    }
    let f = Quad::from_f64(f);
    let series = (1..=12).rev().fold(Quad::from_f64(0.0), |sum, k| {
        Quad::from_f64(if k % 2 == 1 { 1.0 } else { -1.0 }) / Quad::from_f64(k as f64) + f * sum
    });
    f * series
}
