//! Faults on request: for the tests that the library works on after each of them.

use std::sync::Arc;
use std::time::Duration;

use corten_core::autograd::{record, vjp};
use corten_core::{Error, Result, Tensor, ops};
use corten_kernels::parallel;
use corten_python_macros::pyfunction;
use pyo3::prelude::*;

use crate::seam::{LONG, run};
use crate::tensor::PyTensor;

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the test asked for it: in a drop");
    }
}

/// Panics at `place`: in this `call`, in a `tile` on any thread, in a `worker`; or gives a tensor whose backward does so, in a `hook`
/// or in a `vjp`, or one whose graph does when it is dropped.
#[pyfunction]
#[pyo3(signature = (place = "call"))]
fn _panic(py: Python<'_>, place: &str) -> PyResult<Option<PyTensor>> {
    let y = run(py, LONG, || explode(place))?;
    Ok(y.map(PyTensor::new))
}

fn explode(place: &str) -> Result<Option<Tensor>> {
    let cost = parallel::Cost {
        flops: 1e9,
        bytes: 0.0,
    };
    let x = Tensor::from_slice(&[1f32, 2.0], &[2])?;
    x.set_requires_grad(true)?;
    match place {
        "call" => panic!("the test asked for it"),
        "tile" => parallel::for_each(64, cost, &|tile| {
            assert!(tile != 63, "the test asked for it: in tile {tile}");
        }),
        "worker" => parallel::for_each(200, cost, &|_| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("");
            assert!(
                !name.starts_with("corten-"),
                "the test asked for it: in a worker"
            );
            std::thread::sleep(Duration::from_millis(1));
        }),
        "hook" => {
            x.register_hook(Arc::new(|_| panic!("the test asked for it: in a hook")))?;
            return ops::square(&x).map(Some);
        }
        "vjp" => {
            let y = record("panic", &[&x], x.value(), |_| {
                vjp(|_, _, _| panic!("the test asked for it: in a vjp"))
            });
            return Ok(Some(y));
        }
        "drop" => {
            let y = record("panic", &[&x], x.value(), |_| {
                let bomb = Bomb;
                vjp(move |_, g, _| {
                    let _held = &bomb;
                    Ok(vec![Some(g.clone())])
                })
            });
            return Ok(Some(y));
        }
        _ => {}
    }
    Err(Error::value(
        "_panic",
        format!("nothing panicked at {place:?}"),
    ))
}

functions!(_panic);
