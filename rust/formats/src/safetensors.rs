//! The safetensors format: eight bytes with the length of a JSON header, the header, and the tensors' bytes, which must
//! cover the rest of the file without overlap and without a hole.
//!
//! The format is described at <https://github.com/huggingface/safetensors>. This reader is stricter than the format asks
//! for: no name and no field twice, no unknown field, no field left out.

mod json;

use crate::{Damaged, Result, quoted};

/// The format's own limit on the header, in bytes.
pub const MAX_HEADER: u64 = 100_000_000;
/// The most axes that a tensor may have.
pub const MAX_AXES: usize = 64;

/// The most texts that the metadata may hold. Short texts take ten times their length in memory.
pub const MAX_TEXTS: usize = 1 << 16;

/// Element types: the format's name and the bits of one element.
macro_rules! dtypes {
    ($($name:ident $tag:literal $bits:literal),* $(,)?) => {
        /// Element type of a tensor in a file, whether corten can compute with it or not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, non_camel_case_types, reason = "the names are the format's")]
        pub enum Dtype {
            $($name),*
        }

        impl Dtype {
            /// Every element type of the format.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The format's name of it, such as `"BF16"`.
            pub const fn tag(self) -> &'static str {
                match self {
                    $(Self::$name => $tag),*
                }
            }

            /// Bits of one element; some types take less than a byte.
            pub const fn bits(self) -> u64 {
                match self {
                    $(Self::$name => $bits),*
                }
            }
        }
    };
}

dtypes! {
    Bool "BOOL" 8, U8 "U8" 8, I8 "I8" 8, U16 "U16" 16, I16 "I16" 16, U32 "U32" 32, I32 "I32" 32, U64 "U64" 64, I64 "I64" 64,
    F16 "F16" 16, BF16 "BF16" 16, F32 "F32" 32, F64 "F64" 64, C64 "C64" 64,
    F8_E4M3 "F8_E4M3" 8, F8_E5M2 "F8_E5M2" 8, F8_E8M0 "F8_E8M0" 8, F8_E4M3FNUZ "F8_E4M3FNUZ" 8, F8_E5M2FNUZ "F8_E5M2FNUZ" 8,
    F6_E2M3 "F6_E2M3" 6, F6_E3M2 "F6_E3M2" 6, F4 "F4" 4,
}

impl Dtype {
    fn from_tag(tag: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| d.tag() == tag)
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, different from all others.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its sizes; their product times the element's size is `end - begin`.
    pub shape: Vec<u64>,
    /// Where its bytes begin, counted from [`Header::data_start`].
    pub begin: u64,
    /// Where its bytes end.
    pub end: u64,
}

/// What the header says, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The tensors in the order of their bytes. Each begins where the one before it ends, and the last ends with the file.
    pub entries: Vec<Entry>,
    /// Texts by name, in the order of the file; no name twice.
    pub metadata: Vec<(String, String)>,
    /// Where the tensors' bytes begin in the file.
    pub data_start: u64,
}

/// The header's length, from the first eight bytes (or fewer, if the file has no more) of a file of `file_size` bytes.
///
/// Errors: the file is too short, or the length larger than the file or than [`MAX_HEADER`].
pub fn header_length(prefix: &[u8], file_size: u64) -> Result<u64> {
    let short = || {
        Damaged::new(format_args!(
            "it has {file_size} bytes, the header's length alone takes 8"
        ))
    };
    let prefix = prefix.first_chunk::<8>().ok_or_else(short)?;
    let room = file_size.checked_sub(8).ok_or_else(short)?;
    let length = u64::from_le_bytes(*prefix);
    if length > room.min(MAX_HEADER) {
        return Err(Damaged::new(format_args!(
            "the header claims {length} bytes, the file has {file_size} (at most {MAX_HEADER} are allowed)"
        )));
    }
    Ok(length)
}

