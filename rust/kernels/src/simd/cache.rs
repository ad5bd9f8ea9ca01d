//! Sizes of the caches.
use std::sync::OnceLock;

/// Bytes of one core's second-level cache; 512 KiB where the processor does not say.
pub(crate) fn second_level() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| read().unwrap_or(512 << 10).clamp(256 << 10, 4 << 20))
}

#[cfg(target_arch = "x86_64")]
fn read() -> Option<usize> {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    // Deterministic cache parameters: leaf 4 of Intel's processors, the same at another place in AMD's.
    for (leaf, highest) in [(4, __cpuid(0).eax), (0x8000_001d, __cpuid(0x8000_0000).eax)] {
        if highest < leaf {
            continue;
        }
        for cache in 0..8 {
            let r = __cpuid_count(leaf, cache);
            let (kind, level) = (r.eax & 31, r.eax >> 5 & 7);
            if kind == 0 {
                break;
            }
            if level == 2 {
                let part = |shift: u32, mask: u32| (r.ebx >> shift & mask) as usize + 1;
                // Ways, partitions, bytes of a line, sets.
                return Some(
                    part(22, 0x3ff) * part(12, 0x3ff) * part(0, 0xfff) * (r.ecx as usize + 1),
                );
            }
        }
    }
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn read() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_size_that_exists() {
        let bytes = super::second_level();
        assert!(
            (256 << 10..=4 << 20).contains(&bytes) && bytes.is_multiple_of(64 << 10),
            "{bytes}"
        );
    }
}
