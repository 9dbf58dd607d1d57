//! Samples with their targets: [`Features`], [`Targets`], [`Batch`]. All checks that need no Θ are made here, once.

#[cfg(feature = "half")]
mod narrow;

use crate::kernel::{NO_LABEL, Real, SUMS, SimdLevel, Sparse, add_in_turns, sum_of};
#[cfg(feature = "fit")]
use crate::objective::check_weight;
use crate::options::Options;
use crate::{Error, error::Operand};
use core::ops::Range;
use faer::sparse::{SparseRowMat, SparseRowMatRef};
use faer::{Mat, MatRef};
#[cfg(feature = "half")]
use narrow::Half;

/// The features X of m samples, one a row: m×n, without copying.
///
/// From a [`MatRef`] of any strides (row-major, column-major, a view of either, reversed) or a reference to a [`Mat`]; or
/// sparse, from a [`SparseRowMatRef`] (compressed rows, no entry twice) with `u32` or `usize` indices or a reference to a
/// [`SparseRowMat`]. What is not stored is 0, and costs nothing. With the feature `half`, for `f32`, also from a [`MatRef`] of
/// `f16` or `bf16`: each block is widened once, everything else is `f32`.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a, T>(Data<'a, T>);

/// How features lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Data<'a, T> {
    Dense(MatRef<'a, T>),
    #[cfg(feature = "half")]
    Half(Half<'a>),
    Sparse(Sparse<'a, T>),
}

impl<'a, T: Copy> Features<'a, T> {
    /// Numbers that are stored.
    #[cfg(feature = "fit")]
    pub(crate) fn stored(&self) -> usize {
        match self.0 {
            Data::Sparse(x) => x.entries(),
            _ => self.samples().saturating_mul(self.features()),
        }
    }

    /// Those of some samples, unless they are sparse.
    #[cfg(feature = "fit")]
    pub(crate) fn part(&self, samples: Range<usize>) -> Option<Self> {
        let (start, count) = (samples.start, samples.len());
        match self.0 {
            Data::Dense(x) => Some(Self(Data::Dense(x.subrows(start, count)))),
            #[cfg(feature = "half")]
            Data::Half(Half::F16(x)) => Some(Self(Data::Half(Half::F16(x.subrows(start, count))))),
            #[cfg(feature = "half")]
            Data::Half(Half::Bf16(x)) => Some(Self(Data::Half(Half::Bf16(x.subrows(start, count))))),
            Data::Sparse(_) => None,
        }
    }

    /// m.
    pub fn samples(&self) -> usize {
        self.shape().0
    }

    /// n.
    pub fn features(&self) -> usize {
        self.shape().1
    }

    fn shape(&self) -> (usize, usize) {
        match self.0 {
            Data::Dense(x) => x.shape(),
            #[cfg(feature = "half")]
            Data::Half(x) => x.shape(),
            Data::Sparse(x) => x.shape(),
        }
    }

    pub(crate) fn data(&self) -> Data<'a, T> {
        self.0
    }
}

impl<'a, T> From<MatRef<'a, T>> for Features<'a, T> {
    fn from(x: MatRef<'a, T>) -> Self {
        Self(Data::Dense(x))
    }
}

impl<'a, T> From<&'a Mat<T>> for Features<'a, T> {
    fn from(x: &'a Mat<T>) -> Self {
        x.as_ref().into()
    }
}

macro_rules! sparse {
    ($($variant:ident($index:ty)),*) => {$(
        impl<'a, T> From<SparseRowMatRef<'a, $index, T>> for Features<'a, T> {
            fn from(x: SparseRowMatRef<'a, $index, T>) -> Self {
                Self(Data::Sparse(Sparse::$variant(x)))
            }
        }

        impl<'a, T> From<&'a SparseRowMat<$index, T>> for Features<'a, T> {
            fn from(x: &'a SparseRowMat<$index, T>) -> Self {
                x.as_ref().into()
            }
        }
    )*};
}

sparse!(U32(u32), Usize(usize));

/// What the samples should be recognised as: class labels, one a sample, in 0..K; or soft targets, a probability for
/// each class and sample (m×K).
///
/// Labels from a slice of `u8`, `u16`, `u32`, `u64`, `usize`, `i32` or `i64`, soft targets from a [`MatRef`] of any
/// strides or a reference to a [`Mat`]; neither is copied.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a, T>(Kind<'a, T>);

