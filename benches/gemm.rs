//! `cargo bench -p corten-benches --bench gemm`: first a table in % of the FMA peak per instruction set, then criterion's
//! statistics for the default one. `CORTEN_TABLE=1` stops after the table, `CORTEN_TABLE=avx2,scalar`
//! also leaves the other instruction sets out.
use corten_benches::{Gemm, numbers, products, report};
use corten_kernels::gemm::{Activation, Epilogue, Mat, gemm, gemm_batched, linear_backward};
use corten_kernels::parallel::{num_threads, set_num_threads};
use corten_kernels::simd::{available, isa, with_isa};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn flops(g: &Gemm) -> f64 {
    2.0 * (g.batch * g.m * g.n * g.k) as f64
}

fn case(g: &Gemm) -> impl FnMut() + use<> {
    let g = g.clone();
    let (a, b) = (
        numbers(g.batch * g.m * g.k, 1),
        numbers(g.batch * g.k * g.n, 2),
    );
    let bias = numbers(g.n, 3);
    let mut c = vec![0.0f32; g.batch * g.m * g.n];
    let offsets =
        |each: usize| -> Vec<isize> { (0..g.batch).map(|i| (i * each) as isize).collect() };
    let (a_off, b_off) = (offsets(g.m * g.k), offsets(g.k * g.n));
    move || {
        let (rs, cs) = if g.transposed { (1, g.k) } else { (g.n, 1) };
        let a = Mat {
            data: &a,
            offset: 0,
            rs: g.k as isize,
            cs: 1,
        };
        let b = Mat {
            data: &b,
            offset: 0,
            rs: rs as isize,
            cs: cs as isize,
        };
        if g.batch > 1 {
            return gemm_batched(g.m, g.n, g.k, a, &a_off, b, &b_off, &mut c);
        }
        let epilogue = Epilogue {
            bias: g.transposed.then_some(&bias[..]),
            act: if g.transposed {
                Activation::Relu
            } else {
                Activation::None
            },
            ..Epilogue::default()
        };
        gemm(g.m, g.n, g.k, a, b, &mut c, epilogue);
    }
}

fn backward(m: usize, n: usize, k: usize) -> impl FnMut() {
    let (x, w, dz) = (numbers(m * k, 1), numbers(n * k, 2), numbers(m * n, 3));
    let (mut dx, mut dw, mut db) = (vec![0.0; m * k], vec![0.0; n * k], vec![0.0; n]);
    move || {
        linear_backward(
            m,
            n,
            k,
            &x,
            &w,
            &dz,
            Some(&mut dx),
            Some(&mut dw),
            Some(&mut db),
        )
    }
}

fn table() {
    let all = num_threads();
    let filter = std::env::var("CORTEN_TABLE").ok().filter(|f| f != "1");
    for threads in [1, all] {
        set_num_threads(threads);
        for isa in available().filter(|i| filter.as_deref().is_none_or(|f| f.contains(i.name()))) {
            for g in products() {
                with_isa(isa, || report(&g.name, flops(&g), threads, isa, case(&g)));
            }
            for g in products().iter().filter(|g| g.transposed) {
                let (m, n, k) = (g.m, g.n, g.k);
                let name = format!("{} backward", g.name);
                with_isa(isa, || {
                    report(
                        &name,
                        4.0 * (m * n * k) as f64,
                        threads,
                        isa,
                        backward(m, n, k),
                    )
                });
            }
        }
    }
    set_num_threads(all);
}

fn bench(criterion: &mut Criterion) {
    table();
    if std::env::var_os("CORTEN_TABLE").is_some() {
        return;
    }
    let mut group = criterion.benchmark_group(format!("gemm {}", isa().name()));
    for g in products() {
        group.throughput(Throughput::Elements(flops(&g) as u64));
        let mut f = case(&g);
        group.bench_function(&g.name, |b| b.iter(&mut f));
    }
    group.finish();
}

criterion_group! {
    name = gemms;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1));
    targets = bench
}
criterion_main!(gemms);
