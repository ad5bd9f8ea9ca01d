//! The microkernel family: an MR x NR tile of C in registers, NR = NV vectors, one FMA chain per element.
//!
//! Tile sizes follow the register files (AVX-512: 32 registers, AVX2: 16) and the ways of a first-level cache: at most
//! 8 rows of A are read side by side, so that rows a power of two apart do not evict each other and A needs no packing.
//! Which tile computes an element never changes its bits; only the order of k does, and that is the same in all.
use crate::element::Real;
use crate::simd::{Isa, Simd};

/// Arguments of one tile: `c[i, j] (+)= sum_l a[i, l] b[l, j]` for the kernel's MR rows and `cols <= NR` columns.
pub(crate) struct Tile<T> {
    /// Length of the chains.
    pub k: usize,
    /// Element (i, l) of A is `a + i * a_rs + l * a_ks`.
    pub a: *const T,
    pub a_rs: isize,
    pub a_ks: isize,
    /// Row l of B begins at `b + l * b_ks`, or at `b + taps[l]` in the table kernels. NR elements are read from it
    /// whatever `cols` says.
    pub b: *const T,
    pub b_ks: isize,
    pub taps: *const usize,
    /// Row i of C begins at `c + i * ldc`, or at `c + c_rows[i]` unless that is null; rows may then overlap, as they are
    /// finished one after the other.
    pub c: *mut T,
    pub ldc: usize,
    pub c_rows: *const usize,
    pub cols: usize,
    /// Add to C instead of overwriting it.
    pub load_c: bool,
    /// One value per column, or null.
    pub bias: *const T,
    /// One value per row, or null.
    pub row_bias: *const T,
    /// Apply ReLU last.
    pub relu: bool,
    /// Where the value before ReLU goes as well (same row stride as C), or null.
    pub pre: *mut T,
}

pub(crate) type KernelFn<T> = unsafe fn(&Tile<T>);

/// Largest MR of any kernel.
pub(crate) const MAX_MR: usize = 8;

/// Finishes and stores one vector of C: `n` columns from `column` of row `row` (`FULL`: a whole vector).
#[inline(always)]
unsafe fn finish<S: Simd, const FULL: bool>(
    t: &Tile<S::T>,
    row: usize,
    column: usize,
    n: usize,
    acc: S::V,
) {
    // SAFETY: the caller's promise; only the tile's row and the n columns are touched.
    unsafe {
        let at = row_start(t, row) + column;
        let mut x = acc;
        if t.load_c {
            x = S::add(load::<S, FULL>(t.c.add(at), n), x);
        }
        if !t.bias.is_null() {
            x = S::add(x, load::<S, FULL>(t.bias.add(column), n));
        }
        if !t.row_bias.is_null() {
            x = S::add(x, S::splat(*t.row_bias.add(row)));
        }
        if !t.pre.is_null() {
            store::<S, FULL>(t.pre.add(at), n, x);
        }
        if t.relu {
            // Written so that NaN stays NaN.
            x = S::max(S::zero(), x);
        }
        store::<S, FULL>(t.c.add(at), n, x);
    }
}

/// Where a row of C begins.
#[inline(always)]
unsafe fn row_start<T>(t: &Tile<T>, row: usize) -> usize {
    if t.c_rows.is_null() {
        row * t.ldc
    } else {
        // SAFETY: the table has an entry per row.
        unsafe { *t.c_rows.add(row) }
    }
}

#[inline(always)]
unsafe fn load<S: Simd, const FULL: bool>(p: *const S::T, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if FULL { S::load(p) } else { S::load_n(p, n) } }
}

#[inline(always)]
unsafe fn store<S: Simd, const FULL: bool>(p: *mut S::T, n: usize, x: S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        if FULL {
            S::store(p, x)
        } else {
            S::store_n(p, x, n)
        }
    }
}

