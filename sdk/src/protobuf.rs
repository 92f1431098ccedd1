//! Protocol Buffers on the wire, as much of them as messages to the host need: fields one after another,
//! written in the order in which they are asked for and read without a schema.
//!
//! Total: any bytes are read to their end or to an error. Not here: schemas, packed lists, groups (which
//! no message since version 3 has), and a limit of depth, since what lies in a field is not looked into.
//!
//! Source: protobuf.dev, "Encoding"; checked against the Python implementation.

use std::error::Error;
use std::fmt;

/// The most bytes that a number takes.
const MOST_VARINT_BYTES: usize = 10;

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

/// A message being written. What has the value that it has unwritten is not written, as by any encoder
/// of version 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A message without fields.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Writes a field of type `uint32`, `uint64` or an enum.
    #[must_use]
    pub fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.tag(field, VARINT);
            self.varint(value);
        }
        self
    }

    /// Writes a field of type `bool`.
    #[must_use]
    pub fn boolean(self, field: u32, value: bool) -> Self {
        self.number(field, value.into())
    }

    /// Writes a field of type `bytes`, `string`, or a message that is written already.
    #[must_use]
    pub fn bytes(self, field: u32, value: &[u8]) -> Self {
        if value.is_empty() { self } else { self.delimited(field, value) }
    }

    /// Writes a field that is a message, also one without fields: that it is there says something.
    #[must_use]
    pub fn message(self, field: u32, message: &Self) -> Self {
        self.delimited(field, &message.0)
    }

    /// The bytes of the message.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn delimited(mut self, field: u32, value: &[u8]) -> Self {
        self.tag(field, LENGTH);
        self.varint(wide(value.len()));
        self.0.extend_from_slice(value);
        self
    }

    fn tag(&mut self, field: u32, kind: u64) {
        self.varint((u64::from(field) << 3) | kind);
    }

    fn varint(&mut self, value: u64) {
        let mut rest = value;
        loop {
            let [low, ..] = rest.to_le_bytes();
            rest >>= 7;
            if rest == 0 {
                self.0.push(low & 0x7f);
                return;
            }
            self.0.push(low | 0x80);
        }
    }
}

/// The fields of a message, in their order. A field that comes twice is given twice; the last one
/// counts, unless it is a list. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    size: usize,
}

/// The value of a field, by how it lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer, a `bool` or an enum; of `sint32` and `sint64` as it is written.
    Varint(u64),
    /// The bits of a `fixed64`, `sfixed64` or `double`.
    Fixed64(u64),
    /// The bytes of a `string`, `bytes` or message.
    Bytes(&'a [u8]),
    /// The bits of a `fixed32`, `sfixed32` or `float`.
    Fixed32(u32),
}

impl<'a> Fields<'a> {
    /// Reads a message.
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message, size: message.len() }
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), InvalidMessage> {
        let at = self.size.saturating_sub(self.rest.len());
        let tag = self.varint(at)?;
        let number = u32::try_from(tag >> 3).ok().filter(|&number| number != 0);
        let number = number.ok_or(InvalidMessage::Number { at, number: tag >> 3 })?;
        let value = match tag & 7 {
            VARINT => Value::Varint(self.varint(at)?),
            FIXED_64 => Value::Fixed64(u64::from_le_bytes(self.take(at)?)),
            FIXED_32 => Value::Fixed32(u32::from_le_bytes(self.take(at)?)),
            LENGTH => {
                let announced = self.varint(at)?;
                let length = usize::try_from(announced).ok();
                let split = length.and_then(|length| self.rest.split_at_checked(length));
                let (bytes, rest) = split.ok_or(InvalidMessage::Truncated { at })?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            kind => return Err(InvalidMessage::Kind { at, kind }),
        };
        Ok((number, value))
    }

    fn varint(&mut self, at: usize) -> Result<u64, InvalidMessage> {
        let mut value = 0_u64;
        let mut shift = 0_u32;
        for index in 1..=MOST_VARINT_BYTES {
            let (&byte, rest) = self.rest.split_first().ok_or(InvalidMessage::Truncated { at })?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit, and every encoder leaves the others clear.
            if index == MOST_VARINT_BYTES && byte > 1 {
                return Err(InvalidMessage::Varint { at });
            }
            value |= bits.wrapping_shl(shift);
            if byte < 0x80 {
                return Ok(value);
            }
            shift = shift.saturating_add(7);
        }
        Err(InvalidMessage::Varint { at })
    }

    fn take<const N: usize>(&mut self, at: usize) -> Result<[u8; N], InvalidMessage> {
        let (bytes, rest) =
            self.rest.split_first_chunk::<N>().ok_or(InvalidMessage::Truncated { at })?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), InvalidMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Bytes that are no message. Places are offsets of the field that does not make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidMessage {
    /// The bytes end inside a field.
    Truncated {
        /// Where the field begins.
        at: usize,
    },
    /// A number has more than 64 bits.
    Varint {
        /// Where the field begins.
        at: usize,
    },
    /// A field has no number that fields may have.
    Number {
        /// Where the field begins.
        at: usize,
        /// The number.
        number: u64,
    },
    /// A field is of a kind that no field has, or of a group.
    Kind {
        /// Where the field begins.
        at: usize,
        /// The kind.
        kind: u64,
    },
}

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { at } => write!(f, "message ends inside the field at byte {at}"),
            Self::Varint { at } => {
                write!(f, "the field at byte {at} has a number of more than 64 bits")
            }
            Self::Number { at, number } => {
                write!(f, "the field at byte {at} has the number {number}")
            }
            Self::Kind { at, kind } => write!(f, "the field at byte {at} is of kind {kind}"),
        }
    }
}

