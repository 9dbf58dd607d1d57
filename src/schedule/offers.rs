//! Work for a caller that is no thread of the pool, and for threads of the pool.
//!
//! Such a caller could enter the pool and wait, which is what `rayon::join` does for it. But until a thread there has woken it could
//! do half of the work, and in the end would have to be woken itself. So it offers the pool a part of the work, does the other,
//! and takes back what nobody has come for; and so does, with a part of that part, the thread that has come. No more threads work
//! than the pool has: where these are as many as processors, one more would have another wait.
//!
//! What has been offered somebody of the pool has to come for in the end, even if it has been taken back. Where other programs keep
//! the processors that may take milliseconds. After such a time nothing is offered for many times as long.

use super::clock::now;
use super::run::locked;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

/// Of all callers: those that are no thread of a pool use the same, the global one.
static OFFERS: Mutex<Offers> = Mutex::new(Offers { open: 0, unheard: 0, called: None, stalled: 0 });

/// Times are those of [`now`].
struct Offers {
    /// Of which no thread has said that it is through with it.
    open: usize,
    /// Of which no thread has said anything.
    unheard: usize,
    /// When the pool was called last.
    called: Option<u64>,
    /// Until when nothing is to be offered.
    stalled: u64,
}

impl Offers {
    /// One more, unless every thread of the pool but one, in whose place the caller works, has one.
    fn open(&mut self) -> bool {
        let is_free = self.open + 1 < rayon::current_num_threads();
        if is_free {
            self.open += 1;
            self.unheard += 1;
            self.called = Some(now());
        } else {
            self.remind();
        }
        is_free
    }

    /// Calls once more if nobody has come for an offer, though there was time to wake.
    ///
    /// The pool wakes nobody while one of its threads is looking for work. But callers are threads more than the pool has, and that
    /// one may be waiting for the caller's processor, for milliseconds, while another is idle.
    fn remind(&mut self) {
        /// Nanoseconds, longer than a thread takes to wake.
        const PATIENCE: u64 = 60_000;
        if self.unheard > 0 && self.called.is_some_and(|called| now() - called > PATIENCE) {
            self.called = None;
            rayon::spawn(|| ());
        }
    }

    /// Nothing more for a while, if a caller has waited longer than for a thread that wakes, and longer than it took to do as much itself.
    fn stall(&mut self, waited: u64, worked: u64) {
        /// Nanoseconds.
        const PATIENCE: u64 = 200_000;
        /// For one of waiting.
        const PAUSE: u64 = 50;
        if waited > worked.max(PATIENCE) {
            self.stalled = now() + PAUSE * waited;
        }
    }
}

/// Calls once more where that is due.
pub(super) fn remind() {
    locked(&OFFERS).remind();
}

/// Whether nothing is to be offered, since there was a long wait not long ago.
pub(super) fn are_stalled() -> bool {
    now() < locked(&OFFERS).stalled
}

/// Says that a thread has come for an offer, and, dropped, that it is through with it.
struct Taken;

impl Taken {
    fn new() -> Self {
        locked(&OFFERS).unheard -= 1;
        Self
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        locked(&OFFERS).open -= 1;
    }
}

/// Both; `b` by another thread, if one is free and comes for it before this one is through with `a`.
pub(super) fn join<A, B: Send>(a: impl FnOnce() -> A, b: impl FnOnce() -> B + Send) -> (A, B) {
    /// Turns of the waiting loop, some 100 µs: longer than a thread takes to wake, so that this one need not be woken.
    const TURNS: usize = 1 << 8;
    if !locked(&OFFERS).open() {
        return (a(), b());
    }
    let (job, result, is_done) = (Mutex::new(Some(b)), Mutex::new(None), AtomicBool::new(false));
    let (start, mut through) = (now(), 0);
    let take = || {
        let job = locked(&job).take();
        job.map(|job| job())
    };
    let (a, own) = rayon::in_place_scope(|scope| {
        scope.spawn(|_| {
            let taken = Taken::new();
            let b = take();
            *locked(&result) = b;
            drop(taken);
            is_done.store(true, Ordering::Release);
        });
        let both = (a(), take());
        through = now();
        let is_pending = |_: &usize| !is_done.load(Ordering::Acquire);
        (0..TURNS).take_while(is_pending).for_each(|_| std::thread::yield_now());
        both
    });
    locked(&OFFERS).stall(now() - through, through - start);
    match own.or_else(|| locked(&result).take()) {
        Some(b) => (a, b),
        None => unreachable!("one of the two has done it"),
    }
}

#[cfg(test)]
mod tests {
    use super::{OFFERS, are_stalled, join};
    use crate::schedule::run::locked;
    use core::ops::Range;
    use std::panic::catch_unwind;
    use std::thread;

    fn sum(range: Range<u64>) -> u64 {
        if range.end - range.start < 4 {
            return range.sum();
        }
        let middle = range.start + (range.end - range.start) / 2;
        let (a, b) = join(|| sum(range.start..middle), || sum(middle..range.end));
        a + b
    }

    /// Every part is done once, whoever does it, and in the end no offer is open: else there would be fewer threads from then on.
    #[test]
    fn every_part_once() {
        let callers = [0, 1, 2, 100, 1000].map(|end| thread::spawn(move || (end, sum(0..end))));
        for caller in callers {
            let (end, found) = caller.join().expect("a caller does not panic");
            assert_eq!(found, (0..end).sum(), "{end}");
        }
        for (name, failed) in [
            ("first", catch_unwind(|| join(|| assert!(sum(0..20) > 1000), || sum(0..20))).is_err()),
            ("second", catch_unwind(|| join(|| sum(0..20), || assert!(sum(0..20) > 1000))).is_err()),
        ] {
            assert!(failed, "the panic of the {name} is not passed on");
        }
        let offers = locked(&OFFERS);
        assert_eq!((offers.open, offers.unheard), (0, 0));
    }

    #[test]
    fn a_long_wait() {
        const SECOND: u64 = 1_000_000_000;
        let stall = |waited, worked| locked(&OFFERS).stall(waited, worked);
        stall(2 * SECOND, 3 * SECOND);
        stall(100_000, 0);
        assert!(!are_stalled());
        stall(2 * SECOND, SECOND);
        assert!(are_stalled());
    }
}
