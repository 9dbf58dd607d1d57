//! Whether threads bring anything to evaluations of one shape: learnt from what these took.
//!
//! How soon another thread wakes, and how long memory takes from one core to another, depends on the machine, on the program around
//! and on the minute, and of short evaluations it decides. So these are timed, and now and then some are carried out the other way,
//! alone or shared, for a few hundredths of the time at most.

use super::clock::now;
use super::run::locked;
use core::hash::{Hash, Hasher};
use std::hash::DefaultHasher;
use std::sync::{Mutex, MutexGuard};

/// Evaluations that are alike but for how many samples they have, of which some have up to twice as many as others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Of what they are alike in. It may be that of others: nothing but time depends on that.
    hash: u64,
    samples: usize,
    threads: usize,
}

impl Case {
    /// Of so many samples, alike in all else, which so many threads would share.
    pub(super) fn of(samples: usize, alike: impl Hash, threads: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        (samples.checked_ilog2(), alike, threads).hash(&mut hasher);
        Self { hash: hasher.finish(), samples, threads }
    }

    /// How many would share it.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Whether it is to be shared.
    pub(super) fn is_shared(&self) -> bool {
        self.experience().is_shared
    }

    /// Times one that begins.
    pub(crate) fn timer(self, is_shared: bool) -> Timer {
        Timer { case: self, is_shared, start: now() }
    }

    fn experience(&self) -> MutexGuard<'static, Experience> {
        /// More cases than a program has at a time. Of two with the same place each begins anew.
        const PLACES: usize = 64;
        static KNOWN: [Mutex<Experience>; PLACES] = [const { Mutex::new(Experience::of(0)) }; PLACES];
        let mut experience = locked(&KNOWN[self.hash as usize % PLACES]);
        if experience.hash != self.hash {
            *experience = Experience::of(self.hash);
        }
        experience
    }
}

/// Tells, dropped, what an evaluation has taken.
pub(crate) struct Timer {
    case: Case,
    is_shared: bool,
    start: u64,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Case { samples, threads, .. } = self.case;
        let took = (now() - self.start) as f64 / samples.max(1) as f64;
        self.case.experience().add(self.is_shared, took, threads as f64);
    }
}

/// Evaluations of a trial, ...
const TRIAL: u32 = 6;

/// ... and those of them that count: before, threads wake.
const COUNTED: u32 = 3;

/// How many times as long as it should take a trial takes at most: threads that others hold up may do so at each evaluation.
const HELD_UP: f64 = 3.0;

/// How many times longer than what a trial lost it takes until the next, at most; each that changes nothing doubles it, ...
const PATIENCE: f64 = 100.0;

/// ... the same after a trial alone: the time of that hardly changes, and meanwhile the other threads fall asleep, ...
const PATIENCE_WITH_OTHERS: f64 = 1000.0;

/// ... from this on after a change, for where other programs come and go the next is near. It is as long until the first of
/// evaluations that are not shared, which may lose all that the other threads could do meanwhile.
const PROMPTNESS: f64 = 10.0;

/// Evaluations that the time of one is averaged over.
const MEMORY: f64 = 24.0;

/// How many times that average one counts at most: the processor may have been away, or the other threads asleep.
const OUTLIER: f64 = 2.0;

/// How much longer one way takes than the other was found to take, before it is given up without a trial.
const CLEARLY: f64 = 1.125;

/// How much longer shared evaluations may take and yet be shared: as long as those alone they take where no other thread comes, and
/// it may be on the way. A system that has woken it on the caller's processor takes some ms to see that another is idle.
const NEARLY: f64 = 1.03;

/// What is known of one case. Times are nanoseconds, for each sample.
#[derive(Clone, Copy, Debug)]
struct Experience {
    /// Of the case.
    hash: u64,
    /// How evaluations are carried out at present.
    is_shared: bool,
    /// What one takes alone, and shared: for all that is known.
    times: [f64; 2],
    /// Evaluations left of a trial.
    trial: u32,
    /// Time since a trial began, or ended.
    spent: f64,
    /// Time until the next.
    rest: f64,
    /// How many times longer that is than what was lost.
    patience: f64,
}

impl Experience {
    const fn of(hash: u64) -> Self {
        let times = [f64::INFINITY; 2];
        Self { hash, is_shared: true, times, trial: TRIAL, spent: 0.0, rest: 0.0, patience: PROMPTNESS }
    }

