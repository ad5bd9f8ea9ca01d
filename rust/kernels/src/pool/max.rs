//! Max-pooling: 2x2 windows that tile the plane split even and odd columns in registers and write each gradient once; other
//! windows run over their taps with a vector of outputs in registers.
use super::*;
use core::any::TypeId;

/// Byte `i` of the result is bit `i` of `bits`.
#[inline(always)]
fn spread(bits: u32) -> u64 {
    let one_each =
        u64::from(bits & 0xff).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    (one_each + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101
}

/// Stores the taps `bit0 + 2 * bit1` of `n <= 16` outputs at the start of `tap`, which may be longer: what follows is
/// scratch until it is written in its turn.
#[inline(always)]
fn store_taps<I: Tap>(tap: &mut [I], n: usize, bit0: u32, bit1: u32) {
    let low = spread(bit0) + 2 * spread(bit1);
    let high = if n > 8 {
        spread(bit0 >> 8) + 2 * spread(bit1 >> 8)
    } else {
        0
    };
    let all = u128::from(low) | u128::from(high) << 64;
    if TypeId::of::<I>() == TypeId::of::<u8>() && tap.len() >= 16 {
        // SAFETY: I is u8, and 16 of them may be written.
        unsafe { tap.as_mut_ptr().cast::<[u8; 16]>().write(all.to_le_bytes()) };
    } else {
        let bytes = all.to_le_bytes();
        for (t, b) in tap[..n].iter_mut().zip(bytes) {
            *t = I::from_usize(b.into());
        }
    }
}

/// Bit 0 and bit 1 of each of the `n <= 16` taps at the start of `tap`, as [`store_taps`] took them; bits from `n` up are anything.
#[inline(always)]
fn load_taps<I: Tap>(tap: &[I], n: usize) -> (u32, u32) {
    // Eight bits that lie eight apart, side by side.
    let gather = |x: u64| {
        let one_each = x & 0x0101_0101_0101_0101;
        (one_each.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    let mut bytes = [0u8; 16];
    if TypeId::of::<I>() == TypeId::of::<u8>() && tap.len() >= 16 {
        // SAFETY: I is u8, and 16 of them may be read.
        bytes = unsafe { tap.as_ptr().cast::<[u8; 16]>().read() };
    } else {
        for (b, t) in bytes.iter_mut().zip(&tap[..n]) {
            *b = t.to_usize() as u8;
        }
    }
    let all = u128::from_le_bytes(bytes);
    let (low, high) = (all as u64, (all >> 64) as u64);
    if n > 8 {
        (
            gather(low) | gather(high) << 8,
            gather(low >> 1) | gather(high >> 1) << 8,
        )
    } else {
        (gather(low), gather(low >> 1))
    }
}

/// Whether `v` takes the place of `best`: greater, or NaN where there was none (the first of equals stays).
/// # Safety
/// S is enabled.
#[inline(always)]
unsafe fn wins<S: Simd>(v: S::V, best: S::V) -> S::M {
    // SAFETY: the caller's promise.
    unsafe { S::mask_and(S::mask_not(S::le(v, best)), S::eq(best, best)) }
}

struct Max2x2<'a, T, I>(&'a Pool2d, &'a [T], &'a mut [T], &'a mut [I]);
impl<T: Real, I: Tap> Kernel<T> for Max2x2<'_, T, I> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Max2x2(p, x, y, tap) = self;
        for (row, y) in y.chunks_exact_mut(p.ow).enumerate() {
            if row.is_multiple_of(8) && abandoned(32.0 * p.ow as f64) {
                return;
            }
            let x = &x[(row / p.oh * p.h + row % p.oh * 2) * p.w..][..2 * p.w];
            let mut j = 0;
            while j < p.ow {
                let n = p.ow.min(S::LANES);
                // The last vector goes over some outputs again rather than over less than a whole one.
                j = j.min(p.ow - n);
                // SAFETY: run by dispatch; 2 (j + n) <= 2 ow <= w columns of two rows, j + n <= ow outputs.
                unsafe {
                    let (a, b) = load_pairs::<S>(x.as_ptr().add(2 * j), n);
                    let (c, d) = load_pairs::<S>(x.as_ptr().add(p.w + 2 * j), n);
                    let m1 = wins::<S>(b, a);
                    let m = S::select(m1, b, a);
                    let m2 = wins::<S>(c, m);
                    let m = S::select(m2, c, m);
                    let m3 = wins::<S>(d, m);
                    S::store_n(y.as_mut_ptr().add(j), S::select(m3, d, m), n);
                    let (m1, m2, m3) = (S::mask_bits(m1), S::mask_bits(m2), S::mask_bits(m3));
                    store_taps(&mut tap[row * p.ow + j..], n, m3 | (m1 & !m2), m3 | m2);
                }
                j += S::LANES;
            }
        }
    }
}

/// The last: write past the caches, if rows of `dx` begin where vectors may; `dx` is aligned to 64 bytes then.
struct Max2x2Backward<'a, T, I>(&'a Pool2d, &'a [I], &'a [T], &'a mut [T], bool);
impl<T: Real, I: Tap> Kernel<T> for Max2x2Backward<'_, T, I> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Max2x2Backward(p, tap, dy, dx, past) = self;
        let past = past && p.w.is_multiple_of(S::LANES);
        let size = p.oh * p.ow;
        for (k, dx) in dx.chunks_exact_mut(p.h * p.w).enumerate() {
            zero_rest(p, dx);
            for i in 0..p.oh {
                if i.is_multiple_of(8) && abandoned(32.0 * p.ow as f64) {
                    return;
                }
                let at = k * size + i * p.ow;
                let mut j = 0;
                while j < p.ow {
                    let n = (p.ow - j).min(S::LANES);
                    let (right, below) = load_taps(&tap[at + j..], n);
                    // SAFETY: run by dispatch; n outputs from at + j, 2 n columns of rows 2 i and 2 i + 1.
                    unsafe {
                        let (right, below) = (S::mask_from_bits(right), S::mask_from_bits(below));
                        let d = S::load_n(dy[at + j..at + j + n].as_ptr(), n);
                        let zero = S::zero();
                        let (even, odd) = (S::select(right, zero, d), S::select(right, d, zero));
                        let at = dx.as_mut_ptr().add(2 * (i * p.w + j));
                        let (a, b) = (S::select(below, zero, even), S::select(below, zero, odd));
                        store_pairs::<S>(past, at, n, a, b);
                        let (a, b) = (S::select(below, even, zero), S::select(below, odd, zero));
                        store_pairs::<S>(past, at.add(p.w), n, a, b);
                    }
                    j += S::LANES;
                }
            }
        }
        if past {
            // SAFETY: run by dispatch.
            unsafe { S::fence() };
        }
    }
}

