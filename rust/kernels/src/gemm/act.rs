//! Activations other than ReLU, on a tile of C that has just been stored and is still in the first-level cache.
use super::Activation;
use crate::element::Real;
use crate::simd::Isa;

/// Applies `act` to `rows x cols` elements with row stride `ld`; nothing for None and Relu (the kernel has done it).
///
/// # Safety
/// The elements may be read and written, and nobody else uses them.
pub(crate) unsafe fn apply<T: Real>(
    _isa: Isa,
    act: Activation,
    c: *mut T,
    rows: usize,
    cols: usize,
    ld: usize,
) {
    if matches!(act, Activation::None | Activation::Relu) {
        return;
    }
    for i in 0..rows {
        // SAFETY: the caller's promise.
        let row = unsafe { core::slice::from_raw_parts_mut(c.add(i * ld), cols) };
        for x in row {
            *x = T::from_f64(crate::reference::gemm::activate(act, x.to_f64()));
        }
    }
}
