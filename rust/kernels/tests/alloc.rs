//! The caching allocator. A process of its own, because its counters are global.
use core::ptr::NonNull;
use corten_kernels::alloc::{ALIGN, alloc, free, stats, trim};
use std::sync::Mutex;

const HUGE: usize = 2 << 20;
const SMALLEST_LIMIT: usize = 256 << 20;

/// Tests take turns.
static TURN: Mutex<()> = Mutex::new(());

#[test]
#[cfg_attr(corten_exact, ignore = "there is no cache")]
fn blocks_are_aligned_writable_and_distinct() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let sizes = [
        0,
        1,
        63,
        64,
        65,
        256,
        257,
        5000,
        40_000,
        1 << 20,
        (2 << 20) + 1,
        9 << 20,
    ];
    for _ in 0..3 {
        let mut blocks = Vec::new();
        for (i, &bytes) in sizes.iter().enumerate() {
            for j in 0..3 {
                let p = alloc(bytes).unwrap();
                assert_eq!(p.as_ptr() as usize % ALIGN, 0);
                if bytes >= HUGE {
                    assert_eq!(p.as_ptr() as usize % HUGE, 0);
                }
                // SAFETY: the block has that many bytes.
                unsafe { p.write_bytes((3 * i + j) as u8, bytes) };
                blocks.push((p, bytes, (3 * i + j) as u8));
            }
        }
        for (p, bytes, mark) in blocks {
            // SAFETY: written above, freed once.
            unsafe {
                let s = core::slice::from_raw_parts(p.as_ptr(), bytes);
                assert!(s.iter().all(|b| *b == mark));
                free(p, bytes);
            }
        }
    }
    assert!(alloc(usize::MAX).is_none());
    assert!(alloc(1 << 47).is_none());
}

#[test]
#[cfg_attr(corten_exact, ignore = "there is no cache")]
fn a_steady_step_takes_nothing_from_the_system() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let step = || {
        let sizes = [100, 3000, 70_000, 884_736, 3 << 20, 100, 3000];
        let blocks: Vec<_> = sizes.iter().map(|&b| (alloc(b).unwrap(), b)).collect();
        // SAFETY: each freed once, with its size.
        blocks.into_iter().for_each(|(p, b)| unsafe { free(p, b) });
    };
    step();
    let taken = stats().2;
    for _ in 0..20 {
        step();
    }
    assert_eq!(stats().2, taken);
}

#[test]
#[cfg_attr(corten_exact, ignore = "there is no cache")]
fn trim_returns_what_is_cached() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let before = stats();
    let p = alloc(5 << 20).unwrap();
    assert_eq!(stats().0, before.0 + (5 << 20));
    // SAFETY: freed once.
    unsafe { free(p, 5 << 20) };
    assert_eq!(stats().0, before.0);
    assert!(stats().1 >= 5 << 20);
    trim();
    // Lists of other, sleeping test threads may hold a little.
    assert!(stats().1 < 5 << 20);
}

#[test]
fn blocks_may_be_freed_on_another_thread() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let before = stats().0;
    for _ in 0..10 {
        let blocks: Vec<usize> = (0..200)
            .map(|i| alloc(64 + 100 * i).unwrap().as_ptr() as usize)
            .collect();
        std::thread::spawn(move || {
            for (i, p) in blocks.into_iter().enumerate() {
                let p = NonNull::new(p as *mut u8).unwrap();
                // SAFETY: from alloc with that size, freed once.
                unsafe { free(p, 64 + 100 * i) };
            }
        })
        .join()
        .unwrap();
    }
    assert_eq!(stats().0, before);
}

#[test]
#[cfg_attr(corten_exact, ignore = "there is no cache")]
fn the_cache_is_bounded_and_drops_stale_sizes_first() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    // One block at a time of many sizes: without a bound all of them would stay (untouched pages cost nothing).
    for i in 0..40 {
        let bytes = (40 << 20) + (i << 22);
        let p = alloc(bytes).unwrap();
        // SAFETY: freed once.
        unsafe { free(p, bytes) };
        // Not more than was in use at once, and a little in the lists of threads.
        assert!(stats().1 <= SMALLEST_LIMIT + (64 << 20));
    }
    let taken = stats().2;
    let p = alloc((40 << 20) + (39 << 22)).unwrap();
    assert_eq!(stats().2, taken, "the newest size was dropped");
    // SAFETY: freed once.
    unsafe { free(p, (40 << 20) + (39 << 22)) };
    trim();
}

#[test]
#[cfg(unix)]
fn a_child_forked_while_others_allocate_can_allocate() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let cycle = || {
        let p = alloc(100_000).unwrap();
        // SAFETY: freed once.
        unsafe { free(p, 100_000) };
    };
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                cycle();
            }
        });
        let mut failed = Vec::new();
        for _ in 0..20 {
            // SAFETY: the child only allocates and leaves without unwinding.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // A lock held for ever ends the child by SIGALRM.
                // SAFETY: plain system calls.
                unsafe { libc::alarm(30) };
                cycle();
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            let mut status = 1;
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            failed.extend((status != 0).then_some(status));
        }
        // Before anything can panic: the scope waits for its thread.
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(failed.is_empty(), "children ended with {failed:?}");
    });
}
