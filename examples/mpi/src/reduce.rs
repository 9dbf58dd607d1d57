//! The one message of an evaluation.

use faer::MatRef;
use mpi::collective::SystemOperation;
use mpi::traits::{Communicator, CommunicatorCollectives};
use softmax_regression::Accumulator;

/// Memory for [`all_reduce`], kept from one evaluation to the next.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    own: Vec<f64>,
    sum: Vec<f64>,
}

/// Replaces the sums of this rank's samples by those of all ranks' samples: one `MPI_Allreduce` of K·n + 2 numbers.
///
/// All ranks must call it, with accumulators of one shape. An error of MPI itself ends the job, as is its default.
///
/// # Panics
/// If the numbers are more than 2³¹ − 1, which MPI cannot count.
pub fn all_reduce<C: Communicator>(world: &C, accumulator: &mut Accumulator<f64>, buffer: &mut Buffer) {
    let (loss, weight, gradient) = accumulator.as_parts();
    let (rows, classes) = gradient.shape();
    let Buffer { own, sum } = buffer;
    own.clear();
    own.extend([loss, weight]);
    gradient.col_iter().for_each(|column| own.extend(column.iter()));
    sum.resize(own.len(), 0.0);

    world.all_reduce_into(&own[..], &mut sum[..], SystemOperation::sum());

    let gradient = MatRef::from_column_major_slice(&sum[2..], rows, classes).to_owned();
    *accumulator = Accumulator::from_parts(sum[0], sum[1], gradient);
}
