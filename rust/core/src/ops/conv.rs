//! 2-D convolution and its two gradients.
//!
//! `conv2d`, `conv2d_dx` and `conv2d_dw` are each linear in both of their arguments, and the gradients of any one of them
//! are the other two: the system is closed, so any order of gradient comes for free.
use super::activation::relu_grad;
use super::common::{Activation, check_same_kind};
use super::window::{Padding, check_positive, check_sane, convolution_axis};
use super::{expand_dims, squeeze, sum};
use crate::autograd::{Saved, record, vjp};
use crate::backend::dispatch;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use corten_kernels::conv::Conv2d;

/// 2-D convolution (cross-correlation), with bias and ReLU fused:
/// `y[n,o,i,j] = act(bias[o] + sum_{c,p,q} weight[o,c,p,q] * x[n, c, i*stride + p*dilation - pad, j*stride + q*dilation - pad])`.
///
/// * `x (N, C, H, W)` or `(C, H, W)`; `weight (O, C/groups, KH, KW)`; `bias (O,)`.
/// * Result `(N, O, OH, OW)` or `(O, OH, OW)`, `OH = floor((H + pads - dilation*(KH-1) - 1) / stride) + 1`.
/// * With `groups > 1` output channel group `g` sees input channel group `g` alone.
///
/// Errors: `Shape` when channels, groups or ranks disagree or the kernel does not fit; `Dtype` unless all are the same
/// floating-point type; `Value` for a zero stride, dilation or group count.
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html>; arithmetic: Dumoulin and Visin,
/// <https://arxiv.org/abs/1603.07285>.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: [usize; 2],
    padding: Padding,
    dilation: [usize; 2],
    groups: usize,
    activation: Activation,
) -> Result<Tensor> {
    if x.ndim() == 3 {
        let x = expand_dims(x, 0)?;
        let y = conv2d(
            &x, weight, bias, stride, padding, dilation, groups, activation,
        )?;
        return squeeze(&y, Some(&[0]));
    }
    let p = geometry(x, weight, bias, stride, padding, dilation, groups)?;
    forward(&p, x, weight, bias, activation)
}

/// Checks everything and works out the shape of the result.
pub(super) fn geometry(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: [usize; 2],
    padding: Padding,
    dilation: [usize; 2],
    groups: usize,
) -> Result<Conv2d> {
    const OP: &str = "conv2d";
    check_same_kind(OP, ("x", x), &[("weight", Some(weight)), ("bias", bias)])?;
    check_positive(OP, "stride", stride)?;
    check_positive(OP, "dilation", dilation)?;
    check_sane(OP, "stride", stride)?;
    check_sane(OP, "dilation", dilation)?;
    if let Padding::Explicit(pad) = padding {
        check_sane(OP, "padding", pad)?;
    }
    let (xs, ws) = (x.shape(), weight.shape());
    let [n, c, h, w] = xs[..] else {
        return Err(Error::shape(
            OP,
            format!("x must be (N, C, H, W) or (C, H, W), got {xs}"),
        ));
    };
    let [o, cg, kh, kw] = ws[..] else {
        return Err(Error::shape(
            OP,
            format!("weight must be (O, C/groups, KH, KW), got {ws}"),
        ));
    };
    if groups == 0 || o % groups != 0 {
        return Err(Error::value(
            OP,
            format!(
                "groups must divide the {o} output channels of weight {ws}, got groups={groups}"
            ),
        ));
    }
    if cg.checked_mul(groups) != Some(c) {
        return Err(Error::shape(
            OP,
            format!(
                "input has {c} channels but weight {ws} with groups={groups} expects {}: x {xs}",
                cg.saturating_mul(groups)
            ),
        ));
    }
    check_sane(OP, "kernel size", [kh, kw])?;
    if kh == 0 || kw == 0 {
        return Err(Error::shape(
            OP,
            format!("kernel must not be empty: weight {ws}"),
        ));
    }
    if let Some(bias) = bias
        && bias.shape()[..] != [o]
    {
        let got = bias.shape();
        return Err(Error::shape(
            OP,
            format!("bias must be ({o},), one per output channel of weight {ws}, got {got}"),
        ));
    }
    let rows = convolution_axis(h, kh, stride[0], dilation[0], padding, 0);
    let columns = convolution_axis(w, kw, stride[1], dilation[1], padding, 1);
    let (Some((top, oh)), Some((left, ow))) = (rows, columns) else {
        return Err(Error::shape(
            OP,
            format!(
                "kernel {kh}x{kw} with dilation ({}, {}) does not fit into the padded input: x {xs}, weight {ws} \
                 (use more padding or a smaller kernel)",
                dilation[0], dilation[1]
            ),
        ));
    };
    Ok(Conv2d {
        n,
        c,
        h,
        w,
        o,
        oh,
        ow,
        kernel: [kh, kw],
        stride,
        pad: [top, left],
        dilation,
        groups,
    })
}

