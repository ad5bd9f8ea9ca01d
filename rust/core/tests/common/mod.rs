//! Two small networks, their data and their training loop, for the integration tests.
#![allow(dead_code)] // each test binary uses its own part

use corten_core::dtype::{DType, Element};
use corten_core::ops::{self, Activation, Padding, Reduction};
use corten_core::optim::{Adam, Sgd, adam_step, sgd_step};
use corten_core::{Device, Result, Tensor};

/// Uniform numbers in [-1, 1) from a generator of its own.
pub fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

/// Random numbers times `scale` in float32 or float64.
pub fn tensor<T: Element>(device: Device, shape: &[usize], scale: f64, seed: u64) -> Tensor {
    let data: Vec<T> = numbers(shape.iter().product(), seed)
        .into_iter()
        .map(|x| T::from_scalar((x * scale).into()))
        .collect();
    Tensor::from_slice_on(&data, shape, T::DTYPE, device).unwrap()
}

/// A parameter: a leaf that requires grad.
pub fn parameter<T: Element>(device: Device, shape: &[usize], seed: u64) -> Tensor {
    let fan_in: usize = shape[1..].iter().product::<usize>().max(1);
    let p = tensor::<T>(device, shape, (1.0 / fan_in as f64).sqrt(), seed);
    p.set_requires_grad(true).unwrap();
    p
}

/// Class indices below 10.
pub fn classes(device: Device, n: usize) -> Tensor {
    let data: Vec<i64> = (0..n as i64).map(|i| (i * 7 + i / 3) % 10).collect();
    Tensor::from_slice_on(&data, &[n], DType::I64, device).unwrap()
}

/// What is trained.
#[derive(Clone, Copy, Debug)]
pub enum Net {
    /// 20 - 16 ReLU - 10.
    Mlp,
    /// Two convolutions with pooling, batch norm after the first, dropout before the last of two linear layers; 12x12 images.
    LeNet,
}

impl Net {
    pub fn parameters<T: Element>(self, device: Device) -> Vec<Tensor> {
        let shapes: &[&[usize]] = match self {
            Self::Mlp => &[&[16, 20], &[16], &[10, 16], &[10]],
            Self::LeNet => &[
                &[4, 1, 5, 5],
                &[4],
                &[4],
                &[4],
                &[6, 4, 3, 3],
                &[6],
                &[16, 24],
                &[16],
                &[10, 16],
                &[10],
            ],
        };
        shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| parameter::<T>(device, shape, i as u64 + 1))
            .collect()
    }
    pub fn input<T: Element>(self, device: Device, batch: usize) -> Tensor {
        match self {
            Self::Mlp => tensor::<T>(device, &[batch, 20], 1.0, 100),
            Self::LeNet => tensor::<T>(device, &[batch, 1, 12, 12], 1.0, 100),
        }
    }
    pub fn forward(self, p: &[Tensor], x: &Tensor) -> Result<Tensor> {
        let relu = Activation::Relu;
        match self {
            Self::Mlp => {
                let h = ops::linear(x, &p[0], Some(&p[1]), relu)?;
                ops::linear(&h, &p[2], Some(&p[3]), Activation::None)
            }
            Self::LeNet => {
                let h = ops::conv2d(
                    x,
                    &p[0],
                    Some(&p[1]),
                    [1, 1],
                    Padding::Same,
                    [1, 1],
                    1,
                    Activation::None,
                )?; // 12
                let h = ops::batch_norm(&h, None, None, Some(&p[2]), Some(&p[3]), true, 0.1, 1e-5)?;
                let h = ops::max_pool2d(&ops::relu(&h)?, [2, 2], None, [0, 0], [1, 1], false)?; // 6
                let h = ops::conv2d(
                    &h,
                    &p[4],
                    Some(&p[5]),
                    [1, 1],
                    Padding::Valid,
                    [1, 1],
                    1,
                    relu,
                )?; // 4
                let h = ops::avg_pool2d(&h, [2, 2], None, [0, 0], false, true)?; // 2
                let n = h.shape()[0];
                let h = ops::reshape(&h, &[n as isize, 24])?;
                let h = ops::linear(&h, &p[6], Some(&p[7]), relu)?;
                let h = ops::dropout(&h, 0.25, true)?;
                ops::linear(&h, &p[8], Some(&p[9]), Activation::None)
            }
        }
    }
    pub fn loss(self, p: &[Tensor], x: &Tensor, target: &Tensor) -> Result<Tensor> {
        ops::cross_entropy(&self.forward(p, x)?, target, Reduction::Mean)
    }
}

/// Parameters with the state of Adam.
pub struct Trainer {
    pub params: Vec<Tensor>,
    m: Vec<Tensor>,
    v: Vec<Tensor>,
    step: u64,
}

impl Trainer {
    pub fn new(params: Vec<Tensor>) -> Self {
        let zeros = || {
            params
                .iter()
                .map(|p| ops::zeros_like(p, None).unwrap())
                .collect()
        };
        Self {
            m: zeros(),
            v: zeros(),
            params,
            step: 0,
        }
    }
    pub fn adam(&mut self) -> Result<()> {
        let grads: Vec<Tensor> = self.params.iter().map(|p| p.grad().unwrap()).collect();
        self.step += 1;
        let h = Adam {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-4,
            decoupled: true,
            maximize: false,
            step: self.step,
        };
        adam_step(&self.params, &grads, &self.m, &self.v, &h)
    }
    pub fn zero_grad(&self) {
        for p in &self.params {
            p.set_grad(None).unwrap();
        }
    }
}

/// Plain gradient descent on every parameter.
pub fn descend(params: &[Tensor], lr: f64) -> Result<()> {
    let grads: Vec<Tensor> = params.iter().map(|p| p.grad().unwrap()).collect();
    let h = Sgd {
        lr,
        momentum: 0.0,
        dampening: 0.0,
        weight_decay: 0.0,
        nesterov: false,
        maximize: false,
        first: false,
    };
    sgd_step(params, &grads, None, &h)
}

/// All bits of all tensors.
pub fn bits(tensors: &[Tensor]) -> Vec<u64> {
    tensors
        .iter()
        .flat_map(|t| t.to_scalars().unwrap())
        .map(|s| s.to_f64().to_bits())
        .collect()
}
