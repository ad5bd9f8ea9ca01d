//! Threads. The only file that names rayon.
//!
//! A kernel is split into tiles whose results do not depend on who computes them. The calling thread is thread 0 of a
//! private pool and works on the tiles itself; up to `n - 1` workers help it.
//!
//! * A *resident job* per worker polls one word (the gate) for [`spin`](Settings::spin) (100 us, `CORTEN_SPIN_US`) and
//!   then gives its thread back to rayon, which puts it to sleep. Publishing a region is one store to that word; jobs
//!   that left are spawned again, and the caller never waits for one that is still waking up: the gate closes when
//!   the tiles are gone, and only threads that came in are waited for.
//! * Work below a threshold ([`Cost`]; sleeping workers are woken only for long work, or for a burst of shorter
//!   regions) runs on the caller alone, as do regions inside regions and regions of a second
//!   thread while the pool is taken.
//! * A panic in a tile reaches the caller, and the pool stays usable. A forked child builds a pool of its own.
//!
//! Environment: `CORTEN_NUM_THREADS`; `CORTEN_SPIN_US`; `CORTEN_SERIAL_BELOW` (microseconds of estimated work below
//! which nothing is shared; 0 forces every region onto all threads, for tests).

mod float_env;
mod interrupt;
mod runs;

use core::cell::{Cell, UnsafeCell};
use core::ops::Range;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::*,
};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::simd::{Isa, isa};
use float_env::FloatEnv;
use interrupt::{Leading, new_region, wait_tick};
pub use interrupt::{Uninterrupted, set_interrupt_hook, take_interrupted, tick};
pub(crate) use interrupt::{abandoned, is_interrupted};
pub(crate) use runs::{Part, Runs};

/// Work of one region, from which it is decided whether other threads are worth waking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

impl Cost {
    /// Estimated microseconds on one thread: `max(flops / rate, bytes / 25 GB/s)`, with a rate that good processors of the
    /// instruction set reach: 100 GFLOP/s for AVX-512, 50 for AVX2, 5 without vectors.
    pub fn micros(&self) -> f64 {
        let rate = match isa() {
            Isa::Avx512 => 100e3,
            Isa::Avx2 => 50e3,
            Isa::Scalar => 5e3,
        };
        (self.flops / rate).max(self.bytes / 25e3)
    }
}

/// Shared only if it takes longer than this with workers awake, in microseconds.
const HOT: f64 = 6.0;
/// The same when they sleep: a wake-up costs 50-100 us.
const COLD: f64 = 100.0;
/// A barrier region waits for sleepers only above this.
const WAIT_FOR_SLEEPERS: f64 = 300.0;
/// What a call costs beside its work, in microseconds.
const OVERHEAD: f64 = 0.5;

struct Settings {
    spin: Duration,
    cores: usize,
}

fn settings() -> &'static Settings {
    static S: OnceLock<Settings> = OnceLock::new();
    S.get_or_init(|| {
        let us = env("CORTEN_SPIN_US").unwrap_or(100.0);
        if let Some(us) = env("CORTEN_SERIAL_BELOW") {
            set_serial_below(Some(us));
        }
        Settings {
            spin: Duration::from_nanos((us.clamp(0.0, 1e6) * 1e3) as u64),
            // std reads the affinity mask and the cgroup (v1 and v2) quota.
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
        }
    })
}

fn env(name: &str) -> Option<f64> {
    std::env::var(name)
        .ok()?
        .trim()
        .parse()
        .ok()
        .filter(|x: &f64| *x >= 0.0)
}

/// 0: not yet chosen.
static WANTED: AtomicUsize = AtomicUsize::new(0);
/// Bits of an f64 in microseconds; NaN: the built-in thresholds.
static SERIAL_BELOW: AtomicU64 = AtomicU64::new(0x7ff8_0000_0000_0000);
/// Set while a thread uses the pool; a second one runs inline instead of waiting.
static BUSY: AtomicBool = AtomicBool::new(false);
/// The pool, owned by whoever holds BUSY. A pointer, so that a forked child can forget it.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(core::ptr::null_mut());
/// One bit per thread that has run a tile.
static WORKED: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

thread_local! {
    static IN_REGION: Cell<bool> = const { Cell::new(false) };
}

