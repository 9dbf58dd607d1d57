//! Training on more data than one wants in memory: `cargo run --release --example stream [-- MEGABYTES]`.
//!
//! Shows [`Accumulator`], and [`Problem::from_fn`] for argmin's L-BFGS. A file of samples (64 MB unless told otherwise, made
//! first, from two seeds) is read in pieces of 4 MB; each is a [`Batch`], and an `Accumulator` adds up its loss and
//! gradient. So an evaluation of the whole file, of which L-BFGS makes one a step, takes the memory of one piece. The most
//! that the process ever had is shown at the end, where the system tells (`VmHWM`, on Linux).
//!
//! The file is little-endian `f32`: of each sample, its features and its label.

#[path = "support/random.rs"]
mod random;

use argmin::core::observers::{Observe, ObserverMode};
use argmin::core::{Error, Executor, IterState, KV, State};
use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
use faer::{MatMut, MatRef};
use indicatif::{ProgressBar, ProgressStyle};
use random::uniform;
use softmax_regression::solver::{Evaluate, Problem};
use softmax_regression::{Accumulator, Batch, Objective, Reduction, Workspace};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// n and K.
const FEATURES: usize = 63;
const CLASSES: usize = 8;
/// Numbers of a sample: its features and its label.
const RECORD: usize = FEATURES + 1;
/// Samples that are in memory at once.
const PIECE: usize = (4 << 20) / (4 * RECORD);
const STEPS: u64 = 12;

fn main() -> Result<()> {
    let megabytes: usize = std::env::args().nth(1).map_or(Ok(64), |arg| arg.parse())?;
    let samples = megabytes * (1 << 20) / (4 * RECORD);
    let path = std::env::temp_dir().join(format!("softmax-regression-stream-{}.bin", std::process::id()));
    let outcome = train(&path, samples);
    std::fs::remove_file(&path)?;
    outcome
}

fn train(path: &Path, samples: usize) -> Result<()> {
    write_samples(path, samples)?;
    let megabytes = samples * RECORD * 4 / (1 << 20);
    println!("{samples} samples of {FEATURES} features, {CLASSES} classes: {megabytes} MB");

    let problem = Problem::from_fn(FEATURES + 1, CLASSES, Stream::new(path, samples)?);
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10).with_tolerance_grad(1e-6)?;
    let begin = Instant::now();
    let outcome = Executor::new(problem.clone(), solver)
        .configure(|state| state.param(vec![0.0; (FEATURES + 1) * CLASSES]).max_iters(STEPS))
        .add_observer(Steps, ObserverMode::Always)
        .run()?;
    println!(
        "J = {:.6} after {} steps and {} passes over the file, {:.1} s",
        outcome.state.get_best_cost(),
        outcome.state.get_iter(),
        problem.counts().evaluations,
        begin.elapsed().as_secs_f64()
    );
    if let Some(peak) = peak_memory() {
        println!("most memory the process had: {peak:.1} MB");
    }
    Ok(())
}

/// A file of samples as a function of Θ, and what evaluating it takes.
struct Stream {
    path: PathBuf,
    objective: Objective,
    accumulator: Accumulator<f32>,
    workspace: Workspace<f32>,
    bytes: Vec<u8>,
    records: Vec<f32>,
    labels: Vec<u32>,
    progress: ProgressBar,
}

impl Stream {
    fn new(path: &Path, samples: usize) -> Result<Self> {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} samples, {elapsed}")?;
        Ok(Self {
            path: path.into(),
            objective: Objective::default().reduction(Reduction::Mean).intercept(true).l2(1e-4),
            accumulator: Accumulator::new(FEATURES + 1, CLASSES),
            workspace: Workspace::new(),
            bytes: vec![0; 4 * RECORD * PIECE],
            records: Vec::with_capacity(RECORD * PIECE),
            labels: Vec::with_capacity(PIECE),
            progress: ProgressBar::new(samples as u64).with_style(style),
        })
    }
}

impl Evaluate<f32> for Stream {
    /// One pass over the file.
    fn loss_and_gradient(&mut self, theta: MatRef<'_, f32>, gradient: MatMut<'_, f32>) -> Result<f64, Error> {
        self.accumulator.clear();
        self.progress.reset();
        let mut file = File::open(&self.path)?;
        let mut left = file.metadata()?.len() as usize;
        while left > 0 {
            let bytes = &mut self.bytes[..left.min(4 * RECORD * PIECE)];
            file.read_exact(bytes)?;
            left -= bytes.len();
            let (numbers, _) = bytes.as_chunks();
            self.records.clear();
            self.records.extend(numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)));
            self.labels.clear();
            self.labels.extend(self.records.chunks_exact(RECORD).map(|record| record[FEATURES] as u32));
            // Each record's features, without its label: a view.
            let samples = self.labels.len();
            let records = MatRef::from_row_major_slice(&self.records, samples, RECORD);
            let batch = Batch::new(records.subcols(0, FEATURES), &self.labels)?;
            self.objective.accumulate(&batch, theta, &mut self.accumulator, &mut self.workspace)?;
            self.progress.inc(samples as u64);
        }
        Ok(self.accumulator.finish(&self.objective, theta, gradient)?)
    }
}

/// Prints each step.
struct Steps;

impl Observe<IterState<Vec<f32>, Vec<f32>, (), (), (), f32>> for Steps {
    fn observe_iter(
        &mut self,
        state: &IterState<Vec<f32>, Vec<f32>, (), (), (), f32>,
        _: &KV,
    ) -> Result<(), Error> {
        println!("step {:>3}: J = {:.6}", state.get_iter(), state.get_cost());
        Ok(())
    }
}

/// Samples whose classes are those of the largest of K random linear functions, a tenth of them mislabelled.
fn write_samples(path: &Path, samples: usize) -> Result<()> {
    let (mut random, mut truth) = (uniform(1), uniform(2));
    let theta: Vec<f32> = (0..FEATURES * CLASSES).map(|_| truth()).collect();
    let mut out = BufWriter::new(File::create(path)?);
    for _ in 0..samples {
        let x: [f32; FEATURES] = std::array::from_fn(|_| random());
        let score = |k: usize| x.iter().zip(&theta[k * FEATURES..]).map(|(x, t)| x * t).sum::<f32>();
        let mut label = (0..CLASSES).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap_or(0);
        if random() > 0.8 {
            label = (label + 1) % CLASSES;
        }
        for number in x.into_iter().chain([label as f32]) {
            out.write_all(&number.to_le_bytes())?;
        }
    }
    Ok(out.flush()?)
}

/// The most memory that this process has had, in MB.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
