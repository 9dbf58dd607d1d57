//! Timing driver.
use faer::{Mat, MatRef};
use softmax_regression::*;
use std::time::Instant;
fn go<T: Real>(m: usize, n: usize, k: usize, par: bool, col: bool, what: &str, secs: f64) {
    let mut s = 1u64;
    let mut r = move || {
        s = s.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((s >> 40) as f64 / (1u64 << 24) as f64) - 0.5
    };
    let xs: Vec<T> = (0..m * n).map(|_| T::from_f64(3.4 * r())).collect();
    let x = if col {
        MatRef::from_column_major_slice(&xs, m, n)
    } else {
        MatRef::from_row_major_slice(&xs, m, n)
    };
    let labels: Vec<u32> = (0..m).map(|_| ((r() + 0.5) * k as f64) as u32).collect();
    let theta = Mat::<T>::from_fn(n, k, |_, _| T::from_f64(0.34 * r()));
    let mut g = Mat::<T>::zeros(n, k);
    let batch = Batch::new(x, &labels).unwrap();
    let o = Objective::default().parallelism(if par { Parallelism::Rayon } else { Parallelism::Serial });
    let o = match std::env::var("BB") {
        Ok(v) => o.block_bytes(v.parse().unwrap()),
        _ => o,
    };
    let mut w = Workspace::new();
    let mut ts = vec![];
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < secs {
        let t = Instant::now();
        match what {
            "loss" => {
                o.loss(&batch, theta.as_ref(), &mut w).unwrap();
            }
            _ => {
                o.loss_and_gradient(&batch, theta.as_ref(), g.as_mut(), &mut w).unwrap();
            }
        }
        ts.push(t.elapsed().as_secs_f64());
    }
    ts.sort_by(f64::total_cmp);
    println!(
        "{m}x{n}x{k} par={par} col={col} {what}: min {:.4} median {:.4} ms; {:.1} GF",
        ts[0] * 1e3,
        ts[ts.len() / 2] * 1e3,
        (if what == "loss" { 2. } else { 4. }) * (m * n * k) as f64 / ts[ts.len() / 2] / 1e9
    );
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (m, n, k) = match a[1].as_str() {
        "small" => (256, 32, 3),
        "digits" => (1797, 64, 10),
        "mnist" => (60000, 784, 10),
        "covtype" => (581012, 54, 7),
        "news" => (11314, 2000, 20),
        "probe" => (16384, 2048, 1000),
        "lmhead" => (2048, 1024, 32000),
        "one" => (1, 64, 10),
        "cov2" => (2000, 54, 7),
        "cov3" => (50000, 54, 7),
        _ => panic!(),
    };
    let has = |s: &str| a[2..].iter().any(|x| x == s);
    let secs = if has("long") { 5.0 } else { 1.5 };
    let what = if has("loss") { "loss" } else { "grad" };
    if has("f64") {
        go::<f64>(m, n, k, has("par"), has("col"), what, secs)
    } else {
        go::<f32>(m, n, k, has("par"), has("col"), what, secs)
    }
}
