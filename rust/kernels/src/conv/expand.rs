//! What a convolution reads, laid out so that every tap sees unbroken runs of numbers.
//!
//! For each channel the source rows of a strip of outputs are copied to the cache, with padding filled in and columns taken
//! at the stride. The pixels that tap (p, q) multiplies then lie at `offset[pixel] + offset[tap]`: moving a tap moves the
//! start, nothing else, so a product reads its operand in the copy and no im2col matrix exists. There are two layouts:
//!
//! * A copy for each column tap, shifted by it: a tap's pixels are one run over all rows of the strip, and over the images
//!   that share it. For rows that do not fill vectors.
//! * One copy for all column taps (for each remainder of the stride), as much longer as they reach ([`Layout::shared`]):
//!   less to copy, and neighbouring taps read the same lines. Runs end with their rows.
//!
//! A stride of s in the height sorts the rows by remainder mod s.
use crate::alloc::{collect, vec};
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
    /// Elements from row to row: the columns of all images, and what several taps share.
    pitch: usize,
    slots: usize,
    classes: Vec<Class>,
    /// First slot of each row tap.
    tap_slot: Vec<usize>,
    /// Copies of a row: where each begins in the source (its taps), and how many columns it has beyond the output's.
    columns: Axis,
    span: usize,
    /// For each column tap, its copy and its place in that.
    tap_column: Vec<(usize, usize)>,
    /// Channels that there is room for.
    channels: usize,
    /// Images that lie side by side in every row, so that a run goes through all of them.
    pub images: usize,
}

impl Layout {
    /// A layout for strips of `rows` x `width` outputs and up to `channels` channels, with a copy for each column tap.
    pub fn new(
        rows_axis: &Axis,
        cols_axis: &Axis,
        rows: usize,
        width: usize,
        channels: usize,
    ) -> Self {
        let step = rows_axis.step as isize;
        let low = rows_axis.taps.iter().copied().min().unwrap_or(0);
        let (mut classes, mut slots) = (Vec::<Class>::new(), 0);
        let mut tap_slot = collect(rows_axis.taps.iter().map(|_| 0));
        for remainder in remainders(rows_axis) {
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
            pitch: width,
            slots,
            classes,
            tap_slot,
            columns: cols_axis.clone(),
            span: 0,
            tap_column: collect((0..cols_axis.taps.len()).map(|q| (q, 0))),
            channels,
            images: 1,
        }
    }

    /// The same with that many images side by side in every row.
    pub fn of_images(self, images: usize) -> Self {
        Layout {
            pitch: self.pitch * images,
            images,
            ..self
        }
    }

    /// The same with one copy for all column taps (one for each remainder of the stride), whose rows are as much longer as
    /// the taps reach: less to copy, and taps that lie side by side read the same lines of the cache. But a run is unbroken
    /// only within a row.
    pub fn shared(self, cols_axis: &Axis) -> Self {
        let step = cols_axis.step as isize;
        let low = cols_axis.taps.iter().copied().min().unwrap_or(0);
        let remainders = remainders(cols_axis);
        let tap_column = collect(cols_axis.taps.iter().map(|&t| {
            let copy = remainders.partition_point(|&r| r < (t - low) % step);
            (copy, ((t - low) / step) as usize)
        }));
        let span = tap_column.iter().map(|t| t.1).max().unwrap_or(0);
        Layout {
            pitch: self.width.saturating_add(span),
            columns: Axis {
                src: cols_axis.src,
                out: cols_axis.out,
                step: cols_axis.step,
                taps: collect(remainders.iter().map(|r| low + r)),
            },
            span,
            tap_column,
            ..self
        }
    }

    /// Elements of all runs: (copy, channel, slot, column). Saturates: a huge dilation leaves that many slots
    /// between two taps, and then there is no memory for them.
    pub fn len(&self) -> usize {
        let sizes = [self.channels, self.slots, self.pitch];
        let copies = self.columns.taps.len();
        let len = sizes.iter().fold(copies, |n, &s| n.saturating_mul(s));
        len.min(usize::MAX / 2) // room for what is added before and behind
    }

