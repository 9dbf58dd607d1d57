//! What each option and each other quantity costs beside the plain loss and gradient, in turns and on one thread; then how
//! features lie in memory, how large a block may be, and sparse features beside dense ones: `cargo bench --bench options`.
//! Prints medians in milliseconds and ratios.

mod support;

use faer::sparse::{SparseRowMat, Triplet};
use faer::{Mat, MatRef};
use half::{bf16, f16};
use ndarray::{ArrayView2, ShapeBuilder};
use softmax_regression::{Batch, Error, Features, IntoFaer, Objective, Parallelism, Targets, Workspace};
use std::time::{Duration, Instant};
use support::{Data, SHAPES, Shape};

/// Time to spend on each table, about.
const BUDGET: Duration = Duration::from_secs(8);

/// Something to measure, by name.
type Call<'a> = (&'a str, Box<dyn FnMut() -> Result<(), Error> + 'a>);

fn main() -> Result<(), Error> {
    let test = std::env::args().any(|arg| arg == "--test");
    for shape in SHAPES {
        if matches!(shape.name, "digits" | "covtype" | "mnist" | "mini") && !(test && shape.m > 10_000) {
            additions(shape)?;
            layouts(shape)?;
        }
        if matches!(shape.name, "digits" | "covtype" | "mnist" | "probe") && !(test && shape.m > 10_000) {
            blocks(shape)?;
        }
    }
    let (m, n, k) = if test { (100, 50, 20) } else { (20_000, 2000, 20) };
    densities(Shape { name: "sparse", m, n, k, f64: false })
}

/// Loss and gradient, as something to measure.
fn gradient<'a>(
    name: &'a str,
    objective: Objective,
    batch: Batch<'a, f32>,
    theta: MatRef<'a, f32>,
) -> Call<'a> {
    let mut gradient = Mat::zeros(theta.nrows(), theta.ncols());
    let mut workspace = Workspace::new();
    let call =
        move || objective.loss_and_gradient(&batch, theta, gradient.as_mut(), &mut workspace).map(drop);
    (name, Box::new(call))
}

fn additions(shape: Shape) -> Result<(), Error> {
    let Shape { m, n, k, .. } = shape;
    let data = Data::<f32>::new(shape);
    let (x, theta) = (data.x(), data.theta.as_ref());
    let soft =
        Mat::from_fn(m, k, |i, c| if c == data.labels[i] as usize { 0.75 } else { 0.25 / (k - 1) as f32 });
    let weights = vec![0.5; m];
    let half = Mat::from_fn(n, m, |j, i| f16::from_f32(x[(i, j)]));
    let brain = Mat::from_fn(n, m, |j, i| bf16::from_f32(x[(i, j)]));
    let with_intercept = Mat::from_fn(n + 1, k, |j, c| if j < n { theta[(j, c)] } else { 0.1 });
    let direction = Mat::from_fn(n, k, |j, c| theta[(n - 1 - j, c)]);

    let plain = Objective::default().parallelism(Parallelism::Serial);
    let labels = Targets::from(&data.labels);
    let batch = Batch::new(x, labels)?;
    let with = |f: fn(Objective) -> Objective| f(plain.clone());
    let mut calls = vec![
        gradient("plain", plain.clone(), batch, theta),
        gradient("sample weights", plain.clone(), batch.with_sample_weights(&weights)?, theta),
        gradient("class weights", plain.clone().class_weights(&vec![0.5; k]), batch, theta),
        gradient("ignored label", with(|o| o.ignore_label(-1)), batch, theta),
        gradient("intercept", with(|o| o.intercept(true)), batch, with_intercept.as_ref()),
        gradient("l2", with(|o| o.l2(0.1)), batch, theta),
        gradient("label smoothing", with(|o| o.label_smoothing(0.1)), batch, theta),
        gradient("soft targets", plain.clone(), Batch::new(x, &soft)?, theta),
        gradient("temperature", with(|o| o.temperature(2.0)), batch, theta),
        gradient("soft cap", with(|o| o.soft_cap(3.0)), batch, theta),
        gradient("z-loss", with(|o| o.z_loss(1e-4)), batch, theta),
        gradient("f16", plain.clone(), Batch::new(half.as_ref().transpose(), labels)?, theta),
        gradient("bf16", plain.clone(), Batch::new(brain.as_ref().transpose(), labels)?, theta),
    ];
    let (plain, batch, direction) = (&plain, &batch, direction.as_ref());
    let mut workspace = Workspace::new();
    let (mut out, mut inputs) = (Mat::zeros(n, k), Mat::<f32>::zeros(n, m));
    calls.push((
        "input gradient",
        Box::new(move || {
            let inputs = inputs.as_mut().transpose_mut();
            plain.loss_and_gradients(batch, theta, out.as_mut(), inputs, &mut workspace).map(drop)
        }),
    ));
    let (mut workspace, mut out) = (Workspace::new(), Mat::zeros(n, k));
    calls.push((
        "Hessian product",
        Box::new(move || plain.hessian_product(batch, theta, direction, out.as_mut(), &mut workspace)),
    ));
    let (mut workspace, mut out) = (Workspace::new(), Mat::zeros(n, k));
    calls.push((
        "Hessian diagonal",
        Box::new(move || plain.hessian_diagonal(batch, theta, out.as_mut(), &mut workspace)),
    ));
    let mut workspace = Workspace::new();
    calls.push(("loss alone", Box::new(move || plain.loss(batch, theta, &mut workspace).map(drop))));
    table(&format!("{} {m}×{n}×{k} f32", shape.name), calls)
}

