//! Matrix products: narrow ones on this crate's own kernels, the rest by faer. The only file that names faer's product.

use crate::kernel::{Dot, Outer, Real, SimdLevel};
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

/// dst = A·B, or dst += A·B. Any strides.
pub(crate) struct Product<'a, T> {
    pub(crate) dst: MatMut<'a, T>,
    pub(crate) held: Destination,
    pub(crate) a: MatRef<'a, T>,
    pub(crate) b: MatRef<'a, T>,
    /// What will be read soon in the place of A, or some rows of it: it may be fetched from memory meanwhile.
    pub(crate) next: Option<MatRef<'a, T>>,
}

impl<T: Real> Product<'_, T> {
    /// Carries it out on the caller's thread. A product over nothing is 0.
    ///
    /// Which kernel does it follows from the shape and the strides.
    pub(crate) fn run(self, level: SimdLevel) {
        if Dot::suits(&self) {
            T::run_dot(Dot(self), level);
        } else if Outer::suits(&self) {
            T::run_outer(Outer(self), level);
        } else {
            let accum = match self.held {
                Destination::Replace => Accum::Replace,
                Destination::Add => Accum::Add,
            };
            matmul(self.dst, accum, self.a, self.b, T::ONE, Par::Seq);
        }
    }
}