    /// One has been carried out.
    fn add(&mut self, is_shared: bool, took: f64, threads: f64) {
        // Else it began before a change.
        if is_shared != self.is_shared {
            return;
        }
        let [own, other] = [is_shared, !is_shared].map(usize::from);
        if self.trial > 0 {
            self.spent += took;
            self.trial -= 1;
            if self.trial < COUNTED {
                self.times[own] = self.times[own].min(took);
            }
            if self.trial == 0 || self.spent > HELD_UP * f64::from(TRIAL) * self.times[other] {
                self.settle(threads);
            }
        } else {
            let took = took.min(OUTLIER * self.times[own]);
            self.spent += took;
            self.times[own] += (took - self.times[own]) / MEMORY;
            if self.spent > self.rest {
                self.times[other] = f64::INFINITY;
                (self.is_shared, self.trial, self.spent) = (!is_shared, TRIAL, 0.0);
            } else if self.times[own] > CLEARLY * self.times[other] {
                self.patience = PROMPTNESS;
                self.rest = self.patience * f64::from(TRIAL) * self.times[other];
                (self.is_shared, self.spent) = (!is_shared, 0.0);
            }
        }
    }

    /// After a trial.
    fn settle(&mut self, threads: f64) {
        let [alone, shared] = self.times;
        let trial = f64::from(TRIAL) * alone.min(shared);
        let tried_shared = self.is_shared;
        (self.is_shared, self.rest) = if alone.is_finite() {
            let is_shared = shared < NEARLY * alone;
            let changes = is_shared == tried_shared;
            let most = if is_shared { PATIENCE_WITH_OTHERS } else { PATIENCE };
            self.patience = if changes { PROMPTNESS } else { most.min(2.0 * self.patience) };
            (is_shared, self.patience * (self.spent - trial).max(trial))
        } else {
            (true, PROMPTNESS * trial * (threads - 1.0))
        };
        (self.trial, self.spent) = (0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::Experience;

    /// The time that some evaluations take together, of which one takes so long alone and shared.
    fn together(experience: &mut Experience, evaluations: usize, alone: f64, shared: f64) -> f64 {
        let one = |_| {
            let is_shared = experience.is_shared;
            let took = if is_shared { shared } else { alone };
            experience.add(is_shared, took, 2.0);
            took
        };
        (0..evaluations).map(one).sum()
    }

    #[test]
    fn the_better_way_is_found() {
        for (alone, shared) in [(1.0, 0.6), (1.0, 3.0), (1.0, 100.0)] {
            let mut experience = Experience::of(0);
            let time = together(&mut experience, 100_000, alone, shared);
            let best = alone.min(shared) * 1e5;
            assert!(time < 1.1 * best, "{alone}, {shared}: {time} instead of {best}");
        }
    }

    #[test]
    fn what_changes_is_noticed() {
        let mut experience = Experience::of(0);
        together(&mut experience, 10_000, 1.0, 0.6);
        assert!(experience.is_shared);
        together(&mut experience, 20, 1.0, 2.0);
        assert!(!experience.is_shared);
        together(&mut experience, 10_000, 1.0, 0.6);
        assert!(experience.is_shared);
    }

    /// Other threads fall asleep between spells of evaluations, and the first few of each wait for them.
    #[test]
    fn a_slow_start_is_soon_forgotten() {
        let mut experience = Experience::of(0);
        together(&mut experience, 10_000, 1.0, 0.6);
        let mut time = 0.0;
        for _ in 0..100 {
            time += together(&mut experience, 4, 1.0, 5.0);
            time += together(&mut experience, 396, 1.0, 0.6);
        }
        assert!(time < 0.75 * 40_000.0, "{time}");
    }

    /// A thread that was woken on the caller's processor is moved to another after some evaluations, which take as long as alone until
    /// then; and each time evaluations are not shared it falls asleep.
    #[test]
    fn threads_that_come_late_are_waited_for() {
        let mut experience = Experience::of(0);
        let (mut time, mut offered) = (0.0, 0);
        for _ in 0..100_000 {
            offered = if experience.is_shared { offered + 1 } else { 0 };
            time += together(&mut experience, 1, 1.0, if offered > 200 { 0.6 } else { 1.02 });
        }
        assert!(time < 0.65 * 1e5, "{time}");
    }

    /// Beside another program on the other processor, each evaluation that is shared may wait for it. A trial that tells so is short.
    #[test]
    fn threads_that_are_held_up_are_soon_tried_again() {
        let mut experience = Experience::of(0);
        // Until it is known that they are.
        together(&mut experience, 1000, 1.0, 80.0);
        assert!(!experience.is_shared);
        let time = together(&mut experience, 100_000, 1.0, 80.0);
        assert!(time < 1.02 * 1e5, "{time}");
        let time = together(&mut experience, 30_000, 1.0, 0.6);
        assert!(time < 0.75 * 3e4, "{time}");
    }

    /// Neither where sharing brings much nor where it brings nothing yet.
    #[test]
    fn an_interruption_changes_nothing() {
        for shared in [0.6, 1.01] {
            let mut experience = Experience::of(0);
            together(&mut experience, 10_000, 1.0, shared);
            // Not in a trial of the other way.
            while experience.trial > 0 {
                together(&mut experience, 1, 1.0, shared);
            }
            assert!(experience.is_shared, "{shared}");
            together(&mut experience, 1, 1.0, 1000.0);
            assert!(experience.is_shared, "{shared}");
        }
    }
}
