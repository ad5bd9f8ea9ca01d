//! Pooling over 2-D windows.
//!
//! Each pair of a pooling and its transpose is closed under differentiation, so any order of gradient comes for free:
//! max pooling backward scatters to the winning taps and its gradient gathers from them; average pooling is linear.
use super::common::check_float;
use super::window::{check_positive, check_sane, extent, pooling_axis};
use super::{expand_dims, squeeze, take};
use crate::autograd::{record, vjp};
use crate::backend::dispatch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::value::Value;
use corten_kernels::pool::Pool2d;

/// Largest element of each window.
///
/// * `x (N, C, H, W)` or `(C, H, W)`; padding counts as minus infinity and never wins; NaN wins.
/// * Result `(N, C, OH, OW)`, `OH = floor((H + 2*padding - dilation*(KH-1) - 1) / stride) + 1`; with `ceil_mode` the quotient
///   is rounded up, as long as the last window starts inside the input or the padding before it.
/// * `stride` defaults to the kernel size. Equal maxima: the first (in C order of the window) gets the gradient.
///
/// Errors: `Shape` when the rank is wrong or the kernel does not fit, `Value` for a zero size or padding above half the kernel,
/// `Dtype` unless `x` is floating-point.
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html>.
pub fn max_pool2d(
    x: &Tensor,
    kernel_size: [usize; 2],
    stride: Option<[usize; 2]>,
    padding: [usize; 2],
    dilation: [usize; 2],
    ceil_mode: bool,
) -> Result<Tensor> {
    if x.ndim() == 3 {
        let x = expand_dims(x, 0)?;
        return squeeze(
            &max_pool2d(&x, kernel_size, stride, padding, dilation, ceil_mode)?,
            Some(&[0]),
        );
    }
    let p = geometry(
        "max_pool2d",
        x,
        kernel_size,
        stride.unwrap_or(kernel_size),
        padding,
        dilation,
        ceil_mode,
    )?;
    max_pool(&p, x)
}

/// Mean of each window.
///
/// * Shapes as for [`max_pool2d`] (without dilation).
/// * `count_include_pad`: zeros of the declared padding count as elements; otherwise the sum is divided by the number of real
///   elements in the window. What `ceil_mode` adds beyond the padding never counts.
///
/// Errors: as for [`max_pool2d`].
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html>.
pub fn avg_pool2d(
    x: &Tensor,
    kernel_size: [usize; 2],
    stride: Option<[usize; 2]>,
    padding: [usize; 2],
    ceil_mode: bool,
    count_include_pad: bool,
) -> Result<Tensor> {
    if x.ndim() == 3 {
        let x = expand_dims(x, 0)?;
        return squeeze(
            &avg_pool2d(
                &x,
                kernel_size,
                stride,
                padding,
                ceil_mode,
                count_include_pad,
            )?,
            Some(&[0]),
        );
    }
    let p = geometry(
        "avg_pool2d",
        x,
        kernel_size,
        stride.unwrap_or(kernel_size),
        padding,
        [1, 1],
        ceil_mode,
    )?;
    avg_pool(Average::Window(p, count_include_pad), x)
}

/// Mean over `output_size` nearly equal cells: cell `i` averages rows `floor(i*H/OH) .. ceil((i+1)*H/OH)`, and so for columns.
///
/// `x (N, C, H, W)` or `(C, H, W)`; `None` in `output_size` keeps the size of that axis.
///
/// Errors: `Shape` when the rank is wrong or the input has no rows or columns to average, `Value` for an output of 0, `Dtype` unless `x` is floating-point.
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html>.
pub fn adaptive_avg_pool2d(x: &Tensor, output_size: [Option<usize>; 2]) -> Result<Tensor> {
    const OP: &str = "adaptive_avg_pool2d";
    if x.ndim() == 3 {
        let x = expand_dims(x, 0)?;
        return squeeze(&adaptive_avg_pool2d(&x, output_size)?, Some(&[0]));
    }
    let ([h, w], [oh, ow]) = adaptive(OP, x, output_size)?;
    avg_pool(Average::Adaptive { h, w, oh, ow }, x)
}

