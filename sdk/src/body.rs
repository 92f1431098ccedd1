//! Bytes that the host holds: a whole body, a chunk of one, data of a connection.
//!
//! Read in parts, and changed as far as the host can: at the beginning, at the end, or all of them. When
//! a body is held, and how long it may be, is not here: see [`OnRequestBody`](crate::OnRequestBody).

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use tollgate_abi::BufferType;

use crate::host_error::HostError;
use crate::live::{Request, Response};
use crate::window::Window;

/// The whole body of a request, while it is held.
pub type RequestBody = BodyView<Whole<Request>>;

/// The whole body of a response, while it is held.
pub type ResponseBody = BodyView<Whole<Response>>;

/// A part of the body of a request, on its way.
pub type RequestChunk = BodyView<Chunk<Request>>;

/// A part of the body of a response, on its way.
pub type ResponseChunk = BodyView<Chunk<Response>>;

/// Bytes from the client of a connection, on their way.
pub type DownstreamData = BodyView<Chunk<Downstream>>;

/// Bytes from the upstream of a connection, on their way.
pub type UpstreamData = BodyView<Chunk<Upstream>>;

/// Bytes that the host holds for the filter.
///
/// Envoy refuses a change that starts inside, so that none is offered: what is changed there is read, and
/// replaced as a whole.
///
/// # Examples
///
/// ```no_run
/// use tollgate::{BodyError, RequestBody};
///
/// /// Puts `[` before a body and `]` after it. The filter has to say `RESIZES`.
/// fn wrap(body: &mut RequestBody) -> Result<(), BodyError> {
///     if body.read(0..1)? == b"[" {
///         return Ok(());
///     }
///     body.prepend("[")?;
///     body.append("]")
/// }
/// ```
#[derive(Debug)]
pub struct BodyView<P> {
    window: Window,
    is_last: bool,
    limits: Limits,
    part: PhantomData<P>,
}

/// What may be done to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limits {
    /// There are none, and there is no place for any.
    Absent,
    /// They may change, and stay as many.
    KeepLength,
    /// They may become fewer or more.
    Resize,
}

/// All of a message's body, as a type.
#[derive(Debug)]
pub struct Whole<M>(PhantomData<M>);

/// A part of a message's body or of a connection's bytes, as a type.
#[derive(Debug)]
pub struct Chunk<M>(PhantomData<M>);

/// The client's side of a connection, as a type.
#[derive(Debug)]
pub struct Downstream(());

/// The upstream's side of a connection, as a type.
#[derive(Debug)]
pub struct Upstream(());

/// Which buffer of the host is meant.
pub trait Buffered {
    /// The buffer.
    const BUFFER: BufferType;
}

impl Buffered for Request {
    const BUFFER: BufferType = BufferType::HttpRequestBody;
}

impl Buffered for Response {
    const BUFFER: BufferType = BufferType::HttpResponseBody;
}

impl Buffered for Downstream {
    const BUFFER: BufferType = BufferType::DownstreamData;
}

impl Buffered for Upstream {
    const BUFFER: BufferType = BufferType::UpstreamData;
}

impl<M: Buffered> Buffered for Whole<M> {
    const BUFFER: BufferType = M::BUFFER;
}

impl<M: Buffered> Buffered for Chunk<M> {
    const BUFFER: BufferType = M::BUFFER;
}

impl<M: Buffered> BodyView<Whole<M>> {
    pub(crate) const fn whole(window: Window, limits: Limits) -> Self {
        Self { window, is_last: true, limits, part: PhantomData }
    }
}

impl<M: Buffered> BodyView<Chunk<M>> {
    pub(crate) const fn chunk(window: Window, is_last: bool, limits: Limits) -> Self {
        Self { window, is_last, limits, part: PhantomData }
    }

    /// Whether nothing of this body, or from this side of the connection, follows. It may be a chunk
    /// without bytes.
    pub fn is_last(&self) -> bool {
        self.is_last
    }
}

impl<P: Buffered> BodyView<P> {
    /// How many bytes there are, also after changes.
    pub fn len(&self) -> usize {
        self.window.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.window.len == 0
    }

    /// Whether there is no place for bytes either: the message has no body, or its trailers have come
    /// after all of it was passed on.
    pub fn is_absent(&self) -> bool {
        self.limits == Limits::Absent
    }

