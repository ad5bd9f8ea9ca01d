//! What must hold for any bytes at all. Shared by the tests and by the fuzz targets (`fuzz/`).

#![allow(dead_code, reason = "each user takes a part")]

use ::safetensors::SafeTensors;
use corten_formats::{idx, safetensors};

/// Reads `file` as safetensors. A clean error, or a header that fits the file and that the format's own reader shares.
pub fn check_safetensors(file: &[u8]) -> Result<safetensors::Header, String> {
    let header = match safetensors::parse(file) {
        Ok(header) => header,
        Err(e) => {
            let text = e.to_string();
            assert!(text.len() < 2500, "{} bytes of error message", text.len());
            assert!(!text.contains('\n'), "{text}");
            return Err(text);
        }
    };
    let mut position = header.data_start;
    for entry in &header.entries {
        let size = entry
            .shape
            .iter()
            .try_fold(entry.dtype.bits(), |bits, &n| bits.checked_mul(n));
        let bytes = size.expect("a size that overflows was accepted") / 8;
        assert_eq!(header.data_start + entry.begin, position, "{}", entry.name);
        assert_eq!(entry.end, entry.begin + bytes, "{}", entry.name);
        assert!(entry.shape.len() <= safetensors::MAX_AXES);
        position += bytes;
    }
    assert_eq!(position, file.len() as u64);

    let (length, theirs) =
        SafeTensors::read_metadata(file).expect("the format's own reader rejects it");
    assert_eq!(header.data_start, 8 + length as u64);
    assert_eq!(header.entries.len(), theirs.tensors().len());
    for entry in &header.entries {
        let info = theirs.info(&entry.name).expect("a tensor is missing");
        assert_eq!(info.dtype.to_string(), entry.dtype.tag());
        let shape: Vec<u64> = info.shape.iter().map(|&n| n as u64).collect();
        assert_eq!(shape, entry.shape);
        let (begin, end) = info.data_offsets;
        assert_eq!((begin as u64, end as u64), (entry.begin, entry.end));
    }
    let texts = theirs.metadata().as_ref();
    assert_eq!(header.metadata.len(), texts.map_or(0, |t| t.len()));
    for (name, text) in &header.metadata {
        assert_eq!(texts.and_then(|t| t.get(name)), Some(text));
    }
    Ok(header)
}

/// Reads the beginning of `file` as IDX. A clean error, or a header whose sizes multiply to what it says.
pub fn check_idx(file: &[u8]) -> Result<idx::Header, String> {
    let length = idx::header_length(file).map_err(|e| e.to_string())?;
    assert!(length <= idx::MAGIC + 4 * usize::from(idx::MAX_AXES));
    let header = idx::parse_header(&file[..length.min(file.len())]).map_err(|e| e.to_string())?;
    assert!(file.len() >= length);
    let bytes = header
        .shape
        .iter()
        .fold(u128::from(header.element.size()), |bytes, &n| {
            bytes
                .checked_mul(n.into())
                .expect("8 axes of 32 bits overflow")
        });
    assert_eq!(u128::from(header.bytes), bytes);
    assert!(header.bytes <= idx::MAX_BYTES);
    Ok(header)
}
