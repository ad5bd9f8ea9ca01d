//! Blocks of memory that tensors share, and copy-on-write.

use core::any::Any;
use core::fmt;
use core::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corten_kernels::alloc;

use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result, SOMEWHERE};
use crate::shape::{numel, show};

static GENERATIONS: AtomicU64 = AtomicU64::new(1);
static COPIES: AtomicU64 = AtomicU64::new(0);

mod sealed {
    pub trait Sealed {}
}
/// An integer as which elements of its size can be moved, whatever they are.
pub trait Word: sealed::Sealed + corten_kernels::Number {}
macro_rules! words {
    ($($t:ident)*) => {$(
        impl sealed::Sealed for $t {}
        impl Word for $t {}
    )*};
}
words!(u8 i16 i32 i64);

/// A run of elements of one dtype. Shared by `Arc`; written only through [`make_mut`].
pub struct Storage {
    data: NonNull<u8>,
    len: usize,
    dtype: DType,
    device: Device,
    generation: u64,
    owner: Owner,
}

enum Owner {
    /// A block of `corten_kernels::alloc`.
    Ours,
    /// Memory of someone else, kept alive by this value; read-only.
    Foreign(#[allow(dead_code)] Box<dyn Any + Send + Sync>),
}

// SAFETY: the block is owned (or kept alive by an owner that is Send + Sync), is written only through `&mut Storage` and
// read only through `&Storage`.
unsafe impl Send for Storage {}
// SAFETY: as above.
unsafe impl Sync for Storage {}

impl Storage {
    /// A block whose contents are unspecified (any bytes).
    pub fn uninit(dtype: DType, len: usize, device: Device) -> Result<Self> {
        Self::shaped(dtype, &[len], device)
    }
    /// [`Storage::uninit`] for the elements of `shape`, which an error then shows.
    pub fn shaped(dtype: DType, shape: &[usize], device: Device) -> Result<Self> {
        let len = numel(shape);
        let data = len
            .checked_mul(dtype.size())
            .filter(|&b| b <= isize::MAX as usize)
            .and_then(alloc::alloc);
        let Some(data) = data else {
            return Err(no_tensor(dtype, shape));
        };
        Ok(Self {
            data,
            len,
            dtype,
            device,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            owner: Owner::Ours,
        })
    }
    /// A copy of `data`; `dtype` is `T`'s, or bool for `u8` (whose bytes must then be 0 or 1).
    pub fn from_slice<T: Element>(dtype: DType, data: &[T], device: Device) -> Result<Self> {
        let mut s = Self::uninit(dtype, data.len(), device)?;
        s.slice_mut::<T>().copy_from_slice(data);
        Ok(s)
    }
    /// Shares memory that someone else owns. It is never written.
    ///
    /// # Safety
    /// `data .. data + len * dtype.size()` is readable, aligned for the dtype, and stays valid (and holds only 0 and 1 for bool)
    /// until `owner` is dropped, which may happen on any thread. Writing to it meanwhile changes the tensors that share it;
    /// the caller documents that to the user.
    pub unsafe fn foreign(
        data: NonNull<u8>,
        len: usize,
        dtype: DType,
        device: Device,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Self {
        debug_assert_eq!(data.as_ptr() as usize % dtype.size(), 0);
        Self {
            data,
            len,
            dtype,
            device,
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            owner: Owner::Foreign(owner),
        }
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Where it lives.
    pub fn device(&self) -> Device {
        self.device
    }
    /// Unique to these contents: changes with every write; the key of anything derived from them (packed copies).
    pub fn generation(&self) -> u64 {
        self.generation
    }
    /// Memory of someone else.
    pub fn is_foreign(&self) -> bool {
        matches!(self.owner, Owner::Foreign(_))
    }
    /// Address of the first element, for exports that keep the `Arc` alive.
    pub fn as_ptr(&self) -> *const u8 {
        self.data.as_ptr()
    }
    /// All elements.
    ///
    /// # Panics
    /// When `T` is not the dtype: a bug of the caller.
    pub fn slice<T: Element>(&self) -> &[T] {
        assert!(
            T::reads(self.dtype),
            "a storage of {} read as {}",
            self.dtype,
            T::DTYPE
        );
        // SAFETY: `data` is valid for `len` elements of the dtype, which `T` is, aligned, and not written while `&self` lives.
        unsafe { core::slice::from_raw_parts(self.data.cast().as_ptr(), self.len) }
    }
    /// All elements, to write.
    ///
    /// # Panics
    /// When `T` is not the dtype or the memory is foreign: bugs of the caller.
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        assert!(
            T::reads(self.dtype),
            "a storage of {} written as {}",
            self.dtype,
            T::DTYPE
        );
        assert!(!self.is_foreign(), "foreign memory is never written");
        // SAFETY: as in `slice`; `&mut self` is the only access. Every bit pattern is a valid number.
        unsafe { core::slice::from_raw_parts_mut(self.data.cast().as_ptr(), self.len) }
    }
    /// All elements as integers of their size.
    ///
    /// # Panics
    /// When the dtype has another size: a bug of the caller.
    pub fn words<W: Word>(&self) -> &[W] {
        assert_eq!(size_of::<W>(), self.dtype.size(), "words of {}", self.dtype);
        // SAFETY: as in `slice`; the sizes agree, so does the alignment of numbers of one size, and any bits are an integer.
        unsafe { core::slice::from_raw_parts(self.data.cast().as_ptr(), self.len) }
    }
    /// All elements as integers of their size, to write bits that are elements.
    ///
    /// # Panics
    /// When the dtype has another size or the memory is foreign: bugs of the caller.
    pub fn words_mut<W: Word>(&mut self) -> &mut [W] {
        assert_eq!(size_of::<W>(), self.dtype.size(), "words of {}", self.dtype);
        assert!(!self.is_foreign(), "foreign memory is never written");
        // SAFETY: as in `words`; `&mut self` is the only access.
        unsafe { core::slice::from_raw_parts_mut(self.data.cast().as_ptr(), self.len) }
    }
    /// The same memory read as another dtype of the same size; it is not written through the result.
    ///
    /// # Panics
    /// When the sizes differ, or one dtype is bool, whose bytes may not be any: bugs of the caller.
    pub fn reinterpret(self: &Arc<Self>, dtype: DType) -> Self {
        assert_eq!(dtype.size(), self.dtype.size(), "{} as {dtype}", self.dtype);
        assert!(dtype != DType::Bool, "any byte as bool");
        // SAFETY: the memory is readable and aligned for a number of that size, any bits are one, and the owner keeps it.
        unsafe {
            Self::foreign(
                self.data,
                self.len,
                dtype,
                self.device,
                Box::new(self.clone()),
            )
        }
    }
    /// The raw bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` elements of `size` bytes are valid, and any memory may be read as bytes.
        unsafe { core::slice::from_raw_parts(self.data.as_ptr(), self.len * self.dtype.size()) }
    }
    /// A private copy on `device`.
    pub fn duplicate(&self, device: Device) -> Result<Self> {
        let out = Self::uninit(self.dtype, self.len, device)?;
        // SAFETY: both blocks hold that many bytes and `out` is fresh, so they do not overlap.
        unsafe {
            core::ptr::copy_nonoverlapping(
                self.data.as_ptr(),
                out.data.as_ptr(),
                self.len * self.dtype.size(),
            );
        }
        Ok(out)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if matches!(self.owner, Owner::Ours) {
            // SAFETY: `data` came from `alloc` with the same size and this is its only owner.
            unsafe { alloc::free(self.data, self.len * self.dtype.size()) }
        }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Storage({} x {}, {}, generation {})",
            self.len, self.dtype, self.device, self.generation
        )
    }
}

/// No memory for a tensor.
#[cold]
pub(crate) fn no_tensor(dtype: DType, shape: &[usize]) -> Error {
    let bytes = shape
        .iter()
        .try_fold(dtype.size(), |n, &d| n.checked_mul(d));
    let text = format!("a {dtype} tensor of shape {}", show(shape));
    Error::no_memory(SOMEWHERE, &text, bytes)
}

/// Write access: in place when nobody shares the storage, otherwise (or when it is foreign) `s` is first replaced by a private
/// copy, so that graphs, views and exports keep the old values. Either way the contents get a new generation.
pub fn make_mut(s: &mut Arc<Storage>) -> Result<&mut Storage> {
    if s.is_foreign() || Arc::get_mut(s).is_none() {
        COPIES.fetch_add(1, Ordering::Relaxed);
        *s = Arc::new(s.duplicate(s.device)?);
    }
    let m = Arc::get_mut(s).ok_or_else(|| {
        Error::internal("make_mut", "a fresh copy is shared") // only through a Weak, of which there are none
    })?;
    m.generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
    Ok(m)
}

/// Copies that [`make_mut`] had to make so far (a normal training step makes none).
pub fn copies() -> u64 {
    COPIES.load(Ordering::Relaxed)
}
