//! Samples with their targets: [`Features`], [`Targets`], [`Batch`]. All checks that need no Θ are made here, once.

use crate::kernel::Real;
use crate::{Error, error::Operand};
use core::marker::PhantomData;
use core::ops::Range;
use faer::{Mat, MatRef};

/// The features X of m samples, one a row: m×n, without copying.
///
/// From a [`MatRef`] of any strides (row-major, column-major, a view of either, reversed) or a reference to a [`Mat`].
#[derive(Clone, Copy, Debug)]
pub struct Features<'a, T> {
    dense: MatRef<'a, T>,
}

impl<'a, T> Features<'a, T> {
    /// m.
    pub fn samples(&self) -> usize {
        self.dense.nrows()
    }

    /// n.
    pub fn features(&self) -> usize {
        self.dense.ncols()
    }

    pub(crate) fn dense(&self) -> MatRef<'a, T> {
        self.dense
    }
}

impl<'a, T> From<MatRef<'a, T>> for Features<'a, T> {
    fn from(dense: MatRef<'a, T>) -> Self {
        Self { dense }
    }
}

impl<'a, T> From<&'a Mat<T>> for Features<'a, T> {
    fn from(dense: &'a Mat<T>) -> Self {
        Self { dense: dense.as_ref() }
    }
}

/// What the samples should be recognised as: class labels, one a sample, in 0..K.
///
/// From a slice of `u8`, `u16`, `u32`, `u64`, `usize`, `i32` or `i64`, without copying.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a, T> {
    labels: Labels<'a>,
    scalar: PhantomData<&'a T>,
}

impl<'a, T> Targets<'a, T> {
    /// m.
    pub fn samples(&self) -> usize {
        self.labels.len()
    }

    pub(crate) fn labels(&self) -> Labels<'a> {
        self.labels
    }
}

macro_rules! labels {
    ($($variant:ident($t:ty)),*) => {
        /// Class labels as they came.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Labels<'a> {
            $($variant(&'a [$t]),)*
        }

        impl Labels<'_> {
            fn len(&self) -> usize {
                match self {
                    $(Self::$variant(labels) => labels.len(),)*
                }
            }

            /// The smallest and the largest label.
            fn bounds(&self) -> Option<(i128, i128)> {
                match self {
                    $(Self::$variant(labels) => {
                        let first = *labels.first()?;
                        let (low, high) = labels.iter().fold((first, first), |(low, high), &label| {
                            (low.min(label), high.max(label))
                        });
                        Some((low as i128, high as i128))
                    })*
                }
            }

            /// The first label outside 0..classes, and its sample.
            fn first_outside(&self, classes: usize) -> Option<(usize, i128)> {
                let outside = |label: i128| label < 0 || label >= classes as i128;
                match self {
                    $(Self::$variant(labels) => {
                        labels.iter().map(|&label| label as i128).enumerate().find(|&(_, label)| outside(label))
                    })*
                }
            }

            /// Copies the labels of some samples, all known to be below `u32::MAX`.
            pub(crate) fn copy_to(&self, samples: Range<usize>, out: &mut [u32]) {
                match self {
                    $(Self::$variant(labels) => {
                        for (out, &label) in out.iter_mut().zip(&labels[samples]) {
                            *out = label as u32;
                        }
                    })*
                }
            }
        }

        $(
            impl<'a, T> From<&'a [$t]> for Targets<'a, T> {
                fn from(labels: &'a [$t]) -> Self {
                    Self { labels: Labels::$variant(labels), scalar: PhantomData }
                }
            }

            impl<'a, T> From<&'a Vec<$t>> for Targets<'a, T> {
                fn from(labels: &'a Vec<$t>) -> Self {
                    labels.as_slice().into()
                }
            }

            impl<'a, T, const M: usize> From<&'a [$t; M]> for Targets<'a, T> {
                fn from(labels: &'a [$t; M]) -> Self {
                    labels.as_slice().into()
                }
            }
        )*
    };
}

