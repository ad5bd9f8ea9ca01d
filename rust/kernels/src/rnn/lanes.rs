//! Who takes which sequences through time, and where their rows lie.
use super::Rnn;
use crate::alloc;
use crate::parallel::{Cost, num_threads};

/// Sequences that go through time together, longest first: at each step the first few are still running.
pub(super) struct Lane {
    /// Which sequences.
    pub seq: Vec<usize>,
    /// Their lengths.
    pub len: Vec<usize>,
    /// Row of the gates at step 0.
    start: Vec<usize>,
    /// Row of y at step 0.
    y_start: Vec<usize>,
    stride: isize,
    y_stride: isize,
}

impl Lane {
    /// Sequences that have a step number `s`.
    pub fn active(&self, s: usize) -> usize {
        if self.len.last().is_some_and(|&l| l > s) {
            return self.len.len();
        }
        self.len.partition_point(|&l| l > s)
    }
    pub fn steps(&self) -> usize {
        self.len.first().copied().unwrap_or(0)
    }
    /// Row of the gates of sequence number `i` of this lane at its step `s`.
    pub fn row(&self, i: usize, s: usize) -> usize {
        self.start[i].wrapping_add_signed(self.stride * s as isize)
    }
    /// Row of y.
    pub fn y_row(&self, i: usize, s: usize) -> usize {
        self.y_start[i].wrapping_add_signed(self.y_stride * s as isize)
    }
}

/// Lanes of a call.
pub(super) struct Lanes {
    pub lanes: Vec<Lane>,
    /// All threads share the one lane's units instead of having lanes of their own.
    pub shared: bool,
}

/// Row of y (or x) of sequence n at time t.
pub(super) fn padded_row(p: &Rnn, n: usize, t: usize) -> usize {
    if p.batch_first {
        n * p.t + t
    } else {
        t * p.n + n
    }
}

/// Sequences per thread from which threads take sequences of their own.
const OWN: usize = 4;

impl Lanes {
    /// `step`: estimated work of one step of all sequences. `own`: sequences may be taken apart.
    pub fn new(p: &Rnn, lengths: Option<&[usize]>, cost: Cost, weights: usize) -> Lanes {
        let threads = if cost.flops < 10e3 { 1 } else { num_threads() };
        let shared = threads > 1 && (p.n < OWN * threads || (weights > SLICE && p.n < FEW));
        let count = if shared { 1 } else { threads.min(p.n).max(1) };
        let mut order = alloc::collect(0..p.n);
        let mut offset = Vec::new();
        if let Some(l) = lengths {
            // Stable: equals stay in order.
            order.sort_by_key(|&n| core::cmp::Reverse(l[n]));
            let mut end = 0;
            offset = alloc::collect(l.iter().map(|&l| {
                end += l;
                end - l
            }));
        }
        let lanes = (0..count).map(|lane| {
            // Without lengths neighbours stay together; with them every lane gets long and short ones.
            let seq = if lengths.is_some() {
                alloc::collect(order[lane..].iter().step_by(count).copied())
            } else {
                let (q, r) = (p.n / count, p.n % count);
                let first = lane * q + lane.min(r);
                alloc::collect(first..first + q + usize::from(lane < r))
            };
            let length = |n: usize| lengths.map_or(p.t, |l| l[n]);
            let first = |n: usize| {
                if p.reverse {
                    length(n).saturating_sub(1)
                } else {
                    0
                }
            };
            let sign = if p.reverse { -1 } else { 1 };
            let padded = if p.batch_first { 1 } else { p.n as isize };
            let row = |n: usize| match lengths {
                Some(_) => offset[n] + first(n),
                None => padded_row(p, n, first(n)),
            };
            Lane {
                len: alloc::collect(seq.iter().map(|&n| length(n))),
                start: alloc::collect(seq.iter().map(|&n| row(n))),
                y_start: alloc::collect(seq.iter().map(|&n| padded_row(p, n, first(n)))),
                stride: sign * if lengths.is_some() { 1 } else { padded },
                y_stride: sign * padded,
                seq,
            }
        });
        Lanes {
            lanes: alloc::collect(lanes),
            shared,
        }
    }
}

/// Bytes of recurrent weights beyond which a thread's share of the units, which its second-level cache holds, beats
/// sequences of its own, with which it streams all weights in every step.
const SLICE: usize = 2 << 20;
/// With so many sequences the weights are read seldom enough.
const FEW: usize = 32;
