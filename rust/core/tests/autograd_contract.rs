//! What the architecture promises about graphs and parameters, seen from outside.
//! The tests share the generator of dropout masks, so they take turns.
mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Net, bits, classes, descend, parameter, tensor};
use corten_core::ops::{self, Activation};
use corten_core::{Device, Error, Tensor};

const DEVICES: [Device; 2] = [Device::Cpu, Device::Reference];

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gradients(params: &[Tensor]) -> Vec<u64> {
    bits(&params.iter().map(|p| p.grad().unwrap()).collect::<Vec<_>>())
}

fn clear(params: &[Tensor]) {
    for p in params {
        p.set_grad(None).unwrap();
    }
}

#[test]
fn a_second_backward_raises_and_names_the_fix() {
    let _turn = turn();
    for device in DEVICES {
        for net in [Net::Mlp, Net::LeNet] {
            let p = net.parameters::<f64>(device);
            let loss = net
                .loss(&p, &net.input::<f64>(device, 3), &classes(device, 3))
                .unwrap();
            loss.backward(None, false, false).unwrap();
            let error = loss.backward(None, false, false).unwrap_err();
            assert!(matches!(error, Error::Graph(_)));
            assert!(error.to_string().contains("retain_graph=True"), "{error}");
        }
    }
}

#[test]
fn a_kept_graph_gives_the_same_gradients_again() {
    let _turn = turn();
    for device in DEVICES {
        for net in [Net::Mlp, Net::LeNet] {
            let p = net.parameters::<f64>(device);
            let loss = net
                .loss(&p, &net.input::<f64>(device, 3), &classes(device, 3))
                .unwrap();
            loss.backward(None, true, false).unwrap();
            let first = gradients(&p);
            clear(&p);
            loss.backward(None, false, false).unwrap();
            assert_eq!(gradients(&p), first);
        }
    }
}

/// Two losses from one forward pass, an optimizer step between their backward passes: the second must see the values that its
/// forward pass saw, as if the step had not happened.
#[test]
fn an_update_between_two_backward_passes_changes_no_gradient() {
    let _turn = turn();
    for device in DEVICES {
        for net in [Net::Mlp, Net::LeNet] {
            let second = |update: bool| {
                ops::manual_seed(1);
                let p = net.parameters::<f64>(device);
                let x = net.input::<f64>(device, 3);
                // Dropout draws once per forward pass: share it.
                let logits = net.forward(&p, &x).unwrap();
                let target = classes(device, 3);
                let a = ops::cross_entropy(&logits, &target, ops::Reduction::Mean).unwrap();
                let b = ops::sum(&ops::square(&logits).unwrap(), None, false, None).unwrap();
                a.backward(None, true, false).unwrap();
                if update {
                    descend(&p, 0.5).unwrap();
                }
                clear(&p);
                b.backward(None, false, false).unwrap();
                gradients(&p)
            };
            assert_eq!(second(true), second(false), "{net:?} on {device}");
        }
    }
}

#[test]
fn an_update_really_happens_under_a_live_graph() {
    let _turn = turn();
    for device in DEVICES {
        let w = parameter::<f64>(device, &[2, 3], 1);
        let x = tensor::<f64>(device, &[4, 3], 1.0, 2);
        let y = ops::linear(&x, &w, None, Activation::None).unwrap();
        let loss = ops::sum(&ops::square(&y).unwrap(), None, false, None).unwrap();
        loss.backward(None, true, false).unwrap();
        let before = w.to_vec::<f64>().unwrap();
        let seen = w.detach();
        descend(std::slice::from_ref(&w), 0.1).unwrap();
        assert_ne!(w.to_vec::<f64>().unwrap(), before);
        assert_eq!(
            seen.to_vec::<f64>().unwrap(),
            before,
            "a detached tensor keeps the old values"
        );
        let fresh = ops::linear(&x, &w, None, Activation::None).unwrap();
        assert_ne!(fresh.to_vec::<f64>().unwrap(), y.to_vec::<f64>().unwrap());
    }
}

#[test]
fn gradients_accumulate_over_batches() {
    let _turn = turn();
    for device in DEVICES {
        let p = Net::Mlp.parameters::<f64>(device);
        let x = Net::Mlp.input::<f64>(device, 4);
        let step = || {
            let y = Net::Mlp.forward(&p, &x).unwrap();
            ops::sum(&y, None, false, None)
                .unwrap()
                .backward(None, false, false)
                .unwrap();
        };
        step();
        let once: Vec<Vec<f64>> = p
            .iter()
            .map(|p| p.grad().unwrap().to_vec().unwrap())
            .collect();
        step();
        for (p, once) in p.iter().zip(once) {
            let twice = p.grad().unwrap().to_vec::<f64>().unwrap();
            assert!(twice.iter().zip(once).all(|(t, o)| *t == 2.0 * o));
        }
    }
}

/// The gradient of a gradient's norm through every layer: by the twins and closed systems against differences.
#[test]
fn a_gradient_penalty_agrees_with_differences() {
    let _turn = turn();
    use corten_core::autograd::{GradOptions, grad};
    for device in DEVICES {
        let w = [
            parameter::<f64>(device, &[2, 1, 3, 3], 1),
            parameter::<f64>(device, &[3, 8], 2),
        ];
        let x = tensor::<f64>(device, &[2, 1, 6, 6], 1.0, 3);
        let target =
            Tensor::from_slice_on(&[2i64, 0], &[2], corten_core::DType::I64, device).unwrap();
        let loss = |w: &[Tensor]| {
            let pad = ops::Padding::Valid;
            let h = ops::conv2d(&x, &w[0], None, [1, 1], pad, [1, 1], 1, Activation::None).unwrap(); // 4x4
            let h = ops::max_pool2d(&ops::tanh(&h).unwrap(), [2, 2], None, [0, 0], [1, 1], false)
                .unwrap();
            let h = ops::linear(
                &ops::reshape(&h, &[2, 8]).unwrap(),
                &w[1],
                None,
                Activation::None,
            )
            .unwrap();
            ops::cross_entropy(&h, &target, ops::Reduction::Mean).unwrap()
        };
        let penalty = |w: &[Tensor], create_graph: bool| {
            let options = GradOptions {
                retain_graph: None,
                create_graph,
                allow_unused: false,
            };
            let g = grad(&[loss(w)], w, &[None], options).unwrap();
            let norm = |g: &Option<Tensor>| {
                ops::sum(
                    &ops::square(g.as_ref().unwrap()).unwrap(),
                    None,
                    false,
                    None,
                )
                .unwrap()
            };
            ops::add(&norm(&g[0]), &norm(&g[1])).unwrap()
        };
        penalty(&w, true).backward(None, false, false).unwrap();
        for (i, w_i) in w.iter().enumerate() {
            let analytic = w_i.grad().unwrap().to_vec::<f64>().unwrap();
            let values = w_i.to_vec::<f64>().unwrap();
            for j in [0, values.len() / 2, values.len() - 1] {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values[j] += by;
                    let mut w = w.clone();
                    w[i] = Tensor::from_slice_on(
                        &values,
                        w_i.shape(),
                        corten_core::DType::F64,
                        device,
                    )
                    .unwrap();
                    w[i].set_requires_grad(true).unwrap();
                    penalty(&w, false).item().unwrap().to_f64()
                };
                let numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!(
                    (analytic[j] - numeric).abs() < 1e-6 * numeric.abs().max(1.0),
                    "{} and {numeric}",
                    analytic[j]
                );
            }
        }
    }
}
