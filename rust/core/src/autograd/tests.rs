//! The contract of the engine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::ops;
use crate::testing::{DEVICES, leaf, numbers};
use crate::{Device, Error, Result, Tensor};

const D: Device = Device::Cpu;

fn grad_of(x: &Tensor) -> Vec<f64> {
    numbers(&x.grad().expect("has a gradient"))
}

#[test]
fn gradients_accumulate_and_are_unbroadcast() {
    for device in DEVICES {
        let x = leaf(&[1.0, 2.0, 3.0], &[3], device);
        let w = leaf(&[2.0, 4.0], &[2, 1], device);
        let y = ops::sum(&ops::multiply(&x, &w).unwrap(), None, false, None).unwrap();
        y.backward(None, true, false).unwrap();
        assert_eq!(grad_of(&x), [6.0, 6.0, 6.0]);
        assert_eq!(grad_of(&w), [6.0, 6.0]);
        assert_eq!(x.grad().unwrap().shape()[..], [3]);
        y.backward(None, false, false).unwrap();
        assert_eq!(grad_of(&x), [12.0, 12.0, 12.0]);
        x.set_grad(None).unwrap();
        assert!(x.grad().is_none());
    }
}

#[test]
fn a_second_backward_through_a_freed_graph_says_how_to_keep_it() {
    let x = leaf(&[2.0], &[1], D);
    let y = ops::exp(&ops::multiply(&x, &x).unwrap()).unwrap();
    y.backward(None, false, false).unwrap();
    let e = y.backward(None, false, false).unwrap_err();
    assert!(
        matches!(&e, Error::Graph(m) if m.text.contains("retain_graph=True")),
        "{e}"
    );
}

#[test]
fn what_cannot_be_differentiated_is_refused() {
    let x = Tensor::from_slice(&[1.0f32, 2.0], &[2]).unwrap();
    assert!(matches!(
        ops::add(&x, 1.0).unwrap().backward(None, false, false),
        Err(Error::Graph(_))
    ));
    x.set_requires_grad(true).unwrap();
    let y = ops::add(&x, 1.0).unwrap();
    assert!(matches!(
        y.backward(None, false, false),
        Err(Error::Shape(_))
    ));
    let i = Tensor::from_slice(&[1i64], &[1]).unwrap();
    assert!(matches!(i.set_requires_grad(true), Err(Error::Dtype(_))));
    assert!(matches!(y.set_requires_grad(false), Err(Error::Graph(_))));
    assert!(matches!(y.assign(&x), Err(Error::Graph(_))));
}

#[test]
fn nothing_is_recorded_without_need() {
    let x = leaf(&[1.0], &[1], D);
    let a = Tensor::from_slice(&[1.0f64], &[1]).unwrap();
    assert!(ops::add(&a, &a).unwrap().grad_fn().is_none());
    {
        let _g = no_grad();
        assert!(!ops::add(&x, &x).unwrap().requires_grad());
    }
    assert_eq!(ops::add(&x, &x).unwrap().grad_fn(), Some("add"));
    assert!(!x.detach().requires_grad());
    assert!(!ops::greater(&x, &a).unwrap().requires_grad());
}

#[test]
fn a_long_chain_needs_no_stack() {
    let work = || {
        let x = leaf(&[1.0], &[1], D);
        let one = Tensor::from_slice(&[1.0f64], &[1]).unwrap();
        let chain = |n| {
            let mut y = x.clone();
            for _ in 0..n {
                y = ops::multiply(&y, &one).unwrap(); // saves its inputs, and so a second path to their nodes
            }
            y
        };
        let y = chain(150_000);
        y.backward(None, false, false).unwrap();
        assert_eq!(grad_of(&x), [1.0]);
        drop(y);
        drop(chain(150_000)); // never walked: everything that was saved is still there
    };
    let builder = std::thread::Builder::new().stack_size(2 << 20);
    builder.spawn(work).unwrap().join().unwrap();
}

#[test]
fn hooks_see_and_replace_the_final_gradient_once() {
    let x = leaf(&[3.0], &[1], D);
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (c, s) = (calls.clone(), seen.clone());
    let handle = x
        .register_hook(Arc::new(move |g: &Tensor| -> Result<Option<Tensor>> {
            c.fetch_add(1, Ordering::SeqCst);
            s.lock().unwrap().push(numbers(g)[0]);
            Ok(Some(ops::multiply(g, 10.0)?))
        }))
        .unwrap();
    let y = ops::multiply(&x, &x).unwrap();
    let z = ops::add(&ops::add(&y, &x).unwrap(), &x).unwrap();
    z.backward(None, true, false).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(*seen.lock().unwrap(), [8.0]);
    assert_eq!(grad_of(&x), [80.0]);
    x.remove_hook(handle);
    x.set_grad(None).unwrap();
    z.backward(None, false, false).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(grad_of(&x), [8.0]);
}

