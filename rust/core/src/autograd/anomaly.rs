//! Anomaly mode: names the operation in which a NaN (or infinity) was *born*: what went in was clean, what came out was not.
//!
//! Off, it costs one relaxed load per operation. On, every result and every gradient is looked through; and every node
//! remembers where it was recorded ([`Place`]), for the time when its gradient is the one that fails.

use core::cell::RefCell;
use core::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::node::Node;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::shape::{Shape, show};
use crate::tensor::Tensor;
use crate::value::Value;
use crate::with_element;

/// Where in the caller's program something happened; shown in the error's text.
pub trait Place: fmt::Display + std::any::Any + Send + Sync {
    /// To find the caller's own type again.
    fn as_any(&self) -> &dyn std::any::Any;
}
/// What anomaly mode notes of an operation when it is recorded.
pub(super) struct Origin {
    place: Option<Arc<dyn Place>>,
    /// A NaN went in or came out: then one in its gradient is passed on, and not born.
    nan: bool,
}
type Running = (&'static str, Option<Arc<dyn Place>>);
type Observer = fn() -> Option<Arc<dyn Place>>;

/// How many ask for the mode: those who look for NaN in the low half, those who look for infinities too in the high half.
static USERS: AtomicU32 = AtomicU32::new(0);
static OBSERVER: OnceLock<Observer> = OnceLock::new();
const INFINITIES: u32 = 1 << 16;

thread_local! {
    /// What was found first in the call that runs on this thread.
    static FOUND: RefCell<Option<Box<Anomaly>>> = const { RefCell::new(None) };
    /// The node whose gradient is being computed on this thread.
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// Whether anybody has turned the mode on.
#[inline]
pub fn is_on() -> bool {
    USERS.load(Ordering::Relaxed) != 0
}
/// Turns the mode on, for all threads, until [`leave`] is called as often; `infinities`: look for them, too.
pub fn enter(infinities: bool) {
    USERS.fetch_add(if infinities { INFINITIES } else { 1 }, Ordering::Relaxed);
}
/// Takes back one [`enter`].
pub fn leave(infinities: bool) {
    USERS.fetch_sub(if infinities { INFINITIES } else { 1 }, Ordering::Relaxed);
}
/// Says how to find out where the program is; the first call counts.
pub fn observe_with(observer: Observer) {
    let _ = OBSERVER.set(observer);
}

/// What anomaly mode found.
#[derive(Clone)]
pub struct Anomaly {
    /// The operation.
    pub op: &'static str,
    /// Whether its gradient failed, and not its result.
    pub backward: bool,
    /// Whether an infinity was found, and no NaN.
    pub infinite: bool,
    /// How many elements.
    pub count: usize,
    /// The first of them.
    pub first: Vec<usize>,
    /// The shape of the result, or of the gradient.
    pub shape: Shape,
    /// Where the operation was called.
    pub place: Option<Arc<dyn Place>>,
    /// Which result or gradient, its shape, and what went in, in words.
    details: String,
}
impl fmt::Debug for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.infinite {
            "an infinity"
        } else {
            "a NaN"
        };
        let (way, came) = if self.backward {
            (
                "in the backward pass: its incoming gradient",
                "the gradient",
            )
        } else {
            ("in the forward pass: its input", "the output")
        };
        let clean = if self.infinite {
            "is finite"
        } else {
            "holds no NaN"
        };
        write!(
            f,
            "[{}] {what} was born here, {way} {clean}, {came} does ({} of {} elements, the first at {})",
            self.op,
            self.count,
            self.shape.iter().product::<usize>(),
            show(&self.first),
        )?;
        f.write_str(&self.details)?;
        match &self.place {
            Some(p) => write!(f, "{p}"),
            None => Ok(()),
        }
    }
}
impl std::error::Error for Anomaly {}

