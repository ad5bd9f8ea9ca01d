//! Dropout whose mask is never stored: it follows from a (seed, stream) pair and is made again where it is needed.
use super::common::{affine, check_float};
use super::next_stream;
use crate::autograd::{record, vjp};
use crate::backend::dispatch;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// With probability `p` an element becomes 0, the others are divided by `1 - p` (inverted dropout), so that the mean stays.
/// The identity when not `training` or `p` is 0.
///
/// Takes one stream of the generator ([`next_stream`]); the result is the same for any number of threads. Gradient: the
/// same mask on the gradient, regenerated from the counter.
///
/// Errors: `Value` unless `0 <= p <= 1`, `Dtype` unless `x` is floating-point.
///
/// Srivastava et al., <https://jmlr.org/papers/v15/srivastava14a.html>.
pub fn dropout(x: &Tensor, p: f64, training: bool) -> Result<Tensor> {
    const OP: &str = "dropout";
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::value(
            OP,
            format!("p must be a probability between 0 and 1, got {p}"),
        ));
    }
    check_float(OP, "x", x)?;
    if !training || p == 0.0 {
        return Ok(x.clone());
    }
    if p == 1.0 {
        return affine(x, 0.0, 0.0); // 1 / (1 - p) has no value
    }
    let (seed, stream) = next_stream();
    masked(x, p, seed, stream)
}

/// Applies the mask of `(seed, stream)`. Linear in `x` and symmetric: it is its own gradient.
fn masked(x: &Tensor, p: f64, seed: u64, stream: u64) -> Result<Tensor> {
    let y = dispatch(x.device()).dropout(p, seed, stream, &x.value())?;
    Ok(record("dropout", &[x], y, |_| {
        vjp(move |_, g, _| Ok(vec![Some(masked(g, p, seed, stream)?)]))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, constant, leaf, message, strided_leaf, to_f64,
    };
    use super::super::{full_like, multiply};
    use super::*;

    #[test]
    fn keeps_the_mean_and_scales_what_it_keeps() {
        for device in DEVICES {
            let x = full_like(&constant(device, &[100, 100], 1), 1.0.into(), None).unwrap();
            let y = to_f64(&masked(&x, 0.25, 7, 3).unwrap());
            assert!(y.iter().all(|&y| y == 0.0 || y == 1.0 / 0.75));
            let mean = y.iter().sum::<f64>() / 1e4;
            assert!(
                (mean - 1.0).abs() < 0.03,
                "four standard deviations are 0.023, got {mean}"
            );
        }
    }

    #[test]
    fn equals_its_twin_a_product_with_the_mask() {
        for device in DEVICES {
            let x = strided_leaf(device, &[5, 7], 1);
            let ones = full_like(&x, 1.0.into(), None).unwrap();
            let mask = masked(&ones, 0.5, 9, 4).unwrap();
            assert_close(
                &masked(&x, 0.5, 9, 4).unwrap(),
                &multiply(&x, &mask).unwrap(),
                1e-15,
            );
        }
    }

    #[test]
    fn the_backward_pass_uses_the_same_mask() {
        for device in DEVICES {
            let x = leaf(device, &[64], 1);
            let y = dropout(&x, 0.5, true).unwrap();
            let g = constant(device, &[64], 2);
            y.backward(Some(&g), false, false).unwrap();
            let (x_, y_, g_) = (to_f64(&x), to_f64(&y), to_f64(&g));
            for (i, dx) in to_f64(&x.grad().unwrap()).into_iter().enumerate() {
                assert!((dx - g_[i] * (y_[i] / x_[i])).abs() < 1e-12);
            }
            check_gradients(
                |t| masked(&multiply(&t[0], &t[0])?, 0.5, 1, 2),
                &[leaf(device, &[9], 3)],
            );
        }
    }

    #[test]
    fn calls_differ_and_a_seed_repeats_them() {
        // The generator is shared by the process; other tests may draw meanwhile, so only `masked` is compared exactly.
        let x = constant(DEVICES[0], &[256], 1);
        let (a, b) = (
            dropout(&x, 0.5, true).unwrap(),
            dropout(&x, 0.5, true).unwrap(),
        );
        assert_ne!(to_f64(&a), to_f64(&b));
        assert_eq!(
            to_f64(&masked(&x, 0.5, 3, 1).unwrap()),
            to_f64(&masked(&x, 0.5, 3, 1).unwrap())
        );
        assert_ne!(
            to_f64(&masked(&x, 0.5, 3, 1).unwrap()),
            to_f64(&masked(&x, 0.5, 4, 1).unwrap())
        );
    }

    #[test]
    fn the_edges() {
        for device in DEVICES {
            let x = leaf(device, &[8], 1);
            assert!(dropout(&x, 0.5, false).unwrap().is(&x));
            assert!(dropout(&x, 0.0, true).unwrap().is(&x));
            assert_eq!(
                to_f64(&dropout(&x, 1.0, true).unwrap())
                    .iter()
                    .map(|y| y.abs())
                    .sum::<f64>(),
                0.0
            );
            assert_eq!(
                message(dropout(&x, 1.5, true)),
                "[dropout] p must be a probability between 0 and 1, got 1.5"
            );
            assert!(message(dropout(&x, f64::NAN, true)).contains("between 0 and 1"));
        }
    }
}
