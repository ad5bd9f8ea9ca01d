//! 2-D transposed convolution: the gradient of a convolution with respect to its input, as an operation of its own.

use super::common::{check_same_kind, rounded_once};
use super::conv::transposed;
use super::window::{check_positive, check_sane};
use super::{add, expand_dims, reshape_to, squeeze};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use corten_kernels::conv::Conv2d;

/// 2-D transposed convolution: every input pixel lays its multiple of the kernel into the output,
/// `y[n, o, i*stride + p*dilation - pad, ..] += x[n, c, i, ..] weight[c, o, p, q]`, plus `bias[o]`.
///
/// * `x (N, C, H, W)` or `(C, H, W)`; `weight (C, O/groups, KH, KW)`; `bias (O,)`.
/// * Result `(N, O, OH, OW)`, `OH = (H - 1)*stride - 2*padding + dilation*(KH - 1) + output_padding + 1`.
/// * `output_padding` adds rows at the bottom and columns at the right: a convolution with a stride maps several sizes to one, and
///   it says which of them to give back. It must be smaller than the stride or the dilation.
///
/// Errors: `Shape` when channels, groups or ranks disagree, or nothing is left of the output; `Dtype` unless all are the same
/// floating-point type; `Value` for numbers out of range.
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html>; arithmetic: Dumoulin and
/// Visin, <https://arxiv.org/abs/1603.07285>, chapter 4.
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: [usize; 2],
    padding: [usize; 2],
    output_padding: [usize; 2],
    groups: usize,
    dilation: [usize; 2],
) -> Result<Tensor> {
    const OP: &str = "conv_transpose2d";
    if let Some(bias) = bias {
        rounded_once!(x, weight, bias => conv_transpose2d(
            x, weight, Some(bias), stride, padding, output_padding, groups, dilation));
    }
    if x.ndim() == 3 {
        let x = expand_dims(x, 0)?;
        let y = conv_transpose2d(
            &x,
            weight,
            bias,
            stride,
            padding,
            output_padding,
            groups,
            dilation,
        )?;
        return squeeze(&y, Some(&[0]));
    }
    let p = geometry(
        x,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
    )?;
    let y = transposed(OP, &p, x, weight)?;
    match bias {
        Some(b) => add(&y, &reshape_to(OP, b, [p.c, 1, 1].into())?),
        None => Ok(y),
    }
}

/// Checks everything and gives the convolution whose transpose it is: that one's input is our output.
fn geometry(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: [usize; 2],
    padding: [usize; 2],
    output_padding: [usize; 2],
    groups: usize,
    dilation: [usize; 2],
) -> Result<Conv2d> {
    const OP: &str = "conv_transpose2d";
    check_same_kind(OP, ("x", x), &[("weight", Some(weight)), ("bias", bias)])?;
    check_positive(OP, "stride", stride)?;
    check_positive(OP, "dilation", dilation)?;
    for (name, pair) in [
        ("stride", stride),
        ("dilation", dilation),
        ("padding", padding),
        ("output_padding", output_padding),
    ] {
        check_sane(OP, name, pair)?;
    }
    let (xs, ws) = (x.shape(), weight.shape());
    let [n, c, h, w] = xs[..] else {
        return Err(Error::shape(
            OP,
            format!("x must be (N, C, H, W) or (C, H, W), got {xs}"),
        ));
    };
    let [rows, per_group, kh, kw] = ws[..] else {
        return Err(Error::shape(
            OP,
            format!("weight must be (C, O/groups, KH, KW), got {ws}"),
        ));
    };
    if rows != c {
        return Err(Error::shape(
            OP,
            format!("input has {c} channels but weight {ws} expects {rows}: x {xs}"),
        ));
    }
    if groups == 0 || c % groups != 0 {
        return Err(Error::value(
            OP,
            format!(
                "groups must divide the {c} input channels of weight {ws}, got groups={groups}"
            ),
        ));
    }
    check_sane(OP, "kernel size", [kh, kw])?;
    if [kh, kw, h, w].contains(&0) {
        return Err(Error::shape(
            OP,
            format!("kernel and images must not be empty: x {xs}, weight {ws}"),
        ));
    }
    let o = per_group * groups;
    if let Some(bias) = bias
        && bias.shape()[..] != [o]
    {
        let got = bias.shape();
        return Err(Error::shape(
            OP,
            format!(
                "bias must be ({o},), one per output channel of weight {ws} with groups={groups}, got {got}"
            ),
        ));
    }
    let mut out = [0; 2];
    for d in 0..2 {
        if output_padding[d] >= stride[d].max(dilation[d]) {
            return Err(Error::value(
                OP,
                format!(
                    "output_padding must be smaller than the stride or the dilation, got {output_padding:?} with stride {stride:?} \
                     and dilation {dilation:?}"
                ),
            ));
        }
        let reach = ([h, w][d] - 1).checked_mul(stride[d]);
        let kernel = dilation[d] * ([kh, kw][d] - 1) + output_padding[d] + 1;
        let whole = reach.and_then(|r| r.checked_add(kernel));
        out[d] = whole.map_or(0, |n| n.saturating_sub(2 * padding[d]));
        if out[d] == 0 {
            return Err(Error::shape(
                OP,
                format!(
                    "padding {padding:?} leaves nothing of the output: x {xs}, weight {ws}, stride {stride:?}, dilation {dilation:?}"
                ),
            ));
        }
    }
    Ok(Conv2d {
        n,
        c: o,
        h: out[0],
        w: out[1],
        o: c,
        oh: h,
        ow: w,
        kernel: [kh, kw],
        stride,
        pad: padding,
        dilation,
        groups,
    })
}

