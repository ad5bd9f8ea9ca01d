//! Headers of the safetensors format: what is accepted, and what each way to be wrong is told.

mod invariants;

use corten_formats::safetensors::{self, Dtype, MAX_HEADER};
use invariants::check_safetensors as check;

/// A file of a header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 7);
    file
}

fn error(header: &str, data: usize) -> String {
    check(&file(header, data)).expect_err(header)
}

#[test]
fn a_header_comes_back_in_the_order_of_the_bytes() {
    let text = r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},
        "a \"é\" \u00e9":{"data_offsets":[0,8],"shape":[2,2],"dtype":"BF16"},
        "empty":{"dtype":"I64","shape":[3,0],"data_offsets":[8,8]},
        "scalar":{"dtype":"U8","shape":[],"data_offsets":[12,13]},
        "__metadata__":{"k":"v","empty":""}}   "#;
    let header = check(&file(text, 13)).unwrap();
    let names: Vec<&str> = header.entries.iter().map(|e| &*e.name).collect();
    assert_eq!(names, ["a \"é\" é", "empty", "b", "scalar"]);
    assert_eq!(header.entries[0].dtype, Dtype::BF16);
    assert_eq!(header.entries[1].shape, [3, 0]);
    assert_eq!(header.data_start, 8 + text.len() as u64);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(header.metadata, [pair("k", "v"), pair("empty", "")]);
}

