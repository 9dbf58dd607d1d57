//! Loss and gradient over the shapes of `support`, f32 and f64, one thread and all, beside the plain way to do the same
//! work: `cargo bench --bench loss_and_gradient`. Throughput is in samples.

mod support;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use faer::{Mat, MatMut};
use softmax_regression::{Batch, Objective, Parallelism, Real, Workspace};
use std::time::Duration;
use support::{Data, SHAPES, Scalar, Shape, plain};

fn loss_and_gradient<T: Real + Scalar>(c: &mut Criterion, shape: Shape, scalar: &str) {
    let Shape { name, m, n, k, .. } = shape;
    let mut group = c.benchmark_group(format!("loss_and_gradient/{name} {m}×{n}×{k} {scalar}"));
    group.throughput(Throughput::Elements(m as u64)).sampling_mode(SamplingMode::Flat);

    let data = Data::<T>::new(shape);
    let batch = Batch::new(data.x(), &data.labels).expect("as many labels as samples");
    let mut gradient = Mat::<T>::zeros(n, k);
    let mut workspace = Workspace::new();
    for (threads, parallelism) in [("one thread", Parallelism::Serial), ("all threads", Parallelism::Rayon)] {
        let objective = Objective::default().parallelism(parallelism);
        group.bench_function(BenchmarkId::new("softmax-regression", threads), |b| {
            b.iter(|| {
                objective
                    .loss_and_gradient(&batch, data.theta.as_ref(), gradient.as_mut(), &mut workspace)
                    .expect("valid input")
            })
        });
    }
    // Ten times many seconds for the largest: `plain` measures those, a few times.
    if m * n * k < 10_000_000_000 {
        let mut scores = vec![T::from_f64(0.0); m * k];
        group.bench_function(BenchmarkId::new("plain", "one thread"), |b| {
            b.iter(|| plain(&data, MatMut::from_row_major_slice_mut(&mut scores, m, k), gradient.as_mut()))
        });
    }
    group.finish();
}

fn shapes(c: &mut Criterion) {
    // `cargo bench -- --test` runs everything once; the large shapes take seconds each.
    let test = std::env::args().any(|arg| arg == "--test");
    for shape in SHAPES {
        if test && shape.m * shape.n * shape.k > 1_000_000_000 {
            continue;
        }
        loss_and_gradient::<f32>(c, shape, "f32");
        if shape.f64 {
            loss_and_gradient::<f64>(c, shape, "f64");
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = shapes
}
criterion_main!(benches);
