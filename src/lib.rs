//! Loss and gradient of softmax regression (multinomial logistic regression; the linear + cross-entropy last layer of a
//! network), fused, blocked and vectorised, for `f32` and `f64`.
//!
//! With m samples x_i (rows of X, m×n), labels y_i in 0..K and Θ (n×K):
//!
//! ```text
//! P = softmax(XΘ)      J(Θ) = −Σᵢ log P_i,yᵢ      ∇J(Θ) = Xᵀ(P − 1{y = k})
//! ```
//!
//! ```
//! use faer::{Mat, mat};
//! use softmax_regression::{Batch, Objective, Workspace};
//!
//! let x = mat![[1.0, 0.5], [-0.3, 2.0], [0.7, -1.0_f64]];
//! let batch = Batch::new(&x, &[0_u32, 1, 2])?;
//! let theta = Mat::<f64>::zeros(2, 3);
//! let mut gradient = Mat::<f64>::zeros(2, 3);
//! let mut workspace = Workspace::new();
//!
//! let loss = Objective::default()
//!     .loss_and_gradient(&batch, theta.as_ref(), gradient.as_mut(), &mut workspace)?;
//! assert!((loss - 3.0 * 3_f64.ln()).abs() < 1e-14);
//! # Ok::<(), softmax_regression::Error>(())
//! ```
//!
//! # What is guaranteed
//!
//! - **Relative accuracy, confident samples included.** The residual at the label is −Σ_{j≠y} e_j / S, never p_y − 1;
//!   the loss is (max − z_y) + log1p(…), never −log p. For scores \[40, 0, 0\] and label 0 the loss is 8.5e-18, not 0.
//!   Given exact scores, the residual of class j and the loss of a sample err by at most (8 + max z − z_j)·ε relatively
//!   (for the loss and the residual at the label: of the score that decides it), for K up to 1,024, down to the smallest
//!   normal number.
//! - **Same bits** for any number of threads, on the same instruction set.
//! - **exp and log** err by at most 1 ulp, at every SIMD level; underflow is gradual.
//! - **No overflow** for any finite scores.
//! - **Special values** are defined: a sample with a NaN score has a NaN loss and residual and disturbs no other
//!   residual; a score of −∞ has residual 0, and at the label the loss +∞; a sample of weight 0 counts for nothing, even
//!   if its features are NaN.
//! - **Bad input** is an [`Error`] that carries the numbers that offend, before anything is written. No panic.
//! - **No allocation** in a call whose [`Workspace`] has served a problem as large before.
//! - **No `unsafe`** in this crate.
//!
//! # Features
//!
//! None is on by default; without any, the crate depends on faer, pulp and rayon alone.
//!
//! - `ndarray`, `nalgebra`: [`Features`] and [`Targets`] from their views; `IntoFaer` for Θ and the gradient.
//! - `argmin`: `solver::Problem`, the loss as argmin's solvers take it.
//! - `fit`: `SoftmaxRegression::fit`, a ready estimator.
//! - `linfa`: `estimator::Estimator`, the same behind linfa's traits.
//! - `half`: features of `f16` and `bf16`.
//! - `emulated`: 512-bit registers made of scalars, for tests.
//!
//! The documentation built with all of them has a `guide`: on numerics, on performance, and on how code for scikit-learn,
//! PyTorch and linfa is written here.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod accumulator;
mod batch;
mod block;
mod error;
#[cfg(feature = "linfa")]
pub mod estimator;
#[cfg(feature = "fit")]
mod fit;
mod gemm;
// Its examples are of every feature.
#[cfg(all(any(doc, doctest), feature = "linfa", feature = "nalgebra", feature = "ndarray"))]
pub mod guide;
pub mod kernel;
mod objective;
mod options;
pub mod reference;
mod schedule;
#[cfg(feature = "argmin")]
pub mod solver;
#[cfg(any(feature = "ndarray", feature = "nalgebra"))]
mod views;
mod workspace;

pub use accumulator::Accumulator;
pub use batch::{Batch, Features, Targets};
pub use error::{Error, Operand, Parameter};
#[cfg(feature = "fit")]
pub use fit::{FitError, FitOptions, Report, SoftmaxRegression, Step, Stop};
pub use kernel::Real;
pub use objective::{Objective, Reduction, loss_and_gradient};
pub use schedule::Parallelism;
#[cfg(any(feature = "ndarray", feature = "nalgebra"))]
pub use views::IntoFaer;
pub use workspace::Workspace;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
