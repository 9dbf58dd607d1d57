//! The oracle of the fuzz targets: bytes become an input, the crate is called, and every result is held against a truth
//! computed in twice the precision, with bounds that are the crate's contract or follow from it.
//!
//! ```text
//! mkdir -p fuzz/corpus/evaluation
//! cargo +nightly fuzz run evaluation fuzz/corpus/evaluation fuzz/seeds/evaluation -- -max_total_time=60 -max_len=4096
//! ```
//!
//! and the same with `kernels`. libFuzzer writes to the first directory, which git ignores; `fuzz/seeds` is the corpus
//! that is kept, and `tests/fuzz_seeds.rs` replays it with this very code on a stable compiler, without libFuzzer. An
//! input that fails is worth keeping there once its cause is mended. `RAYON_NUM_THREADS` sets the threads.
//!
//! - [`exact`]: arithmetic, exp and log of some 100 bits.
//! - [`truth`]: one row of scores: what the contract promises of it, and how closely.
//! - [`expectation`]: a whole batch: the same through the rounding of the products.
//! - [`draw`], [`labels`], [`matrix`], [`case`]: bytes to numbers, labels, layouts, and a whole evaluation.
//! - [`kernels`](mod@kernels), [`evaluation`](mod@evaluation): the two targets.
//!
//! No tolerance was tried out: each is derived where it stands.

#![forbid(unsafe_code)]

pub mod case;
pub mod draw;
pub mod evaluation;
pub mod exact;
pub mod expectation;
pub mod kernels;
pub mod labels;
pub mod matrix;
pub mod number;
pub mod truth;

/// Checks the kernels on one input.
///
/// # Panics
/// If a result is not what the contract says.
pub fn kernels(data: &[u8]) {
    kernels::run(data);
}

/// Checks an evaluation on one input.
///
/// # Panics
/// If a result is not what the contract says.
pub fn evaluation(data: &[u8]) {
    evaluation::run(data);
}
