//! `cargo bench -p corten-benches --bench memory`: the kernels whose floor is bandwidth, not arithmetic: pooling, softmax,
//! loss, normalisation, sums over rows, activations, embeddings, optimizer steps, random numbers; and what a parallel region
//! costs. A table in GB/s and in percent of the machine's bandwidth, which is measured first (what stays in a cache may be
//! faster), next to a copy of the same size; then criterion's statistics. `CORTEN_TABLE=1` stops after the table, `CORTEN_TABLE=max`
//! (or any parts of names, with commas between them) also leaves other cases out.
use corten_benches::{bandwidth, numbers, shapes, workloads};
use corten_kernels::Strided;
use corten_kernels::elementwise::{Binary, Unary, UnaryGrad, binary, unary, unary_backward};
use corten_kernels::index::{gather_rows, scatter_add_rows};
use corten_kernels::loss::{Target, cross_entropy, cross_entropy_backward};
use corten_kernels::norm::{
    batch_norm_apply, batch_norm_backward, batch_norm_stats, layer_norm, layer_norm_backward,
};
use corten_kernels::optim::{Adam, AdamItem, Sgd, SgdItem, adam, sgd};
use corten_kernels::parallel::{Cost, for_each, num_threads, region, set_num_threads};
use corten_kernels::pool::{
    Pool2d, avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward,
};
use corten_kernels::reduce::{Reduce, reduce};
use corten_kernels::simd::isa;
use corten_kernels::softmax::{softmax, softmax_backward};
use corten_kernels::{optim, rng};
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::{Duration, Instant};

/// Name, bytes moved, and the work.
type Case = (String, f64, Box<dyn FnMut()>);

const F32: f64 = 4.0;

fn pools(out: &mut Vec<Case>) {
    let window = |planes, hw: usize, k: usize, s: usize, pad: usize| {
        let o = (hw + 2 * pad - k) / s + 1;
        Pool2d {
            planes,
            h: hw,
            w: hw,
            oh: o,
            ow: o,
            kernel: [k; 2],
            stride: [s; 2],
            pad: [pad; 2],
            dilation: [1; 2],
        }
    };
    for w in workloads(&["max_pool2d"]) {
        let (planes, k) = (w.size("batch") * w.size("channels"), w.size_or("kernel", 2));
        let (stride, pad) = (w.size_or("stride", k), w.size_or("padding", 0));
        let (name, p) = (&w.name, window(planes, w.size("height"), k, stride, pad));
        let (ins, outs) = (p.planes * p.h * p.w, p.planes * p.oh * p.ow);
        let bytes = (ins + outs) as f64 * F32 + outs as f64;
        let (x, dy) = (numbers(ins, 1), numbers(outs, 2));
        let (mut y, mut tap, mut dx) = (dy.clone(), vec![0u8; outs], x.clone());
        max_pool2d(&p, &x, &mut y, &mut tap);
        let (taps, dy2, mut dx2) = (tap.clone(), dy.clone(), dx.clone());
        let (x2, mut y2) = (x.clone(), y.clone());
        let f = Box::new(move || max_pool2d(&p, &x, &mut y, &mut tap));
        out.push((format!("max {name}"), bytes, f));
        let f = Box::new(move || max_pool2d_backward(&p, &taps, &dy, &mut dx));
        out.push((format!("max backward {name}"), bytes, f));
        let f = Box::new(move || avg_pool2d(&p, true, &x2, &mut y2));
        out.push((format!("avg {name}"), bytes, f));
        let f = Box::new(move || avg_pool2d_backward(&p, true, &dy2, &mut dx2));
        out.push((format!("avg backward {name}"), bytes, f));
    }
}

