//! Loss and gradient of batches that arrive one after another, or on several machines.

use crate::error::{Error, Operand};
use crate::kernel::Real;
use crate::objective::{Objective, check_output};
use faer::{Mat, MatMut, MatRef};

/// The sums over the batches seen so far: of their losses, of their weights, and of their gradients.
///
/// Everything is a plain sum, so accumulators of parts of the data [`merge`](Self::merge) into that of the whole, and a
/// distributed engine can add up [`as_parts`](Self::as_parts): K·n + 2 numbers an evaluation, however many samples. The
/// order of batches and merges is the order of the sums, and decides the last bits.
///
/// ```
/// use faer::{Mat, mat};
/// use softmax_regression::{Accumulator, Batch, Objective, Reduction, Workspace};
///
/// let theta = mat![[0.1, -0.1, 0.3_f64]];
/// let objective = Objective::default().reduction(Reduction::Mean).l2(0.01);
/// let mut workspace = Workspace::new();
/// let mut accumulator = Accumulator::new(1, 3);
/// for (x, label) in [(1.0, 0_u32), (-2.0, 1), (0.5, 2)] {
///     let x = mat![[x]];
///     let labels = [label];
///     objective.accumulate(&Batch::new(&x, &labels)?, theta.as_ref(), &mut accumulator, &mut workspace)?;
/// }
/// let mut gradient = Mat::zeros(1, 3);
/// let loss = accumulator.finish(&objective, theta.as_ref(), gradient.as_mut())?;
///
/// let x = mat![[1.0], [-2.0], [0.5]];
/// let whole = objective.loss(&Batch::new(&x, &[0_u32, 1, 2])?, theta.as_ref(), &mut workspace)?;
/// assert!((loss - whole).abs() < 1e-15);
/// # Ok::<(), softmax_regression::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Accumulator<T> {
    pub(crate) loss: f64,
    pub(crate) weight: f64,
    pub(crate) gradient: Mat<T>,
}

impl<T: Real> Accumulator<T> {
    /// Of no samples, for a Θ of so many rows (n, or n + 1 with an intercept) and classes.
    pub fn new(rows: usize, classes: usize) -> Self {
        Self { loss: 0.0, weight: 0.0, gradient: Mat::zeros(rows, classes) }
    }

    /// Of no samples again, keeping the memory.
    pub fn clear(&mut self) {
        self.loss = 0.0;
        self.weight = 0.0;
        self.gradient.fill(T::ZERO);
    }

    /// Adds what another has seen: this one's sums first, the other's second.
    ///
    /// # Errors
    /// [`Error::OutputShape`] if the other is for another shape of Θ. Nothing has been added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        check_output(Operand::Accumulator, self.gradient.shape(), other.gradient.shape())?;
        self.loss += other.loss;
        self.weight += other.weight;
        self.gradient += &other.gradient;
        Ok(())
    }

    /// J(Θ), and ∇J(Θ) into `gradient`, of all samples seen: divided if the objective takes the mean, and penalised. Θ must
    /// be the one that the batches were accumulated at.
    ///
    /// # Errors
    /// [`Error::OutputShape`] if `theta` or `gradient` has another shape; [`Error::InvalidParameter`] of the objective;
    /// [`Error::TotalWeight`] if it takes the mean and the weights sum to 0. Nothing has been written then.
    pub fn finish(
        &self,
        objective: &Objective,
        theta: MatRef<'_, T>,
        mut gradient: MatMut<'_, T>,
    ) -> Result<f64, Error> {
        check_output(Operand::Theta, self.gradient.shape(), theta.shape())?;
        check_output(Operand::Gradient, self.gradient.shape(), gradient.shape())?;
        objective.finish(self.loss, self.weight, self.gradient.as_ref(), theta, gradient.as_mut())
    }

    /// The sums: Σᵢ wᵢ·lossᵢ, the total weight that a mean divides by, and the gradient of the first.
    pub fn as_parts(&self) -> (f64, f64, MatRef<'_, T>) {
        (self.loss, self.weight, self.gradient.as_ref())
    }

    /// From such sums.
    pub fn from_parts(loss: f64, weight: f64, gradient: Mat<T>) -> Self {
        Self { loss, weight, gradient }
    }
}
