//! Sums over the lanes of registers, several at once; and registers that several rows share.

use crate::kernel::lanes::{Lanes, MAX_LANES, Vector};
use pulp::Simd;

impl<T: Lanes, S: Simd> Vector<T, S> {
    /// Of slices of parts, the `at`-th part of each, side by side.
    #[inline(always)]
    pub(super) fn join<const PART: usize, const SHARE: usize>(
        simd: S,
        slices: [&[[T; PART]]; SHARE],
        at: usize,
    ) -> Self {
        let mut lanes = [T::ZERO; MAX_LANES];
        for (lanes, slice) in lanes.as_chunks_mut::<PART>().0.iter_mut().zip(slices) {
            *lanes = slice[at];
        }
        Self::load(simd, &lanes)
    }

    /// The sums of the lanes of [`COUNT`](Self::COUNT) registers, in a register; or what is left of that after
    /// [`fold_first`](Self::fold_first) has made one register of every few.
    ///
    /// By a tree in which two registers are folded into one, so that no step has idle lanes.
    #[inline(always)]
    pub(super) fn lane_sums(mut registers: [Self; MAX_LANES / 2], count: usize) -> Self {
        // Of a sum, unlike a number that is only loaded, the compiler does not take the lanes one by one from memory.
        let zero = Self::splat(registers[0].simd, T::ZERO);
        for register in &mut registers[..count] {
            *register = *register + zero;
        }
        Self::fold_into(&mut registers, count, count);
        registers[0]
    }

    /// The first steps of [`lane_sums`](Self::lane_sums): of registers in each of which SHARE have lanes, to one.
    #[inline(always)]
    pub(super) fn fold_first<const REGISTERS: usize, const SHARE: usize>(
        mut registers: [Self; REGISTERS],
    ) -> Self {
        Self::fold_into(&mut registers, REGISTERS, Self::COUNT / SHARE);
        registers[0]
    }

    /// Folds `count` registers into one, where every `stretch` lanes belong together at first.
    #[inline(always)]
    fn fold_into<const N: usize>(registers: &mut [Self; N], mut count: usize, mut stretch: usize) {
        // One by one: in a loop the compiler would not know the stretches.
        macro_rules! step {
            () => {
                if count > 1 {
                    count /= 2;
                    stretch /= 2;
                    for i in 0..count {
                        let (a, b) = (registers[i], registers[i + count]);
                        registers[i] = match stretch {
                            8 => a.fold::<8>(b),
                            4 => a.fold::<4>(b),
                            2 => a.fold::<2>(b),
                            _ => a.fold::<1>(b),
                        };
                    }
                }
            };
        }
        step!();
        step!();
        step!();
        let _ = (count, stretch);
    }

    /// In stretches of 2·HALF lanes: the sums of lanes HALF apart, those of self first, then those of b.
    #[inline(always)]
    fn fold<const HALF: usize>(self, b: Self) -> Self {
        let (a, b) = (self.padded_lanes(), b.padded_lanes());
        let low = core::array::from_fn::<_, MAX_LANES, _>(
            #[inline(always)]
            |i| folded::<T, HALF>(&a, &b, i, 0),
        );
        let high = core::array::from_fn::<_, MAX_LANES, _>(
            #[inline(always)]
            |i| folded::<T, HALF>(&a, &b, i, HALF),
        );
        Self::load(self.simd, &low) + Self::load(self.simd, &high)
    }

    #[inline(always)]
    fn padded_lanes(self) -> [T; MAX_LANES] {
        let mut lanes = [T::ZERO; MAX_LANES];
        lanes[..Self::COUNT].copy_from_slice(self.lanes());
        lanes
    }
}

#[inline(always)]
fn folded<T: Copy, const HALF: usize>(
    a: &[T; MAX_LANES],
    b: &[T; MAX_LANES],
    lane: usize,
    offset: usize,
) -> T {
    let (stretch, at) = (lane / (2 * HALF) * (2 * HALF), lane % (2 * HALF));
    if at < HALF { a[stretch + at + offset] } else { b[stretch + at - HALF + offset] }
}
