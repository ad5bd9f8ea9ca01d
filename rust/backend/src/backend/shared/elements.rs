//! [`Elements`] over the kernels in `k`.

use corten_kernels::Strided;
use corten_kernels::alloc;
use corten_kernels::half::Half;
use corten_kernels::parallel::take_interrupted;

use super::{DEVICE, Me, k};
use crate::backend::{Backend, Binary, Compare, Elements, Logical, Reduce, Scan, Unary, UnaryGrad};
use crate::device::Device;
use crate::dtype::{BF16, DType, Element, F16, Scalar};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::shape::{Shape, Strides, numel};
use crate::storage::{Storage, Word};
use crate::value::Value;
use crate::{with_element, with_number, with_real, with_word};

impl Backend for Me {
    fn device(&self) -> Device {
        DEVICE
    }
}

/// Fails when the kernel that just ran was abandoned because the user pressed Ctrl-C.
pub(super) fn check_interrupt() -> Result<()> {
    if take_interrupted() {
        return Err(Error::Interrupted);
    }
    Ok(())
}
/// A kernel's output as a value, unless it was abandoned.
pub(super) fn done(storage: Storage, shape: impl Into<Shape>) -> Result<Value> {
    check_interrupt()?;
    Ok(Value::new(storage, shape))
}
/// Fresh memory on this device.
pub(super) fn fresh(dtype: DType, shape: &[usize]) -> Result<Storage> {
    Storage::shaped(dtype, shape, DEVICE)
}
/// Runs a kernel that needs memory to work in.
pub(super) fn roomy<R>(op: &'static str, kernel: impl FnOnce() -> R) -> Result<R> {
    alloc::catch(kernel).map_err(|refused| Error::no_memory(op, "a workspace", Some(refused.bytes)))
}
fn strided<'a, T: Element>(x: &'a Value, strides: &'a [isize]) -> Strided<'a, T> {
    Strided {
        data: x.storage.slice(),
        offset: x.layout.offset(),
        strides,
    }
}
/// As [`strided`], for kernels that only move elements.
fn words<'a, W: Word>(x: &'a Value, strides: &'a [isize]) -> Strided<'a, W> {
    Strided {
        data: x.storage.words(),
        offset: x.layout.offset(),
        strides,
    }
}

/// How an element-wise kernel walks: over `shape` with the given strides, its dense result then seen as `layout`.
struct Walk<const N: usize> {
    shape: Shape,
    strides: [Strides; N],
    layout: Layout,
}
/// Operands that share one dense layout (or are single elements) are one run, and the result gets that layout; any other
/// combination is read with broadcast strides and the result is in C order.
fn walk<const N: usize>(shape: &[usize], operands: [&Value; N]) -> Walk<N> {
    let lead = operands
        .iter()
        .find(|v| v.shape()[..] == *shape)
        .filter(|v| v.layout.is_dense());
    if let Some(lead) = lead {
        let lead = &lead.layout;
        let same = |v: &&Value| {
            v.numel() == 1
                || v.shape()[..] == *shape
                    && (v.layout.strides() == lead.strides()
                        || v.layout.is_contiguous() && lead.is_contiguous())
        };
        if operands.iter().all(same) {
            let n = numel(shape);
            let layout = if lead.is_contiguous() {
                Layout::contiguous(shape)
            } else {
                Layout::new(Shape::from_slice(shape), lead.strides().clone(), 0)
            };
            return Walk {
                shape: Shape::from([n]),
                strides: operands.map(|v| Strides::from([isize::from(v.numel() != 1)])),
                layout,
            };
        }
    }
    Walk {
        shape: Shape::from_slice(shape),
        strides: operands.map(|v| v.layout.broadcast_strides(shape)),
        layout: Layout::contiguous(shape),
    }
}
impl<const N: usize> Walk<N> {
    fn finish(self, storage: Storage) -> Result<Value> {
        check_interrupt()?;
        Ok(Value {
            storage: storage.into(),
            layout: self.layout,
        })
    }
}

/// `x` with the reduced axes moved to the end: strides of `outer ++ inner`, `outer`, `inner`.
fn split_axes(x: &Value, axes: &[usize]) -> (Strides, Shape, Shape) {
    let kept = (0..x.layout.ndim()).filter(|d| !axes.contains(d));
    let order: Shape = kept.chain(axes.iter().copied()).collect();
    let l = x.layout.permute(&order);
    let n_outer = order.len() - axes.len();
    (
        l.strides().clone(),
        Shape::from_slice(&l.shape()[..n_outer]),
        Shape::from_slice(&l.shape()[n_outer..]),
    )
}

