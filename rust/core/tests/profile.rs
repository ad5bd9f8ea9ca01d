//! Where the time of a LeNet training step goes. No check, a measurement:
//! `cargo test -p corten-core --profile fast --test profile -- --ignored --nocapture`
mod common;

use std::time::Instant;

use common::{Trainer, classes, parameter, tensor};
use corten_core::ops::{self, Activation, Padding, Reduction};
use corten_core::{Device, Result, Tensor};
use corten_kernels::parallel;

const BATCH: usize = 64;

/// Median time of `f` in microseconds.
fn median(mut f: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..60)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn parameters() -> Vec<Tensor> {
    let shapes: [&[usize]; 10] = [
        &[6, 1, 5, 5],
        &[6],
        &[16, 6, 5, 5],
        &[16],
        &[120, 400],
        &[120],
        &[84, 120],
        &[84],
        &[10, 84],
        &[10],
    ];
    let each = shapes.iter().zip(1..);
    each.map(|(shape, seed)| parameter::<f32>(Device::Cpu, shape, seed))
        .collect()
}

type Layer = (&'static str, fn(&[Tensor], &Tensor) -> Result<Tensor>);

/// LeNet-5 on 28x28 images, ReLU in every hidden layer.
const LAYERS: [Layer; 8] = [
    ("conv1 1->6 5x5 same, relu", |p, x| {
        let relu = Activation::Relu;
        ops::conv2d(
            x,
            &p[0],
            Some(&p[1]),
            [1, 1],
            Padding::Same,
            [1, 1],
            1,
            relu,
        )
    }),
    ("max pool 2x2 (28)", |_, x| {
        ops::max_pool2d(x, [2, 2], None, [0, 0], [1, 1], false)
    }),
    ("conv2 6->16 5x5, relu", |p, x| {
        let relu = Activation::Relu;
        ops::conv2d(
            x,
            &p[2],
            Some(&p[3]),
            [1, 1],
            Padding::Valid,
            [1, 1],
            1,
            relu,
        )
    }),
    ("max pool 2x2 (10)", |_, x| {
        ops::max_pool2d(x, [2, 2], None, [0, 0], [1, 1], false)
    }),
    ("flatten", |_, x| ops::flatten(x, 1, -1)),
    ("linear 400->120, relu", |p, x| {
        ops::linear(x, &p[4], Some(&p[5]), Activation::Relu)
    }),
    ("linear 120->84, relu", |p, x| {
        ops::linear(x, &p[6], Some(&p[7]), Activation::Relu)
    }),
    ("linear 84->10", |p, x| {
        ops::linear(x, &p[8], Some(&p[9]), Activation::None)
    }),
];

#[test]
#[ignore = "a measurement, not a check"]
fn lenet_step() {
    for threads in [1, 2] {
        parallel::set_num_threads(threads);
        println!("\n{threads} thread(s), batch {BATCH}, microseconds:");
        println!("{:<28}{:>9}{:>9}", "", "forward", "backward");
        let p = parameters();
        let image = tensor::<f32>(Device::Cpu, &[BATCH, 1, 28, 28], 1.0, 100);
        let target = classes(Device::Cpu, BATCH);
        let mut x = image.clone();
        let (mut forward_sum, mut backward_sum) = (0.0, 0.0);
        // Backward includes adding to the gradients that are there already, which a step after zero_grad does not.
        let mut row = |name: &str, x: &Tensor, f: &dyn Fn(&Tensor) -> Tensor| {
            let y = f(x);
            let g = ops::ones_like(&y, None).unwrap();
            let forward = median(|| drop(f(x)));
            let y = f(x);
            let backward = median(|| y.backward(Some(&g), true, false).unwrap());
            println!("{name:<28}{forward:>9.1}{backward:>9.1}");
            forward_sum += forward;
            backward_sum += backward;
            y
        };
        for (name, layer) in LAYERS {
            let y = row(name, &x, &|x| layer(&p, x).unwrap());
            // The next layer alone: a leaf that wants a gradient, as its input does inside the net.
            x = y.detach().to_leaf(true).unwrap();
        }
        row("cross entropy", &x, &|x| {
            ops::cross_entropy(x, &target, Reduction::Mean).unwrap()
        });
        println!(
            "{:<28}{forward_sum:>9.1}{backward_sum:>9.1}",
            "sum of the parts"
        );

        let net = |p: &[Tensor]| {
            let logits = LAYERS
                .iter()
                .try_fold(image.clone(), |x, (_, layer)| layer(p, &x));
            ops::cross_entropy(&logits.unwrap(), &target, Reduction::Mean).unwrap()
        };
        let mut trainer = Trainer::new(p);
        let (mut forward, mut backward, mut step) = (vec![], vec![], vec![]);
        let whole = median(|| {
            trainer.zero_grad();
            let t0 = Instant::now();
            let loss = net(&trainer.params);
            let t1 = Instant::now();
            loss.backward(None, false, false).unwrap();
            let t2 = Instant::now();
            trainer.adam().unwrap();
            let t3 = Instant::now();
            forward.push((t1 - t0).as_secs_f64() * 1e6);
            backward.push((t2 - t1).as_secs_f64() * 1e6);
            step.push((t3 - t2).as_secs_f64() * 1e6);
        });
        for times in [&mut forward, &mut backward, &mut step] {
            times.sort_by(f64::total_cmp);
        }
        println!(
            "{:<28}{:>9.1}{:>9.1}",
            "in one graph", forward[30], backward[30]
        );
        println!("Adam {:.1}; whole step {whole:.1}", step[30]);
        let small = [
            tensor::<f32>(Device::Cpu, &[8], 1.0, 1),
            parameter::<f32>(Device::Cpu, &[8], 2),
        ];
        let many = median(|| {
            for _ in 0..1000 {
                std::hint::black_box(ops::add(&small[0], &small[0]).unwrap());
            }
        });
        let recorded = median(|| {
            for _ in 0..1000 {
                std::hint::black_box(ops::add(&small[0], &small[1]).unwrap());
            }
        });
        println!(
            "a + b of 8 floats: {:.0} ns, recorded {:.0} ns",
            many, recorded
        );
    }
}