/// Checks an adaptive pooling and gives the sizes of input and output.
fn adaptive(
    op: &'static str,
    x: &Tensor,
    output_size: [Option<usize>; 2],
) -> Result<([usize; 2], [usize; 2])> {
    check_float(op, "x", x)?;
    let [_, _, h, w] = planes(op, x)?;
    let (oh, ow) = (output_size[0].unwrap_or(h), output_size[1].unwrap_or(w));
    if oh == 0 || ow == 0 {
        return Err(Error::value(
            op,
            format!(
                "output_size must be at least 1, got ({oh}, {ow}) for x {}",
                x.shape()
            ),
        ));
    }
    check_sane(op, "output_size", [oh, ow])?;
    if h == 0 || w == 0 {
        return Err(Error::shape(
            op,
            format!("cannot pool over no rows or columns: x {}", x.shape()),
        ));
    }
    Ok(([h, w], [oh, ow]))
}

/// Largest element of each of `output_size` nearly equal cells, which are those of [`adaptive_avg_pool2d`]; NaN wins, and of equal
/// maxima the first gets the gradient.
///
/// `x (N, C, H, W)` or `(C, H, W)`; `None` in `output_size` keeps the size of that axis.
///
/// Errors: as for [`adaptive_avg_pool2d`].
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_max_pool2d.html>.
pub fn adaptive_max_pool2d(x: &Tensor, output_size: [Option<usize>; 2]) -> Result<Tensor> {
    const OP: &str = "adaptive_max_pool2d";
    if x.ndim() == 3 {
        let x = expand_dims(x, 0)?;
        return squeeze(&adaptive_max_pool2d(&x, output_size)?, Some(&[0]));
    }
    let (sizes, out) = adaptive(OP, x, output_size)?;
    // Cells of different sizes or with common elements are laid out side by side, all of the size of the largest: the last element
    // of a smaller one is repeated, which changes neither its maximum nor which element is the first to have it.
    let (mut x, mut kernel) = (x.clone(), [1, 1]);
    for d in 0..2 {
        let (n, cells) = (sizes[d], out[d]);
        if n % cells == 0 {
            kernel[d] = n / cells;
            continue;
        }
        let cell = |i: usize| i * n / cells..((i + 1) * n).div_ceil(cells);
        kernel[d] = (0..cells).map(|i| cell(i).len()).max().unwrap_or(1);
        let rows = (0..cells).flat_map(|i| {
            let last = cell(i).end - 1;
            cell(i).chain(core::iter::repeat(last)).take(kernel[d])
        });
        let rows: Vec<i64> = rows.map(|r| r as i64).collect();
        let rows = Tensor::from_slice_on(&rows, &[rows.len()], DType::I64, x.device())?;
        x = take(&x, &rows, Some(2 + d as isize))?;
    }
    max_pool2d(&x, kernel, None, [0, 0], [1, 1], false)
}

/// The four sizes of an image batch.
fn planes(op: &'static str, x: &Tensor) -> Result<[usize; 4]> {
    let shape = x.shape();
    match shape[..] {
        [n, c, h, w] => Ok([n, c, h, w]),
        _ => Err(Error::shape(
            op,
            format!("x must be (N, C, H, W) or (C, H, W), got {}", shape),
        )),
    }
}