/// Row-major features beside column-major ones, and beside every second column of a matrix, as they are and copied first; and
/// row-major parameters and gradient.
fn layouts(shape: Shape) -> Result<(), Error> {
    let Shape { m, n, k, .. } = shape;
    let data = Data::<f32>::new(shape);
    let (x, theta) = (data.x(), data.theta.as_ref());
    let plain = Objective::default().parallelism(Parallelism::Serial);
    let columns = x.to_owned();
    let wide: Vec<f32> = x.row_iter().flat_map(|row| row.iter().flat_map(|&x| [x, 0.0])).collect();
    let wide = ArrayView2::from_shape((m, n).strides((2 * n, 2)), &wide).expect("as long as that");
    let every_second = wide.into_faer();
    let mut copy = Mat::<f32>::zeros(n, m);
    let (mut out, mut workspace) = (Mat::zeros(n, k), Workspace::new());
    let theta_rows = theta.transpose().to_owned();
    let (mut out_rows, mut workspace_rows) = (Mat::zeros(k, n), Workspace::new());
    let (copied, turned, labels) = (plain.clone(), plain.clone(), &data.labels);
    let batch = Batch::new(x, labels)?;
    let calls = vec![
        gradient("row-major", plain.clone(), batch, theta),
        (
            "row-major Θ",
            Box::new(move || {
                let (theta, out) = (theta_rows.transpose(), out_rows.as_mut().transpose_mut());
                turned.loss_and_gradient(&batch, theta, out, &mut workspace_rows).map(drop)
            }),
        ),
        gradient("column-major", plain.clone(), Batch::new(&columns, labels)?, theta),
        gradient("every second column", plain, Batch::new(every_second, labels)?, theta),
        (
            "the same, copied",
            Box::new(move || {
                copy.as_mut().transpose_mut().copy_from(every_second);
                let batch = Batch::new(copy.as_ref().transpose(), labels)?;
                copied.loss_and_gradient(&batch, theta, out.as_mut(), &mut workspace).map(drop)
            }),
        ),
    ];
    table(&format!("layouts {m}×{n}×{k} f32"), calls)
}

/// [`Objective::block_bytes`].
fn blocks(shape: Shape) -> Result<(), Error> {
    let Shape { m, n, k, .. } = shape;
    let data = Data::<f32>::new(shape);
    let (theta, plain) = (data.theta.as_ref(), Objective::default().parallelism(Parallelism::Serial));
    let batch = Batch::new(data.x(), &data.labels)?;
    let sizes: Vec<(String, usize)> =
        (14..=26).step_by(2).map(|bits| (format!("{} KiB", 1 << (bits - 10)), 1 << bits)).collect();
    let mut calls = vec![gradient("as it chooses", plain.clone(), batch, theta)];
    for (name, bytes) in &sizes {
        calls.push(gradient(name, plain.clone().block_bytes(*bytes), batch, theta));
    }
    table(&format!("blocks {m}×{n}×{k} f32"), calls)
}

/// Sparse features of several densities beside the same ones stored densely.
fn densities(shape: Shape) -> Result<(), Error> {
    let Shape { m, n, k, .. } = shape;
    let data = Data::<f32>::new(shape);
    let (x, theta) = (data.x(), data.theta.as_ref());
    let sparse: Vec<(String, SparseRowMat<u32, f32>)> = [1, 10, 50, 100, 200]
        .into_iter()
        .map(|per_mille| {
            // Which entries: by a multiplicative hash of their place.
            let is_stored =
                |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44 < (per_mille << 20) / 1000;
            let entries: Vec<_> = (0..m * n)
                .filter(|&at| is_stored(at))
                .map(|at| Triplet::new((at / n) as u32, (at % n) as u32, x[(at / n, at % n)]))
                .collect();
            let stored = entries.len() as f64 / (m * n) as f64;
            let x = SparseRowMat::try_new_from_triplets(m, n, &entries).expect("indices in range");
            (format!("{:.2} % stored", 100.0 * stored), x)
        })
        .collect();
    let plain = Objective::default().parallelism(Parallelism::Serial);
    let mut calls = vec![gradient("dense", plain.clone(), Batch::new(x, &data.labels)?, theta)];
    for (name, x) in &sparse {
        calls.push(gradient(name, plain.clone(), Batch::new(Features::from(x), &data.labels)?, theta));
    }
    table(&format!("sparse {m}×{n}×{k} f32"), calls)
}

/// Measures all in turns; the first is what the others are compared with.
fn table(title: &str, mut calls: Vec<Call<'_>>) -> Result<(), Error> {
    let mut times = vec![Vec::new(); calls.len()];
    let begin = Instant::now();
    while begin.elapsed() < BUDGET || times[0].len() < 5 {
        for ((_, call), times) in calls.iter_mut().zip(&mut times) {
            let start = Instant::now();
            call()?;
            times.push(start.elapsed());
        }
    }
    let medians: Vec<f64> = times
        .into_iter()
        .map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e3
        })
        .collect();
    println!("{title}, ms");
    for ((name, _), median) in calls.iter().zip(&medians) {
        println!("  {name:<20} {median:>10.4} {:>8.2}", median / medians[0]);
    }
    Ok(())
}
