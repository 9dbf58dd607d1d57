//! A linear probe: how well do embeddings tell many classes apart?
//! `cargo run --release --example linear_probe [-- X.npy Y.npy]`.
//!
//! Shows the estimator on arrays as numpy's `save` writes them: embeddings X, `float32` of m×n in C or Fortran order, and labels Y,
//! m integers of any type from 0. Without arguments it makes such files first, of 200 clusters, and removes them
//! afterwards. Shown on the way:
//!
//! - X is read once and never copied: the fit takes all of it, every fifth sample at weight 0, which counts for nothing;
//!   the test takes every fifth row, an ndarray view with a stride;
//! - [`FitOptions::on_step`] feeds a progress bar;
//! - [`Objective::top_k`](softmax_regression::Objective::top_k) for the accuracy among the five best.

#[path = "support/progress.rs"]
mod progress;
#[path = "support/random.rs"]
mod random;

use faer::Mat;
use ndarray::{Array1, Array2, ArrayView2, Axis, Slice};
use ndarray_npy::{ReadNpyError, ReadNpyExt, ReadableElement, write_npy};
use progress::Progress;
use random::uniform;
use softmax_regression::{Batch, FitOptions, Reduction, SoftmaxRegression, Step, Workspace};
use std::error::Error;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// One sample in so many is held out.
const FOLD: usize = 5;
/// λ of ½·λ‖Θ‖².
const RIDGE: f64 = 1.0;
const TOLERANCE: f64 = 1e-3;

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match &args[..] {
        [x, y] => probe(x, y),
        [] => {
            let stem = std::env::temp_dir().join(format!("linear-probe-{}", std::process::id()));
            let (x, y) = (stem.with_extension("x.npy"), stem.with_extension("y.npy"));
            let outcome = write_clusters(&x, &y).and_then(|()| probe(&x, &y));
            let removed = [x, y].map(std::fs::remove_file);
            outcome.and(removed.into_iter().collect::<Result<(), _>>().map_err(Into::into))
        }
        _ => Err(format!("expected two files, X.npy and Y.npy, or none; there are {}", args.len()).into()),
    }
}

fn probe(x: &Path, y: &Path) -> Result<()> {
    let begin = Instant::now();
    let embeddings = read_embeddings(x)?;
    let labels = read_labels(y)?;
    let classes = count_classes(&labels)?;
    let (samples, features) = embeddings.dim();
    println!("embeddings     {samples} of {features} numbers");
    println!("read in        {:.2} s", begin.elapsed().as_secs_f64());
    println!("classes        {classes}");

    let weights: Vec<f32> = (0..samples).map(|i| if i % FOLD == 0 { 0.0 } else { 1.0 }).collect();
    let train = Batch::new(&embeddings, &labels)?.with_sample_weights(&weights)?;
    let begin = Instant::now();
    let model = fit(&train, classes)?;
    let step = model.report().step;
    println!("fitted in      {:.2} s", begin.elapsed().as_secs_f64());
    println!("evaluations    {} in {} steps", step.evaluations, step.iterations);
    println!("train loss     {:.4}, penalty included", step.loss / train.total_weight());
    println!("train top 1    {:.2} %", 100.0 * model.score(&train)?);

    let (mut held_out, every_fold) = (embeddings.view(), Slice::new(0, None, FOLD as isize));
    held_out.slice_axis_inplace(Axis(0), every_fold);
    let truth: Vec<i64> = labels.into_iter().step_by(FOLD).collect();
    let plain = model.objective().clone().l2(0.0).reduction(Reduction::Mean);
    let test = Batch::new(held_out, &truth)?;
    println!("test loss      {:.4}", plain.loss(&test, model.theta(), &mut Workspace::new())?);
    for (k, accuracy) in [1, 5].into_iter().zip(top_accuracies(&model, held_out, &truth, [1, 5])?) {
        println!("test top {k}     {:.2} %", 100.0 * accuracy);
    }
    Ok(())
}

