//! This crate.

use crate::engine::Engine;
use crate::problem::{Number, Problem, Request};
use faer::{Mat, MatRef};
use rayon::ThreadPoolBuilder;
use softmax_regression::{Batch, Objective, Parallelism, Real, Workspace};
use std::error::Error;
use std::time::{Duration, Instant};

struct Ours<T> {
    objective: Objective,
    problem: Problem<T>,
    shape: (usize, usize),
    /// Where X begins in its vector.
    start: usize,
    /// Column-major: the K×n of most libraries.
    theta: Mat<T>,
    gradient: Mat<T>,
    /// Row-major, like X: its transpose.
    input_gradient: Option<Mat<T>>,
    workspace: Workspace<T>,
    loss: f64,
}

pub(crate) fn prepare(request: &Request) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    let parallelism = if request.threads == 1 {
        // One thread, one program: what a caller without rayon gets.
        Parallelism::Serial
    } else {
        // The caller is one of the threads, as in OpenMP.
        if rayon::current_thread_index().is_none() {
            ThreadPoolBuilder::new().num_threads(request.threads).use_current_thread().build_global()?;
        }
        Parallelism::Rayon
    };
    let objective = Objective::default().parallelism(parallelism);
    Ok(if request.is_f64 {
        Box::new(Ours::<f64>::new(request, objective)?)
    } else {
        Box::new(Ours::<f32>::new(request, objective)?)
    })
}

/// Bytes of a cache line.
const LINE: usize = 64;

impl<T: Real + Number> Ours<T> {
    fn new(request: &Request, objective: Objective) -> Result<Self, Box<dyn Error>> {
        let mut problem = Problem::<T>::read(request)?;
        // At the start of a cache line, as the MKL worker has its own.
        let count = problem.x.len();
        problem.x.resize(count + LINE / size_of::<T>(), T::ZERO);
        let start = problem.x.as_ptr().align_offset(LINE);
        problem.x.copy_within(..count, start);
        let theta = MatRef::from_row_major_slice(&problem.theta, request.n, request.k).to_owned();
        Ok(Self {
            objective,
            shape: (request.m, request.n),
            start,
            theta,
            gradient: Mat::zeros(request.n, request.k),
            input_gradient: request.with_input_gradient.then(|| Mat::zeros(request.n, request.m)),
            workspace: Workspace::new(),
            loss: f64::NAN,
            problem,
        })
    }
}

impl<T: Real + Number> Engine for Ours<T> {
    fn evaluate(&mut self) -> Result<Duration, Box<dyn Error>> {
        let (m, n) = self.shape;
        let start = Instant::now();
        let x = MatRef::from_row_major_slice(&self.problem.x[self.start..][..m * n], m, n);
        let batch = Batch::new(x, &self.problem.labels)?;
        let (theta, gradient, workspace) = (self.theta.as_ref(), self.gradient.as_mut(), &mut self.workspace);
        self.loss = match &mut self.input_gradient {
            None => self.objective.loss_and_gradient(&batch, theta, gradient, workspace)?,
            Some(dx) => {
                let dx = dx.as_mut().transpose_mut();
                self.objective.loss_and_gradients(&batch, theta, gradient, dx, workspace)?
            }
        };
        Ok(start.elapsed())
    }

    fn result(&mut self) -> Result<(f64, Vec<f64>), Box<dyn Error>> {
        self.evaluate()?;
        let gradient = self.gradient.row_iter().flat_map(|row| row.iter().map(|g| g.to_f64())).collect();
        Ok((self.loss, gradient))
    }
}