    /// Where the rows of a (copy, channel) begin.
    fn start(&self, copy: usize, c: usize) -> usize {
        // Wraps only where `len` saturates.
        (copy * self.channels + c).wrapping_mul(self.slots.wrapping_mul(self.pitch))
    }

    /// Where the run of a tap begins.
    pub fn tap(&self, c: usize, p: usize, q: usize) -> usize {
        let row = self.tap_slot[p].wrapping_mul(self.pitch);
        let (copy, shift) = self.tap_column[q];
        self.start(copy, c).wrapping_add(row).wrapping_add(shift)
    }

    /// The same for all taps in the order (channel, row, column) of a weight.
    pub fn taps(&self) -> Vec<usize> {
        let columns = self.tap_column.len();
        let mut taps = vec(self.channels * self.tap_slot.len() * columns);
        for c in 0..self.channels {
            for p in 0..self.tap_slot.len() {
                taps.extend((0..columns).map(|q| self.tap(c, p, q)));
            }
        }
        taps
    }

    /// Where in a run the first output of each of the strip's rows lies.
    pub fn row(&self, row: usize) -> usize {
        row * self.pitch
    }
}

/// The remainders of the taps, counted from the lowest, by the stride: those that occur, in order (a stride may be huge).
fn remainders(axis: &Axis) -> Vec<isize> {
    let low = axis.taps.iter().copied().min().unwrap_or(0);
    let mut remainders = collect(axis.taps.iter().map(|t| (t - low) % axis.step as isize));
    remainders.sort_unstable();
    remainders.dedup();
    remainders
}

/// Elements behind a copy that may be written (whole vectors are stored) or read (whole tiles).
pub(crate) const SLACK: usize = 128;

/// Elements before the runs that [`fold`] may read.
pub(crate) const FRONT: usize = 64;

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
    let mut strips = vec(oh.div_ceil(rows).saturating_mul(ow.div_ceil(width)));
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

/// Calls `f(channel, rows)` for all rows of a strip, class by class, in the order of the runs; `rows.src` counts from the
/// channel's plane. (Column taps are the outer loop: two of them that touch the same pixels should be far apart, or loads
/// wait for stores that they overlap.)
#[inline(always)]
fn for_rows(
    layout: &Layout,
    [ra, ca]: [&Axis; 2],
    strip: Strip,
    channels: usize,
    mut f: impl FnMut(usize, Rows),
) {
    let (step, cols) = (ca.step as isize, strip.cols);
    let (row_step, width) = (ra.step as isize, ca.src as isize);
    for (q, &tap) in ca.taps.iter().enumerate() {
        for c in 0..channels {
            // Column j of the strip meets source column j * step + start: the padding lies outside low..high.
            let start = strip.j0 as isize * step + tap;
            let reach = |limit: isize| {
                let n = (limit - start + step - 1).div_euclid(step);
                n.clamp(0, cols as isize) as usize
            };
            let (low, high) = (reach(0), reach(width));
            for class in &layout.classes {
                let count = (strip.rows + class.extra) as isize;
                // Rows `above .. below` of the class are inside the source.
                let first = strip.i0 as isize * row_step + class.first;
                let inside = |limit: isize| {
                    let n = (limit - first + row_step - 1).div_euclid(row_step);
                    n.clamp(0, count)
                };
                let (above, below) = (inside(0), inside(ra.src as isize));
                let rows = Rows {
                    run: layout.start(q, c) + class.slot * layout.pitch,
                    pitch: layout.pitch,
                    src: (first + above * row_step) * width + start,
                    src_pitch: ra.step * ca.src,
                    above: above as usize,
                    count: (below - above) as usize,
                    below: (count - below) as usize,
                    cols,
                    images: layout.images,
                    low,
                    high,
                    step: ca.step,
                };
                f(c, rows);
            }
        }
    }
}

struct Fill<'a, T> {
    layout: &'a Layout,
    axes: [&'a Axis; 2],
    strip: Strip,
    channels: usize,
    images: (usize, usize),
    planes: &'a [T],
    out: *mut T,
}

