//! The whole of `Objective`. Usage: see the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| softmax_regression_fuzz::evaluation(data));