/// `x`, which is no 16-bit float, as one: rounded once.
fn narrow<H: Half + Element>(x: &Value, w: &Walk<1>, out: &mut Storage) -> Result<()> {
    let (s, out) = (&w.strides[0], out.slice_mut::<H>());
    if x.dtype() == DType::F32 {
        k::half::narrow::<H>(&w.shape, strided(x, s), out);
    } else {
        with_number!(x.dtype(), A => k::half::narrow_number::<A, H>(&w.shape, strided(x, s), out));
    }
    Ok(())
}
/// `x` in the dtype of `out`, neither of them 16-bit floats.
fn convert(x: &Value, w: &Walk<1>, out: &mut Storage) -> Result<()> {
    let s = &w.strides[0];
    with_number!(x.dtype(), A => if out.dtype() == DType::Bool {
        k::elementwise::cast_bool::<A>(&w.shape, strided(x, s), out.slice_mut());
    } else {
        with_number!(out.dtype(), B =>
            k::elementwise::cast::<A, B>(&w.shape, strided(x, s), out.slice_mut()));
    });
    Ok(())
}

impl Elements for Me {
    fn full(&self, shape: &[usize], dtype: DType, x: Scalar) -> Result<Value> {
        let mut out = fresh(dtype, shape)?;
        let x = if dtype == DType::Bool {
            Scalar::Bool(x.to_bool())
        } else {
            x
        };
        with_element!(dtype, T => k::elementwise::fill(out.slice_mut::<T>(), T::from_scalar(x)));
        done(out, shape)
    }

    fn unary(&self, op: Unary, x: &Value) -> Result<Value> {
        let w = walk(x.shape(), [x]);
        let mut out = fresh(x.dtype(), x.shape())?;
        let s = &w.strides[0];
        if x.dtype().is_float() {
            with_real!("unary", x.dtype(), T =>
                k::elementwise::unary::<T>(op, &w.shape, strided(x, s), out.slice_mut()));
        } else {
            with_number!(x.dtype(), T =>
                k::elementwise::unary_int::<T>(op, &w.shape, strided(x, s), out.slice_mut()));
        }
        w.finish(out)
    }

    fn gelu_with_slope(&self, x: &Value) -> Result<(Value, Value)> {
        let w = walk(x.shape(), [x]);
        let mut out = fresh(x.dtype(), x.shape())?;
        let mut slope = fresh(x.dtype(), x.shape())?;
        with_real!("gelu", x.dtype(), T => k::elementwise::gelu_with_slope::<T>(
            &w.shape, strided(x, &w.strides[0]), out.slice_mut(), slope.slice_mut()));
        Ok((w.finish(out)?, walk(x.shape(), [x]).finish(slope)?))
    }

    fn unary_backward(&self, op: UnaryGrad, saved: &Value, g: &Value) -> Result<Value> {
        let w = walk(saved.shape(), [saved, g]);
        let mut out = fresh(saved.dtype(), saved.shape())?;
        let [s, t] = &w.strides;
        with_real!("unary_backward", saved.dtype(), T => k::elementwise::unary_backward::<T>(
            op, &w.shape, strided(saved, s), strided(g, t), out.slice_mut()));
        w.finish(out)
    }

    fn binary(&self, op: Binary, shape: &[usize], a: &Value, b: &Value) -> Result<Value> {
        let w = walk(shape, [a, b]);
        let mut out = fresh(a.dtype(), shape)?;
        let [s, t] = &w.strides;
        with_number!(a.dtype(), T => k::elementwise::binary::<T>(
            op, &w.shape, strided(a, s), strided(b, t), out.slice_mut()));
        w.finish(out)
    }

    fn compare(&self, op: Compare, shape: &[usize], a: &Value, b: &Value) -> Result<Value> {
        let w = walk(shape, [a, b]);
        let mut out = fresh(DType::Bool, shape)?;
        let [s, t] = &w.strides;
        with_number!(a.dtype(), T => k::elementwise::compare::<T>(
            op, &w.shape, strided(a, s), strided(b, t), out.slice_mut()));
        w.finish(out)
    }

    fn logical(&self, op: Logical, shape: &[usize], a: &Value, b: &Value) -> Result<Value> {
        let w = walk(shape, [a, b]);
        let mut out = fresh(DType::Bool, shape)?;
        let [s, t] = &w.strides;
        k::elementwise::logical(op, &w.shape, strided(a, s), strided(b, t), out.slice_mut());
        w.finish(out)
    }

    fn select(&self, shape: &[usize], c: &Value, a: &Value, b: &Value) -> Result<Value> {
        let w = walk(shape, [c, a, b]);
        let mut out = fresh(a.dtype(), shape)?;
        let [r, s, t] = &w.strides;
        assert_eq!(a.dtype(), b.dtype(), "operands of one dtype");
        with_word!(a.dtype(), W => k::elementwise::select::<W>(
            &w.shape, strided(c, r), words(a, s), words(b, t), out.words_mut()));
        w.finish(out)
    }

