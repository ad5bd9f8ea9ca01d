//! Copies between strided layouts: whole rows where both sides are dense, square tiles where the sides disagree about
//! which axis is dense, so that neither side touches a cache line once per element.
use crate::element::{Number, Strided};
use crate::layout::{CHUNK, Dims, MAX_AXES, is_dense, numel, offset_of};
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};

/// Side of a tile: 16 rows of 16 `f64` are 32 cache lines on each side.
const TILE: usize = 16;

/// Copies to a dense output; bounds and length were checked.
pub(super) fn copy_dense<T: Number>(shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    let n = numel(shape);
    if n == 0 {
        return;
    }
    if n <= CHUNK && is_dense(shape, x.strides) {
        out.copy_from_slice(&x.data[x.offset..x.offset + n]);
        return;
    }
    let mut dense = [0isize; MAX_AXES];
    if shape.len() > dense.len() {
        // Only axes of size 1 can be so many.
        let axes = shape.iter().zip(x.strides).filter(|&(&n, _)| n != 1);
        let (shape, strides): (Vec<usize>, Vec<isize>) = axes.unzip();
        assert!(shape.len() <= dense.len(), "too many axes");
        let strides = &strides;
        return copy_dense(&shape, Strided { strides, ..x }, out);
    }
    let mut s = 1;
    for (d, &n) in shape.iter().enumerate().rev() {
        dense[d] = s;
        s *= n as isize;
    }
    let dims = Dims::new(shape, [x.strides, &dense[..shape.len()]]);
    // SAFETY: the caller checked the bounds of x and the length of out.
    unsafe { copy_strided(&dims, x.data.as_ptr().add(x.offset), out.as_mut_ptr(), None) };
}

/// Adds a run of elements to another.
pub(super) type AddTo<T> = fn(&mut [T], &[T]);

struct Src<T>(*const T);
// SAFETY: only read through; T: Number is Sync.
unsafe impl<T> Sync for Src<T> {}

/// `dst[i * strides(1)] = src[i * strides(0)]` or, with `add`, their sum, for all i of a shape without empty axes.
/// # Safety
/// Every element of both walks is valid, `dst` overlaps nothing else, and no two elements of it coincide.
pub(super) unsafe fn copy_strided<T: Number>(
    dims: &Dims<2>,
    src: *const T,
    dst: *mut T,
    add: Option<AddTo<T>>,
) {
    let mut dims = dims.in_order();
    if dims.len() == 0 {
        // SAFETY: the caller's promise.
        unsafe {
            match add {
                None => *dst = *src,
                Some(add) => add(&mut *dst.cast::<[T; 1]>(), &*src.cast::<[T; 1]>()),
            }
        }
        return;
    }
    let last = dims.len() - 1;
    let total = numel(dims.shape());
    let cost = Cost {
        flops: 0.0,
        bytes: (2 * total * size_of::<T>()) as f64,
    };
    let (src, dst) = (&Src(src), &SharedMut(dst));
    // The axis, other than the last, along which one side is dense.
    let dense = |k: usize, d: usize| dims.strides(k)[d] == 1;
    let other = (0..last).find(|&d| dense(0, d) || dense(1, d));
    if let Some(d) = other.filter(|_| add.is_none() && !(dense(0, last) && dense(1, last))) {
        dims.swap(d, last - 1);
        tiles(&dims, src, dst, cost);
        return;
    }
    let n = dims.shape()[last];
    let rows = total / n;
    let (a, b) = (dims.strides(0)[last], dims.strides(1)[last]);
    let (outer, sa, sb) = (
        &dims.shape()[..last],
        &dims.strides(0)[..last],
        &dims.strides(1)[..last],
    );
    // Long rows are cut, short ones are grouped.
    let pieces = n.div_ceil(CHUNK);
    for_each_chunk(rows * pieces, (CHUNK / n).max(1), cost, &|range| {
        for unit in range {
            let (row, start) = (unit / pieces, unit % pieces * CHUNK);
            let len = CHUNK.min(n - start);
            // SAFETY: the caller's promise; rows and pieces partition the elements.
            unsafe {
                let p = src.0.offset(offset_of(outer, sa, row) + start as isize * a);
                let q = dst.0.offset(offset_of(outer, sb, row) + start as isize * b);
                if let Some(add) = add {
                    // Runs that are dense on both sides, else single elements.
                    let run = if a == 1 && b == 1 { len } else { 1 };
                    for i in (0..len).step_by(run) {
                        let (p, q) = (p.offset(i as isize * a), q.offset(i as isize * b));
                        add(
                            core::slice::from_raw_parts_mut(q, run),
                            core::slice::from_raw_parts(p, run),
                        );
                    }
                } else if a == 1 && b == 1 {
                    core::ptr::copy_nonoverlapping(p, q, len);
                } else {
                    for i in 0..len as isize {
                        *q.offset(i * b) = *p.offset(i * a);
                    }
                }
            }
        }
    });
}

