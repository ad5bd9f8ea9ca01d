//! The microkernel family: an MR x NR tile of C in registers, NR = NV vectors, one FMA chain per element.
//!
//! Tile sizes follow the register files (AVX-512: 32 registers, AVX2: 16) and the ways of a first-level cache: at most
//! 8 rows of A are read side by side, so that rows a power of two apart do not evict each other and A needs no packing.
//! Which tile computes an element never changes its bits; only the order of k does, and that is the same in all.
use super::band::{Band, BandFn, band, each_row};
use crate::element::Real;
use crate::simd::{Isa, Simd, opaque};

/// Arguments of one tile: `c[i, j] (+)= sum_l a[i, l] b[l, j]` for the kernel's MR rows and `cols <= NR` columns.
#[derive(Clone, Copy)]
pub(crate) struct Tile<T> {
    /// Length of the chains.
    pub k: usize,
    /// Element (i, l) of A is `a + i * a_rs + l * a_ks`; in the kernels of table A, `a + i * a_rs + taps[l]`, and in those of
    /// table B, `a + i * a_rs + l`.
    pub a: *const T,
    pub a_rs: isize,
    pub a_ks: isize,
    /// Where the rows of A begin, after `a`, in place of `a_rs`; or null.
    pub a_rows: *const usize,
    /// Row l of B begins at `b + l * b_ks`; NR elements are read from it whatever `cols` says. In the kernels of table B, its
    /// vectors are read at `b + segment + taps[l]`.
    pub b: *const T,
    pub b_ks: isize,
    pub taps: *const usize,
    /// One per vector, for the kernels of table B.
    pub segments: *const Segment,
    /// Row i of C begins at `c + i * ldc`, or at `c + c_rows[i]` unless that is null (not with table B, row_bias or relu); rows
    /// may then overlap, as they are finished one after the other.
    pub c: *mut T,
    pub ldc: usize,
    pub c_rows: *const usize,
    pub cols: usize,
    /// Add to C instead of overwriting it.
    pub load_c: bool,
    /// One value per row, or null.
    pub row_bias: *const T,
    /// Apply ReLU last.
    pub relu: bool,
}

impl<T> Tile<T> {
    /// Nothing: what the fields that a caller has no use for are.
    #[inline(always)]
    pub const fn none() -> Self {
        Tile {
            k: 0,
            a: core::ptr::null(),
            a_rs: 0,
            a_ks: 0,
            a_rows: core::ptr::null(),
            b: core::ptr::null(),
            b_ks: 0,
            taps: core::ptr::null(),
            segments: core::ptr::null(),
            c: core::ptr::null_mut(),
            ldc: 0,
            c_rows: core::ptr::null(),
            cols: 0,
            load_c: false,
            row_bias: core::ptr::null(),
            relu: false,
        }
    }
}

/// A vector of columns that need not be neighbours of the next vector's: where it begins in the rows of B and of C, and how
/// many of its columns exist.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    pub b: usize,
    pub c: usize,
    pub cols: usize,
}

/// Which operand is read at `taps[l]`.
const NEITHER: u8 = 0;
const TABLE_A: u8 = 1;
const TABLE_B: u8 = 2;

pub(crate) type KernelFn<T> = unsafe fn(&Tile<T>);

/// Largest MR of any kernel.
pub(crate) const MAX_MR: usize = 8;

// Addresses are formed with wrapping arithmetic: the checks that debug builds put around each of the other kind would be
// most of what the compiler sees here, two hundred times.

