//! The messages that foreign functions take, read as Envoy's parser does, and the two that they give.

use crate::world::protobuf::field;

/// The fields of a message.
pub(super) struct Fields<'a>(Vec<(u64, Field<'a>)>);

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a kind that no known field has.
    Other,
}

impl<'a> Fields<'a> {
    /// Reads a message; `None` when it is none.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (mut fields, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let tag;
            (tag, rest) = varint(rest)?;
            let (number, kind) = (tag >> 3, tag & 7);
            let field;
            (field, rest) = match kind {
                0 => varint(rest).map(|(value, rest)| (Field::Number(value), rest))?,
                1 => (Field::Other, rest.get(8..)?),
                2 => {
                    let (length, after) = varint(rest)?;
                    let (bytes, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                    (Field::Bytes(bytes), after)
                }
                5 => (Field::Other, rest.get(4..)?),
                _ => return None,
            };
            if number == 0 {
                return None;
            }
            fields.push((number, field));
        }
        Some(Self(fields))
    }

    /// A field of type `bytes`; one that is not there is empty.
    pub(super) fn bytes(&self, number: u64) -> &'a [u8] {
        let of_number = self.0.iter().rev().filter(|(found, _)| *found == number);
        let bytes = of_number.filter_map(|(_, field)| match field {
            Field::Bytes(bytes) => Some(*bytes),
            Field::Number(_) | Field::Other => None,
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
            Field::Number(value) => Some(*value),
            Field::Bytes(_) | Field::Other => None,
        });
        numbers.into_iter().next().unwrap_or_default()
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return bytes.get(index + 1..).map(|rest| (value, rest));
        }
    }
    None
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
