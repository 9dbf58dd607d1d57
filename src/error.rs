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
    /// Θ has another number of rows than X has columns, and one for the intercept if there is one.
    ThetaShape {
        /// Shape of X, m×n.
        features: (usize, usize),
        /// Rows that Θ should have: n, or n + 1.
        expected: usize,
        /// Shape of Θ.
        theta: (usize, usize),
    },
    /// The soft targets have another shape than the scores.
    TargetShape {
        /// m×K.
        expected: (usize, usize),
        /// The shape they have.
        found: (usize, usize),
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
    /// A soft target is negative, NaN or infinite.
    InvalidTarget {
        /// Row of X.
        sample: usize,
        /// Column of the targets.
        class: usize,
        /// What is there.
        value: f64,
    },
    /// The soft targets of a sample do not sum to 1.
    TargetSum {
        /// Row of X.
        sample: usize,
        /// Their sum.
        sum: f64,
    },
    /// There is not one class weight a class.
    ClassWeightCount {
        /// K.
        classes: usize,
        /// Number of class weights.
        found: usize,
    },
    /// A class weight is negative, NaN or infinite.
    InvalidClassWeight {
        /// The class.
        class: usize,
        /// Its weight.
        weight: f64,
    },
    /// An option of the objective has a value outside its range.
    InvalidParameter {
        /// Which option.
        parameter: Parameter,
        /// Its value.
        value: f64,
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
        /// Number of samples; 0 from [`Accumulator::finish`](crate::Accumulator::finish), which does not know it.
        samples: usize,
        /// Their total weight.
        total: f64,
    },
    /// Numbers that are read as a slice are not neighbours.
    NotContiguous {
        /// Whose numbers.
        operand: Operand,
        /// How many there are.
        len: usize,
        /// How far one is from the next.
        stride: isize,
    },
    /// A flat vector of parameters has another length than Θ has numbers.
    ParameterCount {
        /// Numbers of Θ.
        expected: usize,
        /// Those of the vector.
        found: usize,
    },
    /// A derivative that a solver needs is NaN or infinite.
    NotFinite {
        /// Which number of it, columns of Θ one after the other.
        at: usize,
        /// What is there.
        value: f64,
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

/// An option of an [`Objective`](crate::Objective), as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parameter {
    /// λ of the penalty: finite, at least 0.
    L2,
    /// In \[0, 1\].
    LabelSmoothing,
    /// Finite, above 0.
    Temperature,
    /// Finite, above 0.
    SoftCap,
    /// Finite, at least 0.
    ZLoss,
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2 must be finite and not negative",
            Self::LabelSmoothing => "label_smoothing must be in [0, 1]",
            Self::Temperature => "temperature must be finite and above 0",
            Self::SoftCap => "soft_cap must be finite and above 0",
            Self::ZLoss => "z_loss must be finite and not negative",
        })
    }
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
    /// ∂J/∂X.
    InputGradient,
    /// The direction that the Hessian is multiplied by.
    Direction,
    /// The product of the Hessian with a direction.
    HessianProduct,
    /// The diagonal of the Hessian.
    HessianDiagonal,
    /// The Hessian.
    Hessian,
    /// Θ.
    Theta,
    /// What has been accumulated.
    Accumulator,
    /// The losses, one a sample.
    Losses,
    /// The log-sum-exp of the scores, one a sample.
    LogSumExp,
    /// The most probable classes.
    TopClasses,
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
            Self::InputGradient => "input gradient",
            Self::Direction => "direction",
            Self::HessianProduct => "Hessian product",
            Self::HessianDiagonal => "diagonal of the Hessian",
            Self::Hessian => "Hessian",
            Self::Theta => "Θ",
            Self::Accumulator => "accumulator",
            Self::Losses => "losses",
            Self::LogSumExp => "log-sum-exps",
            Self::TopClasses => "most probable classes",
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
            Self::ThetaShape { features: (m, n), expected, theta: (rows, k) } => {
                write!(f, "X is {m}×{n}, so Θ must have {expected} rows; it is {rows}×{k}")
            }
            Self::TargetShape { expected: (er, ec), found: (fr, fc) } => {
                write!(f, "the scores are {er}×{ec}, but the soft targets are {fr}×{fc}")
            }
            Self::OutputShape { operand, expected: (er, ec), found: (fr, fc) } => {
                write!(f, "the {operand} must be {er}×{ec}, but is {fr}×{fc}")
            }
            Self::NoClasses => f.write_str("there are no classes: K = 0"),
            Self::LabelOutOfRange { sample, label, classes } => {
                write!(f, "sample {sample} has label {label}, which is not in 0..{classes}")
            }
            Self::InvalidTarget { sample, class, value } => {
                write!(
                    f,
                    "sample {sample} has target {value} for class {class}; it must be finite and not negative"
                )
            }
            Self::TargetSum { sample, sum } => {
                write!(f, "the targets of sample {sample} sum to {sum}, not to 1")
            }
            Self::ClassWeightCount { classes, found } => {
                write!(f, "there are {classes} classes, but {found} class weights")
            }
            Self::InvalidClassWeight { class, weight } => {
                write!(f, "class {class} has weight {weight}; weights must be finite and not negative")
            }
            Self::InvalidParameter { parameter, value } => write!(f, "{parameter}, but is {value}"),
            Self::InvalidWeight { sample, weight } => {
                write!(f, "sample {sample} has weight {weight}; weights must be finite and not negative")
            }
            Self::TotalWeight { samples, total } => {
                write!(f, "the mean over {samples} samples of total weight {total} is not defined")
            }
            Self::NotContiguous { operand, len, stride } => {
                write!(f, "the {len} numbers of {operand} have stride {stride}; they must be neighbours")
            }
            Self::ParameterCount { expected, found } => {
                write!(f, "Θ has {expected} numbers, but the vector of parameters has {found}")
            }
            Self::NotFinite { at, value } => write!(f, "number {at} of a derivative is {value}"),
            Self::TooManyScores { samples, classes } => {
                write!(f, "{samples} samples × {classes} classes are more scores than can be counted")
            }
            Self::OutOfMemory { bytes } => write!(f, "{bytes} bytes of scratch cannot be had"),
        }
    }
}

impl core::error::Error for Error {}