/// # Safety
/// The pointers of `t` are valid for what their comments say, C overlaps nothing that is read, and `S` is enabled.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const TABLE: u8>(t: &Tile<S::T>) {
    // SAFETY: the caller's promise; every address below is one that the comments of `Tile` name.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        let mut a = [t.a; MR];
        for i in 0..MR {
            a[i] = if t.a_rows.is_null() {
                t.a.wrapping_offset((i as isize).wrapping_mul(t.a_rs))
            } else {
                t.a.wrapping_add(*t.a_rows.wrapping_add(i))
            };
        }
        // Where the vectors of a row of B begin, and those of C; and the columns of each.
        let (mut b0, mut c0, mut n) = ([t.b; NV], [0; NV], [0; NV]);
        for v in 0..NV {
            if TABLE == TABLE_B {
                let segment = &*t.segments.wrapping_add(v);
                b0[v] = t.b.wrapping_add(segment.b);
                (c0[v], n[v]) = (segment.c, segment.cols);
            } else {
                b0[v] = t.b.wrapping_add(v * S::LANES);
                c0[v] = v * S::LANES;
                n[v] = t.cols.saturating_sub(v * S::LANES).min(S::LANES);
            }
        }
        if TABLE == NEITHER && t.c_rows.is_null() {
            // C is fetched while the products are made; stores that miss would hold up the next tile.
            each_row!(MR, |i| {
                let row = t.c.wrapping_add(i.wrapping_mul(t.ldc));
                for at in (0..NV * S::LANES).step_by(64 / size_of::<S::T>()) {
                    S::prefetch(row.wrapping_add(at));
                }
            });
        }
        let (mut l, mut ka, mut kb) = (0isize, 0isize, 0isize);
        while l < t.k as isize {
            let tap = if TABLE == NEITHER {
                0
            } else {
                *t.taps.wrapping_offset(l) as isize
            };
            let mut b = [S::zero(); NV];
            for v in 0..NV {
                b[v] = S::load(b0[v].wrapping_offset(if TABLE == TABLE_B { tap } else { kb }));
            }
            for i in 0..MR {
                let x = S::splat(*a[i].wrapping_offset(match TABLE {
                    TABLE_A => tap,
                    // An index less, where registers are short.
                    TABLE_B => l,
                    _ => ka,
                }));
                for v in 0..NV {
                    acc[i][v] = S::fma(x, b[v], acc[i][v]);
                }
            }
            l += 1;
            match TABLE {
                TABLE_A => {}
                TABLE_B => l = opaque(l),
                _ => ka = opaque(ka.wrapping_add(t.a_ks)),
            }
            kb = kb.wrapping_add(t.b_ks);
        }
        // The ends are unrolled by hand: a loop would keep the accumulators in memory throughout.
        let mut whole = true;
        for v in 0..NV {
            whole &= n[v] == S::LANES;
        }
        if TABLE != TABLE_B && !t.c_rows.is_null() {
            // Rows may overlap: one after the other.
            each_row!(MR, |i| {
                let row = t.c.wrapping_add(*t.c_rows.wrapping_add(i));
                for v in 0..NV {
                    let (c, x) = (row.wrapping_add(c0[v]), acc[i][v]);
                    if whole {
                        S::store(c, if t.load_c { S::add(S::load(c), x) } else { x });
                    } else if t.load_c {
                        S::store_n(c, S::add(S::load_n(c, n[v]), x), n[v]);
                    } else {
                        S::store_n(c, x, n[v]);
                    }
                }
            });
            return;
        }
        if t.load_c && whole {
            each_row!(MR, |i| {
                let row = t.c.wrapping_add(i.wrapping_mul(t.ldc));
                for v in 0..NV {
                    let c = row.wrapping_add(c0[v]);
                    acc[i][v] = S::add(S::load(c), acc[i][v]);
                }
            });
        } else if t.load_c {
            each_row!(MR, |i| {
                let row = t.c.wrapping_add(i.wrapping_mul(t.ldc));
                for v in 0..NV {
                    let c = row.wrapping_add(c0[v]);
                    acc[i][v] = S::add(S::load_n(c, n[v]), acc[i][v]);
                }
            });
        }
        if !t.row_bias.is_null() {
            each_row!(MR, |i| {
                let bias = S::splat(*t.row_bias.wrapping_add(i));
                for v in 0..NV {
                    acc[i][v] = S::add(acc[i][v], bias);
                }
            });
        }
        if t.relu {
            each_row!(MR, |i| {
                for v in 0..NV {
                    // Written so that NaN stays NaN.
                    acc[i][v] = S::max(S::zero(), acc[i][v]);
                }
            });
        }
        if whole {
            each_row!(MR, |i| {
                let row = t.c.wrapping_add(i.wrapping_mul(t.ldc));
                for v in 0..NV {
                    S::store(row.wrapping_add(c0[v]), acc[i][v]);
                }
            });
        } else {
            each_row!(MR, |i| {
                let row = t.c.wrapping_add(i.wrapping_mul(t.ldc));
                for v in 0..NV {
                    S::store_n(row.wrapping_add(c0[v]), acc[i][v], n[v]);
                }
            });
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
unsafe fn avx512<T: Real, const MR: usize, const NV: usize, const TABLE: u8>(t: &Tile<T>) {
    // SAFETY: the features are enabled here; the rest is the caller's promise.
    unsafe { tile::<T::Avx512, MR, NV, TABLE>(t) }
}
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
unsafe fn avx512_band<T: Real, const MR: usize, const NV: usize>(t: &Band<T>) {
    // SAFETY: as above.
    unsafe { band::<T::Avx512, MR, NV>(t) }
}
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<T: Real, const MR: usize, const NV: usize, const TABLE: u8>(t: &Tile<T>) {
    // SAFETY: as above.
    unsafe { tile::<T::Avx2, MR, NV, TABLE>(t) }
}
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_band<T: Real, const MR: usize, const NV: usize>(t: &Band<T>) {
    // SAFETY: as above.
    unsafe { band::<T::Avx2, MR, NV>(t) }
}
unsafe fn scalar<T: Real, const MR: usize, const NV: usize, const TABLE: u8>(t: &Tile<T>) {
    // SAFETY: as above; the scalar set needs nothing.
    unsafe { tile::<T::Scalar, MR, NV, TABLE>(t) }
}
unsafe fn scalar_band<T: Real, const MR: usize, const NV: usize>(t: &Band<T>) {
    // SAFETY: as above.
    unsafe { band::<T::Scalar, MR, NV>(t) }
}

/// The kernels of one column width.
#[derive(Clone, Copy)]
pub(crate) struct Kernels<T> {
    pub isa: Isa,
    /// Columns of a tile.
    pub nr: usize,
    /// Rows of the tallest tile.
    pub mr: usize,
    /// Columns of a vector.
    pub lanes: usize,
    /// The kernels of `i + 1` rows.
    strided: [KernelFn<T>; MAX_MR],
    table_a: [KernelFn<T>; MAX_MR],
    table_b: [KernelFn<T>; MAX_MR],
    /// Tiles next to each other.
    bands: [BandFn<T>; MAX_MR],
}

impl<T: Real> Kernels<T> {
    /// # Safety
    /// As [`Tile`] says, for `rows` rows, `1 <= rows <= mr`.
    #[inline]
    pub unsafe fn run(&self, rows: usize, t: &Tile<T>) {
        // SAFETY: the caller's promise; select() was given an instruction set that the CPU has.
        unsafe { self.strided[rows - 1](t) }
    }
    /// Tiles next to each other.
    /// # Safety
    /// As [`Band`] says, for `rows` rows, `1 <= rows <= mr`, and at least one column.
    #[inline]
    pub unsafe fn run_band(&self, rows: usize, t: &Band<T>) {
        // SAFETY: as above.
        unsafe { self.bands[rows - 1](t) }
    }
    /// The same with A's columns at `taps`.
    /// # Safety
    /// As [`Kernels::run`].
    #[inline]
    pub unsafe fn run_table_a(&self, rows: usize, t: &Tile<T>) {
        // SAFETY: as above.
        unsafe { self.table_a[rows - 1](t) }
    }
    /// The same with B's rows at `taps`, and its vectors and C's at `segments`.
    /// # Safety
    /// As [`Kernels::run`].
    #[inline]
    pub unsafe fn run_table_b(&self, rows: usize, t: &Tile<T>) {
        // SAFETY: as above.
        unsafe { self.table_b[rows - 1](t) }
    }
}

/// Eight row counts of one width; counts above `$max` repeat the tallest (they are never asked for).
macro_rules! heights {
    ($shell:ident, 8, $($rest:tt),*) => { heights!(@ [1 2 3 4 5 6 7 8], $shell, $($rest),*) };
    ($shell:ident, 6, $($rest:tt),*) => { heights!(@ [1 2 3 4 5 6 6 6], $shell, $($rest),*) };
    ($shell:ident, 4, $($rest:tt),*) => { heights!(@ [1 2 3 4 4 4 4 4], $shell, $($rest),*) };
    (@ [$($mr:literal)*], $shell:ident, $nv:literal) => { [$($shell::<T, $mr, $nv>),*] };
    (@ [$($mr:literal)*], $shell:ident, $nv:literal, $table:ident) => {
        [$($shell::<T, $mr, $nv, $table>),*]
    };
}
/// The one height of tiles that are as wide as registers allow.
macro_rules! one_row {
    ($shell:ident, $($rest:tt),*) => {
        [$shell::<T, 1, $($rest),*>; MAX_MR]
    };
}
macro_rules! family {
    ($isa:expr, $shell:ident, $band:ident, $lanes:expr, $nv:literal, $max:tt) => {
        Kernels {
            isa: $isa,
            nr: $nv * $lanes,
            mr: $max,
            lanes: $lanes,
            strided: heights!($shell, $max, $nv, NEITHER),
            table_a: heights!($shell, $max, $nv, TABLE_A),
            table_b: heights!($shell, $max, $nv, TABLE_B),
            bands: heights!($band, $max, $nv),
        }
    };
}

/// Time of a row of tiles of `nv` vectors, for each row of A: padded width over the share of the peak that a tile reaches (measured,
/// in %): one vector has too few chains for each element of A that it loads.
fn time(vectors: usize, nv: usize) -> usize {
    let percent = [80, 96, 100, 99][nv - 1];
    vectors.next_multiple_of(nv).saturating_mul(10_000) / percent
}

/// The tile width for `n` columns: little padding, and enough work per element of A.
pub(crate) fn select<T: Real>(isa: Isa, n: usize) -> Kernels<T> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if size_of::<T>() == 4 => {
            let vectors = n.div_ceil(<T::Avx512 as Simd>::LANES);
            let nv = [3, 4, 2, 1].into_iter().min_by_key(|&nv| time(vectors, nv));
            of_width(isa, nv.unwrap_or(3))
        }
        _ => of_width(isa, 2),
    }
}

