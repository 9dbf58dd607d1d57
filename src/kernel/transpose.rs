//! A square of numbers, as many registers as a register has lanes: its rows become its columns.
//!
//! Row i is rotated by i lanes, so that the numbers of a column come to lie in as many different lanes; lane l of every
//! register then moves by l registers, a power of two at a time; and each register is rotated back. Of N rows that is
//! 2·N rotations and N·log₂ N selections, all in registers.

use super::lanes::{Lanes, MAX_LANES, Vector};
use pulp::Simd;

/// Transposes the square of the first registers.
#[inline(always)]
pub(super) fn transpose<T: Lanes, S: Simd>(simd: S, square: &mut [T::Register<S>; MAX_LANES]) {
    let lanes = Vector::<T, S>::COUNT;
    for i in 0..lanes {
        square[i] = T::rotate(simd, square[i], i);
    }
    // Now number t of row i is in lane i + t, where it belongs to register t = lane − i: from −i, up by the lane.
    for i in 1..lanes / 2 {
        square.swap(i, lanes - i);
    }
    let mut by = 1;
    while by < lanes {
        let bit: [T; MAX_LANES] = core::array::from_fn(
            #[inline(always)]
            |lane| if lane & by > 0 { T::ONE } else { T::ZERO },
        );
        let moves = Vector::<T, S>::splat(simd, T::ZERO).less(Vector::load(simd, &bit));
        let old = *square;
        for i in 0..lanes {
            let from = Vector::<T, S>::of(simd, [old[(i + lanes - by) % lanes]]);
            square[i] = from.or_else(moves, Vector::of(simd, [old[i]])).register();
        }
        by *= 2;
    }
    for t in 0..lanes {
        square[t] = T::rotate(simd, square[t], lanes - t);
    }
}
