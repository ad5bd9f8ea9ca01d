//! Ctrl-C: the thread that called a kernel asks a hook every 20 ms, and the workers follow.
//!
//! One word is passed around everywhere: [`tick`], which says that some microseconds of work are done. It is called after
//! every kernel and every tile, inside tiles that may be long, and by loops above the kernels that may be (the walk of a
//! graph). It adds up the work, looks at the clock when there is enough of it, and asks the hook when the clock says so;
//! most calls add one number.

use core::cell::Cell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering::*};
use std::time::{Duration, Instant};

/// How often the hook is asked.
const POLL: Duration = Duration::from_millis(20);
/// Microseconds of estimated work between two looks at the clock. Estimates are those of a fast machine; on the slowest
/// path they are 100 times too low, and a look comes after 5 ms.
const LOOK: f64 = 50.0;

/// `fn() -> bool`, or null.
static HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
/// Set while the call whose tiles the workers run is being abandoned.
static ABANDONED: AtomicBool = AtomicBool::new(false);

struct Ear {
    /// Estimated microseconds of work since the last look at the clock.
    work: Cell<f64>,
    /// When the hook was last asked.
    asked: Cell<Option<Instant>>,
    /// The hook said yes, and nobody has been told yet.
    interrupted: Cell<bool>,
    /// How many [`Uninterrupted`] live.
    deaf: Cell<u32>,
    /// Workers run tiles of this thread's call.
    leads: Cell<bool>,
    /// This thread is a worker: it stops when its caller does.
    follows: Cell<bool>,
}

thread_local! {
    static EAR: Ear = const {
        Ear {
            work: Cell::new(0.0),
            asked: Cell::new(None),
            interrupted: Cell::new(false),
            deaf: Cell::new(0),
            leads: Cell::new(false),
            follows: Cell::new(false),
        }
    };
}

/// Sets the function that says whether the user wants to stop (Ctrl-C). It is called on the calling thread only, every
/// 20 ms of work, and never while an [`Uninterrupted`] lives.
pub fn set_interrupt_hook(f: fn() -> bool) {
    HOOK.store(f as *mut (), Relaxed);
}

/// Asks the hook.
fn ask(ear: &Ear) -> bool {
    let hook = HOOK.load(Relaxed);
    if hook.is_null() {
        return false;
    }
    // SAFETY: only set_interrupt_hook stores here, and it stores a `fn() -> bool`.
    let hook = unsafe { core::mem::transmute::<*mut (), fn() -> bool>(hook) };
    let stop = hook();
    if stop {
        ear.interrupted.set(true);
        if ear.leads.get() {
            ABANDONED.store(true, Relaxed);
        }
    }
    stop
}

/// About `micros` microseconds of work have been done (on a fast machine). Whether what this thread is doing is to be
/// abandoned, because the user pressed Ctrl-C: then return at once, and let whoever publishes the result ask
/// [`take_interrupted`]. Costs a nanosecond or two.
#[inline]
pub fn tick(micros: f64) -> bool {
    EAR.with(|ear| {
        let work = ear.work.get() + micros;
        if work >= LOOK {
            return look(ear);
        }
        ear.work.set(work);
        if ear.follows.get() {
            ABANDONED.load(Relaxed)
        } else {
            ear.interrupted.get() && ear.deaf.get() == 0
        }
    })
}

#[cold]
#[inline(never)]
fn look(ear: &Ear) -> bool {
    ear.work.set(0.0);
    if ear.follows.get() {
        return ABANDONED.load(Relaxed);
    }
    if ear.deaf.get() > 0 {
        return false;
    }
    if ear.interrupted.get() {
        return true;
    }
    let now = Instant::now();
    if ear.asked.get().is_some_and(|t| now - t < POLL) {
        return false;
    }
    // Before the hook, which may run a signal handler that computes.
    ear.asked.set(Some(now));
    ask(ear)
}

/// [`tick`] after about `flops` floating-point operations.
#[inline]
pub(crate) fn abandoned(flops: f64) -> bool {
    tick(flops / 100e3)
}

/// A look at the clock, from loops that wait.
pub(super) fn wait_tick() {
    tick(LOOK);
}

/// While it lives, Ctrl-C waits: this thread holds a lock, or changes something that must not be left half done.
pub struct Uninterrupted(PhantomData<*const ()>);

impl Uninterrupted {
    /// From now on.
    pub fn enter() -> Self {
        EAR.with(|ear| ear.deaf.set(ear.deaf.get() + 1));
        Uninterrupted(PhantomData)
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        EAR.with(|ear| ear.deaf.set(ear.deaf.get() - 1));
    }
}

/// This thread's call runs on the workers too, until it is dropped.
pub(super) struct Leading;

impl Leading {
    pub(super) fn enter() -> Self {
        EAR.with(|ear| ear.leads.set(true));
        Leading
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        EAR.with(|ear| ear.leads.set(false));
    }
}

/// This thread is a worker: it stops when its caller does.
pub(super) fn follow() {
    EAR.with(|ear| ear.follows.set(true));
}

/// A region begins that nobody has abandoned.
pub(super) fn new_region() {
    ABANDONED.store(false, Relaxed);
}

/// What [`take_interrupted`] will say; kernels of several passes stop when it does.
pub(crate) fn is_interrupted() -> bool {
    EAR.with(|ear| ear.interrupted.get() && ear.deaf.get() == 0)
}

/// True once if a kernel that this thread called was abandoned by the interrupt hook: its outputs are incomplete and
/// must not be published.
#[inline]
pub fn take_interrupted() -> bool {
    EAR.with(|ear| ear.interrupted.replace(false))
}