/// The fused primitive on checked arguments.
fn forward(
    p: &Conv2d,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let p = *p;
    let bias_value = bias.map(Tensor::value);
    let backend = dispatch(x.device());
    let y = backend.conv2d(
        &p,
        &x.value(),
        &weight.value(),
        bias_value.as_ref(),
        activation.kernel(),
    )?;
    let inputs = [x, weight, bias.unwrap_or(weight)];
    let inputs = &inputs[..if bias.is_some() { 3 } else { 2 }];
    Ok(record("conv2d", inputs, y, |y| {
        // The gradient of each argument needs the other one only.
        let saved_x = weight.requires_grad().then(|| Saved::input(x));
        let saved_w = x.requires_grad().then(|| Saved::input(weight));
        let relu = (activation == Activation::Relu).then(|| Saved::output(y, 0));
        vjp(move |cx, g, needs| {
            let dz = match &relu {
                Some(y) => relu_grad(cx, y, g)?,
                None => g.clone(),
            };
            let mut grads = vec![None; needs.len()];
            if let (true, Some(w)) = (needs[0], &saved_w) {
                grads[0] = Some(conv2d_dx(&p, &dz, &w.get(cx))?);
            }
            let need_db = needs.get(2) == Some(&true);
            match &saved_x {
                Some(x) if needs[1] && need_db && !cx.create_graph() => {
                    // Both in one pass over dz.
                    let (dw, db) = backend.conv2d_dw(&p, x.value(), &dz.value(), true, true)?;
                    grads[1] = dw.map(Tensor::from_value);
                    grads[2] = db.map(Tensor::from_value);
                }
                _ => {
                    if let (true, Some(x)) = (needs[1], &saved_x) {
                        grads[1] = Some(conv2d_dw(&p, &x.get(cx), &dz)?);
                    }
                    if need_db {
                        grads[2] = Some(sum(&dz, Some(&[0, 2, 3]), false, None)?);
                    }
                }
            }
            Ok(grads)
        })
    }))
}

/// `conv2d` without bias and activation, as a function of geometry that is known to fit.
fn plain(p: &Conv2d, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    forward(p, x, weight, None, Activation::None)
}

/// Gradient of the input of a convolution: `dy (N, O, OH, OW)`, `weight (O, C/groups, KH, KW)`, result `(N, C, H, W)`. Linear in both.
pub(super) fn conv2d_dx(p: &Conv2d, dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    transposed("conv2d_dx", p, dy, weight)
}

/// [`conv2d_dx`] by the name under which the graph knows it.
pub(super) fn transposed(
    name: &'static str,
    p: &Conv2d,
    dy: &Tensor,
    weight: &Tensor,
) -> Result<Tensor> {
    let p = *p;
    let dx = dispatch(dy.device()).conv2d_dx(&p, &dy.value(), &weight.value())?;
    Ok(record(name, &[dy, weight], dx, |_| {
        let (dy, weight) = (Saved::input(dy), Saved::input(weight));
        vjp(move |cx, g, needs| {
            let of_dy = || plain(&p, g, &weight.get(cx));
            let of_weight = || conv2d_dw(&p, g, &dy.get(cx));
            Ok(vec![
                needs[0].then(of_dy).transpose()?,
                needs[1].then(of_weight).transpose()?,
            ])
        })
    }))
}

