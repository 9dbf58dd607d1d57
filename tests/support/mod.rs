//! What the integration tests share: number types, random problems, memory layouts.
#![allow(dead_code, unused_imports, unused_macros, reason = "every test file uses its own part")]

pub(crate) mod bound;

use faer::{Mat, MatMut, MatRef};
use softmax_regression::kernel::SimdLevel;
use softmax_regression::{Batch, Objective, Parallelism, Real, Workspace};
use std::fmt::Display;

/// `f32` and `f64`, with what a test has to know of them.
pub(crate) trait Float: Real + Display {
    /// Distance from 1 to the next number.
    const EPSILON: f64;
    /// Largest finite number.
    const LARGEST: f64;
    /// Smallest number above 0, subnormal.
    const SMALLEST: f64;
    /// A number whose square overflows.
    const HUGE: f64;

    /// Nearest value.
    fn of(x: f64) -> Self;
    fn value(self) -> f64;
    fn bits(self) -> u64;
}

impl Float for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    const LARGEST: f64 = f32::MAX as f64;
    const SMALLEST: f64 = f32::from_bits(1) as f64;
    const HUGE: f64 = 1e30;

    fn of(x: f64) -> Self {
        x as f32
    }
    fn value(self) -> f64 {
        self.into()
    }
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
}

impl Float for f64 {
    const EPSILON: f64 = f64::EPSILON;
    const LARGEST: f64 = f64::MAX;
    const SMALLEST: f64 = f64::from_bits(1);
    const HUGE: f64 = 1e200;

    fn of(x: f64) -> Self {
        x
    }
    fn value(self) -> f64 {
        self
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// Stamps a test for each number type.
macro_rules! for_each_float {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn f32() {
                super::$name::<f32>();
            }
            #[test]
            fn f64() {
                super::$name::<f64>();
            }
        }
    )*};
}
pub(crate) use for_each_float;

pub(crate) const PARALLELISMS: [Parallelism; 2] = [Parallelism::Serial, Parallelism::Rayon];

pub(crate) fn levels() -> Vec<SimdLevel> {
    SimdLevel::available().collect()
}

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014): the same numbers everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [-1, 1).
    pub(crate) fn symmetric(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 2_f64.powi(52) - 1.0
    }

    /// In 0..end.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    pub(crate) fn matrix<T: Float>(&mut self, rows: usize, cols: usize, scale: f64) -> Mat<T> {
        Mat::from_fn(rows, cols, |_, _| T::of(scale * self.symmetric()))
    }
}

/// Samples, labels, weights and Θ.
pub(crate) struct Problem<T> {
    pub(crate) x: Mat<T>,
    pub(crate) labels: Vec<usize>,
    /// From 0 to 3, in steps of ¼: so that sums and scalings by powers of two are exact.
    pub(crate) weights: Vec<T>,
    pub(crate) theta: Mat<T>,
}

impl<T: Float> Problem<T> {
    /// Scores of a spread of about 1, whatever n: some samples confident, none beyond the range of `f32`.
    pub(crate) fn random(m: usize, n: usize, k: usize) -> Self {
        let mut random = Random::new((m * 1_000_003 + n * 1009 + k) as u64);
        Self {
            x: random.matrix(m, n, 1.0),
            labels: (0..m).map(|_| random.below(k)).collect(),
            weights: (0..m).map(|_| T::of(random.below(13) as f64 / 4.0)).collect(),
            theta: random.matrix(n, k, 4.0 / (n.max(1) as f64).sqrt()),
        }
    }

    pub(crate) fn shape(&self) -> (usize, usize, usize) {
        (self.x.nrows(), self.x.ncols(), self.theta.ncols())
    }

    pub(crate) fn batch(&self, weighted: bool) -> Batch<'_, T> {
        let batch = Batch::new(&self.x, &self.labels).unwrap();
        if weighted { batch.with_sample_weights(&self.weights).unwrap() } else { batch }
    }
}

/// Every number that an objective can compute of a problem.
#[derive(Clone, Debug)]
pub(crate) struct Everything<T> {
    pub(crate) loss: f64,
    pub(crate) gradient: Mat<T>,
    pub(crate) loss_alone: f64,
    pub(crate) loss_of_samples: f64,
    pub(crate) sample_losses: Vec<T>,
    pub(crate) probabilities: Mat<T>,
    pub(crate) predictions: Vec<u32>,
}

impl<T: Float> Everything<T> {
    /// Outputs hold NaN and nonsense beforehand.
    pub(crate) fn of(
        objective: &Objective,
        batch: &Batch<'_, T>,
        x: MatRef<'_, T>,
        theta: MatRef<'_, T>,
        workspace: &mut Workspace<T>,
    ) -> Self {
        let nan = T::of(f64::NAN);
        let mut gradient = Mat::full(theta.nrows(), theta.ncols(), nan);
        let mut sample_losses = vec![nan; x.nrows()];
        let mut probabilities = Mat::full(x.nrows(), theta.ncols(), nan);
        let mut predictions = vec![u32::MAX; x.nrows()];
        let loss = objective.loss_and_gradient(batch, theta, gradient.as_mut(), workspace).unwrap();
        let loss_alone = objective.loss(batch, theta, workspace).unwrap();
        let loss_of_samples = objective.sample_losses(batch, theta, &mut sample_losses, workspace).unwrap();
        objective.probabilities(x, theta, probabilities.as_mut(), workspace).unwrap();
        objective.predict(x, theta, &mut predictions, workspace).unwrap();
        Self { loss, gradient, loss_alone, loss_of_samples, sample_losses, probabilities, predictions }
    }

