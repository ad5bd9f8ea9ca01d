//! Whole training steps: both devices agree, nothing is copied that need not be, and no thread count changes a bit.
//! The tests share the process-wide generator, thread count and copy counter, so they take turns.
mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Net, Trainer, bits, classes};
use corten_core::dtype::Element;
use corten_core::{Device, Tensor, ops, storage};
use corten_kernels::parallel;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trains for `steps` steps; gives the losses and the parameters.
fn train<T: Element>(
    net: Net,
    device: Device,
    batch: usize,
    steps: usize,
) -> (Vec<f64>, Vec<Tensor>) {
    ops::manual_seed(42);
    let mut trainer = Trainer::new(net.parameters::<T>(device));
    let (x, target) = (net.input::<T>(device, batch), classes(device, batch));
    let mut losses = Vec::new();
    for _ in 0..steps {
        trainer.zero_grad();
        let loss = net.loss(&trainer.params, &x, &target).unwrap();
        losses.push(loss.item().unwrap().to_f64());
        loss.backward(None, false, false).unwrap();
        trainer.adam().unwrap();
    }
    (losses, trainer.params)
}

#[test]
fn both_devices_train_to_the_same_parameters() {
    let _turn = turn();
    for net in [Net::Mlp, Net::LeNet] {
        let (fast, p) = train::<f64>(net, Device::Cpu, 8, 5);
        let (slow, q) = train::<f64>(net, Device::Reference, 8, 5);
        for (a, b) in fast.iter().zip(&slow) {
            assert!((a - b).abs() < 1e-9, "{net:?}: loss {a} and {b}");
        }
        for (a, b) in p.iter().zip(&q) {
            let (a, b) = (a.to_vec::<f64>().unwrap(), b.to_vec::<f64>().unwrap());
            for (a, b) in a.iter().zip(&b) {
                // Adam divides by the root of the second moment, which magnifies rounding of tiny gradients.
                assert!((a - b).abs() < 1e-6, "{net:?}: {a} and {b}");
            }
        }
    }
}

#[test]
fn training_lowers_the_loss_in_single_precision() {
    let _turn = turn();
    for device in [Device::Cpu, Device::Reference] {
        for net in [Net::Mlp, Net::LeNet] {
            let (losses, _) = train::<f32>(net, device, 8, 60);
            // Dropout makes single losses jump: compare means.
            let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
            let (first, last) = (mean(&losses[..5]), mean(&losses[55..]));
            assert!(
                last < 0.7 * first,
                "{net:?} on {device}: from {first} to {last}: {losses:?}"
            );
        }
    }
}

#[test]
fn a_training_step_copies_no_parameter() {
    let _turn = turn();
    for net in [Net::Mlp, Net::LeNet] {
        let before = storage::copies();
        train::<f32>(net, Device::Cpu, 8, 3);
        assert_eq!(storage::copies(), before, "{net:?}");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let _turn = turn();
    let before = parallel::num_threads();
    parallel::set_serial_below(Some(0.0));
    for net in [Net::Mlp, Net::LeNet] {
        let run = |threads: usize| {
            parallel::set_num_threads(threads);
            let (losses, params) = train::<f32>(net, Device::Cpu, 33, 4);
            (
                losses.iter().map(|l| l.to_bits()).collect::<Vec<u64>>(),
                bits(&params),
            )
        };
        let one = run(1);
        for threads in [2, 3, 4, 8] {
            parallel::reset_worked();
            assert!(
                run(threads) == one,
                "{net:?}: {threads} threads change the result"
            );
            assert!(
                parallel::worked() > 1,
                "{net:?}: only one of {threads} threads worked"
            );
        }
        assert!(run(1) == one, "{net:?}: a second run differs");
    }
    parallel::set_serial_below(None);
    parallel::set_num_threads(before);
}
