//! Caching, 64-byte aligned allocation.
//!
//! A fresh page costs far more than the arithmetic on it (0.4 ms per MiB in 4 KiB pages), and a training step asks for
//! the same sizes again and again; so freed blocks are kept, and a steady step takes nothing from the system.
//!
//! * Sizes are rounded up to a multiple of 64 up to 256, then to a quarter power of two (at most 25 % is lost).
//! * Blocks up to 32 KiB are first kept per thread, without a lock, up to 64 KiB per size; the rest goes to one global
//!   list per size, whoever frees it.
//! * Blocks from 2 MiB on are mapped on a 2 MiB boundary and marked for huge pages: a tenth of the page faults.
//! * The cache holds at most as much as was ever in use at once, and never less than 256 MiB (`CORTEN_CACHE_MIB`
//!   sets another bound). What is beyond goes back to the system, sizes that were asked for longest ago first.
//! * A forked child may go on using it: `pthread_atfork` takes the lock.

mod vectors;

use core::cell::{Cell, UnsafeCell};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
pub(crate) use vectors::{collect, push, vec};

/// Built with `--cfg corten_exact` (`make asan`): every block is exactly as long as asked for, fresh from the system and returned at
/// once, so that a tool that watches memory sees each byte read or written beyond its end or after its time.
const EXACT: bool = cfg!(corten_exact);

/// Alignment of every block: a cache line and an AVX-512 vector.
pub const ALIGN: usize = 64;

const CLASSES: usize = 4 * 48;
/// Classes up to 32 KiB, kept per thread.
const LOCAL_CLASSES: usize = 4 + 4 * 7;
const LOCAL_BYTES: usize = 64 << 10;
const HUGE: usize = 2 << 20;

/// The class that serves `bytes` (at least 1).
fn class_of(bytes: usize) -> usize {
    if bytes <= 256 {
        return bytes.div_ceil(64) - 1;
    }
    // bytes lies in (2^k, 2^(k+1)], k >= 8.
    let k = (bytes - 1).ilog2() as usize;
    let quarter = (bytes - 1 - (1 << k)) >> (k - 2);
    4 + (k - 8) * 4 + quarter
}

/// Its size: the largest request that it serves.
fn class_size(class: usize) -> usize {
    if class < 4 {
        return (class + 1) * 64;
    }
    let (k, quarter) = (8 + (class - 4) / 4, (class - 4) % 4);
    (1 << k) + ((quarter + 1) << (k - 2))
}

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static CACHED: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// Raised by [`trim`]: threads flush their own lists when they see it.
static TRIMS: AtomicU64 = AtomicU64::new(0);

/// A free block: the list runs through the blocks themselves, so that the cache needs no memory.
struct Node {
    next: *mut Node,
    /// The thread that freed it ([`me`]), whose cache may still hold it.
    owner: usize,
}

/// A number of this thread: an address that no other living thread has.
fn me() -> usize {
    LOCAL
        .try_with(|l| core::ptr::from_ref(l).addr())
        .unwrap_or(0)
}

/// How many blocks [`List::pop_own`] looks at.
const LOOK: usize = 8;

#[derive(Clone, Copy)]
struct List {
    head: *mut Node,
    len: usize,
    /// When a block of this class was last asked for.
    used: u64,
}

const EMPTY: List = List {
    head: null_mut(),
    len: 0,
    used: 0,
};

impl List {
    fn push(&mut self, p: NonNull<u8>, owner: usize) {
        let node = p.cast::<Node>();
        let next = self.head;
        // SAFETY: a free block of at least 64 aligned bytes that nobody else uses.
        unsafe { node.write(Node { next, owner }) };
        self.head = node.as_ptr();
        self.len += 1;
    }
    fn pop(&mut self) -> Option<NonNull<u8>> {
        let node = NonNull::new(self.head)?;
        // SAFETY: written by push, and in no other list.
        self.head = unsafe { node.as_ref().next };
        self.len -= 1;
        Some(node.cast())
    }
    /// The block that thread `owner` freed last, if it is among the first few; otherwise the first. Threads that use
    /// workspaces of one size by turns would otherwise exchange them, and fetch each other's lines from core to core.
    fn pop_own(&mut self, owner: usize) -> Option<NonNull<u8>> {
        let mut before: *mut Node = null_mut();
        let mut at = self.head;
        for _ in 0..LOOK {
            let node = NonNull::new(at)?;
            // SAFETY: a block of this list, whose node push wrote; so is the one before it.
            unsafe {
                let Node { next, owner: last } = node.read();
                if last == owner {
                    match NonNull::new(before) {
                        Some(mut before) => before.as_mut().next = next,
                        None => self.head = next,
                    }
                    self.len -= 1;
                    return Some(node.cast());
                }
                (before, at) = (at, next);
            }
            if at.is_null() {
                break;
            }
        }
        self.pop()
    }
}