struct Max<'a, T, I>(&'a Pool2d, &'a Columns, &'a [T], &'a mut [T], &'a mut [I]);
impl<T: Real, I: Tap> Kernel<T> for Max<'_, T, I> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Max(p, columns, x, y, tap) = self;
        let rows = y.chunks_exact_mut(p.ow).zip(tap.chunks_exact_mut(p.ow));
        for (row, (y, tap)) in rows.enumerate() {
            let (plane, i) = (row / p.oh, row % p.oh);
            let x = &x[plane * p.h * p.w..][..p.h * p.w];
            let (first, count) = p.taps(0, i);
            let mut j = 0;
            while j < p.ow {
                let n = (p.ow - j).min(S::LANES);
                // The first tap inside the input wins until a larger one comes.
                let mut t = [T::ZERO; 16];
                for (l, t) in t[..n].iter_mut().enumerate() {
                    let (kw, seen) = columns.taps[j + l];
                    if count > 0 && seen > 0 {
                        *t = T::from_f64((first * p.kernel[1] + kw) as f64);
                    }
                }
                // SAFETY: run by dispatch; rows first .. first + count lie in the plane, j + n <= ow outputs.
                unsafe {
                    let (mut best, mut which) = (S::splat(T::NEG_INFINITY), S::load(t.as_ptr()));
                    for kh in first..first + count {
                        if abandoned((8 * n * p.kernel[1]) as f64) {
                            return;
                        }
                        let at = i * p.stride[0] + kh * p.dilation[0] - p.pad[0];
                        let line = x[at * p.w..][..p.w].as_ptr();
                        for kw in 0..p.kernel[1] {
                            let js = &columns.inside[kw];
                            let v = tap_lanes::<S>(p, line, kw, js, j, n, T::NEG_INFINITY);
                            let m = wins::<S>(v, best);
                            best = S::select(m, v, best);
                            let number = (kh * p.kernel[1] + kw) as f64;
                            which = S::select(m, S::c(number), which);
                        }
                    }
                    S::store_n(y.as_mut_ptr().add(j), best, n);
                    let which = S::to_array(which);
                    let mut numbers = [0i32; 16];
                    for (o, t) in numbers.iter_mut().zip(which) {
                        *o = t.to_f64() as i32;
                    }
                    for (o, t) in tap[j..j + n].iter_mut().zip(numbers) {
                        *o = I::from_usize(t as usize);
                    }
                }
                j += S::LANES;
            }
        }
    }
}

