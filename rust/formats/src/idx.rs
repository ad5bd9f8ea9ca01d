//! The IDX format of MNIST: two zeros, a byte for the element type, a byte for the number of axes, the sizes, and the
//! elements; every number big-endian.

use crate::{Damaged, Result};

/// The bytes before the sizes.
pub const MAGIC: usize = 4;
/// The most axes that a file may have.
pub const MAX_AXES: u8 = 8;
/// The most bytes that the elements may take. IDX files are small data sets; whoever claims more is wrong.
pub const MAX_BYTES: u64 = 1 << 32;

/// Element type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// Code 0x08.
    U8,
    /// Code 0x09.
    I8,
    /// Code 0x0B.
    I16,
    /// Code 0x0C.
    I32,
    /// Code 0x0D.
    F32,
    /// Code 0x0E.
    F64,
}

impl Element {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x08 => Self::U8,
            0x09 => Self::I8,
            0x0B => Self::I16,
            0x0C => Self::I32,
            0x0D => Self::F32,
            0x0E => Self::F64,
            _ => return None,
        })
    }

    /// NumPy's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// What the header says, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The element type.
    pub element: Element,
    /// The sizes.
    pub shape: Vec<u32>,
    /// Bytes of the elements: the product of the sizes times the element's size, at most [`MAX_BYTES`].
    pub bytes: u64,
}

/// The length of the whole header, from its first four bytes.
///
/// Errors: no IDX file starts like this.
pub fn header_length(magic: &[u8]) -> Result<usize> {
    split(magic).map(|(_, axes)| MAGIC + 4 * axes)
}

/// Reads the header, of the length that [`header_length`] says.
///
/// Errors: it is not of the format, of another length, or the elements would take more than [`MAX_BYTES`].
pub fn parse_header(header: &[u8]) -> Result<Header> {
    let (element, axes) = split(header)?;
    let (sizes, rest) = header[MAGIC..].as_chunks::<4>();
    if sizes.len() != axes || !rest.is_empty() {
        return Err(Damaged::new(format_args!(
            "the header has {} bytes, but {} with its {axes} axes",
            header.len(),
            MAGIC + 4 * axes
        )));
    }
    let shape: Vec<u32> = sizes.iter().map(|&size| u32::from_be_bytes(size)).collect();
    // As for the other format, zeros count as ones first: what follows must not overflow either.
    let extent = shape.iter().try_fold(element.size(), |bytes, &n| {
        bytes
            .checked_mul(u64::from(n.max(1)))
            .filter(|&bytes| bytes <= MAX_BYTES)
    });
    match extent {
        Some(bytes) => Ok(Header {
            element,
            bytes: if shape.contains(&0) { 0 } else { bytes },
            shape,
        }),
        None => Err(Damaged::new(format_args!(
            "its shape {shape:?} would take more than the {MAX_BYTES} bytes that are allowed"
        ))),
    }
}

/// Element type and number of axes from the magic number.
fn split(header: &[u8]) -> Result<(Element, usize)> {
    let Some(magic) = header.first_chunk::<MAGIC>() else {
        return Err(Damaged::new(format_args!(
            "it ends after {} of {MAGIC} bytes",
            header.len()
        )));
    };
    match (magic, Element::from_code(magic[2])) {
        ([0, 0, _, axes @ 1..=MAX_AXES], Some(element)) => Ok((element, usize::from(*axes))),
        _ => Err(Damaged::new(format_args!(
            "it starts with {magic:02x?}, which no IDX file does"
        ))),
    }
}
