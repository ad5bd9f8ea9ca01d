//! What a convolution reads, laid out so that every tap sees one unbroken run of numbers.
//!
//! For each channel and each column q of the kernel the source rows are copied once, shifted by q's offset, with padding
//! filled in and columns taken at the stride. In that copy the pixels that tap (p, q) multiplies, for a whole strip of
//! output rows, lie one after the other from some row on: moving p moves the start, nothing else. So the right operand of
//! the matrix product is `copy + offset[tap]`, and only kernel-width copies exist (of a strip, in the cache), not
//! kernel-area ones. A stride of s in the height sorts the rows by remainder mod s.
use crate::element::Real;
use crate::simd::{Isa, Kernel, Simd, dispatch_on};

/// One spatial axis: output i meets tap t at source index `i * step + taps[t]`; outside `0..src` there is padding.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub src: usize,
    pub out: usize,
    pub step: usize,
    pub taps: Vec<isize>,
}

/// Rows of the source that some taps share: `first + i0 * step + t * step` for t below the strip's rows + `extra`.
#[derive(Debug)]
struct Class {
    slot: usize,
    first: isize,
    extra: usize,
}

/// How a strip is laid out.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Output rows of a full strip.
    pub rows: usize,
    /// Output columns of a full strip: all of them, unless rows is 1.
    pub width: usize,
    slots: usize,
    classes: Vec<Class>,
    /// First slot of each row tap.
    tap_slot: Vec<usize>,
    /// Column taps.
    columns: usize,
}

impl Layout {
    pub fn new(rows_axis: &Axis, cols_axis: &Axis, rows: usize, width: usize) -> Self {
        let step = rows_axis.step as isize;
        let low = rows_axis.taps.iter().copied().min().unwrap_or(0);
        let (mut classes, mut slots) = (Vec::<Class>::new(), 0);
        let mut tap_slot = vec![0; rows_axis.taps.len()];
        for remainder in 0..step {
            let mine = |t: isize| (t - low) % step == remainder;
            let depth = |t: isize| ((t - low) / step) as usize;
            let taps = rows_axis.taps.iter().copied().enumerate();
            let Some(extra) = taps.clone().filter(|t| mine(t.1)).map(|t| depth(t.1)).max() else {
                continue;
            };
            for (p, t) in taps.filter(|t| mine(t.1)) {
                tap_slot[p] = slots + depth(t);
            }
            classes.push(Class {
                slot: slots,
                first: low + remainder,
                extra,
            });
            slots += rows + extra;
        }
        Layout {
            rows,
            width,
            slots,
            classes,
            tap_slot,
            columns: cols_axis.taps.len(),
        }
    }

    /// Elements of one channel.
    pub fn channel_len(&self) -> usize {
        self.columns * self.slots * self.width
    }

    /// Where the run of each tap starts, taps in the order (channel, row, column) of a weight.
    pub fn taps(&self, channels: usize) -> Vec<usize> {
        let mut taps = Vec::with_capacity(channels * self.tap_slot.len() * self.columns);
        for c in 0..channels {
            for &slot in &self.tap_slot {
                for q in 0..self.columns {
                    taps.push(c * self.channel_len() + (q * self.slots + slot) * self.width);
                }
            }
        }
        taps
    }
}

/// Elements behind a copy that may be written (whole vectors are stored) or read (whole tiles).
pub(crate) const SLACK: usize = 128;

/// A rectangle of outputs: rows from `i0`, columns from `j0`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strip {
    pub i0: usize,
    pub rows: usize,
    pub j0: usize,
    pub cols: usize,
}

impl Strip {
    /// Length of a tap's run.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }
}

/// Cuts the output into strips of `rows x width`, row by row.
pub(crate) fn cut(oh: usize, ow: usize, rows: usize, width: usize) -> Vec<Strip> {
    let mut strips = Vec::new();
    for i0 in (0..oh).step_by(rows) {
        for j0 in (0..ow).step_by(width) {
            strips.push(Strip {
                i0,
                rows: rows.min(oh - i0),
                j0,
                cols: width.min(ow - j0),
            });
        }
    }
    strips
}