/// Number of threads that kernels use, the caller included. At first the cores that the affinity mask and the cgroup
/// quota leave to this process, or `CORTEN_NUM_THREADS`.
pub fn num_threads() -> usize {
    match WANTED.load(Relaxed) {
        0 => {
            let n = env("CORTEN_NUM_THREADS").map_or(0, |x| x as usize);
            let n = if n == 0 { settings().cores } else { n };
            match WANTED.compare_exchange(0, n, Relaxed, Relaxed) {
                Ok(_) => n,
                Err(other) => other,
            }
        }
        n => n,
    }
}

/// Threads that a piece of work is cut for. Whether they wake up is decided when it runs; only what is too small for any is
/// not cut at all.
pub(crate) fn threads_for(cost: Cost) -> usize {
    if cost.flops < 10e3 { 1 } else { num_threads() }
}

/// Sets it (at least 1; never clamped to the number of cores). The pool is rebuilt by the next region.
pub fn set_num_threads(n: usize) {
    WANTED.store(n.max(1), Relaxed);
}

/// Overrides the threshold below which work is not shared, in microseconds; `Some(0.0)` forces every region onto all
/// threads and makes the caller wait until all have come, `None` is the built-in rule.
pub fn set_serial_below(micros: Option<f64>) {
    SERIAL_BELOW.store(micros.unwrap_or(f64::NAN).to_bits(), Relaxed);
}

/// How many different threads have run a tile since [`reset_worked`] (tests of determinism ask it).
pub fn worked() -> usize {
    WORKED
        .iter()
        .map(|w| w.load(Relaxed).count_ones() as usize)
        .sum()
}

/// Starts the count of [`worked`] anew.
pub fn reset_worked() {
    WORKED.iter().for_each(|w| w.store(0, Relaxed));
}

fn mark(thread: usize) {
    let (word, bit) = (&WORKED[thread / 64 % 16], 1 << (thread % 64));
    // Read first: the line stays shared.
    if word.load(Relaxed) & bit == 0 {
        word.fetch_or(bit, Relaxed);
    }
}

/// Forked children own no worker: they forget the parent's pool.
fn register_fork_handler() {
    #[cfg(unix)]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        extern "C" fn child() {
            POOL.store(core::ptr::null_mut(), Relaxed);
            BUSY.store(false, Relaxed);
        }
        // SAFETY: the handler only stores to atomics, which is allowed after fork.
        ONCE.call_once(|| unsafe {
            libc::pthread_atfork(None, None, Some(child));
        });
    }
}

/// Keeps words that different threads write off each other's cache lines (pairs of lines are fetched together).
#[repr(align(128))]
struct Line<T>(T);

/// More than this are not shared (the cursor has 32 bits for each end).
const MOST_TILES: usize = 1 << 31;

const OPEN: u64 = 1 << 63;
const COUNT: u64 = 0xffff_ffff;

// States of a worker's resident job.
const LEFT: u8 = 0;
const SPAWNED: u8 = 1;
const AWAKE: u8 = 2;

