//! Lists whose length a caller's sizes decide, and loops over them: without memory they are an error (a vector that grows by
//! itself ends the process), and Ctrl-C is heard.

use corten_kernels::parallel;

use crate::error::{Error, Result, SOMEWHERE};

/// Items between two looks for Ctrl-C.
const PIECE: usize = 4096;

/// An empty vector with room for `n`.
pub fn try_vec<T>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).map_err(|_| refused::<T>(n))?;
    Ok(v)
}

/// [`Iterator::collect`], or [`Error::Memory`], or [`Error::Interrupted`].
pub fn try_collect<T>(items: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut items = items.into_iter();
    let mut v = try_vec(items.size_hint().0)?;
    while items.size_hint().1 != Some(0) {
        let before = v.len();
        if v.capacity() == before {
            v.try_reserve(1).map_err(|_| refused::<T>(before + 1))?;
        }
        // Never more than there is room for.
        v.extend(items.by_ref().take(PIECE.min(v.capacity() - before)));
        if v.len() == before {
            break;
        }
        go_on(4.0)?;
    }
    Ok(v)
}

#[cold]
fn refused<T>(n: usize) -> Error {
    let bytes = n.checked_mul(size_of::<T>());
    Error::no_memory(SOMEWHERE, &format!("a list of {n} entries"), bytes)
}

/// Fails with [`Error::Interrupted`] when the user pressed Ctrl-C; loops call it after about `micros` microseconds of work, and
/// whoever publishes what a kernel made calls it with 0.
#[inline]
pub fn go_on(micros: f64) -> Result<()> {
    // The call is abandoned by this very error, so nobody else needs to hear of it.
    if parallel::tick(micros) && parallel::take_interrupted() {
        return Err(Error::Interrupted);
    }
    Ok(())
}
