//! Times of computation and communication.

use argmin::core::Error;
use faer::{Mat, MatRef};
use mpi::collective::SystemOperation;
use mpi::traits::{Communicator, CommunicatorCollectives};
use softmax_regression::solver::Evaluate;
use softmax_regression::{Batch, Objective, Reduction};
use softmax_regression_mpi::{Shard, share};

/// Evaluations before those that count: memory is touched, threads are started, connections made.
const WARM: usize = 3;
const EVALUATIONS: usize = 11;

/// Prints the medians over the evaluations.
///
/// Of each evaluation, the computation is that of the rank that took longest, and the communication that of the rank
/// that took shortest: it came last, so that it waited for nobody. The longest less that is what the first to come
/// waited.
pub(crate) fn run<C: Communicator>(world: &C, [samples, features, classes]: [usize; 3]) -> Result<(), Error> {
    let own = share(samples, world.rank(), world.size());
    let mut random = uniform(1 + world.rank() as u64);
    let rows: Vec<f64> = (0..own.len() * features).map(|_| random()).collect();
    let x = MatRef::from_row_major_slice(&rows, own.len(), features);
    let labels: Vec<u32> = (0..own.len()).map(|_| ((random() + 1.0) / 2.0 * classes as f64) as u32).collect();
    let objective = Objective::default().reduction(Reduction::Mean);
    let mut shard = Shard::new(world, objective, Batch::new(x, &labels)?, classes)?;

    let mut random = uniform(0);
    let theta = Mat::from_fn(features, classes, |_, _| 0.1 * random());
    let mut gradient = Mat::zeros(features, classes);
    let (mut computation, mut communication) = (Vec::new(), Vec::new());
    for evaluation in 0..WARM + EVALUATIONS {
        let before = shard.spent();
        shard.loss_and_gradient(theta.as_ref(), gradient.as_mut())?;
        let after = shard.spent();
        if evaluation >= WARM {
            computation.push((after.computation - before.computation).as_secs_f64());
            communication.push((after.communication - before.communication).as_secs_f64());
        }
    }
    let over_ranks = |own: &[f64], operation| {
        let mut result = vec![0.0; own.len()];
        world.all_reduce_into(own, &mut result[..], operation);
        result
    };
    let computation = over_ranks(&computation, SystemOperation::max());
    let least = over_ranks(&communication, SystemOperation::min());
    let most = over_ranks(&communication, SystemOperation::max());
    let waiting = most.iter().zip(&least).map(|(most, least)| most - least).collect();
    if world.rank() == 0 {
        println!("{samples}×{features}×{classes} on {} ranks, {EVALUATIONS} evaluations", world.size());
        println!("{} numbers sent per rank and evaluation", shard.numbers_sent());
        println!("computation   {:8.3} ms", 1e3 * median(computation));
        println!("communication {:8.3} ms", 1e3 * median(least));
        println!("waiting       {:8.3} ms", 1e3 * median(waiting));
    }
    Ok(())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Numbers in [-1, 1): splitmix64.
fn uniform(mut seed: u64) -> impl FnMut() -> f64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}
