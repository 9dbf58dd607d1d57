//! The instruction sets, and the choice between them.

use super::Real;
use super::copy::MatrixCopy;
use super::curvature::Curvature;
use super::exp::ExpOf;
use super::largest::LargestClass;
use super::log::LogOf;
use super::map::map;
use super::reduce::{Bounds, has_nan, max_ignoring_nan};
use super::registers::{AskRegisters, Registers};
use super::residual::Residual;
use super::scaled::ScaledSamples;
use super::softmax;
use super::sparse::{SparseGradient, SparseScores};
use super::sum::{AddUp, ColumnSums, SumOfSquares};
use super::tanh::Tangent;
use super::thin::{Dot, Multiples, Outer};
use super::transform::{Multiply, Transform};
use super::wide::Wide;
#[cfg(feature = "half")]
use super::widen::Widen;
use crate::{Error, Targets};
use core::fmt;
use faer::{MatMut, MatRef};
use pulp::{Arch, Simd, WithSimd};

/// An instruction set that this crate's kernels can run on.
///
/// [`best`](Self::best) is what everything uses unless told otherwise. A lower level gives the bits that a lesser
/// processor would give; tests and fuzzing go through [`available`](Self::available). It concerns the kernels of this
/// crate alone: faer's matrix product chooses for itself.
///
/// ```
/// use softmax_regression::kernel::SimdLevel;
/// for level in SimdLevel::available() {
///     let mut x = [0.0_f64, 1.0];
///     level.exp(&mut x);
///     assert_eq!(x[0], 1.0);
/// }
/// ```
#[derive(Clone, Copy)]
pub struct SimdLevel(Kind);

/// Numbers so few that a call takes longer the wider the registers are.
const FEW: usize = 4;

#[derive(Clone, Copy)]
enum Kind {
    Native(Arch),
    #[cfg(feature = "emulated")]
    Emulated,
}

impl SimdLevel {
    /// No SIMD: one lane, any processor.
    pub const SCALAR: Self = Self(Kind::Native(Arch::Scalar));

    /// 512-bit registers made of scalars: the lanes and the tiles of AVX-512 on any processor. For tests.
    #[cfg(feature = "emulated")]
    pub const EMULATED: Self = Self(Kind::Emulated);

    /// The best level of this processor.
    #[inline]
    pub fn best() -> Self {
        Self(Kind::Native(Arch::new()))
    }

    /// Every level of this processor, from the least to the best.
    pub fn available() -> impl Iterator<Item = Self> {
        let levels = [
            Some(Self::SCALAR),
            #[cfg(feature = "emulated")]
            Some(Self::EMULATED),
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V3::try_new().map(|simd| Self(Kind::Native(Arch::V3(simd)))),
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V4::try_new().map(|simd| Self(Kind::Native(Arch::V4(simd)))),
            #[cfg(not(target_arch = "x86_64"))]
            Some(Self::best()),
        ];
        levels.into_iter().flatten()
    }

    /// One that gives the same bits of a row of a few, in narrower registers if there are any.
    fn narrow(self) -> Self {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Native(Arch::V4(simd)) => Self(Kind::Native(Arch::V3(*simd))),
            _ => self,
        }
    }

    /// What its registers are like.
    pub(crate) fn registers(self) -> Registers {
        self.dispatch(AskRegisters)
    }

    /// The smallest and the largest of some labels, if there are any.
    pub(crate) fn bounds<L: Ord + Copy>(self, labels: &[L]) -> Option<(L, L)> {
        self.dispatch(Bounds(labels))
    }

    /// Runs a kernel, compiled for this level. Of those on numbers, only [`Kernels`] calls it.
    #[inline(always)]
    fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self.0 {
            Kind::Native(arch) => arch.dispatch(op),
            #[cfg(feature = "emulated")]
            Kind::Emulated => op.with_simd(pulp::Scalar512b),
        }
    }

    /// [`kernel::max`](super::max) at this level.
    pub fn max<T: Real>(self, x: &[T]) -> T {
        T::run_max(Max(x), self)
    }

    /// [`kernel::exp`](super::exp()) at this level.
    pub fn exp<T: Real>(self, x: &mut [T]) {
        T::run_exp(Exp(x), self);
    }

    /// [`kernel::log`](super::log()) at this level.
    pub fn log<T: Real>(self, x: &mut [T]) {
        T::run_log(Log(x), self);
    }

    /// [`kernel::log_sum_exp`](super::log_sum_exp) at this level.
    pub fn log_sum_exp<T: Real>(self, x: &[T]) -> T {
        T::run_log_sum_exp(LogSumExp(x), self)
    }

    /// [`kernel::softmax`](super::softmax()) at this level.
    pub fn softmax<T: Real>(self, x: &mut [T]) {
        let level = if x.len() <= FEW { self.narrow() } else { self };
        T::run_softmax(Softmax(x), level);
    }

    /// [`kernel::log_softmax`](super::log_softmax) at this level.
    pub fn log_softmax<T: Real>(self, x: &mut [T]) {
        T::run_log_softmax(LogSoftmax(x), self);
    }

    /// [`kernel::softmax_residual`](super::softmax_residual) at this level.
    ///
    /// # Errors
    /// As there.
    pub fn softmax_residual<'t, T: Real>(
        self,
        scores: MatMut<'_, T>,
        targets: impl Into<Targets<'t, T>>,
    ) -> Result<f64, Error> {
        crate::block::residual_of_scores(scores, targets.into(), self)
    }

    /// [`kernel::sample_losses`](super::sample_losses) at this level.
    ///
    /// # Errors
    /// As there.
    pub fn sample_losses<'t, T: Real>(
        self,
        scores: MatRef<'_, T>,
        targets: impl Into<Targets<'t, T>>,
        losses: &mut [T],
        log_sum_exp: &mut [T],
    ) -> Result<f64, Error> {
        crate::block::losses_of_scores(scores, targets.into(), losses, log_sum_exp, self)
    }
}

