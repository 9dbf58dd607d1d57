//! The clock by which it is decided who does the work.

use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since it was asked first.
pub(super) fn now() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    u64::try_from(FIRST.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
