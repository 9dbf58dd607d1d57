//! Softmax regression on many machines, by MPI.
//!
//! The m samples are dealt to p ranks. At each Θ (n×K, n counting the row of the intercept) a rank computes loss, total
//! weight and gradient of its [`Shard`], and one `MPI_Allreduce` makes of them those of all samples. Every rank has the
//! same sums then, and runs the same solver on them: there is no master, and Θ is never sent.
//!
//! ```no_run
//! use argmin::core::{Error, Executor};
//! use argmin::solver::{linesearch::MoreThuenteLineSearch, quasinewton::LBFGS};
//! use mpi::traits::Communicator;
//! use softmax_regression::{Batch, Objective, Reduction};
//! use softmax_regression_mpi::{Shard, guarded, share};
//!
//! # fn load(samples: std::ops::Range<usize>) -> (faer::Mat<f64>, Vec<u32>) {
//! #     (faer::Mat::from_fn(samples.len(), 4, |i, j| (i * j) as f64), samples.map(|i| i as u32 % 10).collect())
//! # }
//! # let (samples, classes) = (1000, 10);
//! let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled).expect("once a process");
//! let world = universe.world();
//! guarded(&world, || {
//!     let (x, labels) = load(share(samples, world.rank(), world.size()));
//!     let objective = Objective::default().reduction(Reduction::Mean).l2(1e-3);
//!     let mut shard = Shard::new(&world, objective, Batch::new(&x, &labels)?, classes)?;
//!     let start = vec![0.0; shard.parameters()];
//!     let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10);
//!     let outcome = Executor::new(shard.problem(), solver).configure(|state| state.param(start)).run()?;
//!     // ...
//!     Ok::<(), Error>(())
//! });
//! ```
//!
//! # What it costs
//!
//! A rank sends K·n + 2 numbers of 8 bytes an evaluation, whatever m is. An allreduce of d bytes takes some 2·d·(p−1)/p
//! bytes out of a rank and as many into it, and a number of messages that grows with log p or p, as the MPI library
//! chooses. The computation is 4·m·n·K/p floating-point operations a rank.
//!
//! So m/4p operations are done for each byte that leaves: n and K cancel. On a network of B bytes/s, ranks of F
//! operations/s spend 4·F/B · p/m times as long sending as computing. With F = 5e10 and B = 1.25e9 (10 Gbit/s) that is 1 %
//! at 16,000 samples a rank; with the small Θ of few features and classes, the latency of the messages counts instead.
//!
//! # What the ranks must agree on
//!
//! Each runs the solver by itself, so all must run the same program with the same options. Then their Θ have the same
//! bits: MPI requires of an allreduce that its result be identical on all ranks (MPI 3.1, section 5.9.6), and what follows
//! from the sums is computed by plain scalar code. [`same_bits`] checks it. Another number of ranks adds up in another
//! order, and so changes the last bits.
//!
//! A rank that leaves early would keep the others waiting for ever: [`guarded`] ends all of them, and [`problem`] guards each
//! evaluation.

mod agreement;
mod guard;
mod reduce;
mod shard;

pub use agreement::{Disagreement, same_bits};
pub use guard::{guarded, problem};
pub use reduce::{Buffer, all_reduce};
pub use shard::{Shard, Spent, share};
