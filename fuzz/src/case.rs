//! A whole evaluation, drawn from bytes: shapes, layouts, numbers, labels, weights, settings, and what is wrong with them.

use super::draw::{Source, Values, special};
use super::labels::Labels;
use super::matrix::{Layout, Matrix};
use super::number::Number;
use softmax_regression::{Objective, Reduction};

/// An evaluation to be made.
#[derive(Debug)]
pub struct Case<T: Number> {
    /// Enough work for threads: one level must do.
    pub large: bool,
    /// m, n, K, where nothing is wrong.
    pub shape: (usize, usize, usize),
    /// m×n
    pub x: Matrix<T>,
    /// n×K
    pub theta: Matrix<T>,
    /// m
    pub labels: Labels,
    /// m
    pub weights: Option<Vec<T>>,
    /// Sum or mean, and the size of blocks.
    pub objective: Objective,
    /// As in the objective.
    pub reduction: Reduction,
    /// Which of the SIMD levels, if one must do.
    pub level: usize,
    /// n×K, to be written.
    pub gradient: Matrix<T>,
    /// m×K, to be written.
    pub probabilities: Matrix<T>,
    /// m
    pub losses: usize,
    /// m
    pub predicted: usize,
}

/// What can have a wrong size.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Theta,
    GradientRows,
    GradientCols,
    ProbabilityRows,
    ProbabilityCols,
    Losses,
    Predicted,
    Weights,
}

impl<T: Number> Case<T> {
    /// From bytes.
    pub fn draw(source: &mut Source<'_>) -> Self {
        let (large, shape) = draw_shape(source);
        let (m, n, k) = shape;
        let fault = match source.byte() {
            first @ 0xe0.. => [
                Fault::Theta,
                Fault::GradientRows,
                Fault::GradientCols,
                Fault::ProbabilityRows,
                Fault::ProbabilityCols,
                Fault::Losses,
                Fault::Predicted,
                Fault::Weights,
            ][usize::from(first & 7)],
            _ => Fault::None,
        };
        let fewer = source.flag();
        let sized = |size: usize, at: Fault| match fault == at {
            true if fewer && size > 0 => size - 1,
            true => size + 1,
            false => size,
        };

        let labels = Labels::draw(source, m, k);
        let weights = draw_weights::<T>(source, sized(m, Fault::Weights));
        let mut x = draw_features(source, m, n);
        poke(source, &mut x);
        if let Some(weights) = weights.as_ref().filter(|_| n > 0 && source.flag()) {
            for (i, _) in weights.iter().take(m).enumerate().filter(|(_, w)| w.get() == 0.0) {
                x[i * n + i % n] = special(1 + i % 3, 0);
            }
        }
        let rows = sized(n, Fault::Theta);
        let mut values = source.values();
        let mut theta: Vec<T> = (0..rows * k).map(|_| values.next(source)).collect();
        poke(source, &mut theta);

        let reduction = source.choose(&[Reduction::Sum, Reduction::Mean]);
        let mut objective = Objective::default().reduction(reduction);
        if source.flag() {
            let bytes = source.choose(&[0, 1, 1 << 10, 5000, 1 << 16, 1 << 22, usize::MAX]);
            objective = objective.block_bytes(bytes);
        }
        let level = source.below(4);
        let mut layout = |input| Layout::draw(source, input);
        Self {
            large,
            shape,
            x: Matrix::from_fn(m, n, layout(true), |i, j| x[i * n + j]),
            theta: Matrix::from_fn(rows, k, layout(true), |j, c| theta[j * k + c]),
            labels,
            weights,
            objective,
            reduction,
            level,
            gradient: Matrix::unwritten(
                sized(n, Fault::GradientRows),
                sized(k, Fault::GradientCols),
                layout(false),
            ),
            probabilities: Matrix::unwritten(
                sized(m, Fault::ProbabilityRows),
                sized(k, Fault::ProbabilityCols),
                layout(false),
            ),
            losses: sized(m, Fault::Losses),
            predicted: sized(m, Fault::Predicted),
        }
    }
}

