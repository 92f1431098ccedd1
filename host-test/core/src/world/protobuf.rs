//! The few things that this host writes as Protocol Buffers.
//!
//! Source: protobuf.dev, "Encoding".

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
