//! How the threads of a rayon pool come to the work, from within the pool and from outside.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Work that can be done in two halves.
pub(crate) trait Halves: Send + Sized {
    /// Whether that is worth while.
    fn can_be_halved(&self) -> bool;

    /// Both.
    fn halves(self) -> (Self, Self);
}

/// Who does the work.
///
/// Neither changes a bit of any result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Parallelism {
    /// The caller's thread.
    Serial,
    /// The threads of the rayon pool that the call is made from (the global one if from none), if there is enough work
    /// for more than one.
    #[default]
    Rayon,
}

impl Parallelism {
    /// Both, at once if threads may be used.
    pub(crate) fn join<A: Send, B: Send>(
        self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match self {
            Self::Serial => (a(), b()),
            Self::Rayon => rayon::join(a, b),
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

    /// Runs `f` where a later [`join`](Self::join) does not have to enter the pool again.
    pub(super) fn enter<A: Send>(self, f: impl FnOnce() -> A + Send) -> A {
        self.join(f, || ()).0
    }

    /// How many threads there are to use.
    pub(crate) fn threads(self) -> usize {
        match self {
            Self::Serial => 1,
            Self::Rayon => rayon::current_num_threads(),
        }
    }

    /// Calls `work` with 0 here, and with 1, 2, … below `count` on other threads as these become free. Each call takes
    /// of what is to do until nothing is left, so one that starts late is no loss: nobody waits for it to start, but
    /// where the caller is no thread of the pool.
    pub(super) fn share(self, count: usize, work: &(impl Fn(usize) + Sync)) {
        match self {
            Self::Rayon if count > 1 && rayon::current_thread_index().is_some() => from_pool(0..count, work),
            Self::Rayon if count > 1 => from_outside(count, work),
            _ => work(0),
        }
    }
}

fn from_pool(ids: Range<usize>, work: &(impl Fn(usize) + Sync)) {
    if ids.len() == 1 {
        return work(ids.start);
    }
    // A job that no thread has come for is taken back by the one that offered it.
    rayon::join(|| work(ids.start), || from_pool(ids.start + 1..ids.end, work));
}

fn from_outside(count: usize, work: &(impl Fn(usize) + Sync)) {
    /// Turns of the waiting loop, some 100 µs: longer than a thread takes to wake, so that the caller need not be woken.
    const TURNS: usize = 1 << 8;
    let pending = AtomicUsize::new(count - 1);
    rayon::in_place_scope(|scope| {
        for id in 1..count {
            let pending = &pending;
            scope.spawn(move |_| {
                work(id);
                pending.fetch_sub(1, Ordering::Release);
            });
        }
        work(0);
        let is_pending = |_: &usize| pending.load(Ordering::Acquire) > 0;
        (0..TURNS).take_while(is_pending).for_each(|_| std::thread::yield_now());
    });
}
