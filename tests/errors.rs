//! Promise: bad input is an `Error` that carries the numbers that offend. Nothing has been written then, and the
//! workspace still serves.

mod support;

use faer::{Mat, MatMut, MatRef};
use softmax_regression::kernel::softmax_residual;
use softmax_regression::{
    Batch, Error, Objective, Operand, Reduction, Targets, Workspace, loss_and_gradient,
};
use support::{Everything, Float, Problem, elements, for_each_float};

for_each_float!(
    counts_of_a_batch,
    weights,
    theta_of_another_shape,
    outputs_of_another_shape,
    labels_of_every_type,
    mean_of_nothing,
    scores_beyond_counting,
    scores_from_outside,
    scratch_that_cannot_be_had,
);

const M: usize = 40;
const N: usize = 3;
const K: usize = 5;

/// Every output, filled with numbers that tell their place.
#[derive(Clone)]
struct Outputs<T> {
    gradient: Mat<T>,
    losses: Vec<T>,
    probabilities: Mat<T>,
    predictions: Vec<u32>,
}

impl<T: Float> Outputs<T> {
    fn new(gradient: (usize, usize), m: usize, probabilities: (usize, usize)) -> Self {
        let place = |i: usize, k: usize| T::of(1000.0 + (31 * i + k) as f64);
        Self {
            gradient: Mat::from_fn(gradient.0, gradient.1, place),
            losses: (0..m).map(|i| place(i, 7)).collect(),
            probabilities: Mat::from_fn(probabilities.0, probabilities.1, place),
            predictions: (0..m).map(|i| 9000 + i as u32).collect(),
        }
    }

    fn bits(&self) -> Vec<u64> {
        let matrices = elements(self.gradient.as_ref()).chain(elements(self.probabilities.as_ref()));
        let numbers = matrices.chain(self.losses.iter().copied()).map(T::bits);
        numbers.chain(self.predictions.iter().map(|&x| x.into())).collect()
    }
}

/// Holds a refused call against what is expected of it.
#[track_caller]
fn refused<T: Float>(
    expected: Error,
    mut outputs: Outputs<T>,
    call: impl FnOnce(&mut Outputs<T>, &mut Workspace<T>) -> Result<(), Error>,
) {
    let problem = Problem::<T>::random(M, N, K);
    let evaluate = |workspace: &mut Workspace<T>| {
        let (x, theta) = (problem.x.as_ref(), problem.theta.as_ref());
        Everything::of(&Objective::default(), &problem.batch(true), x, theta, workspace).bits()
    };
    let before = outputs.bits();
    let mut workspace = Workspace::new();
    let fresh = evaluate(&mut workspace);
    assert_eq!(call(&mut outputs, &mut workspace), Err(expected));
    assert!(outputs.bits() == before, "{expected:?}: something was written");
    assert!(evaluate(&mut workspace) == fresh, "{expected:?}: the workspace is spoilt");
    names_its_numbers(&expected);
}

/// Every number of an error is in its text.
#[track_caller]
fn names_its_numbers(error: &Error) {
    let text = error.to_string();
    let numbers: Vec<String> = match *error {
        Error::SampleCount { features, operand, found } => {
            vec![features.to_string(), operand.to_string(), found.to_string()]
        }
        Error::ThetaShape { features: (m, n), expected: _, theta: (rows, k) } => {
            vec![format!("{m}×{n}"), format!("{rows}×{k}")]
        }
        Error::OutputShape { operand, expected: (er, ec), found: (fr, fc) } => {
            vec![operand.to_string(), format!("{er}×{ec}"), format!("{fr}×{fc}")]
        }
        Error::NoClasses => vec!["0".to_string()],
        Error::LabelOutOfRange { sample, label, classes } => {
            vec![sample.to_string(), label.to_string(), classes.to_string()]
        }
        Error::InvalidWeight { sample, weight } => vec![sample.to_string(), weight.to_string()],
        Error::TotalWeight { samples, total } => vec![samples.to_string(), total.to_string()],
        Error::TooManyScores { samples, classes } => vec![samples.to_string(), classes.to_string()],
        Error::OutOfMemory { bytes } => vec![bytes.to_string()],
        _ => panic!("{error:?} is not tested"),
    };
    for number in numbers {
        assert!(text.contains(&number), "{number} is not in: {text}");
    }
}

