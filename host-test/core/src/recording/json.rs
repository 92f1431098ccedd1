//! Bytes and header lines in JSON, as in scenarios: text, or `{ "hex": "ff00" }` where text cannot say it.

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::scenario::{Bytes, HeaderLine};

/// Bytes, for `#[serde(with = …)]`.
pub(crate) mod bytes {
    use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer, Written};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        Written(bytes).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(from).map(|Bytes(bytes)| bytes)
    }
}

/// Header lines, for `#[serde(with = …)]`.
pub(crate) mod lines {
    use super::{Bytes, Deserialize, Deserializer, HeaderLine, Serializer, Written};

    pub(crate) fn serialize<S: Serializer>(lines: &[HeaderLine], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(lines.iter().map(|(name, value)| (Written(name), Written(value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<HeaderLine>, D::Error> {
        let lines = Vec::<(Bytes, Bytes)>::deserialize(from)?;
        Ok(lines.into_iter().map(|(Bytes(name), Bytes(value))| (name, value)).collect())
    }
}

/// Bytes as scenarios have them.
pub(super) fn value(bytes: &[u8]) -> Value {
    // Text and maps of text can always be written.
    serde_json::to_value(Written(bytes)).unwrap_or_default()
}

/// Header lines as scenarios have them.
pub(super) fn line_values(headers: &[HeaderLine]) -> Value {
    lines::serialize(headers, serde_json::value::Serializer).unwrap_or_default()
}

struct Written<'a>(&'a [u8]);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = str::from_utf8(self.0) {
            return to.serialize_str(text);
        }
        let hex = self.0.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry("hex", &hex)?;
        map.end()
    }
}
