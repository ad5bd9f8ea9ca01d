//! Storages.

use core::ptr::NonNull;
use std::sync::Arc;

use corten_backend::storage::{Storage, make_mut};
use corten_backend::{DType, Device, Error};

#[test]
fn write_is_in_place_unless_shared() {
    let mut a = Arc::new(Storage::from_slice(DType::F32, &[1f32, 2.0], Device::Cpu).unwrap());
    let (p, g) = (a.as_ptr(), a.generation());
    make_mut(&mut a).unwrap().slice_mut::<f32>()[0] = 5.0;
    assert_eq!(a.as_ptr(), p);
    assert_ne!(a.generation(), g);
    let old = a.clone();
    make_mut(&mut a).unwrap().slice_mut::<f32>()[0] = 6.0;
    assert_eq!(old.slice::<f32>(), [5.0, 2.0]);
    assert_eq!(a.slice::<f32>(), [6.0, 2.0]);
}

#[test]
fn foreign_memory_is_copied_before_a_write_and_released() {
    let mem: Arc<Vec<i64>> = Arc::new(vec![1, 2, 3]);
    let ptr = NonNull::new(mem.as_ptr() as *mut u8).unwrap();
    // SAFETY: `mem` is the owner and nobody writes to it.
    let s = unsafe { Storage::foreign(ptr, 3, DType::I64, Device::Cpu, Box::new(mem.clone())) };
    let mut s = Arc::new(s);
    assert_eq!(s.slice::<i64>(), [1, 2, 3]);
    make_mut(&mut s).unwrap().slice_mut::<i64>()[1] = 9;
    assert_eq!(*mem, [1, 2, 3]);
    assert_eq!(s.slice::<i64>(), [1, 9, 3]);
    assert_eq!(Arc::strong_count(&mem), 1);
}

#[test]
fn an_impossible_size_is_a_memory_error() {
    assert!(matches!(
        Storage::uninit(DType::F64, usize::MAX / 4, Device::Cpu),
        Err(Error::Memory(_))
    ));
}
