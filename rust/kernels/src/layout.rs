//! Walking strided operands: joining axes, and cutting an operand into dense blocks for the vector bodies.
use crate::element::Strided;
use core::mem::MaybeUninit;

/// Axes that an operand may have after joining; more than NumPy allows before.
pub(crate) const MAX_AXES: usize = 64;
/// Elements that a kernel body gets at once from an operand that is not dense; two such buffers fit in L1.
pub(crate) const BLOCK: usize = 1024;
/// Elements per unit of parallel work.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Number of elements of a shape; saturates, so that no absurd shape passes for a small one in a comparison of lengths.
pub(crate) fn numel(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().fold(1, |n: usize, &d| n.saturating_mul(d))
}

/// Whether element `i` in C order is `data[offset + i]`.
#[inline]
pub(crate) fn is_dense(shape: &[usize], strides: &[isize]) -> bool {
    let mut next = 1;
    for (&n, &s) in shape.iter().zip(strides).rev() {
        if n != 1 {
            if s != next {
                return false;
            }
            next = next.wrapping_mul(n as isize); // wraps for empty shapes alone
        }
    }
    true
}

/// Panics unless every element of `shape` lies in an array of `len` elements: what makes the pointer walks sound.
#[inline]
pub(crate) fn check_bounds(len: usize, offset: usize, shape: &[usize], strides: &[isize]) {
    assert_eq!(shape.len(), strides.len(), "one stride per axis");
    let (mut lo, mut hi) = (offset as isize, offset as isize);
    for (&n, &s) in shape.iter().zip(strides) {
        if n == 0 {
            return;
        }
        let span = (n as isize - 1).saturating_mul(s);
        if span < 0 {
            lo = lo.saturating_add(span);
        } else {
            hi = hi.saturating_add(span);
        }
    }
    assert!(
        lo >= 0 && hi < len as isize,
        "strided operand leaves its storage"
    );
}

/// A shape with the strides of `N` operands, axes of size 1 dropped and neighbours joined where all operands allow.
#[derive(Clone, Debug)]
pub(crate) struct Dims<const N: usize> {
    len: usize,
    shape: [usize; MAX_AXES],
    strides: [[isize; MAX_AXES]; N],
}

impl<const N: usize> Dims<N> {
    pub(crate) fn new(shape: &[usize], strides: [&[isize]; N]) -> Self {
        let mut d = Dims {
            len: 0,
            shape: [1; MAX_AXES],
            strides: [[0; MAX_AXES]; N],
        };
        for (axis, &n) in shape.iter().enumerate() {
            if n == 1 {
                continue;
            }
            let last = d.len.wrapping_sub(1);
            let joins = d.len > 0
                && (0..N).all(|k| {
                    // Wrapping: strides of axes that are never walked may be anything.
                    d.strides[k][last] == strides[k][axis].wrapping_mul(n as isize)
                });
            if joins {
                d.shape[last] *= n;
                for k in 0..N {
                    d.strides[k][last] = strides[k][axis];
                }
            } else {
                assert!(d.len < MAX_AXES, "more than {MAX_AXES} axes");
                d.shape[d.len] = n;
                for k in 0..N {
                    d.strides[k][d.len] = strides[k][axis];
                }
                d.len += 1;
            }
        }
        d
    }
    /// The same elements in another order: the last operand is walked through memory, and axes that lie side by side in all
    /// operands then are one.
    pub(crate) fn in_order(&self) -> Self {
        let mut axes = [0; MAX_AXES];
        let axes = &mut axes[..self.len];
        for (i, axis) in axes.iter_mut().enumerate() {
            *axis = i;
        }
        axes.sort_by_key(|&d| core::cmp::Reverse(self.strides[N - 1][d].unsigned_abs()));
        let pick = |from: &[isize; MAX_AXES]| {
            let mut to = [0; MAX_AXES];
            for (to, &d) in to.iter_mut().zip(axes.iter()) {
                *to = from[d];
            }
            to
        };
        let strides = self.strides.each_ref().map(pick);
        let mut shape = [1; MAX_AXES];
        for (to, &d) in shape.iter_mut().zip(axes.iter()) {
            *to = self.shape[d];
        }
        Dims::new(
            &shape[..self.len],
            strides.each_ref().map(|s| &s[..self.len]),
        )
    }
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape[..self.len]
    }
    pub(crate) fn strides(&self, k: usize) -> &[isize] {
        &self.strides[k][..self.len]
    }
    /// Swaps two axes.
    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        self.shape.swap(a, b);
        for s in &mut self.strides {
            s.swap(a, b);
        }
    }
}

