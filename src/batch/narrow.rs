//! Dense features of 16 bits a number (feature `half`).

use super::{Data, Features};
use crate::kernel::{Narrow, Real, SimdLevel, Span, Widen};
use faer::{MatRef, RowRef};

/// Dense features of a type of 16 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half<'a> {
    F16(MatRef<'a, half::f16>),
    Bf16(MatRef<'a, half::bf16>),
}

impl Half<'_> {
    pub(super) fn shape(&self) -> (usize, usize) {
        match self {
            Self::F16(x) => x.shape(),
            Self::Bf16(x) => x.shape(),
        }
    }

    /// Where those of some samples lie.
    pub(crate) fn span(&self, start: usize, samples: usize) -> Span {
        match self {
            Self::F16(x) => Span::of(x.subrows(start, samples)),
            Self::Bf16(x) => Span::of(x.subrows(start, samples)),
        }
    }

    /// The features of a sample as numbers of another type, which holds them exactly.
    pub(crate) fn widen<T: Real>(&self, sample: usize, out: &mut [T], level: SimdLevel) {
        match self {
            Self::F16(x) => widen(x.row(sample), Narrow::F16, out, level),
            Self::Bf16(x) => widen(x.row(sample), Narrow::Bf16, out, level),
        }
    }
}

/// In one go if they are neighbours, else some at a time.
fn widen<H: Copy, T: Real>(row: RowRef<'_, H>, narrow: Narrow, out: &mut [T], level: SimdLevel)
where
    [H]: half::slice::HalfFloatSliceExt,
{
    use half::slice::HalfFloatSliceExt;
    const CHUNK: usize = 64;
    if let Some(row) = row.try_as_row_major() {
        return T::run_widen(Widen { bits: row.as_slice().reinterpret_cast(), narrow, out }, level);
    }
    let mut numbers = row.iter();
    for out in out.chunks_mut(CHUNK) {
        let mut bits = [0; CHUNK];
        bits.iter_mut()
            .zip(numbers.by_ref().take(out.len()))
            .for_each(|(bits, &x)| *bits = [x].reinterpret_cast()[0]);
        T::run_widen(Widen { bits: &bits, narrow, out }, level);
    }
}

impl<'a> From<MatRef<'a, half::f16>> for Features<'a, f32> {
    fn from(x: MatRef<'a, half::f16>) -> Self {
        Self(Data::Half(Half::F16(x)))
    }
}

impl<'a> From<MatRef<'a, half::bf16>> for Features<'a, f32> {
    fn from(x: MatRef<'a, half::bf16>) -> Self {
        Self(Data::Half(Half::Bf16(x)))
    }
}
