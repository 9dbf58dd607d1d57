//! What must be the same on all ranks.

use mpi::collective::SystemOperation;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};
use std::fmt;

/// Something that differs between ranks and must not. All ranks are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// Ranks have Θ of different shapes.
    Shape {
        /// The fewest rows and the fewest columns.
        least: (u64, u64),
        /// The most of each.
        most: (u64, u64),
    },
    /// Numbers have other bits than on rank 0.
    Bits {
        /// The first rank where they have.
        rank: i32,
    },
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { least, most } => {
                write!(f, "ranks disagree on the shape of Θ: from {}×{}", least.0, least.1)?;
                write!(f, " to {}×{}", most.0, most.1)
            }
            Self::Bits { rank } => write!(f, "numbers on rank {rank} differ from those on rank 0"),
        }
    }
}

impl std::error::Error for Disagreement {}

/// Whether Θ has this shape on all ranks.
pub(crate) fn same_shape<C: Communicator>(
    world: &C,
    (rows, classes): (usize, usize),
) -> Result<(), Disagreement> {
    let own = [rows as u64, classes as u64];
    let (mut least, mut most) = (own, own);
    world.all_reduce_into(&own, &mut least, SystemOperation::min());
    world.all_reduce_into(&own, &mut most, SystemOperation::max());
    if least == most { Ok(()) } else { Err(Disagreement::Shape { least: least.into(), most: most.into() }) }
}

/// Whether numbers, as many on all ranks, have the same bits on all. All ranks must call it.
///
/// # Errors
/// [`Disagreement::Bits`], on all ranks, if they do not.
pub fn same_bits<C: Communicator>(world: &C, numbers: &[f64]) -> Result<(), Disagreement> {
    let own: Vec<u64> = numbers.iter().map(|x| x.to_bits()).collect();
    let mut first = own.clone();
    world.process_at_rank(0).broadcast_into(&mut first[..]);
    let differs = if own == first { world.size() } else { world.rank() };
    let mut rank = differs;
    world.all_reduce_into(&differs, &mut rank, SystemOperation::min());
    if rank == world.size() { Ok(()) } else { Err(Disagreement::Bits { rank }) }
}
