//! Whether operations are recorded: a property of each thread, on at first.

use core::cell::Cell;

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// Whether this thread records operations.
pub fn is_enabled() -> bool {
    ENABLED.get()
}
/// Turns recording on or off on this thread; gives the previous setting.
pub fn set_enabled(on: bool) -> bool {
    ENABLED.replace(on)
}

/// Restores the previous setting when dropped.
#[must_use = "the mode is restored when the guard is dropped"]
pub struct Guard(bool);

impl Drop for Guard {
    fn drop(&mut self) {
        ENABLED.set(self.0);
    }
}

/// Recording as given until the guard is dropped.
pub fn scope(on: bool) -> Guard {
    Guard(set_enabled(on))
}
/// No recording until the guard is dropped.
pub fn no_grad() -> Guard {
    scope(false)
}
/// Recording until the guard is dropped.
pub fn enable_grad() -> Guard {
    scope(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_nest_and_threads_are_apart() {
        let a = no_grad();
        assert!(!is_enabled());
        {
            let _b = enable_grad();
            assert!(is_enabled());
        }
        assert!(!is_enabled());
        assert!(std::thread::spawn(is_enabled).join().unwrap());
        drop(a);
        assert!(is_enabled());
    }
}