    fn cast(&self, x: &Value, dtype: DType) -> Result<Value> {
        if x.dtype() == dtype {
            return Ok(x.clone());
        }
        if x.dtype().is_half() && dtype != DType::F32 {
            return self.cast(&self.cast(x, DType::F32)?, dtype);
        }
        let w = walk(x.shape(), [x]);
        let mut out = fresh(dtype, x.shape())?;
        let s = &w.strides[0];
        match x.dtype() {
            DType::F16 => k::half::widen::<F16>(&w.shape, strided(x, s), out.slice_mut()),
            DType::BF16 => k::half::widen::<BF16>(&w.shape, strided(x, s), out.slice_mut()),
            _ => match dtype {
                DType::F16 => narrow::<F16>(x, &w, &mut out)?,
                DType::BF16 => narrow::<BF16>(x, &w, &mut out)?,
                _ => convert(x, &w, &mut out)?,
            },
        }
        w.finish(out)
    }

    fn contiguous(&self, x: &Value) -> Result<Value> {
        if x.layout.is_contiguous() {
            return Ok(x.clone());
        }
        self.copy(x)
    }

    fn copy(&self, x: &Value) -> Result<Value> {
        let mut out = fresh(x.dtype(), x.shape())?;
        with_word!(x.dtype(), W => k::elementwise::copy::<W>(
            x.shape(), words(x, x.layout.strides()), out.words_mut()));
        done(out, x.shape().clone())
    }

    fn copy_into(&self, src: &Value, dst: &mut Storage, at: &Layout) -> Result<()> {
        assert_eq!(src.dtype(), dst.dtype(), "a copy keeps the dtype");
        with_word!(src.dtype(), W => k::elementwise::copy_into::<W>(
            at.shape(), words(src, src.layout.strides()), dst.words_mut(), at.offset(), at.strides()));
        check_interrupt()
    }

    fn add_into(&self, src: &Value, dst: &mut Storage, at: &Layout) -> Result<()> {
        assert_eq!(src.dtype(), dst.dtype(), "a sum in place keeps the dtype");
        with_real!("add_into", src.dtype(), T => k::elementwise::add_into::<T>(
            at.shape(), strided(src, src.layout.strides()), dst.slice_mut(), at.offset(), at.strides()));
        check_interrupt()
    }

    fn reduce(&self, op: Reduce, x: &Value, axes: &[usize]) -> Result<Value> {
        let (strides, outer, inner) = split_axes(x, axes);
        if x.dtype().is_float() {
            let mut out = fresh(x.dtype(), &outer)?;
            with_real!("reduce", x.dtype(), T =>
                k::reduce::reduce::<T>(op, &outer, &inner, strided(x, &strides), out.slice_mut()));
            return done(out, outer);
        }
        let wide = matches!(op, Reduce::Sum | Reduce::Prod);
        let dtype = if wide { DType::I64 } else { x.dtype() };
        let mut out = fresh(dtype, &outer)?;
        with_number!(x.dtype(), T => if wide {
            k::reduce::reduce_int::<T, i64>(op, &outer, &inner, strided(x, &strides), out.slice_mut());
        } else {
            k::reduce::reduce_int::<T, T>(op, &outer, &inner, strided(x, &strides), out.slice_mut());
        });
        done(out, outer)
    }

    fn arg_reduce(&self, max: bool, x: &Value, axes: &[usize]) -> Result<Value> {
        let (strides, outer, inner) = split_axes(x, axes);
        let mut out = fresh(DType::I64, &outer)?;
        with_number!(x.dtype(), T => k::reduce::arg_reduce::<T>(
            max, &outer, &inner, strided(x, &strides), out.slice_mut()));
        done(out, outer)
    }

    fn any_all(&self, all: bool, x: &Value, axes: &[usize]) -> Result<Value> {
        let (strides, outer, inner) = split_axes(x, axes);
        let mut out = fresh(DType::Bool, &outer)?;
        k::reduce::any_all(all, &outer, &inner, strided(x, &strides), out.slice_mut());
        done(out, outer)
    }

    fn gather_rows(&self, x: &Value, idx: &Value) -> Result<Value> {
        let (x, idx) = (self.contiguous(x)?, self.contiguous(idx)?);
        let rest = &x.shape()[1..];
        let shape: Shape = idx.shape().iter().chain(rest).copied().collect();
        let mut out = fresh(x.dtype(), &shape)?;
        with_word!(x.dtype(), W => k::index::gather_rows::<W>(
            numel(rest), dense_words(&x), dense(&idx), out.words_mut()));
        done(out, shape)
    }