    /// All bits, in a fixed order.
    pub(crate) fn bits(&self) -> Vec<u64> {
        let losses = [self.loss, self.loss_alone, self.loss_of_samples].map(f64::to_bits);
        let mut bits = losses.to_vec();
        bits.extend(elements(self.gradient.as_ref()).map(T::bits));
        bits.extend(self.sample_losses.iter().map(|&x| x.bits()));
        bits.extend(elements(self.probabilities.as_ref()).map(T::bits));
        bits.extend(self.predictions.iter().map(|&x| u64::from(x)));
        bits
    }
}

/// Column by column.
pub(crate) fn elements<T: Copy>(matrix: MatRef<'_, T>) -> impl Iterator<Item = T> {
    (0..matrix.ncols()).flat_map(move |k| (0..matrix.nrows()).map(move |j| matrix[(j, k)]))
}

/// How a matrix lies in its parent. One stride is ±1 in all of them: faer has no safe way to views where neither is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Rows are contiguous, else columns are.
    row_major: bool,
    /// Elements of the parent before and after each contiguous run.
    margin: usize,
    /// Of the parent's runs only each `step`-th is used.
    step: usize,
    reverse_rows: bool,
    reverse_cols: bool,
}

impl Layout {
    pub(crate) const COLUMN_MAJOR: Self =
        Self { row_major: false, margin: 0, step: 1, reverse_rows: false, reverse_cols: false };
    pub(crate) const ALL: [Self; 10] = [
        Self::COLUMN_MAJOR,
        Self { row_major: true, ..Self::COLUMN_MAJOR },
        Self { margin: 3, ..Self::COLUMN_MAJOR },
        Self { row_major: true, margin: 3, ..Self::COLUMN_MAJOR },
        Self { reverse_rows: true, ..Self::COLUMN_MAJOR },
        Self { reverse_cols: true, margin: 1, ..Self::COLUMN_MAJOR },
        Self { row_major: true, reverse_rows: true, ..Self::COLUMN_MAJOR },
        Self { row_major: true, reverse_cols: true, reverse_rows: true, margin: 5, ..Self::COLUMN_MAJOR },
        Self { step: 2, ..Self::COLUMN_MAJOR },
        Self { row_major: true, step: 2, margin: 1, reverse_cols: true, ..Self::COLUMN_MAJOR },
    ];
}

/// A matrix in a parent whose other elements must stay as they are.
pub(crate) struct Laid<T> {
    parent: Vec<T>,
    rows: usize,
    cols: usize,
    layout: Layout,
}

/// What the rest of the parent holds: a number that poisons what reads it, and that no result has.
const OUTSIDE: f64 = 1e30;

impl<T: Float> Laid<T> {
    pub(crate) fn new(matrix: MatRef<'_, T>, layout: Layout) -> Self {
        let (rows, cols) = matrix.shape();
        let (run, runs) = if layout.row_major { (cols, rows) } else { (rows, cols) };
        let parent = vec![T::of(OUTSIDE); (run + 2 * layout.margin) * layout.step * (runs + 1)];
        let mut laid = Self { parent, rows, cols, layout };
        laid.view_mut().copy_from(matrix);
        laid
    }

    /// Filled with NaN.
    pub(crate) fn nan(rows: usize, cols: usize, layout: Layout) -> Self {
        Self::new(Mat::full(rows, cols, T::of(f64::NAN)).as_ref(), layout)
    }

    fn run(&self) -> (usize, usize, usize) {
        let (run, runs) = if self.layout.row_major { (self.cols, self.rows) } else { (self.rows, self.cols) };
        (run, runs, (run + 2 * self.layout.margin) * self.layout.step)
    }

    pub(crate) fn view(&self) -> MatRef<'_, T> {
        let (run, runs, stride) = self.run();
        let parent = &self.parent[self.layout.margin..];
        let view = MatRef::from_column_major_slice_with_stride(parent, run, runs, stride);
        let view = if self.layout.row_major { view.transpose() } else { view };
        let view = if self.layout.reverse_rows { view.reverse_rows() } else { view };
        if self.layout.reverse_cols { view.reverse_cols() } else { view }
    }

    pub(crate) fn view_mut(&mut self) -> MatMut<'_, T> {
        let (run, runs, stride) = self.run();
        let parent = &mut self.parent[self.layout.margin..];
        let view = MatMut::from_column_major_slice_with_stride_mut(parent, run, runs, stride);
        let view = if self.layout.row_major { view.transpose_mut() } else { view };
        let view = if self.layout.reverse_rows { view.reverse_rows_mut() } else { view };
        if self.layout.reverse_cols { view.reverse_cols_mut() } else { view }
    }

    /// Whether no element beside the matrix has been written.
    pub(crate) fn outside_untouched(&self) -> bool {
        let outside = T::of(OUTSIDE);
        self.parent.iter().filter(|&&x| x == outside).count() == self.parent.len() - self.rows * self.cols
    }
}