/// The loss alone, of the samples, and with the gradient: all refuse the same.
#[track_caller]
fn losses_refused<T: Float>(
    expected: Error,
    objective: &Objective,
    batch: &Batch<'_, T>,
    theta: MatRef<'_, T>,
) {
    let (m, n, k) = (batch.samples(), theta.nrows(), theta.ncols());
    // Without rows nothing can be written, and there may be too many columns to look at.
    let outputs = Outputs::new(if n == 0 { (0, 0) } else { (n, k) }, m, (0, 0));
    refused(expected, outputs.clone(), |_, workspace| objective.loss(batch, theta, workspace).map(drop));
    refused(expected, outputs.clone(), |out, workspace| {
        objective.sample_losses(batch, theta, &mut out.losses, workspace).map(drop)
    });
    refused(expected, outputs, |out, workspace| {
        let gradient = if n == 0 { no_rows_mut(k) } else { out.gradient.as_mut() };
        objective.loss_and_gradient(batch, theta, gradient, workspace).map(drop)
    });
}

/// A matrix without rows takes no memory, whatever its columns.
fn no_rows<T>(cols: usize) -> MatRef<'static, T> {
    MatRef::from_column_major_slice(&[], 0, cols)
}

fn no_rows_mut<T>(cols: usize) -> MatMut<'static, T> {
    MatMut::from_column_major_slice_mut(&mut [], 0, cols)
}

fn counts_of_a_batch<T: Float>() {
    let problem = Problem::<T>::random(M, N, K);
    for found in [0, 1, M - 1, M + 1] {
        let labels = vec![0_u32; found];
        let expected = Error::SampleCount { features: M, operand: Operand::Targets, found };
        assert_eq!(Batch::<T>::new(&problem.x, &labels).map(drop), Err(expected));
        let outputs = Outputs::new((N, K), 0, (0, 0));
        refused(expected, outputs, |out, _| {
            loss_and_gradient(&problem.x, &labels, problem.theta.as_ref(), out.gradient.as_mut()).map(drop)
        });
        let weights = vec![T::of(1.0); found];
        let expected = Error::SampleCount { features: M, operand: Operand::SampleWeights, found };
        assert_eq!(problem.batch(false).with_sample_weights(&weights).map(drop), Err(expected));
        names_its_numbers(&expected);
    }
}

fn weights<T: Float>() {
    let problem = Problem::<T>::random(M, N, K);
    for sample in [0, 17, M - 1] {
        for weight in [-1.0, -T::SMALLEST, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut weights = problem.weights.clone();
            weights[sample] = T::of(weight);
            // A later one too: the first is named.
            weights[M - 1] = T::of(weight);
            match problem.batch(false).with_sample_weights(&weights).map(drop) {
                Err(error @ Error::InvalidWeight { sample: named, weight: found }) => {
                    assert_eq!((named, found.to_bits()), (sample, weight.to_bits()));
                    names_its_numbers(&error);
                }
                other => panic!("weight {weight}: {other:?}"),
            }
        }
        for weight in [0.0, -0.0, T::SMALLEST, T::LARGEST] {
            let mut weights = vec![T::of(0.0); M];
            weights[sample] = T::of(weight);
            let batch = problem.batch(false).with_sample_weights(&weights).unwrap();
            assert_eq!(batch.total_weight(), weight);
        }
    }
}

fn theta_of_another_shape<T: Float>() {
    let problem = Problem::<T>::random(M, N, K);
    let (x, objective) = (&problem.x, Objective::default());
    let shapes = [(N - 1, K), (N + 1, K), (0, K), (K, N), (N, 0)];
    for (rows, k) in shapes {
        let theta = Mat::<T>::zeros(rows, k);
        let theta = theta.as_ref();
        let expected = if k == 0 {
            Error::NoClasses
        } else {
            Error::ThetaShape { features: (M, N), expected: N, theta: (rows, k) }
        };
        losses_refused(expected, &objective, &problem.batch(true), theta);
        let outputs = Outputs::new((rows, k), M, (M, k));
        refused(expected, outputs.clone(), |out, _| {
            loss_and_gradient(x, &problem.labels, theta, out.gradient.as_mut()).map(drop)
        });
        refused(expected, outputs.clone(), |out, workspace| {
            objective.probabilities(x, theta, out.probabilities.as_mut(), workspace)
        });
        refused(expected, outputs, |out, workspace| {
            objective.predict(x, theta, &mut out.predictions, workspace)
        });
    }
}

