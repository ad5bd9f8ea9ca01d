//! New tensors, random numbers and their state.

use std::sync::{Arc, Mutex, PoisonError};

use crate::autograd::{not_differentiable, record, vjp};
use crate::backend::dispatch;
use crate::device::Device;
use crate::dtype::{DType, Element, Scalar};
use crate::error::{Error, Result};
use crate::list::go_on;
use crate::shape::Shape;
use crate::storage::Storage;
use crate::tensor::Tensor;
use crate::value::Value;
use crate::with_element;

/// All elements 0.
pub fn zeros(shape: &[usize], dtype: DType, device: Device) -> Result<Tensor> {
    full(shape, Scalar::Int(0), dtype, device)
}
/// All elements 1.
pub fn ones(shape: &[usize], dtype: DType, device: Device) -> Result<Tensor> {
    full(shape, Scalar::Int(1), dtype, device)
}
/// All elements `fill_value`, converted to `dtype`; an integer that does not fit is a value error.
pub fn full(shape: &[usize], fill_value: Scalar, dtype: DType, device: Device) -> Result<Tensor> {
    fill_value.check_fits("full", dtype)?;
    let made = dispatch(device).full(shape, dtype, fill_value);
    Ok(Tensor::from_value(made.map_err(|e| e.within("full"))?))
}
/// Zeros of `x`'s shape and device, in `dtype` (default `x`'s).
pub fn zeros_like(x: &Tensor, dtype: Option<DType>) -> Result<Tensor> {
    zeros(x.shape(), dtype.unwrap_or(x.dtype()), x.device())
}
/// Ones of `x`'s shape and device, in `dtype` (default `x`'s).
pub fn ones_like(x: &Tensor, dtype: Option<DType>) -> Result<Tensor> {
    ones(x.shape(), dtype.unwrap_or(x.dtype()), x.device())
}
/// `fill_value` everywhere, in `x`'s shape and device and `dtype` (default `x`'s).
pub fn full_like(x: &Tensor, fill_value: Scalar, dtype: Option<DType>) -> Result<Tensor> {
    full(
        x.shape(),
        fill_value,
        dtype.unwrap_or(x.dtype()),
        x.device(),
    )
}

/// A tensor of elements given by position, in C order.
fn generate(
    shape: &[usize],
    dtype: DType,
    device: Device,
    f: impl Fn(usize) -> Scalar,
) -> Result<Tensor> {
    let mut s = Storage::shaped(dtype, shape, device)?;
    with_element!(dtype, T => for (i, y) in s.slice_mut::<T>().iter_mut().enumerate() {
        if i % 4096 == 0 {
            go_on(4.0)?;
        }
        *y = T::from_scalar(if dtype == DType::Bool { Scalar::Bool(f(i).to_bool()) } else { f(i) });
    });
    Ok(Tensor::from_value(Value::new(s, shape)))
}

/// `start, start + step, ..`, as long as it lies before `stop`; `(n,)` with `n = ceil((stop - start) / step)`.
/// Default dtype: int64 if all three are integers, else float32. Element `i` is `start + i * step`, computed once (no drift).
pub fn arange(
    start: Scalar,
    stop: Scalar,
    step: Scalar,
    dtype: Option<DType>,
    device: Device,
) -> Result<Tensor> {
    const OP: &str = "arange";
    let ints = [start, stop, step]
        .iter()
        .all(|s| !matches!(s, Scalar::Float(_)));
    if step.to_f64() == 0.0 {
        return Err(Error::value(OP, "step must not be 0"));
    }
    if ints {
        let (a, b, s) = (
            i128::from(start.to_i64()),
            i128::from(stop.to_i64()),
            i128::from(step.to_i64()),
        );
        let n = ((b - a) / s + i128::from((b - a) % s != 0 && ((b - a) > 0) == (s > 0))).max(0);
        let n = usize::try_from(n).map_err(|_| Error::value(OP, "too many elements"))?;
        return generate(&[n], dtype.unwrap_or(DType::I64), device, |i| {
            Scalar::Int((a + i as i128 * s) as i64)
        });
    }
    let (a, b, s) = (start.to_f64(), stop.to_f64(), step.to_f64());
    let n = ((b - a) / s).ceil();
    if !n.is_finite() || n >= isize::MAX as f64 {
        return Err(Error::value(
            OP,
            format!("start {a}, stop {b} and step {s} give no finite number of elements"),
        ));
    }
    generate(
        &[n.max(0.0) as usize],
        dtype.unwrap_or(DType::F32),
        device,
        |i| Scalar::Float(a + i as f64 * s),
    )
}

