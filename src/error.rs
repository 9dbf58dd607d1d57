//! What can be wrong with the input. One enum; each variant carries the numbers that offend.

use core::fmt;

/// Why an evaluation was refused. Nothing has been written when one is returned, and the workspace still serves.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The features have another number of samples than the targets or the output beside them.
    SampleCount {
        /// Rows of X.
        features: usize,
        /// What should have had one entry a row.
        operand: Operand,
        /// Its entries.
        found: usize,
    },
    /// Θ has another number of rows than X has columns.
    ThetaShape {
        /// Shape of X, m×n.
        features: (usize, usize),
        /// Shape of Θ, which should be n×K.
        theta: (usize, usize),
    },
    /// An output has another shape than the inputs give it.
    OutputShape {
        /// Which output.
        operand: Operand,
        /// The shape it should have.
        expected: (usize, usize),
        /// The shape it has.
        found: (usize, usize),
    },
    /// Θ or the scores have no columns: K = 0.
    NoClasses,
    /// A label is not in 0..K.
    LabelOutOfRange {
        /// Row of X.
        sample: usize,
        /// Its label.
        label: i128,
        /// K.
        classes: usize,
    },
    /// A sample weight is negative, NaN or infinite.
    InvalidWeight {
        /// Row of X.
        sample: usize,
        /// Its weight.
        weight: f64,
    },
    /// The mean is asked for and the weights sum to 0 (as of no samples), or beyond the largest f64.
    TotalWeight {
        /// Number of samples.
        samples: usize,
        /// Their total weight.
        total: f64,
    },
    /// m·K, or K alone, is more than can be counted.
    TooManyScores {
        /// m.
        samples: usize,
        /// K.
        classes: usize,
    },
    /// The scratch that this evaluation needs cannot be had.
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
}

/// An argument, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operand {
    /// The targets of a batch.
    Targets,
    /// The sample weights of a batch.
    SampleWeights,
    /// ∇J.
    Gradient,
    /// The losses, one a sample.
    Losses,
    /// P.
    Probabilities,
    /// The predicted labels.
    Labels,
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Targets => "targets",
            Self::SampleWeights => "sample weights",
            Self::Gradient => "gradient",
            Self::Losses => "losses",
            Self::Probabilities => "probabilities",
            Self::Labels => "labels",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SampleCount { features, operand, found } => {
                write!(f, "X has {features} rows, but there are {found} {operand}")
            }
            Self::ThetaShape { features: (m, n), theta: (rows, k) } => {
                write!(f, "X is {m}×{n}, so Θ must have {n} rows; it is {rows}×{k}")
            }
            Self::OutputShape { operand, expected: (er, ec), found: (fr, fc) } => {
                write!(f, "the {operand} must be {er}×{ec}, but the output is {fr}×{fc}")
            }
            Self::NoClasses => f.write_str("there are no classes: K = 0"),
            Self::LabelOutOfRange { sample, label, classes } => {
                write!(f, "sample {sample} has label {label}, which is not in 0..{classes}")
            }
            Self::InvalidWeight { sample, weight } => {
                write!(f, "sample {sample} has weight {weight}; weights must be finite and not negative")
            }
            Self::TotalWeight { samples, total } => {
                write!(f, "the mean over {samples} samples of total weight {total} is not defined")
            }
            Self::TooManyScores { samples, classes } => {
                write!(f, "{samples} samples × {classes} classes are more scores than can be counted")
            }
            Self::OutOfMemory { bytes } => write!(f, "{bytes} bytes of scratch cannot be had"),
        }
    }
}

impl core::error::Error for Error {}
