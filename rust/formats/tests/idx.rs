//! Headers of the IDX format.

mod invariants;

use corten_formats::idx::{self, Element, MAX_BYTES};
use invariants::check_idx as check;

fn header(code: u8, sizes: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0, 0, code, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes
}

#[test]
fn every_element_type_and_number_of_axes() {
    let elements = [
        Element::U8,
        Element::I8,
        Element::I16,
        Element::I32,
        Element::F32,
        Element::F64,
    ];
    for (code, element) in [8, 9, 11, 12, 13, 14].into_iter().zip(elements) {
        for axes in 1..=8 {
            let shape = &[3, 1, 2, 1, 1, 5, 1, 1][..axes];
            let got = check(&header(code, shape)).unwrap();
            assert_eq!(got.element, element);
            assert_eq!(got.shape, shape);
            let count: u32 = shape.iter().product();
            assert_eq!(got.bytes, element.size() * u64::from(count));
        }
    }
    assert_eq!(
        check(&header(8, &[60_000, 28, 28])).unwrap().bytes,
        47_040_000
    );
    assert_eq!(check(&header(8, &[0, 28, 28])).unwrap().bytes, 0);
}

#[test]
fn everything_else_is_refused() {
    for (bytes, words) in [
        (vec![], "ends after 0 of 4"),
        (vec![0, 0, 8], "ends after 3 of 4"),
        (header(7, &[1]), "no IDX file"),
        (header(10, &[1]), "no IDX file"),
        (header(15, &[1]), "no IDX file"),
        (header(8, &[]), "no IDX file"),
        (header(8, &[1; 9]), "no IDX file"),
        (vec![1, 0, 8, 1, 0, 0, 0, 0], "no IDX file"),
        (vec![0, 1, 8, 1, 0, 0, 0, 0], "no IDX file"),
        (
            header(8, &[1, 2])[..11].to_vec(),
            "the header has 11 bytes, but 12 with its 2 axes",
        ),
        (header(8, &[u32::MAX; 8]), "would take more than"),
        (header(14, &[u32::MAX]), "would take more than"),
        (header(8, &[0, u32::MAX, u32::MAX]), "would take more than"),
    ] {
        let got = check(&bytes).unwrap_err();
        assert!(got.contains(words), "{words:?} is not in {got:?}");
    }
    // The largest that is allowed.
    assert_eq!(check(&header(8, &[1 << 31, 2])).unwrap().bytes, MAX_BYTES);
    assert!(idx::parse_header(&[header(8, &[1]), vec![0]].concat()).is_err());
}
