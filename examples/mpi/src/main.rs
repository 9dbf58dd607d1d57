//! Learns to read handwritten digits on any number of MPI ranks: `mpirun -n 3 softmax-regression-mpi`.
//!
//! Arguments:
//!
//! - `--out FILE`: rank 0 writes Θ there, column by column, little-endian;
//! - `--bench M N K`: times evaluations of M synthetic samples of N features and K classes instead;
//! - `--fail RANK`, `--panic RANK`, `--die RANK`, `--leave RANK`: at its fifth evaluation, that rank returns an error,
//!   panics, dies of a signal, or exits as if all were well;
//! - `--drift RANK`: at the end, the last bit of that rank's Θ flips.

mod bench;

use argmin::core::{Error, Executor, State, TerminationReason, TerminationStatus};
use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
use faer::{Mat, MatMut, MatRef};
use mpi::Threading;
use mpi::traits::Communicator;
use softmax_regression::solver::Evaluate;
use softmax_regression::{Batch, Objective, Reduction};
use softmax_regression_mpi::{Shard, guarded, problem, same_bits, share};
use std::path::PathBuf;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/digits.csv");
const PIXELS: usize = 64;
/// K.
const CLASSES: usize = 10;
/// Pixels are 0 to this.
const INK: f64 = 16.0;
/// λ of ½·λ‖Θ‖².
const RIDGE: f64 = 1e-3;
/// L-BFGS stops where ‖∇J‖ is below. J is then within some ‖∇J‖²/2λ = 5e-14 of its minimum.
const TOLERANCE: f64 = 1e-8;

fn main() {
    // Threads compute, but only this one communicates.
    let (universe, _) =
        mpi::initialize_with_threading(Threading::Funneled).expect("MPI starts once a process");
    let world = universe.world();
    guarded(&world, || {
        let arguments = Arguments::parse(std::env::args().skip(1))?;
        match arguments.bench {
            Some(shape) => bench::run(&world, shape),
            None => train(&world, &arguments),
        }
    });
}

fn train<C: Communicator>(world: &C, arguments: &Arguments) -> Result<(), Error> {
    let csv = std::fs::read_to_string(DIGITS)?;
    let samples = csv.lines().count();
    let own = share(samples, world.rank(), world.size());
    let (x, labels) = read_digits(csv.lines().skip(own.start).take(own.len()))?;

    let objective = Objective::default().reduction(Reduction::Mean).intercept(true).l2(RIDGE);
    let mut shard = Shard::new(world, objective, Batch::new(&x, &labels)?, CLASSES)?;
    let (start, shape) = (vec![0.0; shard.parameters()], shard.shape());
    // `shard.problem()`, were it not for the rank that is to fail.
    let function = |theta: MatRef<'_, f64>, gradient: MatMut<'_, f64>| {
        if shard.spent().evaluations == 4 {
            arguments.fault(world.rank())?;
        }
        shard.loss_and_gradient(theta, gradient)
    };
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10)
        .with_tolerance_grad(TOLERANCE)?
        .with_tolerance_cost(0.0)?;
    let mut state = Executor::new(problem(world, shape, function), solver)
        .configure(|state| state.param(start).max_iters(1000))
        .run()?
        .state;

    let status = state.get_termination_status();
    if *status != TerminationStatus::Terminated(TerminationReason::SolverConverged) {
        return Err(Error::msg(format!("L-BFGS did not converge: {status}")));
    }
    let (loss, steps) = (state.get_best_cost(), state.get_iter());
    let mut theta = state.take_best_param().ok_or_else(|| Error::msg("L-BFGS found no Θ"))?;
    if arguments.drift == Some(world.rank()) {
        theta[0] = f64::from_bits(theta[0].to_bits() ^ 1);
    }
    same_bits(world, &theta)?;
    if world.rank() > 0 {
        return Ok(());
    }

    let (spent, sent) = (shard.spent(), shard.numbers_sent());
    println!("{samples} samples, {} of them on rank 0 of {}", own.len(), world.size());
    println!("J = {loss:.14e} after {steps} iterations and {} evaluations", spent.evaluations);
    println!("{sent} numbers sent per rank and evaluation: {} bytes", 8 * sent);
    println!(
        "rank 0: {:.1} ms of computation, {:.1} ms of communication with waiting",
        1e3 * spent.computation.as_secs_f64(),
        1e3 * spent.communication.as_secs_f64()
    );
    println!("same bits of Θ on all ranks");
    if let Some(path) = &arguments.out {
        let bytes: Vec<u8> = theta.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

/// Images, one a row, and what they show.
fn read_digits<'a>(lines: impl Iterator<Item = &'a str>) -> Result<(Mat<f64>, Vec<u8>), Error> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for line in lines {
        let numbers: Vec<u8> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let [image @ .., label] = &numbers[..] else { return Err(Error::msg("an empty line")) };
        if image.len() != PIXELS {
            return Err(Error::msg(format!("{} pixels instead of {PIXELS}", image.len())));
        }
        pixels.extend(image.iter().map(|&pixel| f64::from(pixel) / INK));
        labels.push(*label);
    }
    Ok((MatRef::from_row_major_slice(&pixels, labels.len(), PIXELS).to_owned(), labels))
}

/// What was asked for; of faults, on which rank.
#[derive(Default)]
struct Arguments {
    out: Option<PathBuf>,
    bench: Option<[usize; 3]>,
    fail: Option<i32>,
    panic: Option<i32>,
    die: Option<i32>,
    leave: Option<i32>,
    drift: Option<i32>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Error> {
        let mut arguments = Self::default();
        while let Some(name) = words.next() {
            let mut value = || words.next().ok_or_else(|| Error::msg(format!("{name}: a value is missing")));
            match name.as_str() {
                "--out" => arguments.out = Some(value()?.into()),
                "--bench" => {
                    arguments.bench = Some([value()?.parse()?, value()?.parse()?, value()?.parse()?]);
                }
                "--fail" => arguments.fail = Some(value()?.parse()?),
                "--panic" => arguments.panic = Some(value()?.parse()?),
                "--die" => arguments.die = Some(value()?.parse()?),
                "--leave" => arguments.leave = Some(value()?.parse()?),
                "--drift" => arguments.drift = Some(value()?.parse()?),
                _ => return Err(Error::msg(format!("unknown argument {name}"))),
            }
        }
        Ok(arguments)
    }

    /// What is to go wrong on this rank.
    fn fault(&self, rank: i32) -> Result<(), Error> {
        if self.die == Some(rank) {
            std::process::abort();
        }
        if self.leave == Some(rank) {
            std::process::exit(0);
        }
        assert!(self.panic != Some(rank), "told to panic");
        if self.fail == Some(rank) { Err(Error::msg("told to fail")) } else { Ok(()) }
    }
}
