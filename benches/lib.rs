//! Named workloads shared by the benchmarks of corten, and the yardstick that their figures are measured against.
use corten_kernels::Real;
use corten_kernels::parallel::{Cost, SharedMut, for_each_chunk};
use corten_kernels::simd::{Isa, Kernel, Simd, dispatch_on};
use std::time::{Duration, Instant};

/// A product `(m, k) x (k, n)`; `transposed` is the right operand stored `(n, k)`, as the weight of a linear layer is.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// What the case is called in reports.
    pub name: &'static str,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// The right operand is stored (n, k).
    pub transposed: bool,
}

const fn gemm(name: &'static str, m: usize, n: usize, k: usize, transposed: bool) -> Gemm {
    Gemm {
        name,
        m,
        n,
        k,
        transposed,
    }
}

/// Products from the models that corten is made for.
pub const GEMMS: &[Gemm] = &[
    gemm("square 1024", 1024, 1024, 1024, false),
    gemm("square 256", 256, 256, 256, false),
    gemm("square 64", 64, 64, 64, false),
    gemm("square 32", 32, 32, 32, false),
    gemm("mlp 128x784->256", 128, 256, 784, true),
    gemm("mlp 64x784->128", 64, 128, 784, true),
    gemm("lenet fc1 64x256->120", 64, 120, 256, true),
    gemm("lenet fc3 64x84->10", 64, 10, 84, true),
    gemm("rnn step 32x128->128", 32, 128, 128, true),
    gemm("one sample 1x784->256", 1, 256, 784, true),
    gemm("tall 60000x784->10", 60000, 10, 784, true),
    gemm("skinny 6x768->2304", 6, 2304, 768, true),
];

/// A convolution of a (n, c, h, w) batch with o square kernels.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Conv {
    pub name: &'static str,
    pub n: usize,
    pub c: usize,
    pub hw: usize,
    pub o: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
    pub groups: usize,
}

const fn conv(
    name: &'static str,
    sizes: [usize; 5],
    stride: usize,
    pad: usize,
    groups: usize,
) -> Conv {
    let [n, c, hw, o, kernel] = sizes;
    Conv {
        name,
        n,
        c,
        hw,
        o,
        kernel,
        stride,
        pad,
        groups,
    }
}

/// Convolutions from the models that corten is made for.
pub const CONVS: &[Conv] = &[
    conv("lenet1 5x5 1->6", [64, 1, 28, 6, 5], 1, 0, 1),
    conv("lenet2 5x5 6->16", [64, 6, 12, 16, 5], 1, 0, 1),
    conv("resnet20 3x3 16->16", [32, 16, 32, 16, 3], 1, 1, 1),
    conv("3x3 64->64", [8, 64, 32, 64, 3], 1, 1, 1),
    conv("3x3 256->256 on 8x8", [8, 256, 8, 256, 3], 1, 1, 1),
    conv("stem 7x7 stride 2", [4, 3, 112, 64, 7], 2, 3, 1),
    conv("1x1 64->256", [4, 64, 28, 256, 1], 1, 0, 1),
    conv("depthwise 3x3", [8, 64, 56, 64, 3], 1, 1, 64),
];

/// A kernel over a `(rows, cols)` matrix whose floor is bandwidth.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Matrix {
    pub name: &'static str,
    pub rows: usize,
    pub cols: usize,
}

const fn matrix(name: &'static str, rows: usize, cols: usize) -> Matrix {
    Matrix { name, rows, cols }
}

/// Rows for softmax, layer normalisation and cross-entropy: a classifier's, an image model's, a language model's.
pub const ROWS: &[Matrix] = &[
    matrix("64x10", 64, 10),
    matrix("4096x100", 4096, 100),
    matrix("4096x512", 4096, 512),
    matrix("4096x1000", 4096, 1000),
    matrix("4096x1024", 4096, 1024),
];

/// Sums over the first axis: a weight's gradient, a bias's, a long narrow one.
pub const COLUMNS: &[Matrix] = &[
    matrix("4096x1024", 4096, 1024),
    matrix("128x512", 128, 512),
    matrix("200000x10", 200_000, 10),
];

/// Elements of element-wise cases.
pub const ELEMENTS: &[usize] = &[8192, 1 << 20];

