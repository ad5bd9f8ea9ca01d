//! The named workloads of `workloads.json`, which `compare.py` reads too, and the yardstick that their figures are measured against.
use corten_kernels::Real;
use corten_kernels::conv::Conv2d;
use corten_kernels::parallel::{Cost, SharedMut, for_each_chunk};
use corten_kernels::simd::{Isa, Kernel, Simd, dispatch_on};
use serde_json::{Map, Value};
use std::time::{Duration, Instant};

/// A case of `workloads.json`.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What it is called in reports.
    pub name: String,
    kind: String,
    sizes: Map<String, Value>,
}

impl Workload {
    /// A size that every case of this kind has.
    ///
    /// # Panics
    /// If this one has not.
    pub fn size(&self, key: &str) -> usize {
        let size = self.sizes.get(key).and_then(Value::as_u64);
        let size = size.unwrap_or_else(|| panic!("{} has no size {key}", self.name));
        usize::try_from(size).expect("a size of this machine")
    }

    /// A size that may be missing.
    pub fn size_or(&self, key: &str, default: usize) -> usize {
        if self.sizes.contains_key(key) {
            self.size(key)
        } else {
            default
        }
    }
}

/// The cases of some kinds, in the order of `workloads.json`.
///
/// # Panics
/// If the file is not what it should be.
pub fn workloads(kinds: &[&str]) -> Vec<Workload> {
    let all: Value = serde_json::from_str(include_str!("workloads.json")).expect("JSON");
    let groups = all.as_object().expect("groups").values();
    let cases = groups.flat_map(|cases| cases.as_array().expect("a list of cases"));
    let cases = cases.map(|case| {
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        Workload {
            name: text("name"),
            kind: text("kind"),
            sizes: case["sizes"].as_object().expect("sizes").clone(),
        }
    });
    cases.filter(|w| kinds.contains(&w.kind.as_str())).collect()
}

/// Distinct sizes of cases of some kinds.
pub fn shapes<const N: usize>(kinds: &[&str], keys: [&str; N]) -> Vec<[usize; N]> {
    let mut shapes: Vec<_> = workloads(kinds)
        .iter()
        .map(|w| keys.map(|key| w.size(key)))
        .collect();
    shapes.sort_unstable();
    shapes.dedup();
    shapes
}

/// A product `(m, k) x (k, n)`, or several; `transposed` is the right operand stored `(n, k)`, as the weight of a linear layer is.
#[derive(Clone, Debug)]
pub struct Gemm {
    /// What the case is called in reports.
    pub name: String,
    /// Products.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// The right operand is stored (n, k).
    pub transposed: bool,
}

/// All products.
pub fn products() -> Vec<Gemm> {
    let products = workloads(&["matmul", "bmm", "linear"]);
    let gemm = |w: Workload| {
        let transposed = w.kind == "linear";
        let keys = if transposed {
            ["batch", "outputs", "inputs"]
        } else {
            ["m", "n", "k"]
        };
        let [m, n, k] = keys.map(|key| w.size(key));
        let batch = if w.kind == "bmm" { w.size("batch") } else { 1 };
        Gemm {
            name: w.name,
            batch,
            m,
            n,
            k,
            transposed,
        }
    };
    products.into_iter().map(gemm).collect()
}

/// All convolutions.
pub fn convolutions() -> Vec<(String, Conv2d)> {
    let convolution = |w: Workload| {
        let flat = w.kind == "conv1d";
        let (k, step) = (w.size("kernel"), w.size_or("stride", 1));
        let dilation = w.size_or("dilation", 1);
        let [height, width] = if flat {
            [1, w.size("length")]
        } else {
            [w.size("height"); 2]
        };
        // Of one dimension they keep the length.
        let pad = w.size_or("padding", if flat { k / 2 } else { 0 });
        let out = |size: usize| (size + 2 * pad - (k - 1) * dilation - 1) / step + 1;
        let rows = |x: usize, one: usize| if flat { one } else { x };
        let p = Conv2d {
            n: w.size("batch"),
            c: w.size("channels"),
            h: height,
            w: width,
            o: w.size("filters"),
            oh: if flat { 1 } else { out(height) },
            ow: out(width),
            kernel: [rows(k, 1), k],
            stride: [rows(step, 1), step],
            pad: [rows(pad, 0), pad],
            dilation: [rows(dilation, 1), dilation],
            groups: w.size_or("groups", 1),
        };
        (w.name, p)
    };
    let convolutions = workloads(&["conv2d", "conv1d"]);
    convolutions.into_iter().map(convolution).collect()
}

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
