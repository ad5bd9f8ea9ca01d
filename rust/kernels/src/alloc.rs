//! Caching, 64-byte aligned allocation (kernels.md, Memory).
use core::ptr::NonNull;

/// A block of at least `bytes` bytes, 64-byte aligned, contents unspecified; `None` when the system refuses.
/// `bytes == 0` gives a dangling, aligned pointer.
pub fn alloc(bytes: usize) -> Option<NonNull<u8>> {
    unimplemented!()
}
/// Gives a block back to the cache.
/// # Safety
/// `p` came from [`alloc`] with the same `bytes` and is not used again.
pub unsafe fn free(p: NonNull<u8>, bytes: usize) {
    unimplemented!()
}
/// Returns cached blocks to the system.
pub fn trim() {
    unimplemented!()
}
/// Bytes handed out, bytes cached, and the number of times memory was taken from the system (a steady step adds none).
pub fn stats() -> (usize, usize, u64) {
    unimplemented!()
}
