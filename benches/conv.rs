//! `cargo bench -p corten-benches --bench conv`: first a table in % of the FMA peak per instruction set, then criterion's
//! statistics for the default one. `CORTEN_TABLE=1` stops after the table, `CORTEN_TABLE=avx2,scalar` also leaves the
//! other instruction sets out.
use corten_benches::{convolutions, numbers, report};
use corten_kernels::conv::{Conv2d, conv2d, conv2d_dw, conv2d_dx};
use corten_kernels::gemm::Activation;
use corten_kernels::parallel::{num_threads, set_num_threads};
use corten_kernels::simd::{available, isa, with_isa};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Of one pass.
fn flops(p: &Conv2d) -> f64 {
    2.0 * (p.n * p.o * p.oh * p.ow * (p.c / p.groups) * p.kernel[0] * p.kernel[1]) as f64
}

/// What it is called, and how to run it.
type Pass = (&'static str, Box<dyn FnMut()>);

/// The three passes of one case.
fn passes(p: &Conv2d) -> [Pass; 3] {
    let p = *p;
    let sizes = [
        p.n * p.c * p.h * p.w,
        p.n * p.o * p.oh * p.ow,
        p.o * p.c / p.groups * p.kernel[0] * p.kernel[1],
    ];
    let [x, dy, w] = [
        numbers(sizes[0], 1),
        numbers(sizes[1], 2),
        numbers(sizes[2], 3),
    ];
    let (x1, dy1, w1) = (x.clone(), dy.clone(), w.clone());
    let bias = numbers(p.o, 4);
    let (mut y, mut dx, mut dw, mut db) = (dy.clone(), x.clone(), w.clone(), bias.clone());
    [
        (
            "y",
            Box::new(move || conv2d(&p, &x, &w, Some(&bias), Activation::Relu, &mut y)),
        ),
        ("dx", Box::new(move || conv2d_dx(&p, &dy, &w1, &mut dx))),
        (
            "dw",
            Box::new(move || conv2d_dw(&p, &x1, &dy1, Some(&mut dw), Some(&mut db))),
        ),
    ]
}

fn table() {
    let all = num_threads();
    let filter = std::env::var("CORTEN_TABLE").ok().filter(|f| f != "1");
    for threads in [1, all] {
        set_num_threads(threads);
        for isa in available().filter(|i| filter.as_deref().is_none_or(|f| f.contains(i.name()))) {
            for (name, p) in convolutions() {
                for (pass, f) in passes(&p) {
                    let name = format!("{name} {pass}");
                    with_isa(isa, || report(&name, flops(&p), threads, isa, f));
                }
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
    let mut group = criterion.benchmark_group(format!("conv {}", isa().name()));
    for (name, p) in convolutions() {
        group.throughput(Throughput::Elements(flops(&p) as u64));
        for (pass, mut f) in passes(&p) {
            group.bench_function(format!("{name} {pass}"), |b| b.iter(&mut f));
        }
    }
    group.finish();
}

criterion_group! {
    name = convs;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1));
    targets = bench
}
criterion_main!(convs);
