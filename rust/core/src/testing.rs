//! Helpers of this crate's unit tests.

use crate::autograd::check::{Tolerance, gradcheck, gradgradcheck};
use crate::{DType, Device, Result, Tensor};

/// Every test of an operation runs on the kernels and on their twins.
pub(crate) const DEVICES: [Device; 2] = [Device::Reference, Device::Cpu];

/// A float64 leaf that requires grad.
pub(crate) fn leaf(data: &[f64], shape: &[usize], device: Device) -> Tensor {
    let x = Tensor::from_slice_on(data, shape, DType::F64, device).unwrap();
    x.set_requires_grad(true).unwrap();
    x
}
/// A leaf of irregular numbers in (-1, 1), no two alike and none near 0 or at a kink.
pub(crate) fn irregular(shape: &[usize], salt: usize, device: Device) -> Tensor {
    let n = crate::shape::numel(shape);
    let at = |i: usize| 0.05 + 0.9 * ((i + 1 + 31 * salt) as f64 * 0.754_877_666).fract();
    let sign = |i: usize| {
        if (i * 7 + salt).is_multiple_of(3) {
            -1.0
        } else {
            1.0
        }
    };
    let data: Vec<f64> = (0..n).map(|i| at(i) * sign(i)).collect();
    leaf(&data, shape, device)
}
/// The numbers of any float tensor.
pub(crate) fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_scalars()
        .unwrap()
        .into_iter()
        .map(|s| s.to_f64())
        .collect()
}
/// First and second order against differences, on C-ordered inputs and on permuted views of the same numbers.
pub(crate) fn check(shapes: &[&[usize]], positive: bool, f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let f = |x: &[Tensor]| Ok(vec![f(x)?]);
    for device in DEVICES {
        let make = |i: usize, shape: &[usize]| {
            let x = irregular(shape, i, device);
            if !positive {
                return x;
            }
            let x: Vec<f64> = numbers(&x).iter().map(|v| v.abs() + 0.2).collect();
            leaf(&x, shape, device)
        };
        let inputs: Vec<Tensor> = shapes.iter().enumerate().map(|(i, s)| make(i, s)).collect();
        gradcheck(&f, &inputs, Tolerance::default()).unwrap();
        gradgradcheck(
            &f,
            &inputs,
            Tolerance {
                eps: 1e-5,
                rtol: 1e-4,
                atol: 1e-6,
            },
        )
        .unwrap();
        let strided: Vec<Tensor> = inputs
            .iter()
            .map(|x| {
                let _mode = crate::autograd::no_grad();
                let back: Vec<isize> = (0..x.ndim() as isize).rev().collect();
                let t = crate::ops::permute_dims(x, &back).unwrap();
                let t = crate::ops::permute_dims(&crate::ops::copy(&t).unwrap(), &back).unwrap();
                t.set_requires_grad(true).unwrap();
                t
            })
            .collect();
        assert_eq!(
            numbers(&f(&strided).unwrap()[0]),
            numbers(&f(&inputs).unwrap()[0]),
            "a layout changed bits on {device}"
        );
        gradcheck(&f, &strided, Tolerance::default()).unwrap();
    }
}
