//! Sums over the lanes of registers, several at once; and registers that several rows or columns share.

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

    /// The lanes of a block: moved within one, they cost a processor least.
    const BLOCK: usize = {
        let lanes = 16 / size_of::<T>();
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

    /// In stretches of so many lanes: the even units, those of self first, then those of b; and the odd ones.
    #[inline(always)]
    pub(super) fn units(self, b: Self, stretch: usize, unit: usize) -> [Self; 2] {
        #[cfg(target_arch = "x86_64")]
        if let Some(units) = x86::units::<T, S>(self.simd, self.register(), b.register(), unit) {
            return [Self::of(self.simd, [units[0]]), Self::of(self.simd, [units[1]])];
        }
        match (stretch, unit) {
            (16, 4) => self.units_by_lanes::<16, 4>(b),
            (8, 4) => self.units_by_lanes::<8, 4>(b),
            (8, 2) => self.units_by_lanes::<8, 2>(b),
            (4, 2) => self.units_by_lanes::<4, 2>(b),
            (4, 1) => self.units_by_lanes::<4, 1>(b),
            _ => self.units_by_lanes::<2, 1>(b),
        }
    }

    #[inline(always)]
    fn units_by_lanes<const STRETCH: usize, const UNIT: usize>(self, b: Self) -> [Self; 2] {
        let (a, b) = (self.padded_lanes(), b.padded_lanes());
        [0, UNIT].map(
            #[inline(always)]
            |offset| {
                let lanes = core::array::from_fn::<_, MAX_LANES, _>(
                    #[inline(always)]
                    |lane| {
                        let (stretch, at) = (lane / STRETCH * STRETCH, lane % (STRETCH / 2));
                        let from = stretch + at + at / UNIT * UNIT + offset;
                        if lane % STRETCH < STRETCH / 2 { a[from] } else { b[from] }
                    },
                );
                Self::load(self.simd, &lanes)
            },
        )
    }

    #[inline(always)]
    fn padded_lanes(self) -> [T; MAX_LANES] {
        let mut lanes = [T::ZERO; MAX_LANES];
        lanes[..Self::COUNT].copy_from_slice(self.lanes());
        lanes
    }
}

/// The instructions for it. Of lanes taken one by one the compiler makes several shuffles for one, here and there a dozen.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::kernel::lanes::Lanes;
    use core::any::Any;
    use core::arch::x86_64::{__m256d, __m512d};
    use pulp::Simd;
    use pulp::bytemuck::cast;
    use pulp::x86::{V3, V4};

    /// The even and the odd units of two registers: of each stretch, or in the order of the registers where a unit is a
    /// block. Nothing if the level has no such instructions.
    #[inline(always)]
    pub(super) fn units<T: Lanes, S: Simd>(
        simd: S,
        a: T::Register<S>,
        b: T::Register<S>,
        unit: usize,
    ) -> Option<[T::Register<S>; 2]> {
        let simd: &dyn Any = &simd;
        if let Some(simd) = simd.downcast_ref::<V4>() {
            let (avx, a, b) = (simd.avx512f, cast::<_, __m512d>(a), cast::<_, __m512d>(b));
            Some(match unit * size_of::<T>() {
                4 => [
                    cast(avx._mm512_shuffle_ps::<0b10_00_10_00>(cast(a), cast(b))),
                    cast(avx._mm512_shuffle_ps::<0b11_01_11_01>(cast(a), cast(b))),
                ],
                8 => [cast(avx._mm512_unpacklo_pd(a, b)), cast(avx._mm512_unpackhi_pd(a, b))],
                _ => [
                    cast(avx._mm512_shuffle_f64x2::<0b10_00_10_00>(a, b)),
                    cast(avx._mm512_shuffle_f64x2::<0b11_01_11_01>(a, b)),
                ],
            })
        } else if let Some(simd) = simd.downcast_ref::<V3>() {
            let (avx, a, b) = (simd.avx, cast::<_, __m256d>(a), cast::<_, __m256d>(b));
            Some(match unit * size_of::<T>() {
                4 => [
                    cast(avx._mm256_shuffle_ps::<0b10_00_10_00>(cast(a), cast(b))),
                    cast(avx._mm256_shuffle_ps::<0b11_01_11_01>(cast(a), cast(b))),
                ],
                8 => [cast(avx._mm256_unpacklo_pd(a, b)), cast(avx._mm256_unpackhi_pd(a, b))],
                _ => [
                    cast(avx._mm256_permute2f128_pd::<0x20>(a, b)),
                    cast(avx._mm256_permute2f128_pd::<0x31>(a, b)),
                ],
            })
        } else {
            None
        }
    }
}