#[cfg(test)]
mod tests {
    use super::super::conv::conv2d;
    use super::super::testing::{DEVICES, assert_close, check_gradients, constant, leaf, message};
    use super::super::{Activation, Padding, multiply, sum};
    use super::*;

    #[test]
    fn is_the_transpose_of_the_convolution() {
        // <conv(y), x> = <y, conv_transpose(x)> for all x and y of sizes that the convolution maps onto each other.
        for device in DEVICES {
            for (image, kernel, stride, pad, dilation, groups, rest) in [
                ([5, 6], [3, 3], [1, 1], [1, 1], [1, 1], 1, [0, 0]),
                ([8, 7], [3, 2], [2, 3], [1, 0], [1, 1], 2, [1, 2]),
                ([9, 9], [3, 3], [2, 1], [0, 2], [2, 3], 1, [0, 0]),
            ] {
                let (y, w) = (
                    constant(device, &[2, 4, image[0], image[1]], 1),
                    constant(device, &[6, 4 / groups, kernel[0], kernel[1]], 2),
                );
                let down = conv2d(
                    &y,
                    &w,
                    None,
                    stride,
                    Padding::Explicit(pad),
                    dilation,
                    groups,
                    Activation::None,
                )
                .unwrap();
                let x = constant(device, down.shape(), 3);
                let up =
                    conv_transpose2d(&x, &w, None, stride, pad, rest, groups, dilation).unwrap();
                assert_eq!(up.shape(), y.shape());
                let dot = |a: &Tensor, b: &Tensor| {
                    sum(&multiply(a, b).unwrap(), None, false, None).unwrap()
                };
                assert_close(&dot(&down, &x), &dot(&y, &up), 1e-12);
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            let inputs = [
                leaf(device, &[1, 2, 3, 2], 1),
                leaf(device, &[2, 2, 2, 3], 2),
                leaf(device, &[2], 3),
            ];
            check_gradients(
                |t| conv_transpose2d(&t[0], &t[1], Some(&t[2]), [2, 1], [1, 0], [1, 0], 1, [1, 2]),
                &inputs,
            );
        }
    }

    #[test]
    fn errors_teach() {
        let t = |shape: &[usize]| constant(DEVICES[0], shape, 1);
        let run = |pad, rest, groups| {
            message(conv_transpose2d(
                &t(&[1, 3, 2, 2]),
                &t(&[3, 1, 3, 3]),
                None,
                [1, 1],
                pad,
                rest,
                groups,
                [1, 1],
            ))
        };
        assert!(run([2, 0], [0, 0], 1).contains("leaves nothing of the output"));
        assert!(run([0, 0], [1, 0], 1).contains("output_padding must be smaller"));
        assert!(run([0, 0], [0, 0], 2).contains("groups must divide the 3 input channels"));
    }
}
