//! Tiles of inner products: both operands run along the sum, so the lanes do too, and a tile of accumulators is summed
//! across its lanes once at the end. For gradients of convolution weights, where the sum runs over pixels.
use super::kernel::MAX_MR;
use crate::element::{Number, Real};
use crate::simd::{Isa, Simd};

/// Arguments of one tile: `out[i * ldo + j] += sum over units u < units, l < len of
/// a[i * a_rs + u * a_unit + l] * b[taps[j] + u * b_unit + l]`, for the kernel's rows and `cols <= nt` columns.
pub(crate) struct Dot<T> {
    pub a: *const T,
    pub a_rs: usize,
    pub a_unit: usize,
    pub b: *const T,
    pub taps: *const usize,
    pub b_unit: usize,
    pub units: usize,
    pub len: usize,
    pub out: *mut T,
    pub ldo: usize,
    pub cols: usize,
}

pub(crate) type DotFn<T> = unsafe fn(&Dot<T>);

/// # Safety
/// The pointers of `d` are valid for what the formula reads and writes, and `S` is enabled.
#[inline(always)]
unsafe fn dot<S: Simd, const MR: usize, const NT: usize>(d: &Dot<S::T>) {
    // SAFETY: the caller's promise; a partial vector reads `len - l` elements only.
    unsafe {
        let mut acc = [[S::zero(); NT]; MR];
        let mut b = [d.b; NT];
        for t in 0..NT {
            // Columns past the last repeat it; their sums are not stored.
            b[t] = d.b.add(*d.taps.add(t.min(d.cols - 1)));
        }
        let mut a = d.a;
        for _ in 0..d.units {
            let mut l = 0;
            while l + S::LANES <= d.len {
                let mut y = [S::zero(); NT];
                for t in 0..NT {
                    y[t] = S::load(b[t].add(l));
                }
                for i in 0..MR {
                    let x = S::load(a.add(i * d.a_rs + l));
                    for t in 0..NT {
                        acc[i][t] = S::fma(x, y[t], acc[i][t]);
                    }
                }
                l += S::LANES;
            }
            if l < d.len {
                // Both sides are masked: 0 times whatever lies behind b could be NaN.
                let n = d.len - l;
                let mut y = [S::zero(); NT];
                for t in 0..NT {
                    y[t] = S::load_n(b[t].add(l), n);
                }
                for i in 0..MR {
                    let x = S::load_n(a.add(i * d.a_rs + l), n);
                    for t in 0..NT {
                        acc[i][t] = S::fma(x, y[t], acc[i][t]);
                    }
                }
            }
            a = a.wrapping_add(d.a_unit);
            for t in 0..NT {
                b[t] = b[t].wrapping_add(d.b_unit);
            }
        }
        let copy = acc;
        let acc = core::hint::black_box(&copy).as_flattened();
        let mut first = 0;
        while first < MR * NT {
            let mut group = [S::zero(); 16];
            let count = S::LANES.min(MR * NT - first);
            for (g, a) in group.iter_mut().zip(&acc[first..first + count]) {
                *g = *a;
            }
            let sums = S::to_array(sum_each::<S>(group));
            for i in 0..count {
                let (row, column) = ((first + i) / NT, (first + i) % NT);
                if column < d.cols {
                    *d.out.add(row * d.ldo + column) += sums[i];
                }
            }
            first += S::LANES;
        }
    }
}

/// Lane i of the result is the sum of vector i's lanes, by the same tree as [`Simd::reduce_add`] but all at once.
#[inline(always)]
unsafe fn sum_each<S: Simd>(mut v: [S::V; 16]) -> S::V {
    // SAFETY: S is enabled by the caller.
    unsafe {
        let mut n = S::LANES;
        while n > 1 {
            n /= 2;
            for i in 0..n {
                let (x, y) = S::interleave(v[i], v[i + n]);
                v[i] = S::add(x, y);
            }
        }
        v[0]
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
unsafe fn avx512<T: Real, const MR: usize, const NT: usize>(d: &Dot<T>) {
    // SAFETY: the features are enabled here; the rest is the caller's promise.
    unsafe { dot::<T::Avx512, MR, NT>(d) }
}
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<T: Real, const MR: usize, const NT: usize>(d: &Dot<T>) {
    // SAFETY: as above.
    unsafe { dot::<T::Avx2, MR, NT>(d) }
}
unsafe fn scalar<T: Real, const MR: usize, const NT: usize>(d: &Dot<T>) {
    // SAFETY: as above; the scalar set needs nothing.
    unsafe { dot::<T::Scalar, MR, NT>(d) }
}

/// The tiles of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Dots<T> {
    /// Tallest and widest tile.
    pub mr: usize,
    pub nt: usize,
    rows: [DotFn<T>; MAX_MR],
}

impl<T: Number> Dots<T> {
    /// # Safety
    /// As [`Dot`] says, for `rows` rows, `1 <= rows <= mr`, `1 <= cols <= nt`.
    pub unsafe fn run(&self, rows: usize, d: &Dot<T>) {
        // SAFETY: the caller's promise; dots() was given an instruction set that the CPU has.
        unsafe { self.rows[rows - 1](d) }
    }
}

/// The tiles of an instruction set that the CPU has.
pub(crate) fn dots<T: Real>(isa: Isa) -> Dots<T> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            let max: DotFn<T> = avx512::<T, 6, 4>;
            let rows = [
                avx512::<T, 1, 4>,
                avx512::<T, 2, 4>,
                avx512::<T, 3, 4>,
                avx512::<T, 4, 4>,
                avx512::<T, 5, 4>,
                max,
                max,
                max,
            ];
            Dots { mr: 6, nt: 4, rows }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => {
            let max: DotFn<T> = avx2::<T, 3, 3>;
            let rows = [
                avx2::<T, 1, 3>,
                avx2::<T, 2, 3>,
                max,
                max,
                max,
                max,
                max,
                max,
            ];
            Dots { mr: 3, nt: 3, rows }
        }
        _ => {
            let max: DotFn<T> = scalar::<T, 2, 2>;
            let rows = [scalar::<T, 1, 2>, max, max, max, max, max, max, max];
            Dots { mr: 2, nt: 2, rows }
        }
    }
}