/// Whether it is large, and m, n, K: of every kind that the crate treats in a way of its own.
fn draw_shape(source: &mut Source<'_>) -> (bool, (usize, usize, usize)) {
    let small = |shape| (false, shape);
    match source.below(256) {
        0..=127 => small((source.size(40), source.size(20), source.size(40))),
        // Around the number of classes at which lanes run across them.
        128..=159 => small((source.size(70), source.size(8), 100 + source.below(60))),
        160..=191 => small((source.size(6), source.size(4), source.size(1040))),
        // Many blocks.
        192..=223 => small((source.size(1100), source.size(4), source.size(5))),
        224..=251 => small((source.size(33), source.size(300), source.size(9))),
        // Several partial gradients.
        252..=253 => {
            let (n, k) = (source.below(30), 1 + source.below(5));
            let work = (2 + source.below(3)) << 20;
            (true, ((work / (2 * (n * k + 8 * k))).min(30_000), n, k))
        }
        // Products in pieces.
        _ => (true, (65 + source.below(60), 40 + source.below(60), 180 + source.below(120))),
    }
}

/// X, row by row.
fn draw_features<T: Number>(source: &mut Source<'_>, m: usize, n: usize) -> Vec<T> {
    let selects = source.below(3) == 0;
    let mut values = source.values();
    if !selects {
        return (0..m * n).map(|_| values.next(source)).collect();
    }
    // A row picks one row of Θ, times ±2ᵏ: no rounding, and the contract holds as for exact scores.
    let mut x = vec![T::of(0.0); m * n];
    for row in x.chunks_mut(n.max(1)) {
        let random = values.random();
        let sign = if random & 1 == 0 { 1.0 } else { -1.0 };
        let exponent = if random & 6 == 0 { (random >> 3 & 15) as i32 - 8 } else { 0 };
        row[(random >> 32) as usize % n] = T::of(sign * 2_f64.powi(exponent));
    }
    x
}

fn draw_weights<T: Number>(source: &mut Source<'_>, count: usize) -> Option<Vec<T>> {
    let style = source.below(12);
    let mut values = source.values();
    let positive = |values: &mut Values, source: &mut Source<'_>| {
        let weight = values.next::<T>(source).get().abs();
        T::of(if weight.is_finite() { weight } else { 1.0 })
    };
    let mut weights: Vec<T> = match style {
        0..=4 => return None,
        5 => vec![T::of(1.0); count],
        6 => vec![T::of(0.0); count],
        7 => (0..count).map(|_| T::of((values.random() % 3) as f64)).collect(),
        // All so small, or so large, that their sum, or its reciprocal, leaves the numbers.
        8 => {
            let sizes = [T::SMALLEST, T::SMALLEST_NORMAL / 4.0, T::LARGEST / 4.0, T::LARGEST];
            let size = sizes[values.random() as usize % 4];
            let factors = [0.0, -0.0, 1.0, 2.0];
            let mut factor = || factors[(values.random() >> 32) as usize % 4];
            (0..count).map(|_| T::of((factor() * size).min(T::LARGEST))).collect()
        }
        9 | 10 => (0..count).map(|_| positive(&mut values, source)).collect(),
        _ => (0..count).map(|_| values.next(source)).collect(),
    };
    if count > 0 && source.byte() >= 0xf0 {
        weights[source.below(count)] = source.choose(&[
            T::of(f64::NAN),
            T::of(f64::INFINITY),
            T::of(-T::SMALLEST),
            T::of(-0.0),
            T::of(-1.0),
            T::of(T::SMALLEST),
            T::of(T::LARGEST),
        ]);
    }
    Some(weights)
}

/// Puts a few special values anywhere, a quarter of the time.
fn poke<T: Number>(source: &mut Source<'_>, x: &mut [T]) {
    if x.is_empty() {
        return;
    }
    for _ in 0..source.below(16).saturating_sub(12) {
        let (at, which) = (source.below(x.len()), usize::from(source.byte()));
        x[at] = special(which, 0);
    }
}
