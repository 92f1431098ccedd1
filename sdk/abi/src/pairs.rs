//! Header pairs as they cross the border.
//!
//! Shape: `count: u32`, then `count` times (`name_len: u32`, `value_len: u32`), then each name and each
//! value followed by one NUL. Integers are little-endian, lengths are in bytes. Order and duplicates
//! are kept; names and values are bytes.
//!
//! Source: Proxy-Wasm v0.2.1, "Serialization", whose worked example is wrong; the golden bytes in
//! `tests/golden/` were captured from Envoy.

use core::{fmt, slice};

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
    lengths: &'a [Lengths],
    text: &'a [u8],
}

/// The lengths of a name and of its value.
type Lengths = [[u8; WORD]; 2];

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
        let pairs = Self::split(rest, sizes);
        pairs.check(bytes.len())?;
        Ok(pairs)
    }

    /// The pairs of bytes in which [`Self::parse`] has found `len` of them. Of other bytes it is as many
    /// pairs as make sense.
    pub fn of_checked(bytes: &'a [u8], len: usize) -> Self {
        Self::split(bytes.get(WORD..).unwrap_or_default(), len.saturating_mul(2 * WORD))
    }

    fn split(rest: &'a [u8], sizes: usize) -> Self {
        let (lengths, text) = rest.split_at_checked(sizes).unwrap_or_default();
        let (lengths, _) = lengths.as_chunks().0.as_chunks();
        Self { lengths, text }
    }

    /// The number of header lines.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The lines in their order.
    pub fn iter(&self) -> Iter<'a> {
        Iter { lengths: self.lengths.iter(), text: self.text }
    }

    /// The value of each line whose name is this one, in any case.
    pub fn named<'n>(self, name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let Self { lengths, text } = self;
        let mut at = 0_usize;
        lengths.iter().filter_map(move |&[name_len, value_len]| {
            let name_len = number(name_len);
            let value_at = at.wrapping_add(name_len).wrapping_add(1);
            let end = value_at.wrapping_add(number(value_len));
            let start = core::mem::replace(&mut at, end.wrapping_add(1));
            // Most names are told apart by their length.
            if name_len != name.len() {
                return None;
            }
            let found = text.get(start..)?.get(..name_len)?;
            found.eq_ignore_ascii_case(name).then(|| text.get(value_at..end)).flatten()
        })
    }

    fn check(&self, size: usize) -> Result<(), InvalidPairs> {
        // All lengths together fit: there are fewer than 2^30 of 32 bits each.
        let mut end = 0_u64;
        for (index, lengths) in self.lengths.iter().enumerate() {
            for &length in lengths {
                end = end.wrapping_add(u32::from_le_bytes(length).into());
                let terminator = usize::try_from(end).ok().and_then(|end| self.text.get(end));
                if terminator != Some(&0) {
                    return Err(self.leaves(index, size));
                }
                end = end.wrapping_add(1);
            }
        }
        match self.text.get(usize::try_from(end).unwrap_or(usize::MAX)..).unwrap_or_default() {
            [] => Ok(()),
            extra => Err(InvalidPairs::Trailing { extra: extra.len() }),
        }
    }

    #[cold]
    fn leaves(&self, index: usize, size: usize) -> InvalidPairs {
        let before = self.lengths.iter().take(index).flatten();
        let at: usize = before.map(|&length| number(length).saturating_add(1)).sum();
        InvalidPairs::Text { index, at: size.saturating_sub(self.text.len()).saturating_add(at) }
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
    lengths: slice::Iter<'a, Lengths>,
    text: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let &[name, value] = self.lengths.next()?;
        let (name, text) = terminated(self.text, number(name))?;
        let (value, text) = terminated(text, number(value))?;
        self.text = text;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lengths.size_hint()
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
    Some((number(*word), rest))
}

/// A length; where it does not fit an address, more than any slice has.
fn number(word: [u8; WORD]) -> usize {
    usize::try_from(u32::from_le_bytes(word)).unwrap_or(usize::MAX)
}

/// The part before a NUL, which [`Pairs::check`] has seen, and what is after it.
fn terminated(text: &[u8], length: usize) -> Option<Pair<'_>> {
    let (part, rest) = text.split_at_checked(length)?;
    Some((part, rest.get(1..)?))
}
