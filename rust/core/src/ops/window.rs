//! Geometry of sliding windows, shared by convolution and pooling.
use crate::error::{Error, Result};

/// How many zeros surround the input of a convolution, per spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// That many zeros on both sides of (height, width).
    Explicit([usize; 2]),
    /// None: the window stays inside the input.
    Valid,
    /// So many that the output has `ceil(input / stride)` elements. When the number is odd (even kernels) the bottom and
    /// the right get the extra zero.
    Same,
    /// `dilation * (kernel - 1)` on both sides: every window that overlaps the input counts.
    Full,
}

impl Padding {
    /// The padding called `name`: "valid", "same" or "full".
    pub fn from_name(op: &'static str, name: &str) -> Result<Self> {
        match name {
            "valid" => Ok(Self::Valid),
            "same" => Ok(Self::Same),
            "full" => Ok(Self::Full),
            _ => Err(Error::value(
                op,
                format!(
                    "padding must be an int, two ints, 'valid', 'same' or 'full', got '{name}'"
                ),
            )),
        }
    }
}

/// Elements that a kernel covers: `dilation * (kernel - 1) + 1`.
pub(super) fn extent(kernel: usize, dilation: usize) -> usize {
    dilation * (kernel - 1) + 1
}

/// Padding before the first element, and the number of windows, along one axis of a convolution.
/// `None` when the kernel does not fit into the padded input.
pub(super) fn convolution_axis(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: Padding,
    axis: usize,
) -> Option<(usize, usize)> {
    let extent = extent(kernel, dilation);
    let (before, total) = match padding {
        Padding::Explicit(p) => (p[axis], 2 * p[axis]),
        Padding::Valid => (0, 0),
        Padding::Full => (extent - 1, 2 * (extent - 1)),
        Padding::Same => {
            let windows = input.div_ceil(stride);
            let total = (windows.saturating_sub(1) * stride + extent).saturating_sub(input);
            return Some((total / 2, windows));
        }
    };
    let room = (input + total).checked_sub(extent)?;
    Some((before, room / stride + 1))
}

/// The number of windows along one axis of a pooling.
///
/// With `ceil_mode` a last, partial window counts as well, provided that it starts inside the input or the left padding.
/// `None` when the kernel does not fit into the padded input.
pub(super) fn pooling_axis(
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil_mode: bool,
) -> Option<usize> {
    let room = (input + 2 * padding).checked_sub(extent(kernel, dilation))?;
    let windows = room / stride + 1;
    let partial = ceil_mode && room % stride != 0 && windows * stride < input + padding;
    Some(windows + usize::from(partial))
}

/// Raises unless both numbers are at least one.
pub(super) fn check_positive(op: &'static str, name: &str, pair: [usize; 2]) -> Result<()> {
    if pair.contains(&0) {
        return Err(Error::value(
            op,
            format!("{name} must be at least 1, got ({}, {})", pair[0], pair[1]),
        ));
    }
    Ok(())
}

/// Raises when a number is so large that the arithmetic on windows would overflow.
pub(super) fn check_sane(op: &'static str, name: &str, pair: [usize; 2]) -> Result<()> {
    if pair.iter().any(|&n| n > i32::MAX as usize) {
        return Err(Error::value(
            op,
            format!(
                "{name} must be at most 2147483647, got ({}, {})",
                pair[0], pair[1]
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_keeps_the_size_and_puts_the_odd_zero_last() {
        assert_eq!(convolution_axis(7, 4, 1, 1, Padding::Same, 0), Some((1, 7)));
        assert_eq!(convolution_axis(7, 3, 1, 2, Padding::Same, 0), Some((2, 7)));
        assert_eq!(convolution_axis(7, 3, 2, 1, Padding::Same, 0), Some((1, 4)));
        assert_eq!(convolution_axis(8, 3, 2, 1, Padding::Same, 0), Some((0, 4)));
    }

    #[test]
    fn valid_full_and_explicit() {
        assert_eq!(
            convolution_axis(7, 3, 2, 1, Padding::Valid, 0),
            Some((0, 3))
        );
        assert_eq!(
            convolution_axis(7, 3, 1, 2, Padding::Full, 0),
            Some((4, 11))
        );
        assert_eq!(
            convolution_axis(7, 3, 1, 1, Padding::Explicit([0, 2]), 1),
            Some((2, 9))
        );
        assert_eq!(convolution_axis(2, 3, 1, 1, Padding::Valid, 0), None);
    }

    #[test]
    fn pooling_counts_partial_windows_in_ceil_mode_only() {
        assert_eq!(pooling_axis(5, 2, 2, 0, 1, false), Some(2));
        assert_eq!(pooling_axis(5, 2, 2, 0, 1, true), Some(3));
        // The fourth window would start in the right padding: it does not count.
        assert_eq!(pooling_axis(5, 2, 2, 1, 1, true), Some(3));
        assert_eq!(pooling_axis(3, 2, 1, 0, 3, false), None);
    }
}
