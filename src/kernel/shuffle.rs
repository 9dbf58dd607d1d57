//! Numbers moved from register to register: parts joined to registers, and squares of numbers turned, rows to columns.

use super::lanes::{Lanes, MAX_LANES};
use super::vector::Vector;
use pulp::Simd;

/// Bytes of a block: numbers moved within as many cost a processor least.
pub(super) const BLOCK_BYTES: usize = 16;

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

    /// Of as many rows as there are lanes, as [`by_blocks`] has them, the `at`-th block: its columns.
    #[inline(always)]
    pub(super) fn turned<const BLOCK: usize, const PARTS: usize>(
        simd: S,
        rows: [[&[[T; BLOCK]]; PARTS]; BLOCK],
        at: usize,
    ) -> [Self; BLOCK] {
        turned_blocks(core::array::from_fn(
            #[inline(always)]
            |i| Self::join(simd, rows[i], at),
        ))
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

/// Of as many registers as a block has numbers: each block of them all, a square of numbers, turned.
#[inline(always)]
pub(super) fn turned_blocks<T: Lanes, S: Simd, const BLOCK: usize>(
    mut square: [Vector<T, S>; BLOCK],
) -> [Vector<T, S>; BLOCK] {
    if BLOCK == 4 {
        let [a, b] = square[0].units(square[1], 4, 2);
        let [c, d] = square[2].units(square[3], 4, 2);
        [square[0], square[1]] = a.units(c, 4, 1);
        [square[2], square[3]] = b.units(d, 4, 1);
    } else {
        [square[0], square[1]] = square[0].units(square[1], 2, 1);
    }
    square
}

/// Of as many rows as a register has lanes: those that belong to the same lane of each block of a register, and these by the
/// number of the lane.
#[inline(always)]
pub(super) fn by_blocks<A, const BLOCK: usize, const PARTS: usize>(
    of: impl Fn(usize) -> A,
) -> [[A; PARTS]; BLOCK] {
    core::array::from_fn(
        #[inline(always)]
        |i| {
            core::array::from_fn(
                #[inline(always)]
                |part| of(part * BLOCK + i),
            )
        },
    )
}

/// The instructions for [`Vector::units`]. Of lanes taken one by one the compiler makes several shuffles for one, here and there a
/// dozen.
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
