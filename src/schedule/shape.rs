//! The shape of an evaluation, and what of it fills registers.

use super::MANY_SAMPLES;
use crate::kernel::{FEW_SAMPLES, HALF_REGISTER, OUTER_ROWS, SimdLevel, filled};

/// Samples from which on copies of a Θ whose columns are two registers are worth their cost.
const SHARING_SAMPLES: usize = 4;

/// Bytes of the largest register, and of two.
const REGISTER_BYTES: usize = 2 * HALF_REGISTER;
const TWO_REGISTERS: usize = 2 * REGISTER_BYTES;

/// How the features lie in memory, as far as the cuts depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Storage {
    /// The features of a sample lie together.
    RowMajor,
    /// The samples of a feature lie side by side, and the features of a sample far apart.
    ColumnMajor,
    /// Only some are stored.
    Sparse {
        /// How many, of all samples.
        entries: usize,
    },
}

/// What the cuts follow from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) samples: usize,
    pub(crate) features: usize,
    pub(crate) classes: usize,
    /// Numbers that a block keeps of a score.
    pub(crate) planes: usize,
    /// Bytes of a number.
    pub(crate) size: usize,
    pub(crate) storage: Storage,
    pub(crate) level: SimdLevel,
}

impl Shape {
    /// Whether features are sparse.
    pub(super) fn is_sparse(&self) -> bool {
        matches!(self.storage, Storage::Sparse { .. })
    }

    /// Whether the features are so few that those of a class fill no large register.
    pub(super) fn fills_none(&self) -> bool {
        self.features.saturating_mul(self.size) < REGISTER_BYTES
    }

    /// Whether those of a class leave a quarter of the widest registers empty, and tiles would not.
    pub(super) fn wastes_a_quarter(&self) -> bool {
        let [in_tiles, in_registers] = filled(self.features, self.size, self.level);
        4 * in_tiles <= 3 * in_registers && self.level.registers().are_widest()
    }

    /// Whether Θ and gradient are best by rows, where samples lie one after the other: lanes along the features of a class would
    /// be idle too often, lanes along the classes not, and there are samples enough to be worth copies, the more the more
    /// registers the features fill.
    pub(super) fn rows_are_best(&self, in_pieces: bool) -> bool {
        let Self { samples, features, classes, size, storage, .. } = *self;
        let bytes = features.saturating_mul(size);
        // So few that the columns of Θ are used as they are, two of them or one in a register.
        let few = || if self.level.registers().are_widest() { FEW_SAMPLES } else { FEW_SAMPLES / 2 };
        let is_worth_it = || match bytes {
            ..HALF_REGISTER => true,
            HALF_REGISTER..REGISTER_BYTES => samples > few() || storage != Storage::RowMajor,
            REGISTER_BYTES..=TWO_REGISTERS if !in_pieces => {
                samples >= SHARING_SAMPLES && self.wastes_a_quarter()
            }
            _ => samples >= MANY_SAMPLES && self.wastes_a_quarter(),
        };
        classes >= OUTER_ROWS && is_worth_it()
    }
}