fn outputs_of_another_shape<T: Float>() {
    let problem = Problem::<T>::random(M, N, K);
    let (x, theta, objective) = (&problem.x, problem.theta.as_ref(), Objective::default());
    let batch = problem.batch(false);
    for found in [(N, K - 1), (N, K + 1), (N - 1, K), (N + 1, K), (K, N), (0, 0)] {
        let expected = Error::OutputShape { operand: Operand::Gradient, expected: (N, K), found };
        let outputs = Outputs::new(found, M, (M, K));
        refused(expected, outputs.clone(), |out, workspace| {
            objective.loss_and_gradient(&batch, theta, out.gradient.as_mut(), workspace).map(drop)
        });
        refused(expected, outputs, |out, _| {
            loss_and_gradient(x, &problem.labels, theta, out.gradient.as_mut()).map(drop)
        });
    }
    for found in [(M, K - 1), (M, K + 1), (M - 1, K), (M + 1, K), (K, M), (0, 0)] {
        let expected = Error::OutputShape { operand: Operand::Probabilities, expected: (M, K), found };
        refused(expected, Outputs::new((N, K), M, found), |out, workspace| {
            objective.probabilities(x, theta, out.probabilities.as_mut(), workspace)
        });
    }
    for found in [0, M - 1, M + 1] {
        let error = |operand| Error::SampleCount { features: M, operand, found };
        let outputs = Outputs::new((N, K), found, (M, K));
        refused(error(Operand::Losses), outputs.clone(), |out, workspace| {
            objective.sample_losses(&batch, theta, &mut out.losses, workspace).map(drop)
        });
        refused(error(Operand::Labels), outputs, |out, workspace| {
            objective.predict(x, theta, &mut out.predictions, workspace)
        });
    }
}

fn labels_of_every_type<T: Float>() {
    let problem = Problem::<T>::random(M, N, K);
    let check = |targets: Targets<'_, T>, sample: usize, label: i128| {
        let expected = Error::LabelOutOfRange { sample, label, classes: K };
        let batch = Batch::new(&problem.x, targets).unwrap();
        losses_refused(expected, &Objective::default(), &batch, problem.theta.as_ref());
        let outputs = Outputs::new((N, K), 0, (M, K));
        refused(expected, outputs.clone(), |out, _| {
            let x = &problem.x;
            loss_and_gradient(x, targets, problem.theta.as_ref(), out.gradient.as_mut()).map(drop)
        });
        refused(expected, outputs, |out, _| softmax_residual(out.probabilities.as_mut(), targets).map(drop));
    };
    macro_rules! check {
        ($($t:ident: $($bad:expr),*);*) => {$($({
            let bad: $t = $bad;
            for sample in [0, 16, M - 1] {
                let mut labels: Vec<$t> = problem.labels.iter().map(|&label| label as $t).collect();
                // A later one, as bad or worse, behind the first that is to be named.
                labels[M - 1] = <$t>::MAX;
                labels[sample] = bad;
                check(labels.as_slice().into(), sample, bad as i128);
            }
        })*)*};
    }
    check!(
        u8: 5, u8::MAX;
        u16: 5, 256, u16::MAX;
        u32: 5, 1 << 8, u32::MAX - 1, u32::MAX;
        u64: 5, 1 << 32, (1 << 32) + 1, u64::MAX;
        usize: 5, 1 << 32, usize::MAX;
        i32: 5, -1, i32::MIN, i32::MAX;
        i64: 5, -1, i64::MIN, i64::MAX, -(1 << 32), 1 << 32
    );
}

