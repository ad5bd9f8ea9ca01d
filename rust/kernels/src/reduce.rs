//! Reductions. The order of additions is a function of the logical shape alone (kernels.md, ground rule 2).
use crate::element::{Number, Real, Strided};

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
pub fn reduce<T: Real>(
    op: Reduce,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [T],
) {
    unimplemented!()
}
/// The same for integers, accumulating in `A` (i64 for sums of small integers); wraps.
pub fn reduce_int<T: Number, A: Number>(
    op: Reduce,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [A],
) {
    unimplemented!()
}
/// Index (in C order of `inner`) of the first maximum (`max = true`) or minimum; a NaN counts as the extreme.
pub fn arg_reduce<T: Number>(
    max: bool,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [i64],
) {
    unimplemented!()
}
/// `any` (`all = false`) or `all` of 0/1 bytes.
pub fn any_all(all: bool, outer: &[usize], inner: &[usize], x: Strided<'_, u8>, out: &mut [u8]) {
    unimplemented!()
}