/// The last two axes in tiles, a strip of tiles per unit of work.
fn tiles<T: Number>(dims: &Dims<2>, src: &Src<T>, dst: &SharedMut<T>, cost: Cost) {
    let outer = dims.len() - 2;
    let (m, n) = (dims.shape()[outer], dims.shape()[outer + 1]);
    let (sa, sb) = (dims.strides(0), dims.strides(1));
    let (am, an, bm, bn) = (sa[outer], sa[outer + 1], sb[outer], sb[outer + 1]);
    let strips = m.div_ceil(TILE);
    let images = numel(&dims.shape()[..outer]);
    for_each_chunk(
        images * strips,
        (CHUNK / (TILE * n)).max(1),
        cost,
        &|range| {
            for unit in range {
                let (image, strip) = (unit / strips, unit % strips);
                let (i0, i1) = (strip * TILE, (strip * TILE + TILE).min(m));
                // SAFETY: the promise of copy_strided; strips partition the elements.
                unsafe {
                    let p = src
                        .0
                        .offset(offset_of(&dims.shape()[..outer], &sa[..outer], image));
                    let q = dst
                        .0
                        .offset(offset_of(&dims.shape()[..outer], &sb[..outer], image));
                    for j0 in (0..n).step_by(TILE) {
                        if j0 % CHUNK == 0 && abandoned((CHUNK * TILE) as f64) {
                            return;
                        }
                        let j1 = (j0 + TILE).min(n);
                        let (i, j) = (i0 as isize, j0 as isize);
                        let from = (p.offset(i * am + j * an), am, an);
                        let to = (q.offset(i * bm + j * bn), bm, bn);
                        if am == 1 && bn == 1 && i1 - i0 == TILE && j1 - j0 == TILE {
                            // The same with constants: a transpose in registers.
                            tile((from.0, 1, an), (to.0, bm, 1), TILE, TILE);
                        } else {
                            tile(from, to, i1 - i0, j1 - j0);
                        }
                    }
                }
            }
        },
    );
}

/// Copies an `m` by `n` tile between (pointer, stride of i, stride of j).
///
/// Through a buffer, so that each cache line is read whole and written whole, once: rows that lie a power of two apart
/// share few sets of L1, and would be evicted half used.
/// # Safety
/// `m, n <= TILE`, and both walks stay inside valid memory.
#[inline(always)]
unsafe fn tile<T: Number>(
    (p, am, an): (*const T, isize, isize),
    (q, bm, bn): (*mut T, isize, isize),
    m: usize,
    n: usize,
) {
    // buf[j][i]
    let mut buf = [[T::ZERO; TILE]; TILE];
    // SAFETY: the caller's promise.
    unsafe {
        if am == 1 {
            for j in 0..n {
                for i in 0..m {
                    buf[j][i] = *p.offset(i as isize + j as isize * an);
                }
            }
        } else {
            for i in 0..m {
                for j in 0..n {
                    buf[j][i] = *p.offset(i as isize * am + j as isize * an);
                }
            }
        }
        if bm == 1 {
            for j in 0..n {
                for i in 0..m {
                    *q.offset(i as isize + j as isize * bn) = buf[j][i];
                }
            }
        } else {
            for i in 0..m {
                for j in 0..n {
                    *q.offset(i as isize * bm + j as isize * bn) = buf[j][i];
                }
            }
        }
    }
}