/// Copies what `strip` reads of the planes (one per channel, dense) to `out`: those of `images.0` images, which are
/// `images.1` elements apart.
///
/// # Safety
/// `out` has room for `layout.len() + SLACK` elements that nobody else uses, and `channels` and the number of images are
/// not above the layout's.
pub(crate) unsafe fn fill<T: Real>(
    isa: Isa,
    layout: &Layout,
    axes: [&Axis; 2],
    strip: Strip,
    channels: usize,
    images: (usize, usize),
    planes: &[T],
    out: *mut T,
) {
    let image = channels * axes[0].src * axes[1].src;
    let axes = [axes[0], &layout.columns];
    let strip = Strip {
        cols: strip.cols + layout.span,
        ..strip
    };
    assert!(images.0 > 0 && planes.len() >= (images.0 - 1) * images.1 + image);
    let body = Fill {
        layout,
        axes,
        strip,
        channels,
        images,
        planes,
        out,
    };
    dispatch_on(isa, body);
}

impl<T: Real> Kernel<T> for Fill<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let plane = self.axes[0].src * self.axes[1].src;
        for_rows(
            self.layout,
            self.axes,
            self.strip,
            self.channels,
            |c, rows| {
                let src = self.planes.as_ptr().wrapping_add(c * plane);
                // SAFETY: slots lie inside the channel, and a vector that runs over the end of its row only touches what
                // is written later (images and rows follow one another in memory as they do in time), or the slack.
                // What is read is inside its row of the source.
                unsafe { rows.fill::<S>(src, self.out, self.images) };
            },
        );
    }
}

struct Fold<'a, T> {
    layout: &'a Layout,
    axes: [&'a Axis; 2],
    strip: Strip,
    channels: usize,
    runs: *const T,
    planes: &'a mut [T],
}

/// The adjoint of [`fill`]: adds every element of the runs to the pixel that it would have been copied from.
///
/// # Safety
/// `runs` holds `layout.len()` elements, FRONT before and SLACK behind them may be read, and `channels` is not above the
/// layout's.
pub(crate) unsafe fn fold<T: Real>(
    isa: Isa,
    layout: &Layout,
    axes: [&Axis; 2],
    strip: Strip,
    channels: usize,
    runs: *const T,
    planes: &mut [T],
) {
    assert!(planes.len() >= channels * axes[0].src * axes[1].src);
    let body = Fold {
        layout,
        axes,
        strip,
        channels,
        runs,
        planes,
    };
    dispatch_on(isa, body);
}

impl<T: Real> Kernel<T> for Fold<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let plane = self.axes[0].src * self.axes[1].src;
        let (planes, runs) = (self.planes.as_mut_ptr(), self.runs);
        if self.axes[1].step > 1 {
            for_rows(
                self.layout,
                self.axes,
                self.strip,
                self.channels,
                |c, rows| {
                    // SAFETY: as for fill, with reading and writing exchanged.
                    unsafe { rows.add_to(runs, planes.wrapping_add(c * plane)) };
                },
            );
            return;
        }
        for c in 0..self.channels {
            // SAFETY: the planes and the runs hold what fold's promise and assertion say.
            unsafe { self.channel::<S>(c, planes.wrapping_add(c * plane)) };
        }
    }
}

