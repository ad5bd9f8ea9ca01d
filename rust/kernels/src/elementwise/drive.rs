//! Feeds kernel bodies: strided operands in, dense blocks to the body, over threads when it is worth it.
use crate::element::Strided;
use crate::layout::{BLOCK, Buffer, CHUNK, Dims, Source, is_dense, numel};
use crate::parallel::{Cost, SharedMut, for_each_chunk};

/// Pieces of `range` that a block may have.
#[inline(always)]
fn blocks(range: core::ops::Range<usize>, size: usize, mut f: impl FnMut(usize, usize)) {
    let mut i = range.start;
    while i < range.end {
        let n = size.min(range.end - i);
        f(i, n);
        i += n;
    }
}

#[inline]
fn scalar(shape: &[usize], strides: &[isize]) -> bool {
    shape.iter().zip(strides).all(|(&n, &s)| n == 1 || s == 0)
}
#[inline]
fn simple(shape: &[usize], strides: &[isize]) -> bool {
    is_dense(shape, strides) || scalar(shape, strides)
}

fn cost<T>(n: usize, bytes: usize, flops: usize) -> Cost {
    Cost {
        flops: (n * flops) as f64,
        bytes: (n * (bytes + size_of::<T>())) as f64,
    }
}

/// `body(x, out, n)` over all elements. `flops`: estimate per element.
#[inline]
pub(crate) fn map1<A: Copy + Sync, R: Send>(
    flops: usize,
    shape: &[usize],
    x: Strided<'_, A>,
    out: &mut [R],
    body: impl Fn(*const A, *mut R, usize) + Sync,
) {
    let n = numel(shape);
    assert_eq!(out.len(), n, "output length");
    if n == 0 {
        return;
    }
    let dims;
    let (shape, sx) = if simple(shape, x.strides) {
        (shape, x.strides)
    } else {
        dims = Dims::new(shape, [x.strides]);
        (dims.shape(), dims.strides(0))
    };
    let src = Source::new(&x, shape, sx);
    let step = if is_dense(shape, sx) { CHUNK } else { BLOCK };
    let to = SharedMut(out.as_mut_ptr());
    let to = &to;
    for_each_chunk(n, CHUNK, cost::<R>(n, size_of::<A>(), flops), &|range| {
        let mut buf = Buffer::new();
        blocks(range, step, |i, n| {
            // The output pointer stays inside `out`: ranges partition 0..n.
            body(src.block(i, n, &mut buf), to.0.wrapping_add(i), n);
        });
    });
}

/// `body(a, b, out, n)` over all elements.
#[inline]
pub(crate) fn map2<A: Copy + Sync, B: Copy + Sync, R: Send>(
    flops: usize,
    shape: &[usize],
    a: Strided<'_, A>,
    b: Strided<'_, B>,
    out: &mut [R],
    body: impl Fn(*const A, *const B, *mut R, usize) + Sync,
) {
    let n = numel(shape);
    assert_eq!(out.len(), n, "output length");
    if n == 0 {
        return;
    }
    let (da, db);
    // An operand that is dense as a whole is read in place, whatever the other one looks like.
    let (ha, sa) = if simple(shape, a.strides) {
        (shape, a.strides)
    } else {
        da = Dims::new(shape, [a.strides]);
        (da.shape(), da.strides(0))
    };
    let (hb, sb) = if simple(shape, b.strides) {
        (shape, b.strides)
    } else {
        db = Dims::new(shape, [b.strides]);
        (db.shape(), db.strides(0))
    };
    let (pa, pb) = (Source::new(&a, ha, sa), Source::new(&b, hb, sb));
    let step = if is_dense(ha, sa) && is_dense(hb, sb) {
        CHUNK
    } else {
        BLOCK
    };
    let to = SharedMut(out.as_mut_ptr());
    let to = &to;
    for_each_chunk(
        n,
        CHUNK,
        cost::<R>(n, size_of::<A>() + size_of::<B>(), flops),
        &|range| {
            let (mut ba, mut bb) = (Buffer::new(), Buffer::new());
            blocks(range, step, |i, n| {
                body(
                    pa.block(i, n, &mut ba),
                    pb.block(i, n, &mut bb),
                    to.0.wrapping_add(i),
                    n,
                );
            });
        },
    );
}

/// `body(a, b, c, out, n)` over all elements.
#[inline]
pub(crate) fn map3<A: Copy + Sync, B: Copy + Sync, R: Send>(
    shape: &[usize],
    c: Strided<'_, A>,
    a: Strided<'_, B>,
    b: Strided<'_, B>,
    out: &mut [R],
    body: impl Fn(*const A, *const B, *const B, *mut R, usize) + Sync,
) {
    let n = numel(shape);
    assert_eq!(out.len(), n, "output length");
    if n == 0 {
        return;
    }
    let dims = [c.strides, a.strides, b.strides].map(|s| Dims::new(shape, [s]));
    let part = |k: usize| (dims[k].shape(), dims[k].strides(0));
    let pc = Source::new(&c, part(0).0, part(0).1);
    let pa = Source::new(&a, part(1).0, part(1).1);
    let pb = Source::new(&b, part(2).0, part(2).1);
    let to = SharedMut(out.as_mut_ptr());
    let to = &to;
    for_each_chunk(
        n,
        CHUNK,
        cost::<R>(n, size_of::<A>() + 2 * size_of::<B>(), 1),
        &|range| {
            let (mut bc, mut ba, mut bb) = (Buffer::new(), Buffer::new(), Buffer::new());
            blocks(range, BLOCK, |i, n| {
                body(
                    pc.block(i, n, &mut bc),
                    pa.block(i, n, &mut ba),
                    pb.block(i, n, &mut bb),
                    to.0.wrapping_add(i),
                    n,
                );
            });
        },
    );
}
