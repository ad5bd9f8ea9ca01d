//! The pool's tests. Each holds the lock of `with_forced_threads`, so that they do not resize it under each other.
use super::*;
use std::collections::HashSet;

const BIG: Cost = Cost {
    flops: 1e9,
    bytes: 0.0,
};

fn message(e: &(dyn Any + Send)) -> &str {
    e.downcast_ref::<&str>()
        .copied()
        .or_else(|| e.downcast_ref::<String>().map(|s| s.as_str()))
        .unwrap_or("?")
}

#[test]
fn every_tile_runs_once_and_every_thread_works() {
    for n in [1, 2, 3, 8] {
        with_forced_threads(n, || {
            for tiles in [1, 2, 7, 8, 9, 100] {
                let count: Vec<_> = (0..tiles).map(|_| AtomicUsize::new(0)).collect();
                let ids = Mutex::new(HashSet::new());
                reset_worked();
                for_each(tiles, BIG, &|t| {
                    count[t].fetch_add(1, Relaxed);
                    ids.lock().unwrap().insert(std::thread::current().id());
                });
                assert!(count.iter().all(|c| c.load(Relaxed) == 1));
                let expect = if tiles == 1 { 1 } else { n.min(tiles) };
                assert_eq!(ids.lock().unwrap().len(), expect);
                // Other tests' kernels may use the pool meanwhile.
                assert!(worked() >= expect);
            }
        });
    }
}

#[test]
fn barriers_separate_phases() {
    for n in [1, 2, 3, 8] {
        with_forced_threads(n, || {
            let cells: Vec<_> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            region(BIG, &|team| {
                assert_eq!(team.size(), n);
                for round in 1..=50 {
                    cells[team.index()].store(round, Relaxed);
                    team.barrier();
                    assert!(cells.iter().all(|c| c.load(Relaxed) == round));
                    team.barrier();
                }
            });
        });
    }
}

#[test]
fn shares_cover_everything_once() {
    for size in 1..6 {
        for len in 0..20 {
            let mut next = 0;
            for index in 0..size {
                let team = Team {
                    shared: None,
                    index,
                    size,
                };
                let r = team.share(len);
                assert_eq!(r.start, next);
                next = r.end;
            }
            assert_eq!(next, len);
        }
    }
    let sum = AtomicUsize::new(0);
    for_each_chunk(10, 4, Cost::default(), &|r| {
        assert!(r.len() == 4 || r == (8..10));
        sum.fetch_add(r.sum(), Relaxed);
    });
    assert_eq!(sum.load(Relaxed), 45);
    for_each_chunk(0, 4, BIG, &|_| panic!("no tile"));
}

