//! Values as bytes of a fixed length, behind a version.
//!
//! Shape: a byte, the version; then the value, always of the same length. Numbers are little-endian.

use std::error::Error;
use std::fmt;

/// A value of a fixed number of bytes.
pub trait Layout: 'static {
    /// How many.
    const BYTES: usize;

    /// Takes its bytes from the front of `bytes`; `None` when they are too few.
    fn split(bytes: &[u8]) -> Option<(&Self, &[u8])>;

    /// The bytes.
    fn bytes(&self) -> &[u8];
}

impl<const N: usize> Layout for [u8; N] {
    const BYTES: usize = N;

    fn split(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        bytes.split_first_chunk()
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A value that the proxy keeps.
///
/// A filter with another layout has another version, and finds an error in place of a value that it
/// would misread. It belongs into the names as well: see [`Root::state`](crate::Root::state).
pub trait Record: Sized {
    /// The first byte of each record.
    const VERSION: u8 = 1;

    /// The bytes that follow, `[u8; N]`.
    type Bytes: Layout;

    /// The value as bytes.
    fn to_bytes(&self) -> Self::Bytes;

    /// The value of these bytes; `None` when there is none.
    fn from_bytes(bytes: &Self::Bytes) -> Option<Self>;
}

/// The record of a value.
pub fn encode<R: Record>(value: &R) -> Vec<u8> {
    let mut record = Vec::with_capacity(R::Bytes::BYTES.saturating_add(1));
    record.push(R::VERSION);
    record.extend_from_slice(value.to_bytes().bytes());
    record
}

/// The value of a record.
///
/// # Errors
///
/// [`InvalidRecord`] when another version or something else has written the bytes.
pub fn decode<R: Record>(record: &[u8]) -> Result<R, InvalidRecord> {
    let expected = R::Bytes::BYTES.saturating_add(1);
    let wrong_length = InvalidRecord::WrongLength { found: record.len(), expected };
    let (&version, bytes) = record.split_first().ok_or(wrong_length)?;
    if version != R::VERSION {
        return Err(InvalidRecord::UnknownVersion { found: version, known: R::VERSION });
    }
    match R::Bytes::split(bytes) {
        Some((bytes, [])) => R::from_bytes(bytes).ok_or(InvalidRecord::NoValue),
        Some(_) | None => Err(wrong_length),
    }
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRecord {
    /// Another version of this filter has written them.
    UnknownVersion {
        /// Their first byte.
        found: u8,
        /// What it should be.
        known: u8,
    },
    /// They are too few or too many.
    WrongLength {
        /// How many they are.
        found: usize,
        /// How many they should be.
        expected: usize,
    },
    /// The version and the length are right, and they stand for no value.
    NoValue,
}

impl fmt::Display for InvalidRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion { found, known } => {
                write!(f, "record version {found} is not {known}")
            }
            Self::WrongLength { found, expected } => {
                write!(f, "{found} bytes are not a record of {expected} bytes")
            }
            Self::NoValue => f.write_str("the record stands for no value"),
        }
    }
}

impl Error for InvalidRecord {}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(
            impl Record for $number {
                type Bytes = [u8; size_of::<$number>()];

                fn to_bytes(&self) -> Self::Bytes {
                    self.to_le_bytes()
                }

                fn from_bytes(bytes: &Self::Bytes) -> Option<Self> {
                    Some(Self::from_le_bytes(*bytes))
                }
            }
        )*
    };
}

numbers!(u8 u16 u32 u64 u128 i64);

impl<const N: usize> Record for [u8; N] {
    type Bytes = Self;

    fn to_bytes(&self) -> Self {
        *self
    }

    fn from_bytes(bytes: &Self) -> Option<Self> {
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq)]
    struct Even(u16);

    impl Record for Even {
        const VERSION: u8 = 7;
        type Bytes = [u8; 2];

        fn to_bytes(&self) -> [u8; 2] {
            self.0.to_le_bytes()
        }

        fn from_bytes(bytes: &[u8; 2]) -> Option<Self> {
            Some(Self(u16::from_le_bytes(*bytes))).filter(|even| even.0 % 2 == 0)
        }
    }

    #[test]
    fn a_record_has_its_bytes_for_ever() {
        assert_eq!(encode(&Even(0x0204)), [7, 4, 2]);
        assert_eq!(decode(&[7, 4, 2]), Ok(Even(0x0204)));
    }

    #[test]
    fn what_is_no_record_is_told_apart() {
        let refused = |record: &[u8]| decode::<Even>(record).unwrap_err().to_string();
        assert_eq!(refused(&[]), "0 bytes are not a record of 3 bytes");
        assert_eq!(refused(&[7, 4]), "2 bytes are not a record of 3 bytes");
        assert_eq!(refused(&[7, 4, 2, 0]), "4 bytes are not a record of 3 bytes");
        assert_eq!(refused(&[1, 4, 2]), "record version 1 is not 7");
        assert_eq!(refused(&[7, 1, 0]), "the record stands for no value");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>, number: u64) {
            if let Ok(value) = decode::<u64>(&bytes) {
                prop_assert_eq!(encode(&value), bytes);
            }
            prop_assert_eq!(decode(&encode(&number)), Ok(number));
        }
    }
}
