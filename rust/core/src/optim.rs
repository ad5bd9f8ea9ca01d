//! Optimizer steps over all parameters in one kernel call.
//!
//! Parameters and state are leaves, written in place (copy-on-write: a graph, a view or a `state_dict` that shares the old
//! contents keeps them). All are C-contiguous; gradients may have any layout.
use crate::backend::{AdamParam, Part, RmsPropParam, SgdParam, dispatch};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, WriteGuard, check_device};
pub use corten_kernels::optim::{Adam, RmsProp, Sgd};

/// One step of stochastic gradient descent on every parameter, PyTorch's formulas:
/// `g += weight_decay * p`; `buf = momentum * buf + (1 - dampening) * g` (on the `first` step `buf = g`);
/// `g = g + momentum * buf` with Nesterov, else `g = buf`; `p -= lr * g`. `maximize` turns the sign of the gradient around.
///
/// `momentum_buffers` are needed when `momentum` is not 0.
///
/// Errors: `Value` when the lists differ in length, name a tensor twice or hold a strided parameter; `Shape` and `Dtype` when a
/// gradient or buffer does not match its parameter; `Graph` when a parameter is not a leaf. Then nothing was written.
///
/// Sutskever et al., <https://proceedings.mlr.press/v28/sutskever13.html>.
pub fn sgd_step(
    params: &[Tensor],
    grads: &[Tensor],
    momentum_buffers: Option<&[Tensor]>,
    h: &Sgd,
) -> Result<()> {
    const OP: &str = "sgd_step";
    let buffers = needed_buffers(OP, h.momentum, momentum_buffers)?;
    let state: Vec<(&str, &[Tensor])> = buffers
        .into_iter()
        .map(|b| ("momentum_buffers", b))
        .collect();
    check(OP, params, grads, &state)?;
    for (dtype, at) in groups(params) {
        let gradients: Vec<_> = at.iter().map(|&i| grads[i].value()).collect();
        let mut guards = Guards::lock(OP, &at, params, &state)?;
        let mut items = Vec::with_capacity(at.len());
        for (mut parts, g) in guards.parts(1 + state.len())?.into_iter().zip(&gradients) {
            let momentum = if buffers.is_some() { parts.pop() } else { None };
            let Some(p) = parts.pop() else {
                return Err(lost(OP));
            };
            items.push(SgdParam { p, g, momentum });
        }
        debug_assert!(gradients.iter().all(|g| g.dtype() == dtype));
        dispatch(params[at[0]].device()).sgd(&mut items, h)?;
    }
    Ok(())
}

/// One step of Adam, or AdamW when `decoupled`, on every parameter, PyTorch's formulas:
/// `m = beta1 * m + (1 - beta1) * g`, `v = beta2 * v + (1 - beta2) * g^2`,
/// `p -= lr / (1 - beta1^step) * m / (sqrt(v / (1 - beta2^step)) + eps)`. Weight decay adds `weight_decay * p` to the gradient;
/// decoupled it shrinks the parameter by `lr * weight_decay` instead. `step` counts from 1.
///
/// Errors: as for [`sgd_step`]; `Value` for step 0.
///
/// Kingma and Ba, <https://arxiv.org/abs/1412.6980>; Loshchilov and Hutter, <https://arxiv.org/abs/1711.05101>.
pub fn adam_step(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    h: &Adam,
) -> Result<()> {
    const OP: &str = "adam_step";
    if h.step == 0 {
        return Err(Error::value(OP, "step counts from 1, got 0"));
    }
    let state = [("exp_avgs", exp_avgs), ("exp_avg_sqs", exp_avg_sqs)];
    check(OP, params, grads, &state)?;
    for (dtype, at) in groups(params) {
        let gradients: Vec<_> = at.iter().map(|&i| grads[i].value()).collect();
        let mut guards = Guards::lock(OP, &at, params, &state)?;
        let mut items = Vec::with_capacity(at.len());
        for (mut parts, g) in guards.parts(3)?.into_iter().zip(&gradients) {
            let (Some(v), Some(m), Some(p)) = (parts.pop(), parts.pop(), parts.pop()) else {
                return Err(lost(OP));
            };
            items.push(AdamParam { p, g, m, v });
        }
        debug_assert!(gradients.iter().all(|g| g.dtype() == dtype));
        dispatch(params[at[0]].device()).adam(&mut items, h)?;
    }
    Ok(())
}

