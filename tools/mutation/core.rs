//! What planted mutants call.
#![allow(missing_docs, clippy::all, unused)]
use crate::error::Result;
use crate::ops::{self, Operand};
use crate::tensor::Tensor;
use corten_kernels::mutant::alive;
pub fn flip<const N: usize>(x: Result<Tensor>) -> Result<Tensor> {
    if alive(N) { ops::negative(&x?) } else { x }
}
pub fn own<const N: usize>(x: &Tensor) -> Tensor {
    if alive(N) {
        ops::negative(x).unwrap()
    } else {
        x.clone()
    }
}
pub trait Side {
    fn side(&self) -> Operand<'_>;
}
impl Side for &Tensor {
    fn side(&self) -> Operand<'_> {
        (*self).into()
    }
}
impl Side for f64 {
    fn side(&self) -> Operand<'_> {
        (*self).into()
    }
}
impl Side for i64 {
    fn side(&self) -> Operand<'_> {
        (*self).into()
    }
}
pub fn add<A: Side, B: Side, const N: usize>(a: A, b: B) -> Result<Tensor> {
    let sum = ops::add(a.side(), b.side())?;
    if alive(N) {
        ops::subtract(&sum, b.side())
    } else {
        Ok(sum)
    }
}
pub fn subtract<A: Side, B: Side, const N: usize>(a: A, b: B) -> Result<Tensor> {
    let d = ops::subtract(a.side(), b.side())?;
    if alive(N) {
        ops::add(&d, b.side())
    } else {
        Ok(d)
    }
}
