//! The input gradient as correlations of dy, one per stride phase.
//!
//! Pixel r of an axis collects `w[p] dy[i]` where `i * stride + p * dilation - pad = r`. Pixels with the same remainder
//! `r mod stride` meet the same taps, and for them i moves by one when r moves by a stride: a correlation with stride 1.
//! Every pixel belongs to one phase, so each is written once, by a sum of fixed order; nothing is scattered.
use super::Conv2d;
use super::correlate::{Correlate, Target};
use super::expand::Axis;
use crate::element::Real;
use crate::gemm::Activation;
use crate::parallel::SharedMut;

/// Taps p that pixels `phase + t * stride` of axis `d` meet, and how those pixels read dy; `None` without such pixels.
fn phase_axis(p: &Conv2d, d: usize, phase: usize) -> Option<(Vec<usize>, Axis)> {
    let (size, outs) = ([p.h, p.w][d], [p.oh, p.ow][d]);
    if phase >= size {
        return None;
    }
    let stride = p.stride[d] as isize;
    let reach = |tap: usize| (phase + p.pad[d]) as isize - (tap * p.dilation[d]) as isize;
    let taps: Vec<usize> = (0..p.kernel[d])
        .filter(|&tap| reach(tap) % stride == 0)
        .collect();
    let axis = Axis {
        src: outs,
        out: (size - phase).div_ceil(p.stride[d]),
        step: 1,
        taps: taps.iter().map(|&tap| reach(tap) / stride).collect(),
    };
    Some((taps, axis))
}

pub(super) fn run<T: Real>(p: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
    let (c, o) = (p.c / p.groups, p.o / p.groups);
    let [kh, kw] = p.kernel;
    for pi in 0..p.stride[0] {
        for pj in 0..p.stride[1] {
            let (Some((row_taps, rows)), Some((col_taps, cols))) =
                (phase_axis(p, 0, pi), phase_axis(p, 1, pj))
            else {
                continue;
            };
            // (groups, c, o, row taps, column taps): the channels change places, in every group.
            let mut weights = Vec::with_capacity(p.o * c * row_taps.len() * col_taps.len());
            for g in 0..p.groups {
                for ci in 0..c {
                    for oi in 0..o {
                        let kernel = &w[((g * o + oi) * c + ci) * kh * kw..][..kh * kw];
                        for &r in &row_taps {
                            weights.extend(col_taps.iter().map(|&s| kernel[r * kw + s]));
                        }
                    }
                }
            }
            let correlate = Correlate {
                n: p.n,
                groups: p.groups,
                c: o,
                o: c,
                src: &dy[..p.y_len()],
                rows,
                cols,
                weights: &weights,
                bias: None,
                act: Activation::None,
                out: Target {
                    data: SharedMut(dx.as_mut_ptr()),
                    h: p.h,
                    w: p.w,
                    step: p.stride,
                    start: [pi, pj],
                },
            };
            correlate.run();
        }
    }
}
