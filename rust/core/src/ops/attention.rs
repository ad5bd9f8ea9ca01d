//! Scaled dot-product attention: a fused operation that never holds all weights, and the weights for those who want to see them.
use super::common::{check_same_kind, rounded_once, shaped};
use super::{astype, broadcast_to, composed, expand_dims, next_stream};
use crate::autograd::{GradOptions, Saved, enable_grad, grad, record, twin_vjp, vjp};
use crate::backend::attention::{Attention, Dropout};
use crate::backend::dispatch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::{Shape, numel};
use crate::tensor::{Tensor, check_device};

/// What attention may be told besides queries, keys and values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attend<'a> {
    /// Broadcasts to `(.., heads, L, S)`: bool keeps scores where it is true, numbers are added to the scores.
    pub mask: Option<&'a Tensor>,
    /// Integers `(N,)`: keys of each batch entry; those behind are not looked at.
    pub lengths: Option<&'a Tensor>,
    /// Probability with which a weight becomes zero.
    pub dropout: f64,
    /// A query sees keys up to its own position.
    pub causal: bool,
    /// Factor of the scores, `1 / sqrt(E)` unless given.
    pub scale: Option<f64>,
    /// Several heads of queries may share a head of keys and values.
    pub grouped: bool,
    /// Keys before and after a query's position that it sees; `None` is all.
    pub window: (Option<usize>, Option<usize>),
    /// Position of the first query among the keys.
    pub offset: isize,
}

/// A checked call with `(batch, heads, rows, columns)` operands.
struct Call {
    p: Attention,
    q: Tensor,
    k: Tensor,
    v: Option<Tensor>,
    mask: Option<Tensor>,
    lengths: Option<Tensor>,
    /// All axes of the query but the last.
    rows: Shape,
}

/// `(batch, heads, rows, columns)` of any number of axes from two on; a missing head is one.
fn four(x: &Tensor) -> Result<Tensor> {
    let s = x.shape();
    match s[..] {
        [_, _, _, _] => Ok(x.clone()),
        [rows, columns] => shaped(x, &[1, 1, rows, columns]),
        [_, _, _] => expand_dims(x, 1),
        [ref lead @ .., heads, rows, columns] => shaped(x, &[numel(lead), heads, rows, columns]),
        _ => Ok(x.clone()),
    }
}

/// What the scores are masked with, so that it broadcasts to `(batch, heads, L, S)`.
fn mask_of(op: &'static str, mask: &Tensor, q: &Tensor, keys: usize) -> Result<Tensor> {
    let (qs, ms) = (q.shape(), mask.shape());
    let mut full = qs.to_vec();
    let n = full.len();
    full[n - 1] = keys;
    let fits = ms.len() <= n
        && ms
            .iter()
            .rev()
            .zip(full.iter().rev())
            .all(|(&m, &f)| m == f || m == 1);
    if !fits {
        return Err(Error::shape(
            op,
            format!(
                "attn_mask {ms} does not broadcast to the scores {}",
                crate::shape::show(&full)
            ),
        ));
    }
    if mask.dtype() != DType::Bool && mask.dtype() != q.dtype() {
        return Err(Error::dtype(
            op,
            format!(
                "attn_mask must be bool (true: look) or {} like query (added to the scores), got {}",
                q.dtype(),
                mask.dtype()
            ),
        ));
    }
    check_device(op, q, mask)?;
    match (n, ms.len()) {
        (3, 3) => expand_dims(mask, 1),
        (n, m) if n > 4 && m > 3 => {
            let mut shape = full.clone();
            let missing = n - m;
            for (axis, size) in shape.iter_mut().enumerate().skip(n - 3) {
                *size = ms[axis - missing];
            }
            four(&broadcast_to(mask, &shape)?)
        }
        _ => Ok(mask.clone()),
    }
}