#[test]
fn unforced_teams_agree_on_their_size() {
    with_forced_threads(3, || {
        set_serial_below(None);
        for round in 0..200 {
            let ran = AtomicUsize::new(0);
            let sizes = Mutex::new(HashSet::new());
            let cost = Cost {
                flops: if round % 2 == 0 { 5e6 } else { 5e7 },
                bytes: 0.0,
            };
            region(cost, &|team| {
                ran.fetch_add(1, Relaxed);
                sizes.lock().unwrap().insert(team.size());
                team.barrier();
                assert_eq!(ran.load(Relaxed), team.size());
            });
            assert_eq!(sizes.lock().unwrap().len(), 1);
            let total = AtomicUsize::new(0);
            for_each(40, BIG, &|t| {
                total.fetch_add(t, Relaxed);
            });
            assert_eq!(total.load(Relaxed), 780);
            if round % 50 == 0 {
                // Long enough for the workers to leave and be spawned again.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
}

#[test]
fn nested_regions_run_inline() {
    with_forced_threads(3, || {
        let total = AtomicUsize::new(0);
        for_each(6, BIG, &|_| {
            let me = std::thread::current().id();
            for_each(5, BIG, &|_| {
                assert_eq!(std::thread::current().id(), me);
                total.fetch_add(1, Relaxed);
            });
            region(BIG, &|team| assert_eq!((team.index(), team.size()), (0, 1)));
        });
        assert_eq!(total.load(Relaxed), 30);
    });
}

#[test]
fn panics_reach_the_caller_and_the_pool_survives() {
    with_forced_threads(3, || {
        for bad in [0, 1, 2, 7] {
            let e = catch_unwind(|| {
                for_each(9, BIG, &|t| assert!(t != bad, "tile {t} broke"));
            })
            .unwrap_err();
            assert_eq!(message(&*e), format!("tile {bad} broke"));
        }
        for bad in 0..3 {
            let e = catch_unwind(|| {
                region(BIG, &|team| {
                    team.barrier();
                    assert!(team.index() != bad, "thread {bad} broke");
                    team.barrier(); // the others are taken out of here
                });
            })
            .unwrap_err();
            assert_eq!(message(&*e), format!("thread {bad} broke"));
        }
        let count = AtomicUsize::new(0);
        region(BIG, &|team| {
            team.barrier();
            count.fetch_add(1, Relaxed);
        });
        assert_eq!(count.load(Relaxed), 3);
    });
}

#[test]
fn two_callers_do_not_wait_for_each_other() {
    with_forced_threads(2, || {
        set_serial_below(Some(1.0));
        let total = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..50 {
                        for_each(10, BIG, &|t| {
                            total.fetch_add(t, Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Relaxed), 4 * 50 * 45);
    });
}

#[test]
fn resizing_takes_effect_at_the_next_region() {
    with_forced_threads(2, || {
        for n in [2, 5, 1, 3, 3, 2] {
            set_num_threads(n);
            assert_eq!(num_threads(), n);
            let seen = AtomicUsize::new(0);
            region(BIG, &|_| {
                seen.fetch_add(1, Relaxed);
            });
            assert_eq!(seen.load(Relaxed), n);
        }
        set_num_threads(0);
        assert_eq!(num_threads(), 1);
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn tiles_run_in_the_default_float_environment() {
    fn csr() -> u32 {
        let mut x = 0u32;
        // SAFETY: stores the control register into a local.
        unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &mut x, options(nostack)) };
        x & 0xffc0
    }
    for n in [1, 3] {
        with_forced_threads(n, || {
            FloatEnv::set(0x9fc0); // flush to zero, denormals are zero
            let ok = AtomicBool::new(true);
            for_each(9, BIG, &|_| {
                if csr() != 0x1f80 {
                    ok.store(false, Relaxed);
                }
            });
            let after = csr();
            FloatEnv::set(0x1f80);
            assert!(ok.load(Relaxed));
            assert_eq!(after, 0x9fc0);
        });
    }
}

#[test]
fn ctrl_c_abandons_a_long_call() {
    thread_local!(static STOP: Cell<bool> = const { Cell::new(false) });
    for n in [1, 2] {
        with_forced_threads(n, || {
            set_interrupt_hook(|| STOP.get());
            STOP.set(true);
            let done = AtomicUsize::new(0);
            let slow = |_: usize| {
                done.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            };
            for_each(1000, BIG, &slow);
            assert!(done.load(Relaxed) < 500);
            assert!(take_interrupted());
            assert!(!take_interrupted());
            // In-place updates are finished.
            done.store(0, Relaxed);
            for_each_atomic(12, BIG, &slow);
            assert_eq!(done.load(Relaxed), 12);
            STOP.set(false);
            done.store(0, Relaxed);
            for_each(12, BIG, &slow);
            assert_eq!(done.load(Relaxed), 12);
            assert!(!take_interrupted());
        });
    }
}

#[test]
#[cfg(unix)]
fn a_forked_child_has_its_own_pool() {
    with_forced_threads(3, || {
        let sum = || {
            let total = AtomicUsize::new(0);
            region(BIG, &|team| {
                total.fetch_add(team.size(), Relaxed);
            });
            total.load(Relaxed)
        };
        assert_eq!(sum(), 9);
        // SAFETY: the child only runs a region and leaves without unwinding.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let ok = sum() == 9;
            // SAFETY: ends the child.
            unsafe { libc::_exit(if ok { 0 } else { 1 }) };
        }
        let since = Instant::now();
        let mut status = 0;
        loop {
            // SAFETY: waits for our own child.
            let r = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
            if r == pid {
                break;
            }
            if since.elapsed() > Duration::from_secs(60) {
                // SAFETY: our own child, which hangs.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                panic!("the child hangs");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(status, 0);
        assert_eq!(sum(), 9);
    });
}

#[test]
fn a_burst_of_short_regions_wakes_the_workers() {
    let mut pool = Pool::new(2);
    assert!(pool.wake_for(150.0, 100.0));
    // The pause is 4 x 100 us and more; generous sleeps keep a loaded machine from mattering.
    std::thread::sleep(Duration::from_millis(5));
    assert!(!pool.wake_for(40.0, 100.0));
    // Three that follow at once: 120 us in all. The machine may stall between them, so try until it did not.
    let burst = || {
        std::thread::sleep(Duration::from_millis(5));
        let mut pool = Pool::new(2);
        [40.0; 3].map(|us| pool.wake_for(us, 100.0)) == [false, false, true]
    };
    assert!((0..50).any(|_| burst()));
}

/// Not a test of speed: prints what one region costs (`cargo test --profile bench -- --ignored --nocapture`).
#[test]
#[ignore = "prints timings"]
fn overhead() {
    with_forced_threads(2, || {
        set_serial_below(None);
        let time = |name: &str, pause: bool, f: &dyn Fn()| {
            let mut v: Vec<f64> = (0..if pause { 300 } else { 20_000 })
                .map(|_| {
                    if pause {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let t = Instant::now();
                    f();
                    t.elapsed().as_nanos() as f64 / 1e3
                })
                .collect();
            v.sort_by(f64::total_cmp);
            println!("{name}: {:.2} us median, {:.2} min", v[v.len() / 2], v[0]);
        };
        let empty = |_: usize| {};
        for pause in [false, true] {
            time("for_each(2), empty tiles", pause, &|| {
                for_each(2, BIG, &empty)
            });
            time("region, no barrier", pause, &|| region(BIG, &|_| {}));
            time("region, 100 barriers", pause, &|| {
                region(BIG, &|t| (0..100).for_each(|_| t.barrier()))
            });
        }
        time("inline", false, &|| for_each(2, Cost::default(), &empty));
    });
}