/// The two kinds of targets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind<'a, T> {
    Labels(Labels<'a>),
    Soft(MatRef<'a, T>),
}

impl<'a, T: Copy> Targets<'a, T> {
    /// m.
    pub fn samples(&self) -> usize {
        match self.0 {
            Kind::Labels(labels) => labels.len(),
            Kind::Soft(targets) => targets.nrows(),
        }
    }

    pub(crate) fn kind(&self) -> Kind<'a, T> {
        self.0
    }
}

impl<'a, T> From<MatRef<'a, T>> for Targets<'a, T> {
    fn from(targets: MatRef<'a, T>) -> Self {
        Self(Kind::Soft(targets))
    }
}

impl<'a, T> From<&'a Mat<T>> for Targets<'a, T> {
    fn from(targets: &'a Mat<T>) -> Self {
        targets.as_ref().into()
    }
}

impl<T: Real> Targets<'_, T> {
    /// What a check that needs no K finds.
    ///
    /// # Errors
    /// [`Error::InvalidTarget`], [`Error::TargetSum`].
    fn summary(&self) -> Result<Summary, Error> {
        let targets = match self.0 {
            Kind::Labels(labels) => return Ok(Summary { bounds: labels.bounds() }),
            Kind::Soft(targets) => targets,
        };
        for (sample, row) in targets.row_iter().enumerate() {
            let mut sum = 0.0;
            for (class, value) in row.iter().map(|t| t.to_f64()).enumerate() {
                if !(value >= 0.0 && value.is_finite()) {
                    return Err(Error::InvalidTarget { sample, class, value });
                }
                sum += value;
            }
            if (sum - 1.0).abs() > T::MACHINE_EPSILON.sqrt() && targets.ncols() > 0 {
                return Err(Error::TargetSum { sample, sum });
            }
        }
        Ok(Summary { bounds: None })
    }

    /// Whether they are for these classes.
    ///
    /// # Errors
    /// [`Error::LabelOutOfRange`], [`Error::TargetShape`].
    fn check(&self, summary: &Summary, classes: usize, ignore: Option<i64>) -> Result<(), Error> {
        match self.0 {
            Kind::Labels(labels) => labels.check(summary.bounds, classes, ignore),
            Kind::Soft(targets) if targets.ncols() == classes => Ok(()),
            Kind::Soft(targets) => {
                Err(Error::TargetShape { expected: (targets.nrows(), classes), found: targets.shape() })
            }
        }
    }

    /// Both checks.
    ///
    /// # Errors
    /// Those of both.
    pub(crate) fn check_all(&self, classes: usize) -> Result<(), Error> {
        self.check(&self.summary()?, classes, None)
    }
}

