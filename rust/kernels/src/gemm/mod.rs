//! General matrix multiply: `C = act(A B + C0 + bias)`.
//!
//! `kernel` holds the register tiles, `band` rows of them, `pack` copies operands into the order in which tiles read them, `plan` cuts a
//! product into blocks and tasks, `tasks` runs those of several, `outer` those that share a transposed A over a long k. An element of C is one chain of fused
//! multiply-adds in k order per block of k, and the blocks are added in order; the blocks depend on k alone. So neither threads nor
//! strides nor tile sizes show in the bits.
mod act;
pub(crate) mod band;
pub(crate) mod buffer;
pub(crate) mod dot;
mod gemv;
pub(crate) mod kernel;
pub(crate) mod outer;
pub(crate) mod pack;
mod plan;
mod sums;
mod tasks;
#[cfg(test)]
mod tests;

use crate::alloc::{self, collect};
use crate::element::Real;
use crate::layout::numel;
use crate::parallel::{Cost, SharedMut, for_each, is_interrupted, threads_for};
pub(crate) use act::apply as apply_activation;
use outer::{Outer, Side};
pub(crate) use plan::k_blocks;
use plan::{Plan, cost};
use sums::ColumnSums;
use tasks::{Extra, execute};

/// A matrix: element (i, j) is `data[offset + i * rs + j * cs]`; strides may be 0 or negative.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Mat<'a, T> {
    pub data: &'a [T],
    pub offset: usize,
    pub rs: isize,
    pub cs: isize,
}

impl<'a, T> Mat<'a, T> {
    /// Dense rows of `cols` numbers.
    pub fn dense(data: &'a [T], cols: usize) -> Self {
        Mat {
            data,
            offset: 0,
            rs: cols as isize,
            cs: 1,
        }
    }
}

/// Activation applied in the epilogue, on the registers that hold the tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Activation {
    #[default]
    None,
    Relu,
    Gelu,
    Silu,
    Sigmoid,
    Tanh,
}

/// What happens to a tile before it is stored.
#[derive(Debug)]
pub struct Epilogue<'a, T> {
    /// Added per column (length n).
    pub bias: Option<&'a [T]>,
    /// Applied last.
    pub act: Activation,
    /// Add to what `c` holds instead of overwriting it.
    pub accumulate: bool,
    /// Second store: the value before the activation (dense m x n).
    pub pre: Option<&'a mut [T]>,
}
impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Self {
            bias: None,
            act: Activation::None,
            accumulate: false,
            pre: None,
        }
    }
}

/// `c = act(a b + bias)` with a (m, k), b (k, n); see [`Epilogue`] for what else can happen on the way.
///
/// `c` is dense row-major `(m, n)`. k = 0 gives the epilogue of zeros. Any thread count gives the same bits; so does any
/// stride pattern of a and b.
///
/// # Panics
/// When an operand is too short for its shape and strides.
pub fn gemm<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    c: &mut [T],
    epilogue: Epilogue<'_, T>,
) {
    let cost = cost::<T>(m, n, k);
    let plan = Plan::new(m, n, k, a, b, c, epilogue, threads_for(cost));
    execute(&[plan], cost, Extra::NONE, Extra::NONE);
}

/// `batch = a_off.len()` products (m, k) (k, n); product i reads a at `a.offset + a_off[i]`, b at `b.offset + b_off[i]`,
/// and writes `c[i*m*n ..]`.
///
/// # Panics
/// As [`gemm`], and when `b_off` has another length than `a_off`.
pub fn gemm_batched<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    a: Mat<'_, T>,
    a_off: &[isize],
    b: Mat<'_, T>,
    b_off: &[isize],
    c: &mut [T],
) {
    let batch = a_off.len();
    assert_eq!(batch, b_off.len(), "a and b have different batch sizes");
    assert!(
        c.len() >= numel(&[batch, m, n]),
        "c is too short for {batch} x {m} x {n}"
    );
    if m == 0 || n == 0 {
        return;
    }
    let one = cost::<T>(m, n, k);
    let mut all = one;
    all.flops *= batch as f64;
    all.bytes *= batch as f64;
    // Products big enough to be shared, and too few of them to go round, are split themselves.
    let threads = threads_for(all);
    let split = if batch >= 4 * threads {
        1
    } else {
        threads_for(one)
    };
    let product = |i: usize, c| {
        let a = Mat {
            offset: shifted(a.offset, a_off[i]),
            ..a
        };
        let b = Mat {
            offset: shifted(b.offset, b_off[i]),
            ..b
        };
        Plan::new(m, n, k, a, b, c, Epilogue::default(), split)
    };
    if split == 1 {
        // A task lays out its own.
        let c = SharedMut(c.as_mut_ptr());
        return for_each(batch, all, &|i| {
            // SAFETY: the length was checked; a product of c is its task's alone.
            product(i, unsafe { c.slice(i * m * n, m * n) }).run_alone();
        });
    }
    // A part of them at a time: laying out a million products takes a while, in which nothing would hear Ctrl-C.
    for (i, c) in c[..batch * m * n].chunks_mut(PART * m * n).enumerate() {
        let products = c.len() / (m * n);
        let each = c
            .chunks_mut(m * n)
            .zip(i * PART..)
            .map(|(c, i)| product(i, c));
        let plans = collect(each);
        let cost = Cost {
            flops: one.flops * products as f64,
            bytes: one.bytes * products as f64,
        };
        execute(&plans, cost, Extra::NONE, Extra::NONE);
        if is_interrupted() {
            return;
        }
    }
}

