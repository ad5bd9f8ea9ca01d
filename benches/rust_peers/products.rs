//! `cargo bench -p corten-rust-peers`: the products of `workloads.json` by corten and by the crates `gemm` and `matrixmultiply`, in
//! turns, on one thread and on all. Before a product is timed the three have to agree on it. A ratio above 1 means that corten is
//! faster. `CORTEN_TABLE=matmul,one` leaves other cases out.
use corten_benches::{Gemm, numbers, products};
use corten_kernels::gemm::{Epilogue, Mat, gemm as corten};
use corten_kernels::parallel::{num_threads, set_num_threads};
use std::time::{Duration, Instant};

/// Rounds of turns.
const ROUNDS: usize = 7;
/// A turn.
const TURN: Duration = Duration::from_millis(40);

/// A product's operands: a (m, k) dense; b (k, n), or stored (n, k).
struct Operands {
    m: usize,
    n: usize,
    k: usize,
    b_strides: [isize; 2],
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Operands {
    fn new(g: &Gemm) -> Self {
        let Gemm { m, n, k, .. } = *g;
        Operands {
            m,
            n,
            k,
            b_strides: if g.transposed {
                [1, k as isize]
            } else {
                [n as isize, 1]
            },
            a: numbers(m * k, 1),
            b: numbers(k * n, 2),
        }
    }

    fn corten(&self, c: &mut [f32]) {
        let [rs, cs] = self.b_strides;
        let a = Mat {
            data: &self.a,
            offset: 0,
            rs: self.k as isize,
            cs: 1,
        };
        let b = Mat {
            data: &self.b,
            offset: 0,
            rs,
            cs,
        };
        corten(self.m, self.n, self.k, a, b, c, Epilogue::default());
    }

    fn gemm(&self, c: &mut [f32], threads: usize) {
        let (m, n, k) = (self.m, self.n, self.k);
        let [rs, cs] = self.b_strides;
        let threads = match threads {
            1 => gemm::Parallelism::None,
            all => gemm::Parallelism::Rayon(all),
        };
        assert!(self.a.len() == m * k && self.b.len() == k * n && c.len() == m * n);
        // SAFETY: the strides are those of dense matrices of these sizes, whose lengths were checked, and c overlaps neither.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                false,
                self.a.as_ptr(),
                1,
                k as isize,
                self.b.as_ptr(),
                cs,
                rs,
                0.0,
                1.0,
                false,
                false,
                false,
                threads,
            );
        }
    }

    fn matrixmultiply(&self, c: &mut [f32]) {
        let (m, n, k) = (self.m, self.n, self.k);
        let [rs, cs] = self.b_strides;
        assert!(self.a.len() == m * k && self.b.len() == k * n && c.len() == m * n);
        // SAFETY: as above.
        unsafe {
            matrixmultiply::sgemm(
                m,
                k,
                n,
                1.0,
                self.a.as_ptr(),
                k as isize,
                1,
                self.b.as_ptr(),
                rs,
                cs,
                0.0,
                c.as_mut_ptr(),
                n as isize,
                1,
            );
        }
    }
}

/// Panics unless the results differ by no more than roundings of sums of k products of numbers below 1.
fn agree(name: &str, k: usize, [one, other]: [&[f32]; 2]) {
    let bound = 2.0 * (k as f32 + 2.0) * f32::EPSILON * k as f32;
    for (x, y) in one.iter().zip(other) {
        assert!((x - y).abs() <= bound, "{name}: {x} and {y}");
    }
}

/// A library and its product.
type Peer<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// Median seconds of each, in turns.
fn times(all: &mut [Peer<'_>]) -> Vec<f64> {
    let mut times = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for ((_, f), times) in all.iter_mut().zip(&mut times) {
            f();
            let (start, mut runs) = (Instant::now(), 0);
            while start.elapsed() < TURN {
                f();
                runs += 1;
            }
            times.push(start.elapsed().as_secs_f64() / f64::from(runs));
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    times.iter_mut().map(median).collect()
}

fn main() {
    let all = num_threads();
    // Four is the most that matrixmultiply takes.
    // SAFETY: no other thread has been started yet that could read the environment.
    unsafe { std::env::set_var("MATMUL_NUM_THREADS", all.min(4).to_string()) };
    let filter = std::env::var("CORTEN_TABLE").ok();
    let wanted = |g: &Gemm| {
        let named = |f: &String| f.split(',').any(|f| g.name.contains(f));
        g.batch == 1 && filter.as_ref().is_none_or(named)
    };
    for g in products().iter().filter(|g| wanted(g)) {
        let x = Operands::new(g);
        let mut c = [0; 3].map(|_| vec![0f32; g.m * g.n]);
        for threads in if all > 1 { vec![1, all] } else { vec![1] } {
            set_num_threads(threads);
            let [ours, of_gemm, of_mm] = &mut c;
            x.corten(ours);
            x.gemm(of_gemm, threads);
            agree(&g.name, g.k, [ours, of_gemm]);
            x.matrixmultiply(of_mm);
            agree(&g.name, g.k, [ours, of_mm]);
            let mut list: Vec<Peer<'_>> = vec![
                ("corten", Box::new(|| x.corten(ours))),
                ("gemm", Box::new(|| x.gemm(of_gemm, threads))),
            ];
            // It takes its number of threads from the environment, once.
            if threads == all {
                list.push(("matrixmultiply", Box::new(|| x.matrixmultiply(of_mm))));
            }
            let times = times(&mut list);
            print!("{:<28} {threads} thread(s):", g.name);
            for ((name, _), t) in list.iter().zip(&times) {
                print!(" {name} {:.1} us ({:.2})", t * 1e6, t / times[0]);
            }
            println!();
        }
    }
    set_num_threads(all);
}