#[test]
fn an_inner_tensor_keeps_its_gradient_and_runs_hooks_when_asked() {
    let x = leaf(&[3.0], &[1], D);
    let y = ops::multiply(&x, &x).unwrap();
    y.retain_grad().unwrap();
    y.register_hook(Arc::new(|g: &Tensor| Ok(Some(ops::multiply(g, 2.0)?))))
        .unwrap();
    let z = ops::multiply(&y, 5.0).unwrap();
    assert!(z.grad().is_none());
    z.backward(None, false, false).unwrap();
    assert_eq!(grad_of(&y), [10.0]); // after the hook
    assert_eq!(grad_of(&x), [60.0]);
    assert!(z.grad().is_none());
}

#[test]
fn a_hook_error_passes_through() {
    let x = leaf(&[3.0], &[1], D);
    let error: Arc<dyn std::error::Error + Send + Sync> = Arc::new(std::fmt::Error);
    x.register_hook(Arc::new(move |_: &Tensor| {
        Err(Error::Foreign(error.clone()))
    }))
    .unwrap();
    let y = ops::multiply(&x, 2.0).unwrap();
    assert!(matches!(
        y.backward(None, false, false),
        Err(Error::Foreign(_))
    ));
}

#[test]
fn grad_prunes_and_leaves_no_trace() {
    let x = leaf(&[2.0], &[1], D);
    let w = leaf(&[3.0], &[1], D);
    let visited = Arc::new(AtomicUsize::new(0));
    let v = visited.clone();
    w.register_hook(Arc::new(move |_: &Tensor| {
        v.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    }))
    .unwrap();
    let h = ops::multiply(&x, &w).unwrap();
    let y = ops::multiply(&h, &h).unwrap();
    let g = grad(
        core::slice::from_ref(&y),
        core::slice::from_ref(&h),
        &[],
        GradOptions {
            retain_graph: Some(true),
            ..Default::default()
        },
    )
    .unwrap();
    assert_eq!(numbers(g[0].as_ref().unwrap()), [12.0]);
    let g = grad(&[y], core::slice::from_ref(&x), &[], GradOptions::default()).unwrap();
    assert_eq!(numbers(g[0].as_ref().unwrap()), [36.0]);
    assert_eq!(visited.load(Ordering::SeqCst), 0);
    assert!(x.grad().is_none() && w.grad().is_none());
    let z = ops::multiply(&x, 2.0).unwrap();
    let unused = grad(
        core::slice::from_ref(&z),
        core::slice::from_ref(&w),
        &[],
        GradOptions {
            retain_graph: Some(true),
            ..Default::default()
        },
    );
    assert!(matches!(unused, Err(Error::Graph(m)) if m.text.contains("allow_unused")));
    let options = GradOptions {
        allow_unused: true,
        ..Default::default()
    };
    assert!(grad(&[z], &[w], &[], options).unwrap()[0].is_none());
}

#[test]
fn third_derivatives() {
    let x = leaf(&[0.7], &[1], D);
    let mut y = ops::sin(&ops::multiply(&x, &x).unwrap()).unwrap();
    for _ in 0..3 {
        let options = GradOptions {
            create_graph: true,
            ..Default::default()
        };
        y = grad(&[y], core::slice::from_ref(&x), &[], options)
            .unwrap()
            .remove(0)
            .unwrap();
    }
    // d3/dx3 sin(x^2) = -12 x sin(x^2) - 8 x^3 cos(x^2)
    let v: f64 = 0.7;
    let expected = -12.0 * v * (v * v).sin() - 8.0 * v.powi(3) * (v * v).cos();
    assert!((numbers(&y)[0] - expected).abs() < 1e-12);
}

#[test]
fn a_twin_gives_the_gradient_of_any_order() {
    // x^3 as a fused operation whose first-order vjp is a formula and whose second order comes from its twin.
    fn cube(x: &Tensor) -> Tensor {
        let _g = no_grad();
        let out = ops::pow(x, 3.0).unwrap().value();
        drop(_g);
        record("cube", &[x], out, |_| {
            let s = Saved::input(x);
            move |cx: &Ctx<'_>, grads: &[Option<Tensor>], needs: &[bool]| {
                let x = s.get(cx);
                if cx.create_graph() {
                    return twin_vjp(&[x], grads, needs, |x| {
                        Ok(vec![ops::multiply(&ops::multiply(&x[0], &x[0])?, &x[0])?])
                    });
                }
                let d = ops::multiply(&ops::multiply(&x, &x)?, 3.0)?;
                Ok(vec![Some(ops::multiply(&d, grads[0].as_ref().unwrap())?)])
            }
        })
    }
    let f = |x: &[Tensor]| Ok(vec![cube(&ops::multiply(&x[0], 2.0)?)]);
    let x = [leaf(&[0.5, -1.5], &[2], D)];
    gradcheck(&f, &x, Tolerance::default()).unwrap();
    gradgradcheck(&f, &x, Tolerance::default()).unwrap();
}