/// Gradient of the weight of a convolution: `x (N, C, H, W)`, `dy (N, O, OH, OW)`, result `(O, C/groups, KH, KW)`.
/// Linear in both.
pub(super) fn conv2d_dw(p: &Conv2d, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let p = *p;
    let (dw, _) = dispatch(x.device()).conv2d_dw(&p, &x.value(), &dy.value(), true, false)?;
    let dw = dw.ok_or_else(|| {
        Error::internal("conv2d_dw", "the backend gave no gradient of the weight")
    })?;
    Ok(record("conv2d_dw", &[x, dy], dw, |_| {
        let (x, dy) = (Saved::input(x), Saved::input(dy));
        vjp(move |cx, g, needs| {
            let of_x = || conv2d_dx(&p, &dy.get(cx), g);
            let of_dy = || plain(&p, &x.get(cx), g);
            Ok(vec![
                needs[0].then(of_x).transpose()?,
                needs[1].then(of_dy).transpose()?,
            ])
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::super::composed;
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, check_gradients_strided, check_twin, constant,
        leaf, message, strided_leaf,
    };
    use super::*;

    /// x, weight, stride, padding, dilation, groups
    type Case = (
        &'static [usize],
        &'static [usize],
        [usize; 2],
        Padding,
        [usize; 2],
        usize,
    );

    const CASES: [Case; 9] = [
        (
            &[2, 1, 5, 5],
            &[2, 1, 3, 3],
            [1, 1],
            Padding::Valid,
            [1, 1],
            1,
        ),
        (
            &[1, 2, 5, 4],
            &[3, 2, 3, 2],
            [2, 1],
            Padding::Explicit([1, 2]),
            [1, 1],
            1,
        ),
        (
            &[1, 2, 4, 5],
            &[2, 2, 2, 4],
            [1, 1],
            Padding::Same,
            [1, 1],
            1,
        ),
        (
            &[1, 1, 5, 6],
            &[2, 1, 2, 3],
            [2, 3],
            Padding::Same,
            [1, 1],
            1,
        ),
        (
            &[1, 1, 3, 4],
            &[2, 1, 3, 2],
            [1, 1],
            Padding::Full,
            [1, 2],
            1,
        ),
        (
            &[1, 2, 7, 6],
            &[1, 2, 3, 2],
            [1, 2],
            Padding::Explicit([0, 1]),
            [2, 3],
            1,
        ),
        (
            &[2, 4, 4, 4],
            &[6, 2, 2, 2],
            [1, 1],
            Padding::Valid,
            [1, 1],
            2,
        ),
        (
            &[1, 3, 4, 4],
            &[3, 1, 3, 3],
            [1, 1],
            Padding::Same,
            [1, 1],
            3,
        ),
        (
            &[2, 3, 3, 3],
            &[4, 3, 1, 1],
            [2, 2],
            Padding::Valid,
            [1, 1],
            1,
        ),
    ];

    fn inputs(
        make: fn(crate::Device, &[usize], u64) -> Tensor,
        device: crate::Device,
        case: &Case,
    ) -> [Tensor; 3] {
        [
            make(device, case.0, 1),
            make(device, case.1, 2),
            make(device, &case.1[..1], 3),
        ]
    }

    fn run(t: &[Tensor], case: &Case, activation: Activation) -> Result<Tensor> {
        let &(_, _, stride, padding, dilation, groups) = case;
        conv2d(
            &t[0],
            &t[1],
            t.get(2),
            stride,
            padding,
            dilation,
            groups,
            activation,
        )
    }

    fn twin(t: &[Tensor], case: &Case, activation: Activation) -> Result<Tensor> {
        let &(_, _, stride, padding, dilation, groups) = case;
        let p = geometry(&t[0], &t[1], t.get(2), stride, padding, dilation, groups)?;
        let y = composed::conv2d(&p, &t[0], &t[1], t.get(2))?;
        if activation == Activation::Relu {
            composed::relu(&y)
        } else {
            Ok(y)
        }
    }

    #[test]
    fn equals_its_twin() {
        for device in DEVICES {
            for case in &CASES {
                for make in [leaf, strided_leaf] {
                    let t = inputs(make, device, case);
                    for activation in [Activation::None, Activation::Relu] {
                        check_twin(
                            |t| run(t, case, activation),
                            |t| twin(t, case, activation),
                            &t,
                        );
                    }
                    check_twin(
                        |t| run(t, case, Activation::None),
                        |t| twin(t, case, Activation::None),
                        &t[..2],
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            for case in &CASES {
                check_gradients(
                    |t| run(t, case, Activation::Relu),
                    &inputs(leaf, device, case),
                );
            }
            check_gradients_strided(
                |t| run(t, &CASES[1], Activation::None),
                device,
                &[CASES[1].0, CASES[1].1, &[3]],
            );
        }
    }

    #[test]
    fn one_image_without_batch_axis() {
        for device in DEVICES {
            let (x, w) = (leaf(device, &[2, 5, 4], 1), leaf(device, &[3, 2, 2, 2], 2));
            let run = |x: &Tensor| {
                conv2d(
                    x,
                    &w,
                    None,
                    [1, 1],
                    Padding::Valid,
                    [1, 1],
                    1,
                    Activation::None,
                )
                .unwrap()
            };
            let y = run(&x);
            assert_eq!(y.shape()[..], [3, 4, 3]);
            let batch = run(&expand_dims(&x, 0).unwrap());
            assert_close(&expand_dims(&y, 0).unwrap(), &batch, 0.0);
        }
    }

    #[test]
    fn an_empty_batch_gives_an_empty_result_and_zero_gradients() {
        for device in DEVICES {
            let (x, w) = (
                leaf(device, &[0, 2, 5, 4], 1),
                leaf(device, &[3, 2, 2, 2], 2),
            );
            let y = conv2d(
                &x,
                &w,
                None,
                [1, 1],
                Padding::Valid,
                [1, 1],
                1,
                Activation::None,
            )
            .unwrap();
            assert_eq!(y.shape()[..], [0, 3, 4, 3]);
            y.backward(Some(&constant(device, &[0, 3, 4, 3], 1)), false, false)
                .unwrap();
            assert_eq!(w.grad().unwrap().to_vec::<f64>().unwrap(), [0.0; 24]);
        }
    }

    #[test]
    fn errors_teach() {
        let t = |shape: &[usize]| constant(DEVICES[0], shape, 1);
        let run = |x: &Tensor, w: &Tensor, b: Option<&Tensor>, stride, groups| {
            message(conv2d(
                x,
                w,
                b,
                stride,
                Padding::Valid,
                [1, 1],
                groups,
                Activation::None,
            ))
        };
        assert_eq!(
            run(&t(&[64, 3, 28, 28]), &t(&[16, 1, 5, 5]), None, [1, 1], 1),
            "[conv2d] input has 3 channels but weight (16, 1, 5, 5) with groups=1 expects 1: x (64, 3, 28, 28)"
        );
        assert_eq!(
            run(&t(&[1, 1, 4, 4]), &t(&[2, 1, 5, 5]), None, [1, 1], 1),
            "[conv2d] kernel 5x5 with dilation (1, 1) does not fit into the padded input: x (1, 1, 4, 4), weight (2, 1, 5, 5) \
             (use more padding or a smaller kernel)"
        );
        assert_eq!(
            run(
                &t(&[1, 1, 4, 4]),
                &t(&[2, 1, 3, 3]),
                Some(&t(&[3])),
                [1, 1],
                1
            ),
            "[conv2d] bias must be (2,), one per output channel of weight (2, 1, 3, 3), got (3,)"
        );
        assert_eq!(
            run(&t(&[1, 1, 4, 4]), &t(&[2, 1, 3, 3]), None, [0, 1], 1),
            "[conv2d] stride must be at least 1, got (0, 1)"
        );
        assert_eq!(
            run(&t(&[1, 4, 4, 4]), &t(&[3, 2, 3, 3]), None, [1, 1], 2),
            "[conv2d] groups must divide the 3 output channels of weight (3, 2, 3, 3), got groups=2"
        );
        assert_eq!(
            run(&t(&[4, 4]), &t(&[3, 2, 3, 3]), None, [1, 1], 1),
            "[conv2d] x must be (N, C, H, W) or (C, H, W), got (4, 4)"
        );
    }
}