fn rows(out: &mut Vec<Case>) {
    for [rows, cols] in shapes(
        &["softmax", "layer_norm", "cross_entropy"],
        ["rows", "columns"],
    ) {
        let n = rows * cols;
        let (x, dy) = (numbers(n, 1), numbers(n, 2));
        let mut y = aligned(n);
        softmax(false, rows, cols, &x, y.get());
        let (probs, mut dx) = (y.get().to_vec(), aligned(n));
        let (x2, x3, mut dx2) = (x.clone(), x.clone(), aligned(n));
        let bytes = n as f64 * F32;
        let f = Box::new(move || softmax(false, rows, cols, &x, y.get()));
        out.push((format!("softmax {rows}x{cols}"), 2.0 * bytes, f));
        let f = Box::new(move || softmax_backward(false, rows, cols, &probs, &dy, dx.get()));
        out.push((format!("softmax backward {rows}x{cols}"), 3.0 * bytes, f));
        let t: Vec<i64> = (0..rows).map(|r| (r * 7 % cols) as i64).collect();
        let t2 = t.clone();
        let (mut stats, mut loss) = (vec![[0.0; 2]; rows], vec![0.0; rows]);
        cross_entropy(rows, cols, &x2, Target::Index(&t), &mut stats, &mut loss);
        let saved = stats.clone();
        let f = Box::new(move || {
            cross_entropy(rows, cols, &x2, Target::Index(&t), &mut stats, &mut loss);
        });
        out.push((format!("cross entropy {rows}x{cols}"), bytes, f));
        let f = Box::new(move || {
            let t = Target::Index(&t2);
            cross_entropy_backward(rows, cols, &x3, t, &saved, &[1.0], dx2.get());
        });
        out.push((
            format!("cross entropy backward {rows}x{cols}"),
            2.0 * bytes,
            f,
        ));
        let (x, dy, gamma) = (numbers(n, 1), numbers(n, 2), numbers(cols, 3));
        let (x2, gamma2) = (x.clone(), gamma.clone());
        let (mut y, mut mean, mut rstd) = (aligned(n), vec![0.0; rows], vec![1.0; rows]);
        let f = Box::new(move || {
            let g = Some(&gamma[..]);
            layer_norm(
                rows,
                cols,
                true,
                1e-5,
                &x,
                g,
                g,
                y.get(),
                &mut mean,
                &mut rstd,
            );
        });
        out.push((format!("layer norm {rows}x{cols}"), 2.0 * bytes, f));
        let (mean, rstd) = (vec![0.1; rows], vec![1.7; rows]);
        let (mut dx, mut dg, mut db) = (aligned(n), gamma2.clone(), gamma2.clone());
        let f = Box::new(move || {
            let d = [Some(dx.get()), Some(&mut dg[..]), Some(&mut db[..])];
            let [dx, dg, db] = d;
            let g = Some(&gamma2[..]);
            layer_norm_backward(rows, cols, true, &x2, &dy, &mean, &rstd, g, dx, dg, db);
        });
        out.push((format!("layer norm backward {rows}x{cols}"), 3.0 * bytes, f));
    }
}

/// Memory that begins where a vector may, as that of tensors does.
struct Aligned(Vec<f32>, usize);
impl Aligned {
    fn get(&mut self) -> &mut [f32] {
        let n = self.0.len() - 16;
        &mut self.0[self.1..][..n]
    }
}
fn aligned(n: usize) -> Aligned {
    let v = vec![1f32; n + 16];
    let start = v.as_ptr().align_offset(64);
    Aligned(v, start)
}

fn dense(data: &[f32]) -> Strided<'_, f32> {
    Strided {
        data,
        offset: 0,
        strides: &[1],
    }
}

fn elements(out: &mut Vec<Case>) {
    // A few numbers show what a call costs, not the bandwidth.
    let large = |&[n]: &[usize; 1]| n >= 1024;
    for [n] in shapes(&["add", "gelu", "tanh"], ["n"])
        .into_iter()
        .filter(large)
    {
        let bytes = n as f64 * F32;
        let x: Vec<f32> = numbers(n, 1).iter().map(|x| 3.0 * x).collect();
        for op in [
            Unary::Gelu,
            Unary::Tanh,
            Unary::Exp,
            Unary::Silu,
            Unary::Powf(1.7),
        ] {
            let (x, mut y) = (x.clone(), aligned(n));
            let f = Box::new(move || unary(op, &[n], dense(&x), y.get()));
            out.push((format!("{op:?} of {n}"), 2.0 * bytes, f));
        }
        for op in [UnaryGrad::Gelu, UnaryGrad::Tanh, UnaryGrad::Silu] {
            let (x, g, mut y) = (x.clone(), numbers(n, 2), aligned(n));
            let f = Box::new(move || unary_backward(op, &[n], dense(&x), dense(&g), y.get()));
            out.push((format!("{op:?} backward of {n}"), 3.0 * bytes, f));
        }
        let (a, b, mut y) = (x, numbers(n, 2), aligned(n));
        let f = Box::new(move || binary(Binary::Add, &[n], dense(&a), dense(&b), y.get()));
        out.push((format!("add of {n}"), 3.0 * bytes, f));
    }
}

