//! Tensor, autograd and operations of corten.