#[test]
fn gradcheck_finds_a_gradient_that_is_off_by_half_a_thousandth() {
    let f = |x: &[Tensor]| {
        let out = ops::exp(&x[0].detach())?.value();
        Ok(vec![record("nearly_exp", &[&x[0]], out, |y| {
            let s = Saved::output(y, 0);
            vjp(move |cx, g, _| {
                Ok(vec![Some(ops::multiply(
                    g,
                    &ops::multiply(&s.get(cx), 1.0005)?,
                )?)])
            })
        })])
    };
    let x = [leaf(&[0.3, -0.2], &[2], D)];
    let e = gradcheck(&f, &x, Tolerance::default()).unwrap_err();
    assert!(e.to_string().contains("element 0"), "{e}");
}

#[test]
fn a_saved_output_makes_no_cycle() {
    struct Token(Arc<()>);
    let alive = Arc::new(());
    let x = leaf(&[1.0], &[1], D);
    let y = {
        let token = Token(alive.clone());
        let out = x.value();
        record("keeps_output", &[&x], out, |o| {
            let s = Saved::output(o, 0);
            vjp(move |cx, g, _| {
                let _ = (&token.0, s.get(cx));
                Ok(vec![Some(g.clone())])
            })
        })
    };
    assert_eq!(Arc::strong_count(&alive), 2);
    drop(y);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn graphs_and_views_keep_the_old_values_when_a_leaf_is_written() {
    let w = leaf(&[2.0, 3.0], &[2], D);
    let y = ops::multiply(&w, &w).unwrap();
    let snapshot = w.detach();
    let before = crate::storage::copies();
    w.assign(&Tensor::from_slice(&[10.0f64, 20.0], &[2]).unwrap())
        .unwrap();
    assert!(crate::storage::copies() > before);
    assert_eq!(numbers(&snapshot), [2.0, 3.0]);
    assert_eq!(numbers(&w), [10.0, 20.0]);
    ops::sum(&y, None, false, None)
        .unwrap()
        .backward(None, false, false)
        .unwrap();
    assert_eq!(grad_of(&w), [4.0, 6.0]);
    drop((y, snapshot));
    let place = w.storage().as_ptr();
    w.assign(&Tensor::from_slice(&[1.0f64, 1.0], &[2]).unwrap())
        .unwrap();
    assert_eq!(
        w.storage().as_ptr(),
        place,
        "an unshared leaf is written in place"
    );
}

#[test]
fn gradients_of_two_leaves_are_apart() {
    let (a, b) = (leaf(&[1.0], &[1], D), leaf(&[1.0], &[1], D));
    ops::add(&a, &b)
        .unwrap()
        .backward(None, false, false)
        .unwrap();
    let (ga, gb) = (a.grad().unwrap(), b.grad().unwrap());
    ga.assign(&Tensor::from_slice(&[7.0f64], &[1]).unwrap())
        .unwrap();
    assert_eq!(numbers(&gb), [1.0]);
    assert!(ga.is_contiguous());
}

#[test]
fn leaf_gradients_are_contiguous() {
    let x = leaf(&[1.0; 6], &[2, 3], D);
    ops::sum(&x, None, false, None)
        .unwrap()
        .backward(None, false, false)
        .unwrap();
    assert!(x.grad().unwrap().is_contiguous());
    assert_eq!(grad_of(&x), [1.0; 6]);
}

#[test]
fn two_threads_share_a_leaf() {
    fn is_shareable<T: Send + Sync>(_: &T) {}
    let x = leaf(&[1.0, 2.0], &[2], D);
    is_shareable(&x);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                for _ in 0..200 {
                    let y = ops::sum(&ops::multiply(&x, 3.0).unwrap(), None, false, None).unwrap();
                    y.backward(None, false, false).unwrap();
                }
            });
        }
    });
    assert_eq!(grad_of(&x), [1200.0, 1200.0]);
}

#[test]
fn mixed_dtypes_meet_and_gradients_come_back_in_their_own() {
    let a = Tensor::from_slice(&[1.5f32], &[1]).unwrap();
    a.set_requires_grad(true).unwrap();
    let b = leaf(&[2.0], &[1], D);
    let y = ops::multiply(&a, &b).unwrap();
    assert_eq!(y.dtype(), crate::DType::F64);
    y.backward(None, false, false).unwrap();
    assert_eq!(a.grad().unwrap().dtype(), crate::DType::F32);
    assert_eq!(grad_of(&a), [2.0]);
    assert_eq!(grad_of(&b), [1.5]);
}

