//! One trait over `std::arch`, CPU detection once, vector math with stated ULP bounds.
//!
//! A kernel body is an `#[inline(always)]` generic function over [`Simd`]; [`dispatch`] runs it inside a
//! `#[target_feature]` shell of the best instruction set that the CPU has. Everything called from a body must be
//! `#[inline(always)]` too (closures included): an intrinsic that ends up outside a shell silently becomes a slow
//! function call.
//!
//! ```
//! use corten_kernels::simd::{Kernel, Simd, dispatch};
//!
//! struct Scale<'a>(f32, &'a mut [f32]);
//! impl Kernel<f32> for Scale<'_> {
//!     type Out = ();
//!     #[inline(always)]
//!     unsafe fn run<S: Simd<T = f32>>(self) {
//!         let Scale(a, x) = self;
//!         // SAFETY: the caller runs us where S is available; `load_n` and `store_n` stay inside each chunk.
//!         unsafe {
//!             let a = S::splat(a);
//!             for c in x.chunks_mut(S::LANES) {
//!                 let v = S::load_n(c.as_ptr(), c.len());
//!                 S::store_n(c.as_mut_ptr(), S::mul(a, v), c.len());
//!             }
//!         }
//!     }
//! }
//! let mut x = [1.0; 19];
//! dispatch(Scale(2.0, &mut x));
//! assert_eq!(x, [2.0; 19]);
//! ```
//!
//! A kernel that splits its work over threads asks [`isa`] once, before it starts, and uses [`dispatch_on`] in the
//! tiles, so that every tile runs the same path.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod cache;
mod lanes;
pub mod math;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use lanes::{LANES16, Lanes};
pub use scalar::Scalar;

/// Asks for the cache line of an address, which need not exist, before it is needed.
#[inline(always)]
pub fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: part of every x86-64 CPU, and allowed for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// The same number, of which the compiler knows nothing any more: `row[i] + index` stays an address, where it would otherwise
/// advance a pointer for each row, with an addition of its own in every round of a loop.
#[inline(always)]
pub fn opaque(index: isize) -> isize {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        let mut index = index;
        // SAFETY: no instruction at all.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) index, options(pure, nomem, nostack, preserves_flags));
        }
        index
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    index
}

/// [`prefetch`] for the lines of `len` elements.
#[inline(always)]
pub fn prefetch_run<T>(from: *const T, len: usize) {
    for i in (0..len).step_by(64 / size_of::<T>()) {
        prefetch(from.wrapping_add(i));
    }
}

/// Transposes a square of LANES vectors: log2(LANES) perfect shuffles of the rows.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
pub unsafe fn transpose<S: Simd>(x: &mut [S::V; 16]) {
    // SAFETY: S is enabled by the caller.
    unsafe {
        let half = S::LANES / 2;
        let mut step = 1;
        while step < S::LANES {
            let mut y = *x;
            for i in 0..half {
                (y[2 * i], y[2 * i + 1]) = S::interleave(x[i], x[i + half]);
            }
            *x = y;
            step *= 2;
        }
    }
}

/// Stands in for AVX2 where the architecture has none; never chosen at run time.
#[cfg(not(target_arch = "x86_64"))]
pub type Avx2<T> = Scalar<T>;
/// Stands in for AVX-512 where the architecture has none; never chosen at run time.
#[cfg(not(target_arch = "x86_64"))]
pub type Avx512<T> = Scalar<T>;

use crate::element::Real;
use core::cell::Cell;
use core::sync::atomic::{AtomicU8, Ordering};

