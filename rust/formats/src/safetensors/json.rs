//! From the header's JSON straight into entries.
//!
//! Each visitor accepts one kind of value and stops at the first of another kind, so that nesting is never followed and
//! an unknown value never kept.

use std::fmt;
use std::result::Result;

use serde_core::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Dtype, Entry, MAX_AXES, MAX_TEXTS};
use crate::{Damaged, quoted};

const METADATA: &str = "__metadata__";
const EXACTLY: &str = "must have exactly dtype, shape and data_offsets";

type Texts = Vec<(String, String)>;

/// The entries in the order of the text, and the metadata.
pub(super) fn parse(text: &[u8]) -> Result<(Vec<Entry>, Texts), Damaged> {
    let invalid =
        |e: &dyn fmt::Display| Damaged::new(format_args!("its header is not valid JSON: {e}"));
    let text = str::from_utf8(text).map_err(|e| invalid(&e))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = json.deserialize_map(Header).map_err(|e| {
        if e.is_data() {
            Damaged::new(e) // it is JSON, but says what it must not
        } else {
            invalid(&e)
        }
    })?;
    json.end().map_err(|e| invalid(&e))?;
    Ok(parsed)
}

/// Makes a visitor its own seed, so that `map.next_value_seed(visitor)` reads what it visits.
macro_rules! seed {
    ($visitor:ty) => {
        impl<'de> DeserializeSeed<'de> for $visitor {
            type Value = <Self as Visitor<'de>>::Value;
            fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
                json.deserialize_any(self)
            }
        }
    };
}

/// The whole header: tensors by name, and the metadata.
struct Header;

impl<'de> Visitor<'de> for Header {
    type Value = (Vec<Entry>, Texts);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        let mut metadata = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                let texts = map.next_value_seed(Metadata).map_err(|e| {
                    A::Error::custom(format_args!("{METADATA} must map texts to texts ({e})"))
                })?;
                if metadata.replace(texts).is_some() {
                    return Err(A::Error::custom(format_args!("{METADATA} is there twice")));
                }
                continue;
            }
            let (dtype, shape, [begin, end]) = map
                .next_value_seed(Fields)
                .map_err(|e| A::Error::custom(format_args!("{} {e}", quoted(&name))))?;
            entries.push(Entry {
                name,
                dtype,
                shape,
                begin,
                end,
            });
        }
        Ok((entries, metadata.unwrap_or_default()))
    }
}

/// Texts by name, or null, which is how some writers say that there are none.
struct Metadata;
seed!(Metadata);

impl<'de> Visitor<'de> for Metadata {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(pair) = map.next_entry()? {
            if texts.len() == MAX_TEXTS {
                return Err(A::Error::custom(format_args!("more than {MAX_TEXTS}")));
            }
            texts.push(pair);
        }
        Ok(texts)
    }

    fn visit_unit<E: Error>(self) -> Result<Texts, E> {
        Ok(Vec::new())
    }
}

/// The three fields of one tensor, each once, in any order.
struct Fields;
seed!(Fields);

impl<'de> Visitor<'de> for Fields {
    type Value = (Dtype, Vec<u64>, [u64; 2]);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("exactly dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            let invalid =
                |e: A::Error| A::Error::custom(format_args!("has no valid {field} ({e})"));
            let again = match &*field {
                "dtype" => dtype
                    .replace(map.next_value_seed(Tag).map_err(invalid)?)
                    .is_some(),
                "shape" => shape
                    .replace(map.next_value_seed(Sizes(MAX_AXES)).map_err(invalid)?)
                    .is_some(),
                "data_offsets" => offsets
                    .replace(map.next_value_seed(Sizes(2)).map_err(invalid)?)
                    .is_some(),
                other => {
                    let other = quoted(other);
                    return Err(A::Error::custom(format_args!("{EXACTLY}, not {other}")));
                }
            };
            if again {
                return Err(A::Error::custom(format_args!("has {field} twice")));
            }
        }
        match (dtype, shape, offsets) {
            (Some(dtype), Some(shape), Some(offsets)) => match offsets[..] {
                [begin, end] => Ok((dtype, shape, [begin, end])),
                _ => Err(A::Error::custom(
                    "has no valid data_offsets (two are needed)",
                )),
            },
            _ => Err(A::Error::custom(EXACTLY)),
        }
    }
}

/// The name of an element type.
struct Tag;
seed!(Tag);

impl Visitor<'_> for Tag {
    type Value = Dtype;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, tag: &str) -> Result<Dtype, E> {
        let unknown = || E::custom(format_args!("unknown dtype {}", quoted(tag)));
        Dtype::from_tag(tag).ok_or_else(unknown)
    }
}

/// A list of whole numbers, at most so many.
struct Sizes(usize);
seed!(Sizes);

impl<'de> Visitor<'de> for Sizes {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} whole numbers from 0 up", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u64>, A::Error> {
        let mut sizes = Vec::new();
        while let Some(size) = list.next_element()? {
            if sizes.len() == self.0 {
                return Err(A::Error::custom(format_args!("more than {}", self.0)));
            }
            sizes.push(size);
        }
        Ok(sizes)
    }
}