fn fit(batch: &Batch<'_, f32>, classes: usize) -> Result<SoftmaxRegression<f32>> {
    let mut progress = Progress::new(TOLERANCE);
    let on_step = |step: &Step| {
        progress.show(step.iterations, step.loss, step.scaled_gradient_norm);
        ControlFlow::Continue(())
    };
    let options = FitOptions::new(classes).l2(RIDGE).tolerance(TOLERANCE).on_step(on_step);
    let model = SoftmaxRegression::fit(batch, options)?;
    progress.end();
    Ok(model)
}

/// The share of samples whose class is among the most probable ones, for several numbers of them.
fn top_accuracies<const N: usize>(
    model: &SoftmaxRegression<f32>,
    x: ArrayView2<'_, f32>,
    labels: &[i64],
    numbers: [usize; N],
) -> Result<[f64; N]> {
    let most = numbers.into_iter().max().unwrap_or(0).min(model.theta().ncols());
    let mut classes = Mat::from_fn(labels.len(), most, |_, _| 0_u32);
    let mut probabilities = Mat::zeros(labels.len(), most);
    let (theta, workspace) = (model.theta(), &mut Workspace::new());
    model.objective().top_k(x, theta, classes.as_mut(), probabilities.as_mut(), workspace)?;
    Ok(numbers.map(|number| {
        let top = classes.subcols(0, number.min(most));
        let is_right = |(i, label): (usize, &i64)| top.row(i).iter().any(|&class| i64::from(class) == *label);
        let right = labels.iter().enumerate().filter(|&sample| is_right(sample)).count();
        right as f64 / labels.len() as f64
    }))
}

fn read_embeddings(path: &Path) -> Result<Array2<f32>> {
    let read = File::open(path).map_err(ReadNpyError::from).and_then(Array2::read_npy);
    read.map_err(|error| format!("embeddings should be float32, m×n: {}: {error}", path.display()).into())
}

fn read_labels(path: &Path) -> Result<Vec<i64>> {
    let types = [as_labels::<i64>, as_labels::<i32>, as_labels::<i16>, as_labels::<i8>];
    let unsigned = [as_labels::<u64>, as_labels::<u32>, as_labels::<u16>, as_labels::<u8>];
    let fail = |error| format!("labels should be m integers: {}: {error}", path.display());
    let bytes = std::fs::read(path).map_err(|error| fail(error.into()))?;
    let mut outcome = types[0](&bytes);
    for read in types.into_iter().chain(unsigned) {
        if !matches!(outcome, Err(ReadNpyError::WrongDescriptor(_))) {
            break;
        }
        outcome = read(&bytes);
    }
    Ok(outcome.map_err(fail)?)
}

/// The labels, if the file has this type.
fn as_labels<L: ReadableElement>(file: &[u8]) -> Result<Vec<i64>, ReadNpyError>
where
    i64: TryFrom<L, Error: Error + Send + Sync + 'static>,
{
    let labels = Array1::<L>::read_npy(file)?;
    let labels = labels.into_iter().map(i64::try_from).collect::<Result<_, _>>();
    labels.map_err(|error| ReadNpyError::ParseData(error.into()))
}

/// K: one more than the largest label. Others are the fit's to refuse, but Θ has a column for each class.
fn count_classes(labels: &[i64]) -> Result<usize> {
    let largest = labels.iter().copied().max().ok_or("there are no labels")?;
    let samples = labels.len();
    match usize::try_from(largest) {
        Ok(largest) if largest < samples => Ok(largest + 1),
        _ => Err(format!("labels should be from 0 up: the largest of {samples} is {largest}").into()),
    }
}

/// 4000 embeddings of 128 numbers, of 200 clusters that overlap, and the cluster of each.
fn write_clusters(x: &Path, y: &Path) -> Result<()> {
    const SHAPE: (usize, usize) = (4000, 128);
    const CLUSTERS: usize = 200;
    let mut random = uniform(1);
    let centres = Array2::from_shape_simple_fn((CLUSTERS, SHAPE.1), &mut random);
    let labels = Array1::from_shape_simple_fn(SHAPE.0, || ((random() + 1.0) / 2.0 * CLUSTERS as f32) as i64);
    let embeddings = Array2::from_shape_fn(SHAPE, |(i, j)| {
        centres[(labels[i] as usize, j)] + (0..4).map(|_| random()).sum::<f32>()
    });
    write_npy(x, &embeddings)?;
    Ok(write_npy(y, &labels)?)
}
