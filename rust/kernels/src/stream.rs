//! Whether a result is worth writing past the caches.
//!
//! An ordinary store first reads the line that it is going to overwrite, and pushes something else out of the cache. Where a call
//! touches more memory than the last cache holds, its first results are gone again before anybody can use them, and stores that
//! do neither are faster: half again as fast from 12 MiB on with 8 MiB of cache, two cores of AMD Zen 1.
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Of the last cache, where the CPU does not say.
const UNKNOWN: usize = 32 << 20;

/// Bytes of the last cache that a core reaches.
fn last_cache() -> usize {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    match BYTES.load(Relaxed) {
        0 => {
            let n = ask().unwrap_or(UNKNOWN);
            BYTES.store(n, Relaxed);
            n
        }
        n => n,
    }
}

/// The largest cache that cpuid describes.
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)] // safe since Rust 1.94
fn ask() -> Option<usize> {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    // SAFETY: every x86-64 CPU has cpuid.
    unsafe {
        // Intel describes its caches in leaf 4, AMD in 0x8000001d, in the same words.
        let leaf = if __cpuid(0x8000_0000).eax >= 0x8000_001d
            && __cpuid_count(0x8000_001d, 0).eax & 31 != 0
        {
            0x8000_001d
        } else if __cpuid(0).eax >= 4 {
            4
        } else {
            return None;
        };
        (0..8)
            .map(|i| __cpuid_count(leaf, i))
            .take_while(|r| r.eax & 31 != 0)
            .map(|r| {
                let [line, parts, ways] = [r.ebx & 0xfff, r.ebx >> 12 & 0x3ff, r.ebx >> 22];
                [line, parts, ways, r.ecx]
                    .iter()
                    .fold(1, |n: usize, &x| n.saturating_mul(x as usize + 1))
            })
            .max()
    }
}
#[cfg(not(target_arch = "x86_64"))]
fn ask() -> Option<usize> {
    None
}

/// For a call that reads and writes `bytes` in all and writes to `out` in whole vectors.
#[inline]
pub(crate) fn pays<T>(bytes: usize, out: *const T) -> bool {
    #[cfg(test)]
    if testing::ALWAYS.get() {
        return (out as usize).is_multiple_of(64);
    }
    // Most calls end here.
    bytes > 1 << 20 && (out as usize).is_multiple_of(64) && bytes > last_cache()
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
    fn a_cache_has_a_plausible_size() {
        assert!(
            (256 << 10..=4 << 30).contains(&last_cache()),
            "{}",
            last_cache()
        );
        let at = 64 as *const f32;
        assert!(
            pays(usize::MAX, at) && !pays(1 << 20, at) && !pays(usize::MAX, at.wrapping_add(1))
        );
    }
}