fn columns(out: &mut Vec<Case>) {
    for w in workloads(&["sum_axis0"]) {
        let (name, rows, cols) = (w.name.clone(), w.size("rows"), w.size("columns"));
        let (x, mut y) = (numbers(rows * cols, 1), vec![0.0; cols]);
        let bytes = x.len() as f64 * F32;
        let f = Box::new(move || {
            let x = Strided {
                data: &x,
                offset: 0,
                strides: &[1, cols as isize],
            };
            reduce(Reduce::Sum, &[cols], &[rows], x, &mut y);
        });
        out.push((name, bytes, f));
    }
}

fn embeddings(out: &mut Vec<Case>) {
    for case in workloads(&["embedding"]) {
        let (v, d, n) = (case.size("words"), case.size("size"), case.size("rows"));
        let bytes = (n * d) as f64 * F32;
        let at: Vec<i64> = (0..n).map(|i| (i * 7919 % v) as i64).collect();
        let (w, at2, mut y) = (numbers(v * d, 1), at.clone(), aligned(n * d));
        let f = Box::new(move || gather_rows(d, &w, &at, y.get()));
        out.push((case.name.clone(), 2.0 * bytes, f));
        let (g, mut dw) = (numbers(n * d, 1), aligned(v * d));
        let f = Box::new(move || scatter_add_rows(d, &g, &at2, dw.get()));
        let written = (v * d) as f64 * F32;
        out.push((format!("{} backward", case.name), bytes + written, f));
    }
}

fn norms(out: &mut Vec<Case>) {
    for w in workloads(&["batch_norm2d"]) {
        let (n, c, s) = (w.size("batch"), w.size("channels"), w.size("height").pow(2));
        let name = &w.name;
        let len = n * c * s;
        let bytes = len as f64 * F32;
        let (x, dy, gamma) = (numbers(len, 1), numbers(len, 2), numbers(c, 3));
        let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
        let (x2, gamma2) = (x.clone(), gamma.clone());
        let mut y = x.clone();
        let f = Box::new(move || {
            batch_norm_stats(n, c, s, &x2, &mut mean, &mut var);
            batch_norm_apply(
                n,
                c,
                s,
                &x2,
                &mean,
                &var,
                Some(&gamma2),
                Some(&gamma2),
                &mut y,
            );
        });
        out.push((name.clone(), 3.0 * bytes, f));
        let (mean, rstd) = (vec![0.0; c], vec![1.7; c]);
        let (mut dx, mut dg, mut db) = (x.clone(), gamma.clone(), gamma.clone());
        let f = Box::new(move || {
            let (dx, dg, db) = (Some(&mut dx[..]), Some(&mut dg[..]), Some(&mut db[..]));
            let g = Some(&gamma[..]);
            batch_norm_backward(n, c, s, &x, &dy, &mean, &rstd, g, true, dx, dg, db);
        });
        out.push((format!("{name} backward"), 5.0 * bytes, f));
    }
}

fn steps(out: &mut Vec<Case>) {
    // LeNet's parameters, and larger ones.
    let lenet = vec![150, 6, 2400, 16, 30720, 120, 10080, 84, 840, 10];
    let mut nets = vec![("lenet".to_owned(), lenet)];
    for w in workloads(&["adam"]) {
        let mut sizes = vec![w.size("matrix"); w.size("matrices")];
        sizes.resize(sizes.len() + w.size("vectors"), w.size("vector"));
        nets.push((w.name, sizes));
    }
    for (name, sizes) in nets {
        let total: usize = sizes.iter().sum();
        let make = |seed| -> Vec<Vec<f32>> { sizes.iter().map(|n| numbers(*n, seed)).collect() };
        let (mut p, g, mut m) = (make(1), make(2), make(3));
        let h = Sgd {
            lr: 1e-9,
            momentum: 0.9,
            dampening: 0.0,
            weight_decay: 1e-4,
            nesterov: false,
            maximize: false,
            first: false,
        };
        let f = Box::new(move || {
            let parts = p.iter_mut().zip(&g).zip(&mut m);
            let mut items: Vec<_> = parts
                .map(|((p, g), m)| SgdItem {
                    p,
                    g,
                    momentum: Some(m),
                })
                .collect();
            sgd(&mut items, &h);
        });
        out.push((format!("SGD with momentum {name}"), 20.0 * total as f64, f));
        let (mut p, g, mut m, mut v) = (make(1), make(2), make(3), make(4));
        v.iter_mut().flatten().for_each(|v| *v = v.abs());
        let h = Adam {
            lr: 1e-9,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            maximize: false,
            step: 10,
        };
        let f = Box::new(move || {
            let parts = p.iter_mut().zip(&g).zip(&mut m).zip(&mut v);
            let mut items: Vec<_> = parts
                .map(|(((p, g), m), v)| AdamItem { p, g, m, v })
                .collect();
            optim::adam(&mut items, &h);
        });
        out.push((format!("Adam {name}"), 28.0 * total as f64, f));
    }
    // One that stays in the second-level cache shows the arithmetic.
    let (mut p, g, mut m, mut v) = (
        numbers(8192, 1),
        numbers(8192, 2),
        numbers(8192, 3),
        vec![1.0; 8192],
    );
    let h = Adam {
        lr: 1e-9,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 1e-2,
        decoupled: true,
        maximize: false,
        step: 10,
    };
    let f = Box::new(move || {
        let (p, g, m, v) = (&mut p[..], &g[..], &mut m[..], &mut v[..]);
        adam(&mut [AdamItem { p, g, m, v }], &h);
    });
    out.push(("AdamW 8192".into(), 28.0 * 8192.0, f));
}

