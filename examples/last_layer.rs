//! The last layer of a network: `cargo run --release --example last_layer`.
//!
//! Shows [`Objective::loss_and_gradients`]: besides ∂J/∂Θ it gives ∂J/∂X, here the gradient in the hidden activations, from
//! which the layers below go on. The network is H = max(0, XW), P = softmax(HΘ + b), and reads the handwritten digits of
//! `data/digits.csv`. Everything but the last layer and its loss is written out here:
//!
//! ```text
//! ∂J/∂W = Xᵀ(∂J/∂H ⊙ 1{XW > 0})
//! ```
//!
//! That is first held against differences of J. Then mini-batches and Adam train the network in `f32`, and it has to read the
//! images held out, every fourth of each digit, at least as well as softmax regression on the pixels.

#[path = "support/digits.rs"]
mod digits;
#[path = "support/random.rs"]
mod random;

use digits::{CLASSES, Digits, PIXELS, read_digits};
use faer::{Mat, MatRef, unzip, zip};
use random::uniform;
use softmax_regression::{Batch, FitOptions, Objective, Real, Reduction, SoftmaxRegression, Workspace};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Hidden units.
const HIDDEN: usize = 128;
/// Images of a mini-batch.
const BATCH: usize = 32;
/// Passes over the images.
const EPOCHS: usize = 40;
/// Of Adam at the start; it falls linearly to 0.
const RATE: f32 = 4e-3;

fn main() -> Result<()> {
    let (train, test) = read_digits()?;
    let (train, test) = (Images::new(train), Images::new(test));
    println!("images         {} to train on, {} to test on", train.labels.len(), test.labels.len());

    let mut random = uniform(1);
    let mut network = Network::random(&mut random);
    let deviation = gradient_deviation(&network, &train)?;
    println!("gradient       ∂J/∂W deviates from differences by {deviation:.0e} of its largest element");
    if deviation.is_nan() || deviation > 1e-6 {
        return Err("the gradient of the first layer is wrong".into());
    }

    let pixels = |images: &Images<f32>| images.x.subcols(0, PIXELS).to_owned();
    let model =
        SoftmaxRegression::fit(&Batch::new(&pixels(&train), &train.labels)?, FitOptions::new(CLASSES))?;
    let linear = model.score(&Batch::new(&pixels(&test), &test.labels)?)?;
    println!("linear model   {:.1} % of the test images", 100.0 * linear);

    train_network(&mut network, &train, random)?;
    let accuracy = network.accuracy(&test)?;
    println!("network        {:.1} %", 100.0 * accuracy);
    if accuracy < linear.max(0.97) {
        return Err("the network should be as good as the linear model, and 97 % at least".into());
    }
    Ok(())
}

/// Images, one a row of X, with their labels. The last feature is 1: its weights are the biases of the hidden units.
struct Images<T> {
    x: Mat<T>,
    labels: Vec<u8>,
}

impl Images<f32> {
    fn new(Digits { pixels, labels }: Digits) -> Self {
        let x = Mat::from_fn(labels.len(), PIXELS + 1, |i, j| pixels[i].get(j).copied().unwrap_or(1.0));
        Self { x, labels }
    }
}

/// W ((pixels + 1)×hidden) and Θ ((hidden + 1)×K, the last row the intercept); or a gradient in them.
struct Network<T> {
    hidden: Mat<T>,
    last: Mat<T>,
}

impl<T: Real> Network<T> {
    /// The mean cross-entropy of the images, and its gradient.
    fn loss_and_gradient(&self, images: &Images<T>, workspace: &mut Workspace<T>) -> Result<(f64, Self)> {
        let activations = self.activations(images.x.as_ref());
        let batch = Batch::new(&activations, &images.labels)?;
        let mut last = Mat::zeros(self.last.nrows(), self.last.ncols());
        let mut upstream = Mat::zeros(activations.nrows(), activations.ncols());
        let loss = objective().loss_and_gradients(
            &batch,
            self.last.as_ref(),
            last.as_mut(),
            upstream.as_mut(),
            workspace,
        )?;
        zip!(&mut upstream, &activations).for_each(|unzip!(gradient, h)| {
            if *h <= T::zero() {
                *gradient = T::zero();
            }
        });
        Ok((loss, Self { hidden: images.x.transpose() * &upstream, last }))
    }

    /// H = max(0, XW).
    fn activations(&self, x: MatRef<'_, T>) -> Mat<T> {
        let mut h = x * &self.hidden;
        zip!(&mut h).for_each(|unzip!(h)| *h = if *h < T::zero() { T::zero() } else { *h });
        h
    }

