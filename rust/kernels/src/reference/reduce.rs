//! Naive twins of [`crate::reduce`].
use super::elementwise::indices;
use crate::element::{Number, Real, Strided};
pub use crate::reduce::Reduce;

/// The elements of the row at `index` of `outer`, in C order of `inner`.
fn row<'a, T: Copy + 'a>(
    x: Strided<'a, T>,
    index: &'a [usize],
    inner: &'a [usize],
) -> impl Iterator<Item = T> + 'a {
    indices(inner).map(move |i| x.at(&[index, &i].concat()))
}

/// See [`crate::reduce::reduce`]; accumulates in f64, one element after the other.
pub fn reduce<T: Real>(
    op: Reduce,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [T],
) {
    for (y, index) in out.iter_mut().zip(indices(outer)) {
        let elements = row(x, &index, inner).map(|x| x.to_f64());
        *y = T::from_f64(match op {
            Reduce::Sum => elements.fold(0.0, |a, x| a + x),
            Reduce::Prod => elements.fold(1.0, |a, x| a * x),
            Reduce::Max => elements.fold(f64::NEG_INFINITY, |a, x| a.max_nan(x)),
            Reduce::Min => elements.fold(f64::INFINITY, |a, x| a.min_nan(x)),
        });
    }
}

/// See [`crate::reduce::reduce_int`].
pub fn reduce_int<T: Number, A: Number>(
    op: Reduce,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [A],
) {
    for (y, index) in out.iter_mut().zip(indices(outer)) {
        let elements = row(x, &index, inner).map(|x| x.convert::<A>());
        *y = match op {
            Reduce::Sum => elements.fold(A::ZERO, A::plus),
            Reduce::Prod => elements.fold(A::ONE, A::times),
            Reduce::Max => elements.fold(A::LOWEST, |a, x| if x > a { x } else { a }),
            Reduce::Min => elements.fold(A::HIGHEST, |a, x| if x < a { x } else { a }),
        };
    }
}

/// See [`crate::reduce::arg_reduce`].
pub fn arg_reduce<T: Number>(
    max: bool,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [i64],
) {
    for (y, index) in out.iter_mut().zip(indices(outer)) {
        let elements: Vec<T> = row(x, &index, inner).collect();
        // Equal to itself: not NaN.
        #[allow(clippy::eq_op)]
        let first_nan = elements.iter().position(|x| x != x);
        let mut best = 0;
        for (j, x) in elements.iter().enumerate() {
            if (max && *x > elements[best]) || (!max && *x < elements[best]) {
                best = j;
            }
        }
        *y = first_nan.unwrap_or(best) as i64;
    }
}

/// See [`crate::reduce::any_all`].
pub fn any_all(all: bool, outer: &[usize], inner: &[usize], x: Strided<'_, u8>, out: &mut [u8]) {
    for (y, index) in out.iter_mut().zip(indices(outer)) {
        let mut elements = row(x, &index, inner).map(|x| x != 0);
        *y = u8::from(if all {
            elements.all(|x| x)
        } else {
            elements.any(|x| x)
        });
    }
}