/// What a value holds.
struct Census {
    nan: usize,
    infinite: usize,
    first_nan: usize,
    first_infinite: usize,
    low: f64,
    high: f64,
}
impl Census {
    fn of(v: &Value) -> Option<Self> {
        if !v.dtype().is_float() {
            return None;
        }
        let mut c = Self {
            nan: 0,
            infinite: 0,
            first_nan: 0,
            first_infinite: 0,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
        };
        with_element!(v.dtype(), T => {
            // Without memory to look there is no census.
            for (i, x) in v.to_vec::<T>().ok()?.into_iter().enumerate() {
                c.add(i, x.to_scalar().to_f64());
            }
        });
        Some(c)
    }
    fn add(&mut self, i: usize, x: f64) {
        if x.is_nan() {
            self.first_nan = if self.nan == 0 { i } else { self.first_nan };
            self.nan += 1;
        } else if x.is_infinite() {
            self.first_infinite = if self.infinite == 0 {
                i
            } else {
                self.first_infinite
            };
            self.infinite += 1;
        } else {
            self.low = self.low.min(x);
            self.high = self.high.max(x);
        }
    }
}

/// The index of element number `flat` in C order.
pub(super) fn position(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (i, &n) in shape.iter().enumerate().rev() {
        at[i] = flat % n;
        flat /= n;
    }
    at
}

/// A number to six digits, as a person would write it.
fn short(x: f64) -> String {
    let rounded: f64 = format!("{x:.5e}").parse().unwrap_or(x);
    if rounded == 0.0 || (1e-4..1e7).contains(&rounded.abs()) {
        format!("{rounded}")
    } else {
        format!("{rounded:e}")
    }
}

/// One line for each value: shape, dtype and range, and how many elements are not finite.
fn describe(what: &str, values: &[Option<Value>]) -> String {
    let mut text = String::new();
    for (i, v) in values.iter().enumerate() {
        let Some(v) = v else { continue };
        text += &format!("\n  {what} {i}: {} {}", v.shape(), v.dtype());
        if let Some(c) = Census::of(v) {
            if c.low <= c.high {
                text += &format!(" from {} to {}", short(c.low), short(c.high));
            }
            if c.infinite > 0 {
                let first = position(c.first_infinite, v.shape());
                text += &format!(", {} infinite, the first at {}", c.infinite, show(&first));
            }
            if c.nan > 0 {
                text += &format!(", {} NaN", c.nan);
            }
        }
    }
    text
}

/// The first of `after` that holds what none of `before` does: its index, whether it is an infinity, and its census.
fn born(before: &[Option<Value>], after: &[Option<Value>]) -> Option<(usize, bool, Census)> {
    let infinities = USERS.load(Ordering::Relaxed) >= INFINITIES;
    let mut seen: Option<(bool, bool)> = None; // (a NaN, anything not finite) in `before`; looked for only when it matters
    for (i, v) in after.iter().enumerate() {
        let Some(c) = v.as_ref().and_then(Census::of) else {
            continue;
        };
        if c.nan == 0 && (c.infinite == 0 || !infinities) {
            continue;
        }
        let (nan, any) = *seen.get_or_insert_with(|| {
            let each = before.iter().flatten().filter_map(Census::of);
            each.fold((false, false), |(n, a), c| {
                (n || c.nan > 0, a || c.nan + c.infinite > 0)
            })
        });
        if c.nan > 0 && !nan {
            return Some((i, false, c));
        }
        if infinities && c.infinite > 0 && !any {
            return Some((i, true, c));
        }
    }
    None
}

fn holds_nan(values: &[Option<Value>]) -> bool {
    let mut each = values.iter().flatten().filter_map(Census::of);
    each.any(|c| c.nan > 0)
}

