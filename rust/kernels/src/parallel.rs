//! Threads. The only file that names rayon (kernels.md, Threading).

/// Work of one region, from which it is decided whether other threads are worth waking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

/// Number of threads that kernels use, the caller included.
pub fn num_threads() -> usize {
    unimplemented!()
}
/// Sets it (at least 1; never clamped to the number of cores).
pub fn set_num_threads(n: usize) {
    unimplemented!()
}
/// Runs `f(tile)` for every tile in `0..tiles`, tiles claimed from an atomic cursor by the caller and whoever is awake.
/// Which thread runs a tile must not matter to the result. Nested calls run inline.
pub fn for_each(tiles: usize, cost: Cost, f: &(dyn Fn(usize) + Sync)) {
    unimplemented!()
}

/// One thread's view of a [`region`].
pub struct Team<'a> {
    _p: core::marker::PhantomData<&'a ()>,
}
impl Team<'_> {
    /// 0 for the caller.
    pub fn index(&self) -> usize {
        unimplemented!()
    }
    /// Threads in this region.
    pub fn size(&self) -> usize {
        unimplemented!()
    }
    /// Waits until every thread of the team has come here; writes before it are visible after it.
    pub fn barrier(&self) {
        unimplemented!()
    }
}
/// Runs `f` once on every thread of a team whose size is fixed at the start (1 when the work is too small).
pub fn region(cost: Cost, f: &(dyn Fn(&Team<'_>) + Sync)) {
    unimplemented!()
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
