//! Matrices of other crates, viewed without copying (features `ndarray` and `nalgebra`).
//!
//! [`Features`] and [`Targets`] are made from their views. Θ and the gradient are faer's views: [`IntoFaer`] turns another
//! crate's view into one, of the same strides.

pub use faer_ext::IntoFaer;

use crate::batch::{Features, Targets};
use crate::kernel::Real;

/// Views of two dimensions.
#[cfg(feature = "ndarray")]
mod of_ndarray {
    use super::{Features, IntoFaer, Real, Targets};
    use crate::error::{Error, Operand};
    use ndarray::{Array1, ArrayBase, ArrayView1, ArrayView2, Data, Ix2};

    impl<'a, T> From<ArrayView2<'a, T>> for Features<'a, T> {
        fn from(x: ArrayView2<'a, T>) -> Self {
            x.into_faer().into()
        }
    }

    impl<'a, T, S: Data<Elem = T>> From<&'a ArrayBase<S, Ix2>> for Features<'a, T> {
        fn from(x: &'a ArrayBase<S, Ix2>) -> Self {
            x.view().into()
        }
    }

    impl<'a, T: Real> From<ArrayView2<'a, T>> for Targets<'a, T> {
        fn from(targets: ArrayView2<'a, T>) -> Self {
            targets.into_faer().into()
        }
    }

    impl<'a, T: Real, S: Data<Elem = T>> From<&'a ArrayBase<S, Ix2>> for Targets<'a, T> {
        fn from(targets: &'a ArrayBase<S, Ix2>) -> Self {
            targets.view().into()
        }
    }

    macro_rules! labels {
        ($($label:ty),*) => {$(
            /// # Errors
            /// [`Error::NotContiguous`]: labels are read as a slice.
            impl<'a, T> TryFrom<ArrayView1<'a, $label>> for Targets<'a, T> {
                type Error = Error;

                fn try_from(labels: ArrayView1<'a, $label>) -> Result<Self, Error> {
                    let (len, stride) = (labels.len(), labels.strides()[0]);
                    let slice = labels.to_slice();
                    let error = Error::NotContiguous { operand: Operand::Targets, len, stride };
                    slice.map(Self::from).ok_or(error)
                }
            }

            /// # Errors
            /// [`Error::NotContiguous`]: labels are read as a slice.
            impl<'a, T> TryFrom<&'a Array1<$label>> for Targets<'a, T> {
                type Error = Error;

                fn try_from(labels: &'a Array1<$label>) -> Result<Self, Error> {
                    labels.view().try_into()
                }
            }
        )*};
    }

    labels!(u8, u16, u32, u64, usize, i32, i64);
}

/// Views and matrices of every storage, and vectors of labels.
#[cfg(feature = "nalgebra")]
mod of_nalgebra {
    use super::{Features, IntoFaer, Real, Targets};
    use faer::MatRef;
    use nalgebra::{DVector, Dim, Matrix, MatrixView, RawStorage};

    fn view<T, R: Dim, C: Dim, S: RawStorage<T, R, C>>(matrix: &Matrix<T, R, C, S>) -> MatRef<'_, T> {
        matrix.generic_view((0, 0), matrix.shape_generic()).into_faer()
    }

    impl<'a, T, R: Dim, C: Dim, A: Dim, B: Dim> From<MatrixView<'a, T, R, C, A, B>> for Features<'a, T> {
        fn from(x: MatrixView<'a, T, R, C, A, B>) -> Self {
            x.into_faer().into()
        }
    }

    impl<'a, T, R: Dim, C: Dim, S: RawStorage<T, R, C>> From<&'a Matrix<T, R, C, S>> for Features<'a, T> {
        fn from(x: &'a Matrix<T, R, C, S>) -> Self {
            view(x).into()
        }
    }

    impl<'a, T: Real, R: Dim, C: Dim, A: Dim, B: Dim> From<MatrixView<'a, T, R, C, A, B>> for Targets<'a, T> {
        fn from(targets: MatrixView<'a, T, R, C, A, B>) -> Self {
            targets.into_faer().into()
        }
    }

    impl<'a, T: Real, R: Dim, C: Dim, S: RawStorage<T, R, C>> From<&'a Matrix<T, R, C, S>> for Targets<'a, T> {
        fn from(targets: &'a Matrix<T, R, C, S>) -> Self {
            view(targets).into()
        }
    }

    macro_rules! labels {
        ($($label:ty),*) => {$(
            impl<'a, T> From<&'a DVector<$label>> for Targets<'a, T> {
                fn from(labels: &'a DVector<$label>) -> Self {
                    labels.as_slice().into()
                }
            }
        )*};
    }

    labels!(u8, u16, u32, u64, usize, i32, i64);
}