impl<T: Real> Fold<'_, T> {
    /// One channel, columns at stride 1. A pixel's sum over the column taps is made in a register: adding the runs to memory
    /// one after the other would have every load wait for a store that it half overlaps.
    #[inline(always)]
    unsafe fn channel<S: Simd<T = T>>(&self, c: usize, plane: *mut T) {
        let (layout, strip) = (self.layout, self.strip);
        let [ra, ca] = self.axes;
        let cols = strip.cols as isize;
        let start = |tap: isize| strip.j0 as isize + tap;
        let taps = || ca.taps.iter().map(|&tap| start(tap));
        // Pixels that some tap reaches.
        let left = taps().min().unwrap_or(0).max(0) as usize;
        let right = (taps().max().unwrap_or(0) + cols).clamp(0, ca.src as isize) as usize;
        for class in &layout.classes {
            for t in 0..strip.rows + class.extra {
                let row = (strip.i0 + t) as isize * ra.step as isize + class.first;
                if row < 0 || row >= ra.src as isize {
                    continue;
                }
                let run = layout.start(0, c) + (class.slot + t) * layout.pitch;
                let next = layout.start(1, 0);
                // SAFETY: pixels left .. right are inside the row. A vector of a run may reach beyond its row by less
                // than LANES on either side (FRONT and SLACK elements are there), and those lanes are put to 0.
                unsafe {
                    let dst = plane.add(row as usize * ca.src);
                    let mut x = left;
                    while x < right {
                        let n = S::LANES.min(right - x);
                        let mut sum = S::load_n(dst.add(x), n);
                        let mut run = self.runs.add(run);
                        for &tap in &ca.taps {
                            let j = x as isize - start(tap);
                            let low = (-j).clamp(0, S::LANES as isize) as usize;
                            let high = (cols - j).clamp(0, S::LANES as isize) as usize;
                            if low < high {
                                let mut v = S::load(run.offset(j));
                                if high - low < S::LANES {
                                    let inside = S::mask_and(
                                        S::mask_first(high),
                                        S::mask_not(S::mask_first(low)),
                                    );
                                    v = S::select(inside, v, S::zero());
                                }
                                sum = S::add(sum, v);
                            }
                            run = run.wrapping_add(next);
                        }
                        S::store_n(dst.add(x), sum, n);
                        x += S::LANES;
                    }
                }
            }
        }
    }
}

/// Rows of one class: `above` rows of padding, `count` rows that read the source, `below` rows of padding.
struct Rows {
    /// Where the first row begins in the runs, and the distance to the next.
    run: usize,
    pitch: usize,
    /// Where column 0 of the first row inside would be in the plane, and the distance to the next.
    src: isize,
    src_pitch: usize,
    above: usize,
    count: usize,
    below: usize,
    cols: usize,
    images: usize,
    /// Columns `low .. high` read the source.
    low: usize,
    high: usize,
    step: usize,
}

impl Rows {
    /// # Safety
    /// The rows in `runs` may be written, LANES elements past their end too; what `low .. high` names may be read in each
    /// of the `images` (their number and distance).
    #[inline(always)]
    unsafe fn fill<S: Simd>(&self, plane: *const S::T, runs: *mut S::T, images: (usize, usize)) {
        // SAFETY: the caller's promise.
        unsafe {
            let (cols, low, high) = (self.cols, self.low, self.high);
            let mut dst = self.zeros::<S>(runs.wrapping_add(self.run), self.above);
            // Wrapping: without columns inside, this is formed but not read.
            let mut src = plane.wrapping_offset(self.src);
            // Short rows, where the overhead would show: as many vectors as they have, each with a mask of what the source has.
            let vectors = cols.div_ceil(S::LANES);
            if self.step == 1 && low < high && vectors <= 8 {
                match vectors {
                    1 => self.short::<S, 1>(src, dst, images),
                    2 => self.short::<S, 2>(src, dst, images),
                    3 => self.short::<S, 3>(src, dst, images),
                    4 => self.short::<S, 4>(src, dst, images),
                    5 => self.short::<S, 5>(src, dst, images),
                    6 => self.short::<S, 6>(src, dst, images),
                    7 => self.short::<S, 7>(src, dst, images),
                    _ => self.short::<S, 8>(src, dst, images),
                }
                dst = dst.wrapping_add(self.count * self.pitch);
            } else {
                for _ in 0..self.count {
                    for image in 0..images.0 {
                        let dst = dst.wrapping_add(image * cols);
                        self.fill_row::<S>(src.wrapping_add(image * images.1), dst);
                    }
                    dst = dst.wrapping_add(self.pitch);
                    src = src.wrapping_add(self.src_pitch);
                }
            }
            self.zeros::<S>(dst, self.below);
        }
    }

