//! Sizes of the caches.
use std::sync::OnceLock;

#[derive(Clone, Copy)]
struct Sizes {
    second: usize,
    last: usize,
}

fn sizes() -> Sizes {
    static SIZES: OnceLock<Sizes> = OnceLock::new();
    *SIZES.get_or_init(|| {
        let caches = ask();
        let of = |wanted: &dyn Fn(u32) -> bool| {
            let sizes = caches.iter().filter(|c| wanted(c.0)).map(|c| c.1);
            sizes.max().filter(|&n| n > 0)
        };
        Sizes {
            // Several cores may share a large one.
            second: of(&|level| level == 2).map_or(512 << 10, |n| n.clamp(256 << 10, 4 << 20)),
            last: of(&|_| true).unwrap_or(32 << 20),
        }
    })
}

/// Bytes of one core's second-level cache; 512 KiB where the processor does not say.
pub(crate) fn second_level() -> usize {
    sizes().second
}

/// Bytes of the last cache that a core reaches; 32 MiB where the processor does not say.
pub(crate) fn last() -> usize {
    sizes().last
}

/// Level and bytes of each cache that cpuid describes (level 0: none).
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)] // safe since Rust 1.94
fn ask() -> [(u32, usize); 8] {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let mut caches = [(0, 0); 8];
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
            return caches;
        };
        for (i, cache) in (0..).zip(&mut caches) {
            let r = __cpuid_count(leaf, i);
            if r.eax & 31 == 0 {
                break;
            }
            let [line, parts, ways] = [r.ebx & 0xfff, r.ebx >> 12 & 0x3ff, r.ebx >> 22];
            let bytes = [line, parts, ways, r.ecx]
                .iter()
                .fold(1, |n: usize, &x| n.saturating_mul(x as usize + 1));
            *cache = (r.eax >> 5 & 7, bytes);
        }
    }
    caches
}

#[cfg(not(target_arch = "x86_64"))]
fn ask() -> [(u32, usize); 8] {
    [(0, 0); 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_have_plausible_sizes() {
        assert!((256 << 10..=4 << 20).contains(&second_level()));
        assert!((256 << 10..16 << 30).contains(&last()), "{}", last());
    }
}