impl Error for InvalidMessage {}

/// A length in 64 bits; none is longer.
fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn what_python_writes_is_written_and_read() {
        let check = |golden: &[u8], message: Writer, fields: &[(u32, Value<'_>)]| {
            assert_eq!(message.finish(), golden);
            let read: Result<Vec<_>, _> = Fields::of(golden).collect();
            assert_eq!(read.unwrap(), fields);
        };
        check(
            b"\x08\xac\x02\xa2\x06\x01x",
            Writer::new().number(1, 300).boolean(2, false).bytes(3, b"").bytes(100, b"x"),
            &[(1, Value::Varint(300)), (100, Value::Bytes(b"x"))],
        );
        check(
            b"\x0a\x06tenant\x10\x01\x18\x01\x22\x02\xff\x00(\x02",
            Writer::new()
                .bytes(1, b"tenant")
                .boolean(2, true)
                .number(3, 1)
                .bytes(4, b"\xff\0")
                .number(5, 2),
            &[
                (1, Value::Bytes(b"tenant")),
                (2, Value::Varint(1)),
                (3, Value::Varint(1)),
                (4, Value::Bytes(b"\xff\0")),
                (5, Value::Varint(2)),
            ],
        );
        check(
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            Writer::new().number(1, u64::MAX),
            &[(1, Value::Varint(u64::MAX))],
        );
        check(b"", Writer::new(), &[]);
        check(
            b"\x0a\x02\x08\x07\x12\0",
            Writer::new().message(1, &Writer::new().number(1, 7)).message(2, &Writer::new()),
            &[(1, Value::Bytes(b"\x08\x07")), (2, Value::Bytes(b""))],
        );
    }

    #[test]
    fn every_kind_of_field_that_python_writes_is_read() {
        let mut golden = b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\
            \x11\x00\x00\x00\x00\x00\x00\xf8?\x1d\x00\x00\x00\xc0\
            (\xff\xff\xff\xff\xff\xff\xff\xff\xff\x015\x07\x00\x00\x00\xa2\x06\x82\x01"
            .to_vec();
        golden.extend([b'x'; 130]);
        let fields: Vec<_> = Fields::of(&golden).map(Result::unwrap).collect();
        let expected = [
            (1, Value::Varint(u64::MAX)),
            (2, Value::Fixed64(1.5_f64.to_bits())),
            (3, Value::Fixed32((-2.0_f32).to_bits())),
            (5, Value::Varint((-1_i64).cast_unsigned())),
            (6, Value::Fixed32(7)),
            (100, Value::Bytes(&[b'x'; 130])),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn what_is_no_message_says_where() {
        let check = |bytes: &[u8], expected: &str| {
            let error = Fields::of(bytes).find_map(Result::err).unwrap();
            assert_eq!(error.to_string(), expected, "{}", bytes.escape_ascii());
            assert_eq!(Fields::of(bytes).filter(Result::is_err).count(), 1);
        };
        check(b"\x0a", "message ends inside the field at byte 0");
        check(b"\x08\x01\x0a\x05abc", "message ends inside the field at byte 2");
        check(b"\x09\0\0\0", "message ends inside the field at byte 0");
        check(b"\x08\x80", "message ends inside the field at byte 0");
        check(
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            "the field at byte 0 has a number of more than 64 bits",
        );
        check(b"\x00\x01", "the field at byte 0 has the number 0");
        check(b"\x0b", "the field at byte 0 is of kind 3");
        check(
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "message ends inside the field at byte 0",
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            fields in vec(
                (
                    1_u32..(1 << 29),
                    prop_oneof![
                        (1..=u64::MAX).prop_map(Ok),
                        vec(any::<u8>(), 1..300).prop_map(Err),
                    ],
                ),
                0..20,
            ),
        ) {
            let mut message = Writer::new();
            for (number, value) in &fields {
                message = match value {
                    Ok(value) => message.number(*number, *value),
                    Err(bytes) => message.bytes(*number, bytes),
                };
            }
            let message = message.finish();
            let read: Vec<_> = Fields::of(&message).map(Result::unwrap).collect();
            let expected: Vec<_> = fields
                .iter()
                .map(|(number, value)| match value {
                    Ok(value) => (*number, Value::Varint(*value)),
                    Err(bytes) => (*number, Value::Bytes(bytes)),
                })
                .collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_are_read_to_their_end(bytes in vec(any::<u8>(), 0..200)) {
            let errors = Fields::of(&bytes).filter(Result::is_err).count();
            prop_assert!(errors <= 1);
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
        }
    }
}