fn random(out: &mut Vec<Case>) {
    let n = 1 << 20;
    let bytes = n as f64 * F32;
    let (mut a, mut b, mut c) = (numbers(n, 1), numbers(n, 1), numbers(n, 1));
    let x = numbers(n, 2);
    let f = Box::new(move || rng::uniform(1, 2, &mut a));
    out.push(("uniform 1M".into(), bytes, f));
    let f = Box::new(move || rng::normal(1, 2, &mut b));
    out.push(("normal 1M".into(), bytes, f));
    let f = Box::new(move || rng::dropout(0.5, 1, 2, &x, &mut c));
    out.push(("dropout 1M".into(), 2.0 * bytes, f));
}

fn regions(out: &mut Vec<Case>) {
    // Cost that says "worth sharing", and no work: what remains is the hand-over.
    let cost = Cost {
        flops: 1e7,
        bytes: 0.0,
    };
    let f = Box::new(move || for_each(2, cost, &|_| {}));
    out.push(("for_each, no work".into(), 0.0, f));
    let f = Box::new(move || region(cost, &|t| t.barrier()));
    out.push(("region with a barrier, no work".into(), 0.0, f));
}

fn cases() -> Vec<Case> {
    let mut out: Vec<Case> = Vec::new();
    for n in [1 << 14, 1 << 18, 1 << 22] {
        let (x, mut y) = (numbers(n, 1), numbers(n, 2));
        let f = Box::new(move || y.copy_from_slice(std::hint::black_box(&x)));
        out.push((format!("copy of {n} (yardstick)"), 2.0 * F32 * n as f64, f));
    }
    regions(&mut out);
    pools(&mut out);
    elements(&mut out);
    columns(&mut out);
    rows(&mut out);
    embeddings(&mut out);
    norms(&mut out);
    steps(&mut out);
    random(&mut out);
    out
}

fn table() {
    let all = num_threads();
    let filter = std::env::var("CORTEN_TABLE").ok().filter(|f| f != "1");
    for threads in [1, all] {
        set_num_threads(threads);
        let whole = bandwidth(isa());
        for (name, bytes, mut f) in cases() {
            if filter
                .as_deref()
                .is_some_and(|f| !f.split(',').any(|f| name.contains(f)))
            {
                continue;
            }
            let mut times = Vec::new();
            f();
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(60) {
                let one = Instant::now();
                f();
                times.push(one.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            let (best, median) = (times[0], times[times.len() / 2]);
            let rate = bytes / best / 1e9;
            println!(
                "{name:<40} {threads} thread(s): median {:>9.2} us, best {:>9.2} us, {rate:>6.1} GB/s = {:>5.1} % of {whole:.1}",
                median * 1e6,
                best * 1e6,
                100.0 * rate / whole,
            );
        }
    }
    set_num_threads(all);
}

fn memory(c: &mut Criterion) {
    table();
    if std::env::var_os("CORTEN_TABLE").is_some() {
        return;
    }
    for (name, _, mut f) in cases() {
        c.bench_function(&name, |b| b.iter(&mut f));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    targets = memory
}
criterion_main!(benches);
