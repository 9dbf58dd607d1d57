//! A block of scores in memory, as the kernels see it.

use super::lanes::MAX_LANES;
use super::lines::{LinesMut, line_mut, lines_mut};
use super::vector::UNROLL;
use faer::MatMut;

/// How the scores of a block lie in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// A line a class: lanes run across samples. A line is of whole registers.
    ClassMajor,
    /// A line a sample: lanes run across classes.
    SampleMajor,
}

/// Samples of a piece: as many registers as are taken together.
const PIECE: usize = UNROLL * MAX_LANES;

/// Scores up to which they are one piece: of fewer in each of two, a piece would take little longer than to begin and to end it.
const PIECE_SCORES: usize = 1 << 12;

/// A block of scores, samples × classes.
pub(crate) struct Scores<'a, T> {
    pub(super) lines: LinesMut<'a, T>,
    pub(super) layout: Layout,
    pub(super) samples: usize,
    pub(super) classes: usize,
}

impl<'a, T> Scores<'a, T> {
    /// In `data`, from the start of a line to that of the next `stride` numbers: class-major, a multiple of `MAX_LANES`.
    pub(crate) fn new(
        data: &'a mut [T],
        layout: Layout,
        stride: usize,
        (samples, classes): (usize, usize),
    ) -> Self {
        let (len, count) = match layout {
            Layout::ClassMajor => (samples.next_multiple_of(MAX_LANES), classes),
            Layout::SampleMajor => (classes, samples),
        };
        let lines = lines_mut(MatMut::from_column_major_slice_with_stride_mut(data, len, count, stride));
        Self { lines, layout, samples, classes }
    }

    /// Those of a matrix that has such a layout: class-major, so many samples that they fill registers.
    pub(crate) fn of(scores: MatMut<'a, T>, layout: Layout) -> Self {
        let (samples, classes) = scores.shape();
        let lines = match layout {
            Layout::ClassMajor => lines_mut(scores),
            Layout::SampleMajor => lines_mut(scores.transpose_mut()),
        };
        Self { lines, layout, samples, classes }
    }

    /// One of the lines.
    #[inline(always)]
    pub(super) fn line(&mut self, line: usize) -> &mut [T] {
        line_mut(&mut self.lines, line)
    }

    /// A score.
    #[inline(always)]
    pub(super) fn at(&mut self, sample: usize, class: usize) -> &mut T {
        match self.layout {
            Layout::ClassMajor => &mut self.lines[(sample, class)],
            Layout::SampleMajor => &mut self.lines[(class, sample)],
        }
    }

    /// Whether there are enough samples for two pieces, and enough scores.
    pub(super) fn can_be_halved(&self) -> bool {
        self.samples > PIECE && self.samples * self.classes > PIECE_SCORES
    }

    /// Where to cut them in two.
    pub(super) fn middle(&self) -> usize {
        (self.samples / 2).next_multiple_of(PIECE)
    }

    /// The first samples, of whole registers, and the others.
    pub(super) fn split_at(self, at: usize) -> (Self, Self) {
        let Self { lines, layout, samples, classes } = self;
        let (a, b) = match layout {
            Layout::ClassMajor => lines.split_at_row_mut(at),
            Layout::SampleMajor => lines.split_at_col_mut(at),
        };
        let part = |lines, samples| Self { lines, layout, samples, classes };
        (part(a, at), part(b, samples - at))
    }
}
