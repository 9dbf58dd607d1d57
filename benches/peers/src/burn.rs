//! burn, on its CPU backend (flex), with its automatic differentiation.

use crate::engine::Engine;
use crate::problem::{Problem, Request};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use std::error::Error;
use std::time::{Duration, Instant};

struct Burn {
    x: Tensor<2>,
    labels: Tensor<2, Int>,
    theta: Tensor<2>,
    latest: Option<(f64, Tensor<2>)>,
}

pub(crate) fn prepare(request: &Request) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    let (m, n, k) = (request.m, request.n, request.k);
    let (x, theta, labels, dtype) = if request.is_f64 {
        let problem = Problem::<f64>::read(request)?;
        let data = (TensorData::new(problem.x, [m, n]), TensorData::new(problem.theta, [n, k]));
        (data.0, data.1, problem.labels, DType::F64)
    } else {
        let problem = Problem::<f32>::read(request)?;
        let data = (TensorData::new(problem.x, [m, n]), TensorData::new(problem.theta, [n, k]));
        (data.0, data.1, problem.labels, DType::F32)
    };
    let device = Device::flex().autodiff();
    let labels: Vec<i64> = labels.into_iter().map(i64::from).collect();
    Ok(Box::new(Burn {
        x: Tensor::from_data(x, (&device, dtype)),
        labels: Tensor::from_data(TensorData::new(labels, [m, 1]), (&device, DType::I64)),
        theta: Tensor::from_data(theta, (&device, dtype)),
        latest: None,
    }))
}

impl Engine for Burn {
    fn evaluate(&mut self) -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        let theta = self.theta.clone().require_grad();
        let scores = self.x.clone().matmul(theta.clone());
        let loss = log_softmax(scores, 1).gather(1, self.labels.clone()).sum().neg();
        let mut gradients = loss.backward();
        let gradient = theta.grad_remove(&mut gradients).ok_or("no gradient")?;
        let loss = loss.into_scalar();
        let elapsed = start.elapsed();
        self.latest = Some((loss, gradient));
        Ok(elapsed)
    }

    fn result(&mut self) -> Result<(f64, Vec<f64>), Box<dyn Error>> {
        self.evaluate()?;
        let (loss, gradient) = self.latest.take().ok_or("nothing evaluated")?;
        Ok((loss, gradient.into_data_as::<f64>().try_to_vec()?))
    }
}
