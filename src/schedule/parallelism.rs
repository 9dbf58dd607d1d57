//! How the threads of a rayon pool come to the work, from within the pool and from outside.

use crate::kernel::MAX_LANES;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Work that can be done in two halves.
pub(crate) trait Halves: Send + Sized {
    /// Whether that is worth while.
    fn can_be_halved(&self) -> bool;

    /// Both.
    fn halves(self) -> (Self, Self);
}

/// Where something of so many numbers is halved: at a whole register.
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
    /// for more than one.
    ///
    /// A caller that is no thread of the pool works too, as one thread more than the pool has, or, where Θ is large for the
    /// samples, waits for it. Where evaluations are short it had better be one of them
    /// (`rayon::ThreadPoolBuilder::use_current_thread`).
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
    pub(crate) fn enter<A: Send>(self, f: impl FnOnce() -> A + Send) -> A {
        self.join(f, || ()).0
    }

    /// Whether the caller is no thread of the pool that it uses.
    pub(super) fn is_outside(self) -> bool {
        self == Self::Rayon && rayon::current_thread_index().is_none()
    }

    /// How many threads there are to use.
    pub(crate) fn threads(self) -> usize {
        match self {
            Self::Serial => 1,
            Self::Rayon => rayon::current_num_threads(),
        }
    }

    /// Calls `worker` with 0 here, and with 1, 2, … below `count` on other threads as these become free, and each worker
    /// until it finds nothing left to do. So one that starts late is no loss: nobody waits for it to start, but where the
    /// caller is no thread of the pool.
    pub(super) fn share<W: FnMut() -> bool>(self, count: usize, worker: &(impl Fn(usize) -> W + Sync)) {
        match self {
            Self::Rayon if count > 1 && self.is_outside() => from_outside(count, worker),
            Self::Rayon if count > 1 => from_pool(0..count, worker),
            _ => finish(worker(0)),
        }
    }
}

fn finish(mut worker: impl FnMut() -> bool) {
    while worker() {}
}

fn from_pool<W: FnMut() -> bool>(ids: Range<usize>, worker: &(impl Fn(usize) -> W + Sync)) {
    if ids.len() == 1 {
        return finish(worker(ids.start));
    }
    // A job that no thread has come for is taken back by the one that offered it.
    rayon::join(|| finish(worker(ids.start)), || from_pool(ids.start + 1..ids.end, worker));
}

fn from_outside<W: FnMut() -> bool>(count: usize, worker: &(impl Fn(usize) -> W + Sync)) {
    /// Longer than a thread takes to wake.
    const PATIENCE: Duration = Duration::from_micros(60);
    /// Turns of the waiting loop, some 100 µs: longer than that too, so that the caller need not be woken.
    const TURNS: usize = 1 << 8;
    let (come, pending) = (AtomicUsize::new(0), AtomicUsize::new(0));
    rayon::in_place_scope(|scope| {
        let call = |helpers: usize| {
            pending.fetch_add(helpers, Ordering::Relaxed);
            for _ in 0..helpers {
                let (come, pending) = (&come, &pending);
                scope.spawn(move |_| {
                    let id = 1 + come.fetch_add(1, Ordering::Relaxed);
                    if id < count {
                        finish(worker(id));
                    }
                    pending.fetch_sub(1, Ordering::Release);
                });
            }
        };
        call(count - 1);
        let begin = Instant::now();
        let mut is_patient = true;
        let mut own = worker(0);
        while own() {
            // The pool wakes nobody while one of its threads is looking for work. But the caller is one thread more than the
            // pool has, and that one may be waiting for the caller's processor, for milliseconds, while another is idle.
            if is_patient && begin.elapsed() > PATIENCE {
                is_patient = false;
                call((count - 1).saturating_sub(come.load(Ordering::Relaxed)));
            }
        }
        let is_pending = |_: &usize| pending.load(Ordering::Acquire) > 0;
        (0..TURNS).take_while(is_pending).for_each(|_| std::thread::yield_now());
    });
}
