//! Errors.

use corten_backend::Error;

#[test]
fn shows_op_and_text_and_stays_small() {
    let e = Error::shape("add", "shapes (2, 3) and (4,) do not broadcast");
    assert_eq!(
        e.to_string(),
        "[add] shapes (2, 3) and (4,) do not broadcast"
    );
    assert!(core::mem::size_of::<Error>() <= 24);
}