    /// Reads the bytes of a range, as far as there are some.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses, or gives fewer than there are.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<u8>, HostError> {
        self.window.read(P::BUFFER, range)
    }

    /// Reads all bytes.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses, or gives fewer than there are.
    pub fn bytes(&self) -> Result<Vec<u8>, HostError> {
        self.read(0..self.len())
    }

    /// Puts `bytes` in the place of all there are.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when it may not have as many bytes, or when the host refuses.
    pub fn replace(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), BodyError> {
        self.change(0..self.len(), bytes.as_ref())
    }

    /// Puts `bytes` before those there are.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when there may not be more bytes, or when the host refuses.
    pub fn prepend(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), BodyError> {
        self.change(0..0, bytes.as_ref())
    }

    /// Puts `bytes` after those there are.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when there may not be more bytes, or when the host refuses.
    pub fn append(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), BodyError> {
        self.change(self.len()..self.len(), bytes.as_ref())
    }

    /// Puts `bytes` in the place of those of a range, which begins at 0 or at the end.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when the range begins inside, which Envoy refuses, or leaves the bytes; when there
    /// may not be as many bytes; or when the host refuses.
    pub fn replace_part(
        &mut self,
        range: Range<usize>,
        bytes: impl AsRef<[u8]>,
    ) -> Result<(), BodyError> {
        let (Range { start, end }, len) = (range, self.len());
        if start > end || end > len {
            return Err(BodyError::OutOfRange { start, end, len });
        }
        if start > 0 && start < len {
            return Err(BodyError::Inside { start, len });
        }
        self.change(start..end, bytes.as_ref())
    }

    /// `range` lies within the bytes, and begins at 0 or at the end.
    fn change(&mut self, range: Range<usize>, bytes: &[u8]) -> Result<(), BodyError> {
        let replaced = range.len();
        if replaced == 0 && bytes.is_empty() {
            return Ok(());
        }
        let from = self.len();
        let to = from.saturating_sub(replaced).saturating_add(bytes.len());
        match self.limits {
            Limits::Absent => return Err(BodyError::Absent { added: bytes.len() }),
            Limits::KeepLength if to != from => return Err(BodyError::Resized { from, to }),
            Limits::KeepLength | Limits::Resize => {}
        }
        if u32::try_from(to).is_err() {
            return Err(BodyError::TooLong { len: to });
        }
        Ok(self.window.change(P::BUFFER, range, bytes)?)
    }
}

/// Why bytes were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The filter has not said that it changes how long bodies are. The header `content-length` would
    /// stay, and what is too much would be read as the beginning of the next request.
    Resized {
        /// How many bytes there are.
        from: usize,
        /// How many there would be.
        to: usize,
    },
    /// There is no body, or no more of it: nothing can be put in its place.
    Absent {
        /// How many bytes there would be.
        added: usize,
    },
    /// The range leaves the bytes.
    OutOfRange {
        /// Where it begins.
        start: usize,
        /// Where it ends.
        end: usize,
        /// How many bytes there are.
        len: usize,
    },
    /// The range begins neither at 0 nor at the end.
    Inside {
        /// Where it begins.
        start: usize,
        /// How many bytes there are.
        len: usize,
    },
    /// There would be more bytes than the ABI can count.
    TooLong {
        /// How many bytes there would be.
        len: usize,
    },
    /// The host refused.
    Host(HostError),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resized { from, to } => write!(
                f,
                "a body of {from} bytes may not become one of {to}; set RESIZES of the phase to true"
            ),
            Self::Absent { added } => {
                write!(f, "{added} bytes cannot be put where there is no body, or no more of it")
            }
            Self::OutOfRange { start, end, len } => {
                write!(f, "bytes {start} to {end} are not within the {len} of the body")
            }
            Self::Inside { start, len } => write!(
                f,
                "a change at byte {start} of {len} is inside the body; change it at 0, at {len}, or replace it"
            ),
            Self::TooLong { len } => {
                write!(f, "a body of {len} bytes is longer than {}", u32::MAX)
            }
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Host(error) => Some(error),
            Self::Resized { .. }
            | Self::Absent { .. }
            | Self::OutOfRange { .. }
            | Self::Inside { .. }
            | Self::TooLong { .. } => None,
        }
    }
}

impl From<HostError> for BodyError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