/// int64 `(batch,)` in `0 ..= keys`.
fn lengths_of(
    op: &'static str,
    lengths: &Tensor,
    q: &Tensor,
    batch: usize,
    keys: usize,
) -> Result<Tensor> {
    let ls = lengths.shape();
    if ls[..] != [batch] {
        let text = format!(
            "lengths must be ({batch},), one per batch entry of query {}, got {ls}",
            q.shape()
        );
        return Err(Error::shape(op, text));
    }
    if !lengths.dtype().is_int() {
        let text = format!("lengths must be integers, got {}", lengths.dtype());
        return Err(Error::dtype(op, text));
    }
    check_device(op, q, lengths)?;
    let lengths = astype(&lengths.detach(), DType::I64)?;
    for n in lengths.to_vec::<i64>()? {
        if n < 0 || n as usize > keys {
            let text = format!("lengths must lie between 0 and the {keys} keys, got {n}");
            return Err(Error::value(op, text));
        }
    }
    Ok(lengths)
}

/// Checks everything; `v` is missing where only weights are wanted.
fn call(
    op: &'static str,
    q: &Tensor,
    k: &Tensor,
    v: Option<&Tensor>,
    a: &Attend<'_>,
) -> Result<Call> {
    check_same_kind(op, ("query", q), &[("key", Some(k)), ("value", v)])?;
    let (qs, ks) = (q.shape(), k.shape());
    let n = qs.len();
    let named = [("query", Some(q)), ("key", Some(k)), ("value", v)];
    for (name, t) in named {
        let Some(t) = t else { continue };
        let s = t.shape();
        if s.len() < 2 || s.len() != n {
            let text = if s.len() < 2 {
                format!("{name} must be (.., heads, length, size), got {s}")
            } else {
                format!("query {qs} and {name} {s} must have the same number of axes")
            };
            return Err(Error::shape(op, text));
        }
        let batch = n.saturating_sub(3);
        if s[..batch] != qs[..batch] || (n == 3 && s[0] != qs[0]) {
            let text = format!("query {qs} and {name} {s} must have the same batch");
            return Err(Error::shape(op, text));
        }
    }
    if ks[n - 1] != qs[n - 1] {
        let text = format!(
            "query has vectors of size {} but key of size {}: query {qs}, key {ks}",
            qs[n - 1],
            ks[n - 1]
        );
        return Err(Error::shape(op, text));
    }
    if let Some(v) = v {
        let vs = v.shape();
        if vs[n - 2] != ks[n - 2] || (n > 3 && vs[n - 3] != ks[n - 3]) {
            let text = format!("key {ks} and value {vs} must have the same heads and length");
            return Err(Error::shape(op, text));
        }
    }
    if n > 3 && qs[n - 3] != ks[n - 3] {
        let (h, hk) = (qs[n - 3], ks[n - 3]);
        let shares = hk > 0 && h.is_multiple_of(hk);
        if !a.grouped || !shares {
            let fix = match (a.grouped, shares) {
                (false, true) => " (pass enable_gqa=True to share them)",
                _ => ": those of key must divide those of query",
            };
            let text = format!("query has {h} heads but key has {hk}{fix}: query {qs}, key {ks}");
            return Err(Error::shape(op, text));
        }
    }
    if !(0.0..=1.0).contains(&a.dropout) {
        let text = format!(
            "dropout_p must be a probability between 0 and 1, got {}",
            a.dropout
        );
        return Err(Error::value(op, text));
    }
    let scale = match a.scale {
        None => 1.0 / (qs[n - 1].max(1) as f64).sqrt(),
        Some(s) if s.is_finite() => s,
        Some(s) => {
            let text = format!("scale must be a finite number, got {s}");
            return Err(Error::value(op, text));
        }
    };
    let mask = a.mask.map(|m| mask_of(op, m, q, ks[n - 2])).transpose()?;
    let (q4, k4) = (four(q)?, four(k)?);
    let v4 = v.map(four).transpose()?;
    let &[batch, heads, tq, d] = &q4.shape()[..] else {
        return Err(Error::internal(op, "operands without four axes"));
    };
    let tk = ks[n - 2];
    let lengths = a
        .lengths
        .map(|l| lengths_of(op, l, q, batch, tk))
        .transpose()?;
    let p = Attention {
        batch,
        heads,
        kv_heads: k4.shape()[1],
        tq,
        tk,
        d,
        dv: v.map_or(0, |v| v.shape()[n - 1]),
        scale,
        left: a.window.0,
        right: if a.causal { Some(0) } else { a.window.1 },
        offset: a.offset,
        dropout: (a.dropout > 0.0).then(|| {
            let (seed, stream) = next_stream();
            Dropout {
                p: a.dropout,
                seed,
                stream,
            }
        }),
    };
    Ok(Call {
        p,
        q: q4,
        k: k4,
        v: v4,
        mask,
        lengths,
        rows: Shape::from_slice(&qs[..n - 1]),
    })
}