impl fmt::Debug for SimdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Native(Arch::Scalar) => f.write_str("Scalar"),
            #[cfg(target_arch = "x86_64")]
            Kind::Native(Arch::V3(_)) => f.write_str("V3"),
            #[cfg(target_arch = "x86_64")]
            Kind::Native(Arch::V4(_)) => f.write_str("V4"),
            #[allow(unreachable_patterns, reason = "which levels there are depends on the target")]
            Kind::Native(arch) => arch.fmt(f),
            #[cfg(feature = "emulated")]
            Kind::Emulated => f.write_str("Emulated"),
        }
    }
}

/// Declares [`Kernels`] and implements it for both number types.
macro_rules! kernels {
    ($($(#[$condition:meta])? $function:ident($kernel:ident) -> $output:ty),* $(,)?) => {
        /// The kernels, as functions of a number type: not generic ones, so that they are compiled once, with this crate,
        /// and not with every crate that calls them. (Their names begin with `run`, so as not to meet those of other traits
        /// where a number type is generic.)
        #[allow(private_interfaces, reason = "the trait cannot be named outside this crate")]
        pub trait Kernels: Tangent {
            $(
                $(#[$condition])?
                #[doc(hidden)]
                fn $function(kernel: $kernel<'_, Self>, level: SimdLevel) -> $output;
            )*
        }
        kernels!(@impl f32, $($(#[$condition])? $function($kernel) -> $output),*);
        kernels!(@impl f64, $($(#[$condition])? $function($kernel) -> $output),*);
    };
    (@impl $t:ty, $($(#[$condition:meta])? $function:ident($kernel:ident) -> $output:ty),*) => {
        impl Kernels for $t {
            $(
                $(#[$condition])?
                #[allow(private_interfaces, reason = "as above")]
                fn $function(mut kernel: $kernel<'_, Self>, level: SimdLevel) -> $output {
                    // Where it lies: it can be some hundred bytes, and would be copied for each call on the way.
                    level.dispatch(&mut kernel)
                }
            )*
        }
    };
}

kernels!(
    run_max(Max) -> Self,
    run_exp(Exp) -> (),
    run_log(Log) -> (),
    run_log_sum_exp(LogSumExp) -> Self,
    run_softmax(Softmax) -> (),
    run_log_softmax(LogSoftmax) -> (),
    run_residual(Residual) -> f64,
    run_largest_class(LargestClass) -> (),
    run_curvature(Curvature) -> (),
    run_transform(Transform) -> (),
    run_multiply(Multiply) -> (),
    run_column_sums(ColumnSums) -> (),
    run_add_up(AddUp) -> (),
    run_sum_of_squares(SumOfSquares) -> f64,
    run_dot(Dot) -> (),
    run_outer(Outer) -> (),
    run_multiples(Multiples) -> (),
    run_wide(Wide) -> (),
    run_copy(MatrixCopy) -> (),
    run_scaled_samples(ScaledSamples) -> (),
    run_sparse_scores(SparseScores) -> (),
    run_sparse_gradient(SparseGradient) -> (),
    #[cfg(feature = "half")]
    run_widen(Widen) -> (),
);

/// A kernel on a slice as an operation that pulp can dispatch.
macro_rules! operation {
    ($name:ident(&$($mutability:ident)? [T]) -> $output:ty, |$simd:ident, $x:ident| $body:expr) => {
        pub struct $name<'a, T>(&'a $($mutability)? [T]);
        impl<T: Tangent> WithSimd for &mut $name<'_, T> {
            type Output = $output;
            #[inline(always)]
            fn with_simd<S: Simd>(self, $simd: S) -> $output {
                let $x = &$($mutability)? *self.0;
                $body
            }
        }
    };
}

operation!(Max(&[T]) -> T, |simd, x| if has_nan(simd, x) { T::NAN } else { max_ignoring_nan(simd, x) });
operation!(Exp(&mut [T]) -> (), |simd, x| map(simd, x, ExpOf));
operation!(Log(&mut [T]) -> (), |simd, x| map(simd, x, LogOf));
operation!(LogSumExp(&[T]) -> T, |simd, x| softmax::log_sum_exp(simd, x));
operation!(Softmax(&mut [T]) -> (), |simd, x| softmax::softmax(simd, x));
operation!(LogSoftmax(&mut [T]) -> (), |simd, x| softmax::log_softmax(simd, x));

#[cfg(test)]
mod tests {
    use super::{FEW, SimdLevel, Softmax};
    use crate::kernel::Real;

    fn few<T: Real>() {
        let numbers = [0.0, -1.5, 3.0, -90.0, -104.5, 1e30, f64::NEG_INFINITY, f64::INFINITY, f64::NAN];
        for level in SimdLevel::available() {
            for len in 0..=FEW {
                for rows in 0..numbers.len().pow(len as u32) {
                    let digit = |i: usize| rows / numbers.len().pow(i as u32) % numbers.len();
                    let row: Vec<T> = (0..len).map(|i| T::from_f64(numbers[digit(i)])).collect();
                    let [wide, narrow] = [level, level.narrow()].map(|level| {
                        let mut row = row.clone();
                        T::run_softmax(Softmax(&mut row), level);
                        row.iter().map(|p| p.to_f64().to_bits()).collect::<Vec<_>>()
                    });
                    assert_eq!(wide, narrow, "{row:?}");
                }
            }
        }
    }

    #[test]
    fn a_few_numbers_need_no_wide_registers() {
        few::<f32>();
        few::<f64>();
    }
}
