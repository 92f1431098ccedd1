//! Header pairs as they cross the border.
//!
//! Shape: `count: u32`, then `count` times (`name_len: u32`, `value_len: u32`), then each name and each
//! value followed by one NUL. Integers are little-endian, lengths are in bytes. Order and duplicates
//! are kept; names and values are bytes.
//!
//! Source: Proxy-Wasm v0.2.1, "Serialization", whose worked example is wrong; the golden bytes in
//! `tests/golden/` were captured from Envoy.

use core::fmt;

/// The most bytes that Envoy reads back from a guest; a larger map counts as empty there.
pub const MAX_BYTES: usize = 1 << 20;
/// The most pairs that Envoy reads back from a guest; a larger map counts as empty there.
pub const MAX_PAIRS: usize = 1024;

const WORD: usize = 4;

/// Name and value of one header line, borrowed.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// Checked pairs over borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    lengths: &'a [u8],
    text: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Reads the bytes that the other side sent. No bytes at all are the empty map.
    ///
    /// # Errors
    ///
    /// [`InvalidPairs`] with the offset at which the bytes stop making sense.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InvalidPairs> {
        // The specification allows one zero byte as the empty map.
        if matches!(bytes, [] | [0]) {
            return Ok(Self { lengths: &[], text: &[] });
        }
        let (count, rest) =
            word(bytes).ok_or(InvalidPairs::Truncated { at: bytes.len(), part: "count" })?;
        let sizes = count.checked_mul(2 * WORD).filter(|&sizes| sizes <= rest.len());
        let sizes = sizes.ok_or(InvalidPairs::Count { count, bytes: bytes.len() })?;
        let (lengths, text) = rest
            .split_at_checked(sizes)
            .ok_or(InvalidPairs::Count { count, bytes: bytes.len() })?;
        let pairs = Self { lengths, text };
        pairs.check(bytes.len())?;
        Ok(pairs)
    }

    /// The number of header lines.
    pub fn len(&self) -> usize {
        self.lengths.len() / (2 * WORD)
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The lines in their order.
    pub fn iter(&self) -> Iter<'a> {
        Iter { lengths: self.lengths, text: self.text }
    }

    fn check(&self, size: usize) -> Result<(), InvalidPairs> {
        let mut iter = self.iter();
        for index in 0..self.len() {
            let at = size.saturating_sub(iter.text.len());
            if iter.next().is_none() {
                return Err(InvalidPairs::Text { index, at });
            }
        }
        match iter.text.len() {
            0 => Ok(()),
            extra => Err(InvalidPairs::Trailing { extra }),
        }
    }
}

impl<'a> IntoIterator for &Pairs<'a> {
    type Item = Pair<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The lines of [`Pairs`], in their order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    lengths: &'a [u8],
    text: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let (name_len, lengths) = word(self.lengths)?;
        let (value_len, lengths) = word(lengths)?;
        let (name, text) = terminated(self.text, name_len)?;
        let (value, text) = terminated(text, value_len)?;
        *self = Self { lengths, text };
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.lengths.len() / (2 * WORD);
        (left, Some(left))
    }
}

/// Encodes header pairs as the other side expects them.
///
/// # Errors
///
/// [`TooLarge`] when the number of pairs or a length does not fit `u32`.
pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Result<Vec<u8>, TooLarge> {
    let text: usize = pairs
        .iter()
        .map(|(name, value)| name.as_ref().len().saturating_add(value.as_ref().len()))
        .fold(0, usize::saturating_add);
    let overhead = pairs.len().saturating_mul(2 * WORD + 2).saturating_add(WORD);
    let mut bytes = Vec::with_capacity(text.saturating_add(overhead));
    bytes.extend_from_slice(&length(pairs.len())?);
    for (name, value) in pairs {
        bytes.extend_from_slice(&length(name.as_ref().len())?);
        bytes.extend_from_slice(&length(value.as_ref().len())?);
    }
    for (name, value) in pairs {
        for part in [name.as_ref(), value.as_ref()] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
    }
    Ok(bytes)
}

/// The bytes of a header map that are not a header map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPairs {
    /// The bytes end inside a number.
    Truncated {
        /// Where the bytes end.
        at: usize,
        /// The number that is cut off.
        part: &'static str,
    },
    /// The count announces more pairs than the bytes can hold.
    Count {
        /// The announced number of pairs.
        count: usize,
        /// The size of the whole.
        bytes: usize,
    },
    /// A name or a value leaves the bytes or is not followed by NUL.
    Text {
        /// The pair, counted from 0.
        index: usize,
        /// Where its name starts.
        at: usize,
    },
    /// Bytes follow the last pair.
    Trailing {
        /// How many.
        extra: usize,
    },
}

impl fmt::Display for InvalidPairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { at, part } => {
                write!(f, "header map ends at byte {at} inside its {part}")
            }
            Self::Count { count, bytes } => {
                write!(f, "header map announces {count} pairs, which do not fit its {bytes} bytes")
            }
            Self::Text { index, at } => write!(
                f,
                "pair {index} of the header map, at byte {at}, leaves the map or is not ended by NUL"
            ),
            Self::Trailing { extra } => write!(f, "header map is followed by {extra} stray bytes"),
        }
    }
}

impl core::error::Error for InvalidPairs {}

/// A length that does not fit the 32 bits it has on the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The length, in bytes or pairs.
    pub length: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a length of {} does not fit 32 bits", self.length)
    }
}

impl core::error::Error for TooLarge {}

fn length(length: usize) -> Result<[u8; WORD], TooLarge> {
    u32::try_from(length).map(u32::to_le_bytes).map_err(|_| TooLarge { length })
}

fn word(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<WORD>()?;
    Some((usize::try_from(u32::from_le_bytes(*word)).ok()?, rest))
}

fn terminated(text: &[u8], length: usize) -> Option<Pair<'_>> {
    let (part, rest) = text.split_at_checked(length)?;
    let (&0, rest) = rest.split_first()? else {
        return None;
    };
    Some((part, rest))
}
