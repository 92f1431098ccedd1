//! How the raw words of a host call become typed fields.

use core::fmt;

use crate::enums::{BufferType, LogLevel, MapType, MetricType, StreamType};
use crate::memory::{Memory, PointerWidth};
use crate::pairs::Pairs;

/// A raw argument of a host function: what it is in wasm, and its bits.
pub trait Word: Sized {
    /// Whether wasm passes it in 64 bits.
    const WIDE: bool;
}

impl Word for u32 {
    const WIDE: bool = false;
}
impl Word for usize {
    const WIDE: bool = false;
}
impl<T> Word for *const T {
    const WIDE: bool = false;
}
impl<T> Word for *mut T {
    const WIDE: bool = false;
}
impl Word for u64 {
    const WIDE: bool = true;
}
impl Word for i64 {
    const WIDE: bool = true;
}

/// The raw words of one host call, taken from the left.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(pub &'a [u64]);

impl Words<'_> {
    /// Takes the next word.
    ///
    /// # Errors
    ///
    /// [`Fault::MissingWord`] when none is left.
    pub fn take(&mut self) -> Result<u64, Fault> {
        let (&word, rest) = self.0.split_first().ok_or(Fault::MissingWord)?;
        self.0 = rest;
        Ok(word)
    }

    fn take_u32(&mut self) -> Result<u32, Fault> {
        // A wasm32 word is 32 bits wide by its type; a wider one cannot come from the table.
        u32::try_from(self.take()?).map_err(|_| Fault::MissingWord)
    }
}

/// Why the arguments of a host call could not be read or its answer not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A pointer or a length leaves the guest's memory.
    OutOfBounds {
        /// Where the access starts.
        address: u64,
        /// How many bytes it has.
        size: u64,
    },
    /// The guest's allocator gave no memory for the answer.
    Allocation {
        /// How many bytes were asked for.
        size: usize,
    },
    /// The buffers of one call have more bytes together than the host takes at once.
    TooLarge {
        /// How many bytes it takes.
        most: usize,
    },
    /// The engine passed fewer words than the function takes.
    MissingWord,
}

/// As many bytes as one call may gather from its buffers: they may overlap, so that a guest's memory is no
/// bound.
const MOST_GATHERED_BYTES: usize = 64 << 20;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { address, size } => {
                write!(f, "{size} bytes at {address:#x} leave the guest's memory")
            }
            Self::Allocation { size } => write!(f, "the guest's allocator gave no {size} bytes"),
            Self::TooLarge { most } => {
                write!(f, "the buffers of the call have more than {most} bytes together")
            }
            Self::MissingWord => f.write_str("the engine passed too few arguments"),
        }
    }
}

impl core::error::Error for Fault {}

/// A header map in its serialised form; [`Pairs::parse`] reads it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Serialized(pub Vec<u8>);

impl fmt::Debug for Serialized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Field::show(self, f)
    }
}

/// Bytes that the guest scattered over several buffers (`iovec` of WASI), put together.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Gathered(pub Vec<u8>);

/// A buffer of the guest's that the host is asked to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Where it starts.
    pub address: u64,
    /// How many bytes it has.
    pub size: u64,
}

/// A typed argument of a host call.
pub(crate) trait Field: Sized {
    fn take(words: &mut Words<'_>, memory: &impl Memory) -> Result<Self, Fault>;
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// How many bytes it has besides itself.
    fn size_bytes(&self) -> usize {
        0
    }
}

impl Field for u32 {
    fn take(words: &mut Words<'_>, _: &impl Memory) -> Result<Self, Fault> {
        words.take_u32()
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Field for u64 {
    fn take(words: &mut Words<'_>, _: &impl Memory) -> Result<Self, Fault> {
        words.take()
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Field for i64 {
    fn take(words: &mut Words<'_>, _: &impl Memory) -> Result<Self, Fault> {
        Ok(words.take()?.cast_signed())
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Field for Vec<u8> {
    fn take(words: &mut Words<'_>, memory: &impl Memory) -> Result<Self, Fault> {
        let (address, size) = (words.take()?, words.take()?);
        read(memory, address, size).map(<[u8]>::to_vec)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }

    fn size_bytes(&self) -> usize {
        self.len()
    }
}

impl Field for Serialized {
    fn take(words: &mut Words<'_>, memory: &impl Memory) -> Result<Self, Fault> {
        Field::take(words, memory).map(Self)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(pairs) = Pairs::parse(&self.0) else {
            return write!(f, "invalid pairs \"{}\"", self.0.escape_ascii());
        };
        f.write_str("[")?;
        for (index, (name, value)) in pairs.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}: {}", name.escape_ascii(), value.escape_ascii())?;
        }
        f.write_str("]")
    }

    fn size_bytes(&self) -> usize {
        self.0.len()
    }
}

impl Field for Gathered {
    fn take(words: &mut Words<'_>, memory: &impl Memory) -> Result<Self, Fault> {
        let (list, count) = (words.take()?, words.take()?);
        let width: u64 = match memory.pointer_width() {
            PointerWidth::Four => 4,
            PointerWidth::Eight => 8,
        };
        let outside = Fault::OutOfBounds { address: list, size: count };
        let size =
            width.checked_mul(2).and_then(|entry| entry.checked_mul(count)).ok_or(outside)?;
        // The list is copied first: it is short, and its buffers are read from the same memory.
        let list = read(memory, list, size)?;
        let mut gathered = Vec::new();
        let width = usize::try_from(width).map_err(|_| outside)?;
        let mut numbers = list.chunks_exact(width).map(|bytes| {
            bytes.iter().rev().fold(0u64, |number, &byte| (number << 8) | u64::from(byte))
        });
        while let (Some(address), Some(size)) = (numbers.next(), numbers.next()) {
            let part = read(memory, address, size)?;
            if gathered.len().saturating_add(part.len()) > MOST_GATHERED_BYTES {
                return Err(Fault::TooLarge { most: MOST_GATHERED_BYTES });
            }
            gathered.extend_from_slice(part);
        }
        Ok(Self(gathered))
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }

    fn size_bytes(&self) -> usize {
        self.0.len()
    }
}

impl Field for Destination {
    fn take(words: &mut Words<'_>, memory: &impl Memory) -> Result<Self, Fault> {
        let (address, size) = (words.take()?, words.take()?);
        read(memory, address, size)?;
        Ok(Self { address, size })
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.size)
    }
}

macro_rules! enum_fields {
    ($($name:ident)*) => { $(
        impl Field for $name {
            fn take(words: &mut Words<'_>, _: &impl Memory) -> Result<Self, Fault> {
                words.take_u32().map(Self::from)
            }

            fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    )* };
}

enum_fields!(BufferType LogLevel MapType MetricType StreamType);

fn read(memory: &impl Memory, address: u64, size: u64) -> Result<&[u8], Fault> {
    // An empty buffer has no address worth checking: guests pass dangling or null pointers for it.
    if size == 0 {
        return Ok(&[]);
    }
    memory.read(address, size).ok_or(Fault::OutOfBounds { address, size })
}
