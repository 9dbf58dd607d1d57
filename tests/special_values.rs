//! Promise: scores of NaN and ±∞ give what the table of the contract says, at every SIMD level, lane position, tail
//! length and block edge; and one sample's special values never reach another's.

mod support;

use faer::Mat;
use softmax_regression::kernel::softmax_residual;
use softmax_regression::{Batch, Objective, Workspace};
use support::bound::{Bounded, of_scores};
use support::{Everything, Float, Random, for_each_float, levels};

for_each_float!(
    table_of_scores_at_every_sample,
    table_of_scores_at_every_class,
    table_of_scores_from_products,
);

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;
/// Stands for an ordinary score.
const ANY: f64 = 0.0;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Loss {
    Nan,
    Infinite,
    Finite,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Row {
    Nan,
    /// Exactly 0 at the other class.
    Zero,
    /// −1 at the label.
    MinusOne,
}

/// A line of the table: the scores at the label, at one other class, and of the rest; and what follows.
type Line = (&'static str, [f64; 3], Loss, Row);

const TABLE: [Line; 16] = [
    ("NaN elsewhere", [ANY, NAN, ANY], Loss::Nan, Row::Nan),
    ("NaN at the label", [NAN, ANY, ANY], Loss::Nan, Row::Nan),
    ("NaN alone", [NAN, NAN, NAN], Loss::Nan, Row::Nan),
    ("NaN at the label, −∞ elsewhere", [NAN, -INF, -INF], Loss::Nan, Row::Nan),
    ("−∞ elsewhere", [ANY, -INF, ANY], Loss::Finite, Row::Zero),
    ("−∞ everywhere else", [ANY, -INF, -INF], Loss::Finite, Row::Zero),
    ("−∞ at the label", [-INF, ANY, ANY], Loss::Infinite, Row::MinusOne),
    ("−∞ at all but one other", [-INF, ANY, -INF], Loss::Infinite, Row::MinusOne),
    ("−∞ alone", [-INF, -INF, -INF], Loss::Nan, Row::Nan),
    ("+∞ at the label", [INF, ANY, ANY], Loss::Nan, Row::Nan),
    ("+∞ at the label, −∞ elsewhere", [INF, -INF, -INF], Loss::Nan, Row::Nan),
    ("+∞ elsewhere", [ANY, INF, ANY], Loss::Infinite, Row::Nan),
    ("+∞ elsewhere, −∞ at the label", [-INF, INF, ANY], Loss::Infinite, Row::Nan),
    ("+∞ at both", [INF, INF, ANY], Loss::Nan, Row::Nan),
    ("+∞ elsewhere, NaN at the label", [NAN, INF, ANY], Loss::Nan, Row::Nan),
    ("+∞ elsewhere, NaN at the rest", [ANY, INF, NAN], Loss::Nan, Row::Nan),
];

/// A line put into a row of scores. The other class may be the label's own place only if K = 1.
struct Case {
    line: Line,
    label: usize,
    other: usize,
}

impl Case {
    /// Each line with `class` as the label, and as the other class.
    fn all(class: usize, classes: usize) -> impl Iterator<Item = Self> {
        let away = (class + classes.div_ceil(2)) % classes;
        TABLE.into_iter().flat_map(move |line| {
            [(class, away), (away, class)].map(|(label, other)| Self { line, label, other })
        })
    }

    /// The special score of a class, if it has one.
    fn special(&self, class: usize) -> Option<f64> {
        let (_, [at_label, at_other, at_rest], ..) = self.line;
        let special = match class {
            _ if class == self.label => at_label,
            _ if class == self.other => at_other,
            _ => at_rest,
        };
        (special != ANY).then_some(special)
    }

    fn row<T: Float>(&self, ordinary: impl Iterator<Item = T>) -> Vec<T> {
        ordinary.enumerate().map(|(class, z)| self.special(class).map_or(z, T::of)).collect()
    }

    /// Whether the residual of the scores `z`, and their loss added to that of ordinary samples, are what the table and
    /// the reference say.
    fn check<T: Float>(
        &self,
        z: &[T],
        loss: f64,
        others: Bounded,
        residual: &[f64],
        what: &dyn Fn() -> String,
    ) {
        let what = || format!("{}, label {}, other {}, {}", self.line.0, self.label, self.other, what());
        let (own, truth) = of_scores(z, self.label);
        own.plus(others).check(loss, || format!("loss, {}", what()));
        for (class, (truth, &found)) in truth.iter().zip(residual).enumerate() {
            truth.check(found, || format!("residual of class {class}, {}", what()));
        }
        // One class is its whole row; two have no rest.
        let (_, [_, _, rest], expected_loss, expected_row) = self.line;
        if z.len() == 1 || (z.len() == 2 && rest.is_nan()) {
            return;
        }
        let kind = if loss.is_nan() {
            Loss::Nan
        } else if loss == INF {
            Loss::Infinite
        } else {
            Loss::Finite
        };
        assert_eq!(kind, expected_loss, "{}", what());
        match expected_row {
            Row::Nan => assert!(residual.iter().all(|r| r.is_nan()), "{}", what()),
            Row::Zero => assert_eq!(residual[self.other], 0.0, "{}", what()),
            Row::MinusOne => assert_eq!(residual[self.label], -1.0, "{}", what()),
        }
    }
}

fn ordinary_scores<T: Float>(m: usize, k: usize) -> Mat<T> {
    Random::new((m * 1000 + k) as u64).matrix(m, k, 3.0)
}

/// Puts a case into sample `at` of m, through [`softmax_residual`].
fn check_scores<T: Float>(case: &Case, at: usize, ordinary: &Mat<T>, undisturbed: &Mat<T>) {
    let (m, k) = ordinary.shape();
    let what = || format!("{m}×{k}, sample {at}");
    let mut scores = ordinary.clone();
    let z = case.row(ordinary.row(at).iter().copied());
    z.iter().enumerate().for_each(|(class, &z)| scores[(at, class)] = z);
    let loss = softmax_residual(scores.as_mut(), &vec![case.label; m]).unwrap();

    let mut others = Bounded::default();
    for i in (0..m).filter(|&i| i != at) {
        let z: Vec<T> = ordinary.row(i).iter().copied().collect();
        others = others.plus(of_scores(&z, case.label).0);
        for class in 0..k {
            let (found, before) = (scores[(i, class)], undisturbed[(i, class)]);
            assert_eq!(found.bits(), before.bits(), "{} disturbs sample {i}, {}", case.line.0, what());
        }
    }
    let residual: Vec<f64> = scores.row(at).iter().map(|r| r.value()).collect();
    case.check(&z, loss, others, &residual, &what);
}

fn residual_of<T: Float>(scores: &Mat<T>, label: usize) -> Mat<T> {
    let mut residual = scores.clone();
    softmax_residual(residual.as_mut(), &vec![label; scores.nrows()]).unwrap();
    residual
}

/// (m, sample): every sample of 41, and the first, middle and last of every smaller number.
fn places() -> impl Iterator<Item = (usize, usize)> {
    (0..41).flat_map(|at| [(41, at), (at + 1, 0), (at + 1, at / 2), (at + 1, at)])
}

fn table_of_scores_at_every_sample<T: Float>() {
    let many_classes = (0..41).flat_map(|at| [1, 2, 7, 128, 129].map(|k| (41, at, k)));
    for (m, at, k) in places().map(|(m, at)| (m, at, 3)).chain(many_classes) {
        let ordinary = ordinary_scores::<T>(m, k);
        for case in Case::all(at % k, k) {
            check_scores(&case, at, &ordinary, &residual_of(&ordinary, case.label));
        }
    }
}

/// (K, class): every class of some numbers, and of others, one for each length of a tail, those near the ends.
fn classes() -> impl Iterator<Item = (usize, usize)> {
    let numbers = [16, 33, 128].into_iter().chain(129..=145);
    let all = numbers.flat_map(|k| (0..k).map(move |class| (k, class)));
    all.filter(|&(k, class)| k < 129 || k % 16 == 0 || class < 2 || class + 4 > k)
}

fn table_of_scores_at_every_class<T: Float>() {
    for (k, class) in classes() {
        let ordinary = ordinary_scores::<T>(2, k);
        for case in Case::all(class, k) {
            check_scores(&case, 1, &ordinary, &residual_of(&ordinary, case.label));
        }
    }
}

/// Features and Θ whose product has a case's scores in sample `at`.
///
/// Alone, x = 1 and θ is the scores. Among others, X = [Z  a  I] and Θ = [I; φ; 0]: of the sample a = H, where H²
/// overflows, and φ_k = ±H makes its score ±∞; the others have a = 0. A score of NaN cannot be had this way without the
/// others getting it: then it is a that is NaN, and all scores of the sample are.
///
/// The last m rows of the gradient are the residual.
struct Product<T> {
    x: Mat<T>,
    theta: Mat<T>,
    /// Scores of the sample.
    z: Vec<T>,
}

impl<T: Float> Product<T> {
    fn new(scores: &Mat<T>, case: &Case, at: usize) -> Self {
        let (m, k) = scores.shape();
        let mut z = case.row(scores.row(at).iter().copied());
        if m == 1 {
            return Self {
                x: Mat::full(1, 1, T::of(1.0)),
                theta: Mat::from_fn(1, k, |_, class| z[class]),
                z,
            };
        }
        let spread = z.iter().any(|z| z.value().is_nan());
        let mut x = Mat::full(m, k + 1 + m, T::of(0.0));
        let mut theta = Mat::full(k + 1 + m, k, T::of(0.0));
        x.get_mut(.., ..k).copy_from(scores);
        x[(at, k)] = T::of(if spread { NAN } else { T::HUGE });
        (0..m).for_each(|i| x[(i, k + 1 + i)] = T::of(1.0));
        for class in 0..k {
            theta[(class, class)] = T::of(1.0);
            if let (false, Some(special)) = (spread, case.special(class)) {
                theta[(k, class)] = T::of(special.signum() * T::HUGE);
            }
        }
        if spread {
            z.fill(T::of(NAN));
        }
        Self { x, theta, z }
    }

    /// The label of sample `at` is as given, of the others 0.
    fn evaluate(
        &self,
        at: usize,
        label: usize,
        objective: &Objective,
        workspace: &mut Workspace<T>,
    ) -> Everything<T> {
        let mut labels = vec![0; self.x.nrows()];
        labels[at] = label;
        let batch = Batch::new(&self.x, &labels).unwrap();
        Everything::of(objective, &batch, self.x.as_ref(), self.theta.as_ref(), workspace)
    }
}

fn table_of_scores_from_products<T: Float>() {
    let every_sample = places().map(|(m, at)| (m, at, at % 3, 3));
    let two_classes = (0..41).map(|at| (41, at, at % 2, 2));
    let every_class = classes().map(|(k, class)| (1, 0, class, k));
    let mut workspace = Workspace::new();
    for (step, (m, at, class, k)) in every_sample.chain(two_classes).chain(every_class).enumerate() {
        let scores = ordinary_scores::<T>(m, k);
        for level in levels() {
            let objective = Objective::default().simd_level(level);
            let objective = if step % 2 == 0 { objective.block_bytes(1) } else { objective };
            let nothing = Case { line: ("nothing", [ANY; 3], Loss::Finite, Row::Zero), label: 0, other: 0 };
            let undisturbed = Product::new(&scores, &nothing, at).evaluate(at, 0, &objective, &mut workspace);
            for case in Case::all(class, k) {
                let product = Product::new(&scores, &case, at);
                let found = product.evaluate(at, case.label, &objective, &mut workspace);
                let what = || format!("{}, {m}×{k}, sample {at}, {objective:?}", case.line.0);
                check_product(&case, at, &product.z, &found, &undisturbed, &what);
            }
        }
    }
}

fn check_product<T: Float>(
    case: &Case,
    at: usize,
    z: &[T],
    found: &Everything<T>,
    undisturbed: &Everything<T>,
    what: &dyn Fn() -> String,
) {
    let (m, k) = found.probabilities.shape();
    let residual = found.gradient.as_ref().subrows(found.gradient.nrows() - m, m);
    let undisturbed_residual = undisturbed.gradient.as_ref().subrows(found.gradient.nrows() - m, m);
    let row: Vec<f64> = residual.row(at).iter().map(|r| r.value()).collect();
    case.check(z, found.sample_losses[at].value(), Bounded::default(), &row, what);
    assert_eq!(found.predictions[at] as usize, largest(z), "{}", what());

    // A probability is the residual of a class that is not the label.
    let ((_, p), (_, p_of_label)) = (of_scores(z, case.label), of_scores(z, (case.label + 1) % k));
    for class in 0..k {
        let p = if class == case.label { p_of_label[class] } else { p[class] };
        p.check(found.probabilities[(at, class)].value(), || format!("p of class {class}, {}", what()));
    }

    let poisoned = row[0].is_nan();
    for i in (0..m).filter(|&i| i != at) {
        let same = |a: T, b: T| assert_eq!(a.bits(), b.bits(), "sample {i} disturbed by {}", what());
        same(found.sample_losses[i], undisturbed.sample_losses[i]);
        assert_eq!(found.predictions[i], undisturbed.predictions[i], "sample {i} disturbed by {}", what());
        for class in 0..k {
            same(found.probabilities[(i, class)], undisturbed.probabilities[(i, class)]);
            // 0·NaN is NaN: a product cannot keep a NaN out of the gradient.
            let (r, undisturbed) = (residual[(i, class)], undisturbed_residual[(i, class)]);
            if poisoned { assert!(r.value().is_nan(), "{}", what()) } else { same(r, undisturbed) }
        }
    }
}

/// The class of the largest score, the first of several; NaN is never the largest.
fn largest<T: Float>(z: &[T]) -> usize {
    let classes = (0..z.len()).filter(|&class| !z[class].value().is_nan());
    classes.reduce(|top, class| if z[class] > z[top] { class } else { top }).unwrap_or(0)
}