/// Offset of element `i` (C order) of `shape`.
pub(crate) fn offset_of(shape: &[usize], strides: &[isize], mut i: usize) -> isize {
    let mut off = 0;
    for (&n, &s) in shape.iter().zip(strides).rev() {
        off += (i % n) as isize * s;
        i /= n;
    }
    off
}

/// One operand, cut into dense blocks.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, T> {
    base: *const T,
    shape: &'a [usize],
    strides: &'a [isize],
    dense: bool,
    scalar: bool,
}
// SAFETY: only read through, and T is Sync wherever a Source is made (from a slice of it).
unsafe impl<T: Sync> Sync for Source<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Send for Source<'_, T> {}

/// Room for one block.
pub(crate) struct Buffer<T>(MaybeUninit<[T; BLOCK]>, usize);
impl<T> Buffer<T> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Buffer(MaybeUninit::uninit(), 0)
    }
}

impl<'a, T: Copy> Source<'a, T> {
    /// Checks that the operand stays inside its storage. `shape` may have any number of axes when it is dense or a
    /// scalar, else it comes from [`Dims`].
    #[inline]
    pub(crate) fn new(x: &Strided<'a, T>, shape: &'a [usize], strides: &'a [isize]) -> Self {
        check_bounds(x.data.len(), x.offset, shape, strides);
        let scalar = shape.iter().zip(strides).all(|(&n, &s)| n == 1 || s == 0);
        Source {
            // An empty operand may have an offset at the end of its storage.
            base: x.data.as_ptr().wrapping_add(x.offset),
            shape,
            strides,
            dense: is_dense(shape, strides),
            scalar,
        }
    }
    /// `n <= BLOCK` elements from `start` on (any n when dense): in place where they are dense, else in `buf`, which
    /// must be used for this source only.
    #[inline]
    pub(crate) fn block(&self, start: usize, n: usize, buf: &mut Buffer<T>) -> *const T {
        if self.dense {
            return self.base.wrapping_add(start);
        }
        debug_assert!(n <= BLOCK);
        let p = buf.0.as_mut_ptr().cast::<T>();
        if self.scalar {
            if buf.1 < n {
                // SAFETY: n > 0, so the element exists; n <= BLOCK.
                unsafe { fill(p, *self.base, n) };
                buf.1 = n;
            }
            return p;
        }
        let last = self.shape.len() - 1;
        let col = start % self.shape[last];
        // SAFETY: `new` checked the bounds of every element, and the caller asks for existing ones.
        unsafe {
            if self.strides[last] == 1 && col + n <= self.shape[last] {
                return self.base.offset(offset_of(self.shape, self.strides, start));
            }
            gather(self.shape, self.strides, self.base, start, n, p);
        }
        p
    }
}

/// `p[..n] = x`
/// # Safety
/// n elements at p may be written.
#[inline]
unsafe fn fill<T: Copy>(p: *mut T, x: T, n: usize) {
    for i in 0..n {
        // SAFETY: the caller's promise.
        unsafe { p.add(i).write(x) };
    }
}

/// Copies elements `start .. start + n` in C order to `out`.
/// # Safety
/// The elements exist and `out` has room.
pub(crate) unsafe fn gather<T: Copy>(
    shape: &[usize],
    strides: &[isize],
    base: *const T,
    start: usize,
    n: usize,
    out: *mut T,
) {
    let last = shape.len() - 1;
    let (inner, s) = (shape[last], strides[last]);
    let mut idx = [0usize; MAX_AXES];
    let (mut rem, mut off) = (start, 0isize);
    for d in (0..=last).rev() {
        idx[d] = rem % shape[d];
        rem /= shape[d];
        off += idx[d] as isize * strides[d];
    }
    let mut done = 0;
    // SAFETY: the caller's promise: idx always names an existing element, and done + run <= n.
    unsafe {
        loop {
            let run = (inner - idx[last]).min(n - done);
            let (src, dst) = (base.offset(off), out.add(done));
            match s {
                1 => core::ptr::copy_nonoverlapping(src, dst, run),
                0 => fill(dst, *src, run),
                _ => {
                    for i in 0..run {
                        dst.add(i).write(*src.offset(i as isize * s));
                    }
                }
            }
            done += run;
            if done == n {
                return;
            }
            off -= idx[last] as isize * s;
            idx[last] = 0;
            for d in (0..last).rev() {
                idx[d] += 1;
                off += strides[d];
                if idx[d] < shape[d] {
                    break;
                }
                off -= shape[d] as isize * strides[d];
                idx[d] = 0;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
