//! Promise: the same bits on any number of threads, from inside a pool and outside, in every run, with a fresh workspace
//! or a used one, wherever the data lie in memory; on one instruction set.

mod support;

use faer::{Mat, MatRef};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use softmax_regression::{Batch, Objective, Parallelism, Reduction, Workspace};
use std::sync::LazyLock;
use support::{Everything, Float, PARALLELISMS, Problem, for_each_float, levels};

for_each_float!(
    threads,
    runs,
    used_workspaces,
    evaluations_side_by_side,
    addresses,
    levels_are_each_deterministic,
);

/// One shape for each way to cut up an evaluation.
const SHAPES: [(&str, (usize, usize, usize)); 18] = [
    ("nothing to share", (50, 4, 3)),
    ("one partial gradient, many blocks", (3000, 3, 2)),
    ("two partial gradients, little to multiply", (9000, 3, 2)),
    ("many partial gradients", (30_000, 16, 4)),
    ("partial gradients, ragged blocks and groups", (9973, 31, 13)),
    ("partial gradients, many classes", (601, 131, 101)),
    ("two partial gradients of few samples", (120, 500, 10)),
    ("two partial gradients of few features, lanes across classes", (46, 5, 2789)),
    ("pieces of products, few classes", (77, 1300, 10)),
    ("pieces of products, short lines of which some are left over", (64, 140, 32)),
    ("pieces of products, fewer samples than two registers", (20, 784, 50)),
    ("pieces of products, the least work of these", (65, 64, 64)),
    ("pieces of products, a single sample", (1, 900, 1201)),
    ("pieces of products, lanes across samples", (191, 131, 101)),
    ("pieces of products, lanes across classes", (50, 65, 333)),
    ("pieces of products and of the softmax", (130, 33, 1201)),
    ("pieces of copies", (25, 9, 4001)),
    ("pieces of wide products", (263, 1100, 391)),
];

static POOLS: LazyLock<Vec<ThreadPool>> = LazyLock::new(|| {
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    [1, 2, 3, 8].into_iter().map(pool).collect()
});

fn objective(parallelism: Parallelism) -> Objective {
    Objective::default().parallelism(parallelism).reduction(Reduction::Mean)
}

fn bits<T: Float>(objective: &Objective, problem: &Problem<T>, workspace: &mut Workspace<T>) -> Vec<u64> {
    let (x, theta) = (problem.x.as_ref(), problem.theta.as_ref());
    Everything::of(objective, &problem.batch(true), x, theta, workspace).bits()
}

/// The bits of a serial evaluation, and the problem.
fn serial<T: Float>((m, n, k): (usize, usize, usize)) -> (Problem<T>, Vec<u64>) {
    let problem = Problem::random(m, n, k);
    let expected = bits(&objective(Parallelism::Serial), &problem, &mut Workspace::new());
    (problem, expected)
}

/// Not `assert_eq`: that would print millions of numbers.
#[track_caller]
fn same(found: &[u64], expected: &[u64], what: &str) {
    let differ = found.iter().zip(expected).filter(|(a, b)| a != b).count();
    assert!(found.len() == expected.len() && differ == 0, "{what}: {differ} of {} differ", expected.len());
}

fn threads<T: Float>() {
    for (name, shape) in SHAPES {
        let (problem, expected) = serial::<T>(shape);
        for block_bytes in [None, Some(1), Some(100_000)] {
            let with = |parallelism| {
                let objective = objective(parallelism);
                match block_bytes {
                    None => objective,
                    Some(bytes) => objective.block_bytes(bytes),
                }
            };
            // Another block size is another order of sums.
            let expected = match block_bytes {
                None => expected.clone(),
                Some(_) => bits(&with(Parallelism::Serial), &problem, &mut Workspace::new()),
            };
            let rayon = with(Parallelism::Rayon);
            let found = bits(&rayon, &problem, &mut Workspace::new());
            same(&found, &expected, &format!("{name}, {block_bytes:?}, outside"));
            for pool in POOLS.iter() {
                let found = pool.install(|| bits(&rayon, &problem, &mut Workspace::new()));
                let threads = pool.current_num_threads();
                same(&found, &expected, &format!("{name}, {block_bytes:?}, {threads} threads"));
            }
        }
    }
}