/// Looks through the outputs of an operation; what it finds waits for [`take`].
///
/// An operation composed of others may make a NaN inside and mask it; so a finding goes when a later operation of the same
/// call gets a NaN and gives none. Gives whether a NaN went in or came out.
#[cold]
pub(super) fn inspect(op: &'static str, inputs: &[&Tensor], outs: &[Value]) -> bool {
    let before: Vec<_> = inputs.iter().map(|x| Some(x.value())).collect();
    let after: Vec<_> = outs.iter().cloned().map(Some).collect();
    let (came, went) = (holds_nan(&before), holds_nan(&after));
    if FOUND.with_borrow(Option::is_some) {
        if came && !went {
            FOUND.set(None);
        }
        return came || went;
    }
    if let Some((i, infinite, c)) = born(&before, &after) {
        let v = &outs[i];
        let mut details = describe("input", &before) + &describe("output", &after);
        RUNNING.with_borrow(|r| {
            if let Some((name, _)) = r {
                details += &format!("\n  while the gradient of '{name}' was computed");
            }
        });
        let anomaly = Anomaly {
            op,
            backward: false,
            infinite,
            count: if infinite { c.infinite } else { c.nan },
            first: position(
                if infinite {
                    c.first_infinite
                } else {
                    c.first_nan
                },
                v.shape(),
            ),
            shape: v.shape().clone(),
            place: place(),
            details,
        };
        FOUND.set(Some(Box::new(anomaly)));
    }
    came || went
}

/// What was found since the last call on this thread.
#[cold]
pub fn take() -> Option<Error> {
    FOUND.take().map(|a| Error::Foreign(Arc::new(*a)))
}

/// What to note of an operation that is recorded now; `nan` is what [`inspect`] gave.
#[cold]
pub(super) fn origin(nan: bool) -> Box<Origin> {
    let place = place();
    Box::new(Origin { place, nan })
}

/// Where the program is; within a gradient, where the operation was called whose gradient it is.
fn place() -> Option<Arc<dyn Place>> {
    match RUNNING.with_borrow(|r| r.as_ref().map(|r| r.1.clone())) {
        Some(place) => place,
        None => OBSERVER.get().and_then(|observe| observe()),
    }
}

/// Runs `vjp`, the gradient of `node` for `grads`, and looks through what it gives.
pub(super) fn watch(
    node: &Node,
    grads: &[Option<Tensor>],
    vjp: impl FnOnce() -> Result<Vec<Option<Tensor>>>,
) -> Result<Vec<Option<Tensor>>> {
    if is_on() {
        watched(node, grads, vjp)
    } else {
        vjp()
    }
}

#[cold]
fn watched(
    node: &Node,
    grads: &[Option<Tensor>],
    vjp: impl FnOnce() -> Result<Vec<Option<Tensor>>>,
) -> Result<Vec<Option<Tensor>>> {
    /// Forgets the node, also when its gradient panics.
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            RUNNING.set(None);
        }
    }
    // A walk inside a gradient (a twin's) is part of that gradient, which is looked through as a whole.
    if RUNNING.with_borrow(Option::is_some) {
        return vjp();
    }
    if let Some(e) = take() {
        return Err(e); // a sum of gradients
    }
    let origin = node.origin.as_deref();
    let place = origin.and_then(|o| o.place.clone());
    RUNNING.set(Some((node.name(), place.clone())));
    let done = Done;
    let results = vjp();
    drop(done);
    let inside = FOUND.take();
    let results = results?;
    let values = |all: &[Option<Tensor>]| -> Vec<Option<Value>> {
        let each = all.iter().map(|t| t.as_ref().map(Tensor::value));
        each.collect()
    };
    let (before, after) = (values(grads), values(&results));
    let Some((i, infinite, c)) = born(&before, &after) else {
        return Ok(results);
    };
    if origin.is_some_and(|o| o.nan) {
        return Ok(results);
    }
    let shape = results[i].as_ref().map(|t| t.shape().clone());
    let shape = shape.expect("what was found is there");
    let mut details =
        describe("gradient of output", &before) + &describe("gradient of input", &after);
    if let Some(a) = inside.filter(|a| a.op != node.name()) {
        details += &format!("\n  within it, in '{}'", a.op);
    }
    Err(Error::Foreign(Arc::new(Anomaly {
        op: node.name(),
        backward: true,
        infinite,
        count: if infinite { c.infinite } else { c.nan },
        first: position(
            if infinite {
                c.first_infinite
            } else {
                c.first_nan
            },
            &shape,
        ),
        shape,
        place,
        details,
    })))
}