#[derive(Clone, Copy)]
enum Body {
    /// Tiles from the cursor, of about `micros` each. `first`: thread i begins with tile i, so that each one works
    /// (forced mode).
    Tiles {
        f: *const (dyn Fn(usize) + Sync),
        tiles: usize,
        micros: f64,
        first: bool,
    },
    /// Once per thread.
    Team(*const (dyn Fn(&Team<'_>) + Sync)),
}

struct Shared {
    /// open bit, 31-bit epoch, number of workers inside.
    gate: Line<AtomicU64>,
    /// epoch and team size; published when enrolment is closed before the start.
    go: Line<AtomicU64>,
    /// Tiles taken: low half from the front, high half from the back.
    cursor: Line<AtomicU64>,
    /// Barriers that each thread of a team has come to. Everyone writes a line of its own and reads the others': after the last arrival
    /// one line has to travel, where a common count and a flag would be three, and between two parts of a chip that is long.
    came: Vec<Line<AtomicU32>>,
    abort: Line<AtomicBool>,
    /// Written by the caller while the gate is closed and nobody is inside; read by workers inside.
    body: UnsafeCell<Option<Body>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    slots: Vec<AtomicU8>,
    quit: AtomicBool,
    /// Spins before yielding: few when there are more threads than cores.
    patience: u32,
}

// SAFETY: `body` is the only field that is not Sync; it is written by the thread that holds BUSY while the gate is
// closed and its count is 0, and read by workers that raised the count while the gate was open.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointers in `body` are only used while the region that published them lasts.
unsafe impl Send for Shared {}

/// Payload of the unwinding that takes a thread out of a barrier after another one panicked.
struct Aborted;

impl Shared {
    fn wait(&self, mut done: impl FnMut() -> bool) {
        let mut spins = 0u32;
        while !done() {
            spins += 1;
            if spins >= self.patience {
                std::thread::yield_now();
            } else {
                core::hint::spin_loop();
            }
        }
    }

    /// The next tile of a thread. Half of the threads take them from the front, half from the back: so in one region after
    /// another a thread meets much the same part of the data, which its caches still hold.
    fn claim(&self, thread: usize, tiles: usize) -> Option<usize> {
        let forward = thread.is_multiple_of(2);
        let one = if forward { 1 } else { 1 << 32 };
        let taken = self.cursor.0.fetch_add(one, Relaxed);
        let (front, back) = ((taken & COUNT) as usize, (taken >> 32) as usize);
        if front + back >= tiles {
            None
        } else if forward {
            Some(front)
        } else {
            Some(tiles - 1 - back)
        }
    }

    /// Runs this thread's share and keeps its panic.
    fn work(&self, body: Body, thread: usize, size: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| match body {
            Body::Tiles {
                f,
                tiles,
                micros,
                first,
            } => {
                // SAFETY: the caller keeps the closure alive until everyone has left the region.
                let f = unsafe { &*f };
                if first && thread < tiles {
                    mark(thread);
                    f(thread);
                }
                while let Some(t) = self.claim(thread, tiles) {
                    mark(thread);
                    f(t);
                    if tick(micros) {
                        self.cursor.0.store(tiles as u64, Relaxed);
                    }
                }
            }
            Body::Team(f) => {
                mark(thread);
                // SAFETY: as above.
                let f = unsafe { &*f };
                f(&Team {
                    shared: Some(self),
                    index: thread,
                    size,
                });
            }
        }));
        if let Err(payload) = result {
            // Nobody claims another tile.
            self.cursor.0.store(MOST_TILES as u64, Relaxed);
            let mut slot = self.panic.lock().unwrap_or_else(|e| e.into_inner());
            // The first real panic is reported; `Aborted` is only its echo.
            if !payload.is::<Aborted>() && slot.is_none() {
                *slot = Some(payload);
            }
            drop(slot);
            self.abort.0.store(true, Release);
        }
    }

    /// The resident job of one worker.
    fn reside(&self, slot: usize) {
        let state = &self.slots[slot];
        state.store(AWAKE, SeqCst);
        IN_REGION.set(true);
        interrupt::follow();
        let _env = FloatEnv::enter();
        let mut last = u64::MAX; // no epoch
        'awake: loop {
            let mut since = Instant::now();
            let mut spins = 0u32;
            loop {
                let gate = self.gate.0.load(SeqCst);
                let epoch = (gate & !OPEN) >> 32;
                if gate & OPEN != 0 && epoch != last {
                    if self
                        .gate
                        .0
                        .compare_exchange_weak(gate, gate + 1, AcqRel, Relaxed)
                        .is_ok()
                    {
                        last = epoch;
                        self.inside(epoch, (gate & COUNT) as usize + 1);
                        since = Instant::now();
                    }
                    continue;
                }
                if self.quit.load(Relaxed) {
                    return;
                }
                spins = spins.wrapping_add(1);
                if spins >= self.patience {
                    std::thread::yield_now();
                } else {
                    core::hint::spin_loop();
                }
                if spins.is_multiple_of(32) && since.elapsed() >= settings().spin {
                    break;
                }
            }
            // Leave; but look once more, for a region published between the last look and the store.
            state.store(LEFT, SeqCst);
            let gate = self.gate.0.load(SeqCst);
            let news = gate & OPEN != 0 && (gate & !OPEN) >> 32 != last;
            if !news || state.compare_exchange(LEFT, AWAKE, SeqCst, SeqCst).is_err() {
                return;
            }
            continue 'awake;
        }
    }

    /// A worker that came in as number `thread`.
    fn inside(&self, epoch: u64, thread: usize) {
        // SAFETY: this thread is counted in the gate, so the caller neither changes nor frees the body.
        let body = unsafe { *self.body.get() };
        if let Some(body) = body {
            let mut size = 0;
            if !matches!(body, Body::Tiles { first: false, .. }) {
                let mut go = 0;
                self.wait(|| {
                    go = self.go.0.load(Acquire);
                    go >> 32 == epoch
                });
                size = (go & COUNT) as usize;
            }
            self.work(body, thread, size);
        }
        self.gate.0.fetch_sub(1, Release);
    }
}

