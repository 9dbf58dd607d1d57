//! How the threads of a rayon pool come to the work, from within the pool and from outside.

use super::offers;
use crate::kernel::MAX_LANES;
use core::ops::Range;

/// Work that can be done in two halves.
pub(crate) trait Halves: Send + Sized {
    /// Whether that is worth while.
    fn can_be_halved(&self) -> bool;

    /// Both.
    fn halves(self) -> (Self, Self);
}

/// Where something of so many numbers is halved: at a whole register. The first half is no smaller: another thread begins later.
pub(crate) fn middle(len: usize) -> usize {
    (len / 2).next_multiple_of(MAX_LANES).min(len)
}

/// Who does the work.
///
/// Neither changes a bit of any result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Parallelism {
    /// The caller's thread.
    Serial,
    /// The threads of the rayon pool that the call is made from (the global one if from none), if there is enough work
    /// for more than one; for shorter evaluations, if others of the kind were found to be faster so than alone.
    ///
    /// A caller that is no thread of the pool works too, in the place of one of them, while that may be looking for work. Where
    /// evaluations are short it had better be one of them (`rayon::ThreadPoolBuilder::use_current_thread`).
    #[default]
    Rayon,
}

impl Parallelism {
    /// The threads, as seen from that of the caller.
    pub(super) fn threads(self) -> Threads {
        match self {
            Self::Serial => Threads::One,
            Self::Rayon if rayon::current_thread_index().is_some() => Threads::OfPool,
            Self::Rayon => Threads::BesidePool,
        }
    }
}

/// Who does the work of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Threads {
    /// The caller.
    One,
    /// Those of the pool. A caller who is none of them waits.
    OfPool,
    /// The caller, who is none of the pool's, and those of the pool but one.
    BesidePool,
}

impl Threads {
    /// Both, at once if a thread is free.
    pub(crate) fn join<A: Send, B: Send>(
        self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match self {
            Self::One => (a(), b()),
            Self::OfPool => rayon::join(a, b),
            Self::BesidePool => offers::join(a, b),
        }
    }

    /// Runs pieces of some work, and adds up their results. How often it is halved follows from the work alone, so the
    /// order of the sum does too.
    pub(crate) fn in_pieces<W: Halves, R: Send>(
        self,
        work: W,
        run: &(impl Fn(W) -> R + Sync),
        add: &(impl Fn(R, R) -> R + Sync),
    ) -> R {
        if !work.can_be_halved() {
            return run(work);
        }
        let (a, b) = work.halves();
        let (a, b) = self.join(|| self.in_pieces(a, run, add), || self.in_pieces(b, run, add));
        add(a, b)
    }

    /// Carries out what is to be split later, so that the caller enters the pool once, if it has to at all.
    pub(super) fn enter<A: Send>(self, f: impl FnOnce() -> A + Send) -> A {
        if self == Self::OfPool { rayon::scope(|_| f()) } else { f() }
    }

    /// How many there are.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::One => 1,
            _ => rayon::current_num_threads(),
        }
    }

    /// Calls `worker` with each of some numbers, the first of them here and the others on other threads as these become free, and each
    /// worker until it finds nothing left to do. So one that starts late is no loss: a job that no thread has come for is taken back
    /// by the one that offered it.
    pub(super) fn share<W: FnMut() -> bool>(self, ids: Range<usize>, worker: &(impl Fn(usize) -> W + Sync)) {
        let first = || {
            let mut worker = worker(ids.start);
            while worker() {
                if self == Self::BesidePool {
                    offers::remind();
                }
            }
        };
        if ids.len() > 1 {
            self.join(first, || self.share(ids.start + 1..ids.end, worker));
        } else {
            first();
        }
    }
}
