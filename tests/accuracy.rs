//! Promise: given exact scores, the residual of class j and the loss of a sample err by at most (8 + max z − z_j)·ε
//! relatively (for the loss and the residual at the label: of the score that decides it), for K up to 1,024, down to the
//! smallest normal number.
//!
//! The truth is computed in twice the precision of `f64`. `cargo test --test accuracy -- --nocapture` prints the largest
//! share of the bound that was used.

use faer::Mat;
use qd::Quad;
use softmax_regression::Real;
use softmax_regression::kernel::SimdLevel;

/// Machine epsilon and smallest normal number.
trait Limits: Real {
    const EPSILON: f64;
    const SMALLEST: f64;
}

impl Limits for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    const SMALLEST: f64 = f32::MIN_POSITIVE as f64;
}

impl Limits for f64 {
    const EPSILON: f64 = f64::EPSILON;
    const SMALLEST: f64 = f64::MIN_POSITIVE;
}

/// The largest errors seen: in ε, and as a share of what is allowed.
#[derive(Default, Debug)]
struct Worst {
    loss_epsilons: f64,
    residual_epsilons: f64,
    share: f64,
}

/// Loss and residual of a sample in twice the precision of f64, and for each the score that decides it.
struct Truth {
    loss: (f64, f64),
    residual: Vec<(f64, f64)>,
    top: f64,
}

fn truth(z: &[f64], label: usize) -> Truth {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let difference = |a: f64, b: f64| Quad::from_f64(a).sub_accurate(Quad::from_f64(b));
    let e: Vec<Quad> = z.iter().map(|&z| difference(z, top).exp()).collect();
    let sum_but = |without: usize| {
        let others = e.iter().enumerate().filter(|&(j, _)| j != without);
        others.fold(Quad::from_f64(0.0), |sum, (_, &e)| sum + e)
    };
    let second = |without: usize| {
        let others = z.iter().enumerate().filter(|&(j, _)| j != without);
        others.fold(f64::NEG_INFINITY, |top, (_, &z)| top.max(z))
    };
    let rest = sum_but(label);
    let sum = rest + e[label];
    let residual = (0..z.len())
        .map(|k| if k == label { (-(rest / sum).0, second(label)) } else { ((e[k] / sum).0, z[k]) })
        .collect();
    let (apart, decides) = if z[label] == top {
        (label, second(label))
    } else {
        (z.iter().position(|&z| z == top).unwrap(), z[label])
    };
    let loss = difference(top, z[label]) + log1p(sum_but(apart));
    Truth { loss: (loss.0, decides), residual, top }
}

/// log(1 + a), a ≥ 0.
fn log1p(a: Quad) -> Quad {
    if a.0 > 1e-3 {
        return (Quad::from_f64(1.0) + a).ln();
    }
    let series = (1..=12).rev().fold(Quad::from_f64(0.0), |sum, k| {
        Quad::from_f64(if k % 2 == 1 { 1.0 } else { -1.0 }) / Quad::from_f64(k as f64) + a * sum
    });
    a * series
}

impl Worst {
    /// Error of `found` in ε. Below the smallest normal number the bound is absolute.
    fn see<T: Limits>(&mut self, found: f64, (truth, decides): (f64, f64), top: f64) -> f64 {
        if truth == 0.0 && found == 0.0 {
            return 0.0;
        }
        let epsilons = (found - truth).abs() / (truth.abs().max(T::SMALLEST) * T::EPSILON);
        self.share = self.share.max(epsilons / (8.0 + (top - decides)));
        epsilons
    }
}

/// All samples at once for the residual and the sum of the losses, each alone for its loss.
fn check<T: Limits>(level: SimdLevel, scores: &Mat<T>, labels: &[usize], worst: &mut Worst) {
    let (m, k) = (scores.nrows(), scores.ncols());
    let mut residual = scores.clone();
    let total = level.softmax_residual(residual.as_mut(), labels).unwrap();
    let (mut sum, mut allowed) = (0.0, 0.0);
    for i in 0..m {
        let z: Vec<f64> = (0..k).map(|j| scores[(i, j)].to_f64()).collect();
        let truth = truth(&z, labels[i]);
        for j in 0..k {
            let epsilons = worst.see::<T>(residual[(i, j)].to_f64(), truth.residual[j], truth.top);
            worst.residual_epsilons = worst.residual_epsilons.max(epsilons);
            assert!(worst.share <= 1.0, "{level:?}: residual {j} of {z:?}, label {}: {worst:?}", labels[i]);
        }
        let (exact, decides) = truth.loss;
        sum += exact;
        // Where there is no other score, or hardly any, a loss of 0 counts as right too.
        allowed += exact.max(T::SMALLEST) * T::EPSILON * (8.0 + (truth.top - decides)).min(1.0 / T::EPSILON);
        let mut row = Mat::from_fn(1, k, |_, j| scores[(i, j)]);
        let loss = level.softmax_residual(row.as_mut(), &labels[i..=i]).unwrap();
        let epsilons = worst.see::<T>(loss, truth.loss, truth.top);
        worst.loss_epsilons = worst.loss_epsilons.max(epsilons);
        assert!(worst.share <= 1.0, "{level:?}: loss of {z:?}, label {}: {worst:?}", labels[i]);
    }
    assert!((total - sum).abs() <= allowed, "{level:?}: {total:e} instead of {sum:e}, ±{allowed:e}");
}