/// What a batch remembers of its targets.
#[derive(Clone, Copy, Debug)]
struct Summary {
    /// The smallest and the largest label.
    bounds: Option<(i128, i128)>,
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
                        let (low, high) = SimdLevel::best().bounds(labels)?;
                        Some((low as i128, high as i128))
                    })*
                }
            }

            /// The first label outside 0..classes that is not to be ignored, and its sample.
            fn first_outside(&self, classes: usize, ignore: Option<i64>) -> Option<(usize, i128)> {
                let ignore = ignore.map(i128::from);
                let outside =
                    |label: i128| (label < 0 || label >= classes as i128) && Some(label) != ignore;
                match self {
                    $(Self::$variant(labels) => {
                        labels.iter().map(|&label| label as i128).enumerate().find(|&(_, label)| outside(label))
                    })*
                }
            }

            /// Calls `f` with the place of each label of some samples that is `which`.
            pub(crate) fn for_each_equal(&self, samples: Range<usize>, which: i64, mut f: impl FnMut(usize)) {
                match self {
                    $(Self::$variant(labels) => {
                        let same = |&(_, label): &(usize, &$t)| *label as i128 == i128::from(which);
                        labels[samples].iter().enumerate().filter(same).for_each(|(i, _)| f(i));
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
                    Self(Kind::Labels(Labels::$variant(labels)))
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
    /// Whether all are in 0..classes, but those that are to be ignored.
    ///
    /// # Errors
    /// [`Error::LabelOutOfRange`] with the first that is not.
    fn check(&self, bounds: Option<(i128, i128)>, classes: usize, ignore: Option<i64>) -> Result<(), Error> {
        match bounds {
            Some((low, high)) if low < 0 || high >= classes as i128 => {
                match self.first_outside(classes, ignore) {
                    Some((sample, label)) => Err(Error::LabelOutOfRange { sample, label, classes }),
                    None => Ok(()),
                }
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
    summary: Summary,
    weights: Option<&'a [T]>,
    total_weight: f64,
}

impl<'a, T: Real> Batch<'a, T> {
    /// Features X (m×n) and targets (m), every sample of weight 1.
    ///
    /// Whether the targets fit the classes is checked when there is a Θ to tell K.
    ///
    /// # Errors
    /// [`Error::SampleCount`] if the two differ in m. Of soft targets, [`Error::InvalidTarget`] if one is negative or not
    /// finite, and [`Error::TargetSum`] if those of a sample differ from 1 in sum by more than √ε (1.5e-8, or 3.5e-4 for
    /// `f32`).
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
        let summary = targets.summary()?;
        Ok(Self { features, targets, summary, weights: None, total_weight: samples as f64 })
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
        let is_valid = |weight: T| weight.to_f64() >= 0.0 && weight.to_f64().is_finite();
        if !weights.iter().fold(true, |all, &weight| all & is_valid(weight)) {
            let invalid = weights.iter().enumerate().find(|&(_, &weight)| !is_valid(weight));
            if let Some((sample, weight)) = invalid {
                return Err(Error::InvalidWeight { sample, weight: weight.to_f64() });
            }
        }
        let mut sums = [0.0; SUMS];
        add_in_turns(&mut sums, weights, |weight| weight.to_f64());
        self.weights = Some(weights);
        self.total_weight = sum_of(sums);
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

    /// What the mean of the losses is divided by: the sum of the sample weights, each times the weight of the label's
    /// class, without the samples that are ignored. Of soft targets, the sum of the sample weights.
    pub(crate) fn weight(&self, options: &Options, classes: usize) -> f64 {
        const CHUNK: usize = 256;
        let labels = match self.targets.kind() {
            Kind::Labels(labels) if options.ignore_label.is_some() || options.class_weights.is_some() => {
                labels
            }
            _ => return self.total_weight,
        };
        let mut sums = [0.0; SUMS];
        let mut chunk = [0; CHUNK];
        for start in (0..self.samples()).step_by(CHUNK) {
            let samples = start..self.samples().min(start + CHUNK);
            let chunk = &mut chunk[..samples.len()];
            labels.copy_to(samples.clone(), chunk);
            if let Some(ignore) = options.ignore_label {
                labels.for_each_equal(samples.clone(), ignore, |i| chunk[i] = NO_LABEL);
            }
            let of_class = |label: u32| {
                let counts = (label as usize) < classes && label != NO_LABEL;
                if counts { options.class_weight(label as usize) } else { 0.0 }
            };
            match self.weights {
                None => add_in_turns(&mut sums, chunk, of_class),
                Some(weights) => {
                    for (i, (&label, weight)) in chunk.iter().zip(&weights[samples]).enumerate() {
                        sums[i % SUMS] += of_class(label) * weight.to_f64();
                    }
                }
            }
        }
        sum_of(sums)
    }

    /// The weight of each sample, 0 for those that are ignored.
    #[cfg(feature = "fit")]
    pub(crate) fn counted_weights(&self, options: &Options) -> Vec<T> {
        let mut weights = self.weights.map_or_else(|| vec![T::ONE; self.samples()], <[T]>::to_vec);
        if let (Kind::Labels(labels), Some(ignore)) = (self.targets.kind(), options.ignore_label) {
            labels.for_each_equal(0..self.samples(), ignore, |i| weights[i] = T::ZERO);
        }
        weights
    }

    /// What part of the weight, without samples that are ignored, the targets give to the predicted classes.
    #[cfg(feature = "fit")]
    pub(crate) fn share_of(
        &self,
        predicted: &[u32],
        options: &Options,
        classes: usize,
    ) -> Result<f64, Error> {
        self.check_targets(classes, options.ignore_label)?;
        let weights = self.counted_weights(options);
        let mut labels = vec![NO_LABEL; predicted.len()];
        if let Kind::Labels(given) = self.targets.kind() {
            given.copy_to(0..predicted.len(), &mut labels);
        }
        let (mut share, mut total) = (0.0, 0.0);
        for (i, (weight, &class)) in weights.iter().zip(predicted).enumerate() {
            let target = match self.targets.kind() {
                Kind::Labels(_) => f64::from(u8::from(labels[i] == class)),
                Kind::Soft(targets) => targets[(i, class as usize)].to_f64(),
            };
            share += weight.to_f64() * target;
            total += weight.to_f64();
        }
        Ok(share / check_weight(self.samples(), total)?)
    }

    /// Whether the targets are for these classes.
    ///
    /// # Errors
    /// [`Error::LabelOutOfRange`], [`Error::TargetShape`].
    pub(crate) fn check_targets(&self, classes: usize, ignore: Option<i64>) -> Result<(), Error> {
        self.targets.check(&self.summary, classes, ignore)
    }
}
