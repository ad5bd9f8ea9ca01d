//! Matrix products of vectors, matrices and stacks of matrices.
use super::common::shaped;
use super::{astype, expand_dims, multiply, squeeze, sum, transpose};
use crate::autograd::{Saved, record, vjp};
use crate::backend::dispatch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::{broadcast_shapes, numel, show};
use crate::tensor::{Tensor, check_device};

/// Matrix product under the rules of the Array API standard.
///
/// * `(..., m, k) @ (..., k, n)` gives `(..., m, n)`; the leading axes broadcast.
/// * A vector on the left counts as `(1, k)`, on the right as `(k, 1)`; that axis then disappears. Two vectors give a scalar.
/// * Operands may have any strides: transposed and sliced ones are not copied.
/// * Gradients: `dx1 = dy x2^T`, `dx2 = x1^T dy`, summed over broadcast axes. Integers multiply too, without gradient.
///
/// Errors: `Shape` for scalars, inner sizes that differ or leading axes that do not broadcast; `Dtype` for two bools.
///
/// Definition: <https://data-apis.org/array-api/latest/API_specification/generated/array_api.matmul.html>.
pub fn matmul(x1: &Tensor, x2: &Tensor) -> Result<Tensor> {
    const OP: &str = "matmul";
    check_device(OP, x1, x2)?;
    let (s1, s2) = (x1.shape(), x2.shape());
    if s1.is_empty() || s2.is_empty() {
        return Err(Error::shape(
            OP,
            format!(
                "needs at least one axis on both sides, got {s1} @ {s2} (multiply by a scalar with *)"
            ),
        ));
    }
    let (k1, k2) = (s1[s1.len() - 1], s2[s2.len().saturating_sub(2)]);
    if k1 != k2 {
        return Err(Error::shape(
            OP,
            format!(
                "inner sizes differ: {k1} columns on the left, {k2} rows on the right: {s1} @ {s2}"
            ),
        ));
    }
    let dtype = x1.dtype().promote(x2.dtype());
    if dtype == DType::Bool {
        return Err(Error::dtype(
            OP,
            "bools do not multiply (cast with .astype('int64') or .astype('float32'))",
        ));
    }
    if x1.dtype() != dtype || x2.dtype() != dtype {
        return matmul(&astype(x1, dtype)?, &astype(x2, dtype)?);
    }
    match (s1.len(), s2.len()) {
        (1, 1) => {
            let y = matrices(&expand_dims(x1, 0)?, &expand_dims(x2, 1)?)?;
            shaped(&y, &[])
        }
        (1, _) => squeeze(&matrices(&expand_dims(x1, 0)?, x2)?, Some(&[-2])),
        (_, 1) => squeeze(&matrices(x1, &expand_dims(x2, 1)?)?, Some(&[-1])),
        _ => matrices(x1, x2),
    }
}

/// Both operands have at least two axes and the same dtype.
fn matrices(x1: &Tensor, x2: &Tensor) -> Result<Tensor> {
    if !x1.dtype().is_float() {
        // The kernels multiply reals; integers wrap, as everywhere.
        let products = multiply(&expand_dims(x1, -1)?, &expand_dims(x2, -3)?)?; // (..., m, k, n)
        return astype(&sum(&products, Some(&[-2]), false, None)?, x1.dtype());
    }
    let (s1, s2) = (x1.shape(), x2.shape());
    if s2.len() == 2 && s1.len() > 2 {
        // A stack times one matrix is one tall product, whatever the layout: a choice by layout would show in the bits of the
        // matrix's gradient, whose sum over the stack is one long chain here and a sum of sums otherwise.
        let (m, k, n) = (numel(&s1[..s1.len() - 1]), s2[0], s2[1]);
        let mut shape = s1[..s1.len() - 1].to_vec();
        shape.push(n);
        return shaped(&product(&shaped(x1, &[m, k])?, x2)?, &shape);
    }
    product(x1, x2)
}

