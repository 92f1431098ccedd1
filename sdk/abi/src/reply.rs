//! The answer to a host call, and how it goes back into the guest's memory.

use std::borrow::Cow;

use core::fmt;

use crate::enums::Status;
use crate::field::{Fault, Field, Serialized, Words};
use crate::functions::Function;
use crate::memory::{Memory, PointerWidth};

/// What the host answers to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The call was carried out.
    Done(Answer),
    /// The call was refused.
    Refused {
        /// What the guest is told. For a WASI function, its `errno`.
        status: Status,
        /// What a person is told.
        why: Cow<'static, str>,
    },
    /// The call was refused because of when it came: what it is about is not there yet, or not any more.
    Untimely {
        /// What the guest is told.
        status: Status,
        /// What a person is told.
        why: Cow<'static, str>,
    },
    /// The call was refused, and gave something even so, as foreign functions of Envoy do.
    Failed {
        /// What the guest is told.
        status: Status,
        /// What a person is told.
        why: Cow<'static, str>,
        /// What it gave.
        answer: Answer,
    },
    /// The host ends the VM.
    Trap {
        /// What a person is told.
        why: Cow<'static, str>,
    },
}

impl Reply {
    /// The call was carried out and has nothing to say.
    pub const OK: Self = Self::Done(Answer::Nothing);

    /// A refusal with its reason.
    pub fn refused(status: Status, why: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused { status, why: why.into() }
    }

    /// A refusal because of when the call came, with its reason.
    pub fn untimely(status: Status, why: impl Into<Cow<'static, str>>) -> Self {
        Self::Untimely { status, why: why.into() }
    }

    /// The status that goes with it, unless the answer cannot be written.
    pub fn status(&self) -> Status {
        match self {
            Self::Done(_) => Status::Ok,
            Self::Refused { status, .. }
            | Self::Untimely { status, .. }
            | Self::Failed { status, .. } => *status,
            Self::Trap { .. } => Status::InternalFailure,
        }
    }
}

/// What became of an answer on its way into the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// What the call returns.
    pub status: Status,
    /// Why the guest did not get the answer, if it did not.
    pub fault: Option<Fault>,
}

/// The value that comes with a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No value.
    Nothing,
    /// An id, a token, a level.
    U32(u32),
    /// A time in nanoseconds, a metric.
    U64(u64),
    /// A size in bytes.
    Size(usize),
    /// Bytes in memory from the guest's allocator.
    Bytes(Vec<u8>),
    /// A header map in memory from the guest's allocator.
    Pairs(Serialized),
    /// The status of a callout.
    Status {
        /// gRPC status, or 0.
        code: u32,
        /// Its text.
        message: Vec<u8>,
    },
    /// A value that all workers share.
    Shared {
        /// The value.
        value: Vec<u8>,
        /// The number to hand back when writing it.
        cas: u32,
    },
    /// The state of a buffer.
    Buffer {
        /// Size in bytes.
        size: usize,
        /// Not used by any host.
        flags: u32,
    },
    /// Bytes for the buffer that the guest handed over.
    Fill(Vec<u8>),
    /// How many strings there are, and how many bytes they have with their NULs.
    Sizes {
        /// Number of strings.
        count: usize,
        /// Size in bytes.
        size: usize,
    },
    /// Strings for the two buffers that the guest handed over.
    Strings(Vec<Vec<u8>>),
}

impl Reply {
    /// Writes the answer where the guest wants it, and gives what came of it. `words` are all words of the
    /// call.
    ///
    /// # Errors
    ///
    /// [`WrongAnswer`] when the answer is not of the kind that the function gives, a bug of the host.
    pub fn deliver(
        &self,
        function: Function,
        words: &[u64],
        memory: &mut impl Memory,
    ) -> Result<Delivered, WrongAnswer> {
        match self {
            Self::Refused { status, .. } | Self::Untimely { status, .. } => {
                // As on Envoy: a callout over HTTP that is not made has the token 0.
                if matches!(function, Function::HttpCall) && *status != Status::InvalidMemoryAccess
                {
                    let slots = words.get(function.arguments()..).unwrap_or_default();
                    let _unwritten = Answer::U32(0).write(&mut Words(slots), words, memory);
                }
                Ok(Delivered { status: *status, fault: None })
            }
            Self::Trap { .. } => Ok(Delivered { status: self.status(), fault: None }),
            Self::Done(answer) => answer.deliver(Status::Ok, function, words, memory),
            Self::Failed { status, answer, .. } => answer.deliver(*status, function, words, memory),
        }
    }
}

