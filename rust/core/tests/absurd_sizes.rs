//! Sizes whose product overflows, or that no machine has: typed errors, never a panic and never a wrong result.

use corten_core::ops::{self, Activation, Index, Padding, Sections};
use corten_core::{DType, Device, Error, Result, Tensor};

const HUGE: usize = 1 << 40;
const DEVICES: [Device; 2] = [Device::Cpu, Device::Reference];

fn zeros(shape: &[usize], device: Device) -> Tensor {
    ops::zeros(shape, DType::F32, device).unwrap()
}
#[track_caller]
fn memory<T>(r: Result<T>) {
    assert!(matches!(r, Err(Error::Memory(_))), "{:?}", r.err());
}
#[track_caller]
fn shape_error<T>(r: Result<T>) {
    assert!(matches!(r, Err(Error::Shape(_))), "{:?}", r.err());
}
#[track_caller]
fn value_error<T>(r: Result<T>) {
    assert!(matches!(r, Err(Error::Value(_))), "{:?}", r.err());
}

#[test]
fn creation_fails_with_a_memory_error() {
    for device in DEVICES {
        for shape in [&[HUGE, HUGE][..], &[1 << 63, 2], &[usize::MAX], &[1 << 45]] {
            memory(ops::zeros(shape, DType::U8, device));
            memory(ops::rand(shape, DType::F64, device));
            memory(ops::randint(0, 9, shape, DType::I8, device));
        }
        memory(ops::eye(HUGE, None, 0, None, device));
        memory(ops::linspace(0.0, 1.0, usize::MAX, None, true, device));
        memory(ops::arange(
            0.0.into(),
            1.0.into(),
            1e-17.into(),
            None,
            device,
        ));
        value_error(ops::arange(
            0.0.into(),
            1.0.into(),
            1e-300.into(),
            None,
            device,
        ));
        memory(ops::arange(
            i64::MIN.into(),
            i64::MAX.into(),
            1.into(),
            None,
            device,
        ));
    }
}

#[test]
fn views_count_their_elements() {
    for device in DEVICES {
        let one = zeros(&[1], device);
        shape_error(ops::broadcast_to(&one, &[HUGE, HUGE]));
        let wide = ops::broadcast_to(&one, &[HUGE]).unwrap();
        let tall = ops::broadcast_to(&zeros(&[1, 1], device), &[HUGE, 1]).unwrap();
        memory(ops::add(&wide, &tall));
        memory(ops::less(&wide, &tall));
        memory(ops::matmul(&tall, &ops::expand_dims(&wide, 0).unwrap()));
        // 4 * 2^62 wraps to 0.
        let quarter = ops::broadcast_to(&one, &[1 << 62]).unwrap();
        memory(ops::concat(&[&quarter; 4], 0));
        shape_error(ops::reshape(&wide, &[1 << 52, 1 << 52]));
    }
}

#[test]
fn without_elements_any_other_size_is_fine() {
    for device in DEVICES {
        let x = zeros(&[0, HUGE, HUGE], device);
        assert_eq!(ops::flip(&x, None).unwrap().numel(), 0);
        let step = Index::Slice {
            start: Some(1),
            stop: None,
            step: Some(-3),
        };
        assert_eq!(
            ops::index(&x, &[step, step, Index::At(-1)])
                .unwrap()
                .numel(),
            0
        );
        assert_eq!(
            ops::exp(&ops::transpose(&x, 0, 1).unwrap())
                .unwrap()
                .numel(),
            0
        );
        assert_eq!(ops::split(&x, Sections::At(&[7]), 2).unwrap().len(), 2);
        assert_eq!(
            ops::reshape(&x, &[-1, 1 << 50, 1 << 50]).unwrap().shape()[0],
            0
        );
        shape_error(ops::reshape(&x, &[-1, 0]));
        assert_eq!(ops::copy(&x).unwrap().numel(), 0);
        memory(ops::sum(&x, Some(&[0]), false, None));
        // 2^33 * 2^31 wraps to 0.
        memory(ops::linear(
            &zeros(&[1 << 33, 0], device),
            &zeros(&[1 << 31, 0], device),
            None,
            Activation::None,
        ));
        memory(
            ops::linear(&x, &zeros(&[0, HUGE], device), None, Activation::None).and_then(|y| {
                ops::sum(&y, Some(&[0]), true, None)
                    .and_then(|_| ops::zeros(&[1 << 50], DType::F64, device))
            }),
        );
        // A stack of 2^40 empty products.
        let stack = |m: usize, n: usize| {
            ops::broadcast_to(&zeros(&[1, m, n], device), &[HUGE, m, n]).unwrap()
        };
        let y = ops::matmul(&stack(0, 3), &stack(3, 4)).unwrap();
        assert_eq!(y.shape()[..], [HUGE, 0, 4]);
    }
}

#[test]
fn windows_do_not_overflow() {
    let most = usize::MAX;
    for device in DEVICES {
        let x = zeros(&[1, 1, 5, 5], device);
        let w = zeros(&[1, 1, 2, 2], device);
        let conv = |stride, padding, dilation| {
            let a = Activation::None;
            ops::conv2d(&x, &w, None, [stride; 2], padding, [dilation; 2], 1, a)
        };
        value_error(conv(most, Padding::Valid, 1));
        value_error(conv(1, Padding::Explicit([most; 2]), 1));
        value_error(conv(1, Padding::Full, most));
        shape_error(conv(1, Padding::Valid, 1 << 30));
        memory(conv(1, Padding::Explicit([1 << 30; 2]), 1));
        // One output only: the stride does not matter.
        assert_eq!(conv(1 << 30, Padding::Valid, 1).unwrap().numel(), 1);
        let groups = ops::conv2d(
            &zeros(&[1, 0, 5, 5], device),
            &zeros(&[0, 2, 2, 2], device),
            None,
            [1; 2],
            Padding::Valid,
            [1; 2],
            1 << 63,
            Activation::None,
        );
        shape_error(groups);
        value_error(ops::max_pool2d(&x, [most; 2], None, [0; 2], [1; 2], false));
        value_error(ops::max_pool2d(
            &x,
            [2; 2],
            Some([most; 2]),
            [0; 2],
            [1; 2],
            false,
        ));
        value_error(ops::max_pool2d(&x, [2; 2], None, [0; 2], [most; 2], false));
        value_error(ops::avg_pool2d(&x, [2; 2], None, [most; 2], false, true));
        // The number of a tap has to fit its type.
        value_error(ops::max_pool2d(
            &x,
            [1 << 16; 2],
            None,
            [1 << 15; 2],
            [1; 2],
            false,
        ));
    }
}

#[test]
fn more_axes_than_anyone_needs() {
    for device in DEVICES {
        let mut x = ops::arange(0.into(), 6.into(), 1.into(), Some(DType::F32), device).unwrap();
        x = ops::transpose(&ops::reshape(&x, &[2, 3]).unwrap(), 0, 1).unwrap();
        for _ in 0..80 {
            x = ops::expand_dims(&x, 1).unwrap();
        }
        let want = [0.0, 3.0, 1.0, 4.0, 2.0, 5.0];
        assert_eq!(ops::copy(&x).unwrap().to_vec::<f32>().unwrap(), want);
        let total = ops::sum(&ops::add(&x, &x).unwrap(), None, false, None).unwrap();
        assert_eq!(total.to_vec::<f32>().unwrap(), [30.0]);
    }
}
