//! Naive twins of [`crate::attention`].
use crate::attention::{Attention, Heads, Mask, Order};
use crate::element::Real;
use crate::reference::rng::words;

fn at<T: Copy>(x: &Heads<'_, T>, place: [usize; 4]) -> T {
    x.data[x.index(place)]
}

/// Index of a row of an output, as its order says.
fn row(order: Order, [heads, rows, columns]: [usize; 3], b: usize, h: usize, i: usize) -> usize {
    let [sb, sh, si] = order.strides(heads, rows, columns);
    b * sb + h * sh + i * si
}

/// The scores of one query, -inf where it does not look.
fn scores<T: Real>(
    p: &Attention,
    q: &Heads<'_, T>,
    k: &Heads<'_, T>,
    mask: &Mask<'_, T>,
    lengths: Option<&[i64]>,
    [b, h, i]: [usize; 3],
) -> Vec<f64> {
    let (lo, hi) = p.visible(i, p.keys(lengths, b));
    let mut s = vec![f64::NEG_INFINITY; p.tk];
    for j in lo..hi {
        let mut dot = 0.0;
        for e in 0..p.d {
            let key = at(k, [b, h / p.group(), j, e]);
            dot += at(q, [b, h, i, e]).to_f64() * key.to_f64();
        }
        s[j] = match mask {
            Mask::None => p.scale * dot,
            Mask::Keep(m) if at(m, [b, h, i, j]) != 0 => p.scale * dot,
            Mask::Keep(_) => f64::NEG_INFINITY,
            Mask::Add(m) => p.scale * dot + at(m, [b, h, i, j]).to_f64(),
        };
    }
    s
}

/// What dropout multiplies the weights of one query with.
fn kept(p: &Attention, [b, h, i]: [usize; 3]) -> Vec<f64> {
    let Some(d) = p.dropout else {
        return vec![1.0; p.tk];
    };
    let row = (b * p.heads + h) * p.tq + i;
    let mut w = vec![0; p.tk];
    words(d.seed, d.stream, (row * p.pitch()) as u64, &mut w);
    let keep = |w: &u32| u64::from(*w) >= d.keep_from();
    w.iter()
        .map(|w| if keep(w) { d.factor() } else { 0.0 })
        .collect()
}

/// Twin of [`crate::attention::attention`].
pub fn attention<T: Real>(
    p: &Attention,
    q: Heads<'_, T>,
    k: Heads<'_, T>,
    v: Heads<'_, T>,
    mask: Mask<'_, T>,
    lengths: Option<&[i64]>,
    order: Order,
    out: &mut [T],
    lse: &mut [T],
) {
    for b in 0..p.batch {
        for h in 0..p.heads {
            for i in 0..p.tq {
                let s = scores(p, &q, &k, &mask, lengths, [b, h, i]);
                let keep = kept(p, [b, h, i]);
                let nan = s.iter().any(|s| s.is_nan());
                let max = s.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
                let none = max == f64::NEG_INFINITY && !nan;
                let sum: f64 = s.iter().map(|s| (s - max).exp()).sum();
                let total = if none { f64::INFINITY } else { max + sum.ln() };
                lse[(b * p.heads + h) * p.tq + i] = T::from_f64(total);
                let to = row(order, [p.heads, p.tq, p.dv], b, h, i);
                for e in 0..p.dv {
                    let mut y = 0.0;
                    for j in 0..p.keys(lengths, b) {
                        let weight = if none { 0.0 } else { (s[j] - max).exp() / sum };
                        if weight != 0.0 {
                            y += weight * keep[j] * at(&v, [b, h / p.group(), j, e]).to_f64();
                        }
                    }
                    out[to + e] = T::from_f64(y);
                }
            }
        }
    }
}

/// Twin of [`crate::attention::attention_backward`].
pub fn attention_backward<T: Real>(
    p: &Attention,
    q: Heads<'_, T>,
    k: Heads<'_, T>,
    v: Heads<'_, T>,
    mask: Mask<'_, T>,
    lengths: Option<&[i64]>,
    out: Heads<'_, T>,
    lse: &[T],
    dout: Heads<'_, T>,
    orders: [Order; 3],
    dq: Option<&mut [T]>,
    dk: Option<&mut [T]>,
    dv: Option<&mut [T]>,
) {
    let mut gq = vec![0.0; p.batch * p.heads * p.tq * p.d];
    let mut gk = vec![0.0; p.batch * p.kv_heads * p.tk * p.d];
    let mut gv = vec![0.0; p.batch * p.kv_heads * p.tk * p.dv];
    for b in 0..p.batch {
        for h in 0..p.heads {
            let hk = h / p.group();
            for i in 0..p.tq {
                let s = scores(p, &q, &k, &mask, lengths, [b, h, i]);
                let keep = kept(p, [b, h, i]);
                let lse = lse[(b * p.heads + h) * p.tq + i].to_f64();
                let mut delta = 0.0;
                for e in 0..p.dv {
                    delta += at(&out, [b, h, i, e]).to_f64() * at(&dout, [b, h, i, e]).to_f64();
                }
                let to_q = row(orders[0], [p.heads, p.tq, p.d], b, h, i);
                for j in 0..p.keys(lengths, b) {
                    let weight = (s[j] - lse).exp();
                    if weight == 0.0 {
                        continue;
                    }
                    let to_k = row(orders[1], [p.kv_heads, p.tk, p.d], b, hk, j);
                    let to_v = row(orders[2], [p.kv_heads, p.tk, p.dv], b, hk, j);
                    let mut dp = 0.0;
                    for e in 0..p.dv {
                        let g = at(&dout, [b, h, i, e]).to_f64();
                        dp += g * at(&v, [b, hk, j, e]).to_f64();
                        gv[to_v + e] += weight * keep[j] * g;
                    }
                    let ds = weight * (keep[j] * dp - delta) * p.scale;
                    for e in 0..p.d {
                        gq[to_q + e] += ds * at(&k, [b, hk, j, e]).to_f64();
                        gk[to_k + e] += ds * at(&q, [b, h, i, e]).to_f64();
                    }
                }
            }
        }
    }
    for (g, to) in [(gq, dq), (gk, dk), (gv, dv)] {
        let Some(to) = to else { continue };
        for (to, g) in to.iter_mut().zip(g) {
            *to = T::from_f64(g);
        }
    }
}