labels!(U8(u8), U16(u16), U32(u32), U64(u64), Usize(usize), I32(i32), I64(i64));

impl Labels<'_> {
    /// Whether all are in 0..classes.
    ///
    /// # Errors
    /// [`Error::LabelOutOfRange`] with the first that is not.
    pub(crate) fn check(&self, classes: usize) -> Result<(), Error> {
        self.check_bounded(self.bounds(), classes)
    }

    fn check_bounded(&self, bounds: Option<(i128, i128)>, classes: usize) -> Result<(), Error> {
        match bounds {
            Some((low, high)) if low < 0 || high >= classes as i128 => {
                let (sample, label) = self.first_outside(classes).unwrap_or((0, low));
                Err(Error::LabelOutOfRange { sample, label, classes })
            }
            _ => Ok(()),
        }
    }
}

/// Samples with targets, and perhaps weights: what an [`Objective`](crate::Objective) is evaluated on.
///
/// A batch borrows its data and remembers what checking them found, so make it once and evaluate it often.
///
/// ```
/// use faer::mat;
/// use softmax_regression::Batch;
/// let x = mat![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0_f32]];
/// let batch = Batch::new(&x, &[0_u8, 2, 1])?.with_sample_weights(&[1.0, 0.5, 2.0])?;
/// assert_eq!(batch.total_weight(), 3.5);
/// # Ok::<(), softmax_regression::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    features: Features<'a, T>,
    targets: Targets<'a, T>,
    label_bounds: Option<(i128, i128)>,
    weights: Option<&'a [T]>,
    total_weight: f64,
}

impl<'a, T: Real> Batch<'a, T> {
    /// Features X (m×n) and targets (m), every sample of weight 1.
    ///
    /// Whether the labels are below K is checked when there is a Θ to tell K.
    ///
    /// # Errors
    /// [`Error::SampleCount`] if the two differ in m.
    pub fn new(
        features: impl Into<Features<'a, T>>,
        targets: impl Into<Targets<'a, T>>,
    ) -> Result<Self, Error> {
        let (features, targets) = (features.into(), targets.into());
        let samples = features.samples();
        if targets.samples() != samples {
            return Err(Error::SampleCount {
                features: samples,
                operand: Operand::Targets,
                found: targets.samples(),
            });
        }
        let label_bounds = targets.labels.bounds();
        Ok(Self { features, targets, label_bounds, weights: None, total_weight: samples as f64 })
    }

    /// Gives each sample a weight: its loss and its part of the gradient are multiplied by it. A sample of weight 0
    /// counts for nothing, whatever its features are, NaN included.
    ///
    /// # Errors
    /// [`Error::SampleCount`] if there is not one weight a sample, [`Error::InvalidWeight`] if one is negative or not
    /// finite.
    pub fn with_sample_weights(mut self, weights: &'a [T]) -> Result<Self, Error> {
        if weights.len() != self.samples() {
            return Err(Error::SampleCount {
                features: self.samples(),
                operand: Operand::SampleWeights,
                found: weights.len(),
            });
        }
        let mut total = 0.0;
        for (sample, weight) in weights.iter().map(|w| w.to_f64()).enumerate() {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::InvalidWeight { sample, weight });
            }
            total += weight;
        }
        self.weights = Some(weights);
        self.total_weight = total;
        Ok(self)
    }

    /// m.
    pub fn samples(&self) -> usize {
        self.features.samples()
    }

    /// Sum of the sample weights: m if none were given.
    pub fn total_weight(&self) -> f64 {
        self.total_weight
    }

    /// X.
    pub fn features(&self) -> Features<'a, T> {
        self.features
    }

    /// The targets.
    pub fn targets(&self) -> Targets<'a, T> {
        self.targets
    }

    pub(crate) fn weights(&self) -> Option<&'a [T]> {
        self.weights
    }

    pub(crate) fn check_labels(&self, classes: usize) -> Result<(), Error> {
        self.targets.labels.check_bounded(self.label_bounds, classes)
    }
}
