//! Storages.

use core::ptr::NonNull;
use std::sync::Arc;

use corten_backend::dtype::BF16;
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

#[test]
fn words_are_the_bits_of_any_type_of_their_size() {
    let mut s = Storage::from_slice(DType::F32, &[1f32, -2.0], Device::Cpu).unwrap();
    assert_eq!(s.words::<i32>(), [0x3f80_0000, -0x4000_0000]);
    s.words_mut::<i32>()[0] = 0x4040_0000;
    assert_eq!(s.slice::<f32>(), [3.0, -2.0]);
    let h = Storage::from_slice(DType::BF16, &[BF16(0x3f80)], Device::Cpu).unwrap();
    assert_eq!(h.words::<i16>(), [0x3f80]);
}

#[test]
#[should_panic(expected = "words of float32")]
fn words_of_another_size_are_a_bug() {
    Storage::uninit(DType::F32, 1, Device::Cpu)
        .unwrap()
        .words::<i16>();
}

#[test]
fn a_reinterpreted_storage_keeps_the_memory_and_is_not_written() {
    let a = Arc::new(Storage::from_slice(DType::I16, &[0x3f80i16, 0], Device::Cpu).unwrap());
    let mut b = Arc::new(a.reinterpret(DType::BF16));
    assert_eq!((b.as_ptr(), Arc::strong_count(&a)), (a.as_ptr(), 2));
    make_mut(&mut b).unwrap().slice_mut::<BF16>()[0] = BF16(7);
    assert_eq!(a.slice::<i16>(), [0x3f80, 0]);
    assert_eq!(b.slice::<BF16>(), [BF16(7), BF16(0)]);
    assert_eq!(Arc::strong_count(&a), 1);
}