/// Checks everything and works out the number of windows.
fn geometry(
    op: &'static str,
    x: &Tensor,
    kernel: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 2],
    dilation: [usize; 2],
    ceil_mode: bool,
) -> Result<Pool2d> {
    check_float(op, "x", x)?;
    let [n, c, h, w] = planes(op, x)?;
    check_positive(op, "kernel_size", kernel)?;
    check_positive(op, "stride", stride)?;
    check_positive(op, "dilation", dilation)?;
    for (name, pair) in [
        ("kernel_size", kernel),
        ("stride", stride),
        ("dilation", dilation),
        ("padding", pad),
    ] {
        check_sane(op, name, pair)?;
    }
    if kernel[0] * kernel[1] > i32::MAX as usize {
        return Err(Error::value(
            op,
            format!(
                "a window can have at most 2147483647 elements, not {}x{}",
                kernel[0], kernel[1]
            ),
        ));
    }
    if pad[0] > kernel[0] / 2 || pad[1] > kernel[1] / 2 {
        return Err(Error::value(
            op,
            format!(
                "padding must be at most half the kernel, so that no window lies in the padding alone: padding ({}, {}), \
                 kernel_size ({}, {})",
                pad[0], pad[1], kernel[0], kernel[1]
            ),
        ));
    }
    let rows = pooling_axis(h, kernel[0], stride[0], pad[0], dilation[0], ceil_mode);
    let columns = pooling_axis(w, kernel[1], stride[1], pad[1], dilation[1], ceil_mode);
    let (Some(oh), Some(ow)) = (rows, columns) else {
        return Err(Error::shape(
            op,
            format!(
                "a window of {}x{} does not fit into the padded input of {}x{}: x {} (use a smaller kernel or more padding)",
                extent(kernel[0], dilation[0]),
                extent(kernel[1], dilation[1]),
                h + 2 * pad[0],
                w + 2 * pad[1],
                x.shape()
            ),
        ));
    };
    // Only a dilated kernel can step over all that is real, and only an empty input has nothing to see.
    let sees = |axis: usize, windows: usize, size: usize| {
        (0..windows).all(|i| {
            let first = i * stride[axis];
            (0..kernel[axis])
                .any(|q| (pad[axis]..pad[axis] + size).contains(&(first + q * dilation[axis])))
        })
    };
    if (dilation != [1, 1] || h == 0 || w == 0) && !(sees(0, oh, h) && sees(1, ow, w)) {
        return Err(Error::shape(
            op,
            format!(
                "a window lies in the padding alone: x {}, padding ({}, {})",
                x.shape(),
                pad[0],
                pad[1]
            ),
        ));
    }
    Ok(Pool2d {
        planes: n * c,
        h,
        w,
        oh,
        ow,
        kernel,
        stride,
        pad,
        dilation,
    })
}

fn max_pool(p: &Pool2d, x: &Tensor) -> Result<Tensor> {
    let p = *p;
    let (y, tap) = dispatch(x.device()).max_pool2d(&p, &x.value())?;
    Ok(record("max_pool2d", &[x], y, |_| {
        vjp(move |_, g, _| Ok(vec![Some(max_scatter(&p, &tap, g)?)]))
    }))
}

/// Gradient of max pooling: each `dy` goes to the element that won, `tap` says which. Linear in `dy`.
fn max_scatter(p: &Pool2d, tap: &Value, dy: &Tensor) -> Result<Tensor> {
    let (p, tap) = (*p, tap.clone());
    let dx = dispatch(dy.device()).max_pool2d_backward(&p, &tap, &dy.value())?;
    Ok(record("max_pool2d_backward", &[dy], dx, |_| {
        vjp(move |_, g, _| Ok(vec![Some(max_gather(&p, &tap, g)?)]))
    }))
}

/// The transpose of [`max_scatter`]: the elements of `x` that `tap` names. Linear in `x`.
fn max_gather(p: &Pool2d, tap: &Value, x: &Tensor) -> Result<Tensor> {
    let (p, tap) = (*p, tap.clone());
    let y = dispatch(x.device()).max_pool2d_gather(&p, &tap, &x.value())?;
    Ok(record("max_pool2d_gather", &[x], y, |_| {
        vjp(move |_, g, _| Ok(vec![Some(max_scatter(&p, &tap, g)?)]))
    }))
}

/// The linear maps behind average pooling.
#[derive(Clone, Copy)]
enum Average {
    Window(Pool2d, bool),
    Adaptive {
        h: usize,
        w: usize,
        oh: usize,
        ow: usize,
    },
}

fn avg_pool(a: Average, x: &Tensor) -> Result<Tensor> {
    let backend = dispatch(x.device());
    let (name, y) = match a {
        Average::Window(p, include_pad) => {
            let y = backend.avg_pool2d(&p, include_pad, &x.value())?;
            ("avg_pool2d", y)
        }
        Average::Adaptive { oh, ow, .. } => {
            let y = backend.adaptive_avg_pool2d(oh, ow, &x.value())?;
            ("adaptive_avg_pool2d", y)
        }
    };
    Ok(record(name, &[x], y, |_| {
        vjp(move |_, g, _| Ok(vec![Some(avg_spread(a, g)?)]))
    }))
}