struct Pool {
    /// `None` if the system gave no threads.
    rayon: Option<rayon::ThreadPool>,
    shared: Arc<Shared>,
    threads: usize,
    epoch: u64,
    /// Regions that stayed on the caller because the workers slept: their estimated microseconds since the last
    /// pause, and when the last one began.
    burst: (f64, Instant),
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Relaxed);
    }
}

impl Pool {
    fn new(threads: usize) -> Self {
        register_fork_handler();
        let rayon = rayon::ThreadPoolBuilder::new()
            .num_threads(threads - 1)
            .thread_name(|i| format!("corten-{}", i + 1))
            .build()
            .ok();
        let workers = if rayon.is_some() { threads - 1 } else { 0 };
        let shared = Shared {
            gate: Line(AtomicU64::new(0)),
            go: Line(AtomicU64::new(u64::MAX)),
            cursor: Line(AtomicU64::new(0)),
            came: (0..=workers).map(|_| Line(AtomicU32::new(0))).collect(),
            abort: Line(AtomicBool::new(false)),
            body: UnsafeCell::new(None),
            panic: Mutex::new(None),
            slots: (0..workers).map(|_| AtomicU8::new(LEFT)).collect(),
            quit: AtomicBool::new(false),
            patience: if threads > settings().cores {
                100
            } else {
                20_000
            },
        };
        Pool {
            rayon,
            shared: Arc::new(shared),
            threads,
            epoch: 0,
            burst: (0.0, Instant::now()),
        }
    }

    /// Whether sleeping workers are worth waking for this work: it is long enough, or the latest in a burst of
    /// regions (a training step is many of 20-90 us) that together are.
    fn wake_for(&mut self, micros: f64, cold: f64) -> bool {
        let (sum, since) = self.burst;
        let pause = since.elapsed().as_secs_f64() * 1e6 > micros + 4.0 * cold;
        let sum = if pause { micros } else { sum + micros };
        self.burst = (sum, Instant::now());
        sum >= cold
    }

    fn awake(&self) -> usize {
        let slots = &self.shared.slots;
        slots.iter().filter(|s| s.load(Relaxed) == AWAKE).count()
    }

    /// Runs one region on the calling thread and on the workers that come.
    fn run(&mut self, body: Body, micros: f64, forced: bool) {
        let shared = &*self.shared;
        let awake = self.awake();
        self.epoch = (self.epoch + 1) & 0x7fff_ffff;
        let first = match body {
            Body::Tiles { first, .. } => first,
            Body::Team(_) => false,
        };
        // SAFETY: the gate is closed and nobody is inside; we hold BUSY.
        unsafe { *shared.body.get() = Some(body) };
        let start = if first { self.threads } else { 0 };
        shared.cursor.0.store(start as u64, Relaxed);
        // Uneven, after a region in which a thread panicked.
        if matches!(body, Body::Team(_)) {
            shared.came.iter().for_each(|c| c.0.store(0, Relaxed));
        }
        shared.abort.0.store(false, Relaxed);
        new_region();
        // SeqCst against the worker's "LEFT, then look at the gate once more".
        shared.gate.0.store(OPEN | self.epoch << 32, SeqCst);
        if let Some(rayon) = &self.rayon {
            for (i, slot) in shared.slots.iter().enumerate() {
                if slot.load(SeqCst) == LEFT
                    && slot.compare_exchange(LEFT, SPAWNED, SeqCst, SeqCst).is_ok()
                {
                    let shared = self.shared.clone();
                    rayon.spawn(move || shared.reside(i));
                }
            }
        }
        let mut size = 0;
        if first || matches!(body, Body::Team(_)) {
            let workers = shared.slots.len();
            let came = || (shared.gate.0.load(Relaxed) & COUNT) as usize;
            if forced {
                shared.wait(|| came() == workers);
            } else {
                let since = Instant::now();
                shared.wait(|| {
                    let (have, us) = (came(), since.elapsed().as_micros() as f64);
                    // Those awake come at once unless the system took their core away.
                    let hot = have >= awake || us > 5.0;
                    let cold = micros < WAIT_FOR_SLEEPERS || us > (micros * 0.25).min(100.0);
                    have == workers || (hot && cold)
                });
            }
            size = (shared.gate.0.fetch_and(!OPEN, AcqRel) & COUNT) as usize + 1;
            shared.go.0.store(self.epoch << 32 | size as u64, Release);
        }
        shared.work(body, 0, size);
        shared.gate.0.fetch_and(!OPEN, AcqRel);
        // The last tiles may be long ones.
        let mut looks = 0u32;
        shared.wait(|| {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(256) {
                wait_tick();
            }
            shared.gate.0.load(Acquire) & COUNT == 0
        });
        // SAFETY: closed and empty again.
        unsafe { *shared.body.get() = None };
        if shared.abort.0.load(Acquire) {
            let payload = shared
                .panic
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .take();
            resume_unwind(payload.unwrap_or_else(|| Box::new("a kernel thread was aborted")));
        }
    }
}