struct Fill<'a, T> {
    layout: &'a Layout,
    axes: [&'a Axis; 2],
    strip: Strip,
    channels: usize,
    planes: &'a [T],
    out: *mut T,
}

/// Copies what `strip` reads of the planes (one per channel, dense) to `out`.
///
/// # Safety
/// `out` has room for `channels * channel_len() + SLACK` elements that nobody else uses.
pub(crate) unsafe fn fill<T: Real>(
    isa: Isa,
    layout: &Layout,
    axes: [&Axis; 2],
    strip: Strip,
    channels: usize,
    planes: &[T],
    out: *mut T,
) {
    let body = Fill {
        layout,
        axes,
        strip,
        channels,
        planes,
        out,
    };
    dispatch_on(isa, body);
}

impl<T: Real> Kernel<T> for Fill<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Fill {
            layout,
            axes: [ra, ca],
            strip,
            channels,
            planes,
            out,
        } = self;
        let plane = ra.src * ca.src;
        if plane == 0 {
            // Nothing but padding.
            // SAFETY: the room is the caller's promise.
            unsafe { core::ptr::write_bytes(out, 0, channels * layout.channel_len()) };
            return;
        }
        let (step, cols) = (ca.step as isize, strip.cols);
        for (c, plane) in planes.chunks_exact(plane).enumerate() {
            for (q, &tap) in ca.taps.iter().enumerate() {
                // Column j of the strip reads source column j * step + start: the padding lies outside low..high.
                let start = strip.j0 as isize * step + tap;
                let reach = |limit: isize| {
                    let n = (limit - start + step - 1).div_euclid(step);
                    n.clamp(0, cols as isize) as usize
                };
                let (low, high) = (reach(0), reach(ca.src as isize));
                for class in &layout.classes {
                    for t in 0..strip.rows + class.extra {
                        let row = (strip.i0 + t) as isize * ra.step as isize + class.first;
                        let slot = q * layout.slots + class.slot + t;
                        // SAFETY: slots lie inside the channel, and a vector that runs over the end of its row only
                        // touches rows that are written later, or the slack. Source columns are inside their row.
                        unsafe {
                            let dst = out.add(c * layout.channel_len() + slot * layout.width);
                            if row < 0 || row >= ra.src as isize {
                                for j in (0..cols).step_by(S::LANES) {
                                    S::store(dst.add(j), S::zero());
                                }
                                continue;
                            }
                            for j in (0..low).step_by(S::LANES) {
                                S::store(dst.add(j), S::zero());
                            }
                            let src = plane.as_ptr().add(row as usize * ca.src);
                            let src = src.wrapping_offset(start);
                            if step == 1 {
                                for j in (low..cols).step_by(S::LANES) {
                                    let n = high.saturating_sub(j).min(S::LANES);
                                    let x = if n == S::LANES {
                                        S::load(src.wrapping_add(j))
                                    } else {
                                        S::load_n(src.wrapping_add(j), n)
                                    };
                                    S::store(dst.add(j), x);
                                }
                            } else {
                                let mut j = low;
                                if step == 2 {
                                    // Every other column: two vectors in, their even lanes out.
                                    while j + S::LANES < high {
                                        let at = src.wrapping_offset(2 * j as isize);
                                        let (a, b) = (S::load(at), S::load(at.add(S::LANES)));
                                        S::store(dst.add(j), S::deinterleave(a, b).0);
                                        j += S::LANES;
                                    }
                                }
                                while j < high {
                                    *dst.add(j) = *src.wrapping_offset(j as isize * step);
                                    j += 1;
                                }
                                for j in (high.max(low)..cols).step_by(S::LANES) {
                                    S::store(dst.add(j), S::zero());
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