    fn scatter_add_rows(&self, rows: usize, g: &Value, idx: &Value) -> Result<Value> {
        let (g, idx) = (self.contiguous(g)?, self.contiguous(idx)?);
        let rest = &g.shape()[idx.layout.ndim()..];
        let shape: Shape = [rows].iter().chain(rest).copied().collect();
        let mut out = fresh(g.dtype(), &shape)?;
        with_real!("scatter_add_rows", g.dtype(), T => k::index::scatter_add_rows::<T>(
            numel(rest), dense(&g), dense(&idx), out.slice_mut()));
        done(out, shape)
    }

    fn gather(&self, x: &Value, outer: usize, at: &Value) -> Result<Value> {
        let at = self.contiguous(at)?;
        let (before, after) = x.shape().split_at(outer);
        let shape = Shape::from_slice(&[before, &[at.numel()], after].concat());
        let mut out = fresh(x.dtype(), &shape)?;
        with_word!(x.dtype(), W => k::index::gather::<W>(
            before, after, words(x, x.layout.strides()), dense(&at), out.words_mut()));
        done(out, shape)
    }

    fn put(
        &self,
        values: &Value,
        dst: &mut Storage,
        to: &Layout,
        outer: usize,
        at: &Value,
    ) -> Result<()> {
        let (values, at) = (self.contiguous(values)?, self.contiguous(at)?);
        let (before, after) = to.shape().split_at(outer);
        assert_eq!(values.dtype(), dst.dtype(), "values are cast before");
        with_word!(values.dtype(), W => k::index::put::<W>(
            before, after, dense_words(&values), dense(&at), dst.words_mut(), to.offset(), to.strides()));
        check_interrupt()
    }

    fn scan(&self, op: Scan, x: &Value) -> Result<Value> {
        let x = self.contiguous(x)?;
        let n = x.shape().last().copied().unwrap_or(1);
        let dtype = if x.dtype().is_float() {
            x.dtype()
        } else {
            DType::I64
        };
        let mut out = fresh(dtype, x.shape())?;
        if x.dtype().is_float() {
            with_real!("scan", x.dtype(), T => k::scan::scan::<T>(op, n, dense(&x), out.slice_mut()));
        } else {
            with_number!(x.dtype(), T => k::scan::scan_int::<T>(op, n, dense(&x), out.slice_mut()));
        }
        done(out, x.shape().clone())
    }

    fn argsort(&self, descending: bool, x: &Value) -> Result<Value> {
        let x = self.contiguous(x)?;
        let n = x.shape().last().copied().unwrap_or(1);
        let mut out = fresh(DType::I64, x.shape())?;
        with_number!(x.dtype(), T => roomy("argsort", || {
            k::sort::argsort::<T>(descending, n, dense(&x), out.slice_mut());
        })?);
        done(out, x.shape().clone())
    }

    fn uniform(&self, seed: u64, stream: u64, shape: &[usize], dtype: DType) -> Result<Value> {
        let mut out = fresh(dtype, shape)?;
        with_real!("uniform", dtype, T => k::rng::uniform::<T>(seed, stream, out.slice_mut()));
        done(out, shape)
    }

    fn normal(&self, seed: u64, stream: u64, shape: &[usize], dtype: DType) -> Result<Value> {
        let mut out = fresh(dtype, shape)?;
        with_real!("normal", dtype, T => k::rng::normal::<T>(seed, stream, out.slice_mut()));
        done(out, shape)
    }

    fn integers(&self, seed: u64, stream: u64, lo: i64, hi: i64, shape: &[usize]) -> Result<Value> {
        let mut out = fresh(DType::I64, shape)?;
        k::rng::integers(seed, stream, lo, hi, out.slice_mut());
        done(out, shape)
    }

    fn dropout(&self, p: f64, seed: u64, stream: u64, x: &Value) -> Result<Value> {
        let x = self.contiguous(x)?;
        let mut out = fresh(x.dtype(), x.shape())?;
        with_real!("dropout", x.dtype(), T =>
            k::rng::dropout::<T>(p, seed, stream, dense(&x), out.slice_mut()));
        done(out, x.shape().clone())
    }
}

/// The elements of a value that was just made contiguous.
pub(super) fn dense<T: Element>(x: &Value) -> &[T] {
    x.dense().expect("made contiguous by the caller")
}
/// As [`dense`], for kernels that only move elements.
fn dense_words<W: Word>(x: &Value) -> &[W] {
    let n = x.numel();
    let start = if n == 0 { 0 } else { x.layout.offset() };
    &x.storage.words()[start..start + n]
}