/// Owns the pool, and gives it back when dropped.
struct Lease;

impl Lease {
    fn take(wait: bool) -> Option<Lease> {
        while BUSY.swap(true, Acquire) {
            if !wait {
                return None;
            }
            std::thread::yield_now();
        }
        Some(Lease)
    }
    fn pool(&mut self, threads: usize) -> &mut Pool {
        let mut p = POOL.load(Relaxed);
        // SAFETY: BUSY is ours, so nobody else reads or replaces the pool.
        if p.is_null() || unsafe { (*p).threads } != threads {
            let new = Box::into_raw(Box::new(Pool::new(threads)));
            POOL.store(new, Relaxed);
            if !p.is_null() {
                // SAFETY: made by Box::into_raw above and no longer reachable.
                drop(unsafe { Box::from_raw(p) });
            }
            p = new;
        }
        // SAFETY: alive and exclusively ours while the lease lives.
        unsafe { &mut *p }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        BUSY.store(false, Release);
    }
}

/// Shares the body if that pays; `false`: the caller has to run it alone.
fn shared(cost: Cost, tiles: usize, make: impl FnOnce(bool) -> Body) -> bool {
    let threads = num_threads();
    if threads == 1 || tiles <= 1 || tiles >= MOST_TILES || IN_REGION.get() {
        return false;
    }
    settings();
    let below = f64::from_bits(SERIAL_BELOW.load(Relaxed));
    let (hot, cold) = if below.is_nan() {
        (HOT, COLD)
    } else {
        (below, below)
    };
    let forced = below == 0.0;
    let micros = cost.micros();
    if micros < hot && !forced {
        return false;
    }
    let Some(mut lease) = Lease::take(forced) else {
        return false;
    };
    let pool = lease.pool(threads);
    if pool.shared.slots.is_empty() {
        return false;
    }
    if !forced && pool.awake() == 0 && !pool.wake_for(micros, cold) {
        return false;
    }
    struct Inside;
    impl Drop for Inside {
        fn drop(&mut self) {
            IN_REGION.set(false);
        }
    }
    IN_REGION.set(true);
    let _inside = Inside;
    let _env = FloatEnv::enter();
    let _leading = Leading::enter();
    pool.run(make(forced), micros, forced);
    true
}

/// Runs `f(tile)` for every tile in `0..tiles`, tiles claimed from an atomic cursor by the caller and whoever is awake.
/// Which thread runs a tile must not matter to the result. Nested calls run inline.
///
/// When the interrupt hook says stop, the remaining tiles are skipped (as are those of all further calls) until
/// [`take_interrupted`] is asked, which says so.
///
/// # Panics
/// With the payload of the first tile that panicked, after all threads have left.
pub fn for_each(tiles: usize, cost: Cost, f: &(dyn Fn(usize) + Sync)) {
    each(tiles, cost, f);
}

/// [`for_each`] that Ctrl-C does not cut short: for updates in place, which must not be left half done.
pub fn for_each_atomic(tiles: usize, cost: Cost, f: &(dyn Fn(usize) + Sync)) {
    let _uninterrupted = Uninterrupted::enter();
    each(tiles, cost, f);
}

fn each(tiles: usize, cost: Cost, f: &(dyn Fn(usize) + Sync)) {
    // A call that is being abandoned does not begin its next part.
    if tiles == 0 || is_interrupted() {
        return;
    }
    let micros = cost.micros() / tiles as f64;
    let make = |first| Body::Tiles {
        // SAFETY: only the lifetime changes; `run` returns after the last use.
        f: unsafe {
            core::mem::transmute::<*const (dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync)>(f)
        },
        tiles,
        micros,
        first,
    };
    if shared(cost, tiles, make) {
        return;
    }
    let _env = FloatEnv::enter();
    if !IN_REGION.get() {
        mark(0);
    }
    // A call takes its time, however small its work.
    let mut extra = OVERHEAD;
    for t in 0..tiles {
        f(t);
        if tick(micros + extra) {
            break;
        }
        extra = 0.0;
    }
}