/// Vectors of one element type on one instruction set.
///
/// All arithmetic is IEEE 754, one rounding per operation, so two instruction sets that fuse ([`Simd::FUSED`])
/// give the same bits for the same sequence of calls; the scalar set rounds `fma` twice and may differ from them.
///
/// # Safety
/// Every method requires that the CPU has the instruction set, and must end up inlined in a function that enables
/// it (see [`dispatch`]). Methods that take a pointer state what they touch; no alignment beyond that of `T` is
/// required.
#[allow(missing_docs, clippy::missing_safety_doc)]
pub trait Simd: Copy + Send + Sync + 'static {
    /// Element.
    type T: Real;
    /// Vector of [`Simd::LANES`] elements.
    type V: Copy;
    /// One truth value per lane.
    type M: Copy;
    /// Elements per vector; divides 16.
    const LANES: usize;
    /// Which instruction set this is.
    const ISA: Isa;
    /// Whether [`Simd::fma`] rounds once.
    const FUSED: bool;

    unsafe fn zero() -> Self::V;
    unsafe fn splat(x: Self::T) -> Self::V;
    /// 0, 1, 2, ...
    unsafe fn iota() -> Self::V;
    /// Reads `LANES` elements.
    unsafe fn load(p: *const Self::T) -> Self::V;
    /// Writes `LANES` elements.
    unsafe fn store(p: *mut Self::T, v: Self::V);
    /// Reads the first `n <= LANES` elements and nothing else; the other lanes are 0.
    unsafe fn load_n(p: *const Self::T, n: usize) -> Self::V;
    /// Reads the elements of the lanes that `m` names and nothing else; the other lanes are 0.
    unsafe fn load_masked(p: *const Self::T, m: Self::M) -> Self::V;
    /// Writes the first `n <= LANES` elements and nothing else.
    unsafe fn store_n(p: *mut Self::T, v: Self::V, n: usize);

    /// [`Simd::store`] past the caches, to an address that is a multiple of the vector's size; others may only read it after
    /// [`Simd::fence`].
    #[inline(always)]
    unsafe fn stream(p: *mut Self::T, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { Self::store(p, v) }
    }
    /// Lets what was streamed before be seen before what is written after.
    #[inline(always)]
    unsafe fn fence() {}
    /// [`prefetch`](prefetch()), in a body.
    #[inline(always)]
    unsafe fn prefetch(p: *const Self::T) {
        prefetch(p);
    }
    /// [`Simd::stream`] if `past`, else [`Simd::store`].
    #[inline(always)]
    unsafe fn put(past: bool, p: *mut Self::T, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe {
            if past {
                Self::stream(p, v);
            } else {
                Self::store(p, v);
            }
        }
    }

    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a * b - c`
    unsafe fn fms(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`
    unsafe fn fnma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`, so `b` when either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`, so `b` when either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    unsafe fn neg(a: Self::V) -> Self::V;
    /// Magnitude of `a`, sign of `b`.
    unsafe fn copysign(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn floor(a: Self::V) -> Self::V;
    unsafe fn ceil(a: Self::V) -> Self::V;
    unsafe fn trunc(a: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    unsafe fn round_even(a: Self::V) -> Self::V;

    /// Comparisons are false for NaN, except `ne`.
    unsafe fn eq(a: Self::V, b: Self::V) -> Self::M;
    unsafe fn ne(a: Self::V, b: Self::V) -> Self::M;
    unsafe fn lt(a: Self::V, b: Self::V) -> Self::M;
    unsafe fn le(a: Self::V, b: Self::V) -> Self::M;
    /// `m ? a : b`
    unsafe fn select(m: Self::M, a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mask_and(a: Self::M, b: Self::M) -> Self::M;
    unsafe fn mask_or(a: Self::M, b: Self::M) -> Self::M;
    unsafe fn mask_not(a: Self::M) -> Self::M;
    /// Lane `i` is bit `i`.
    unsafe fn mask_bits(a: Self::M) -> u32;
    /// Inverse of [`Simd::mask_bits`]; bits from `LANES` up are ignored.
    unsafe fn mask_from_bits(bits: u32) -> Self::M;

    /// `x * 2^n`, rounded once, for integer-valued `n` with `|n| <= 2000` (f64) or `|n| <= 250` (f32) and `x` in [1/2, 2]; NaN
    /// when both are.
    unsafe fn scale(x: Self::V, n: Self::V) -> Self::V;
    /// `2^n` for integer-valued `n` from -1023 to 1023 (f64) or from -127 to 127 (f32), but 0 for the lowest; 1 for NaN,
    /// some number for any other `n`.
    unsafe fn pow2(n: Self::V) -> Self::V;
    /// `2^n` for `t = n + 1.5 * 2^mantissa + bias`, n as for [`Simd::pow2`]: a sum that has rounded n to an integer as well. 0 for
    /// NaN.
    unsafe fn pow2_of_sum(t: Self::V) -> Self::V;
    /// `(m, e)` with `x = m * 2^e` and `sqrt(1/2) <= m < sqrt(2)`, for positive normal `x`.
    unsafe fn split(x: Self::V) -> (Self::V, Self::V);
    /// `(x, y)` with even lanes of `a ++ b` in `x` and odd lanes in `y`.
    unsafe fn deinterleave(a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// Inverse of [`Simd::deinterleave`].
    unsafe fn interleave(a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// Loads LANES rows of LANES elements from the first pointers, and transposes them: lane i of vector l is element l of
    /// row i.
    #[inline(always)]
    unsafe fn load_transposed(rows: &[*const Self::T; 16]) -> [Self::V; 16] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut square = [Self::zero(); 16];
            for i in 0..Self::LANES {
                square[i] = Self::load(rows[i]);
            }
            transpose::<Self>(&mut square);
            square
        }
    }
    /// Lane `i` plus lane `i + LANES / 2`, and so on down to one: the same tree on every instruction set.
    unsafe fn reduce_add(a: Self::V) -> Self::T;

    #[inline(always)]
    unsafe fn gt(a: Self::V, b: Self::V) -> Self::M {
        // SAFETY: the caller's promise.
        unsafe { Self::lt(b, a) }
    }
    #[inline(always)]
    unsafe fn ge(a: Self::V, b: Self::V) -> Self::M {
        // SAFETY: the caller's promise.
        unsafe { Self::le(b, a) }
    }
    #[inline(always)]
    unsafe fn is_nan(a: Self::V) -> Self::M {
        // SAFETY: the caller's promise.
        unsafe { Self::ne(a, a) }
    }
    #[inline(always)]
    unsafe fn any(m: Self::M) -> bool {
        // SAFETY: the caller's promise.
        unsafe { Self::mask_bits(m) != 0 }
    }
    #[inline(always)]
    unsafe fn all(m: Self::M) -> bool {
        // SAFETY: the caller's promise.
        unsafe { Self::mask_bits(m) == (1u32 << Self::LANES) - 1 }
    }
    /// True in the first `n` lanes.
    #[inline(always)]
    unsafe fn mask_first(n: usize) -> Self::M {
        // SAFETY: the caller's promise.
        unsafe { Self::mask_from_bits((1u32 << n) - 1) }
    }
    /// The larger; NaN when either is.
    #[inline(always)]
    unsafe fn max_nan(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the caller's promise. `max` returns b when either is NaN, so only a NaN in a is lost.
        unsafe { Self::select(Self::is_nan(a), a, Self::max(a, b)) }
    }
    /// The smaller; NaN when either is.
    #[inline(always)]
    unsafe fn min_nan(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { Self::select(Self::is_nan(a), a, Self::min(a, b)) }
    }
    /// A constant.
    #[inline(always)]
    unsafe fn c(x: f64) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(<Self::T as crate::element::Number>::from_f64(x)) }
    }
    /// The lanes as an array; entries from `LANES` up are 0.
    #[inline(always)]
    unsafe fn to_array(a: Self::V) -> [Self::T; 16] {
        let mut out = [<Self::T as crate::element::Number>::ZERO; 16];
        // SAFETY: LANES <= 16 elements are written.
        unsafe { Self::store(out.as_mut_ptr(), a) };
        out
    }
    /// `a / b` beside roots, for which the processor has no other unit than that of divisions: within 0.51 ULP where the quotient is
    /// normal and b is not above 2^100. A quotient of 0 may have either sign.
    #[inline(always)]
    unsafe fn div_beside_root(a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { Self::div(a, b) }
    }
    /// Largest lane; NaN when any is. (The order does not matter to the result.)
    #[inline(always)]
    unsafe fn reduce_max(a: Self::V) -> Self::T {
        // SAFETY: the caller's promise.
        let l = unsafe { Self::to_array(a) };
        let mut best = l[0];
        for &x in &l[1..Self::LANES] {
            best = best.max_nan(x);
        }
        best
    }
    /// Smallest lane; NaN when any is.
    #[inline(always)]
    unsafe fn reduce_min(a: Self::V) -> Self::T {
        // SAFETY: the caller's promise.
        let l = unsafe { Self::to_array(a) };
        let mut best = l[0];
        for &x in &l[1..Self::LANES] {
            best = best.min_nan(x);
        }
        best
    }
    /// Writes the first `n <= LANES` truth values as bytes 0 or 1.
    #[inline(always)]
    unsafe fn store_mask_n(p: *mut u8, m: Self::M, n: usize) {
        // SAFETY: the caller's promise: n bytes at p may be written.
        unsafe {
            let bits = Self::mask_bits(m);
            for i in 0..n {
                *p.add(i) = (bits >> i) as u8 & 1;
            }
        }
    }
    /// Reads `n <= LANES` bytes; a lane is true where its byte is not 0, false from `n` up.
    #[inline(always)]
    unsafe fn load_mask_n(p: *const u8, n: usize) -> Self::M {
        // SAFETY: the caller's promise: n bytes at p may be read.
        unsafe {
            let mut bits = 0;
            for i in 0..n {
                bits |= u32::from(*p.add(i) != 0) << i;
            }
            Self::mask_from_bits(bits)
        }
    }
}

