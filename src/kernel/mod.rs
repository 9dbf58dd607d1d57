//! The SIMD kernels, one operation a file, and the instruction sets they run on. The only place that names pulp.
//!
//! The functions here work on slices, for those who build a head of their own; [`Objective`](crate::Objective) uses
//! the same code on blocks of scores. Each runs at the best level the processor has, found once; the methods of
//! [`SimdLevel`] run it at a level of your choice.

mod ahead;
mod copy;
mod curvature;
mod exp;
mod lanes;
mod largest;
mod level;
mod lines;
mod log;
mod map;
mod reduce;
mod registers;
mod residual;
mod scaled;
mod scores;
mod shuffle;
mod softmax;
mod sparse;
mod sum;
mod tanh;
mod thin;
mod transform;
mod vector;
mod wide;
#[cfg(feature = "half")]
mod widen;

pub use level::SimdLevel;

pub(crate) use ahead::{PAGE, Span};
pub(crate) use copy::MatrixCopy;
pub(crate) use curvature::{Bend, Curvature, Curve};
pub(crate) use lanes::MAX_LANES;
pub(crate) use largest::LargestClass;
pub(crate) use residual::{NO_LABEL, PER_SAMPLE, PerSample, Residual, Target, Want, silent};
pub(crate) use scaled::ScaledSamples;
pub(crate) use scores::{Layout, Scores};
pub(crate) use sparse::{Sparse, SparseGradient, SparseScores};
pub(crate) use sum::{AddUp, ColumnSums, SUMS, SumOfSquares, add_in_turns, sum_of};
pub(crate) use thin::{DEEP, FEW_SAMPLES, HALF_REGISTER, OUTER_ROWS, THIN, Thin, filled};
pub(crate) use transform::{Multiply, SoftCap, Transform};
pub(crate) use wide::Wide;
#[cfg(feature = "half")]
pub(crate) use widen::{Narrow, Widen};

use crate::{Error, Targets};
use faer::{MatMut, MatRef};

/// The number types of this crate: `f32` and `f64`. Sealed.
pub trait Real: level::Kernels + faer::traits::RealField + Copy {}

impl Real for f32 {}
impl Real for f64 {}

/// The largest element: NaN if any element is NaN, −∞ for an empty slice.
pub fn max<T: Real>(x: &[T]) -> T {
    SimdLevel::best().max(x)
}

/// xᵢ becomes exp(xᵢ). Error ≤ 1 ulp; exp(−∞) = 0, exp(+∞) = +∞, NaN stays NaN, subnormal results are kept.
pub fn exp<T: Real>(x: &mut [T]) {
    SimdLevel::best().exp(x);
}

/// xᵢ becomes its natural logarithm. Error ≤ 1 ulp; log(±0) = −∞, log(+∞) = +∞, NaN for NaN and below 0.
pub fn log<T: Real>(x: &mut [T]) {
    SimdLevel::best().log(x);
}

/// log Σᵢ exp(xᵢ), which cannot overflow: −∞ for an empty slice and one of −∞ alone, +∞ if an element is +∞, NaN if
/// one is NaN.
pub fn log_sum_exp<T: Real>(x: &[T]) -> T {
    SimdLevel::best().log_sum_exp(x)
}

/// xᵢ becomes exp(xᵢ) / Σⱼ exp(xⱼ). All NaN if an element is NaN or +∞, or all are −∞.
pub fn softmax<T: Real>(x: &mut [T]) {
    SimdLevel::best().softmax(x);
}

/// xᵢ becomes log(exp(xᵢ) / Σⱼ exp(xⱼ)), relatively accurate near 0 too. All NaN if an element is NaN or +∞, or all
/// are −∞.
pub fn log_softmax<T: Real>(x: &mut [T]) {
    SimdLevel::best().log_softmax(x);
}

/// The residual P − 1{y = k} in place of scores Z already computed (m×K, any strides), and the sum of the losses
/// −Σᵢ log P_i,yᵢ.
///
/// This is the middle of [`Objective::loss_and_gradient`](crate::Objective::loss_and_gradient), for those whose scores
/// come from elsewhere; the accuracy and the special values are the same. With labels, column-major scores, and rows of 768 bytes
/// and more, are worked on where they are; the last samples of column-major ones, which fill no registers, and others, such as
/// columns that have one place in a cache, block by block in a copy.
///
/// # Errors
/// [`Error::SampleCount`] if `targets` and `scores` differ in m, [`Error::NoClasses`] if K = 0,
/// [`Error::LabelOutOfRange`], the errors of soft targets, and [`Error::TooManyScores`] or [`Error::OutOfMemory`] if the shapes are beyond this
/// machine. Nothing is written then.
///
/// ```
/// use faer::mat;
/// let mut scores = mat![[40.0, 0.0, 0.0], [0.0, 0.0, 0.0_f64]];
/// let loss = softmax_regression::kernel::softmax_residual(scores.as_mut(), &[0_u32, 2][..])?;
/// assert!((loss - 3_f64.ln()).abs() < 1e-15);
/// // Not 0, which P − 1 would give.
/// assert!((scores[(0, 0)] / -8.496708e-18 - 1.0).abs() < 1e-6);
/// # Ok::<(), softmax_regression::Error>(())
/// ```
pub fn softmax_residual<'t, T: Real>(
    scores: MatMut<'_, T>,
    targets: impl Into<Targets<'t, T>>,
) -> Result<f64, Error> {
    SimdLevel::best().softmax_residual(scores, targets)
}

/// The losses −log P_i,yᵢ of scores Z already computed (m×K, any strides) and the log-sum-exp of each row of them, for
/// those who build a head of their own. Returns the sum of the losses. NaN is the log-sum-exp where all scores are −∞.
///
/// # Errors
/// Those of [`softmax_residual`], and [`Error::SampleCount`] if an output does not have m elements. Nothing is written
/// then.
///
/// ```
/// use faer::mat;
/// let scores = mat![[1.0, 2.0], [0.0, 0.0_f64]];
/// let (mut losses, mut log_sum_exp) = ([0.0; 2], [0.0; 2]);
/// softmax_regression::kernel::sample_losses(scores.as_ref(), &[1_u8, 0], &mut losses, &mut log_sum_exp)?;
/// assert!((log_sum_exp[0] - (1_f64.exp() + 2_f64.exp()).ln()).abs() < 1e-15);
/// assert!((losses[0] - (log_sum_exp[0] - 2.0)).abs() < 1e-15);
/// assert!((losses[1] - 2_f64.ln()).abs() < 1e-15);
/// # Ok::<(), softmax_regression::Error>(())
/// ```
pub fn sample_losses<'t, T: Real>(
    scores: MatRef<'_, T>,
    targets: impl Into<Targets<'t, T>>,
    losses: &mut [T],
    log_sum_exp: &mut [T],
) -> Result<f64, Error> {
    SimdLevel::best().sample_losses(scores, targets, losses, log_sum_exp)
}