/// Runs `f` on `0..len` cut into pieces of `chunk` (the last one shorter). The cuts depend on `len` and `chunk` alone.
pub fn for_each_chunk(len: usize, chunk: usize, cost: Cost, f: &(dyn Fn(Range<usize>) + Sync)) {
    let chunk = chunk.max(1);
    for_each(len.div_ceil(chunk), cost, &|t| {
        f(t * chunk..((t + 1) * chunk).min(len));
    });
}

/// One thread's view of a [`region`].
pub struct Team<'a> {
    shared: Option<&'a Shared>,
    index: usize,
    size: usize,
}

impl Team<'_> {
    /// 0 for the caller.
    pub fn index(&self) -> usize {
        self.index
    }
    /// Threads in this region.
    pub fn size(&self) -> usize {
        self.size
    }
    /// This thread's share of `0..len`, cut into `size()` nearly equal runs.
    pub fn share(&self, len: usize) -> Range<usize> {
        let (q, r) = (len / self.size, len % self.size);
        let start = self.index * q + self.index.min(r);
        start..start + q + usize::from(self.index < r)
    }
    /// Waits until every thread of the team has come here; writes before it are visible after it.
    /// Every thread must call it equally often.
    pub fn barrier(&self) {
        let Some(shared) = self.shared else { return };
        if self.size == 1 {
            return;
        }
        let own = &shared.came[self.index].0;
        let count = own.load(Relaxed).wrapping_add(1);
        own.store(count, Release);
        let mut aborted = false;
        for other in shared.came[..self.size].iter() {
            // Another thread may have come to the next barrier already, but no further.
            let passed = || other.0.load(Acquire).wrapping_sub(count) <= 1;
            if !passed() {
                shared.wait(|| {
                    aborted = shared.abort.0.load(Acquire);
                    aborted || passed()
                });
            }
        }
        if aborted {
            resume_unwind(Box::new(Aborted));
        }
    }
}

/// Runs `f` once on every thread of a team whose size is fixed at the start (1 when the work is too small).
///
/// Ctrl-C does not cut it short.
///
/// # Panics
/// With the payload of the first thread that panicked; the others are taken out of their barriers.
pub fn region(cost: Cost, f: &(dyn Fn(&Team<'_>) + Sync)) {
    let make = |_| {
        // SAFETY: only the lifetime changes; `run` returns after the last use.
        Body::Team(unsafe {
            core::mem::transmute::<
                *const (dyn Fn(&Team<'_>) + Sync),
                *const (dyn Fn(&Team<'_>) + Sync),
            >(f)
        })
    };
    let _uninterrupted = Uninterrupted::enter();
    if shared(cost, MOST_TILES - 1, make) {
        return;
    }
    let _env = FloatEnv::enter();
    if !IN_REGION.get() {
        mark(0);
    }
    f(&Team {
        shared: None,
        index: 0,
        size: 1,
    });
}

/// Runs `f` with `n` threads and every region forced onto all of them, one such caller at a time; for tests.
#[doc(hidden)]
pub fn with_forced_threads<R>(n: usize, f: impl FnOnce() -> R) -> R {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    settings();
    struct Restore(usize, u64);
    impl Drop for Restore {
        fn drop(&mut self) {
            WANTED.store(self.0, Relaxed);
            SERIAL_BELOW.store(self.1, Relaxed);
        }
    }
    let _restore = Restore(num_threads(), SERIAL_BELOW.load(Relaxed));
    set_num_threads(n);
    set_serial_below(Some(0.0));
    f()
}

/// A pointer that tiles write disjoint parts through.
#[derive(Clone, Copy)]
pub struct SharedMut<T>(pub *mut T);
// SAFETY: users write disjoint ranges only (each use says why).
unsafe impl<T: Send> Send for SharedMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<T> {}
impl<T> SharedMut<T> {
    /// The part `start .. start + len`.
    /// # Safety
    /// In bounds, alive, and no other reference to that part exists while the result lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        // SAFETY: the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

#[cfg(test)]
mod tests;
