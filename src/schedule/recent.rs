//! Whether threads that share evaluations are still awake.
//!
//! Threads of a pool look for work for a while, some 10 to 20 µs, and then sleep. To wake one takes 5 µs of the one that calls and some 50 of
//! waiting, in which a short evaluation is through.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds after the end of an evaluation in which threads are still awake.
const AWAKE: u64 = 30_000;

/// When the last evaluation ended, on the clock of [`now`]; of any that could have been shared, since of several in a row the second is
/// to be.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds since some evaluation, and never less than [`AWAKE`].
pub(super) fn now() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    AWAKE + u64::try_from(FIRST.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX - AWAKE)
}

/// An evaluation ends.
pub(super) fn end() {
    LAST.store(now(), Ordering::Relaxed);
}

/// Whether one has ended just before.
pub(super) fn is_near() -> bool {
    now().saturating_sub(LAST.load(Ordering::Relaxed)) < AWAKE
}

#[cfg(test)]
mod tests {
    use super::{end, is_near};
    use std::thread::sleep;
    use std::time::Duration;

    /// Whether it is ever so: another process may have the processor for longer than threads are awake.
    fn ever(is_so: impl Fn() -> bool) -> bool {
        (0..1000).any(|_| is_so())
    }

    #[test]
    fn near_for_a_while() {
        assert!(!is_near());
        assert!(ever(|| {
            end();
            is_near()
        }));
        assert!(ever(|| {
            end();
            sleep(Duration::from_micros(50));
            !is_near()
        }));
    }
}
