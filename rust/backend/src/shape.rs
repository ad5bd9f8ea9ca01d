//! Shapes, strides, broadcasting and axis arguments.

use core::fmt;
use core::ops::{Deref, DerefMut};

use smallvec::SmallVec;

use crate::error::{Error, Result};

/// A short list of numbers, one per axis; up to six axes live inline. Shown as a Python tuple.
#[derive(PartialEq, Eq, Hash)]
pub struct Dims<T: Copy>(SmallVec<[T; 6]>);

/// Number of elements along each axis.
pub type Shape = Dims<usize>;
/// Distance in elements between neighbours along each axis; 0 repeats, negative runs backwards.
pub type Strides = Dims<isize>;

impl<T: Copy> Dims<T> {
    /// No axes: the shape of a scalar.
    pub fn new() -> Self {
        Self(SmallVec::new())
    }
    /// A copy of `dims`.
    pub fn from_slice(dims: &[T]) -> Self {
        Self(SmallVec::from_slice(dims))
    }
    /// `n` times `x`.
    pub fn filled(x: T, n: usize) -> Self {
        Self(SmallVec::from_elem(x, n))
    }
    /// Appends an axis.
    pub fn push(&mut self, x: T) {
        self.0.push(x);
    }
    /// Inserts an axis before axis `at`.
    pub fn insert(&mut self, at: usize, x: T) {
        self.0.insert(at, x);
    }
    /// Removes axis `at`.
    pub fn remove(&mut self, at: usize) -> T {
        self.0.remove(at)
    }
    /// The numbers.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}
impl Shape {
    /// Number of elements; saturates, so that an absurd shape fails at allocation and not by wrapping.
    pub fn numel(&self) -> usize {
        numel(self)
    }
}
/// Number of elements of a shape.
pub fn numel(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().fold(1, |n: usize, &d| n.saturating_mul(d))
}

impl<T: Copy> Clone for Dims<T> {
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0)) // a memcpy; the derived clone goes element by element
    }
}
impl<T: Copy> Default for Dims<T> {
    fn default() -> Self {
        Self::new()
    }
}
impl<T: Copy> Deref for Dims<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}
impl<T: Copy> DerefMut for Dims<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}
impl<T: Copy> From<&[T]> for Dims<T> {
    fn from(dims: &[T]) -> Self {
        Self::from_slice(dims)
    }
}
impl<T: Copy, const N: usize> From<[T; N]> for Dims<T> {
    fn from(dims: [T; N]) -> Self {
        Self::from_slice(&dims)
    }
}
impl<T: Copy> FromIterator<T> for Dims<T> {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}
impl<T: Copy + fmt::Display> fmt::Display for Dims<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, d) in self.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(if self.len() == 1 { ",)" } else { ")" })
    }
}
impl<T: Copy + fmt::Display> fmt::Debug for Dims<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// [`numel`] of a shape that needs no memory of its own (a view, say): a [`Error::Shape`] when no tensor can have so many.
pub fn checked_numel(op: &'static str, shape: &[usize]) -> Result<usize> {
    let n = numel(shape);
    if n > isize::MAX as usize {
        return Err(Error::shape(
            op,
            format!(
                "shape {} has more elements than can be counted",
                show(shape)
            ),
        ));
    }
    Ok(n)
}

/// Shows any list of sizes as a Python tuple in an error text.
pub fn show<T: Copy + fmt::Display>(dims: &[T]) -> Dims<T> {
    Dims::from_slice(dims)
}

/// The common shape of `a` and `b` under NumPy's rule: aligned at the last axis, sizes equal or 1.
pub fn broadcast_shapes(op: &'static str, a: &[usize], b: &[usize]) -> Result<Shape> {
    if a == b {
        return Ok(Shape::from_slice(a));
    }
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let lead = long.len() - short.len();
    let mut out = Shape::from_slice(long);
    for (o, &s) in out[lead..].iter_mut().zip(short) {
        if *o == 1 {
            *o = s;
        } else if s != 1 && s != *o {
            return Err(Error::shape(
                op,
                format!(
                    "shapes {} and {} do not broadcast: aligned at the last axis, sizes must be equal or 1",
                    show(a),
                    show(b)
                ),
            ));
        }
    }
    Ok(out)
}

/// `axis` counted from the front; negative values count from the end.
pub fn normalize_axis(op: &'static str, axis: isize, ndim: usize) -> Result<usize> {
    let n = ndim as isize;
    if axis < -n || axis >= n {
        let text = if ndim == 0 {
            format!("axis {axis} is out of range: the tensor has no axes")
        } else {
            format!(
                "axis {axis} is out of range for a tensor with {ndim} axes (valid: {} to {})",
                -n,
                n - 1
            )
        };
        return Err(Error::index(op, text));
    }
    Ok(if axis < 0 { axis + n } else { axis } as usize)
}

/// The reduced axes, ascending and distinct; `None` means all of them.
pub fn normalize_axes(
    op: &'static str,
    axes: Option<&[isize]>,
    ndim: usize,
) -> Result<Dims<usize>> {
    let Some(axes) = axes else {
        return Ok((0..ndim).collect());
    };
    let mut out = Dims::new();
    for &a in axes {
        let a = normalize_axis(op, a, ndim)?;
        if out.contains(&a) {
            return Err(Error::value(
                op,
                format!("axis {a} is named twice in {}", show(axes)),
            ));
        }
        out.push(a);
    }
    out.sort_unstable();
    Ok(out)
}