/// One step of RMSprop on every parameter, PyTorch's formulas: `v = alpha * v + (1 - alpha) * g^2`, `d = g / (sqrt(v) + eps)`,
/// `p -= lr * d`. With `grad_avgs` the step is centred: `m = alpha * m + (1 - alpha) * g`, and the root is of `v - m^2` (not below
/// 0). With momentum, `b = momentum * b + d` takes the place of `d`. Weight decay adds `weight_decay * p` to the gradient.
///
/// `momentum_buffers` are needed when `momentum` is not 0.
///
/// Errors: as for [`sgd_step`].
///
/// Hinton, <https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf>; centred: Graves,
/// <https://arxiv.org/abs/1308.0850>.
pub fn rmsprop_step(
    params: &[Tensor],
    grads: &[Tensor],
    square_avgs: &[Tensor],
    grad_avgs: Option<&[Tensor]>,
    momentum_buffers: Option<&[Tensor]>,
    h: &RmsProp,
) -> Result<()> {
    const OP: &str = "rmsprop_step";
    let buffers = needed_buffers(OP, h.momentum, momentum_buffers)?;
    let mut state = vec![("square_avgs", square_avgs)];
    state.extend(grad_avgs.map(|m| ("grad_avgs", m)));
    state.extend(buffers.map(|b| ("momentum_buffers", b)));
    check(OP, params, grads, &state)?;
    for (dtype, at) in groups(params) {
        let gradients: Vec<_> = at.iter().map(|&i| grads[i].value()).collect();
        let mut guards = Guards::lock(OP, &at, params, &state)?;
        let mut items = Vec::with_capacity(at.len());
        for (mut parts, g) in guards.parts(1 + state.len())?.into_iter().zip(&gradients) {
            let momentum = if buffers.is_some() { parts.pop() } else { None };
            let mean = if grad_avgs.is_some() {
                parts.pop()
            } else {
                None
            };
            let (Some(square), Some(p)) = (parts.pop(), parts.pop()) else {
                return Err(lost(OP));
            };
            items.push(RmsPropParam {
                p,
                g,
                square,
                mean,
                momentum,
            });
        }
        debug_assert!(gradients.iter().all(|g| g.dtype() == dtype));
        dispatch(params[at[0]].device()).rmsprop(&mut items, h)?;
    }
    Ok(())
}

/// The buffers of a momentum that is not 0.
fn needed_buffers<'a>(
    op: &'static str,
    momentum: f64,
    buffers: Option<&'a [Tensor]>,
) -> Result<Option<&'a [Tensor]>> {
    if momentum != 0.0 && buffers.is_none() {
        return Err(Error::value(
            op,
            format!("momentum={momentum} needs momentum_buffers"),
        ));
    }
    Ok(buffers.filter(|_| momentum != 0.0))
}

fn lost(op: &'static str) -> Error {
    Error::internal(op, "a parameter without its parts")
}

/// Positions of the parameters of each dtype: a kernel call is for one type.
fn groups(params: &[Tensor]) -> Vec<(DType, Vec<usize>)> {
    let mut groups: Vec<(DType, Vec<usize>)> = Vec::new();
    for (i, p) in params.iter().enumerate() {
        match groups.iter_mut().find(|(dtype, _)| *dtype == p.dtype()) {
            Some((_, at)) => at.push(i),
            None => groups.push((p.dtype(), vec![i])),
        }
    }
    groups
}

