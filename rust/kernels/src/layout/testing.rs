//! Operands of every layout for the property tests.
use crate::element::{Number, Strided};
use proptest::prelude::*;

/// Sizes around the vector lengths.
pub(crate) const SIZES: [usize; 19] = [
    0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129,
];

/// Shapes of rank 0 to 4 of at most 40,000 elements.
pub(crate) fn shapes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(proptest::sample::select(&SIZES[..]), 0..=4).prop_map(|mut shape| {
        while shape.iter().product::<usize>() > 40_000 {
            shape.pop();
        }
        shape
    })
}

/// Splitmix64.
pub(crate) struct Rng(pub u64);
impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    /// Mostly within (-4, 4), one in 16 larger, one in 32 special; integers within what the type holds.
    pub(crate) fn number<T: Number>(&mut self) -> T {
        let u = (self.next() >> 11) as f64 / (1u64 << 53) as f64 * 8.0 - 4.0;
        if !T::IS_FLOAT {
            return match self.below(16) {
                0 => T::LOWEST,
                1 => T::HIGHEST,
                2 => T::from_i64(self.next() as i64),
                _ => T::from_i64((u * 5.0) as i64),
            };
        }
        T::from_f64(match self.below(32) {
            0 => [
                0.0,
                -0.0,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
                1.0,
                -1.0,
            ][self.below(7)],
            1 | 2 => u * 100.0,
            3 => (u * 4.0).round() / 2.0,
            _ => u,
        })
    }
}

/// A strided operand that owns its storage.
#[derive(Clone, Debug)]
pub(crate) struct Operand<T> {
    pub data: Vec<T>,
    pub offset: usize,
    pub strides: Vec<isize>,
}
impl<T: Number> Operand<T> {
    /// Axes in some order, each plain, flipped, with gaps or (if `broadcast`) with stride 0; often all plain.
    pub(crate) fn new(shape: &[usize], seed: u64, broadcast: bool) -> Self {
        let mut rng = Rng(seed);
        let mut order: Vec<usize> = (0..shape.len()).collect();
        let plain = rng.below(3) == 0;
        if !plain && rng.below(2) == 0 {
            for i in (1..order.len()).rev() {
                order.swap(i, rng.below(i + 1));
            }
        }
        let mut strides = vec![0isize; shape.len()];
        let (mut offset, mut step) = (rng.below(4), 1usize);
        for &d in order.iter().rev() {
            match if plain { 0 } else { rng.below(8) } {
                1 => {
                    strides[d] = -(step as isize);
                    offset += step * shape[d].saturating_sub(1);
                    step *= shape[d].max(1);
                }
                2 => {
                    strides[d] = 2 * step as isize;
                    step *= 2 * shape[d].max(1);
                }
                3 | 4 if broadcast => {}
                _ => {
                    strides[d] = step as isize;
                    step *= shape[d].max(1);
                }
            }
        }
        let data = (0..offset + step + rng.below(3))
            .map(|_| rng.number())
            .collect();
        Operand {
            data,
            offset,
            strides,
        }
    }
    pub(crate) fn get(&self) -> Strided<'_, T> {
        Strided {
            data: &self.data,
            offset: self.offset,
            strides: &self.strides,
        }
    }
    /// The same logical values, dense.
    pub(crate) fn dense(&self, shape: &[usize]) -> Self {
        let n = shape.iter().product();
        let mut data = vec![T::ZERO; n];
        crate::reference::elementwise::copy(shape, self.get(), &mut data);
        let mut strides = vec![0; shape.len()];
        let mut s = 1;
        for d in (0..shape.len()).rev() {
            strides[d] = s;
            s *= shape[d] as isize;
        }
        Operand {
            data,
            offset: 0,
            strides,
        }
    }
}

/// Bit patterns, all NaNs alike: for comparing results that must be the same.
pub(crate) fn bits<T: Number>(xs: &[T]) -> Vec<u64> {
    xs.iter()
        .map(|x| {
            if !T::IS_FLOAT {
                x.to_i64() as u64
            } else if x.to_f64().is_nan() {
                u64::MAX
            } else {
                x.to_f64().to_bits()
            }
        })
        .collect()
}