impl Answer {
    /// How many bytes it has, besides numbers.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Nothing
            | Self::U32(_)
            | Self::U64(_)
            | Self::Size(_)
            | Self::Buffer { .. }
            | Self::Sizes { .. } => 0,
            Self::Bytes(bytes) | Self::Pairs(Serialized(bytes)) | Self::Fill(bytes) => bytes.len(),
            Self::Status { message, .. } => message.len(),
            Self::Shared { value, .. } => value.len(),
            Self::Strings(strings) => strings.iter().map(Vec::len).sum(),
        }
    }

    fn deliver(
        &self,
        status: Status,
        function: Function,
        words: &[u64],
        memory: &mut impl Memory,
    ) -> Result<Delivered, WrongAnswer> {
        let slots = words.get(function.arguments()..).unwrap_or_default();
        match self.write(&mut Words(slots), words, memory) {
            Ok(()) => Ok(Delivered { status, fault: None }),
            Err(Fault::MissingWord) => Err(WrongAnswer { function }),
            Err(
                fault @ (Fault::OutOfBounds { .. }
                | Fault::Allocation { .. }
                | Fault::TooLarge { .. }),
            ) => Ok(Delivered { status: function.status_of_faults(), fault: Some(fault) }),
        }
    }

    fn write(
        &self,
        slots: &mut Words<'_>,
        words: &[u64],
        memory: &mut impl Memory,
    ) -> Result<(), Fault> {
        match self {
            Self::Nothing => {}
            Self::U32(value) => write(memory, slots.take()?, &value.to_le_bytes())?,
            Self::U64(value) => write(memory, slots.take()?, &value.to_le_bytes())?,
            Self::Size(size) => write_size(memory, slots.take()?, *size)?,
            Self::Bytes(bytes) | Self::Pairs(Serialized(bytes)) => {
                write_allocated(memory, slots, bytes)?;
            }
            Self::Status { code, message } => {
                write(memory, slots.take()?, &code.to_le_bytes())?;
                write_allocated(memory, slots, message)?;
            }
            Self::Shared { value, cas } => {
                write_allocated(memory, slots, value)?;
                write(memory, slots.take()?, &cas.to_le_bytes())?;
            }
            Self::Buffer { size, flags } => {
                write_size(memory, slots.take()?, *size)?;
                write(memory, slots.take()?, &flags.to_le_bytes())?;
            }
            // The buffer to fill is the first argument.
            Self::Fill(bytes) => write(memory, Words(words).take()?, bytes)?,
            Self::Sizes { count, size } => {
                write_size(memory, slots.take()?, *count)?;
                write_size(memory, slots.take()?, *size)?;
            }
            Self::Strings(strings) => write_strings(memory, slots, strings)?,
        }
        if slots.0.is_empty() { Ok(()) } else { Err(Fault::MissingWord) }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(answer) => write!(f, "{answer}"),
            Self::Refused { status, why }
            | Self::Untimely { status, why }
            | Self::Failed { status, why, .. } => write!(f, "{status}: {why}"),
            Self::Trap { why } => write!(f, "trap: {why}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("ok"),
            Self::U32(value) => write!(f, "{value}"),
            Self::U64(value) => write!(f, "{value}"),
            Self::Size(size) => write!(f, "{size} bytes"),
            Self::Bytes(bytes) => bytes.show(f),
            Self::Pairs(pairs) => pairs.show(f),
            Self::Status { code, message } => write!(f, "{code} \"{}\"", message.escape_ascii()),
            Self::Shared { value, cas } => write!(f, "\"{}\" cas={cas}", value.escape_ascii()),
            Self::Buffer { size, flags } => write!(f, "{size} bytes, flags={flags}"),
            Self::Fill(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Sizes { count, size } => write!(f, "{count} strings, {size} bytes"),
            Self::Strings(strings) => write!(f, "{} strings", strings.len()),
        }
    }
}

/// An answer that is not of the kind that the function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongAnswer {
    /// The function that was called.
    pub function: Function,
}

impl fmt::Display for WrongAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host gave {} an answer of the wrong kind", self.function)
    }
}

impl core::error::Error for WrongAnswer {}

fn write(memory: &mut impl Memory, address: u64, bytes: &[u8]) -> Result<(), Fault> {
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    memory.write(address, bytes).ok_or(Fault::OutOfBounds { address, size })
}

/// Writes a pointer or a size, which are as wide as the guest's pointers.
fn write_pointer(memory: &mut impl Memory, address: u64, value: u64) -> Result<(), Fault> {
    match memory.pointer_width() {
        PointerWidth::Eight => write(memory, address, &value.to_le_bytes()),
        PointerWidth::Four => {
            let outside = Fault::OutOfBounds { address: value, size: 0 };
            let value = u32::try_from(value).map_err(|_| outside)?;
            write(memory, address, &value.to_le_bytes())
        }
    }
}

fn write_size(memory: &mut impl Memory, address: u64, size: usize) -> Result<(), Fault> {
    write_pointer(memory, address, u64::try_from(size).unwrap_or(u64::MAX))
}

/// Copies bytes into memory from the guest's allocator; no bytes are a null pointer, as on Envoy.
fn write_allocated(
    memory: &mut impl Memory,
    slots: &mut Words<'_>,
    bytes: &[u8],
) -> Result<(), Fault> {
    let (pointer_slot, size_slot) = (slots.take()?, slots.take()?);
    let address = if bytes.is_empty() {
        0
    } else {
        let size = bytes.len();
        let address = memory.allocate(size).ok_or(Fault::Allocation { size })?;
        write(memory, address, bytes)?;
        address
    };
    write_pointer(memory, pointer_slot, address)?;
    write_size(memory, size_slot, bytes.len())
}

fn write_strings(
    memory: &mut impl Memory,
    slots: &mut Words<'_>,
    strings: &[Vec<u8>],
) -> Result<(), Fault> {
    let (mut pointers, mut text) = (slots.take()?, slots.take()?);
    let width = match memory.pointer_width() {
        PointerWidth::Four => 4,
        PointerWidth::Eight => 8,
    };
    for string in strings {
        write_pointer(memory, pointers, text)?;
        write(memory, text, string)?;
        let size = u64::try_from(string.len()).unwrap_or(u64::MAX);
        let end = Fault::OutOfBounds { address: text, size };
        text = text.checked_add(size).ok_or(end)?;
        write(memory, text, &[0])?;
        text = text.checked_add(1).ok_or(end)?;
        pointers = pointers.checked_add(width).ok_or(end)?;
    }
    Ok(())
}