/// Everything that can be refused is refused here, before anything is written.
fn check(
    op: &'static str,
    params: &[Tensor],
    grads: &[Tensor],
    state: &[(&str, &[Tensor])],
) -> Result<()> {
    for (name, list) in [("grads", grads)].iter().chain(state) {
        if list.len() != params.len() {
            return Err(Error::value(
                op,
                format!("{} params but {} {name}", params.len(), list.len()),
            ));
        }
    }
    for (i, p) in params.iter().enumerate() {
        if !p.dtype().is_float() {
            return Err(Error::dtype(
                op,
                format!("parameter {i} must be floating-point, got {}", p.dtype()),
            ));
        }
        check_device(op, &params[0], p)?;
        for (name, list) in [("grads", grads)].iter().chain(state) {
            let t = &list[i];
            if t.shape() != p.shape() {
                return Err(Error::shape(
                    op,
                    format!(
                        "parameter {i} is {} but {name}[{i}] is {}",
                        p.shape(),
                        t.shape()
                    ),
                ));
            }
            // A 16-bit parameter is stepped in float32, where its state lives.
            let is_state = *name != "grads";
            let wanted = if is_state {
                p.dtype().arithmetic()
            } else {
                p.dtype()
            };
            if t.dtype() != wanted {
                let needs = if wanted == p.dtype() {
                    String::new()
                } else {
                    format!(", not {wanted}")
                };
                return Err(Error::dtype(
                    op,
                    format!(
                        "parameter {i} is {} but {name}[{i}] is {}{needs}",
                        p.dtype(),
                        t.dtype()
                    ),
                ));
            }
            check_device(op, p, t)?;
        }
        for (name, t) in [("params", p)]
            .into_iter()
            .chain(state.iter().map(|(name, list)| (*name, &list[i])))
        {
            if !t.is_leaf() {
                return Err(Error::graph(
                    op,
                    format!(
                        "{name}[{i}] is the result of an operation; only leaves can be written"
                    ),
                ));
            }
            if !t.is_contiguous() {
                return Err(Error::value(
                    op,
                    format!("{name}[{i}] is strided; parameters and state must be contiguous"),
                ));
            }
        }
    }
    let mut ids: Vec<usize> = params
        .iter()
        .chain(state.iter().flat_map(|(_, list)| list.iter()))
        .map(Tensor::id)
        .collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::value(
            op,
            "the same tensor is given twice (a shared parameter must be listed once)",
        ));
    }
    Ok(())
}

/// Write access to the parameters of one group and their state, `parameter 0, its state.., parameter 1, ..`.
struct Guards<'a> {
    tensors: Vec<&'a Tensor>,
    guards: Vec<WriteGuard<'a>>,
}

