//! Whether a result is worth writing past the caches.
//!
//! An ordinary store first reads the line that it is going to overwrite, and pushes something else out of the cache. Where a call
//! touches more memory than the last cache holds, its first results are gone again before anybody can use them, and stores that
//! do neither are faster: half again as fast from 12 MiB on with 8 MiB of cache, two cores of AMD Zen 1.
use crate::simd::cache;

/// For a call that reads and writes `bytes` in all and writes to `out` in whole vectors.
#[inline]
pub(crate) fn pays<T>(bytes: usize, out: *const T) -> bool {
    #[cfg(test)]
    if testing::ALWAYS.get() {
        return (out as usize).is_multiple_of(64);
    }
    // Most calls end here.
    bytes > 1 << 20 && (out as usize).is_multiple_of(64) && bytes > cache::last()
}

/// [`pays`] for rows of `cols` elements, every one of which has to begin where a vector may.
#[inline]
pub(crate) fn pays_rows<T>(bytes: usize, out: *const T, cols: usize) -> bool {
    (cols * size_of::<T>()).is_multiple_of(64) && pays(bytes, out)
}

/// What tests of such stores need, so that they need no more memory than the last cache.
#[cfg(test)]
pub(crate) mod testing {
    use crate::element::Real;
    use crate::gemm::buffer::Buffer;
    use core::cell::Cell;

    std::thread_local! {
        pub(super) static ALWAYS: Cell<bool> = const { Cell::new(false) };
    }

    /// `len` numbers that `f` writes, into memory aligned as a tensor's is: with ordinary stores, and past the caches wherever that
    /// is possible.
    pub(crate) fn both_ways<T: Real>(len: usize, f: impl Fn(&mut [T])) -> [Vec<T>; 2] {
        [false, true].map(|always| {
            let room = Buffer::<T>::new(len);
            // SAFETY: room for `len` numbers, that are written first.
            let out = unsafe {
                room.ptr().write_bytes(0xff, len);
                core::slice::from_raw_parts_mut(room.ptr(), len)
            };
            ALWAYS.set(always);
            f(out);
            ALWAYS.set(false);
            out.to_vec()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_and_aligned_pays() {
        let at = 64 as *const f32;
        assert!(
            pays(usize::MAX, at) && !pays(1 << 20, at) && !pays(usize::MAX, at.wrapping_add(1))
        );
    }
}