#[test]
fn every_dtype_of_the_format_is_known() {
    for dtype in Dtype::ALL {
        let tag = dtype.tag();
        let bytes = dtype.bits();
        let text = format!(r#"{{"x":{{"dtype":"{tag}","shape":[8],"data_offsets":[0,{bytes}]}}}}"#);
        let header = check(&file(&text, bytes as usize)).unwrap();
        assert_eq!(header.entries[0].dtype, *dtype);
    }
    let half = r#"{"x":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}"#;
    assert!(error(half, 1).contains("whole bytes"));
}

#[test]
fn the_length_is_bounded_by_the_file_and_by_the_format() {
    let length = safetensors::header_length;
    assert!(
        length(b"1234567", 7)
            .unwrap_err()
            .to_string()
            .contains("7 bytes")
    );
    assert!(length(b"", 0).is_err());
    assert_eq!(length(&[2, 0, 0, 0, 0, 0, 0, 0], 10), Ok(2));
    assert!(length(&[3, 0, 0, 0, 0, 0, 0, 0], 10).is_err());
    assert!(length(&[255; 8], u64::MAX).is_err());
    assert_eq!(length(&MAX_HEADER.to_le_bytes(), 1 << 40), Ok(MAX_HEADER));
    assert!(length(&(MAX_HEADER + 1).to_le_bytes(), 1 << 40).is_err());
    // A caller that says the file is smaller than the header that it passes.
    assert!(safetensors::parse_header(b"{}", 9).is_err());
}

#[test]
fn errors_say_what_is_wrong_and_with_which_tensor() {
    let line = |fields: &str| format!(r#"{{"w":{{{fields}}}}}"#);
    let shape = |shape: &str| {
        line(&format!(
            r#""dtype":"F32","shape":{shape},"data_offsets":[0,4]"#
        ))
    };
    let offsets = |o: &str| line(&format!(r#""dtype":"F32","shape":[1],"data_offsets":{o}"#));
    let deep = |open: &str| open.repeat(200_000);
    for (text, data, words) in [
        (String::new(), 0, "does not start with '{'"),
        (" {}".into(), 0, "does not start with '{'"),
        ("{".into(), 0, "not valid JSON"),
        ("{}{}".into(), 0, "not valid JSON: trailing"),
        ("{}\0\0".into(), 0, "not valid JSON: trailing"),
        (r#"{"\ud800":1}"#.into(), 0, "not valid JSON"),
        (
            r#"{"w":1}"#.into(),
            0,
            "'w' invalid type: integer `1`, expected exactly dtype, shape",
        ),
        (
            r#"{"w":["F32",[1],[0,4]]}"#.into(),
            4,
            "'w' invalid type: sequence",
        ),
        (
            line(r#""dtype":"F32","shape":[1]"#),
            0,
            "'w' must have exactly dtype, shape and data_offsets",
        ),
        (
            line(r#""more":1"#),
            0,
            "'w' must have exactly dtype, shape and data_offsets, not 'more'",
        ),
        (
            line(r#""dtype":"F32","dtype":"F32""#),
            0,
            "'w' has dtype twice",
        ),
        (line(r#""shape":[],"shape":[]"#), 0, "'w' has shape twice"),
        (
            line(r#""dtype":"F31""#),
            0,
            "'w' has no valid dtype (unknown dtype 'F31'",
        ),
        (line(r#""dtype":["F32"]"#), 0, "'w' has no valid dtype"),
        (shape("[-1]"), 4, "'w' has no valid shape"),
        (shape("[1.0]"), 4, "'w' has no valid shape"),
        (shape("[1e0]"), 4, "'w' has no valid shape"),
        (shape("[true]"), 4, "'w' has no valid shape"),
        (shape("[18446744073709551616]"), 4, "'w' has no valid shape"),
        (shape("null"), 4, "'w' has no valid shape"),
        (
            shape(&format!("[1{}]", ",1".repeat(64))),
            4,
            "'w' has no valid shape (more than 64",
        ),
        (
            shape("[18446744073709551614]"),
            4,
            "'w' has the shape [18446744073709551614], which is too large",
        ),
        (shape("[4294967296,4294967296,0]"), 4, "which is too large"),
        (
            shape("[2]"),
            4,
            "'w' of shape [2] and dtype F32 takes 8 bytes, not 4",
        ),
        (
            offsets("[0]"),
            4,
            "'w' has no valid data_offsets (two are needed)",
        ),
        (offsets("[0,4,4]"), 4, "'w' has no valid data_offsets"),
        (offsets("[-4,0]"), 4, "'w' has no valid data_offsets"),
        (offsets("[4,0]"), 4, "'w' ends at 0, before it begins at 4"),
        (offsets("[4,8]"), 8, "'w' starts at 4 and leaves a hole"),
        (
            offsets("[18446744073709551611,18446744073709551615]"),
            8,
            "'w' starts at 18446744073709551611",
        ),
        (
            offsets("[0,4]"),
            3,
            "'w' ends at 4, but the file holds only 3 bytes",
        ),
        (
            offsets("[0,4]"),
            5,
            "the tensors take 4 bytes, but the file holds 5 bytes",
        ),
        (
            r#"{"__metadata__":{"a":1}}"#.into(),
            0,
            "__metadata__ must map texts to texts",
        ),
        (
            r#"{"__metadata__":[]}"#.into(),
            0,
            "__metadata__ must map texts to texts",
        ),
        (
            r#"{"__metadata__":{"a":"","a":""}}"#.into(),
            0,
            "'a' is there twice in __metadata__",
        ),
        (
            r#"{"__metadata__":{},"__metadata__":{}}"#.into(),
            0,
            "__metadata__ is there twice",
        ),
        (deep(r#"{"a":"#), 0, "'a' must have exactly"),
        (
            format!(r#"{{"a":{}"#, deep("[")),
            0,
            "'a' invalid type: sequence",
        ),
        (
            line(&format!(r#""shape":{}"#, deep("["))),
            0,
            "'w' has no valid shape",
        ),
        (
            format!(r#"{{"__metadata__":{}"#, deep(r#"{"a":"#)),
            0,
            "__metadata__ must map texts",
        ),
    ] {
        let got = error(&text, data);
        assert!(got.contains(words), "{words:?} is not in {got:?}");
    }
}

#[test]
fn duplicates_and_overlaps() {
    let entry = |name: &str, begin: u64, end: u64| {
        format!(
            r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#,
            end - begin
        )
    };
    let both = |a: String, b: String| format!("{{{a},{b}}}");
    let twice = both(entry("a", 0, 4), entry("a", 4, 8));
    assert!(error(&twice, 8).contains("the name 'a' is there twice"));
    // The same name, written in two ways.
    let escaped = both(entry("a", 0, 4), entry("\\u0061", 4, 8));
    assert!(error(&escaped, 8).contains("the name 'a' is there twice"));
    let overlap = both(entry("a", 0, 8), entry("b", 4, 8));
    assert!(error(&overlap, 8).contains("'b' starts at 4 and overlaps"));
    let same = both(entry("a", 0, 4), entry("b", 0, 4));
    assert!(error(&same, 4).contains("'b' starts at 0 and overlaps"));
    let hole = both(entry("a", 0, 4), entry("b", 5, 8));
    assert!(error(&hole, 8).contains("'b' starts at 5 and leaves a hole"));
    check(&file(&both(entry("a", 4, 8), entry("b", 0, 4)), 8)).unwrap();
}

#[test]
fn metadata_is_bounded() {
    let texts = |count: usize| {
        let texts: Vec<String> = (0..count).map(|i| format!(r#""{i}":"""#)).collect();
        file(&format!(r#"{{"__metadata__":{{{}}}}}"#, texts.join(",")), 0)
    };
    check(&texts(1 << 16)).unwrap();
    let error = check(&texts((1 << 16) + 1)).unwrap_err();
    assert!(error.contains("more than 65536"), "{error}");
}

#[test]
fn messages_stay_short_and_on_one_line() {
    let long = "x\\n".repeat(100_000);
    for text in [
        format!(r#"{{"{long}":1}}"#),
        format!(r#"{{"w":"{long}"}}"#),
        format!(r#"{{"w":{{"dtype":"{long}"}}}}"#),
        format!(r#"{{"w":{{"{long}":1}}}}"#),
        format!(r#"{{"__metadata__":{{"{long}":"","{long}":""}}}}"#),
    ] {
        error(&text, 0); // `check` asserts both
    }
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let whole = file(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}"#,
        9,
    );
    check(&whole).unwrap();
    for end in 0..whole.len() {
        let text = check(&whole[..end]).expect_err("a part was accepted");
        if end >= whole.len() - 9 {
            let name = if end < whole.len() - 1 { "'a'" } else { "'b'" };
            assert!(text.starts_with(name), "{text}");
        }
    }
}

#[test]
fn the_checksum_is_zlibs_and_can_be_continued() {
    assert_eq!(corten_formats::crc32(b"123456789", 0), 0xCBF4_3926);
    let half = corten_formats::crc32(b"1234", 0);
    assert_eq!(corten_formats::crc32(b"56789", half), 0xCBF4_3926);
}
