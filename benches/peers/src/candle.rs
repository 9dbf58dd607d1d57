//! candle, with its automatic differentiation (which computes the gradient by X too, whether wanted or not).

use crate::engine::Engine;
use crate::problem::{Number, Problem, Request};
use candle_core::{DType, Device, Tensor, Var, WithDType};
use candle_nn::ops::log_softmax;
use std::error::Error;
use std::time::{Duration, Instant};

struct Candle {
    x: Tensor,
    labels: Tensor,
    theta: Var,
    latest: Option<(f64, Tensor)>,
}

pub(crate) fn prepare(request: &Request) -> Result<Box<dyn Engine>, Box<dyn Error>> {
    Ok(Box::new(if request.is_f64 { Candle::new::<f64>(request)? } else { Candle::new::<f32>(request)? }))
}

impl Candle {
    fn new<T: WithDType + Number>(request: &Request) -> Result<Self, Box<dyn Error>> {
        let problem = Problem::<T>::read(request)?;
        let (m, n, k) = (request.m, request.n, request.k);
        Ok(Self {
            x: Tensor::from_vec(problem.x, (m, n), &Device::Cpu)?,
            labels: Tensor::from_vec(problem.labels, (m, 1), &Device::Cpu)?,
            theta: Var::from_vec(problem.theta, (n, k), &Device::Cpu)?,
            latest: None,
        })
    }
}

impl Engine for Candle {
    fn evaluate(&mut self) -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        let scores = self.x.matmul(&self.theta)?;
        let loss = log_softmax(&scores, 1)?.gather(&self.labels, 1)?.sum_all()?.neg()?;
        let mut gradients = loss.backward()?;
        let gradient = gradients.remove(&self.theta).ok_or("no gradient")?;
        let loss = loss.to_dtype(DType::F64)?.to_scalar()?;
        let elapsed = start.elapsed();
        self.latest = Some((loss, gradient));
        Ok(elapsed)
    }

    fn result(&mut self) -> Result<(f64, Vec<f64>), Box<dyn Error>> {
        self.evaluate()?;
        let (loss, gradient) = self.latest.take().ok_or("nothing evaluated")?;
        Ok((loss, gradient.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?))
    }
}
