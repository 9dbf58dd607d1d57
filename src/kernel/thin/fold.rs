//! Sums over the lanes of registers, several at once.

use crate::kernel::lanes::{Lanes, MAX_LANES};
use crate::kernel::shuffle::BLOCK_BYTES;
use crate::kernel::vector::Vector;
use pulp::Simd;

impl<T: Lanes, S: Simd> Vector<T, S> {
    /// The lanes of a block.
    const BLOCK: usize = {
        let lanes = BLOCK_BYTES / size_of::<T>();
        if lanes < Self::COUNT { lanes } else { Self::COUNT }
    };

    /// The lane that has the sum of a part of a register after [`lane_sums`](Self::lane_sums), where `share` rows have one each.
    #[inline(always)]
    pub(super) fn lane_of(register: usize, part: usize, share: usize) -> usize {
        (register / Self::BLOCK * share + part) * Self::BLOCK + register % Self::BLOCK
    }

    /// The sums of the lanes of [`COUNT`](Self::COUNT) registers, in a register, of which every `folded` have become one by
    /// [`fold_first`](Self::fold_first). Of half as many if two rows have a half of each. If two columns have (`apart` is 2), in
    /// a register for each of them.
    ///
    /// By a tree in which two registers are folded into one, so that no step has idle lanes.
    #[inline(always)]
    pub(super) fn lane_sums(
        mut registers: [Self; MAX_LANES / 2],
        count: usize,
        folded: usize,
        apart: usize,
    ) -> [Self; 2] {
        if apart == 2 {
            Self::fold_to::<_, 2>(&mut registers, count, folded);
            registers[0].units(registers[1], Self::COUNT, Self::BLOCK)
        } else {
            Self::fold_to::<_, 1>(&mut registers, count, folded);
            [registers[0]; 2]
        }
    }

    /// The first steps of [`lane_sums`](Self::lane_sums).
    #[inline(always)]
    pub(super) fn fold_first<const N: usize>(mut registers: [Self; N]) -> Self {
        Self::fold_to::<_, 1>(&mut registers, N, 1);
        registers[0]
    }

    /// Folds `count` registers into TO, each of which was `folded` registers.
    #[inline(always)]
    fn fold_to<const N: usize, const TO: usize>(
        registers: &mut [Self; N],
        mut count: usize,
        mut folded: usize,
    ) {
        // One by one: in a loop the compiler would not know the numbers.
        macro_rules! step {
            () => {
                if count > TO {
                    count /= 2;
                    folded *= 2;
                    // Within the blocks first, until each lane of one is a register's.
                    let (stretch, unit) = if folded <= Self::BLOCK {
                        (Self::BLOCK, Self::BLOCK / folded)
                    } else {
                        (Self::COUNT, Self::BLOCK)
                    };
                    for i in 0..count {
                        let [even, odd] = registers[2 * i].units(registers[2 * i + 1], stretch, unit);
                        registers[i] = even + odd;
                    }
                }
            };
        }
        step!();
        step!();
        step!();
        let _ = (count, folded);
    }
}
