//! Naive twins of [`crate::gemm`].
use crate::element::Real;
use crate::gemm::{Activation, Epilogue, Mat};

/// Element (i, j) of a strided matrix.
fn at<T: Real>(a: &Mat<'_, T>, i: usize, j: usize) -> f64 {
    a.data[(a.offset as isize + i as isize * a.rs + j as isize * a.cs) as usize].to_f64()
}

/// `erf(x) = 2/sqrt(pi) exp(-x^2) sum_i 2^i x^(2i+1) / (1 3 5 ... (2i+1))`: all terms have one sign, so nothing cancels.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut i) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        term *= 2.0 * x * x / (2.0 * i + 1.0);
        sum += term;
        i += 1.0;
    }
    2.0 / core::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// The activation functions in float64; NaN stays NaN.
pub fn activate(act: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match act {
        Activation::None => x,
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * core::f64::consts::FRAC_1_SQRT_2)),
        Activation::Silu => x * sigmoid(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

/// Twin of [`crate::gemm::gemm`].
pub fn gemm<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    c: &mut [T],
    mut epilogue: Epilogue<'_, T>,
) {
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0;
            for l in 0..k {
                sum += at(&a, i, l) * at(&b, l, j);
            }
            if epilogue.accumulate {
                sum += c[i * n + j].to_f64();
            }
            if let Some(bias) = epilogue.bias {
                sum += bias[j].to_f64();
            }
            if let Some(pre) = &mut epilogue.pre {
                pre[i * n + j] = T::from_f64(sum);
            }
            c[i * n + j] = T::from_f64(activate(epilogue.act, sum));
        }
    }
}

/// Twin of [`crate::gemm::gemm_batched`].
pub fn gemm_batched<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    a: Mat<'_, T>,
    a_off: &[isize],
    b: Mat<'_, T>,
    b_off: &[isize],
    c: &mut [T],
) {
    for i in 0..a_off.len() {
        let a = Mat {
            offset: (a.offset as isize + a_off[i]) as usize,
            ..a
        };
        let b = Mat {
            offset: (b.offset as isize + b_off[i]) as usize,
            ..b
        };
        let c = &mut c[i * m * n..(i + 1) * m * n];
        gemm(m, n, k, a, b, c, Epilogue::default());
    }
}

/// Twin of [`crate::gemm::linear_backward`].
pub fn linear_backward<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    x: &[T],
    w: &[T],
    dz: &[T],
    dx: Option<&mut [T]>,
    dw: Option<&mut [T]>,
    db: Option<&mut [T]>,
) {
    let rows = |data, cs| Mat {
        data,
        offset: 0,
        rs: cs as isize,
        cs: 1,
    };
    let columns = |data, cs| Mat {
        data,
        offset: 0,
        rs: 1,
        cs: cs as isize,
    };
    if let Some(dx) = dx {
        gemm(m, k, n, rows(dz, n), rows(w, k), dx, Epilogue::default());
    }
    if let Some(dw) = dw {
        gemm(n, k, m, columns(dz, n), rows(x, k), dw, Epilogue::default());
    }
    if let Some(db) = db {
        for j in 0..n {
            db[j] = T::from_f64((0..m).map(|i| dz[i * n + j].to_f64()).sum());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_match_known_values() {
        // Known to 16 digits: erf(0.5), erf(2).
        assert!((erf(0.5) - 0.520_499_877_813_046_5).abs() < 1e-15);
        assert!((erf(-2.0) + 0.995_322_265_018_952_7).abs() < 1e-15);
        assert_eq!(activate(Activation::Relu, -1.0), 0.0);
        assert!(activate(Activation::Relu, f64::NAN).is_nan());
        assert!((activate(Activation::Sigmoid, 0.0) - 0.5).abs() < 1e-16);
        assert!((activate(Activation::Silu, 2.0) - 1.761_594_155_955_765).abs() < 1e-14);
        assert!((activate(Activation::Gelu, 1.0) - 0.841_344_746_068_543).abs() < 1e-14);
    }

    #[test]
    fn a_product_by_hand() {
        let a = Mat {
            data: &[1.0f64, 2.0, 3.0, 4.0],
            offset: 0,
            rs: 2,
            cs: 1,
        };
        // The columns of b, flipped: [[2, 1], [4, 3]].
        let b = Mat {
            offset: 1,
            cs: -1,
            ..a
        };
        let mut c = [1.0; 4];
        let epilogue = Epilogue {
            bias: Some(&[0.0, -100.0]),
            act: Activation::Relu,
            accumulate: true,
            pre: None,
        };
        gemm(2, 2, 2, a, b, &mut c, epilogue);
        assert_eq!(c, [11.0, 0.0, 23.0, 0.0]);
    }
}