/// An instruction set that kernels are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Isa {
    /// Plain loops over short arrays; the baseline of the target.
    Scalar = 1,
    /// AVX2, FMA and F16C.
    Avx2 = 2,
    /// AVX-512 F, BW, DQ and VL (with AVX2, FMA and F16C).
    Avx512 = 3,
}

impl Isa {
    /// All that the library knows, slowest first.
    pub const ALL: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];

    /// The name that `CORTEN_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this CPU has it.
    pub fn available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                    && std::arch::is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.available()
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    fn from_u8(x: u8) -> Isa {
        match x {
            3 => Isa::Avx512,
            2 => Isa::Avx2,
            _ => Isa::Scalar,
        }
    }
}

/// The best that this CPU has.
fn best() -> Isa {
    *Isa::ALL
        .iter()
        .rev()
        .find(|i| i.available())
        .unwrap_or(&Isa::Scalar)
}

/// What a value of `CORTEN_ISA` means on a CPU whose best is `best`: unset, unknown or unavailable gives the best.
fn choose(wanted: Option<&str>, best: Isa) -> Isa {
    Isa::ALL
        .into_iter()
        .find(|i| Some(i.name()) == wanted)
        .filter(|i| *i <= best)
        .unwrap_or(best)
}

static GLOBAL: AtomicU8 = AtomicU8::new(0);
thread_local! {
    static OVERRIDE: Cell<u8> = const { Cell::new(0) };
}