fn runs<T: Float>() {
    for (name, shape) in SHAPES {
        let (problem, expected) = serial::<T>(shape);
        let mut workspace = Workspace::new();
        for run in 0..5 {
            let pool = &POOLS[run % POOLS.len()];
            let rayon = objective(Parallelism::Rayon);
            let found = pool.install(|| bits(&rayon, &problem, &mut workspace));
            same(&found, &expected, &format!("{name}, run {run}"));
        }
    }
}

/// A workspace that has served every other shape before, larger ones and smaller, and NaN.
fn used_workspaces<T: Float>() {
    let problems = SHAPES.map(|(name, shape)| (name, serial::<T>(shape)));
    for parallelism in PARALLELISMS {
        let mut workspace = Workspace::new();
        for _ in 0..2 {
            for (name, (problem, expected)) in problems.iter().chain(problems.iter().rev()) {
                let found = bits(&objective(parallelism), problem, &mut workspace);
                same(&found, expected, &format!("{name}, {parallelism:?}"));
            }
            let mut poisoned = Problem::<T>::random(2000, 7, 5);
            poisoned.x.fill(T::of(f64::NAN));
            bits(&objective(parallelism), &poisoned, &mut workspace);
        }
    }
}

/// Several evaluations at once in one pool, each a task of it.
fn evaluations_side_by_side<T: Float>() {
    let problems = SHAPES.map(|(name, shape)| (name, serial::<T>(shape)));
    for pool in POOLS.iter() {
        let check = |task: usize| {
            let (name, (problem, expected)) = &problems[task % problems.len()];
            let parallelism = if task % 5 == 4 { Parallelism::Serial } else { Parallelism::Rayon };
            let found = bits(&objective(parallelism), problem, &mut Workspace::new());
            same(&found, expected, &format!("{name}, task {task}, {} threads", pool.current_num_threads()));
        };
        pool.install(|| (0..2 * problems.len()).into_par_iter().for_each(check));
    }
}

/// A copy, with the same strides, that begins a few elements on from where an allocation does.
fn moved<T: Float>(matrix: &Mat<T>, by: usize) -> Vec<T> {
    let stride = matrix.col_stride() as usize;
    let mut data = vec![T::of(0.0); by + stride * matrix.ncols()];
    for k in 0..matrix.ncols() {
        data[by + k * stride..][..matrix.nrows()].copy_from_slice(matrix.col_as_slice(k));
    }
    data
}

/// X and Θ that begin at any element of a cache line.
fn addresses<T: Float>() {
    for (name, shape) in SHAPES {
        let (problem, expected) = serial::<T>(shape);
        for by in [0, 1, 3, 5, 16] {
            let (x, theta) = (moved(&problem.x, by), moved(&problem.theta, 7 * by));
            let view = |data, like: &Mat<T>| {
                let (rows, cols) = like.shape();
                MatRef::<T>::from_column_major_slice_with_stride(data, rows, cols, like.col_stride() as usize)
            };
            let (x, theta) = (view(&x[by..], &problem.x), view(&theta[7 * by..], &problem.theta));
            let batch = Batch::new(x, &problem.labels).unwrap();
            let batch = batch.with_sample_weights(&problem.weights).unwrap();
            let objective = objective(Parallelism::Rayon);
            let found = Everything::of(&objective, &batch, x, theta, &mut Workspace::new()).bits();
            same(&found, &expected, &format!("{name}, {by} elements on"));
        }
    }
}

fn levels_are_each_deterministic<T: Float>() {
    for level in levels() {
        for (name, (m, n, k)) in SHAPES {
            let problem = Problem::<T>::random(m.div_ceil(4), n, k);
            let at = |parallelism| {
                let objective = objective(parallelism).simd_level(level);
                POOLS[2].install(|| bits(&objective, &problem, &mut Workspace::new()))
            };
            same(&at(Parallelism::Rayon), &at(Parallelism::Serial), &format!("{name}, {level:?}"));
        }
    }
}