/// `num` evenly spaced numbers from `start` to `stop`, which is the last of them if `endpoint`; default dtype float32.
pub fn linspace(
    start: f64,
    stop: f64,
    num: usize,
    dtype: Option<DType>,
    endpoint: bool,
    device: Device,
) -> Result<Tensor> {
    let gaps = if endpoint { num.saturating_sub(1) } else { num };
    let step = if gaps == 0 {
        0.0
    } else {
        (stop - start) / gaps as f64
    };
    generate(&[num], dtype.unwrap_or(DType::F32), device, |i| {
        Scalar::Float(if endpoint && i == gaps && gaps > 0 {
            stop
        } else {
            start + i as f64 * step
        })
    })
}

/// `(n_rows, n_cols)` (default square) with ones on diagonal `k` (above the main one for `k > 0`).
pub fn eye(
    n_rows: usize,
    n_cols: Option<usize>,
    k: isize,
    dtype: Option<DType>,
    device: Device,
) -> Result<Tensor> {
    let cols = n_cols.unwrap_or(n_rows);
    let dtype = dtype.unwrap_or(DType::F32);
    let shape = [n_rows, cols];
    generate(&shape, dtype, device, |i| {
        Scalar::Bool((i % cols) as isize - (i / cols) as isize == k)
    })
}

// -- random numbers

/// Seed and number of the next stream. Each random operation uses up one stream, so that its result depends only on the seed
/// and on how many random operations came before.
static RNG: Mutex<(u64, u64)> = Mutex::new((0, 0));

fn rng() -> std::sync::MutexGuard<'static, (u64, u64)> {
    RNG.lock().unwrap_or_else(PoisonError::into_inner)
}
/// Starts the random numbers anew from `seed`.
pub fn manual_seed(seed: u64) {
    *rng() = (seed, 0);
}
/// `(seed, next stream)`
pub fn get_rng_state() -> (u64, u64) {
    *rng()
}
/// Goes back to a state of [`get_rng_state`].
pub fn set_rng_state(state: (u64, u64)) {
    *rng() = state;
}
/// Takes a stream: `(seed, stream)`.
pub fn next_stream() -> (u64, u64) {
    let mut state = rng();
    let mine = *state;
    state.1 = state.1.wrapping_add(1);
    mine
}

fn check_real(op: &'static str, dtype: DType) -> Result<()> {
    if dtype.is_float() {
        return Ok(());
    }
    Err(Error::dtype(
        op,
        format!("draws floating-point numbers, not {dtype} (use randint for integers)"),
    ))
}
/// Uniform in `[0, 1)`.
pub fn rand(shape: &[usize], dtype: DType, device: Device) -> Result<Tensor> {
    check_real("rand", dtype)?;
    let (seed, stream) = next_stream();
    let v = dispatch(device).uniform(seed, stream, shape, dtype)?;
    Ok(Tensor::from_value(v))
}
/// Standard normal.
pub fn randn(shape: &[usize], dtype: DType, device: Device) -> Result<Tensor> {
    check_real("randn", dtype)?;
    let (seed, stream) = next_stream();
    let v = dispatch(device).normal(seed, stream, shape, dtype)?;
    Ok(Tensor::from_value(v))
}
/// Integers uniform in `[low, high)`, in any integer dtype that holds them.
pub fn randint(
    low: i64,
    high: i64,
    shape: &[usize],
    dtype: DType,
    device: Device,
) -> Result<Tensor> {
    const OP: &str = "randint";
    if low >= high {
        return Err(Error::value(
            OP,
            format!("needs low < high, not {low} and {high}"),
        ));
    }
    for bound in [low, high - 1] {
        Scalar::Int(bound).check_fits(OP, dtype)?;
    }
    let (seed, stream) = next_stream();
    let backend = dispatch(device);
    let v = backend.integers(seed, stream, low, high, shape)?;
    Ok(Tensor::from_value(backend.cast(&v, dtype)?))
}
/// Uniform in `[low, high)`: `low + (high - low) * u`.
pub fn uniform(
    shape: &[usize],
    low: f64,
    high: f64,
    dtype: DType,
    device: Device,
) -> Result<Tensor> {
    if !(low <= high && (high - low).is_finite()) {
        return Err(Error::value(
            "uniform",
            format!("needs finite low <= high, not {low} and {high}"),
        ));
    }
    affine(rand(shape, dtype, device)?, high - low, low)
}
/// Normal with the given mean and standard deviation: `mean + std * z`.
pub fn normal(
    shape: &[usize],
    mean: f64,
    std: f64,
    dtype: DType,
    device: Device,
) -> Result<Tensor> {
    if std.is_nan() || std < 0.0 {
        return Err(Error::value(
            "normal",
            format!("the standard deviation must not be negative, but is {std}"),
        ));
    }
    affine(randn(shape, dtype, device)?, std, mean)
}
fn affine(x: Tensor, mul: f64, add: f64) -> Result<Tensor> {
    let op = crate::backend::Unary::Affine { mul, add };
    let y = dispatch(x.device()).unary(op, &x.value())?;
    Ok(Tensor::from_value(y))
}

