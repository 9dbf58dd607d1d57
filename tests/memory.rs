//! Promise: scores never exist for more than a block. For 2048 samples of 32,000 classes they would take 262 MB.
//!
//! Linux only: the peak is what the kernel says it was (`VmHWM` of /proc/self/status). One test alone in its process.

#![cfg(target_os = "linux")]

mod support;

use faer::Mat;
use softmax_regression::{Batch, Objective, Workspace};
use std::fs;
use support::Random;

const SAMPLES: usize = 2048;
const FEATURES: usize = 1024;
const CLASSES: usize = 32_000;

/// Most that an evaluation may use beyond X, Θ and the gradient: half of what all scores would take.
const MOST: usize = 128 << 20;

/// A line of /proc/self/status, in bytes.
fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kibibytes = line.trim_start_matches(':').trim_end_matches("kB").trim();
    kibibytes.parse::<usize>().unwrap() << 10
}

#[test]
fn peak_memory_of_32_000_classes() {
    let mut random = Random::new(1);
    let x: Mat<f32> = random.matrix(SAMPLES, FEATURES, 1.0);
    let theta: Mat<f32> = random.matrix(FEATURES, CLASSES, 0.1);
    let labels: Vec<u32> = (0..SAMPLES).map(|_| random.below(CLASSES) as u32).collect();
    // Not zeros: pages of those are not there until they are written.
    let mut gradient = Mat::full(FEATURES, CLASSES, f32::NAN);
    let batch = Batch::new(&x, &labels).unwrap();

    // 5 makes the peak what there is now. Where that is not allowed the peak so far stays: no more than the temporary
    // copies made above, of which there are none.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = status("VmHWM");
    let mut workspace = Workspace::new();
    let objective = Objective::default();
    let loss =
        objective.loss_and_gradient(&batch, theta.as_ref(), gradient.as_mut(), &mut workspace).unwrap();
    let grown = status("VmHWM") - before;

    let resident = size_of::<f32>() * (SAMPLES * FEATURES + 2 * FEATURES * CLASSES);
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "peak {:.0} MiB: {:.0} of X, Θ and gradient before, {:.1} more for the evaluation, of which workspace {:.1}; \
         all scores would be {:.0}",
        mib(before + grown),
        mib(resident),
        mib(grown),
        mib(workspace.bytes()),
        mib(size_of::<f32>() * SAMPLES * CLASSES),
    );
    assert!(before >= resident, "X, Θ and gradient were not resident: {before} of {resident} bytes");
    assert!(grown < MOST, "{:.1} MiB", mib(grown));
    // That it was counted at all, and the work done.
    assert!(grown >= workspace.bytes() / 2 && workspace.bytes() > 0, "{grown} bytes");
    assert!(loss.is_finite() && gradient.as_ref().is_all_finite());
}
