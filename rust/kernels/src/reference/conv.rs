//! Naive twins of [`crate::conv`]: the three passes share one walk over everything that the convolution multiplies.
use super::gemm::activate;
use crate::conv::Conv2d;
use crate::element::Real;
use crate::gemm::Activation;

/// Calls `f(y index, w index, x index)` for every product of the convolution; taps in the padding have none.
fn for_each_product(p: &Conv2d, mut f: impl FnMut(usize, usize, usize)) {
    if p.groups == 0 {
        return;
    }
    let (cg, og) = (p.c / p.groups, p.o / p.groups); // channels per group
    let [kh, kw] = p.kernel;
    for n in 0..p.n {
        for o in 0..p.o {
            for i in 0..p.oh {
                for j in 0..p.ow {
                    let y = ((n * p.o + o) * p.oh + i) * p.ow + j;
                    for c in 0..cg {
                        for q in 0..kh {
                            for r in 0..kw {
                                // The tap's row and column in x, shifted by the padding.
                                let row = i * p.stride[0] + q * p.dilation[0];
                                let column = j * p.stride[1] + r * p.dilation[1];
                                let inside = (p.pad[0]..p.pad[0] + p.h).contains(&row)
                                    && (p.pad[1]..p.pad[1] + p.w).contains(&column);
                                if inside {
                                    let w = ((o * cg + c) * kh + q) * kw + r;
                                    let channel = n * p.c + o / og * cg + c;
                                    let x =
                                        (channel * p.h + row - p.pad[0]) * p.w + column - p.pad[1];
                                    f(y, w, x);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Rounds float64 sums to the element type.
fn store<T: Real>(sums: &[f64], out: &mut [T]) {
    for (out, &sum) in out.iter_mut().zip(sums) {
        *out = T::from_f64(sum);
    }
}

/// Twin of [`crate::conv::conv2d`].
pub fn conv2d<T: Real>(
    p: &Conv2d,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    act: Activation,
    y: &mut [T],
) {
    let mut sums = vec![0.0; p.n * p.o * p.oh * p.ow];
    for_each_product(p, |yi, wi, xi| sums[yi] += w[wi].to_f64() * x[xi].to_f64());
    for (i, sum) in sums.iter_mut().enumerate() {
        let o = i / (p.oh * p.ow) % p.o;
        *sum = activate(act, *sum + bias.map_or(0.0, |b| b[o].to_f64()));
    }
    store(&sums, y);
}

/// Twin of [`crate::conv::conv2d_dx`].
pub fn conv2d_dx<T: Real>(p: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
    let mut sums = vec![0.0; p.n * p.c * p.h * p.w];
    for_each_product(p, |yi, wi, xi| sums[xi] += dy[yi].to_f64() * w[wi].to_f64());
    store(&sums, dx);
}

/// Twin of [`crate::conv::conv2d_dw`].
pub fn conv2d_dw<T: Real>(
    p: &Conv2d,
    x: &[T],
    dy: &[T],
    dw: Option<&mut [T]>,
    db: Option<&mut [T]>,
) {
    if let Some(dw) = dw {
        let mut sums = vec![0.0; dw.len()];
        for_each_product(p, |yi, wi, xi| sums[wi] += dy[yi].to_f64() * x[xi].to_f64());
        store(&sums, dw);
    }
    if let Some(db) = db {
        let mut sums = vec![0.0; p.o];
        for (i, &dy) in dy[..p.n * p.o * p.oh * p.ow].iter().enumerate() {
            sums[i / (p.oh * p.ow) % p.o] += dy.to_f64();
        }
        store(&sums, db);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_strided_convolution_by_hand() {
        // x = [1 2 3 4 5] padded by one zero on the left, kernel [1 10], stride 2: windows (0 1) (2 3) (4 5).
        let p = Conv2d {
            n: 1,
            c: 1,
            h: 1,
            w: 5,
            o: 1,
            oh: 1,
            ow: 3,
            kernel: [1, 2],
            stride: [1, 2],
            pad: [0, 1],
            dilation: [1, 1],
            groups: 1,
        };
        let (x, w) = ([1.0f64, 2.0, 3.0, 4.0, 5.0], [1.0, 10.0]);
        let mut y = [0.0; 3];
        conv2d(&p, &x, &w, Some(&[-20.0]), Activation::Relu, &mut y);
        assert_eq!(y, [0.0, 12.0, 34.0]);
        let dy = [1.0, 2.0, 3.0];
        let (mut dx, mut dw, mut db) = ([9.0; 5], [9.0; 2], [9.0]);
        conv2d_dx(&p, &dy, &w, &mut dx);
        assert_eq!(dx, [10.0, 2.0, 20.0, 3.0, 30.0]);
        conv2d_dw(&p, &x, &dy, Some(&mut dw), Some(&mut db));
        assert_eq!((dw, db), ([16.0, 22.0], [6.0]));
    }
}
