//! The few things that this host reads and writes as Protocol Buffers.
//!
//! Source: protobuf.dev, "Encoding".

/// The value of a field.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a kind that no known field has.
    Other,
}

/// Reads the fields of a message; nothing when the bytes are none. As Envoy's parser does, but for groups,
/// which are of old: no message that this host knows has one.
pub(super) fn fields(bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let (mut fields, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let tag;
        (tag, rest) = varint(rest)?;
        let (number, kind) = (tag >> 3, tag & 7);
        let value;
        (value, rest) = match kind {
            0 => varint(rest).map(|(number, rest)| (Value::Number(number), rest))?,
            1 => (Value::Other, rest.get(8..)?),
            2 => {
                let (length, after) = varint(rest)?;
                let (bytes, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                (Value::Bytes(bytes), after)
            }
            5 => (Value::Other, rest.get(4..)?),
            _ => return None,
        };
        if number == 0 {
            return None;
        }
        fields.push((number, value));
    }
    Some(fields)
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

/// Writes a text or bytes in a field whose number is below 16, unless they are empty.
pub(super) fn field(bytes: &mut Vec<u8>, number: u8, value: &[u8]) {
    if !value.is_empty() {
        message(bytes, number, value);
    }
}

/// Writes a text or a message in a field whose number is below 16, also an empty one.
pub(super) fn message(bytes: &mut Vec<u8>, number: u8, message: &[u8]) {
    bytes.push(number << 3 | 2);
    let mut rest = message.len();
    while rest > 0x7f {
        bytes.push(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    bytes.push(low_bits(rest));
    bytes.extend_from_slice(message);
}

fn low_bits(number: usize) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}
