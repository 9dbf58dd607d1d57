//! Promise: a call whose workspace has served a problem as large before allocates nothing, on any thread.
//!
//! One test function alone: the counter counts every thread of the process, so nothing else may run beside it.

mod support;

use faer::Mat;
use rayon::{ThreadPool, ThreadPoolBuilder};
use softmax_regression::kernel::{exp, log, log_softmax, log_sum_exp, max, softmax};
use softmax_regression::{Objective, Parallelism, Reduction, Workspace};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Barrier;
use support::{Everything, Float, PARALLELISMS, Problem};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One shape for each way to cut up an evaluation.
const SHAPES: [(&str, (usize, usize, usize)); 7] = [
    ("nothing to share", (50, 4, 3)),
    ("one partial gradient, lanes across classes", (40, 5, 150)),
    ("many partial gradients", (24_000, 16, 4)),
    ("partial gradients, many classes", (401, 65, 101)),
    ("pieces of products, lanes across samples", (190, 131, 101)),
    ("pieces of products and of the softmax", (130, 65, 333)),
    ("pieces of wide products", (263, 1100, 391)),
];

/// Calls before the counted ones.
const WARM_UP: usize = 6;

/// Calls that are counted.
const COUNTED_CALLS: usize = 6;

/// Asserts that a call, once warm, allocates nothing: nor frees, which would tell of an allocation before.
#[track_caller]
fn allocates_nothing(what: &str, mut call: impl FnMut()) {
    (0..WARM_UP).for_each(|_| call());
    let region = Region::new(COUNTED);
    (0..COUNTED_CALLS).for_each(|_| call());
    let change = region.change();
    assert_eq!(change, stats_alloc::Stats::default(), "{what}");
}

fn every_entry_point<T: Float>(pool: &ThreadPool) {
    for (name, (m, n, k)) in SHAPES {
        let problem = Problem::<T>::random(m, n, k);
        let (x, theta) = (problem.x.as_ref(), problem.theta.as_ref());
        let mut gradient = Mat::<T>::zeros(n, k);
        let mut probabilities = Mat::<T>::zeros(m, k);
        let (mut losses, mut labels) = (vec![T::of(0.0); m], vec![0; m]);
        // A thread's first matrix product reserves a packing buffer, and who takes part in a call is up to chance.
        let serial = Objective::default().parallelism(Parallelism::Serial);
        pool.broadcast(|_| Everything::of(&serial, &problem.batch(true), x, theta, &mut Workspace::new()));
        let mut workspace = Workspace::new();
        for parallelism in PARALLELISMS {
            for weighted in [false, true] {
                let reduction = if weighted { Reduction::Mean } else { Reduction::Sum };
                let objective = Objective::default().parallelism(parallelism).reduction(reduction);
                let batch = problem.batch(weighted);
                let what = |call: &str| {
                    let threads = pool.current_num_threads();
                    format!("{call}, {name}, {}, {parallelism:?} of {threads}", size_of::<T>())
                };
                let workspace = &mut workspace;
                // Inside the pool: for a call from outside rayon makes jobs.
                pool.install(|| {
                    allocates_nothing(&what("loss_and_gradient"), || {
                        let gradient = gradient.as_mut();
                        objective.loss_and_gradient(&batch, theta, gradient, workspace).unwrap();
                    });
                    allocates_nothing(&what("loss"), || {
                        objective.loss(&batch, theta, workspace).unwrap();
                    });
                    allocates_nothing(&what("sample_losses"), || {
                        objective.sample_losses(&batch, theta, &mut losses, workspace).unwrap();
                    });
                    allocates_nothing(&what("probabilities"), || {
                        let out = probabilities.as_mut();
                        objective.probabilities(x, theta, out, workspace).unwrap();
                    });
                    let all = objective.clone().l2(0.5).label_smoothing(0.1).class_weights(&vec![0.5; k]);
                    let all = all.temperature(2.0).soft_cap(3.0).z_loss(0.1);
                    allocates_nothing(&what("with options"), || {
                        let gradient = gradient.as_mut();
                        all.loss_and_gradient(&batch, theta, gradient, workspace).unwrap();
                    });
                    allocates_nothing(&what("hessian_product"), || {
                        let out = gradient.as_mut();
                        all.hessian_product(&batch, theta, theta, out, workspace).unwrap();
                    });
                    allocates_nothing(&what("hessian_diagonal"), || {
                        all.hessian_diagonal(&batch, theta, gradient.as_mut(), workspace).unwrap();
                    });
                    allocates_nothing(&what("predict"), || {
                        objective.predict(x, theta, &mut labels, workspace).unwrap();
                    });
                });
            }
        }
    }
}

/// The workspace grows to the largest problem and then serves every smaller one.
fn smaller_problems<T: Float>() {
    let problems = SHAPES.map(|(_, (m, n, k))| Problem::<T>::random(m, n, k));
    let mut gradients = SHAPES.map(|(_, (_, n, k))| Mat::<T>::zeros(n, k));
    let objective = Objective::default().parallelism(Parallelism::Serial);
    let mut workspace = Workspace::new();
    let mut bytes = Vec::with_capacity(WARM_UP + COUNTED_CALLS);
    allocates_nothing("all shapes in turn", || {
        for (problem, gradient) in problems.iter().zip(&mut gradients) {
            let (batch, theta) = (problem.batch(true), problem.theta.as_ref());
            objective.loss_and_gradient(&batch, theta, gradient.as_mut(), &mut workspace).unwrap();
        }
        bytes.push(workspace.bytes());
    });
    assert!(bytes[0] > 0 && bytes.iter().all(|&b| b == bytes[0]), "{bytes:?}");
}

fn slices<T: Float>() {
    let mut x: Vec<T> = (0..1000).map(|i| T::of(f64::from(i % 17) / 17.0)).collect();
    allocates_nothing("slices", || {
        exp(&mut x);
        log(&mut x);
        softmax(&mut x);
        log_softmax(&mut x);
        x[0] = max(&x);
        x[1] = log_sum_exp(&x);
    });
}

/// That the counter counts, on another thread too: all that follows rests on it.
fn the_counter_counts(pool: &ThreadPool) {
    let region = Region::new(COUNTED);
    drop(std::hint::black_box(vec![1_u8; 100]));
    let here = region.change();
    assert!(here.allocations >= 1 && here.deallocations >= 1);
    pool.broadcast(|_| drop(std::hint::black_box(vec![1_u8; 100])));
    assert!(region.change().allocations >= here.allocations + pool.current_num_threads());
}

/// Makes every thread of a pool take work from another once: the first time it does, rayon's queues allocate.
fn let_every_thread_steal(pool: &ThreadPool) {
    let threads = pool.current_num_threads();
    for owner in 0..threads {
        // As many tasks in the queue of one thread as there are threads, each waiting for all to be taken.
        let barrier = Barrier::new(threads);
        let task = || {
            barrier.wait();
        };
        pool.broadcast(|context| {
            if context.index() == owner {
                rayon::scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| task())));
            }
        });
    }
}

#[test]
fn warm_calls_allocate_nothing() {
    // Kept to the end: threads that end free what they had.
    let pools = [2, 5].map(|threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    for pool in &pools {
        the_counter_counts(pool);
        let_every_thread_steal(pool);
        every_entry_point::<f32>(pool);
        every_entry_point::<f64>(pool);
    }
    smaller_problems::<f32>();
    smaller_problems::<f64>();
    slices::<f32>();
    slices::<f64>();
}
