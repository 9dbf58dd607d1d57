//! Loss and gradient beside the plain way to do the same work (two faer products, the standard library's exp), in
//! turns, so that both meet the same machine: `cargo bench --bench plain [-- SHAPE...]`. Prints medians in
//! milliseconds and their ratios.

mod support;

use faer::{Mat, MatMut};
use softmax_regression::{Batch, Objective, Parallelism, Real, Workspace};
use std::error::Error;
use std::time::{Duration, Instant};
use support::{Data, SHAPES, Scalar, Shape, plain};

/// Time to spend on each shape and type, about.
const BUDGET: Duration = Duration::from_secs(4);

fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let test = std::env::args().any(|arg| arg == "--test");
    println!("{:<28} {:>10} {:>10} {:>10} {:>8} {:>8}", "ms", "plain", "1 thread", "all", "×", "× all");
    for shape in SHAPES {
        let chosen = names.is_empty() || names.iter().any(|name| name == shape.name);
        if !chosen || (test && shape.m * shape.n * shape.k > 10_000_000) {
            continue;
        }
        measure::<f32>(shape, "f32")?;
        if shape.f64 {
            measure::<f64>(shape, "f64")?;
        }
    }
    Ok(())
}

fn measure<T: Real + Scalar>(shape: Shape, scalar: &str) -> Result<(), Box<dyn Error>> {
    let data = Data::<T>::new(shape);
    let batch = Batch::new(data.x(), &data.labels)?;
    let mut gradient = Mat::<T>::zeros(shape.n, shape.k);
    let mut workspace = Workspace::new();
    let mut own = |parallelism, times: &mut Vec<Duration>| -> Result<f64, Box<dyn Error>> {
        let objective = Objective::default().parallelism(parallelism);
        let start = Instant::now();
        let loss =
            objective.loss_and_gradient(&batch, data.theta.as_ref(), gradient.as_mut(), &mut workspace)?;
        times.push(start.elapsed());
        Ok(loss)
    };
    let mut scores = vec![T::from_f64(0.0); shape.m * shape.k];
    let mut plain_gradient = Mat::<T>::zeros(shape.n, shape.k);

    let (mut plain_times, mut serial, mut parallel) = (Vec::new(), Vec::new(), Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < BUDGET || serial.len() < 3 {
        let start = Instant::now();
        let scores = MatMut::from_row_major_slice_mut(&mut scores, shape.m, shape.k);
        let expected = plain(&data, scores, plain_gradient.as_mut());
        plain_times.push(start.elapsed());
        for loss in [own(Parallelism::Serial, &mut serial)?, own(Parallelism::Rayon, &mut parallel)?] {
            if ((loss - expected) / expected).abs() > 1e-3 {
                return Err(format!("{}: {loss} is not {expected}", shape.name).into());
            }
        }
    }
    let [plain, one, all] = [plain_times, serial, parallel].map(median);
    println!(
        "{:<28} {plain:>10.4} {one:>10.4} {all:>10.4} {:>8.2} {:>8.2}",
        format!("{} {}×{}×{} {scalar}", shape.name, shape.m, shape.n, shape.k),
        plain / one,
        plain / all,
    );
    Ok(())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}