/// The primitive: floating-point, at least two axes, leading axes broadcast.
fn product(x1: &Tensor, x2: &Tensor) -> Result<Tensor> {
    let (s1, s2) = (x1.shape(), x2.shape());
    let (lead1, lead2) = (&s1[..s1.len() - 2], &s2[..s2.len() - 2]);
    if broadcast_shapes("matmul", lead1, lead2).is_err() {
        return Err(Error::shape(
            "matmul",
            format!(
                "leading axes {} and {} do not broadcast (sizes must be equal or 1): {s1} @ {s2}",
                show(lead1),
                show(lead2)
            ),
        ));
    }
    let y = dispatch(x1.device()).matmul(&x1.value(), &x2.value());
    let y = y.map_err(|e| e.within("matmul"))?;
    Ok(record("matmul", &[x1, x2], y, |_| {
        let saved1 = x2.requires_grad().then(|| Saved::input(x1));
        let saved2 = x1.requires_grad().then(|| Saved::input(x2));
        vjp(move |cx, g, needs| {
            let mut grads = vec![None, None];
            if let (true, Some(x2)) = (needs[0], &saved2) {
                grads[0] = Some(matrices(g, &transpose(&x2.get(cx), -2, -1)?)?);
            }
            if let (true, Some(x1)) = (needs[1], &saved1) {
                grads[1] = Some(matrices(&transpose(&x1.get(cx), -2, -1)?, g)?);
            }
            Ok(grads)
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, check_gradients_strided, constant, integers, leaf,
        message, strided_leaf, to_f64,
    };
    use super::*;

    /// Both shapes as stacks of matrices, the axes that disappear again, and the plain triple loop.
    fn by_hand(x1: &Tensor, x2: &Tensor) -> Tensor {
        let (mut s1, mut s2) = (x1.shape().to_vec(), x2.shape().to_vec());
        let (vector1, vector2) = (s1.len() == 1, s2.len() == 1);
        if vector1 {
            s1.insert(0, 1);
        }
        if vector2 {
            s2.push(1);
        }
        let (m, k, n) = (s1[s1.len() - 2], s1[s1.len() - 1], s2[s2.len() - 1]);
        let batch = broadcast_shapes("t", &s1[..s1.len() - 2], &s2[..s2.len() - 2]).unwrap();
        let (a, b) = (to_f64(x1), to_f64(x2));
        let stacked = |s: &[usize], mut at: usize| {
            let (mut index, mut step) = (0, 1);
            for d in (0..batch.len()).rev() {
                let i = at % batch[d];
                at /= batch[d];
                let own = (d + s.len() - 2).checked_sub(batch.len());
                if let Some(own) = own {
                    index += if s[own] == 1 { 0 } else { i } * step;
                    step *= s[own];
                }
            }
            index
        };
        let mut y = Vec::new();
        for p in 0..numel(&batch) {
            let (p1, p2) = (stacked(&s1, p), stacked(&s2, p));
            for i in 0..m {
                for j in 0..n {
                    y.push(
                        (0..k)
                            .map(|l| a[(p1 * m + i) * k + l] * b[(p2 * k + l) * n + j])
                            .sum::<f64>(),
                    );
                }
            }
        }
        let mut shape = batch.to_vec();
        if !vector1 {
            shape.push(m);
        }
        if !vector2 {
            shape.push(n);
        }
        Tensor::from_slice_on(&y, &shape, crate::dtype::DType::F64, x1.device()).unwrap()
    }

    const PAIRS: [(&[usize], &[usize]); 11] = [
        (&[4], &[4]),
        (&[4], &[4, 3]),
        (&[2, 4], &[4]),
        (&[2, 4], &[4, 3]),
        (&[5, 2, 4], &[4, 3]),
        (&[2, 4], &[5, 4, 3]),
        (&[2, 1, 2, 4], &[3, 4, 2]),
        (&[3, 2, 4], &[4]),
        (&[4], &[3, 4, 2]),
        (&[2, 0], &[0, 3]),
        (&[0, 2, 4], &[4, 3]),
    ];

    #[test]
    fn follows_the_rules_of_the_standard() {
        for device in DEVICES {
            for (s1, s2) in PAIRS {
                for make in [leaf, strided_leaf] {
                    let (x1, x2) = (make(device, s1, 1), make(device, s2, 2));
                    assert_close(&matmul(&x1, &x2).unwrap(), &by_hand(&x1, &x2), 1e-12);
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            for (s1, s2) in PAIRS.into_iter().filter(|(s1, _)| !s1.contains(&0)) {
                check_gradients(
                    |t| matmul(&t[0], &t[1]),
                    &[leaf(device, s1, 1), leaf(device, s2, 2)],
                );
                check_gradients_strided(|t| matmul(&t[0], &t[1]), device, &[s1, s2]);
            }
        }
    }

    #[test]
    fn integers_multiply_and_meet_floats() {
        for device in DEVICES {
            let a = integers(device, &[2, 2], &[1, 2, 3, 4]);
            let y = matmul(&a, &a).unwrap();
            assert_eq!(y.to_vec::<i64>().unwrap(), [7, 10, 15, 22]);
            let x = constant(device, &[2, 1], 1);
            let y = matmul(&a, &x).unwrap();
            assert_eq!(y.dtype(), x.dtype());
        }
    }

    #[test]
    fn errors_show_both_shapes() {
        let t = |shape: &[usize]| constant(DEVICES[0], shape, 1);
        assert_eq!(
            message(matmul(&t(&[2, 3]), &t(&[4, 5]))),
            "[matmul] inner sizes differ: 3 columns on the left, 4 rows on the right: (2, 3) @ (4, 5)"
        );
        assert!(
            message(matmul(&t(&[]), &t(&[4])))
                .contains("needs at least one axis on both sides, got () @ (4,)")
        );
        assert_eq!(
            message(matmul(&t(&[2, 2, 3]), &t(&[3, 3, 4]))),
            "[matmul] leading axes (2,) and (3,) do not broadcast (sizes must be equal or 1): (2, 2, 3) @ (3, 3, 4)"
        );
    }
}