/// `y = max over the window` (padding never wins), `tap` = first winning tap; NaN wins.
/// A window wholly in the padding gives -inf and tap 0.
pub fn max_pool2d<T: Real, I: Tap>(p: &Pool2d, x: &[T], y: &mut [T], tap: &mut [I]) {
    p.check(x.len(), y.len());
    assert_eq!(y.len(), tap.len());
    if y.is_empty() {
        return;
    }
    let (isa, ins, outs) = (simd::isa(), p.h * p.w, p.oh * p.ow);
    let (y, tap) = (SharedMut(y.as_mut_ptr()), SharedMut(tap.as_mut_ptr()));
    let columns = Columns::new(p);
    over_planes::<T>(p.planes, ins, outs, |r| {
        let x = &x[r.start * ins..r.end * ins];
        // SAFETY: runs of planes are disjoint parts of y and tap, which we hold exclusively.
        let (y, tap) = unsafe {
            let (at, n) = (r.start * outs, r.len() * outs);
            (y.slice(at, n), tap.slice(at, n))
        };
        if p.is_2x2() {
            dispatch_on(isa, Max2x2(p, x, y, tap));
        } else {
            dispatch_on(isa, Max(p, &columns, x, y, tap));
        }
    });
}

/// `dx = sum of dy whose winner is x`; overwrites `dx`.
pub fn max_pool2d_backward<T: Real, I: Tap>(p: &Pool2d, tap: &[I], dy: &[T], dx: &mut [T]) {
    p.check(dx.len(), dy.len());
    assert_eq!(dy.len(), tap.len());
    if dx.is_empty() {
        return;
    }
    let (isa, ins, outs) = (simd::isa(), p.h * p.w, p.oh * p.ow);
    let past = stream::pays(size_of_val(dx), dx.as_ptr());
    let shared = SharedMut(dx.as_mut_ptr());
    // Where each tap lies relative to the first one: dividing by the kernel's width for every output is slow.
    let taps = 0..p.kernel[0] * p.kernel[1];
    let offset = |t| t / p.kernel[1] * p.dilation[0] * p.w + t % p.kernel[1] * p.dilation[1];
    let offsets = collect(taps.map(offset));
    let columns = Columns::new(p);
    let narrow_padding = columns.taps.iter().all(|t| t.1 > 0);
    over_planes::<T>(p.planes, ins, outs, |r| {
        // SAFETY: runs of planes are disjoint parts of dx, which we hold exclusively.
        let dx = unsafe { shared.slice(r.start * ins, r.len() * ins) };
        let (tap, dy) = (
            &tap[r.start * outs..r.end * outs],
            &dy[r.start * outs..r.end * outs],
        );
        if p.is_2x2() {
            return dispatch_on(isa, Max2x2Backward(p, tap, dy, dx, past));
        }
        // One addition per output; the order within a plane is that of the outputs.
        fill(dx, T::ZERO);
        for (k, dx) in dx.chunks_exact_mut(ins).enumerate() {
            for i in 0..p.oh {
                if abandoned(4.0 * p.ow as f64) {
                    return;
                }
                let seen = p.taps(0, i).1 > 0;
                let start = (i * p.stride[0] * p.w).wrapping_sub(p.pad[0] * p.w + p.pad[1]);
                for j in 0..p.ow {
                    // A window wholly in the padding has no winner.
                    if seen && (narrow_padding || columns.taps[j].1 > 0) {
                        let o = k * outs + i * p.ow + j;
                        let at = start.wrapping_add(j * p.stride[1] + offsets[tap[o].to_usize()]);
                        dx[at] += dy[o];
                    }
                }
            }
        }
    });
}

/// The gradient of `max_pool2d_backward`: `y = x at the winning tap`.
pub fn max_pool2d_gather<T: Real, I: Tap>(p: &Pool2d, tap: &[I], x: &[T], y: &mut [T]) {
    p.check(x.len(), y.len());
    assert_eq!(y.len(), tap.len());
    let (ins, outs) = (p.h * p.w, p.oh * p.ow);
    let shared = SharedMut(y.as_mut_ptr());
    over_planes::<T>(p.planes, ins, outs, |r| {
        for plane in r {
            // SAFETY: planes are disjoint parts of y, which we hold exclusively.
            let y = unsafe { shared.slice(plane * outs, outs) };
            let (x, tap) = (&x[plane * ins..][..ins], &tap[plane * outs..][..outs]);
            for i in 0..p.oh {
                if abandoned(4.0 * p.ow as f64) {
                    return;
                }
                for j in 0..p.ow {
                    let o = i * p.ow + j;
                    let at = p.position(i, j, tap[o].to_usize());
                    y[o] = at.map_or(T::ZERO, |at| x[at]);
                }
            }
        }
    });
}
