//! Matrix products. The only file that names faer's.

use crate::kernel::Real;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// What becomes of what the destination held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    /// It is overwritten, unread: NaN there does not matter.
    Replace,
    /// The product is added to it.
    Add,
}

/// dst = A·B, or dst += A·B, on the caller's thread. Any strides. A product over nothing is 0.
pub(crate) fn product<T: Real>(dst: MatMut<'_, T>, held: Destination, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let accum = match held {
        Destination::Replace => Accum::Replace,
        Destination::Add => Accum::Add,
    };
    matmul(dst, accum, a, b, T::ONE, Par::Seq);
}
