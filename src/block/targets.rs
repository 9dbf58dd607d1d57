//! Labels, weights and targets of a block.

use super::Problem;
use crate::batch::Kind;
use crate::kernel::{NO_LABEL, Real};
use crate::workspace::BlockData;
use core::ops::Range;
use faer::{unzip, zip};

impl<T: Real> Problem<'_, T> {
    /// Whether samples have weights of their own.
    #[inline]
    pub(super) fn weighs(&self) -> bool {
        self.targets.is_some()
            && (self.weights.is_some() || self.options.ignore_label.is_some() || self.weighs_labels())
    }

    /// Whether the weight of a class is one of the samples with that label.
    #[inline]
    fn weighs_labels(&self) -> bool {
        self.options.class_weights.is_some()
            && !self.options.spells_out_labels()
            && matches!(self.targets.map(|t| t.kind()), Some(Kind::Labels(_)))
    }

    /// Labels, weights and targets of some samples.
    pub(super) fn prepare(&self, samples: Range<usize>, block: &mut BlockData<'_, T>) {
        match self.targets.map(|targets| targets.kind()) {
            None => block.labels.fill(NO_LABEL),
            Some(Kind::Labels(labels)) => labels.copy_to(samples.clone(), block.labels),
            Some(Kind::Soft(_)) => block.labels.fill(0),
        }
        if let Some(out) = &mut block.weights {
            match self.weights {
                None => out.fill(1.0),
                Some(weights) => {
                    for (out, weight) in out.iter_mut().zip(&weights[samples.clone()]) {
                        *out = weight.to_f64();
                    }
                }
            }
            if let (Some(Kind::Labels(labels)), Some(ignore)) =
                (self.targets.map(|targets| targets.kind()), self.options.ignore_label)
            {
                labels.for_each_equal(samples.clone(), ignore, |i| (block.labels[i], out[i]) = (0, 0.0));
            }
            if let Some(of_class) = self.options.class_weights.as_deref().filter(|_| self.weighs_labels()) {
                for (weight, &label) in out.iter_mut().zip(&*block.labels) {
                    *weight *= of_class[label as usize];
                }
            }
        }
        if let Some(out) = &mut block.targets {
            self.prepare_targets(samples, block.labels, out);
        }
    }

    /// The targets of some samples for all classes, smoothed and weighted.
    fn prepare_targets(&self, samples: Range<usize>, labels: &[u32], out: &mut [T]) {
        let classes = self.classes();
        let mut out = self.matrix(out, samples.len());
        // Linear in what is given: 0 or 1, or anything between.
        let at = |class: usize, share: f64| self.options.target(class, share, classes);
        match self.targets.map(|targets| targets.kind()) {
            Some(Kind::Soft(targets)) => {
                let targets = targets.subrows(samples.start, samples.len());
                self.copy(targets, out.as_mut());
                if !self.options.changes_targets() {
                    return;
                }
                for class in 0..classes {
                    let (off, rise) =
                        (T::from_f64(at(class, 0.0)), T::from_f64(at(class, 1.0) - at(class, 0.0)));
                    zip!(out.as_mut().col_mut(class)).for_each(|unzip!(t)| *t = *t * rise + off);
                }
            }
            _ => {
                // Else the class weight is a part of the sample's.
                let at = |class: usize, share: f64| {
                    if self.options.spells_out_labels() { at(class, share) } else { share }
                };
                for class in 0..classes {
                    out.as_mut().col_mut(class).fill(T::from_f64(at(class, 0.0)));
                }
                for (i, &label) in labels.iter().enumerate() {
                    out[(i, label as usize)] = T::from_f64(at(label as usize, 1.0));
                }
            }
        }
    }
}