/// Products of a batch that are laid out together.
const PART: usize = 4096;

fn shifted(offset: usize, by: isize) -> usize {
    offset
        .checked_add_signed(by)
        .expect("a batch offset points before the data")
}

/// Gradients of `y = act(x w^T + b)`: x (m, k), w (n, k) dense, dz = dy * act'(saved) (m, n) dense is given.
/// `dx = dz w`, `dw = dz^T x`, `db = column sums of dz`; only those asked for, in one region.
///
/// # Panics
/// When an operand is too short.
pub fn linear_backward<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    x: &[T],
    w: &[T],
    dz: &[T],
    dx: Option<&mut [T]>,
    dw: Option<&mut [T]>,
    db: Option<&mut [T]>,
) {
    let (mut products, mut outer, mut sums) = (alloc::vec(2), None, None);
    // For a long batch; the rows of a short one are packed as fast where they are used.
    let long = k_blocks(m).nth(1).is_some();
    match (dw, db) {
        (Some(dw), db) if long => {
            let side = Side::new(n, k, x, dw);
            outer = Some(Outer::new(m, (dz, n, 0), [side].into_iter(), db));
        }
        (dw, db) => {
            if let Some(dw) = dw {
                let (a, b) = (Mat::dense(dz, n).t(), Mat::dense(x, k));
                products.push(Product::new([n, k, m], a, b, dw));
            }
            sums = db.map(|db| (m, n, dz, db));
        }
    }
    if let Some(dx) = dx {
        let (a, b) = (Mat::dense(dz, n), Mat::dense(w, k));
        products.push(Product::new([m, k, n], a, b, dx));
    }
    gemm_list(&mut products, outer.as_slice(), sums.as_mut_slice());
}

/// One of the products of [`gemm_list`].
pub(crate) struct Product<'a, T> {
    /// m, n, k.
    pub size: [usize; 3],
    pub a: Mat<'a, T>,
    pub b: Mat<'a, T>,
    /// Dense `(m, n)`.
    pub c: &'a mut [T],
    /// Add to what `c` holds.
    pub accumulate: bool,
}

impl<'a, T> Product<'a, T> {
    pub fn new(size: [usize; 3], a: Mat<'a, T>, b: Mat<'a, T>, c: &'a mut [T]) -> Self {
        Product {
            size,
            a,
            b,
            c,
            accumulate: false,
        }
    }
}

/// Several independent products, sums of outer products and column sums `(m, n, x, out)` of dense matrices, in one region.
pub(crate) fn gemm_list<T: Real>(
    products: &mut [Product<'_, T>],
    outers: &[Outer<'_, T>],
    sums: &mut [(usize, usize, &[T], &mut [T])],
) {
    let mut work = Cost::default();
    let mut add = |one: Cost| {
        work.flops += one.flops;
        work.bytes += one.bytes;
    };
    for p in products.iter() {
        let [m, n, k] = p.size;
        add(cost::<T>(m, n, k));
    }
    outers.iter().for_each(|o| add(o.cost()));
    let threads = threads_for(work);
    let plans = collect(products.iter_mut().map(|p| {
        let [m, n, k] = p.size;
        let epilogue = Epilogue {
            accumulate: p.accumulate,
            ..Epilogue::default()
        };
        Plan::new(m, n, k, p.a, p.b, &mut *p.c, epilogue, threads)
    }));
    let sums = collect(
        sums.iter_mut()
            .map(|(m, n, x, out)| ColumnSums::new(*m, *n, x, out)),
    );
    let outer: usize = outers.iter().map(Outer::tasks).sum();
    let small: usize = sums.iter().map(ColumnSums::tasks).sum();
    let run = |task: usize| {
        if task < outer {
            let (outer, task) = of(outers, Outer::tasks, task);
            return outer.run(task);
        }
        let (sum, task) = of(&sums, ColumnSums::tasks, task - outer);
        sum.run(task);
    };
    let flops = |task: usize| {
        // Column sums are small.
        if task >= outer {
            return 0.0;
        }
        let (outer, task) = of(outers, Outer::tasks, task);
        outer.flops(task)
    };
    let extra = Extra {
        tasks: outer + small,
        flops: &flops,
        run: &run,
    };
    let pack = |task: usize| {
        let (outer, task) = of(outers, Outer::pack_tasks, task);
        outer.run_pack(task);
    };
    let pack = Extra {
        tasks: outers.iter().map(Outer::pack_tasks).sum(),
        flops: &|_| 0.0,
        run: &pack,
    };
    execute(&plans, work, pack, extra);
    outers.iter().for_each(Outer::finish);
}

/// Whose a task is among those of several, one after the other, and its number there.
fn of<X>(all: &[X], tasks: impl Fn(&X) -> usize, mut task: usize) -> (&X, usize) {
    for x in all {
        if task < tasks(x) {
            return (x, task);
        }
        task -= tasks(x);
    }
    unreachable!("a task beyond the last")
}
