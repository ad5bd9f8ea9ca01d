//! What the unit tests of the operations share.
use super::index::{Spans, slice_spans};
use super::permute_dims;
use crate::autograd::{Tolerance, gradcheck, gradgradcheck};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::layout::{Layout, Span};
use crate::tensor::Tensor;

/// Both devices: every operation exists on both.
pub(super) const DEVICES: [Device; 2] = [Device::Cpu, Device::Reference];

/// Uniform numbers in [-1, 1) from a small generator of its own, so that the tests do not rest on what they test.
pub(super) fn numbers(n: usize, seed: u64) -> Vec<f64> {
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

/// A float64 leaf that requires grad.
pub(super) fn leaf(device: Device, shape: &[usize], seed: u64) -> Tensor {
    let x = constant(device, shape, seed);
    x.set_requires_grad(true).unwrap();
    x
}

/// A float64 tensor.
pub(super) fn constant(device: Device, shape: &[usize], seed: u64) -> Tensor {
    let n = shape.iter().product();
    Tensor::from_slice_on(&numbers(n, seed), shape, DType::F64, device).unwrap()
}

/// int64 numbers.
pub(super) fn integers(device: Device, shape: &[usize], data: &[i64]) -> Tensor {
    Tensor::from_slice_on(data, shape, DType::I64, device).unwrap()
}

/// A leaf whose axes lie in memory in reverse order, with every second element left out: nothing about it is contiguous.
pub(super) fn strided_leaf(device: Device, shape: &[usize], seed: u64) -> Tensor {
    let mut memory: Vec<usize> = shape.iter().rev().copied().collect();
    if let Some(last) = memory.last_mut() {
        *last *= 2;
    }
    let big = constant(device, &memory, seed).value();
    let mut spans: Vec<Span> = memory
        .iter()
        .map(|&len| Span {
            start: 0,
            step: 1,
            len,
        })
        .collect();
    if let Some(last) = spans.last_mut() {
        (last.step, last.len) = (2, last.len / 2);
    }
    let axes: Vec<usize> = (0..shape.len()).rev().collect();
    let layout: Layout = big.layout.slice(&spans).permute(&axes);
    let x = Tensor::from_value(big.with_layout(layout));
    assert_eq!(&x.shape()[..], shape);
    x.set_requires_grad(true).unwrap();
    x
}

/// First and second order against differences, in float64.
pub(super) fn check_gradients(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) {
    let f = |t: &[Tensor]| Ok(vec![f(t)?]);
    gradcheck(&f, inputs, Tolerance::default()).unwrap();
    gradgradcheck(&f, inputs, Tolerance::default()).unwrap();
}

/// [`check_gradients`] of `f` on tensors of these shapes none of which is contiguous: views of larger leaves.
pub(super) fn check_gradients_strided(
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    device: Device,
    shapes: &[&[usize]],
) {
    let memory = |shape: &[usize]| -> Vec<usize> {
        let mut memory: Vec<usize> = shape.iter().rev().copied().collect();
        if let Some(last) = memory.last_mut() {
            *last *= 2;
        }
        memory
    };
    let leaves: Vec<Tensor> = shapes
        .iter()
        .zip(1..)
        .map(|(shape, seed)| leaf(device, &memory(shape), seed))
        .collect();
    let view = |x: &Tensor| {
        let mut spans: Spans = x
            .shape()
            .iter()
            .map(|&len| Span {
                start: 0,
                step: 1,
                len,
            })
            .collect();
        if let Some(last) = spans.last_mut() {
            *last = Span {
                start: 1,
                step: 2,
                len: last.len / 2,
            };
        }
        let axes: Vec<isize> = (0..x.ndim() as isize).rev().collect();
        permute_dims(&slice_spans(x, spans)?, &axes)
    };
    check_gradients(
        |t| f(&t.iter().map(view).collect::<Result<Vec<_>>>()?),
        &leaves,
    );
}

/// Equal shapes, and elements that differ by at most `tolerance` (absolute and relative).
pub(super) fn assert_close(a: &Tensor, b: &Tensor, tolerance: f64) {
    assert_eq!(a.shape(), b.shape());
    let (a, b): (Vec<f64>, Vec<f64>) = (to_f64(a), to_f64(b));
    for (i, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * b.abs().max(1.0),
            "element {i}: {a} and {b}"
        );
    }
}

/// All elements in C order.
pub(super) fn to_f64(x: &Tensor) -> Vec<f64> {
    x.to_scalars()
        .unwrap()
        .into_iter()
        .map(|s| s.to_f64())
        .collect()
}

/// Fused and composed agree in value and in first gradients (of a weighted sum, so that every element counts differently).
pub(super) fn check_twin(
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    composed: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
) {
    let (y, z) = (fused(inputs).unwrap(), composed(inputs).unwrap());
    assert_close(&y, &z, 1e-11);
    let g = constant(y.device(), y.shape(), 77);
    let gradients = |y: &Tensor| -> Vec<Option<Tensor>> {
        for x in inputs {
            x.set_grad(None).unwrap();
        }
        y.backward(Some(&g), false, false).unwrap();
        inputs.iter().map(Tensor::grad).collect()
    };
    for (a, b) in gradients(&y).into_iter().zip(gradients(&z)) {
        match (a, b) {
            (Some(a), Some(b)) => assert_close(&a, &b, 1e-10),
            (a, b) => assert!(
                a.is_none() && b.is_none(),
                "only one of the two has a gradient"
            ),
        }
    }
}

/// The text of an error.
pub(super) fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this must be refused"),
        Err(error) => error.to_string(),
    }
}