#[cold]
fn detect() -> Isa {
    let wanted = std::env::var("CORTEN_ISA").ok();
    let isa = choose(wanted.as_deref(), best());
    GLOBAL.store(isa as u8, Ordering::Relaxed);
    isa
}

/// The instruction set that kernels started by this thread use: what [`with_isa`] says, else what `CORTEN_ISA`
/// (`scalar`, `avx2`, `avx512`) asked for at the first call, else the best that the CPU has. An unknown name, or one
/// that this CPU lacks, falls back to the best: `python -m corten info` shows what is in use.
#[inline]
pub fn isa() -> Isa {
    let o = OVERRIDE.get();
    if o != 0 {
        return Isa::from_u8(o);
    }
    match GLOBAL.load(Ordering::Relaxed) {
        0 => detect(),
        x => Isa::from_u8(x),
    }
}

/// Every path that this CPU can run.
pub fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|i| i.available())
}

/// Runs `f` with kernels started by this thread on `isa` (or the best, when the CPU lacks it), so that one test
/// process checks every path.
pub fn with_isa<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    struct Restore(u8);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let isa = if isa.available() { isa } else { best() };
    let _restore = Restore(OVERRIDE.replace(isa as u8));
    f()
}

/// A kernel body, to be run by [`dispatch`].
pub trait Kernel<T: Real> {
    /// What the body returns.
    type Out;
    /// The body: `#[inline(always)]`, and so is everything that it calls with `S`.
    /// # Safety
    /// Called only inside a function that enables `S`'s instruction set, on a CPU that has it.
    unsafe fn run<S: Simd<T = T>>(self) -> Self::Out;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
unsafe fn shell_avx512<T: Real, K: Kernel<T>>(k: K) -> K::Out {
    // SAFETY: the features are enabled here, and dispatch_on has checked that the CPU has them.
    unsafe { k.run::<T::Avx512>() }
}
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn shell_avx2<T: Real, K: Kernel<T>>(k: K) -> K::Out {
    // SAFETY: as above.
    unsafe { k.run::<T::Avx2>() }
}

/// Runs a kernel on the instruction set of [`isa`].
#[inline]
pub fn dispatch<T: Real, K: Kernel<T>>(k: K) -> K::Out {
    dispatch_on(isa(), k)
}

/// Runs a kernel on `isa`, which must come from [`isa`] or [`available`].
#[inline]
pub fn dispatch_on<T: Real, K: Kernel<T>>(isa: Isa, k: K) -> K::Out {
    debug_assert!(isa.available());
    match isa {
        // SAFETY: isa() and available() only name what the CPU has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { shell_avx512(k) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { shell_avx2(k) },
        // SAFETY: the scalar set needs nothing.
        _ => unsafe { k.run::<T::Scalar>() },
    }
}

/// Runs a plain loop inside a shell, so that the compiler vectorises it for more than the baseline: for exact
/// operations (integers, comparisons, copies) whose results no vectorisation can change.
#[inline]
pub(crate) fn autovec<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn avx2<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
    match isa {
        // SAFETY: isa() and available() only name what the CPU has, and AVX-512 implies AVX2 (see Isa::available).
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => unsafe { avx2(f) },
        _ => f(),
    }
}