    /// The share of images that are recognised.
    fn accuracy(&self, images: &Images<T>) -> Result<f64> {
        let mut digits = vec![0; images.labels.len()];
        let activations = self.activations(images.x.as_ref());
        objective().predict(&activations, self.last.as_ref(), &mut digits, &mut Workspace::new())?;
        let right = digits.iter().zip(&images.labels).filter(|&(&digit, &label)| digit == u32::from(label));
        Ok(right.count() as f64 / digits.len() as f64)
    }
}

impl Network<f32> {
    /// Weights uniform in ±√(6 / inputs), as suits max(0, ·) (He et al., *Delving deep into rectifiers*, 2015).
    fn random(random: &mut impl FnMut() -> f32) -> Self {
        let mut layer = |inputs: usize, outputs| {
            let bound = (6.0 / inputs as f32).sqrt();
            Mat::from_fn(inputs, outputs, |_, _| bound * random())
        };
        Self { hidden: layer(PIXELS + 1, HIDDEN), last: layer(HIDDEN + 1, CLASSES) }
    }
}

/// The last layer and its loss.
fn objective() -> Objective {
    Objective::default().reduction(Reduction::Mean).intercept(true)
}

/// The largest deviation of ∂J/∂W from central differences at some weights, in `f64`, relative to the largest element.
fn gradient_deviation(network: &Network<f32>, images: &Images<f32>) -> Result<f64> {
    const STEP: f64 = 1e-6;
    let wide =
        |matrix: &Mat<f32>| Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| f64::from(matrix[(i, j)]));
    let mut network = Network { hidden: wide(&network.hidden), last: wide(&network.last) };
    let images = Images { x: wide(&images.x), labels: images.labels.clone() };
    let mut workspace = Workspace::new();
    let (_, gradient) = network.loss_and_gradient(&images, &mut workspace)?;
    let mut deviation = 0.0;
    for (i, j) in (0..=PIXELS).map(|i| (i, 7 * i % HIDDEN)) {
        let weight = network.hidden[(i, j)];
        let mut loss_at = |weight| {
            network.hidden[(i, j)] = weight;
            network.loss_and_gradient(&images, &mut workspace).map(|(loss, _)| loss)
        };
        let slope = (loss_at(weight + STEP)? - loss_at(weight - STEP)?) / (2.0 * STEP);
        loss_at(weight)?;
        deviation = f64::max(deviation, (slope - gradient.hidden[(i, j)]).abs());
    }
    Ok(deviation / gradient.hidden.norm_max())
}

fn train_network(
    network: &mut Network<f32>,
    images: &Images<f32>,
    mut random: impl FnMut() -> f32,
) -> Result<()> {
    let mut adams = (Adam::new(&network.hidden), Adam::new(&network.last));
    let mut workspace = Workspace::new();
    let mut order: Vec<usize> = (0..images.labels.len()).collect();
    for epoch in 0..EPOCHS {
        order.sort_by_cached_key(|_| (random() * (1 << 23) as f32) as i32);
        let rate = RATE * (1.0 - epoch as f32 / EPOCHS as f32);
        let mut total = 0.0;
        for picked in order.chunks(BATCH) {
            let piece = Images {
                x: Mat::from_fn(picked.len(), images.x.ncols(), |i, j| images.x[(picked[i], j)]),
                labels: picked.iter().map(|&i| images.labels[i]).collect(),
            };
            let (loss, gradient) = network.loss_and_gradient(&piece, &mut workspace)?;
            adams.0.descend(&mut network.hidden, &gradient.hidden, rate);
            adams.1.descend(&mut network.last, &gradient.last, rate);
            total += loss * picked.len() as f64;
        }
        if epoch % 10 == 9 {
            println!("epoch {:2}       loss {:.5}", epoch + 1, total / order.len() as f64);
        }
    }
    Ok(())
}

/// Kingma and Ba, *Adam: a method for stochastic optimization*, 2015, for a matrix of weights.
struct Adam {
    mean: Mat<f32>,
    square: Mat<f32>,
    steps: i32,
}

impl Adam {
    fn new(weights: &Mat<f32>) -> Self {
        let zeros = Mat::zeros(weights.nrows(), weights.ncols());
        Self { mean: zeros.clone(), square: zeros, steps: 0 }
    }

    fn descend(&mut self, weights: &mut Mat<f32>, gradient: &Mat<f32>, rate: f32) {
        const DECAY: (f32, f32) = (0.9, 0.999);
        self.steps += 1;
        let unbiased = (1.0 - DECAY.0.powi(self.steps), 1.0 - DECAY.1.powi(self.steps));
        zip!(weights, gradient, &mut self.mean, &mut self.square).for_each(|unzip!(w, g, mean, square)| {
            *mean += (1.0 - DECAY.0) * (g - *mean);
            *square += (1.0 - DECAY.1) * (g * g - *square);
            *w -= rate * (*mean / unbiased.0) / ((*square / unbiased.1).sqrt() + 1e-8);
        });
    }
}
