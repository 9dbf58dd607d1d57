//! The shapes that the benches measure, their data, and the plain way to do the same work.
#![allow(dead_code, reason = "every bench uses its own part")]

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use softmax_regression::Real;

/// A problem: m samples × n features × K classes.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Whether there is an f64 measurement too.
    pub(crate) f64: bool,
}

const fn shape(name: &'static str, m: usize, n: usize, k: usize, f64: bool) -> Shape {
    Shape { name, m, n, k, f64 }
}

/// From a toy to the last layer of a language model; and single steps of an online method: one sample, a few, a mini-batch.
pub(crate) const SHAPES: [Shape; 10] = [
    shape("small", 256, 32, 3, true),
    shape("digits", 1797, 64, 10, true),
    shape("mnist", 60_000, 784, 10, true),
    shape("covtype", 581_012, 54, 7, true),
    shape("news", 11_314, 2000, 20, false),
    shape("probe", 16_384, 2048, 1000, true),
    shape("lmhead", 2048, 1024, 32_000, false),
    shape("one", 1, 2048, 1000, true),
    shape("few", 8, 2048, 1000, true),
    shape("mini", 64, 784, 10, true),
];

/// X row-major and about standard normal, random labels, Θ a tenth of standard normal.
pub(crate) struct Data<T> {
    x: Vec<T>,
    pub(crate) labels: Vec<u32>,
    pub(crate) theta: Mat<T>,
    shape: Shape,
}

impl<T: Real> Data<T> {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut random = Random(1);
        let x = (0..shape.m * shape.n).map(|_| T::from_f64(random.normal())).collect();
        let labels = (0..shape.m).map(|_| (random.uniform() * shape.k as f64) as u32).collect();
        let theta = Mat::from_fn(shape.n, shape.k, |_, _| T::from_f64(0.1 * random.normal()));
        Self { x, labels, theta, shape }
    }

    pub(crate) fn x(&self) -> MatRef<'_, T> {
        MatRef::from_row_major_slice(&self.x, self.shape.m, self.shape.n)
    }
}

/// splitmix64, and sums of uniform numbers for normal ones.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        ((0..4).map(|_| self.uniform()).sum::<f64>() - 2.0) * 3_f64.sqrt()
    }
}

/// What one would write without this crate: the scores of all samples by one product, a stable softmax with the
/// standard library's exp, minus one at the labels, and a second product. One thread.
pub(crate) fn plain<T: Real + Scalar>(
    data: &Data<T>,
    mut scores: MatMut<'_, T>,
    gradient: MatMut<'_, T>,
) -> f64 {
    let x = data.x();
    matmul(scores.as_mut(), Accum::Replace, x, data.theta.as_ref(), T::from_f64(1.0), Par::Seq);
    let mut loss = 0.0;
    for (mut row, &label) in scores.as_mut().row_iter_mut().zip(&data.labels) {
        let Some(row) = row.as_mut().try_as_row_major_mut() else { return f64::NAN };
        let row = row.as_slice_mut();
        let top = row.iter().copied().fold(T::from_f64(f64::NEG_INFINITY), |a, b| if b > a { b } else { a });
        let own = row[label as usize] - top;
        let mut sum = T::from_f64(0.0);
        for z in &mut *row {
            *z = (*z - top).std_exp();
            sum += *z;
        }
        loss += sum.to_f64().ln() - own.to_f64();
        for p in &mut *row {
            *p /= sum;
        }
        row[label as usize] -= T::from_f64(1.0);
    }
    matmul(gradient, Accum::Replace, x.transpose(), scores.as_ref(), T::from_f64(1.0), Par::Seq);
    loss
}

/// The standard library's functions.
pub(crate) trait Scalar {
    fn std_exp(self) -> Self;
}

impl Scalar for f32 {
    fn std_exp(self) -> Self {
        self.exp()
    }
}

impl Scalar for f64 {
    fn std_exp(self) -> Self {
        self.exp()
    }
}