impl Call {
    /// A result `(batch, heads, L, columns)` with the axes of the query.
    fn finish(&self, y: &Tensor, columns: usize) -> Result<Tensor> {
        if self.rows.len() == 3 {
            return Ok(y.clone());
        }
        let mut shape = self.rows.to_vec();
        shape.push(columns);
        shaped(y, &shape)
    }
}

/// `softmax(scale query key^T + mask) value` for every head, without ever holding all the weights.
///
/// * `query (.., H, L, E)`, `key (.., H, S, E)`, `value (.., H, S, Ev)`; result `(.., H, L, Ev)`. Without a head axis, `(N, L, E)` or
///   `(L, E)`.
/// * Query `i` stands at position `i + offset` among the keys. It sees the keys that mask, lengths, causality and window all leave.
///   One that sees none gives zeros, and no gradient.
/// * With `grouped`, head `h` of `H` uses keys of head `h / (H / Hk)`.
/// * Dropout takes one stream of the generator; its mask is made again in the backward pass.
/// * Gradient, with the weights `P` and `delta = sum(dy * y)`: `dV = P^T dy`, `dS = P (dy V^T - delta)`, `dQ = scale dS K`,
///   `dK = scale dS^T Q`; the weights are made again from the logsumexp. A mask that was added gets `dS`, for which all weights
///   are held.
///
/// Errors: `Shape` when sizes, heads, mask or lengths do not fit; `Value` for a length or probability out of range; `Dtype` unless
/// query, key, value (and a mask that is added) are the same floating-point type.
///
/// Vaswani et al., <https://arxiv.org/abs/1706.03762>; Dao et al., <https://arxiv.org/abs/2205.14135>.
pub fn scaled_dot_product_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    attend: &Attend<'_>,
) -> Result<Tensor> {
    const OP: &str = "scaled_dot_product_attention";
    let call = call(OP, query, key, Some(value), attend)?;
    let (p, q, k) = (call.p, &call.q, &call.k);
    let Some(v) = &call.v else {
        return Err(Error::internal(OP, "no values"));
    };
    let backend = dispatch(q.device());
    let lengths = call.lengths.as_ref().map(Tensor::value);
    let mask = call.mask.as_ref().map(Tensor::value);
    let (y, lse) = backend.attention(
        &p,
        &q.value(),
        &k.value(),
        &v.value(),
        mask.as_ref(),
        lengths.as_ref(),
    )?;
    let inputs: Vec<&Tensor> = [Some(q), Some(k), Some(v), call.mask.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    let y = record(OP, &inputs, y, |y| {
        let saved: Vec<Saved> = inputs.iter().map(|t| Saved::input(t)).collect();
        let y = Saved::output(y, 0);
        vjp(move |cx, g, needs| {
            let twin = |t: &[Tensor]| {
                let lengths = lengths.clone().map(Tensor::from_value);
                let y = composed::attention(&p, [&t[0], &t[1], &t[2]], t.get(3), lengths.as_ref())?;
                Ok(vec![y])
            };
            if cx.create_graph() {
                let inputs: Vec<Tensor> = saved.iter().map(|s| s.get(cx)).collect();
                return twin_vjp(&inputs, &[Some(g.clone())], needs, twin);
            }
            if needs.get(3) == Some(&true) {
                return with_weights(&saved, g, needs, twin);
            }
            let found = backend.attention_backward(
                &p,
                saved[0].value(),
                saved[1].value(),
                saved[2].value(),
                saved.get(3).map(Saved::value),
                lengths.as_ref(),
                y.value(),
                &lse,
                &g.value(),
                [needs[0], needs[1], needs[2]],
            )?;
            let mut grads = vec![None; needs.len()];
            for (grad, value) in grads.iter_mut().zip(found) {
                *grad = value.map(Tensor::from_value);
            }
            Ok(grads)
        })
    });
    call.finish(&y, p.dv)
}

/// The gradients through all the weights: those of the twin on copies of the inputs.
fn with_weights(
    saved: &[Saved],
    g: &Tensor,
    needs: &[bool],
    twin: impl FnOnce(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Vec<Option<Tensor>>> {
    let mut copies = Vec::with_capacity(saved.len());
    for (saved, &need) in saved.iter().zip(needs) {
        let copy = Tensor::from_value(saved.value().clone());
        copy.set_requires_grad(need)?;
        copies.push(copy);
    }
    let y = {
        let _on = enable_grad();
        let wide = copies.iter().map(|x| astype(x, x.dtype().arithmetic()));
        twin(&wide.collect::<Result<Vec<_>>>()?)?
    };
    let wanted: Vec<usize> = (0..copies.len()).filter(|&i| needs[i]).collect();
    let targets: Vec<Tensor> = wanted.iter().map(|&i| copies[i].clone()).collect();
    let g = astype(g, y[0].dtype())?;
    let found = grad(&y, &targets, &[Some(g)], GradOptions::default())?;
    let mut grads = vec![None; needs.len()];
    for (i, g) in wanted.into_iter().zip(found) {
        grads[i] = g;
    }
    Ok(grads)
}

/// The weights of [`scaled_dot_product_attention`], `(.., H, L, S)`: `softmax(scale query key^T + mask)`, with dropout applied. A
/// query that sees no key has zeros.
///
/// Errors: as there.
pub fn attention_weights(query: &Tensor, key: &Tensor, attend: &Attend<'_>) -> Result<Tensor> {
    const OP: &str = "attention_weights";
    match attend.mask {
        Some(mask) if mask.dtype() == query.dtype() => {
            rounded_once!(query, key, mask => {
                attention_weights(query, key, &Attend { mask: Some(mask), ..*attend })
            });
        }
        _ => {
            rounded_once!(query, key => attention_weights(query, key, attend));
        }
    }
    let call = call(OP, query, key, None, attend)?;
    let w = composed::attention_weights(
        &call.p,
        &call.q,
        &call.k,
        call.mask.as_ref(),
        call.lengths.as_ref(),
    )?;
    call.finish(&w, call.p.tk)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        DEVICES, check_gradients, check_gradients_strided, check_twin, constant, integers, leaf,
        message, strided_leaf, to_f64,
    };
    use super::*;

    #[test]
    fn equals_its_twin_with_every_rule() {
        for device in DEVICES {
            for make in [leaf, strided_leaf] {
                let t = [
                    make(device, &[2, 4, 5, 3], 1),
                    make(device, &[2, 2, 7, 3], 2),
                    make(device, &[2, 2, 7, 2], 3),
                    make(device, &[4, 5, 7], 4),
                ];
                let lengths = integers(device, &[2], &[7, 3]);
                for (causal, window, offset) in [
                    (false, (None, None), 0),
                    (true, (None, None), 2),
                    (false, (Some(1), Some(2)), 1),
                    (true, (Some(2), None), -3),
                ] {
                    for n in [3, 4] {
                        let rule = Attend {
                            lengths: Some(&lengths),
                            causal,
                            window,
                            offset,
                            grouped: true,
                            ..Attend::default()
                        };
                        check_twin(
                            |t| {
                                let mask = t.get(3);
                                let rule = Attend { mask, ..rule };
                                scaled_dot_product_attention(&t[0], &t[1], &t[2], &rule)
                            },
                            |t| {
                                let mask = t.get(3);
                                let rule = Attend { mask, ..rule };
                                let c = call("twin", &t[0], &t[1], Some(&t[2]), &rule)?;
                                let qkv = [&t[0], &t[1], &t[2]];
                                composed::attention(&c.p, qkv, t.get(3), c.lengths.as_ref())
                            },
                            &t[..n],
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            let f = |t: &[Tensor]| {
                let attend = Attend {
                    mask: t.get(3),
                    causal: t.len() == 3,
                    ..Attend::default()
                };
                scaled_dot_product_attention(&t[0], &t[1], &t[2], &attend)
            };
            let t = [
                leaf(device, &[1, 2, 3, 2], 1),
                leaf(device, &[1, 2, 4, 2], 2),
                leaf(device, &[1, 2, 4, 3], 3),
                leaf(device, &[3, 4], 4),
            ];
            check_gradients(f, &t);
            check_gradients(f, &t[..3]);
            check_gradients_strided(f, device, &[&[1, 1, 3, 2], &[1, 1, 2, 2], &[1, 1, 2, 2]]);
        }
    }

    #[test]
    fn axes_may_be_missing_or_many() {
        let device = DEVICES[0];
        let t = |shape: &[usize], seed| constant(device, shape, seed);
        let (q, k) = (t(&[2, 3, 4, 5, 6], 1), t(&[2, 3, 4, 7, 6], 2));
        let mask = t(&[2, 1, 1, 5, 7], 3);
        let attend = Attend {
            mask: Some(&mask),
            ..Attend::default()
        };
        let y = scaled_dot_product_attention(&q, &k, &k, &attend).unwrap();
        assert_eq!(y.shape()[..], [2, 3, 4, 5, 6]);
        let w = attention_weights(&q, &k, &attend).unwrap();
        assert_eq!(w.shape()[..], [2, 3, 4, 5, 7]);
        let z = super::super::matmul(&w, &k).unwrap();
        super::super::testing::assert_close(&y, &z, 1e-12);
        let plain = Attend::default();
        for shape in [&[5, 6][..], &[3, 5, 6]] {
            let y = scaled_dot_product_attention(&t(shape, 1), &t(shape, 2), &t(shape, 3), &plain);
            assert_eq!(y.unwrap().shape()[..], *shape);
        }
    }

    #[test]
    fn errors_name_what_does_not_fit() {
        let t = |shape: &[usize]| constant(DEVICES[0], shape, 1);
        let of = |q: &[usize], k: &[usize], v: &[usize], a: &Attend<'_>| {
            message(scaled_dot_product_attention(&t(q), &t(k), &t(v), a))
        };
        let plain = Attend::default();
        let (x, y) = ([1, 6, 5, 4], [1, 3, 5, 4]);
        assert_eq!(
            of(&x, &y, &y, &plain),
            "[scaled_dot_product_attention] query has 6 heads but key has 3 (pass enable_gqa=True to share them): \
             query (1, 6, 5, 4), key (1, 3, 5, 4)"
        );
        let grouped = Attend {
            grouped: true,
            ..plain
        };
        assert!(of(&y, &x, &x, &grouped).contains("those of key must divide those of query"));
        assert!(of(&x, &[1, 6, 5, 3], &x, &plain).contains("size 4 but key of size 3"));
        assert!(of(&x, &x, &[1, 6, 4, 4], &plain).contains("the same heads and length"));
        assert!(of(&x, &[2, 6, 5, 4], &x, &plain).contains("the same batch"));
        assert!(of(&x, &[6, 5, 4], &x, &plain).contains("the same number of axes"));
        let mask = t(&[4, 5]);
        let masked = Attend {
            mask: Some(&mask),
            ..plain
        };
        assert!(
            of(&x, &x, &x, &masked)
                .contains("attn_mask (4, 5) does not broadcast to the scores (1, 6, 5, 5)")
        );
        let lengths = integers(DEVICES[0], &[1], &[6]);
        let long = Attend {
            lengths: Some(&lengths),
            ..plain
        };
        assert!(of(&x, &x, &x, &long).contains("between 0 and the 5 keys, got 6"));
    }

    #[test]
    fn hidden_rows_are_zeros() {
        for device in DEVICES {
            let x = leaf(device, &[1, 1, 3, 2], 1);
            let attend = Attend {
                causal: true,
                offset: -1,
                ..Attend::default()
            };
            let y = scaled_dot_product_attention(&x, &x, &x, &attend).unwrap();
            assert_eq!(to_f64(&y)[..2], [0.0, 0.0]);
            let w = attention_weights(&x, &x, &attend).unwrap();
            assert_eq!(to_f64(&w)[..3], [0.0, 0.0, 0.0]);
            y.backward(Some(&constant(device, &[1, 1, 3, 2], 2)), false, false)
                .unwrap();
            assert!(to_f64(&x.grad().unwrap()).iter().all(|x| x.is_finite()));
        }
    }
}
