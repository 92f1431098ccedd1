//! Where bytes lie in a buffer of the host, which shows them together with those that other filters of
//! the same module hold.

use std::ops::Range;

use tollgate_abi::{BufferType, Function};

use crate::host;
use crate::host_error::HostError;

/// A run of bytes in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many bytes lie before it.
    pub start: usize,
    /// How many it has.
    pub len: usize,
    /// Whether none lie behind it.
    pub is_tail: bool,
}

impl Window {
    /// All bytes of a buffer.
    pub(crate) const fn all(len: usize) -> Self {
        Self { start: 0, len, is_tail: true }
    }

    /// Reads the bytes of a range, as far as there are some.
    pub(crate) fn read(
        self,
        buffer: BufferType,
        range: Range<usize>,
    ) -> Result<Vec<u8>, HostError> {
        let start = range.start.min(self.len);
        let expected = range.end.min(self.len).saturating_sub(start);
        read(buffer, self.start.saturating_add(start), expected)
    }

    /// Replaces the bytes of a range, which begins at 0 or at the end. Where others lie before it, the
    /// host is given these anew: Envoy takes no change that starts inside.
    pub(crate) fn change(
        &mut self,
        buffer: BufferType,
        range: Range<usize>,
        bytes: &[u8],
    ) -> Result<(), HostError> {
        let start = self.start.saturating_add(range.start);
        if start == 0 || (self.is_tail && range.start == self.len) {
            host::set_buffer(buffer, word(start), word(range.len()), bytes)?;
        } else {
            let mut anew = read(buffer, 0, start)?;
            anew.extend_from_slice(bytes);
            host::set_buffer(buffer, 0, word(start.saturating_add(range.len())), &anew)?;
        }
        self.len = self.len.saturating_sub(range.len()).saturating_add(bytes.len());
        Ok(())
    }
}

fn read(buffer: BufferType, start: usize, expected: usize) -> Result<Vec<u8>, HostError> {
    if expected == 0 {
        return Ok(Vec::new());
    }
    let function = Function::GetBufferBytes;
    let bytes = host::buffer(buffer, word(start), word(expected))?;
    match bytes.len() {
        // As Envoy answers where the buffer is not that of the callback.
        0 => Err(HostError::NotInPhase { function }),
        size if size != expected => Err(HostError::WrongSize { function, size, expected }),
        _ => Ok(bytes),
    }
}

/// A size as the host takes it: no buffer of a module has more bytes.
fn word(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
