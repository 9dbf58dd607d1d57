//! From the probabilities of a block and a direction to the second derivative of its loss along it, in the space of the
//! scores.
//!
//! Of a sample with probabilities p, targets t (T their sum), coefficient c, log-sum-exp L and M = T + 2ζ·L, a direction
//! a (in the space of the transformed scores z), and slopes f and bends q of the transform (1 and 0 if there is none):
//!
//! ```text
//! s   = Σⱼ pⱼ·aⱼ
//! out = c·(fⱼ·pⱼ·(M·(aⱼ − s) + 2ζ·s) + qⱼ·(M·pⱼ − tⱼ))
//! ```
//!
//! With s = pⱼ·aⱼ of the class alone and a = f it is the diagonal of the matrix that this multiplies by.

use super::log::Logarithm;
use super::scores::Layout;
use super::vector::Vector;
use pulp::{Simd, WithSimd};

/// Which part of the second derivative is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Curve {
    /// Its product with the direction.
    Product,
    /// Its diagonal, for a direction of ones.
    Diagonal,
}

/// The whole of a block, as one dispatch.
pub(crate) struct Curvature<'a, T> {
    /// In the order of the scores, as all that has a number a score.
    pub(crate) probabilities: &'a [T],
    pub(crate) layout: Layout,
    pub(crate) stride: usize,
    /// Samples, classes.
    pub(crate) shape: (usize, usize),
    /// Becomes the result.
    pub(crate) direction: &'a mut [T],
    /// Of the transform, if it bends.
    pub(crate) bend: Option<Bend<'a, T>>,
    pub(crate) z_loss: f64,
    pub(crate) curve: Curve,
    /// Of each sample: c, the maximum of z, log S, and T (none for 1).
    pub(crate) coefficient: &'a [T],
    pub(crate) top: &'a [T],
    pub(crate) tail: &'a [T],
    pub(crate) total: Option<&'a [T]>,
}

/// What a transform with a second derivative adds.
#[derive(Clone, Copy)]
pub(crate) struct Bend<'a, T> {
    pub(crate) slopes: &'a [T],
    pub(crate) bends: &'a [T],
    pub(crate) targets: &'a [T],
}

impl<T: Logarithm> WithSimd for &mut Curvature<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = Vector::<T, S>::COUNT;
        let &mut Curvature { layout, stride, shape: (samples, classes), .. } = self;
        match layout {
            Layout::ClassMajor => {
                for start in (0..samples).step_by(lanes) {
                    let shared = self.shared::<S>(
                        #[inline(always)]
                        |x| Vector::load(simd, &x[start..]),
                    );
                    let places =
                        (0..classes).map(|class| Place { simd, at: class * stride + start, len: lanes });
                    self.curve(shared, places);
                }
            }
            Layout::SampleMajor => {
                for sample in 0..samples {
                    let shared = self.shared::<S>(
                        #[inline(always)]
                        |x| Vector::splat(simd, x[sample]),
                    );
                    let row = sample * stride..sample * stride + classes;
                    let places = row.clone().step_by(lanes);
                    self.curve(shared, places.map(|at| Place { simd, at, len: lanes.min(row.end - at) }));
                }
            }
        }
    }
}

/// Where some lanes lie in every plane of a block: at most a register of them.
#[derive(Clone, Copy)]
struct Place<S> {
    simd: S,
    at: usize,
    len: usize,
}

impl<S: Simd> Place<S> {
    #[inline(always)]
    fn load<T: Logarithm>(self, plane: &[T]) -> Vector<T, S> {
        Vector::load_padded(self.simd, &plane[self.at..self.at + self.len], T::ZERO)
    }

    #[inline(always)]
    fn store<T: Logarithm>(self, v: Vector<T, S>, plane: &mut [T]) {
        v.store_padded(&mut plane[self.at..self.at + self.len]);
    }
}

/// What a sample's classes share.
#[derive(Clone, Copy)]
struct Shared<T: Logarithm, S: Simd> {
    coefficient: Vector<T, S>,
    /// M.
    multiplier: Vector<T, S>,
    /// 2ζ.
    z_loss: Vector<T, S>,
    /// s; 0 for the diagonal.
    mean: Vector<T, S>,
    /// 1 for the diagonal, else 0.
    own: Vector<T, S>,
}

impl<T: Logarithm> Curvature<'_, T> {
    /// Of a register of samples, or one sample.
    #[inline(always)]
    fn shared<S: Simd>(&self, load: impl Fn(&[T]) -> Vector<T, S>) -> Shared<T, S> {
        let coefficient = load(self.coefficient);
        let (zero, one) = (coefficient.constant(T::ZERO), coefficient.constant(T::ONE));
        let z_loss = coefficient.constant(T::from_f64(2.0 * self.z_loss));
        let mut multiplier = match self.total {
            None => one,
            Some(total) => load(total),
        };
        if self.z_loss != 0.0 {
            multiplier = multiplier + z_loss * (load(self.top) + load(self.tail));
        }
        let own = if self.curve == Curve::Diagonal { one } else { zero };
        Shared { coefficient, multiplier, z_loss, mean: zero, own }
    }

    /// All classes of a register of samples, or of one sample.
    #[inline(always)]
    fn curve<S: Simd>(&mut self, mut shared: Shared<T, S>, places: impl Iterator<Item = Place<S>> + Clone) {
        if self.curve == Curve::Product {
            for place in places.clone() {
                shared.mean = place.load(self.probabilities).mul_add(place.load(self.direction), shared.mean);
            }
            if self.layout == Layout::SampleMajor {
                shared.mean = shared.mean.constant(shared.mean.sum());
            }
        }
        for place in places {
            let (p, a) = (place.load(self.probabilities), place.load(self.direction));
            let mean = shared.mean + shared.own * p * a;
            let mut curved = p * (shared.multiplier * (a - mean) + shared.z_loss * mean);
            if let Some(Bend { slopes, bends, targets }) = self.bend {
                let by_z = shared.multiplier * p - place.load(targets);
                curved = place.load(slopes) * curved + place.load(bends) * by_z;
            }
            place.store(shared.coefficient * curved, self.direction);
        }
    }
}