fn mean_of_nothing<T: Float>() {
    let mean = Objective::default().reduction(Reduction::Mean);
    let empty = Problem::<T>::random(0, N, K);
    let expected = Error::TotalWeight { samples: 0, total: 0.0 };
    losses_refused(expected, &mean, &empty.batch(false), empty.theta.as_ref());

    let problem = Problem::<T>::random(M, N, K);
    let zeros = vec![T::of(0.0); M];
    let batch = problem.batch(false).with_sample_weights(&zeros).unwrap();
    losses_refused(Error::TotalWeight { samples: M, total: 0.0 }, &mean, &batch, problem.theta.as_ref());

    let largest = vec![T::of(T::LARGEST); M];
    let batch = problem.batch(false).with_sample_weights(&largest).unwrap();
    // The largest numbers of f32 still have a sum in f64.
    if batch.total_weight().is_infinite() {
        let expected = Error::TotalWeight { samples: M, total: f64::INFINITY };
        losses_refused(expected, &mean, &batch, problem.theta.as_ref());
    }
}

fn scores_beyond_counting<T: Float>() {
    let objective = Objective::default();
    for (m, k) in [(3, usize::MAX / 2), (3, u32::MAX as usize), (1, usize::MAX / 2), (0, usize::MAX / 2)] {
        let expected = Error::TooManyScores { samples: m, classes: k };
        let (x, labels) = (Mat::<T>::zeros(m, 0), vec![0_u8; m]);
        let batch = Batch::new(&x, &labels).unwrap();
        losses_refused(expected, &objective, &batch, no_rows(k));
        refused(expected, Outputs::<T>::new((0, 0), m, (0, 0)), |out, workspace| {
            objective.predict(&x, no_rows(k), &mut out.predictions, workspace)
        });
        assert_eq!(loss_and_gradient(&x, &labels, no_rows(k), no_rows_mut::<T>(k)), Err(expected));
    }
    // So many samples that only those calls can be made of them that need no labels.
    let (m, k) = (1 << 40, 1 << 30);
    let x = MatRef::<T>::from_column_major_slice(&[], m, 0);
    let expected = Error::TooManyScores { samples: m, classes: k };
    refused(expected, Outputs::<T>::new((0, 0), 0, (0, 0)), |out, workspace| {
        objective.predict(x, no_rows(k), &mut out.predictions, workspace)
    });
}

fn scores_from_outside<T: Float>() {
    let problem = Problem::<T>::random(M, N, K);
    for found in [0, M - 1, M + 1] {
        let expected = Error::SampleCount { features: M, operand: Operand::Targets, found };
        refused(expected, Outputs::<T>::new((0, 0), 0, (M, K)), |out, _| {
            softmax_residual(out.probabilities.as_mut(), &vec![0_u16; found]).map(drop)
        });
    }
    refused(Error::NoClasses, Outputs::<T>::new((0, 0), 0, (M, 0)), |out, _| {
        softmax_residual(out.probabilities.as_mut(), &problem.labels).map(drop)
    });
    let k = usize::MAX / 2;
    let refusal = softmax_residual(no_rows_mut::<T>(k), &[0_u8; 0]);
    assert_eq!(refusal, Err(Error::TooManyScores { samples: 0, classes: k }));
}

/// 2³² classes of 1024 samples: no features, so that Θ and the gradient take no memory, but scores of terabytes.
fn scratch_that_cannot_be_had<T: Float>() {
    // Where the system grants any amount and ends processes that use it, the question cannot be asked.
    let granted = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").map(|mode| mode.trim() == "1");
    if granted.unwrap_or(true) {
        eprintln!("not tested: this system may grant any amount of memory");
        return;
    }
    let (m, k) = (1024, u32::MAX as usize - 1);
    let (x, labels) = (Mat::<T>::zeros(m, 0), vec![0_u32; m]);
    let batch = Batch::new(&x, &labels).unwrap();
    let theta = no_rows::<T>(k);
    let objective = Objective::default().block_bytes(usize::MAX);
    let error = objective.loss(&batch, theta, &mut Workspace::new()).unwrap_err();
    let Error::OutOfMemory { bytes } = error else { panic!("{error:?}") };
    let scores = m * k * size_of::<T>();
    // A class has 16 places more than samples.
    assert!((scores..=scores + scores / 64 + 4096).contains(&bytes), "{bytes} for {scores} bytes of scores");

    losses_refused(error, &objective, &batch, theta);
    refused(error, Outputs::<T>::new((0, 0), m, (0, 0)), |out, workspace| {
        objective.predict(&x, theta, &mut out.predictions, workspace)
    });
}
