//! Where the elements of a tensor lie in its storage. Views are layouts over the same storage.

use crate::error::{Error, Result};
use crate::shape::{Shape, Strides, checked_numel, show};

/// Element `i` lies at `offset + sum(i[d] * strides[d])` of the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    strides: Strides,
    offset: usize,
}

/// One axis of a slice: `len` elements from `start`, `step` apart (negative: backwards).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First element.
    pub start: usize,
    /// Distance, never 0.
    pub step: isize,
    /// Number of elements.
    pub len: usize,
}

impl Layout {
    /// C order (last axis fastest) from the start of the storage.
    pub fn contiguous(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let strides = c_strides(&shape);
        Self {
            shape,
            strides,
            offset: 0,
        }
    }
    /// Any layout; the caller guarantees that it stays inside its storage.
    pub fn new(shape: Shape, strides: Strides, offset: usize) -> Self {
        debug_assert_eq!(shape.len(), strides.len());
        Self {
            shape,
            strides,
            offset,
        }
    }
    /// Sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// Strides in elements.
    pub fn strides(&self) -> &Strides {
        &self.strides
    }
    /// Position of the first element.
    pub fn offset(&self) -> usize {
        self.offset
    }
    /// Number of axes.
    pub fn ndim(&self) -> usize {
        self.shape.len()
    }
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }
    /// Whether the elements lie one after another in C order (axes of size 1 do not matter; an empty tensor is).
    pub fn is_contiguous(&self) -> bool {
        let mut expect = 1;
        for (&d, &s) in self.shape.iter().zip(self.strides.iter()).rev() {
            if d != 1 {
                if s != expect {
                    return self.shape.contains(&0);
                }
                expect = expect.wrapping_mul(d as isize); // wraps for empty tensors alone
            }
        }
        true
    }
    /// Whether the elements are one gap-free run in the order of some permutation of the axes.
    pub fn is_dense(&self) -> bool {
        self.is_contiguous() || self.dense_order().is_some()
    }
    /// The axes from slowest to fastest if the layout is a permuted C order.
    pub fn dense_order(&self) -> Option<Shape> {
        let mut order: Shape = (0..self.ndim()).collect();
        // Axes of size 1 have meaningless strides; they go first, in their own order.
        order.sort_by_key(|&d| {
            if self.shape[d] == 1 {
                (0, 0)
            } else {
                (1, -self.strides[d])
            }
        });
        let mut expect = 1;
        for &d in order.iter().rev() {
            if self.shape[d] == 1 {
                continue;
            }
            if self.strides[d] != expect {
                return None;
            }
            expect = expect.wrapping_mul(self.shape[d] as isize);
        }
        Some(order)
    }
    /// Lowest and highest storage position that is read; `None` when empty.
    pub fn extent(&self) -> Option<(isize, isize)> {
        let (mut lo, mut hi) = (self.offset as isize, self.offset as isize);
        for (&d, &s) in self.shape.iter().zip(self.strides.iter()) {
            if d == 0 {
                return None;
            }
            let reach = (d as isize - 1).saturating_mul(s);
            if reach < 0 {
                lo = lo.saturating_add(reach);
            } else {
                hi = hi.saturating_add(reach);
            }
        }
        Some((lo, hi))
    }
    /// Axes in a new order: axis `i` of the result is axis `axes[i]` of this.
    pub fn permute(&self, axes: &[usize]) -> Self {
        Self {
            shape: axes.iter().map(|&a| self.shape[a]).collect(),
            strides: axes.iter().map(|&a| self.strides[a]).collect(),
            offset: self.offset,
        }
    }
    /// Strides with which this layout is read as the larger `shape` (0 where it repeats).
    pub fn broadcast_strides(&self, shape: &[usize]) -> Strides {
        if shape == &self.shape[..] {
            return self.strides.clone();
        }
        let lead = shape.len() - self.ndim();
        let mut out = Strides::filled(0, shape.len());
        for d in 0..self.ndim() {
            out[lead + d] = if self.shape[d] == shape[lead + d] {
                self.strides[d]
            } else {
                0
            };
        }
        out
    }
    /// A repeating view of the larger `shape`.
    pub fn broadcast_to(&self, op: &'static str, shape: &[usize]) -> Result<Self> {
        let fits = shape.len() >= self.ndim()
            && self
                .shape
                .iter()
                .rev()
                .zip(shape.iter().rev())
                .all(|(&a, &b)| a == b || a == 1);
        if !fits {
            return Err(Error::shape(
                op,
                format!("shape {} does not broadcast to {}", self.shape, show(shape)),
            ));
        }
        checked_numel(op, shape)?;
        Ok(Self {
            strides: self.broadcast_strides(shape),
            shape: Shape::from_slice(shape),
            offset: self.offset,
        })
    }
    /// A part: one [`Span`] per axis.
    pub fn slice(&self, spans: &[Span]) -> Self {
        debug_assert_eq!(spans.len(), self.ndim());
        if spans.iter().any(|s| s.len == 0) || self.shape.contains(&0) {
            // Strides of a shape like (0, 2^40, 2^40) do not fit a number; without elements nobody asks for them.
            return Self::contiguous(spans.iter().map(|s| s.len).collect::<Shape>());
        }
        let mut offset = self.offset as isize;
        let mut strides = self.strides.clone();
        let mut shape = self.shape.clone();
        for (d, s) in spans.iter().enumerate() {
            offset += s.start as isize * self.strides[d];
            // Wrapping: the stride of a single element may be anything.
            strides[d] = self.strides[d].wrapping_mul(s.step);
            shape[d] = s.len;
        }
        Self {
            shape,
            strides,
            offset: offset as usize,
        }
    }
    /// One part of one axis, the others whole.
    pub fn narrow(&self, axis: usize, start: usize, len: usize) -> Self {
        let mut out = self.clone();
        out.shape[axis] = len;
        if out.shape.contains(&0) {
            return Self::contiguous(out.shape); // as in `slice`
        }
        out.offset = (out.offset as isize + start as isize * out.strides[axis]) as usize;
        out
    }
    /// The same elements in C order as `shape` (same number of elements), if that needs no copy.
    pub fn reshape(&self, shape: &[usize]) -> Option<Self> {
        debug_assert_eq!(self.numel(), crate::shape::numel(shape));
        if self.is_contiguous() {
            return Some(Self {
                strides: c_strides(shape),
                shape: Shape::from_slice(shape),
                offset: self.offset,
            });
        }
        // Match groups of old axes with groups of new axes that hold the same number of elements; a group of old axes must be
        // one evenly spaced run to be split anew.
        let old: Vec<(usize, isize)> = self
            .shape
            .iter()
            .copied()
            .zip(self.strides.iter().copied())
            .filter(|&(d, _)| d != 1)
            .collect();
        let mut strides = Strides::filled(1, shape.len());
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let (mut n_old, mut n_new) = (old[i].0, 1);
            let (i0, j0) = (i, j);
            i += 1;
            while n_new != n_old || j == j0 {
                if n_new < n_old || j == j0 {
                    if j >= shape.len() {
                        return None;
                    }
                    n_new *= shape[j];
                    j += 1;
                } else {
                    if i >= old.len() || old[i - 1].1 != old[i].1 * old[i].0 as isize {
                        return None;
                    }
                    n_old *= old[i].0;
                    i += 1;
                }
            }
            let mut s = old[i - 1].1;
            for k in (j0..j).rev() {
                strides[k] = s;
                s *= shape[k] as isize;
            }
            debug_assert!(i > i0);
        }
        Some(Self {
            shape: Shape::from_slice(shape),
            strides,
            offset: self.offset,
        })
    }
}

/// Strides of a C-contiguous tensor.
pub fn c_strides(shape: &[usize]) -> Strides {
    let mut out = Strides::filled(1, shape.len());
    let mut s = 1isize;
    for d in (0..shape.len()).rev() {
        out[d] = s;
        s = s.saturating_mul(shape[d].max(1) as isize);
    }
    out
}
