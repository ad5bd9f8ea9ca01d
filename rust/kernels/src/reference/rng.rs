//! Naive twins of [`crate::rng`].
use crate::element::Real;

/// One block of Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
fn philox(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            k[0] = k[0].wrapping_add(0x9e37_79b9);
            k[1] = k[1].wrapping_add(0xbb67_ae85);
        }
        let a = u64::from(c[0]) * 0xd251_1f53;
        let b = u64::from(c[2]) * 0xcd9e_8d57;
        c = [
            (b >> 32) as u32 ^ c[1] ^ k[0],
            b as u32,
            (a >> 32) as u32 ^ c[3] ^ k[1],
            a as u32,
        ];
    }
    c
}

/// Word `index` of `stream`.
fn word(seed: u64, stream: u64, index: u64) -> u32 {
    let block = index / 4;
    let counter = [
        block as u32,
        (block >> 32) as u32,
        stream as u32,
        (stream >> 32) as u32,
    ];
    philox(counter, [seed as u32, (seed >> 32) as u32])[(index % 4) as usize]
}

/// Words `2 i` (low) and `2 i + 1` (high) as one.
fn word64(seed: u64, stream: u64, i: u64) -> u64 {
    u64::from(word(seed, stream, 2 * i)) | u64::from(word(seed, stream, 2 * i + 1)) << 32
}

/// Uniform number `i` in [0, 1), a multiple of 2^-24 for f32 and of 2^-53 for f64.
fn unit<T: Real>(seed: u64, stream: u64, i: u64) -> f64 {
    if size_of::<T>() == 4 {
        f64::from(word(seed, stream, i) >> 8) * 2f64.powi(-24)
    } else {
        (word64(seed, stream, i) >> 11) as f64 * 2f64.powi(-53)
    }
}

/// Twin of [`crate::rng::words`].
pub fn words(seed: u64, stream: u64, index: u64, out: &mut [u32]) {
    for (i, w) in out.iter_mut().enumerate() {
        *w = word(seed, stream, index + i as u64);
    }
}

/// Twin of [`crate::rng::uniform`].
pub fn uniform<T: Real>(seed: u64, stream: u64, out: &mut [T]) {
    for (i, v) in out.iter_mut().enumerate() {
        *v = T::from_f64(unit::<T>(seed, stream, i as u64));
    }
}

/// Twin of [`crate::rng::normal`].
pub fn normal<T: Real>(seed: u64, stream: u64, out: &mut [T]) {
    // The smallest step, which turns [0, 1) into (0, 1].
    let ulp = 2f64.powi(if size_of::<T>() == 4 { -24 } else { -53 });
    for (i, v) in out.iter_mut().enumerate() {
        let pair = i as u64 / 2 * 2;
        let radius = (-2.0 * (unit::<T>(seed, stream, pair) + ulp).ln()).sqrt();
        let angle = core::f64::consts::TAU * unit::<T>(seed, stream, pair + 1);
        let f = if i % 2 == 0 { f64::cos } else { f64::sin };
        *v = T::from_f64(radius * f(angle));
    }
}

/// Twin of [`crate::rng::integers`].
pub fn integers(seed: u64, stream: u64, lo: i64, hi: i64, out: &mut [i64]) {
    let range = hi.wrapping_sub(lo) as u64;
    for (i, v) in out.iter_mut().enumerate() {
        let scaled = (u128::from(word64(seed, stream, i as u64)) * u128::from(range)) >> 64;
        *v = lo.wrapping_add(scaled as i64);
    }
}

/// Twin of [`crate::rng::dropout`].
pub fn dropout<T: Real>(p: f64, seed: u64, stream: u64, x: &[T], y: &mut [T]) {
    for (i, v) in y.iter_mut().enumerate() {
        let kept = f64::from(word(seed, stream, i as u64)) >= p * 2f64.powi(32);
        *v = if kept {
            T::from_f64(x[i].to_f64() / (1.0 - p))
        } else {
            T::ZERO
        };
    }
}

#[cfg(test)]
mod tests {
    use super::philox;

    /// Known answers published with Random123 (kat_vectors).
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
