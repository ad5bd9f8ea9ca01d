//! Ctrl-C: the thread that called a kernel asks a hook every 20 ms, between tiles and inside long ones, and the workers follow.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering::*};
use std::time::{Duration, Instant};

/// How often a long call looks for Ctrl-C.
const POLL: Duration = Duration::from_millis(20);

/// `fn() -> bool`, or null.
static HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

thread_local! {
    /// A call of this thread was abandoned, and nobody has been told yet.
    static INTERRUPTED: Cell<bool> = const { Cell::new(false) };
    /// `None`: the call that this thread is in does not listen to Ctrl-C, or is not this thread's.
    static LOOK: Cell<Option<Look>> = const { Cell::new(None) };
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Set while the call whose tiles the workers run is being abandoned.
static ABANDONED: AtomicBool = AtomicBool::new(false);

/// How a call listens to Ctrl-C.
#[derive(Clone, Copy)]
struct Look {
    /// When it last asked.
    since: Instant,
    /// Floating-point operations since it last looked at the clock.
    flops: f64,
    /// Workers take part.
    shared: bool,
}

/// Operations between two looks at the clock: some 50 us.
const LOOK_FLOPS: f64 = 5e6;

/// Sets the function that says whether the user wants to stop (Ctrl-C). It is called on the calling thread only, every
/// 20 ms of a long call.
pub fn set_interrupt_hook(f: fn() -> bool) {
    HOOK.store(f as *mut (), Relaxed);
}

/// Asks the interrupt hook now (long loops outside kernels call it, at most every few milliseconds).
/// When it says yes, [`take_interrupted`] will too.
pub fn poll_interrupt() -> bool {
    let hook = HOOK.load(Relaxed);
    if hook.is_null() {
        return false;
    }
    // SAFETY: only set_interrupt_hook stores here, and it stores a `fn() -> bool`.
    let hook = unsafe { core::mem::transmute::<*mut (), fn() -> bool>(hook) };
    let stop = hook();
    if stop {
        INTERRUPTED.set(true);
    }
    stop
}

/// Whether the call that this tile belongs to is being abandoned (Ctrl-C): a tile that may take long asks after every piece
/// of about `flops` operations, and returns at once when told so. Cheap enough for pieces of a microsecond.
pub(crate) fn abandoned(flops: f64) -> bool {
    if WORKER.get() {
        return ABANDONED.load(Relaxed);
    }
    let Some(mut look) = LOOK.get() else {
        return false;
    };
    look.flops += flops;
    let due = look.flops >= LOOK_FLOPS;
    if due {
        look.flops = 0.0;
    }
    LOOK.set(Some(look));
    if due { look_now() } else { INTERRUPTED.get() }
}

/// Asks the interrupt hook if it was not asked for 20 ms.
pub(super) fn look_now() -> bool {
    let Some(look) = LOOK.get() else {
        return false;
    };
    if INTERRUPTED.get() {
        return true;
    }
    if look.since.elapsed() < POLL {
        return false;
    }
    let stop = poll_interrupt();
    LOOK.set(Some(Look {
        since: Instant::now(),
        ..look
    }));
    if stop && look.shared {
        ABANDONED.store(true, Relaxed);
    }
    stop
}

/// A call that listens to Ctrl-C, or does not; restores what was before when dropped.
pub(super) struct Listening(Option<Look>);

impl Listening {
    pub(super) fn enter(listen: bool, shared: bool) -> Self {
        let listen = listen && !HOOK.load(Relaxed).is_null();
        Listening(LOOK.replace(listen.then(|| Look {
            since: Instant::now(),
            flops: 0.0,
            shared,
        })))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LOOK.set(self.0);
    }
}

/// This thread is a worker: it stops when its caller does.
pub(super) fn follow() {
    WORKER.set(true);
}

/// A region begins that nobody has abandoned.
pub(super) fn new_region() {
    ABANDONED.store(false, Relaxed);
}

/// What [`take_interrupted`] will say.
pub(super) fn is_interrupted() -> bool {
    INTERRUPTED.get()
}

/// True once if a kernel that this thread called was abandoned by the interrupt hook: its outputs are incomplete and
/// must not be published.
pub fn take_interrupted() -> bool {
    INTERRUPTED.replace(false)
}
