//! Naive twins of [`crate::sort`].
use crate::element::Number;

/// See [`crate::sort::argsort`]; counts for each element how many come before it.
pub fn argsort<T: Number>(descending: bool, n: usize, x: &[T], out: &mut [i64]) {
    for i in 0..x.len() {
        let first = i - i % n;
        let nan = |j: usize| x[j].to_f64().is_nan();
        let mut place = first;
        for j in first..first + n {
            let before = if descending { x[j] > x[i] } else { x[j] < x[i] };
            let alike = x[j] == x[i] || (nan(j) && nan(i));
            if before || (!nan(j) && nan(i)) || (alike && j < i) {
                place += 1;
            }
        }
        out[place] = (i - first) as i64;
    }
}