/// Declares a function over slices whose body is compiled once per instruction set and dispatched per call:
/// `simd_fn! { /// docs  pub fn name<S, T>(args) -> R { body using S: Simd<T = T> } }`. A first parameter
/// `isa: Isa` chooses the path (see [`dispatch_on`]). The body is an unsafe context.
#[macro_export]
macro_rules! simd_fn {
    ($(#[$m:meta])* $vis:vis fn $name:ident<$S:ident, $T:ident>($($a:ident : $t:ty),* $(,)?) $(-> $r:ty)? $body:block) => {
        $(#[$m])*
        #[inline]
        $vis fn $name<$T: $crate::element::Real>(isa: $crate::simd::Isa, $($a: $t),*) $(-> $r)? {
            #[inline(always)]
            unsafe fn body<$S: $crate::simd::Simd<T = $T>, $T: $crate::element::Real>($($a: $t),*) $(-> $r)? {
                // SAFETY: the body states its own reasons; the instruction set is enabled by the shells below.
                #[allow(unused_unsafe, clippy::macro_metavars_in_unsafe)]
                unsafe { $body }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
            unsafe fn avx512<$T: $crate::element::Real>($($a: $t),*) $(-> $r)? {
                // SAFETY: the features are enabled here.
                unsafe { body::<$T::Avx512, $T>($($a),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2<$T: $crate::element::Real>($($a: $t),*) $(-> $r)? {
                // SAFETY: the features are enabled here.
                unsafe { body::<$T::Avx2, $T>($($a),*) }
            }
            debug_assert!(isa.available());
            match isa {
                // SAFETY: isa() and available() only name what the CPU has.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx512 => unsafe { avx512::<$T>($($a),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::simd::Isa::Avx2 => unsafe { avx2::<$T>($($a),*) },
                // SAFETY: the scalar set needs nothing.
                _ => unsafe { body::<$T::Scalar, $T>($($a),*) },
            }
        }
    };
}

#[cfg(test)]
mod math_tests;
#[cfg(test)]
mod tests;
