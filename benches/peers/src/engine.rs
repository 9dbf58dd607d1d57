//! What a worker measures.

use crate::problem::Request;
use std::error::Error;
use std::time::Duration;

/// Reads a problem and holds it as the engine likes it best.
pub(crate) type Prepare = fn(&Request) -> Result<Box<dyn Engine>, Box<dyn Error>>;

/// Evaluates one problem, over and over.
pub(crate) trait Engine {
    /// Computes loss and gradient; returns how long that took.
    fn evaluate(&mut self) -> Result<Duration, Box<dyn Error>>;

    /// Loss, and gradient n×K row-major. An engine that does not show its loss gives NaN for it, and then the gradient
    /// only up to a factor.
    fn result(&mut self) -> Result<(f64, Vec<f64>), Box<dyn Error>>;
}