    /// All rows inside, V vectors each, columns at stride 1.
    /// # Safety
    /// As [`Rows::fill`].
    #[inline(always)]
    unsafe fn short<S: Simd, const V: usize>(
        &self,
        src: *const S::T,
        dst: *mut S::T,
        images: (usize, usize),
    ) {
        // SAFETY: the caller's promise; lanes outside low .. high are not read.
        unsafe {
            let mut inside = [S::mask_first(0); V];
            for (v, inside) in inside.iter_mut().enumerate() {
                let upto = |limit: usize| limit.saturating_sub(v * S::LANES).min(S::LANES);
                let (low, high) = (upto(self.low), upto(self.high));
                *inside = S::mask_and(S::mask_first(high), S::mask_not(S::mask_first(low)));
            }
            for row in 0..self.count {
                for image in 0..images.0 {
                    let src = src.wrapping_add(row * self.src_pitch + image * images.1);
                    let dst = dst.wrapping_add(row * self.pitch + image * self.cols);
                    for v in 0..V {
                        let x = S::load_masked(src.wrapping_add(v * S::LANES), inside[v]);
                        S::store(dst.wrapping_add(v * S::LANES), x);
                    }
                }
            }
        }
    }

    /// One row of one image.
    /// # Safety
    /// As [`Rows::fill`].
    #[inline(always)]
    unsafe fn fill_row<S: Simd>(&self, src: *const S::T, dst: *mut S::T) {
        // SAFETY: the caller's promise.
        unsafe {
            let (cols, low, high) = (self.cols, self.low, self.high);
            for j in (0..low).step_by(S::LANES) {
                S::store(dst.add(j), S::zero());
            }
            let mut j = low;
            if self.step == 1 {
                while j + S::LANES <= high {
                    S::store(dst.add(j), S::load(src.wrapping_add(j)));
                    j += S::LANES;
                }
                if j < high {
                    S::store(dst.add(j), S::load_n(src.wrapping_add(j), high - j));
                    j += S::LANES;
                }
            } else {
                if self.step == 2 {
                    // Every other column: two vectors in, their even lanes out.
                    while j + S::LANES < high {
                        let at = src.wrapping_add(2 * j);
                        let (a, b) = (S::load(at), S::load(at.add(S::LANES)));
                        S::store(dst.add(j), S::deinterleave(a, b).0);
                        j += S::LANES;
                    }
                }
                while j < high {
                    *dst.add(j) = *src.wrapping_add(j * self.step);
                    j += 1;
                }
            }
            while j < cols {
                S::store(dst.add(j), S::zero());
                j += S::LANES;
            }
        }
    }

    /// Adds the rows of the runs to the pixels that they come from.
    ///
    /// # Safety
    /// The rows of the runs may be read; what `low .. high` names may be read and written.
    #[inline(always)]
    unsafe fn add_to<T: Real>(&self, runs: *const T, plane: *mut T) {
        let mut run = runs.wrapping_add(self.run + self.above * self.pitch);
        let mut dst = plane.wrapping_offset(self.src);
        for _ in 0..self.count {
            for j in self.low..self.high {
                // SAFETY: the caller's promise.
                unsafe { *dst.wrapping_add(j * self.step) += *run.add(j) };
            }
            run = run.wrapping_add(self.pitch);
            dst = dst.wrapping_add(self.src_pitch);
        }
    }

    /// Rows of padding; returns the row behind them.
    #[inline(always)]
    unsafe fn zeros<S: Simd>(&self, dst: *mut S::T, rows: usize) -> *mut S::T {
        // Rows lie one after the other; in the last one only the strip's columns (of all images) belong to us.
        let len = if rows == 0 {
            0
        } else {
            (rows - 1) * self.pitch + self.cols * self.images
        };
        // SAFETY: the caller's promise.
        unsafe {
            for j in (0..len).step_by(S::LANES) {
                S::store(dst.add(j), S::zero());
            }
        }
        dst.wrapping_add(rows * self.pitch)
    }
}