/// The body for rows 0 .. MR, at most 8, with a constant row number.
macro_rules! each_row {
    ($mr:expr, |$i:ident| $body:block) => {
        each_row!(@ $mr, $i, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $mr:expr, $i:ident, $body:block, $($row:literal)*) => {
        $(if $row < $mr {
            let $i: usize = $row;
            $body
        })*
    };
}

/// # Safety
/// The pointers of `t` are valid for what their comments say, C overlaps nothing that is read, and `S` is enabled.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const TABLE: bool>(t: &Tile<S::T>) {
    // SAFETY: the caller's promise; every address below is one that the comments of `Tile` name.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        let mut a = [t.a; MR];
        for i in 0..MR {
            a[i] = t.a.offset(i as isize * t.a_rs);
        }
        let (mut ka, mut kb) = (0isize, 0isize);
        for l in 0..t.k {
            let row = if TABLE {
                t.b.add(*t.taps.add(l))
            } else {
                t.b.offset(kb)
            };
            let mut b = [S::zero(); NV];
            for v in 0..NV {
                b[v] = S::load(row.add(v * S::LANES));
            }
            for i in 0..MR {
                let x = S::splat(*a[i].offset(ka));
                for v in 0..NV {
                    acc[i][v] = S::fma(x, b[v], acc[i][v]);
                }
            }
            ka += t.a_ks;
            kb += t.b_ks;
        }
        let full = t.cols == NV * S::LANES;
        if full && t.bias.is_null() && t.row_bias.is_null() && t.pre.is_null() && !t.relu {
            // The usual end, from register to memory. Unrolled by hand: see below for what a loop would do.
            if t.load_c {
                each_row!(MR, |i| {
                    let c = t.c.add(row_start(t, i));
                    for v in 0..NV {
                        let at = c.add(v * S::LANES);
                        S::store(at, S::add(S::load(at), acc[i][v]));
                    }
                });
            } else {
                each_row!(MR, |i| {
                    let c = t.c.add(row_start(t, i));
                    for v in 0..NV {
                        S::store(c.add(v * S::LANES), acc[i][v]);
                    }
                });
            }
            return;
        }
        // The accumulators leave the registers here, once. Indexing them with a loop counter would keep them in memory
        // throughout, the hot loop included: without the black box the compiler does that. The arguments are copied
        // so that stores to C cannot be taken for changes of them.
        let copy = acc;
        let acc = core::hint::black_box(&copy);
        let t = &Tile { ..*t };
        if full {
            for i in 0..MR {
                for v in 0..NV {
                    finish::<S, true>(t, i, v * S::LANES, S::LANES, acc[i][v]);
                }
            }
        } else {
            for i in 0..MR {
                for j in (0..t.cols).step_by(S::LANES) {
                    let n = S::LANES.min(t.cols - j);
                    finish::<S, false>(t, i, j, n, acc[i][j / S::LANES]);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
unsafe fn avx512<T: Real, const MR: usize, const NV: usize, const TABLE: bool>(t: &Tile<T>) {
    // SAFETY: the features are enabled here; the rest is the caller's promise.
    unsafe { tile::<T::Avx512, MR, NV, TABLE>(t) }
}
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<T: Real, const MR: usize, const NV: usize, const TABLE: bool>(t: &Tile<T>) {
    // SAFETY: as above.
    unsafe { tile::<T::Avx2, MR, NV, TABLE>(t) }
}
unsafe fn scalar<T: Real, const MR: usize, const NV: usize, const TABLE: bool>(t: &Tile<T>) {
    // SAFETY: as above; the scalar set needs nothing.
    unsafe { tile::<T::Scalar, MR, NV, TABLE>(t) }
}

/// The kernels of one column width.
#[derive(Clone, Copy)]
pub(crate) struct Kernels<T> {
    pub isa: Isa,
    /// Columns of a tile.
    pub nr: usize,
    /// Rows of the tallest tile.
    pub mr: usize,
    /// `strided[i]` and `table[i]` have `i + 1` rows.
    strided: [KernelFn<T>; MAX_MR],
    table: [KernelFn<T>; MAX_MR],
}

impl<T: Real> Kernels<T> {
    /// # Safety
    /// As [`Tile`] says, for `rows` rows, `1 <= rows <= mr`.
    #[inline]
    pub unsafe fn run(&self, rows: usize, t: &Tile<T>) {
        // SAFETY: the caller's promise; select() was given an instruction set that the CPU has.
        unsafe { self.strided[rows - 1](t) }
    }
    /// The same with B's rows in `taps`.
    /// # Safety
    /// As [`Kernels::run`].
    #[inline]
    pub unsafe fn run_table(&self, rows: usize, t: &Tile<T>) {
        // SAFETY: as above.
        unsafe { self.table[rows - 1](t) }
    }
}

/// Eight row counts of one width; counts above `$max` repeat the tallest (they are never asked for).
macro_rules! heights {
    ($shell:ident, $nv:literal, $table:literal, 8) => {
        [
            $shell::<T, 1, $nv, $table>,
            $shell::<T, 2, $nv, $table>,
            $shell::<T, 3, $nv, $table>,
            $shell::<T, 4, $nv, $table>,
            $shell::<T, 5, $nv, $table>,
            $shell::<T, 6, $nv, $table>,
            $shell::<T, 7, $nv, $table>,
            $shell::<T, 8, $nv, $table>,
        ]
    };
    ($shell:ident, $nv:literal, $table:literal, 6) => {
        [
            $shell::<T, 1, $nv, $table>,
            $shell::<T, 2, $nv, $table>,
            $shell::<T, 3, $nv, $table>,
            $shell::<T, 4, $nv, $table>,
            $shell::<T, 5, $nv, $table>,
            $shell::<T, 6, $nv, $table>,
            $shell::<T, 6, $nv, $table>,
            $shell::<T, 6, $nv, $table>,
        ]
    };
    ($shell:ident, $nv:literal, $table:literal, 4) => {
        [
            $shell::<T, 1, $nv, $table>,
            $shell::<T, 2, $nv, $table>,
            $shell::<T, 3, $nv, $table>,
            $shell::<T, 4, $nv, $table>,
            $shell::<T, 4, $nv, $table>,
            $shell::<T, 4, $nv, $table>,
            $shell::<T, 4, $nv, $table>,
            $shell::<T, 4, $nv, $table>,
        ]
    };
}
/// The one height of tiles that are as wide as registers allow.
macro_rules! one_row {
    ($shell:ident, $nv:literal, $table:literal) => {
        [$shell::<T, 1, $nv, $table>; MAX_MR]
    };
}
macro_rules! family {
    ($isa:expr, $shell:ident, $lanes:expr, $nv:literal, $max:tt) => {
        Kernels {
            isa: $isa,
            nr: $nv * $lanes,
            mr: $max,
            strided: heights!($shell, $nv, false, $max),
            table: heights!($shell, $nv, true, $max),
        }
    };
}

/// The tile width for `n` columns: little padding, and enough work per element of A.
pub(crate) fn select<T: Real>(isa: Isa, n: usize) -> Kernels<T> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            let lanes = <T::Avx512 as Simd>::LANES;
            if size_of::<T>() == 8 {
                return family!(isa, avx512, lanes, 2, 8);
            }
            let vectors = n.div_ceil(lanes);
            // Padded width over the share of the peak that a tile reaches (measured, in %): one vector has too few
            // chains for each element of A that it loads.
            let nv = [(3, 100), (4, 99), (2, 96), (1, 80)]
                .into_iter()
                .min_by_key(|&(nv, percent)| vectors.next_multiple_of(nv) * 10_000 / percent)
                .map_or(3, |(nv, _)| nv);
            match nv {
                1 => family!(isa, avx512, lanes, 1, 8),
                2 => family!(isa, avx512, lanes, 2, 8),
                3 => family!(isa, avx512, lanes, 3, 8),
                _ => family!(isa, avx512, lanes, 4, 6),
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => family!(isa, avx2, <T::Avx2 as Simd>::LANES, 2, 6),
        _ => family!(Isa::Scalar, scalar, <T::Scalar as Simd>::LANES, 2, 4),
    }
}

/// Tiles of one row, for vectors times a matrix that is read where it lies: long runs of each of its rows, and enough chains
/// side by side that no addition waits for the one before.
pub(crate) fn one_row<T: Real>(isa: Isa) -> Kernels<T> {
    macro_rules! kernels {
        ($shell:ident, $lanes:expr) => {
            Kernels {
                isa,
                nr: 8 * $lanes,
                mr: 1,
                strided: one_row!($shell, 8, false),
                table: one_row!($shell, 8, true),
            }
        };
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => kernels!(avx512, <T::Avx512 as Simd>::LANES),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => kernels!(avx2, <T::Avx2 as Simd>::LANES),
        _ => kernels!(scalar, <T::Scalar as Simd>::LANES),
    }
}

/// Cuts `m` rows into the fewest strips of at most `mr`, of nearly equal height: 20 rows run as 7 + 7 + 6.
pub(crate) fn strips(m: usize, mr: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = m.div_ceil(mr).max(1);
    let (base, extra) = (m / count, m % count);
    (0..if m == 0 { 0 } else { count })
        .map(move |i| (i * base + i.min(extra), base + usize::from(i < extra)))
}
