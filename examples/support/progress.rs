//! A bar for a descent.

use indicatif::{ProgressBar, ProgressStyle};

/// Nobody knows how many steps there will be. But the norm of the gradient falls geometrically, more or less, so the orders
/// of magnitude behind us measure the way to the tolerance.
pub(crate) struct Progress {
    bar: ProgressBar,
    tolerance: f64,
    first_norm: Option<f64>,
}

impl Progress {
    pub(crate) fn new(tolerance: f64) -> Self {
        let style = ProgressStyle::with_template("[{bar:40}] {elapsed} {msg}").expect("a constant template");
        let bar = ProgressBar::new(1000).with_style(style.progress_chars("=> "));
        Self { bar, tolerance, first_norm: None }
    }

    pub(crate) fn show(&mut self, step: u64, loss: f64, norm: f64) {
        let first = *self.first_norm.get_or_insert(norm);
        let done = (first / norm).ln() / (first / self.tolerance).ln();
        self.bar.set_position((1000.0 * done.clamp(0.0, 1.0)) as u64);
        self.bar.set_message(format!("step {step:3}  J {loss:.6}  |gradient| {norm:.1e}"));
    }

    pub(crate) fn end(&self) {
        self.bar.abandon();
    }
}
