//! Workspace of one call or one tile.
use crate::alloc;
use core::ptr::NonNull;

/// `len` elements from the caching allocator, 64-byte aligned, contents unspecified (old numbers of the same process);
/// only plain numbers are put into it.
pub(crate) struct Buffer<T> {
    p: NonNull<T>,
    len: usize,
}

// SAFETY: the buffer owns its memory, as a Vec does.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T: Copy> Buffer<T> {
    /// Leaves the kernel ([`alloc::catch`]) when the system has no memory left.
    pub fn new(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>());
        match bytes.and_then(alloc::alloc) {
            Some(p) => Buffer { p: p.cast(), len },
            None => alloc::refuse(bytes.unwrap_or(usize::MAX)),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn ptr(&self) -> *mut T {
        self.p.as_ptr()
    }
    /// # Safety
    /// Every element was written.
    pub unsafe fn slice(&self) -> &[T] {
        // SAFETY: the caller's promise; the buffer owns its memory.
        unsafe { core::slice::from_raw_parts(self.p.as_ptr(), self.len) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same size, which fitted a usize then.
        unsafe { alloc::free(self.p.cast(), self.len * size_of::<T>()) }
    }
}