/// Reads the header's text; the file has `file_size` bytes in all.
///
/// Takes memory of at most some six times the text, whatever it says. Errors: it is not JSON of the form that the format asks for,
/// holds a name or a field twice, has a shape that does not fit its bytes, or tensors that overlap, leave a hole or do not
/// end with the file. The text names the tensor where one is to blame.
pub fn parse_header(text: &[u8], file_size: u64) -> Result<Header> {
    if text.first() != Some(&b'{') {
        return Err(Damaged::new("the header does not start with '{'"));
    }
    let data_start = 8 + text.len() as u64;
    let Some(data_size) = file_size.checked_sub(data_start) else {
        return Err(Damaged::new(format_args!(
            "its header ends at byte {data_start}, the file has {file_size}"
        )));
    };
    let (mut entries, metadata) = json::parse(text)?;
    no_name_twice(entries.iter().map(|e| &*e.name), "")?;
    no_name_twice(metadata.iter().map(|(name, _)| &**name), " in __metadata__")?;
    for entry in &entries {
        check_size(entry)?;
    }
    entries.sort_by_key(|e| (e.begin, e.end));
    check_cover(&entries, data_size)?;
    Ok(Header {
        entries,
        metadata,
        data_start,
    })
}

/// [`header_length`] and [`parse_header`] of a whole file in memory.
pub fn parse(file: &[u8]) -> Result<Header> {
    let size = file.len() as u64;
    let length = header_length(file, size)?;
    // No more than the file's, which is a usize.
    parse_header(&file[8..8 + length as usize], size)
}

/// Sorts references instead of keeping a set: a third of the memory for a header with millions of names.
fn no_name_twice<'a>(names: impl Iterator<Item = &'a str>, place: &str) -> Result<()> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Damaged::new(format_args!(
            "the name {} is there twice{place}",
            quoted(pair[0])
        ))),
        None => Ok(()),
    }
}

/// The shape fits the bytes, and is one that an array can have.
fn check_size(entry: &Entry) -> Result<()> {
    let Entry {
        name,
        dtype,
        shape,
        begin,
        end,
    } = entry;
    let name = quoted(name);
    // Zeros count as ones first: an array library computes strides from the other sizes even when there is no element.
    let extent = shape
        .iter()
        .try_fold(dtype.bits(), |bits, &n| bits.checked_mul(n.max(1)));
    let Some(extent) = extent else {
        return Err(Damaged::new(format_args!(
            "{name} has the shape {shape:?}, which is too large"
        )));
    };
    let bits = if shape.contains(&0) { 0 } else { extent };
    let tag = dtype.tag();
    if bits % 8 != 0 {
        return Err(Damaged::new(format_args!(
            "{name} of shape {shape:?} and dtype {tag} does not fill whole bytes"
        )));
    }
    let size = bits / 8;
    match end.checked_sub(*begin) {
        Some(length) if length == size => Ok(()),
        Some(length) => Err(Damaged::new(format_args!(
            "{name} of shape {shape:?} and dtype {tag} takes {size} bytes, not {length}"
        ))),
        None => Err(Damaged::new(format_args!(
            "{name} ends at {end}, before it begins at {begin}"
        ))),
    }
}

/// Entries in the order of their bytes lie end to end and fill the data.
fn check_cover(entries: &[Entry], data_size: u64) -> Result<()> {
    let mut position = 0;
    for entry in entries {
        let (name, begin, end) = (quoted(&entry.name), entry.begin, entry.end);
        if begin != position {
            let what = if begin < position {
                "overlaps the tensor before it, which"
            } else {
                "leaves a hole after the tensor before it, which"
            };
            return Err(Damaged::new(format_args!(
                "{name} starts at {begin} and {what} ends at {position}"
            )));
        }
        if end > data_size {
            return Err(Damaged::new(format_args!(
                "{name} ends at {end}, but the file holds only {data_size} bytes of data"
            )));
        }
        position = end;
    }
    if position != data_size {
        return Err(Damaged::new(format_args!(
            "the tensors take {position} bytes, but the file holds {data_size} bytes of data"
        )));
    }
    Ok(())
}
