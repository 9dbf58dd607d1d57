//! The features of samples times numbers of theirs: what is multiplied for a Hessian.

use super::lanes::{Lanes, MAX_LANES};
use super::lines::{Lines, LinesMut, line_mut, lines, lines_mut};
use super::vector::Vector;
use crate::schedule::{Halves, middle};
use faer::{MatMut, MatRef};
use pulp::{Simd, WithSimd};

/// Of each sample its features times its number of each class, class after class.
pub(crate) struct ScaledSamples<'a, T> {
    width: usize,
    /// A sample a column, to whole registers.
    features: Lines<'a, T>,
    /// Samples × classes.
    by: MatRef<'a, T>,
    /// A sample a column: as many numbers as features times classes, and room for a register more.
    out: LinesMut<'a, T>,
}

impl<'a, T> ScaledSamples<'a, T> {
    /// Of so many features. Those of a sample are contiguous, up to a whole register whatever follows them; so are what becomes of
    /// them, and behind it so many numbers more.
    pub(crate) fn new(width: usize, features: MatRef<'a, T>, by: MatRef<'a, T>, out: MatMut<'a, T>) -> Self {
        Self { width, features: lines(features.transpose()), by, out: lines_mut(out.transpose_mut()) }
    }
}

impl<T: Send + Sync> Halves for ScaledSamples<'_, T> {
    fn can_be_halved(&self) -> bool {
        self.by.nrows() > MAX_LANES && self.out.nrows() * self.out.ncols() >= 2 * PIECE
    }

    fn halves(self) -> (Self, Self) {
        let Self { width, features, by, out } = self;
        let at = middle(by.nrows());
        let (features, features_1) = features.split_at_col(at);
        let (by, by_1) = by.split_at_row(at);
        let (out, out_1) = out.split_at_col_mut(at);
        (Self { width, features, by, out }, Self { width, features: features_1, by: by_1, out: out_1 })
    }
}

/// Numbers of a piece.
const PIECE: usize = 1 << 16;

impl<T: Lanes> WithSimd for &mut ScaledSamples<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let ScaledSamples { width, features, by, out } = self;
        let (lanes, classes) = (Vector::<T, S>::COUNT, by.ncols());
        let registers = width.div_ceil(lanes);
        for (i, features) in features.col_iter().enumerate() {
            let (features, mut out) = (features.as_slice(), line_mut(out, i));
            for class in 0..classes {
                let by = Vector::<T, S>::splat(simd, by[(i, class)]);
                // The last register goes beyond the features: the next class is written over that.
                for at in (0..registers).map(|register| register * lanes) {
                    (by * Vector::<T, S>::load(simd, &features[at..])).store(&mut out[at..]);
                }
                out = &mut out[*width..];
            }
        }
    }
}