impl<'a> Guards<'a> {
    fn lock(
        op: &'static str,
        at: &[usize],
        params: &'a [Tensor],
        state: &[(&str, &'a [Tensor])],
    ) -> Result<Self> {
        let mut tensors = Vec::with_capacity(at.len() * (1 + state.len()));
        for &i in at {
            tensors.push(&params[i]);
            tensors.extend(state.iter().map(|(_, list)| &list[i]));
        }
        // Locked in one order everywhere, so that two threads that step overlapping lists cannot wait for each other.
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_unstable_by_key(|&i| tensors[i].id());
        let mut locked = Vec::with_capacity(order.len());
        for &i in &order {
            locked.push((i, tensors[i].write(op)?));
        }
        locked.sort_unstable_by_key(|(i, _)| *i);
        Ok(Self {
            tensors,
            guards: locked.into_iter().map(|(_, guard)| guard).collect(),
        })
    }
    /// The elements of each tensor to write to, `per` tensors to a parameter.
    fn parts(&mut self, per: usize) -> Result<Vec<Vec<Part<'_>>>> {
        let mut all = Vec::with_capacity(self.guards.len() / per);
        let mut current = Vec::with_capacity(per);
        for (guard, t) in self.guards.iter_mut().zip(&self.tensors) {
            let start = if t.numel() == 0 {
                0
            } else {
                t.layout().offset()
            };
            current.push(Part {
                storage: guard.storage()?,
                start,
                len: t.numel(),
            });
            if current.len() == per {
                all.push(core::mem::replace(&mut current, Vec::with_capacity(per)));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::storage;

    const DEVICES: [Device; 2] = [Device::Cpu, Device::Reference];

    const SGD: Sgd = Sgd {
        lr: 0.1,
        momentum: 0.9,
        dampening: 0.0,
        weight_decay: 0.0,
        nesterov: false,
        maximize: false,
        first: true,
    };
    const ADAM: Adam = Adam {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        maximize: false,
        step: 1,
    };

    fn t(device: Device, data: &[f64]) -> Tensor {
        Tensor::from_slice_on(data, &[data.len()], DType::F64, device).unwrap()
    }
    fn close(x: &Tensor, expect: &[f64]) {
        for (x, e) in x.to_vec::<f64>().unwrap().iter().zip(expect) {
            assert!((x - e).abs() < 1e-12, "{x}, not {e}");
        }
    }
    fn message<T>(r: Result<T>) -> String {
        r.err().unwrap().to_string()
    }

    #[test]
    fn sgd_follows_the_formulas() {
        for device in DEVICES {
            let (p, g, buf) = (
                [t(device, &[1.0, -2.0])],
                [t(device, &[0.5, 0.25])],
                [t(device, &[9.0, 9.0])],
            );
            sgd_step(&p, &g, Some(&buf), &SGD).unwrap(); // first: buf = g
            close(&buf[0], &[0.5, 0.25]);
            close(&p[0], &[0.95, -2.025]);
            let h = Sgd {
                first: false,
                dampening: 0.5,
                weight_decay: 0.1,
                ..SGD
            };
            sgd_step(&p, &g, Some(&buf), &h).unwrap();
            let g1 = [0.5 + 0.1 * 0.95, 0.25 - 0.1 * 2.025];
            let b = [0.9 * 0.5 + 0.5 * g1[0], 0.9 * 0.25 + 0.5 * g1[1]];
            close(&buf[0], &b);
            close(&p[0], &[0.95 - 0.1 * b[0], -2.025 - 0.1 * b[1]]);
            let q = [t(device, &[1.0])];
            sgd_step(
                &q,
                &[t(device, &[2.0])],
                None,
                &Sgd {
                    momentum: 0.0,
                    maximize: true,
                    ..SGD
                },
            )
            .unwrap();
            close(&q[0], &[1.2]);
        }
    }

    #[test]
    fn adam_follows_the_formulas_and_types_may_mix() {
        for device in DEVICES {
            let small = Tensor::from_slice_on(&[1f32], &[1], DType::F32, device).unwrap();
            let zeros32 = || Tensor::from_slice_on(&[0f32], &[1], DType::F32, device).unwrap();
            let p = [t(device, &[1.0, -2.0]), small];
            let g = [
                t(device, &[0.5, -4.0]),
                Tensor::from_slice_on(&[3f32], &[1], DType::F32, device).unwrap(),
            ];
            let (m, v) = (
                [t(device, &[0.0, 0.0]), zeros32()],
                [t(device, &[0.0, 0.0]), zeros32()],
            );
            adam_step(&p, &g, &m, &v, &ADAM).unwrap();
            // The first step is lr in the direction of the sign, up to eps.
            let step = |g: f64| 0.1 * g / (g.abs() + 1e-8);
            close(&p[0], &[1.0 - step(0.5), -2.0 - step(-4.0)]);
            close(&m[0], &[0.05, -0.4]);
            close(&v[0], &[0.001 * 0.25, 0.001 * 16.0]);
            assert!((p[1].to_vec::<f32>().unwrap()[0] - 0.9).abs() < 1e-6);
        }
    }

    #[test]
    fn rmsprop_follows_the_formulas() {
        let h = RmsProp {
            lr: 0.1,
            alpha: 0.75,
            eps: 0.5,
            weight_decay: 0.0,
            momentum: 0.0,
            maximize: false,
        };
        for device in DEVICES {
            let (p, g) = ([t(device, &[1.0, -2.0])], [t(device, &[0.5, -4.0])]);
            let v = [t(device, &[0.0, 0.0])];
            rmsprop_step(&p, &g, &v, None, None, &h).unwrap();
            // sqrt(g^2 / 4) = |g| / 2.
            close(&v[0], &[0.0625, 4.0]);
            close(&p[0], &[1.0 - 0.1 * 0.5 / 0.75, -2.0 + 0.1 * 4.0 / 2.5]);
            let (q, v) = ([t(device, &[1.0])], [t(device, &[1.0])]);
            let (m, b) = ([t(device, &[0.0])], [t(device, &[2.0])]);
            let h = RmsProp {
                momentum: 0.5,
                maximize: true,
                weight_decay: 1.0,
                ..h
            };
            rmsprop_step(&q, &[t(device, &[-1.0])], &v, Some(&m), Some(&b), &h).unwrap();
            // g = 1 + 1 = 2, v = 0.75 + 1, m = 0.5, the root is of 1.5.
            let step = 1.0 + 2.0 / (1.5f64.sqrt() + 0.5);
            close(&v[0], &[1.75]);
            close(&m[0], &[0.5]);
            close(&b[0], &[step]);
            close(&q[0], &[1.0 - 0.1 * step]);
            let h = RmsProp { momentum: 0.9, ..h };
            assert_eq!(
                message(rmsprop_step(&q, &[t(device, &[0.0])], &v, None, None, &h)),
                "[rmsprop_step] momentum=0.9 needs momentum_buffers"
            );
        }
    }

    #[test]
    fn writes_in_place_unless_someone_shares_the_old_values() {
        for device in DEVICES {
            let (p, g) = ([t(device, &[1.0])], [t(device, &[1.0])]);
            let h = Sgd {
                momentum: 0.0,
                lr: 1.0,
                ..SGD
            };
            let before = p[0].storage().as_ptr();
            sgd_step(&p, &g, None, &h).unwrap();
            assert_eq!(p[0].storage().as_ptr(), before);
            let snapshot = p[0].value();
            sgd_step(&p, &g, None, &h).unwrap();
            assert_eq!(snapshot.to_vec::<f64>().unwrap(), [0.0]);
            close(&p[0], &[-1.0]);
            assert!(storage::copies() > 0);
        }
    }

    #[test]
    fn a_parameter_that_is_part_of_a_block_writes_its_part_only() {
        for device in DEVICES {
            let block = t(device, &[1.0, 2.0, 3.0, 4.0]).value();
            let p = [Tensor::from_value(
                block.with_layout(block.layout.narrow(0, 1, 2)),
            )];
            drop(block);
            sgd_step(
                &p,
                &[t(device, &[1.0, 1.0])],
                None,
                &Sgd {
                    momentum: 0.0,
                    lr: 1.0,
                    ..SGD
                },
            )
            .unwrap();
            close(&p[0], &[1.0, 2.0]);
            assert_eq!(p[0].storage().slice::<f64>(), [1.0, 1.0, 2.0, 4.0]);
        }
    }

    #[test]
    fn refuses_before_it_writes() {
        let device = DEVICES[0];
        let (p, g) = (t(device, &[1.0, 2.0]), t(device, &[1.0, 1.0]));
        let h = Sgd {
            momentum: 0.0,
            ..SGD
        };
        let short = t(device, &[1.0]);
        let run = |p: &[Tensor], g: &[Tensor]| message(sgd_step(p, g, None, &h));
        assert_eq!(
            run(&[p.clone(), p.clone()], &[g.clone(), g.clone()]),
            "[sgd_step] the same tensor is given twice (a shared parameter must be listed once)"
        );
        assert_eq!(
            run(core::slice::from_ref(&p), &[]),
            "[sgd_step] 1 params but 0 grads"
        );
        assert_eq!(
            run(&[g.clone(), p.clone()], &[p.clone(), short]),
            "[sgd_step] parameter 1 is (2,) but grads[1] is (1,)"
        );
        let single = Tensor::from_slice_on(&[1f32, 1.0], &[2], DType::F32, device).unwrap();
        assert_eq!(
            run(core::slice::from_ref(&p), &[single]),
            "[sgd_step] parameter 0 is float64 but grads[0] is float32"
        );
        assert_eq!(
            message(sgd_step(
                core::slice::from_ref(&p),
                core::slice::from_ref(&g),
                None,
                &SGD
            )),
            "[sgd_step] momentum=0.9 needs momentum_buffers"
        );
        let zero = Adam { step: 0, ..ADAM };
        assert_eq!(
            message(adam_step(&[], &[], &[], &[], &zero)),
            "[adam_step] step counts from 1, got 0"
        );
        close(&p, &[1.0, 2.0]);
        close(&g, &[1.0, 1.0]);
    }
}
