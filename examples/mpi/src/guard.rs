//! No rank waits for one that gave up.

use faer::{MatMut, MatRef};
use mpi::traits::Communicator;
use softmax_regression::solver::{Evaluate, Problem};
use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `job` returns. If it returns an error, or panics, this says so on standard error, naming the rank, and ends the
/// processes of all ranks with status 1: they may be waiting for this one in an allreduce, and would for ever.
///
/// Everything that communicates belongs inside, and the `Universe` outside: dropped in passing, it would wait for the other
/// ranks too. A process that dies, by a signal or `exit`, cannot tell; it is for `mpirun` to notice and to end the others.
pub fn guarded<C, R, E>(world: &C, job: impl FnOnce() -> Result<R, E>) -> R
where
    C: Communicator,
    E: Display,
{
    // Whatever the job leaves half done, nobody sees: this process ends.
    let failure = match catch_unwind(AssertUnwindSafe(job)) {
        Ok(Ok(result)) => return result,
        // With its causes, where the error writes them.
        Ok(Err(error)) => format!("failed: {error:#}"),
        Err(payload) => format!("panicked: {}", message(&*payload)),
    };
    eprintln!("rank {} of {} {failure}", world.rank(), world.size());
    world.abort(1)
}

/// A function of Θ of this shape that communicates, for argmin's solvers: each evaluation is [`guarded`].
///
/// The guard around the whole job is not enough. If an evaluation fails within its line search, argmin's L-BFGS stops, and
/// `run` returns `Ok` with [`TerminationReason::SolverExit`](argmin::core::TerminationReason::SolverExit): a rank that does
/// not look would go on to the end, and the others wait.
pub fn problem<C: Communicator, E: Evaluate<f64>>(
    world: &C,
    (rows, classes): (usize, usize),
    mut function: E,
) -> Problem<impl Evaluate<f64>, f64> {
    Problem::from_fn(rows, classes, move |theta: MatRef<'_, f64>, gradient: MatMut<'_, f64>| {
        Ok(guarded(world, || function.loss_and_gradient(theta, gradient)))
    })
}

/// What a panic says.
fn message(payload: &(dyn Any + Send)) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("no message")
}
