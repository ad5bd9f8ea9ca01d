//! Layouts.

use corten_backend::layout::*;

fn positions(l: &Layout) -> Vec<isize> {
    let mut out = vec![l.offset() as isize];
    for d in 0..l.ndim() {
        out = out
            .iter()
            .flat_map(|&p| (0..l.shape()[d] as isize).map(move |i| p + i * l.strides()[d]))
            .collect();
    }
    out
}

#[test]
fn contiguity_ignores_axes_of_one_and_empty_tensors() {
    let l = Layout::contiguous([2, 3, 4]);
    assert!(l.is_contiguous());
    assert!(!l.permute(&[0, 2, 1]).is_contiguous());
    assert!(l.permute(&[0, 2, 1]).is_dense());
    assert_eq!(
        l.permute(&[2, 0, 1]).dense_order().unwrap().to_vec(),
        [1, 2, 0]
    );
    assert!(!l.narrow(2, 0, 2).is_dense());
    assert!(Layout::new([1, 3].into(), [77, 1].into(), 0).is_contiguous());
    assert!(Layout::new([0, 3].into(), [7, 7].into(), 0).is_contiguous());
}

#[test]
fn reshape_is_a_view_when_runs_are_even() {
    let l = Layout::contiguous([4, 6]);
    assert_eq!(
        l.reshape(&[2, 2, 3, 2]).unwrap(),
        Layout::contiguous([2, 2, 3, 2])
    );
    assert!(l.permute(&[1, 0]).reshape(&[24]).is_none());
    let part = l.narrow(1, 1, 4);
    let r = part.reshape(&[2, 2, 2, 2]).unwrap();
    assert_eq!(positions(&part), positions(&r));
    assert!(part.reshape(&[16]).is_none());
    let rev = Layout::contiguous([6]).slice(&[Span {
        start: 5,
        step: -1,
        len: 6,
    }]);
    let r = rev.reshape(&[2, 1, 3]).unwrap();
    assert_eq!(positions(&rev), positions(&r));
    let b = Layout::contiguous([1, 3])
        .broadcast_to("t", &[4, 3])
        .unwrap();
    let r = b.reshape(&[2, 2, 3]).unwrap();
    assert_eq!(positions(&b), positions(&r));
    assert!(b.reshape(&[12]).is_none());
}

#[test]
fn slices_run_backwards() {
    let l = Layout::contiguous([5]).slice(&[Span {
        start: 4,
        step: -2,
        len: 3,
    }]);
    assert_eq!(positions(&l), [4, 2, 0]);
    assert_eq!(l.extent(), Some((0, 4)));
}
