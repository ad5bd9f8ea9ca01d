//! What planted mutants call.
#![allow(missing_docs, clippy::all, unused)]
use crate::backend::{Elements, Unary};
use crate::error::Result;
use crate::value::Value;
pub fn flip<const N: usize>(b: &dyn Elements, x: Result<Value>) -> Result<Value> {
    if corten_kernels::mutant::alive(N) {
        b.unary(Unary::Neg, &x?)
    } else {
        x
    }
}
