//! Promise: the functions on slices treat NaN, ±∞, 0 and subnormal numbers as their docs say, at every SIMD level, every
//! position and every length; and where in memory a slice begins changes no bit.

mod support;

use softmax_regression::kernel::SimdLevel;
use support::{Float, Random, for_each_float, levels};

for_each_float!(
    elementwise,
    exp_beside_extremes,
    max_of_a_row,
    log_sum_exp_of_a_row,
    softmax_of_a_row,
    rows_of_nothing_but,
    empty_rows,
    underflow_in_long_rows,
    softmax_far_from_zero,
    anywhere_in_memory
);

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;
/// Several registers of the widest kind, unrolled four times, and every length of a tail.
const LONGEST: usize = 150;

/// Rows so long that softmax passes along the lines of the cache.
const LONG: [usize; 3] = [257, 530, 700];

fn lengths() -> impl Iterator<Item = usize> {
    (1..=LONGEST).chain(LONG)
}

/// Lengths and positions: all of them up to 70, then those near the ends, and a few between.
fn places() -> impl Iterator<Item = (usize, usize)> {
    lengths()
        .flat_map(|len| (0..len).map(move |at| (len, at)))
        .filter(|&(len, at)| len <= 70 || at < 2 || at + 17 > len || at % 90 == 0)
}

fn ordinary<T: Float>(len: usize) -> Vec<T> {
    let mut random = Random::new(len as u64);
    (0..len).map(|_| T::of(1.5 + random.symmetric())).collect()
}

