//! The headers of the files that corten reads: [`safetensors`] and [`idx`].
//!
//! Bytes in, checked descriptions out. A description that comes out of here fits the file it came from: every size was
//! computed without overflow and compared with the file's, so whoever allocates what it says allocates no more than the
//! file holds. Nothing here recurses, and nothing panics, whatever the bytes are (`fuzz/` tries).

#![forbid(unsafe_code)]

pub mod idx;
pub mod safetensors;

use std::fmt;

/// Why a file cannot be what it claims to be: a sentence about "it", the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged(String);

/// The result of reading a header.
pub type Result<T> = std::result::Result<T, Damaged>;

impl Damaged {
    /// A hostile file chooses much of the text, so its length is bounded.
    fn new(what: impl fmt::Display) -> Self {
        Self(shorten(&what.to_string(), 400))
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

/// The first `limit` characters.
fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A name from a file, fit for one line of an error message: quoted, escaped, not too long.
fn quoted(name: &str) -> String {
    format!("'{}'", shorten(name, 100).escape_debug())
}

/// The CRC-32 of zlib, gzip and PNG. `start` is the checksum of what came before `data`, and 0 at the beginning.
pub fn crc32(data: &[u8], start: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(start);
    hasher.update(data);
    hasher.finalize()
}
