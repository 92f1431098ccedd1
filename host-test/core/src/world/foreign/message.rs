//! The messages that foreign functions take, read as Envoy's parser does, and the two that they give.

use crate::world::protobuf::{Value, field, fields};

/// The fields of a message.
pub(super) struct Fields<'a>(Vec<(u64, Value<'a>)>);

impl<'a> Fields<'a> {
    /// Reads a message; `None` when it is none.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        fields(bytes).map(Self)
    }

    /// A field of type `bytes`; one that is not there is empty.
    pub(super) fn bytes(&self, number: u64) -> &'a [u8] {
        let of_number = self.0.iter().rev().filter(|(found, _)| *found == number);
        let bytes = of_number.filter_map(|(_, field)| match field {
            Value::Bytes(bytes) => Some(*bytes),
            Value::Number(_) | Value::Other => None,
        });
        bytes.into_iter().next().unwrap_or_default()
    }

    /// A field of type `string`; `None` when it is not UTF-8, which makes the whole message none.
    pub(super) fn text(&self, number: u64) -> Option<&'a str> {
        str::from_utf8(self.bytes(number)).ok()
    }

    /// A number, `bool` or enum; one that is not there is 0.
    pub(super) fn number(&self, number: u64) -> u64 {
        let of_number = self.0.iter().rev().filter(|(found, _)| *found == number);
        let numbers = of_number.filter_map(|(_, field)| match field {
            Value::Number(value) => Some(*value),
            Value::Bytes(_) | Value::Other => None,
        });
        numbers.into_iter().next().unwrap_or_default()
    }
}

/// Writes the result of a check or of a signing: that it went well, and what came of it.
pub(super) fn success(signature: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x08, 1];
    field(&mut bytes, 2, signature);
    bytes
}

/// Writes why it did not go well, in the field of this number.
pub(super) fn failure(number: u8, error: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    field(&mut bytes, number, error.as_bytes());
    bytes
}
