//! Replays the seeds of the fuzz targets on a stable compiler, with the oracle of the fuzz targets themselves.
//!
//! `cargo test --test fuzz_seeds`. What the oracle asserts, and how to fuzz, is told in `fuzz/src/lib.rs`.

#[allow(unreachable_pub, dead_code, reason = "it is a library elsewhere, with users this file does not have")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Every file of a directory, in the order of their names.
fn seeds(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut seeds: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    assert!(!seeds.is_empty(), "{} is empty", directory.display());
    seeds.sort();
    seeds
}

/// All are tried, so that one that fails does not hide the next.
fn replay(target: &str, run: fn(&[u8])) {
    let failed: Vec<PathBuf> = seeds(target)
        .into_iter()
        .filter(|seed| {
            let data = fs::read(seed).unwrap_or_else(|error| panic!("{}: {error}", seed.display()));
            catch_unwind(|| run(&data)).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "{target}: failed on {failed:#?}");
}

#[test]
fn kernels() {
    replay("kernels", fuzz::kernels);
}

#[test]
fn evaluation() {
    replay("evaluation", fuzz::evaluation);
}