fn accuracy<T: Limits>(name: &str) {
    let mut state = 7_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    for level in SimdLevel::available() {
        let mut worst = Worst::default();
        for k in [1, 2, 3, 4, 5, 7, 10, 15, 16, 17, 20, 33, 64, 100, 128, 129, 200, 511, 1000, 1024] {
            // At the fewest classes more than the samples that any level takes at a time.
            let m = if k > 200 {
                4
            } else if k > 5 {
                37
            } else {
                71
            };
            for scale in [0.01, 1.0, 8.0, 30.0, 80.0, 700.0] {
                for offset in [0.0, 1e3, -1e6] {
                    let random = Mat::from_fn(m, k, |_, _| T::from_f64(offset + scale * (uniform() - 0.5)));
                    // One score far above equal others: the most confident sample; and a ladder.
                    let confident =
                        Mat::from_fn(m, k, |i, j| T::from_f64(offset + if j == i % k { scale } else { 0.0 }));
                    let ladder = Mat::from_fn(m, k, |i, j| {
                        T::from_f64(offset - scale * ((i + j) % k) as f64 / k as f64)
                    });
                    let any: Vec<usize> = (0..m).map(|_| (uniform() * k as f64) as usize).collect();
                    let top: Vec<usize> = (0..m).map(|i| i % k).collect();
                    check(level, &random, &any, &mut worst);
                    check(level, &confident, &any, &mut worst);
                    check(level, &confident, &top, &mut worst);
                    check(level, &ladder, &any, &mut worst);
                }
            }
        }
        println!(
            "{name} {level:?}: loss within {:.2} ε, residual within {:.2} ε, {:.0} % of the bound used",
            worst.loss_epsilons,
            worst.residual_epsilons,
            100.0 * worst.share
        );
    }
}

#[test]
fn f32_within_the_bound() {
    accuracy::<f32>("f32");
}

#[test]
fn f64_within_the_bound() {
    accuracy::<f64>("f64");
}

/// Terms that are no normal numbers, each rounded by itself, whose sum is one. In `f64` even a thousand such roundings are
/// within the bound, and the truth would underflow too.
#[test]
fn many_small_terms_of_f32() {
    let mut worst = Worst::default();
    for level in SimdLevel::available() {
        // Samples enough for lanes to run across them, and not enough.
        for (m, k) in [(64, 1000), (4, 1000), (4, 250)] {
            for share in [0.5, 0.9, 0.99] {
                let gap = share * f64::from(k).ln() - f32::SMALLEST.ln();
                let scores = Mat::from_fn(m, k as usize, |i, j| if j == i { gap as f32 } else { 0.0 });
                let top: Vec<usize> = (0..m).collect();
                check(level, &scores, &top, &mut worst);
                // The same as targets of all classes.
                let mut residual = scores.clone();
                let targets = Mat::from_fn(m, k as usize, |i, j| f32::from(u8::from(j == i)));
                level.softmax_residual(residual.as_mut(), targets.as_ref()).unwrap();
                for i in 0..m {
                    let z: Vec<f64> = scores.row(i).iter().map(|&z| f64::from(z)).collect();
                    let truth = truth(&z, i);
                    worst.see::<f32>(f64::from(residual[(i, i)]), truth.residual[i], truth.top);
                    assert!(worst.share <= 1.0, "{level:?}, {m}×{k}, {share}: {worst:?}");
                }
            }
        }
    }
}

#[test]
fn the_confident_sample_of_the_contract() {
    let mut scores = Mat::from_fn(1, 3, |_, j| if j == 0 { 40.0_f64 } else { 0.0 });
    let loss = softmax_regression::kernel::softmax_residual(scores.as_mut(), &[0_u8]).unwrap();
    let exact = 2.0 * (-40.0_f64).exp();
    assert!((loss / exact - 1.0).abs() < 1e-15, "{loss:e}");
    assert!((scores[(0, 0)] / -exact - 1.0).abs() < 1e-15, "{:e}", scores[(0, 0)]);
}