/// The transpose of [`avg_pool`]: every element of `dy` is shared out over its window.
fn avg_spread(a: Average, dy: &Tensor) -> Result<Tensor> {
    let backend = dispatch(dy.device());
    let (name, dx) = match a {
        Average::Window(p, include_pad) => {
            let dx = backend.avg_pool2d_backward(&p, include_pad, &dy.value())?;
            ("avg_pool2d_backward", dx)
        }
        Average::Adaptive { h, w, .. } => {
            let dx = backend.adaptive_avg_pool2d_backward(h, w, &dy.value())?;
            ("adaptive_avg_pool2d_backward", dx)
        }
    };
    Ok(record(name, &[dy], dx, |_| {
        vjp(move |_, g, _| Ok(vec![Some(avg_pool(a, g)?)]))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::composed;
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, check_gradients_strided, check_twin, constant,
        leaf, message, numbers, strided_leaf,
    };
    use super::*;

    /// x, kernel, stride, padding, dilation, ceil mode
    type Case = (
        &'static [usize],
        [usize; 2],
        [usize; 2],
        [usize; 2],
        [usize; 2],
        bool,
    );

    const CASES: [Case; 6] = [
        (&[2, 2, 4, 4], [2, 2], [2, 2], [0, 0], [1, 1], false),
        (&[1, 2, 5, 6], [3, 2], [2, 1], [1, 1], [1, 1], false),
        (&[1, 1, 5, 5], [2, 2], [2, 2], [0, 0], [1, 1], true),
        (&[1, 2, 6, 7], [3, 3], [2, 3], [1, 0], [1, 1], true),
        (&[1, 1, 6, 5], [2, 2], [1, 1], [1, 0], [2, 3], false),
        (&[1, 1, 3, 3], [3, 3], [1, 1], [0, 0], [1, 1], false),
    ];

    fn max(x: &Tensor, c: &Case) -> Result<Tensor> {
        max_pool2d(x, c.1, Some(c.2), c.3, c.4, c.5)
    }
    fn avg(x: &Tensor, c: &Case, include_pad: bool) -> Result<Tensor> {
        avg_pool2d(x, c.1, Some(c.2), c.3, c.5, include_pad)
    }

    #[test]
    fn equal_their_twins() {
        for device in DEVICES {
            for c in &CASES {
                for make in [leaf, strided_leaf] {
                    let x = [make(device, c.0, 5)];
                    let p = geometry("t", &x[0], c.1, c.2, c.3, c.4, c.5).unwrap();
                    check_twin(|t| max(&t[0], c), |t| composed::max_pool2d(&p, &t[0]), &x);
                    if c.4 == [1, 1] {
                        for include in [true, false] {
                            check_twin(
                                |t| avg(&t[0], c, include),
                                |t| composed::avg_pool2d(&p, include, &t[0]),
                                &x,
                            );
                        }
                    }
                }
            }
            for (shape, size) in [
                (&[2, 2, 5, 7][..], [2, 3]),
                (&[1, 1, 4, 6], [4, 3]),
                (&[1, 2, 2, 3], [3, 5]),
            ] {
                let x = [strided_leaf(device, shape, 6)];
                let output = size.map(Some);
                check_twin(
                    |t| adaptive_avg_pool2d(&t[0], output),
                    |t| composed::adaptive_avg_pool2d(&t[0], size),
                    &x,
                );
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            for c in &CASES {
                let x = [leaf(device, c.0, 5)];
                check_gradients(|t| max(&t[0], c), &x);
                check_gradients_strided(|t| max(&t[0], c), device, &[c.0]);
                // Linear in x alone: multiply by it, so that the second order is not zero.
                let twice = |t: &[Tensor]| avg(&super::super::multiply(&t[0], &t[0])?, c, true);
                check_gradients(twice, &x);
            }
            let adaptive = |t: &[Tensor]| {
                adaptive_avg_pool2d(&super::super::multiply(&t[0], &t[0])?, [Some(2), None])
            };
            check_gradients(adaptive, &[leaf(device, &[1, 2, 5, 3], 5)]);
            let largest = |t: &[Tensor]| adaptive_max_pool2d(&t[0], [Some(2), Some(3)]);
            check_gradients(largest, &[leaf(device, &[1, 2, 5, 3], 5)]);
        }
    }

    #[test]
    fn ties_go_to_the_first_and_big_windows_remember_their_tap() {
        for device in DEVICES {
            let x =
                Tensor::from_slice_on(&[1f64; 20 * 20], &[1, 20, 20], crate::DType::F64, device)
                    .unwrap();
            x.set_requires_grad(true).unwrap();
            let y = max_pool2d(&x, [20, 20], None, [0, 0], [1, 1], false).unwrap();
            y.backward(None, false, false).unwrap();
            let g = x.grad().unwrap().to_vec::<f64>().unwrap();
            assert_eq!((g[0], g.iter().sum::<f64>()), (1.0, 1.0));
            // 400 taps: more than a byte can name.
            let mut data = numbers(400, 3);
            let best = 300;
            data[best] = 2.0;
            let x = Tensor::from_slice_on(&data, &[1, 20, 20], crate::DType::F64, device).unwrap();
            x.set_requires_grad(true).unwrap();
            let y = max_pool2d(&x, [20, 20], None, [0, 0], [1, 1], false).unwrap();
            y.backward(None, false, false).unwrap();
            let g = x.grad().unwrap().to_vec::<f64>().unwrap();
            assert_eq!(g.iter().position(|&g| g == 1.0), Some(best));
        }
    }

    #[test]
    fn one_image_without_batch_axis() {
        for device in DEVICES {
            let x = constant(device, &[2, 5, 4], 1);
            let batch = expand_dims(&x, 0).unwrap();
            let both: [fn(&Tensor) -> Result<Tensor>; 3] = [
                |x| max_pool2d(x, [2, 2], None, [0, 0], [1, 1], false),
                |x| avg_pool2d(x, [2, 2], None, [0, 0], false, true),
                |x| adaptive_avg_pool2d(x, [Some(1), Some(1)]),
            ];
            for f in both {
                let y = f(&x).unwrap();
                assert_eq!(y.ndim(), 3);
                assert_close(&expand_dims(&y, 0).unwrap(), &f(&batch).unwrap(), 0.0);
            }
        }
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        let t = |shape: &[usize]| constant(DEVICES[0], shape, 1);
        assert_eq!(
            message(max_pool2d(
                &t(&[1, 1, 3, 3]),
                [4, 2],
                None,
                [0, 0],
                [1, 1],
                false
            )),
            "[max_pool2d] a window of 4x2 does not fit into the padded input of 3x3: x (1, 1, 3, 3) (use a smaller kernel or \
             more padding)"
        );
        assert_eq!(
            message(avg_pool2d(
                &t(&[1, 1, 3, 3]),
                [2, 2],
                None,
                [2, 0],
                false,
                true
            )),
            "[avg_pool2d] padding must be at most half the kernel, so that no window lies in the padding alone: \
             padding (2, 0), kernel_size (2, 2)"
        );
        assert!(
            message(max_pool2d(&t(&[3, 3]), [2, 2], None, [0, 0], [1, 1], false))
                .contains("got (3, 3)")
        );
        assert!(
            message(max_pool2d(
                &t(&[1, 2, 9]),
                [2, 1],
                None,
                [1, 0],
                [3, 1],
                false
            ))
            .contains("padding alone")
        );
        let ints = super::super::testing::integers(DEVICES[0], &[1, 2, 2], &[1, 2, 3, 4]);
        assert!(
            message(adaptive_avg_pool2d(&ints, [Some(1), None]))
                .contains("must be floating-point, got int64")
        );
        assert!(
            message(adaptive_avg_pool2d(&t(&[1, 0, 2]), [Some(1), None]))
                .contains("cannot pool over no rows")
        );
        assert!(
            message(adaptive_avg_pool2d(&t(&[1, 2, 2]), [Some(0), None]))
                .contains("at least 1, got (0, 2)")
        );
    }
}