/// As [`select`], and kernels for a last tile that is narrower than the others, if that is faster.
pub(crate) fn select_exact<T: Real>(isa: Isa, n: usize) -> (Kernels<T>, Option<Kernels<T>>) {
    let one = select::<T>(isa, n);
    let vectors = n.div_ceil(one.lanes);
    let both = exact::<T>(isa, vectors);
    let Some(rest) = &both.1 else {
        return (one, None);
    };
    let of = |kernels: &Kernels<T>| kernels.nr / kernels.lanes;
    let (nv, wide, narrow) = (of(&one), of(&both.0), of(rest));
    // The last tile costs another call. Many columns: less of a panel is read for each multiply-add, which matters where another
    // thread shares the core.
    let exact = time(vectors - narrow, wide) + time(narrow, narrow) + 100;
    if exact < time(vectors, nv) || vectors >= 32 {
        both
    } else {
        (one, None)
    }
}

/// Kernels for tiles of many vectors, of which `vectors` lie side by side, and for what is left beside the last whole tile, if such
/// kernels exist (else it is a tile of the same width, partly empty).
pub(crate) fn exact<T: Real>(isa: Isa, vectors: usize) -> (Kernels<T>, Option<Kernels<T>>) {
    if isa != Isa::Avx512 || size_of::<T>() != 4 {
        return (of_width(isa, 2), None);
    }
    let wide = vectors.clamp(1, 3);
    let rest = vectors % wide;
    (of_width(isa, wide), (rest > 0).then(|| of_width(isa, rest)))
}