fn with<T: Float>(row: &[T], at: usize, special: f64) -> Vec<T> {
    let mut row = row.to_vec();
    row[at] = T::of(special);
    row
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// An argument and what becomes of it.
type Table = Vec<(f64, f64)>;
type Kernel<T> = (&'static str, fn(SimdLevel, &mut [T]), Table);

fn elementwise<T: Float>() {
    let smallest_log = T::of(T::SMALLEST.ln()).value();
    let kernels: [Kernel<T>; 2] = [
        (
            "exp",
            |level, x| level.exp(x),
            vec![
                (NAN, NAN),
                (INF, INF),
                (-INF, 0.0),
                (0.0, 1.0),
                (-0.0, 1.0),
                (T::LARGEST, INF),
                (-T::LARGEST, 0.0),
            ],
        ),
        (
            "log",
            |level, x| level.log(x),
            vec![
                (NAN, NAN),
                (INF, INF),
                (-INF, NAN),
                (0.0, -INF),
                (-0.0, -INF),
                (-1.0, NAN),
                (-T::SMALLEST, NAN),
                (1.0, 0.0),
                (T::SMALLEST, smallest_log),
            ],
        ),
    ];
    for level in levels() {
        for (len, at) in places() {
            let row = ordinary::<T>(len);
            for (name, kernel, table) in &kernels {
                let mut undisturbed = row.clone();
                kernel(level, &mut undisturbed);
                for &(argument, expected) in table {
                    let mut x = with(&row, at, argument);
                    kernel(level, &mut x);
                    let found = x[at].value();
                    let what = || format!("{name}({argument:e}) = {found:e}, {at} of {len}, {level:?}");
                    assert!(same(found, expected), "{}", what());
                    let others = x.iter().zip(&undisturbed).enumerate().filter(|&(i, _)| i != at);
                    assert!(others.map(|(_, x)| x).all(|(a, b)| a.bits() == b.bits()), "{}", what());
                }
            }
        }
    }
}

/// Over all the range where exp is a normal number, and a little beyond: a number by itself and one among others, of which
/// some underflow and some overflow.
fn exp_beside_extremes<T: Float>() {
    let mut random = Random::new(7);
    let end = T::LARGEST.ln();
    for level in levels() {
        for round in 0..400 {
            let mut row: Vec<_> = (0..LONGEST).map(|_| T::of(end * random.symmetric())).collect();
            let mut alone = row.clone();
            alone.iter_mut().for_each(|x| level.exp(core::slice::from_mut(x)));
            let extremes: Vec<_> = (0..5).map(|_| random.below(LONGEST)).collect();
            for &at in &extremes {
                row[at] = T::of(2.0 * end * random.symmetric().signum());
            }
            let arguments = row.clone();
            level.exp(&mut row);
            for (i, (found, expected)) in row.iter().zip(&alone).enumerate() {
                let what = || format!("exp({}), {i} in round {round}, {level:?}", arguments[i]);
                assert!(extremes.contains(&i) || found.bits() == expected.bits(), "{}", what());
            }
        }
    }
}

fn max_of_a_row<T: Float>() {
    for level in levels() {
        for (len, at) in places() {
            let row = ordinary::<T>(len);
            let rest = row.iter().enumerate().filter(|&(i, _)| i != at).map(|(_, x)| x.value());
            let rest = rest.fold(-INF, f64::max);
            for (special, expected) in [
                (NAN, NAN),
                (-NAN, NAN),
                (INF, INF),
                (-INF, rest),
                (-T::LARGEST, rest.max(-T::LARGEST)),
                (9.0, 9.0),
            ] {
                let found = level.max(&with(&row, at, special)).value();
                assert!(same(found, expected), "{special:e}, {at} of {len}, {level:?}: {found:e}");
            }
            // A NaN does not hide behind a +∞, nor the other way round.
            let both = with(&with(&row, len - 1 - at, INF), at, NAN);
            assert!(level.max(&both).value().is_nan(), "{at} of {len}, {level:?}");
        }
    }
}

/// Relative error of a sum of `len` exponentials, and of its logarithm, generously: this file is not about accuracy.
fn close<T: Float>(found: f64, truth: f64) -> bool {
    (found - truth).abs() <= 32.0 * T::EPSILON * truth.abs()
}

fn log_sum_exp_of<T: Float>(row: &[T]) -> f64 {
    row.iter().map(|x| x.value().exp()).sum::<f64>().ln()
}

fn log_sum_exp_of_a_row<T: Float>() {
    for level in levels() {
        for (len, at) in places() {
            let row = ordinary::<T>(len);
            for (special, expected) in [(NAN, NAN), (INF, INF)] {
                let found = level.log_sum_exp(&with(&row, at, special)).value();
                assert!(same(found, expected), "{special}, {at} of {len}, {level:?}: {found:e}");
            }
            let both = with(&with(&row, len - 1 - at, INF), at, NAN);
            assert!(level.log_sum_exp(&both).value().is_nan(), "{at} of {len}, {level:?}");
            let without = with(&row, at, -INF);
            let (found, expected) = (level.log_sum_exp(&without).value(), log_sum_exp_of(&without));
            assert!(same(found, expected) || close::<T>(found, expected), "−∞, {at} of {len}, {level:?}");
            // Beyond it exp overflows, and the rest is as nothing.
            let found = level.log_sum_exp(&with(&row, at, T::LARGEST)).value();
            assert_eq!(found, T::LARGEST, "{at} of {len}, {level:?}");
        }
    }
}

fn softmax_of_a_row<T: Float>() {
    for level in levels() {
        for (len, at) in places() {
            let row = ordinary::<T>(len);
            let both = |special: f64| {
                let (mut p, mut log_p) = (with(&row, at, special), with(&row, at, special));
                level.softmax(&mut p);
                level.log_softmax(&mut log_p);
                (p, log_p)
            };
            for special in [NAN, INF] {
                let (p, log_p) = both(special);
                let all = p.iter().chain(&log_p).all(|x| x.value().is_nan());
                assert!(all, "{special}, {at} of {len}, {level:?}");
            }
            if len == 1 {
                continue;
            }
            let (p, log_p) = both(-INF);
            assert_eq!((p[at].value(), log_p[at].value()), (0.0, -INF), "{at} of {len}, {level:?}");
            let total = log_sum_exp_of(&with(&row, at, -INF));
            for i in (0..len).filter(|&i| i != at) {
                let truth = row[i].value() - total;
                assert!(close::<T>(p[i].value(), truth.exp()), "softmax, {at} of {len}, {level:?}");
                // Of two, the other is certain: log p is 0 or all but.
                let off = (log_p[i].value() - truth).abs();
                assert!(
                    off <= 32.0 * T::EPSILON * (1.0 + truth.abs()),
                    "log softmax, {at} of {len}, {level:?}"
                );
            }
            // The largest number takes all, and overflows nothing.
            let (p, log_p) = both(T::LARGEST);
            assert_eq!((p[at].value(), log_p[at].value()), (1.0, 0.0), "{at} of {len}, {level:?}");
            for i in (0..len).filter(|&i| i != at) {
                assert_eq!((p[i].value(), log_p[i].value()), (0.0, -T::LARGEST), "{at} of {len}, {level:?}");
            }
        }
    }
}

fn rows_of_nothing_but<T: Float>() {
    for level in levels() {
        for len in lengths() {
            for (value, max) in [(-INF, -INF), (INF, INF), (NAN, NAN)] {
                let row = vec![T::of(value); len];
                assert!(same(level.max(&row).value(), max), "{value}, {len}, {level:?}");
                assert!(same(level.log_sum_exp(&row).value(), max), "{value}, {len}, {level:?}");
                let (mut p, mut log_p) = (row.clone(), row);
                level.softmax(&mut p);
                level.log_softmax(&mut log_p);
                assert!(p.iter().chain(&log_p).all(|x| x.value().is_nan()), "{value}, {len}, {level:?}");
            }
            for value in [T::LARGEST, -T::LARGEST] {
                let row = vec![T::of(value); len];
                assert_eq!(level.max(&row).value(), value, "{len}, {level:?}");
                assert_eq!(level.log_sum_exp(&row).value(), value, "{len}, {level:?}");
                let mut p = row;
                level.softmax(&mut p);
                assert!(p.iter().all(|p| close::<T>(p.value(), 1.0 / len as f64)), "{len}, {level:?}");
            }
        }
    }
}

fn empty_rows<T: Float>() {
    for level in levels() {
        assert_eq!(level.max::<T>(&[]).value(), -INF, "{level:?}");
        assert_eq!(level.log_sum_exp::<T>(&[]).value(), -INF, "{level:?}");
        level.exp::<T>(&mut []);
        level.log::<T>(&mut []);
        level.softmax::<T>(&mut []);
        level.log_softmax::<T>(&mut []);
    }
}

/// The numbers of a row that is shifted by its maximum have the same bits beside one whose exp is no normal number as beside one whose
/// exp is, where neither is anything beside the sum.
fn underflow_in_long_rows<T: Float>() {
    let normal = T::SMALLEST.ln() / 1.3;
    for level in levels() {
        for (len, at) in LONG.into_iter().flat_map(|len| [0, 77, len - 1].map(|at| (len, at))) {
            let [p, expected] = [normal, -INF].map(|special| {
                let mut row = with(&ordinary::<T>(len), at, special);
                level.softmax(&mut row);
                row
            });
            for i in (0..len).filter(|&i| i != at) {
                assert_eq!(p[i].bits(), expected[i].bits(), "{i} beside {at} of {len}, {level:?}");
            }
            assert!(p[at].value() > 0.0 && expected[at].value() == 0.0, "{at} of {len}, {level:?}");
        }
    }
}

/// Numbers up to a bound on both sides of 0, the bound being on both sides of what softmax of a long row shifts from on, and beyond
/// what exp overflows at; then the same moved to one side of 0, and to the other.
fn softmax_far_from_zero<T: Float>() {
    let highest = T::LARGEST.ln();
    let mut random = Random::new(3);
    for level in levels() {
        for len in [9, 70, 80, LONGEST].into_iter().chain(LONG) {
            for bound in [0.1, 0.69, 0.72, 0.73, 0.97, 1.01, 1.3].map(|part| part * highest) {
                let ends = [bound, -bound].into_iter();
                let row: Vec<f64> =
                    ends.chain(core::iter::repeat_with(|| bound * random.symmetric())).take(len).collect();
                for shift in [0.0, bound, -bound] {
                    let mut p: Vec<_> = row.iter().map(|x| T::of(x + shift)).collect();
                    let x: Vec<_> = p.iter().map(|x| x.value()).collect();
                    let top = x.iter().copied().fold(-INF, f64::max);
                    let total: f64 = x.iter().map(|x| (x - top).exp()).sum();
                    level.softmax(&mut p);
                    for (p, x) in p.iter().map(|p| p.value()).zip(&x) {
                        let truth = (x - top).exp() / total;
                        let off = (8.0 + (top - x)) * T::EPSILON * truth + 2.0 * T::SMALLEST;
                        let what = || format!("{p:e} for {truth:e}, {bound} and {shift}, {len}, {level:?}");
                        assert!((p - truth).abs() <= off, "{}", what());
                    }
                }
            }
        }
    }
}

fn anywhere_in_memory<T: Float>() {
    type OfRow<T> = (&'static str, fn(SimdLevel, &mut [T]));
    let functions: [OfRow<T>; 6] = [
        ("exp", |level, x| level.exp(x)),
        ("log", |level, x| level.log(x)),
        ("max", |level, x| x[0] = level.max(x)),
        ("softmax", |level, x| level.softmax(x)),
        ("log softmax", |level, x| level.log_softmax(x)),
        ("log-sum-exp", |level, x| x[0] = level.log_sum_exp(x)),
    ];
    for level in levels() {
        for len in [3, 40, 150].into_iter().chain(LONG) {
            let row = ordinary::<T>(len);
            for (name, function) in functions {
                let mut expected: Option<Vec<u64>> = None;
                for start in 0..=16 {
                    // What is beside the slice stays.
                    let mut memory = vec![T::of(7.0); len + 20];
                    memory[start..start + len].copy_from_slice(&row);
                    function(level, &mut memory[start..start + len]);
                    let bits: Vec<_> = memory[start..start + len].iter().map(|x| x.bits()).collect();
                    let expected = expected.get_or_insert_with(|| bits.clone());
                    assert_eq!(&bits, expected, "{name} of {len}, from {start} on, {level:?}");
                    let beside = memory[..start].iter().chain(&memory[start + len..]);
                    assert!(beside.into_iter().all(|x| x.value() == 7.0), "{name} of {len}, {level:?}");
                }
            }
        }
    }
}
