//! Naive twins of [`crate::norm`].
use crate::element::Real;

/// Indices of channel `k` in a dense `(n, c, s)`.
fn channel(n: usize, c: usize, s: usize, k: usize) -> impl Iterator<Item = usize> + Clone {
    (0..n).flat_map(move |i| (0..s).map(move |j| (i * c + k) * s + j))
}

/// Twin of [`crate::norm::batch_norm_stats`].
pub fn batch_norm_stats<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    mean: &mut [T],
    var: &mut [T],
) {
    let count = (n * s) as f64;
    for k in 0..c {
        let all = channel(n, c, s, k);
        let m = all.clone().map(|i| x[i].to_f64()).sum::<f64>() / count;
        let v = all.map(|i| (x[i].to_f64() - m).powi(2)).sum::<f64>() / count;
        mean[k] = T::from_f64(m);
        var[k] = T::from_f64(v);
    }
}

/// Twin of [`crate::norm::batch_norm_apply`].
pub fn batch_norm_apply<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    mean: &[T],
    rstd: &[T],
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    y: &mut [T],
) {
    for k in 0..c {
        let (m, r) = (mean[k].to_f64(), rstd[k].to_f64());
        let (ga, be) = (
            gamma.map_or(1.0, |g| g[k].to_f64()),
            beta.map_or(0.0, |b| b[k].to_f64()),
        );
        for i in channel(n, c, s, k) {
            y[i] = T::from_f64((x[i].to_f64() - m) * r * ga + be);
        }
    }
}

/// Twin of [`crate::norm::batch_norm_backward`].
pub fn batch_norm_backward<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    dy: &[T],
    mean: &[T],
    rstd: &[T],
    gamma: Option<&[T]>,
    batch_stats: bool,
    mut dx: Option<&mut [T]>,
    mut dgamma: Option<&mut [T]>,
    mut dbeta: Option<&mut [T]>,
) {
    let count = (n * s) as f64;
    for k in 0..c {
        let (m, r) = (mean[k].to_f64(), rstd[k].to_f64());
        let ga = gamma.map_or(1.0, |g| g[k].to_f64());
        let (mut sum, mut dot) = (0.0, 0.0);
        for i in channel(n, c, s, k) {
            sum += dy[i].to_f64();
            dot += dy[i].to_f64() * (x[i].to_f64() - m) * r;
        }
        if let Some(d) = dgamma.as_mut() {
            d[k] = T::from_f64(dot);
        }
        if let Some(d) = dbeta.as_mut() {
            d[k] = T::from_f64(sum);
        }
        if let Some(dx) = dx.as_mut() {
            for i in channel(n, c, s, k) {
                let mut d = dy[i].to_f64();
                if batch_stats {
                    d -= sum / count + (x[i].to_f64() - m) * r * dot / count;
                }
                dx[i] = T::from_f64(ga * r * d);
            }
        }
    }
}

/// Twin of [`crate::norm::layer_norm`].
pub fn layer_norm<T: Real>(
    rows: usize,
    cols: usize,
    centred: bool,
    eps: f64,
    x: &[T],
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    for r in 0..rows {
        let row = r * cols..(r + 1) * cols;
        let all = x[row.clone()].iter().map(|v| v.to_f64());
        let m = if centred || cols == 0 {
            all.clone().sum::<f64>() / cols as f64
        } else {
            0.0
        };
        let var = all.map(|v| (v - m).powi(2)).sum::<f64>() / cols as f64;
        let rs = 1.0 / (var + eps).sqrt();
        mean[r] = T::from_f64(m);
        rstd[r] = T::from_f64(rs);
        for i in row {
            let k = i - r * cols;
            let (ga, be) = (
                gamma.map_or(1.0, |g| g[k].to_f64()),
                beta.map_or(0.0, |b| b[k].to_f64()),
            );
            y[i] = T::from_f64((x[i].to_f64() - m) * rs * ga + be);
        }
    }
}

/// Twin of [`crate::norm::layer_norm_backward`].
pub fn layer_norm_backward<T: Real>(
    rows: usize,
    cols: usize,
    centred: bool,
    x: &[T],
    dy: &[T],
    mean: &[T],
    rstd: &[T],
    gamma: Option<&[T]>,
    mut dx: Option<&mut [T]>,
    dgamma: Option<&mut [T]>,
    dbeta: Option<&mut [T]>,
) {
    let (mut of_gamma, mut of_beta) = (vec![0.0; cols], vec![0.0; cols]);
    for r in 0..rows {
        let (m, rs) = (mean[r].to_f64(), rstd[r].to_f64());
        let (mut sum, mut dot) = (0.0, 0.0);
        for k in 0..cols {
            let g = dy[r * cols + k].to_f64();
            let xh = (x[r * cols + k].to_f64() - m) * rs;
            let h = g * gamma.map_or(1.0, |g| g[k].to_f64());
            of_gamma[k] += g * xh;
            of_beta[k] += g;
            sum += h;
            dot += h * xh;
        }
        let (sum, dot) = (
            if centred { sum / cols as f64 } else { 0.0 },
            dot / cols as f64,
        );
        if let Some(dx) = dx.as_mut() {
            for k in 0..cols {
                let i = r * cols + k;
                let xh = (x[i].to_f64() - m) * rs;
                let h = dy[i].to_f64() * gamma.map_or(1.0, |g| g[k].to_f64());
                dx[i] = T::from_f64(rs * (h - sum - xh * dot));
            }
        }
    }
    for (out, sums) in [(dgamma, of_gamma), (dbeta, of_beta)] {
        if let Some(out) = out {
            for (o, s) in out.iter_mut().zip(sums) {
                *o = T::from_f64(s);
            }
        }
    }
}