struct Triad<'a>(&'a [f32], &'a [f32], *mut f32);
impl Kernel<f32> for Triad<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        let Triad(a, b, out) = self;
        // SAFETY: out has as many elements as a and b, a multiple of 16, and is aligned to 64 bytes.
        unsafe {
            let half = S::splat(0.5);
            for i in (0..a.len()).step_by(S::LANES) {
                let v = S::fma(half, S::load(a.as_ptr().add(i)), S::load(b.as_ptr().add(i)));
                S::stream(out.add(i), v);
            }
            S::fence();
        }
    }
}

/// GB/s of all threads on `out = a / 2 + b` far beyond the caches, with stores that go past them: the best of some runs.
pub fn bandwidth(isa: Isa) -> f64 {
    const N: usize = 8 << 20;
    const PART: usize = 16 << 10;
    let (a, b) = (vec![1f32; N], vec![2f32; N]);
    let mut out = vec![0f32; N + 16];
    let start = out.as_ptr().align_offset(64);
    let to = &SharedMut(out[start..].as_mut_ptr());
    let bytes = 3.0 * 4.0 * N as f64;
    let cost = Cost { flops: 0.0, bytes };
    let best = (0..8)
        .map(|_| {
            let start = Instant::now();
            for_each_chunk(N, PART, cost, &|r| {
                let (a, b) = (&a[r.clone()], &b[r.clone()]);
                dispatch_on(isa, Triad(a, b, to.0.wrapping_add(r.start)));
            });
            start.elapsed()
        })
        .min()
        .unwrap_or(Duration::MAX);
    bytes / best.as_secs_f64() / 1e9
}

/// Deterministic numbers in [-1, 1).
pub fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut s = seed.wrapping_mul(0x9e37_79b9) | 1;
    (0..len)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 17;
            s ^= s << 5;
            (s >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

struct Fma(u64);
impl Kernel<f32> for Fma {
    type Out = f32;
    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) -> f32 {
        // SAFETY: registers only.
        unsafe {
            let mut acc = [S::splat(0.5); 12];
            let (x, y) = (S::splat(0.999), S::splat(0.001));
            for _ in 0..self.0 {
                for a in &mut acc {
                    *a = S::fma(*a, x, y);
                }
            }
            let mut sum = S::zero();
            for a in acc {
                sum = S::add(sum, a);
            }
            S::reduce_add(sum)
        }
    }
}

/// Lanes of f32 on one instruction set.
fn lanes(isa: Isa) -> f64 {
    match isa {
        Isa::Scalar => <<f32 as Real>::Scalar as Simd>::LANES as f64,
        Isa::Avx2 => <<f32 as Real>::Avx2 as Simd>::LANES as f64,
        Isa::Avx512 => <<f32 as Real>::Avx512 as Simd>::LANES as f64,
    }
}

/// GFLOP/s of one core on independent fused multiply-adds in registers: the best of some short runs. What else runs on the
/// machine moves it, so it is measured next to every case.
pub fn peak_gflops(isa: Isa) -> f64 {
    const STEPS: u64 = 20_000;
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(dispatch_on(isa, Fma(std::hint::black_box(STEPS))));
            start.elapsed()
        })
        .min()
        .unwrap_or(Duration::MAX);
    STEPS as f64 * 12.0 * lanes(isa) * 2.0 / best.as_secs_f64() / 1e9
}

/// Runs `f` for about 0.2 s, alternating with the peak loop, and prints the best GFLOP/s, the median time and the share of
/// `threads` cores' peak.
pub fn report(name: &str, flops: f64, threads: usize, isa: Isa, mut f: impl FnMut()) {
    let (mut times, mut peak) = (Vec::new(), 0f64);
    f();
    for _ in 0..4 {
        peak = peak.max(peak_gflops(isa));
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            let one = Instant::now();
            f();
            times.push(one.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[times.len() / 2]);
    let rate = flops / best / 1e9;
    println!(
        "{name:<32} {:>6} {threads} thread(s): median {:>9.1} us, best {:>9.1} us, {rate:>7.1} GFLOP/s = {:>5.1} % of {threads} x {peak:.0}",
        isa.name(),
        median * 1e6,
        best * 1e6,
        100.0 * rate / (peak * threads as f64),
    );
}
