//! Shapes and axes.

use corten_backend::Error;
use corten_backend::shape::*;

#[test]
fn broadcasting_follows_numpy() {
    let b = |a: &[usize], b: &[usize]| broadcast_shapes("add", a, b).map(|s| s.to_vec());
    assert_eq!(b(&[2, 3], &[3]).unwrap(), [2, 3]);
    assert_eq!(b(&[3], &[4, 1]).unwrap(), [4, 3]);
    assert_eq!(b(&[], &[4, 0]).unwrap(), [4, 0]);
    assert_eq!(b(&[1], &[0]).unwrap(), [0]);
    let e = b(&[2, 3], &[4]).unwrap_err().to_string();
    assert!(
        e.starts_with("[add] shapes (2, 3) and (4,) do not broadcast"),
        "{e}"
    );
}

#[test]
fn axes_are_checked_and_sorted() {
    assert_eq!(
        *normalize_axes("sum", Some(&[-1, 0]), 3).unwrap(),
        [0, 2][..]
    );
    assert_eq!(normalize_axes("sum", None, 2).unwrap().len(), 2);
    assert!(matches!(normalize_axis("sum", 2, 2), Err(Error::Index(_))));
    assert!(matches!(
        normalize_axes("sum", Some(&[0, -2]), 2),
        Err(Error::Value(_))
    ));
}

#[test]
fn shows_as_python_tuples() {
    assert_eq!(Shape::from([3]).to_string(), "(3,)");
    assert_eq!(Shape::new().to_string(), "()");
    assert_eq!(Shape::from([1, 2]).to_string(), "(1, 2)");
}

#[test]
fn an_absurd_shape_saturates() {
    assert!(matches!(
        checked_numel("t", &[1 << 40, 1 << 40]),
        Err(Error::Shape(_))
    ));
    assert_eq!(checked_numel("t", &[0, 1 << 40, 1 << 40]).unwrap(), 0);
    assert_eq!(numel(&[usize::MAX, 2]), usize::MAX);
    assert_eq!(numel(&[usize::MAX, 2, 0]), 0);
}
