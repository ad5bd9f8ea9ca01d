//! 2-D pooling on dense NCHW (n and c are merged in `planes`).
use crate::element::Real;

/// Geometry of a 2-D window; 1-D pooling uses h = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Pool2d {
    pub planes: usize,
    pub h: usize,
    pub w: usize,
    pub oh: usize,
    pub ow: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// top, left (what lies beyond the bottom and right follows from oh, ow)
    pub pad: [usize; 2],
    pub dilation: [usize; 2],
}

/// Integer type that stores the winning tap `kh * KW + kw`.
pub trait Tap: Copy + Send + Sync + 'static {
    /// From a tap number that fits.
    fn from_usize(x: usize) -> Self;
    /// Back.
    fn to_usize(self) -> usize;
}
impl Tap for u8 {
    fn from_usize(x: usize) -> Self {
        x as u8
    }
    fn to_usize(self) -> usize {
        self as usize
    }
}
impl Tap for i32 {
    fn from_usize(x: usize) -> Self {
        x as i32
    }
    fn to_usize(self) -> usize {
        self as usize
    }
}

/// `y = max over the window` (padding never wins), `tap` = first winning tap; NaN wins.
pub fn max_pool2d<T: Real, I: Tap>(p: &Pool2d, x: &[T], y: &mut [T], tap: &mut [I]) {
    unimplemented!()
}
/// `dx = sum of dy whose winner is x`; overwrites `dx`.
pub fn max_pool2d_backward<T: Real, I: Tap>(p: &Pool2d, tap: &[I], dy: &[T], dx: &mut [T]) {
    unimplemented!()
}
/// The gradient of `max_pool2d_backward`: `y = x at the winning tap`.
pub fn max_pool2d_gather<T: Real, I: Tap>(p: &Pool2d, tap: &[I], x: &[T], y: &mut [T]) {
    unimplemented!()
}
/// Mean over the window; divides by the kernel area (`count_include_pad`) or by the number of real elements.
pub fn avg_pool2d<T: Real>(p: &Pool2d, count_include_pad: bool, x: &[T], y: &mut [T]) {
    unimplemented!()
}
/// Its transpose; overwrites `dx`.
pub fn avg_pool2d_backward<T: Real>(p: &Pool2d, count_include_pad: bool, dy: &[T], dx: &mut [T]) {
    unimplemented!()
}
/// Adaptive average: output cell i averages input `floor(i*H/OH) .. ceil((i+1)*H/OH)`.
pub fn adaptive_avg_pool2d<T: Real>(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    x: &[T],
    y: &mut [T],
) {
    unimplemented!()
}
/// Its transpose; overwrites `dx`.
pub fn adaptive_avg_pool2d_backward<T: Real>(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    dy: &[T],
    dx: &mut [T],
) {
    unimplemented!()
}
