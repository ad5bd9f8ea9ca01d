//! Reductions. The order of additions is a function of the logical shape alone (kernels.md, ground rule 2).
use crate::element::{Number, Real, Strided};
use crate::simd::isa;

mod float;
mod fold;
mod plain;
mod tall;
#[cfg(test)]
mod tests;

/// What to reduce with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduce {
    Sum,
    Prod,
    Max,
    Min,
}

/// Reduces the trailing `inner` axes of a logical shape `outer ++ inner`; `x.strides` has one stride per axis of
/// `outer ++ inner`. `out` is dense over `outer`. Empty `inner`: Sum 0, Prod 1, Max -inf, Min +inf. NaN propagates.
///
/// Element `i` of a row (C order of `inner`) goes to virtual lane `i % 16` of its chunk of 4096; lanes are folded at
/// distance 8, 4, 2, 1, chunks pairwise. So `|error| <= gamma_(256 + log2 n) * sum |x|` for sums, and the bits depend on
/// nothing but the values and the sizes.
///
/// # Panics
/// As all functions here, when `out` has another length than `outer` or the operand leaves its storage.
pub fn reduce<T: Real>(
    op: Reduce,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [T],
) {
    let isa = isa();
    match op {
        Reduce::Sum => float::reduce::<T, fold::Sum>(isa, outer, inner, x, out),
        Reduce::Prod => float::reduce::<T, fold::Prod>(isa, outer, inner, x, out),
        Reduce::Max => float::reduce::<T, fold::Max>(isa, outer, inner, x, out),
        Reduce::Min => float::reduce::<T, fold::Min>(isa, outer, inner, x, out),
    }
}

/// The same for integers, accumulating in `A` (i64 for sums of small integers); wraps. Empty `inner`: Max gives the
/// lowest value of `A`, Min the highest.
pub fn reduce_int<T: Number, A: Number>(
    op: Reduce,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [A],
) {
    let isa = isa();
    match op {
        Reduce::Sum => plain::reduce::<T, A>(isa, outer, inner, x, out, A::ZERO, A::plus),
        Reduce::Prod => plain::reduce::<T, A>(isa, outer, inner, x, out, A::ONE, A::times),
        Reduce::Max => {
            plain::reduce::<T, A>(isa, outer, inner, x, out, A::LOWEST, |a, b| {
                if b > a { b } else { a }
            });
        }
        Reduce::Min => {
            plain::reduce::<T, A>(isa, outer, inner, x, out, A::HIGHEST, |a, b| {
                if b < a { b } else { a }
            });
        }
    }
}

/// Index (in C order of `inner`) of the first maximum (`max = true`) or minimum; a NaN counts as the extreme, the first
/// one wins. 0 for an empty `inner` (the caller rejects it first).
pub fn arg_reduce<T: Number>(
    max: bool,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [i64],
) {
    if max {
        plain::arg(outer, inner, x, out, |a, b| b > a);
    } else {
        plain::arg(outer, inner, x, out, |a, b| b < a);
    }
}

/// `any` (`all = false`) or `all` of bytes that are 0 or 1. Empty `inner`: `any` 0, `all` 1.
pub fn any_all(all: bool, outer: &[usize], inner: &[usize], x: Strided<'_, u8>, out: &mut [u8]) {
    let isa = isa();
    if all {
        plain::reduce::<u8, u8>(isa, outer, inner, x, out, 1, |a, b| a & b);
    } else {
        plain::reduce::<u8, u8>(isa, outer, inner, x, out, 0, |a, b| a | b);
    }
}
