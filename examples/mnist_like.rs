//! A large benchmark: `cargo run --release --example mnist_like [-- SAMPLES]`.
//!
//! Shows [`SoftmaxRegression::fit`] on images of the size and number of MNIST's (60,000 of 28×28 pixels in 10 classes,
//! `f32`, unless told otherwise), how its [`Step`]s feed a progress bar, and how fast the evaluations are that it makes.
//!
//! Nothing is downloaded: the images are made from a seed. Each class has a prototype. An image is mostly that of its class,
//! with a little of that of another, and noise; one in 14 shows more of the other, so that no model is always right.

#[path = "support/progress.rs"]
mod progress;
#[path = "support/random.rs"]
mod random;

use faer::{Mat, MatRef};
use progress::Progress;
use random::uniform;
use softmax_regression::{Batch, FitOptions, SoftmaxRegression, Step, Workspace};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Instant;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// n.
const PIXELS: usize = 28 * 28;
/// K.
const CLASSES: usize = 10;
/// Of the scaled gradient. Half its square is what the loss of the average image can still lose: 5e-7.
const TOLERANCE: f64 = 1e-3;

fn main() -> Result<()> {
    let samples = match std::env::args().nth(1) {
        None => 60_000,
        Some(arg) => {
            arg.parse().map(NonZeroUsize::get).map_err(|error| format!("SAMPLES is {arg:?}: {error}"))?
        }
    };
    let begin = Instant::now();
    let mut camera = Camera::new(uniform(1));
    let (train, test) = (camera.shoot(samples)?, camera.shoot(samples.div_ceil(6))?);
    let (train, test) = (train.batch()?, test.batch()?);
    println!("images         {} to train on, {} to test on", train.samples(), test.samples());
    println!("made in        {:.2} s", begin.elapsed().as_secs_f64());

    let (model, prepared, descended) = fit(&train)?;
    let step = model.report().step;
    let seconds = evaluation_seconds(&model, &train)?;
    let flops = 4.0 * (samples * PIXELS * CLASSES) as f64;
    let share = seconds * step.evaluations as f64 / (prepared + descended);
    println!("fitted in      {prepared:.2} s to prepare, {descended:.2} s to descend");
    println!("evaluations    {} in {} steps", step.evaluations, step.iterations);
    println!("one of them    {:.2} ms, the median; all are {:.0} % of the fit", 1e3 * seconds, 100.0 * share);
    println!("samples        {:.2} million/s, evaluated once", samples as f64 / seconds / 1e6);
    println!("arithmetic     {:.1} GFLOP/s, of 4·m·n·K", flops / seconds / 1e9);
    println!("loss           {:.4} an image, penalty included", step.loss / samples as f64);
    println!("accuracy       {:.2} % of the images trained on", 100.0 * model.score(&train)?);
    println!("               {:.2} % of the others", 100.0 * model.score(&test)?);
    Ok(())
}

/// The model, the seconds until the first evaluation had been made, and those since.
fn fit(batch: &Batch<'_, f32>) -> Result<(SoftmaxRegression<f32>, f64, f64)> {
    let mut progress = Progress::new(TOLERANCE);
    let mut prepared = None;
    let begin = Instant::now();
    let on_step = |step: &Step| {
        prepared.get_or_insert_with(|| begin.elapsed().as_secs_f64());
        progress.show(step.iterations, step.loss, step.scaled_gradient_norm);
        ControlFlow::Continue(())
    };
    let model =
        SoftmaxRegression::fit(batch, FitOptions::new(CLASSES).tolerance(TOLERANCE).on_step(on_step))?;
    let total = begin.elapsed().as_secs_f64();
    progress.end();
    let prepared = prepared.unwrap_or(total);
    Ok((model, prepared, total - prepared))
}

/// The median time of a loss and gradient where the model is, the first not counted.
fn evaluation_seconds(model: &SoftmaxRegression<f32>, batch: &Batch<'_, f32>) -> Result<f64> {
    let mut gradient = Mat::zeros(model.theta().nrows(), CLASSES);
    let mut workspace = Workspace::new();
    let mut seconds = Vec::new();
    for _ in 0..16 {
        let begin = Instant::now();
        model.objective().loss_and_gradient(batch, model.theta(), gradient.as_mut(), &mut workspace)?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let measured = &mut seconds[1..];
    measured.sort_by(f64::total_cmp);
    Ok(measured[measured.len() / 2])
}

/// Images, one a row of X, with their labels.
struct Images {
    pixels: Vec<f32>,
    labels: Vec<u8>,
}

impl Images {
    fn batch(&self) -> Result<Batch<'_, f32>> {
        let x = MatRef::from_row_major_slice(&self.pixels, self.labels.len(), PIXELS);
        Ok(Batch::new(x, &self.labels)?)
    }
}

/// Makes images.
struct Camera<R> {
    random: R,
    prototypes: Vec<[f32; PIXELS]>,
}

/// From numbers in [-1, 1).
impl<R: FnMut() -> f32> Camera<R> {
    /// Half of the pixels of a prototype are black, the others anything up to white.
    fn new(mut random: R) -> Self {
        let prototypes = (0..CLASSES).map(|_| [(); PIXELS].map(|()| random().max(0.0))).collect();
        Self { random, prototypes }
    }

    fn shoot(&mut self, samples: usize) -> Result<Images> {
        let mut images = Images { pixels: Vec::new(), labels: Vec::new() };
        images.pixels.try_reserve_exact(samples.saturating_mul(PIXELS))?;
        images.labels.try_reserve_exact(samples)?;
        for _ in 0..samples {
            let (label, other) = self.two_classes();
            // From 1 down to a little more of the other.
            let part = 0.73 + 0.27 * (self.random)();
            images.labels.push(label as u8);
            for (mine, others) in self.prototypes[label].iter().zip(&self.prototypes[other]) {
                let light = part * mine + (1.0 - part) * others + 0.25 * bell(&mut self.random);
                images.pixels.push(light.clamp(0.0, 1.0));
            }
        }
        Ok(images)
    }

    /// Not the same.
    fn two_classes(&mut self) -> (usize, usize) {
        let (label, shift) = (self.below(CLASSES), 1 + self.below(CLASSES - 1));
        (label, (label + shift) % CLASSES)
    }

    /// An integer below a small bound.
    fn below(&mut self, bound: usize) -> usize {
        ((self.random)().abs() * bound as f32) as usize % bound
    }
}

/// Of mean 0 and variance 1, nearly normal: the sum of three uniform numbers, each of variance ⅓.
fn bell(random: &mut impl FnMut() -> f32) -> f32 {
    (0..3).map(|_| random()).sum()
}
