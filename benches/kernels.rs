//! The kernels on slices, each beside the standard library in a plain loop: `cargo bench --bench kernels`.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use softmax_regression::{Real, kernel};
use std::time::Duration;

/// Elements that fit the first cache some times over.
const IN_CACHE: usize = 512;

/// How many times.
const CLONES: u64 = 6;

fn elementwise(c: &mut Criterion) {
    macro_rules! group {
        ($name:literal, $t:ty, $kernel:path, $std:path, $input:expr) => {
            let mut group = c.benchmark_group(concat!($name, "/", stringify!($t)));
            group.throughput(Throughput::Elements(IN_CACHE as u64));
            let input: Vec<$t> = (0..IN_CACHE).map($input).collect();
            // The numbers anew each time, since those of one call would not do for the next: what that takes is not counted,
            // but the clock is, once in so many calls.
            group.bench_function("softmax-regression", |b| {
                b.iter_batched_ref(|| input.clone(), |x| $kernel(x), BatchSize::NumIterations(CLONES))
            });
            let mut x = input.clone();
            group.bench_function("std", |b| {
                b.iter(|| x.iter_mut().zip(&input).for_each(|(y, x)| *y = $std(*x)))
            });
            group.finish();
        };
    }
    group!("exp", f32, kernel::exp, f32::exp, |i| -0.02 * i as f32);
    group!("exp", f64, kernel::exp, f64::exp, |i| -0.02 * i as f64);
    group!("log", f32, kernel::log, f32::ln, |i| 0.02 + 0.01 * i as f32);
    group!("log", f64, kernel::log, f64::ln, |i| 0.02 + 0.01 * i as f64);
}

fn softmax<T: Real>(c: &mut Criterion, name: &str, exp: impl Fn(T) -> T) {
    let mut group = c.benchmark_group(format!("softmax/{name}"));
    for length in [2, 7, 10, 20, 32, 100, 1000, 32_000] {
        // So many that the clock does not count.
        let rows = (4 * IN_CACHE / length).max(1);
        group.throughput(Throughput::Elements((rows * length) as u64));
        let input: Vec<T> =
            (0..rows * length).map(|i| T::from_f64((i * 7919 % 1000) as f64 * 0.01)).collect();
        group.bench_function(BenchmarkId::new("softmax-regression", length), |b| {
            b.iter_batched_ref(
                || input.clone(),
                |x| x.chunks_exact_mut(length).for_each(kernel::softmax),
                BatchSize::PerIteration,
            )
        });
        group.bench_function(BenchmarkId::new("std", length), |b| {
            b.iter_batched_ref(
                || input.clone(),
                |x| {
                    for row in x.chunks_exact_mut(length) {
                        let top = row.iter().copied().fold(row[0], |a, b| if b > a { b } else { a });
                        let mut sum = T::from_f64(0.0);
                        for z in &mut *row {
                            *z = exp(*z - top);
                            sum += *z;
                        }
                        row.iter_mut().for_each(|p| *p /= sum);
                    }
                },
                BatchSize::PerIteration,
            )
        });
    }
    group.finish();
}

fn softmaxes(c: &mut Criterion) {
    softmax(c, "f32", f32::exp);
    softmax(c, "f64", f64::exp);
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = elementwise, softmaxes
}
criterion_main!(benches);
