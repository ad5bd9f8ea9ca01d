//! Naive twins of [`crate::half`], by arithmetic in f64 instead of shifts.
use super::elementwise::indices;
use crate::element::{Number, Strided};
use crate::half::Half;

/// Exponent of the smallest normal number, and of the largest.
fn exponents<H: Half>() -> (i32, i32) {
    match H::DIGITS {
        11 => (-14, 15),
        _ => (-126, 127),
    }
}

/// See [`crate::half::widen`]: sign, exponent and fraction taken apart and put together.
pub fn widen<H: Half>(shape: &[usize], x: Strided<'_, H>, out: &mut [f32]) {
    let (lowest, highest) = exponents::<H>();
    let fraction_bits = H::DIGITS - 1;
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        let bits = x.at(&i).to_bits();
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let fraction =
            f64::from(bits & ((1 << fraction_bits) - 1)) / 2f64.powi(fraction_bits as i32);
        let exponent = i32::from((bits & 0x7fff) >> fraction_bits) + lowest - 1;
        let size = if exponent < lowest {
            fraction * 2f64.powi(lowest)
        } else if exponent <= highest {
            (1.0 + fraction) * 2f64.powi(exponent)
        } else if fraction == 0.0 {
            f64::INFINITY
        } else {
            f64::NAN
        };
        *y = (sign * size) as f32;
    }
}

/// The multiple of the last digit's worth that is nearest to `x`.
fn nearest<H: Half>(x: f64) -> H {
    let (lowest, highest) = exponents::<H>();
    let fraction_bits = H::DIGITS as i32 - 1;
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    if x.is_nan() {
        return H::from_bits(sign | 0x7fff);
    }
    let size = x.abs();
    let mut exponent = lowest;
    while exponent <= highest && size >= 2f64.powi(exponent + 1) {
        exponent += 1;
    }
    if exponent > highest {
        return H::from_bits(sign | (((highest - lowest + 2) as u16) << fraction_bits));
    }
    // An integer below 2^DIGITS, or that number itself, which is the next exponent's first.
    let multiple = (size / 2f64.powi(exponent - fraction_bits)).round_ties_even() as u32;
    // A subnormal has the exponent of the smallest normal number without the implicit bit.
    let bits = multiple + (((exponent - lowest) as u32) << fraction_bits);
    H::from_bits(sign | bits as u16)
}

/// See [`crate::half::narrow`].
pub fn narrow<H: Half>(shape: &[usize], x: Strided<'_, f32>, out: &mut [H]) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        *y = nearest(x.at(&i).into());
    }
}

/// See [`crate::half::narrow_number`].
pub fn narrow_number<A: Number, H: Half>(shape: &[usize], x: Strided<'_, A>, out: &mut [H]) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        let x = x.at(&i);
        *y = if A::IS_FLOAT {
            nearest(x.to_f64())
        } else {
            let x = x.to_i64();
            let (high, low) = (x >> 32, x & 0xffff_ffff);
            if high.unsigned_abs() < 1 << 20 {
                nearest(x as f64) // exact
            } else {
                // All that the lower 32 bits decide is on which side of a tie it lies.
                let beside = if low == 0 { 0.0 } else { 0.5 };
                nearest((high as f64 + beside) * 2f64.powi(32))
            }
        };
    }
}