/// Tiles of `nv` vectors. There are 1 to 4 of float32 with AVX-512, else 2.
fn of_width<T: Real>(isa: Isa, nv: usize) -> Kernels<T> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => {
            let lanes = <T::Avx512 as Simd>::LANES;
            if size_of::<T>() == 8 {
                return family!(isa, avx512, avx512_band, lanes, 2, 8);
            }
            match nv {
                1 => family!(isa, avx512, avx512_band, lanes, 1, 8),
                2 => family!(isa, avx512, avx512_band, lanes, 2, 8),
                3 => family!(isa, avx512, avx512_band, lanes, 3, 8),
                _ => family!(isa, avx512, avx512_band, lanes, 4, 6),
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => family!(isa, avx2, avx2_band, <T::Avx2 as Simd>::LANES, 2, 6),
        _ => family!(
            Isa::Scalar,
            scalar,
            scalar_band,
            <T::Scalar as Simd>::LANES,
            2,
            4
        ),
    }
}

/// Tiles of one row, for vectors times a matrix that is read where it lies: long runs of each of its rows, and enough chains
/// side by side that no addition waits for the one before.
pub(crate) fn one_row<T: Real>(isa: Isa) -> Kernels<T> {
    macro_rules! kernels {
        ($shell:ident, $band:ident, $lanes:expr) => {
            Kernels {
                isa,
                nr: 8 * $lanes,
                mr: 1,
                lanes: $lanes,
                strided: one_row!($shell, 8, NEITHER),
                table_a: one_row!($shell, 8, TABLE_A),
                table_b: one_row!($shell, 8, TABLE_B),
                bands: one_row!($band, 8),
            }
        };
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => kernels!(avx512, avx512_band, <T::Avx512 as Simd>::LANES),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => kernels!(avx2, avx2_band, <T::Avx2 as Simd>::LANES),
        _ => kernels!(scalar, scalar_band, <T::Scalar as Simd>::LANES),
    }
}

/// Cuts `m` rows into the fewest strips of at most `mr`, of nearly equal height: 20 rows run as 7 + 7 + 6.
pub(crate) fn strips(m: usize, mr: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = m.div_ceil(mr).max(1);
    let (base, extra) = (m / count, m % count);
    (0..if m == 0 { 0 } else { count })
        .map(move |i| (i * base + i.min(extra), base + usize::from(i < extra)))
}