#[test]
fn a_gradient_that_is_given_brings_no_graph_and_stays_the_callers() {
    for device in DEVICES {
        let x = leaf(&[1.0, 2.0], &[2], device);
        let w = leaf(&[3.0, 4.0], &[2], device);
        // The gradient of x + x is built from w itself.
        let y = ops::add(&x, 0.0).unwrap();
        let weight = ops::multiply(&w, 1.0).unwrap();
        let options = GradOptions::default();
        let g = grad(
            &[y],
            std::slice::from_ref(&x),
            &[Some(weight.clone())],
            options,
        )
        .unwrap();
        let g = g[0].clone().unwrap();
        assert!(!g.requires_grad() && g.is_leaf() && !g.is(&weight));
        assert_eq!(numbers(&g), [3.0, 4.0]);
        // `.grad` is a tensor of its own: no view, and a later write to the given gradient does not reach it.
        let given =
            ops::to_device(&Tensor::from_slice(&[5.0f64, 6.0], &[2]).unwrap(), device).unwrap();
        ops::reshape(&x, &[1, 2])
            .unwrap()
            .backward(Some(&ops::expand_dims(&given, 0).unwrap()), false, false)
            .unwrap();
        assert!(!x.grad().unwrap().is_view());
        given.assign(&w).unwrap();
        assert_eq!(grad_of(&x), [5.0, 6.0]);
        ops::set_item(&x.grad().unwrap(), &[], 7.0).unwrap();
        assert_eq!(grad_of(&x), [7.0, 7.0]);
        assert_eq!(numbers(&given), [3.0, 4.0]);
    }
}

#[test]
fn a_gradient_in_foreign_memory_is_copied() {
    use crate::{DType, Layout, Storage};
    let mut memory = vec![5.0f64, 6.0];
    let data = core::ptr::NonNull::new(memory.as_mut_ptr().cast()).unwrap();
    // SAFETY: `memory` outlives the tensor and is written between its uses only.
    let storage = unsafe { Storage::foreign(data, 2, DType::F64, D, Box::new(())) };
    let given = Tensor::from_storage(storage, Layout::contiguous([2])).unwrap();
    let x = leaf(&[1.0, 2.0], &[2], D);
    x.backward(Some(&given), false, false).unwrap();
    drop(given);
    memory[0] = -1.0;
    assert_eq!(grad_of(&x), [5.0, 6.0]);
}

#[test]
fn grad_touches_no_kept_gradient() {
    let x = leaf(&[1.0, 2.0], &[2], D);
    let y = ops::multiply(&x, 2.0).unwrap();
    y.retain_grad().unwrap();
    let z = ops::sum(&ops::multiply(&y, &y).unwrap(), None, false, None).unwrap();
    let options = GradOptions {
        retain_graph: Some(true),
        ..GradOptions::default()
    };
    let g = grad(
        std::slice::from_ref(&z),
        &[x.clone(), y.clone()],
        &[],
        options,
    )
    .unwrap();
    assert_eq!(numbers(g[0].as_ref().unwrap()), [8.0, 16.0]);
    assert!(x.grad().is_none() && y.grad().is_none());
    z.backward(None, false, false).unwrap();
    assert_eq!(grad_of(&y), [4.0, 8.0]);
}

#[test]
fn what_fails_in_a_hook_leaves_thread_and_graph_usable() {
    let x = leaf(&[1.0, 2.0], &[2], D);
    let z = ops::sum(&ops::multiply(&x, &x).unwrap(), None, false, None).unwrap();
    let hook: Arc<HookFn> = Arc::new(|_| Err(Error::value("hook", "no")));
    let handle = x.register_hook(hook).unwrap();
    assert!(matches!(
        z.backward(None, true, false),
        Err(Error::Value(_))
    ));
    assert!(is_enabled() && x.grad().is_none());
    x.remove_hook(handle);
    let bomb: Arc<HookFn> = Arc::new(|_| panic!("boom"));
    let handle = x.register_hook(bomb).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        z.backward(None, true, false)
    }));
    assert!(caught.is_err() && is_enabled());
    x.remove_hook(handle);
    // What a hook gives may have a graph; the gradient has none.
    let w = leaf(&[3.0, 3.0], &[2], D);
    let scale: Arc<HookFn> = Arc::new(move |g| ops::multiply(g, &w).map(Some));
    x.register_hook(scale).unwrap();
    z.backward(None, false, false).unwrap();
    assert_eq!(grad_of(&x), [6.0, 12.0]);
    assert!(!x.grad().unwrap().requires_grad());
}
