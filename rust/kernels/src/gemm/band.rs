//! A band of C, a strip of rows of A along neighbouring panels of B: the tiles of [`super::kernel`], one after the other in one call, which
//! spares each of them the way in and out.
use crate::simd::{Isa, Simd, opaque};

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
pub(super) use each_row;

/// Arguments: `c[i, j] (+)= sum_l a[i, l] b[l, j]` for the kernel's MR rows and `cols` columns.
#[derive(Clone, Copy)]
pub(crate) struct Band<T> {
    /// Length of the chains.
    pub k: usize,
    /// Element (i, l) of A is `a + i * a_rs + l * a_ks`.
    pub a: *const T,
    pub a_rs: isize,
    pub a_ks: isize,
    /// Row l of panel p of B begins at `b + p * step + l * b_ks`; NR elements are read from it.
    pub b: *const T,
    pub b_ks: isize,
    pub step: usize,
    /// Row i of C begins at `c + i * ldc`.
    pub c: *mut T,
    pub ldc: usize,
    pub cols: usize,
    /// Add to C instead of overwriting it.
    pub load_c: bool,
    /// One value per column, or null.
    pub bias: *const T,
    /// Where the value before ReLU goes as well (rows as those of C), or null.
    pub pre: *mut T,
    /// Apply ReLU last.
    pub relu: bool,
}

impl<T> Band<T> {
    /// Nothing: what the fields that a caller has no use for are.
    pub const fn none() -> Self {
        Band {
            k: 0,
            a: core::ptr::null(),
            a_rs: 0,
            a_ks: 0,
            b: core::ptr::null(),
            b_ks: 0,
            step: 0,
            c: core::ptr::null_mut(),
            ldc: 0,
            cols: 0,
            load_c: false,
            bias: core::ptr::null(),
            pre: core::ptr::null_mut(),
            relu: false,
        }
    }
}

/// Rows of B between a load and what is fetched meanwhile.
const AHEAD: isize = 16;

/// Elements of a row of A between a load and what is fetched meanwhile: a line of f32, two of f64.
const LINE: isize = 16;

pub(crate) type BandFn<T> = unsafe fn(&Band<T>);

/// # Safety
/// The pointers of `t` are valid for what their comments say, C overlaps nothing that is read, and `S` is enabled.
#[inline(always)]
pub(super) unsafe fn band<S: Simd, const MR: usize, const NV: usize>(t: &Band<S::T>) {
    // SAFETY: the caller's promise; every address below is one that the comments of `Band` name.
    unsafe {
        let nr = NV * S::LANES;
        let mut a = [t.a; MR];
        for i in 0..MR {
            a[i] = t.a.wrapping_offset((i as isize).wrapping_mul(t.a_rs));
        }
        // An address per row in a register: the compiler, if it knew how they hang together, would save some of the registers and
        // make the addresses again in every round, which costs 2 to 3 %.
        let a = core::hint::black_box(a);
        let (mut b, mut c, mut bias, mut cols) = (t.b, t.c, t.bias, t.cols);
        loop {
            let mut acc = [[S::zero(); NV]; MR];
            // C is fetched while the products are made; stores that miss would hold up the next tile. A row at a time: many at
            // once would take all the places where lines of B are waited for.
            let chunk = (t.k / MR).clamp(1, 64 / size_of::<S::T>());
            let mut rows = MR;
            let mut to = c;
            let (mut ka, mut row) = (0isize, b);
            let mut left = t.k;
            while left > 0 {
                let now = left.min(chunk);
                left -= now;
                if S::ISA == Isa::Avx512 && t.a_ks == 1 {
                    // The panel before has driven A from the first level, the more so where rows are a power of two apart and
                    // share its sets (2 to 4 % where another thread shares the core).
                    each_row!(MR, |i| {
                        S::prefetch(a[i].wrapping_offset(ka.wrapping_add(LINE)));
                    });
                }
                if rows > 0 {
                    for at in (0..nr).step_by(64 / size_of::<S::T>()) {
                        S::prefetch(to.wrapping_add(at));
                    }
                    to = to.wrapping_add(t.ldc);
                    rows -= 1;
                }
                for _ in 0..now {
                    let mut y = [S::zero(); NV];
                    for v in 0..NV {
                        y[v] = S::load(row.wrapping_add(v * S::LANES));
                    }
                    if S::ISA == Isa::Avx512 {
                        // Two multiply-adds a clock: what the processor fetches by itself does not always keep up (2 to 5 % where another
                        // thread shares the core).
                        let ahead = row.wrapping_offset(AHEAD.wrapping_mul(t.b_ks));
                        for v in 0..NV {
                            S::prefetch(ahead.wrapping_add(v * S::LANES));
                        }
                    }
                    for i in 0..MR {
                        let x = S::splat(*a[i].wrapping_offset(ka));
                        for v in 0..NV {
                            acc[i][v] = S::fma(x, y[v], acc[i][v]);
                        }
                    }
                    ka = opaque(ka.wrapping_add(t.a_ks));
                    row = row.wrapping_offset(t.b_ks);
                }
            }
            // The end, for panels that are whole and for one that is not. Unrolled by hand: a loop would keep the accumulators in
            // memory throughout.
            macro_rules! end {
                (|$p:ident, $v:ident| $load:expr, |$x:ident| $store:expr) => {
                    if t.load_c {
                        each_row!(MR, |i| {
                            let row = c.wrapping_add(i.wrapping_mul(t.ldc));
                            for $v in 0..NV {
                                let $p = row.wrapping_add($v * S::LANES);
                                acc[i][$v] = S::add($load, acc[i][$v]);
                            }
                        });
                    }
                    if !bias.is_null() {
                        for $v in 0..NV {
                            let $p = bias.wrapping_add($v * S::LANES);
                            let x = $load;
                            each_row!(MR, |i| {
                                acc[i][$v] = S::add(acc[i][$v], x);
                            });
                        }
                    }
                    if !t.pre.is_null() {
                        each_row!(MR, |i| {
                            let at = (t.cols - cols).wrapping_add(i.wrapping_mul(t.ldc));
                            for $v in 0..NV {
                                let $p = t.pre.wrapping_add(at.wrapping_add($v * S::LANES));
                                let $x = acc[i][$v];
                                $store;
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
                    each_row!(MR, |i| {
                        let row = c.wrapping_add(i.wrapping_mul(t.ldc));
                        for $v in 0..NV {
                            let $p = row.wrapping_add($v * S::LANES);
                            let $x = acc[i][$v];
                            $store;
                        }
                    });
                };
            }
            if cols >= nr {
                end!(|p, v| S::load(p), |x| S::store(p, x));
            } else {
                let mut n = [0; NV];
                for v in 0..NV {
                    n[v] = cols.saturating_sub(v * S::LANES).min(S::LANES);
                }
                end!(|p, v| S::load_n(p, n[v]), |x| S::store_n(p, x, n[v]));
            }
            if cols <= nr {
                return;
            }
            cols -= nr;
            (b, c) = (b.wrapping_add(t.step), c.wrapping_add(nr));
            if !bias.is_null() {
                bias = bias.wrapping_add(nr);
            }
        }
    }
}