// -- copies

/// The same values on another device (the tensor itself if it is there already). The gradient goes back where it came from.
pub fn to_device(x: &Tensor, device: Device) -> Result<Tensor> {
    if x.device() == device {
        return Ok(x.clone());
    }
    let from = x.device();
    let v = dispatch(from).contiguous(&x.value())?;
    let (start, n) = (v.layout.offset(), v.numel());
    let storage = with_element!(v.dtype(), T => {
        let data = if n == 0 { &[] } else { &v.storage.slice::<T>()[start..start + n] };
        Storage::from_slice(v.dtype(), data, device)?
    });
    let out = Value::new(storage, Shape::from_slice(x.shape()));
    Ok(record("to_device", &[x], out, |_| {
        vjp(move |_, g, _| Ok(vec![Some(to_device(g, from)?)]))
    }))
}
/// The same bits as numbers of another dtype of that size, without a copy and without gradient.
///
/// Errors: `Dtype` when the sizes differ, or for bool, which not every byte is.
pub fn reinterpret(x: &Tensor, dtype: DType) -> Result<Tensor> {
    const OP: &str = "view";
    let from = x.dtype();
    if from.size() != dtype.size() {
        let (a, b) = (from.size(), dtype.size());
        let text = format!("{from} has {a} bytes and {dtype} has {b} (astype converts values)");
        return Err(Error::dtype(OP, text));
    }
    if dtype == DType::Bool && from != DType::Bool {
        let text = format!("not every {from} is a bool (compare instead: x != 0)");
        return Err(Error::dtype(OP, text));
    }
    let mut v = x.value();
    if from != dtype {
        v.storage = Arc::new(v.storage.reinterpret(dtype));
    }
    Ok(not_differentiable(OP, &[x], v).detach()) // a view, which takes no writes
}
/// A copy in fresh memory, in C order; its gradient goes to `x`.
pub fn copy(x: &Tensor) -> Result<Tensor> {
    let out = dispatch(x.device()).copy(&x.value())?;
    Ok(record("clone", &[x], out, |_| {
        vjp(|_, g, _| Ok(vec![Some(g.clone())]))
    }))
}
/// `x` in C order: the tensor itself if it is so already.
pub fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() {
        return Ok(x.clone());
    }
    copy(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: Device = Device::Reference;

    #[test]
    fn ranges() {
        let r = |a: i64, b: i64, s: i64| {
            arange(a.into(), b.into(), s.into(), None, D)
                .unwrap()
                .to_vec::<i64>()
                .unwrap()
        };
        assert_eq!(r(0, 5, 2), [0, 2, 4]);
        assert_eq!(r(5, 0, -2), [5, 3, 1]);
        assert_eq!(r(5, 0, 2), [0i64; 0]);
        assert_eq!(r(0, -4, -2), [0, -2]);
        let f = arange(0.0.into(), 1.0.into(), 0.25.into(), None, D).unwrap();
        assert_eq!(f.to_vec::<f32>().unwrap(), [0.0, 0.25, 0.5, 0.75]);
        assert!(arange(0.into(), 1.into(), 0.into(), None, D).is_err());
        let l = linspace(0.0, 1.0, 5, None, true, D).unwrap();
        assert_eq!(l.to_vec::<f32>().unwrap(), [0.0, 0.25, 0.5, 0.75, 1.0]);
        let l = linspace(0.0, 1.0, 4, None, false, D).unwrap();
        assert_eq!(l.to_vec::<f32>().unwrap(), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(
            linspace(3.0, 9.0, 1, None, true, D)
                .unwrap()
                .item()
                .unwrap(),
            Scalar::Float(3.0)
        );
        let e = eye(2, Some(3), 1, None, D).unwrap();
        assert_eq!(e.to_vec::<f32>().unwrap(), [0., 1., 0., 0., 0., 1.]);
        assert_eq!(eye(0, None, 0, None, D).unwrap().numel(), 0);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert!(full(&[1], Scalar::Int(256), DType::U8, D).is_err());
        assert!(randint(0, 300, &[2], DType::U8, D).is_err());
        assert!(randint(3, 3, &[2], DType::I64, D).is_err());
        assert!(rand(&[2], DType::I64, D).is_err());
    }
}