struct Global {
    lists: [List; CLASSES],
    clock: u64,
}

/// A spin lock, because a fork handler has to take and release it in different functions.
struct Lock {
    held: AtomicBool,
    data: UnsafeCell<Global>,
}
// SAFETY: `data` is only reached through `with`, which holds the lock.
unsafe impl Sync for Lock {}

static GLOBAL: Lock = Lock {
    held: AtomicBool::new(false),
    data: UnsafeCell::new(Global {
        lists: [EMPTY; CLASSES],
        clock: 0,
    }),
};

impl Lock {
    fn acquire(&self) {
        let mut spins = 0;
        while self.held.swap(true, Acquire) {
            spins += 1;
            if spins < 100 {
                core::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
    fn release(&self) {
        self.held.store(false, Release);
    }
    /// `f` must not panic (it only moves pointers).
    fn with<R>(&self, f: impl FnOnce(&mut Global) -> R) -> R {
        register_fork_handlers();
        self.acquire();
        // SAFETY: the lock is held.
        let r = f(unsafe { &mut *self.data.get() });
        self.release();
        r
    }
}

fn register_fork_handlers() {
    #[cfg(unix)]
    {
        // No `Once` here and below: a child forked while another thread runs one would wait for it for ever.
        static DONE: AtomicBool = AtomicBool::new(false);
        extern "C" fn before() {
            GLOBAL.acquire();
        }
        extern "C" fn after() {
            GLOBAL.release();
        }
        if !DONE.swap(true, Relaxed) {
            // SAFETY: the handlers only touch one atomic.
            unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
        }
    }
}

/// The lists of one thread.
struct Local {
    lists: [Cell<List>; LOCAL_CLASSES],
    trims: Cell<u64>,
}

thread_local! {
    static LOCAL: Local = const {
        Local { lists: [const { Cell::new(EMPTY) }; LOCAL_CLASSES], trims: Cell::new(0) }
    };
}

impl Local {
    fn pop(&self, class: usize) -> Option<NonNull<u8>> {
        let mut list = self.lists[class].get();
        let p = list.pop();
        self.lists[class].set(list);
        p
    }
    fn push(&self, class: usize, p: NonNull<u8>) -> bool {
        if self.trims.get() != TRIMS.load(Relaxed) {
            self.flush();
        }
        let mut list = self.lists[class].get();
        if list.len * class_size(class) >= LOCAL_BYTES {
            return false;
        }
        list.push(p, 0);
        self.lists[class].set(list);
        true
    }
    /// Gives everything to the global lists.
    fn flush(&self) {
        self.trims.set(TRIMS.load(Relaxed));
        let owner = core::ptr::from_ref(self).addr();
        GLOBAL.with(|g| {
            for class in 0..LOCAL_CLASSES {
                let mut list = self.lists[class].replace(EMPTY);
                while let Some(p) = list.pop() {
                    g.lists[class].push(p, owner);
                }
            }
        });
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A block of at least `bytes` bytes, 64-byte aligned, contents unspecified; `None` when the system refuses.
/// `bytes == 0` gives a dangling, aligned pointer.
pub fn alloc(bytes: usize) -> Option<NonNull<u8>> {
    if bytes == 0 {
        return NonNull::new(core::ptr::without_provenance_mut(ALIGN));
    }
    if bytes > 1 << 47 {
        return None;
    }
    let class = class_of(bytes);
    let size = if EXACT { bytes } else { class_size(class) };
    if size > 1 << 30 && size > memory() {
        return None; // promised by an overcommitting system, it would only fail later, at a write
    }
    let local = if class < LOCAL_CLASSES && !EXACT {
        LOCAL.try_with(|l| l.pop(class)).ok().flatten()
    } else {
        None
    };
    let cached = local.or_else(|| {
        if EXACT {
            return None;
        }
        let owner = me();
        GLOBAL.with(|g| {
            g.clock += 1;
            g.lists[class].used = g.clock;
            g.lists[class].pop_own(owner)
        })
    });
    let p = match cached {
        Some(p) => {
            CACHED.fetch_sub(size, Relaxed);
            p
        }
        None => {
            let fresh = || if reserve() { take(size) } else { None };
            let fresh = fresh().or_else(|| {
                trim();
                fresh()
            })?;
            TAKEN.fetch_add(1, Relaxed);
            fresh
        }
    };
    let now = IN_USE.fetch_add(size, Relaxed) + size;
    if now > PEAK.load(Relaxed) {
        PEAK.fetch_max(now, Relaxed);
    }
    Some(p)
}

/// What leaves a kernel (by unwinding, caught by [`catch`]) when the system refuses its workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// How many were asked for.
    pub bytes: usize,
}

/// Runs a kernel; `Err` when there was no memory for its workspace, and its outputs are then unspecified.
pub fn catch<R>(kernel: impl FnOnce() -> R) -> Result<R, OutOfMemory> {
    // Unwind safety: kernels write to their outputs alone, which the caller then drops.
    catch_unwind(AssertUnwindSafe(kernel)).map_err(|payload| match payload.downcast() {
        Ok(refused) => *refused,
        Err(panic) => resume_unwind(panic),
    })
}

/// Leaves the kernel; see [`catch`]. Not a panic: no hook runs and nothing is printed.
#[cold]
pub(crate) fn refuse(bytes: usize) -> ! {
    resume_unwind(Box::new(OutOfMemory { bytes }))
}

/// Gives a block back to the cache; any thread may.
/// # Safety
/// `p` came from [`alloc`] with the same `bytes` and is not used again.
pub unsafe fn free(p: NonNull<u8>, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let class = class_of(bytes);
    let size = if EXACT { bytes } else { class_size(class) };
    IN_USE.fetch_sub(size, Relaxed);
    if EXACT {
        return give_back(p, size);
    }
    let cached = CACHED.fetch_add(size, Relaxed) + size;
    let kept = class < LOCAL_CLASSES && LOCAL.try_with(|l| l.push(class, p)).unwrap_or(false);
    if !kept {
        let owner = me();
        GLOBAL.with(|g| g.lists[class].push(p, owner));
    }
    if cached > limit() {
        evict(limit());
    }
}

/// What `find` gives, asked for once or, by threads that come at the same time, a few times; 0 stands for not yet.
fn remembered(cell: &AtomicUsize, find: impl FnOnce() -> usize) -> usize {
    match cell.load(Relaxed) {
        0 => {
            let found = find();
            cell.store(found, Relaxed);
            found
        }
        found => found,
    }
}

/// Bytes of memory and swap space that this machine has; no single block can be larger.
fn memory() -> usize {
    #[cfg(target_os = "linux")]
    {
        static TOTAL: AtomicUsize = AtomicUsize::new(0);
        remembered(&TOTAL, || {
            // SAFETY: all-zero bytes are a valid value of this struct of numbers, which the call fills.
            let (ok, info) = unsafe {
                let mut info: libc::sysinfo = core::mem::zeroed();
                (libc::sysinfo(&mut info) == 0, info)
            };
            let pages = info.totalram.saturating_add(info.totalswap);
            let bytes = pages.saturating_mul(info.mem_unit.max(1).into());
            if ok && bytes > 0 {
                bytes as usize
            } else {
                usize::MAX
            }
        })
    }
    #[cfg(not(target_os = "linux"))]
    usize::MAX
}

/// Most bytes that the cache may hold.
fn limit() -> usize {
    /// Stands for no limit set.
    const UNSET: usize = usize::MAX;
    static FIXED: AtomicUsize = AtomicUsize::new(0);
    let fixed = remembered(&FIXED, || {
        let set = std::env::var("CORTEN_CACHE_MIB");
        let mib = set.ok().and_then(|text| text.trim().parse::<usize>().ok());
        // One byte more, so that a limit of 0 is told from one that was not looked up.
        mib.map_or(UNSET, |mib| mib.saturating_mul(1 << 20).saturating_add(1))
    });
    match fixed {
        UNSET => PEAK.load(Relaxed).max(256 << 20),
        bytes => bytes - 1,
    }
}

/// Returns global blocks to the system until at most `keep` bytes are cached.
fn evict(keep: usize) {
    while CACHED.load(Relaxed) > keep {
        // One class at a time, the one asked for longest ago; the system is called without the lock.
        let (class, mut list) = GLOBAL.with(|g| {
            let stale = (0..CLASSES)
                .filter(|c| g.lists[*c].len > 0)
                .min_by_key(|c| g.lists[*c].used);
            match stale {
                None => (0, EMPTY),
                Some(c) => {
                    let used = g.lists[c].used;
                    (
                        c,
                        core::mem::replace(&mut g.lists[c], List { used, ..EMPTY }),
                    )
                }
            }
        });
        if list.len == 0 {
            return; // what remains lies in other threads' lists
        }
        let size = class_size(class);
        while let Some(p) = list.pop() {
            if CACHED.load(Relaxed) > keep {
                give_back(p, size);
                CACHED.fetch_sub(size, Relaxed);
            } else {
                GLOBAL.with(|g| g.lists[class].push(p, 0));
            }
        }
    }
}

/// Returns cached blocks to the system; other threads' small lists follow when those threads next free something.
pub fn trim() {
    TRIMS.fetch_add(1, Relaxed);
    let _ = LOCAL.try_with(|l| l.flush());
    evict(0);
}

/// The allocator of everything else (graph nodes, lists), for programs that set it as their `#[global_allocator]`: the system's,
/// but a refusal first gives the cached blocks and then a reserve back, and asks again; small blocks then come from a spare
/// room of the library's own. [`alloc`] takes nothing from the system
/// while the reserve is missing: so a large block, which can be refused, meets the end of memory before a small one does, which
/// Rust would not survive. Counts large blocks ([`heap_blocks`]).
pub struct Heap;

/// A last few small blocks, for the moments in which others (the interpreter's objects) have eaten the reserve too: Rust would
/// not survive a refusal. Taken one after the other; all are free again when the last one in use is given back.
mod spare {
    use super::*;

    const BYTES: usize = 64 << 10;

    #[repr(align(64))]
    struct Room(UnsafeCell<[u8; BYTES]>);
    // SAFETY: `alloc` hands out disjoint parts, and nobody else looks at it.
    unsafe impl Sync for Room {}
    static ROOM: Room = Room(UnsafeCell::new([0; BYTES]));
    /// Blocks in use (high half) and bytes taken (low half).
    static STATE: AtomicU64 = AtomicU64::new(0);

    pub fn alloc(layout: Layout) -> *mut u8 {
        let size = layout.size().next_multiple_of(ALIGN);
        if layout.align() > ALIGN || size > BYTES {
            return null_mut();
        }
        let taken = STATE.fetch_update(AcqRel, Relaxed, |state| {
            let used = (state & 0xffff_ffff) as usize;
            (used + size <= BYTES).then_some(state + (1 << 32) + size as u64)
        });
        match taken {
            Ok(state) => ROOM
                .0
                .get()
                .cast::<u8>()
                .wrapping_add((state & 0xffff_ffff) as usize),
            Err(_) => null_mut(),
        }
    }

    #[inline]
    pub fn holds(p: *mut u8) -> bool {
        p.addr().wrapping_sub(ROOM.0.get().addr()) < BYTES
    }

    #[cold]
    pub fn free() {
        let less = |state: u64| match state - (1 << 32) {
            last if last >> 32 == 0 => Some(0),
            more => Some(more),
        };
        let _ = STATE.fetch_update(AcqRel, Relaxed, less);
    }
}

/// Room for small things when memory has run out.
const RESERVE_BYTES: usize = 512 << 10;
static RESERVE: AtomicPtr<u8> = AtomicPtr::new(null_mut());

fn reserve_layout() -> Option<Layout> {
    Layout::from_size_align(RESERVE_BYTES, ALIGN).ok()
}

/// Whether the reserve is there, or could be taken again.
fn reserve() -> bool {
    if !RESERVE.load(Relaxed).is_null() {
        return true;
    }
    let Some(layout) = reserve_layout() else {
        return false;
    };
    // SAFETY: the size is not 0.
    let p = unsafe { System.alloc(layout) };
    if p.is_null() {
        return false;
    }
    let first = RESERVE.compare_exchange(null_mut(), p, AcqRel, Relaxed);
    if first.is_err() {
        // SAFETY: made above with this layout; another thread was faster.
        unsafe { System.dealloc(p, layout) };
    }
    true
}

/// Gives the reserve back to the system.
fn release_reserve() {
    let p = RESERVE.swap(null_mut(), AcqRel);
    if let (false, Some(layout)) = (p.is_null(), reserve_layout()) {
        // SAFETY: made by `reserve` with this layout; the swap made it ours.
        unsafe { System.dealloc(p, layout) };
    }
}

/// From which size on a block of [`Heap`] counts as large.
const LARGE: usize = 4096;
static HEAP_BLOCKS: AtomicU64 = AtomicU64::new(0);

/// How many blocks of 4 KiB or more were asked for through [`Heap`] (a steady training step asks for none).
pub fn heap_blocks() -> u64 {
    HEAP_BLOCKS.load(Relaxed)
}

/// Asks for `size` bytes, and once more after the cache was emptied.
#[inline]
fn ask(layout: Layout, size: usize, from_system: impl Fn() -> *mut u8) -> *mut u8 {
    if size >= LARGE {
        HEAP_BLOCKS.fetch_add(1, Relaxed);
    }
    let p = from_system();
    if !p.is_null() {
        return p;
    }
    // Nothing in there allocates, and nobody allocates while holding the lock of the lists.
    trim();
    let p = from_system();
    if !p.is_null() || size >= LARGE {
        return p;
    }
    release_reserve();
    let p = from_system();
    if !p.is_null() {
        return p;
    }
    Layout::from_size_align(size, layout.align()).map_or(null_mut(), spare::alloc)
}

// SAFETY: all blocks are the system's, made and freed with the layouts that came.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        ask(layout, layout.size(), || unsafe { System.alloc(layout) })
    }
    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let p = ask(layout, layout.size(), || unsafe {
            System.alloc_zeroed(layout)
        });
        if spare::holds(p) {
            // SAFETY: a block of that size.
            unsafe { p.write_bytes(0, layout.size()) };
        }
        p
    }
    #[inline]
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let moved = if spare::holds(p) {
            let new = Layout::from_size_align(size, layout.align());
            // SAFETY: the new layout is valid where the old one is and the caller keeps the promise about the size.
            new.map_or(null_mut(), |new| unsafe { self.alloc(new) })
        } else {
            // SAFETY: the caller's promise; a refused request leaves the old block as it is.
            let grown = ask(layout, size, || unsafe { System.realloc(p, layout, size) });
            if !spare::holds(grown) {
                return grown;
            }
            grown
        };
        if !moved.is_null() {
            // SAFETY: both blocks hold that much and are different; the old one is given back once.
            unsafe {
                core::ptr::copy_nonoverlapping(p, moved, layout.size().min(size));
                self.dealloc(p, layout);
            }
        }
        moved
    }
    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        if spare::holds(p) {
            return spare::free();
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

/// Bytes handed out, bytes cached, and the number of times memory was taken from the system (a steady step adds none).
pub fn stats() -> (usize, usize, u64) {
    (
        IN_USE.load(Relaxed),
        CACHED.load(Relaxed),
        TAKEN.load(Relaxed),
    )
}

#[cfg(unix)]
fn take(size: usize) -> Option<NonNull<u8>> {
    if size < HUGE || EXACT {
        return take_small(size);
    }
    // Map 2 MiB more than needed and cut off what lies outside the aligned part.
    let total = size.checked_add(HUGE)?;
    // SAFETY: a private anonymous mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            null_mut(),
            total,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return None;
    }
    let before = base.align_offset(HUGE);
    let p = base.wrapping_byte_add(before);
    // SAFETY: both ranges lie inside the new mapping, outside of the part that is kept; sizes of huge classes and
    // HUGE are multiples of the page size. madvise does not change contents.
    unsafe {
        if before > 0 {
            libc::munmap(base, before);
        }
        if HUGE - before > 0 {
            libc::munmap(p.wrapping_byte_add(size), HUGE - before);
        }
        #[cfg(target_os = "linux")]
        libc::madvise(p, size, libc::MADV_HUGEPAGE);
    }
    NonNull::new(p.cast())
}

#[cfg(not(unix))]
fn take(size: usize) -> Option<NonNull<u8>> {
    take_small(size)
}

fn take_small(size: usize) -> Option<NonNull<u8>> {
    let layout = Layout::from_size_align(size, ALIGN).ok()?;
    // SAFETY: size is at least 64.
    NonNull::new(unsafe { System.alloc(layout) })
}

/// Undoes [`take`].
fn give_back(p: NonNull<u8>, size: usize) {
    #[cfg(unix)]
    if size >= HUGE && !EXACT {
        // SAFETY: a whole block mapped by `take` that no list holds any more.
        unsafe { libc::munmap(p.as_ptr().cast(), size) };
        return;
    }
    if let Ok(layout) = Layout::from_size_align(size, ALIGN) {
        // SAFETY: from `take_small` with the same layout, in no list any more.
        unsafe { System.dealloc(p.as_ptr(), layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spare_room_serves_small_blocks_again_and_again() {
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        for _ in 0..3 {
            let mut blocks = Vec::new();
            loop {
                let p = spare::alloc(layout(100, 8));
                if p.is_null() {
                    break;
                }
                assert!(spare::holds(p) && p.addr().is_multiple_of(ALIGN));
                // SAFETY: 100 bytes of its own.
                unsafe { p.write_bytes(blocks.len() as u8, 100) };
                blocks.push(p);
            }
            assert_eq!(blocks.len(), (64 << 10) / 128);
            for (i, &p) in blocks.iter().enumerate() {
                // SAFETY: written above; nobody else may have touched it.
                assert!((0..100).all(|b| unsafe { *p.add(b) } == i as u8));
            }
            // Full until the last one comes back.
            for i in 0..blocks.len() {
                assert!(spare::alloc(layout(1, 1)).is_null(), "{i}");
                spare::free();
            }
        }
        assert!(spare::alloc(layout(1, 128)).is_null());
        assert!(!spare::holds(null_mut()));
        let mut other = 1u8;
        assert!(!spare::holds(&raw mut other));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn more_than_the_machine_has_is_refused_at_once() {
        assert!(memory() > 1 << 20 && memory() < 1 << 47);
        assert!(alloc(1 << 46).is_none());
        assert!(alloc(1 << 47).is_none());
    }

    #[test]
    fn a_refused_workspace_leaves_the_kernel() {
        let bytes = 1 << 60;
        assert_eq!(
            catch(|| vec::<u8>(bytes)).err(),
            Some(OutOfMemory { bytes })
        );
        assert_eq!(catch(|| collect((0..3u8).rev())), Ok(vec![2, 1, 0]));
        // From a worker, too, and the pool is none the worse for it.
        use crate::parallel::{Cost, for_each, with_forced_threads};
        with_forced_threads(3, || {
            for _ in 0..3 {
                let cost = Cost::default();
                let refused = catch(|| {
                    for_each(64, cost, &|t| drop(vec::<u8>(bytes * usize::from(t == 63))))
                });
                assert_eq!(refused, Err(OutOfMemory { bytes }));
                assert_eq!(catch(|| for_each(64, cost, &|_| ())), Ok(()));
            }
        });
    }

    #[test]
    fn classes_are_tight_and_monotone() {
        let mut last = 0;
        for class in 0..CLASSES - 8 {
            let size = class_size(class);
            assert!(size > last && size.is_multiple_of(64));
            assert_eq!(class_of(size), class);
            assert_eq!(class_of(last + 1), class);
            assert!(size <= 256 || (size as f64) < 1.2501 * (last + 1) as f64);
            last = size;
        }
        assert_eq!(class_size(LOCAL_CLASSES - 1), 32 << 10);
        assert!(class_of(1 << 47) < CLASSES);
        // Huge classes are whole pages.
        assert!((class_of(HUGE)..CLASSES).all(|c| class_size(c).is_multiple_of(4096)));
    }
}
