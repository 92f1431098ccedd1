//! Headers in the proxy: read whole and once, changed line by line.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use tollgate_abi::{Function, MapType, Status};

use crate::headers::{Headers, InvalidHeader, check_header};
use crate::host;
use crate::host_error::HostError;
use crate::reply::LocalReply;

/// The headers of a request, while the request is held.
///
/// On Envoy, changing one has the route chosen anew, as long as modules speak ABI 0.2.1 or older.
pub type RequestHeaders = MessageHeaders<Request>;

/// The headers of a response, while the response is held.
pub type ResponseHeaders = MessageHeaders<Response>;

/// Headers of a message that the host holds: see [`RequestHeaders`] and [`ResponseHeaders`].
#[derive(Debug)]
pub struct MessageHeaders<M> {
    end_of_stream: bool,
    /// As last read; `None` before that, and after a change.
    read: Option<Headers>,
    message: PhantomData<M>,
}

/// A request, as a type.
#[derive(Debug)]
pub struct Request(());

/// A response, as a type.
#[derive(Debug)]
pub struct Response(());

/// Which header map of the host is meant.
pub trait Message {
    /// The map.
    const MAP: MapType;
}

impl Message for Request {
    const MAP: MapType = MapType::RequestHeaders;
}

impl Message for Response {
    const MAP: MapType = MapType::ResponseHeaders;
}

impl<M: Message> MessageHeaders<M> {
    pub(crate) const fn new(end_of_stream: bool) -> Self {
        Self { end_of_stream, read: None, message: PhantomData }
    }

    /// Whether neither body nor trailers follow.
    pub fn is_end_of_stream(&self) -> bool {
        self.end_of_stream
    }

    /// All header lines. The host is asked the first time, and again after a change.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses, or gives something else than a header map.
    pub fn read(&mut self) -> Result<&Headers, HostError> {
        let headers = match self.read.take() {
            Some(headers) => headers,
            None => read::<M>()?,
        };
        Ok(self.read.insert(headers))
    }

    /// The value of the first line with this name; `None` when no line has it. Cheaper than reading all
    /// lines for a filter that needs no other. Not for decisions about security: a client may send a
    /// second line, and [`Headers::exactly_one`] would tell.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn first(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        if let Some(headers) = &self.read {
            return Ok(headers.first(name).map(<[u8]>::to_vec));
        }
        match host::header_value(M::MAP, name.as_bytes()) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.status() == Some(Status::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All header lines, to keep while headers are changed. [`Self::read`] asks the host again.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses, or gives something else than a header map.
    pub fn take(&mut self) -> Result<Headers, HostError> {
        self.read.take().map_or_else(read::<M>, Ok)
    }

    /// Replaces all lines of a header by one.
    ///
    /// # Errors
    ///
    /// [`EditError`] when this is no header line, or when the host refuses.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        let (name, value) = (name.as_bytes(), value.as_ref());
        check_header(name, value)?;
        self.changed(host::replace_header(M::MAP, name, value))
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// [`EditError`] when this is no header line, or when the host refuses.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), EditError> {
        let (name, value) = (name.as_bytes(), value.as_ref());
        check_header(name, value)?;
        self.changed(host::add_header(M::MAP, name, value))
    }

    /// Removes all lines of a header. On some hosts, not on Envoy, an empty one stays.
    ///
    /// # Errors
    ///
    /// [`EditError`] when this is no name of a header, or when the host refuses.
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        check_header(name.as_bytes(), &[])?;
        self.changed(host::remove_header(M::MAP, name.as_bytes()))
    }

    /// Also a host that refuses may have changed something: what was read no longer counts.
    fn changed(&mut self, outcome: Result<(), HostError>) -> Result<(), EditError> {
        self.read = None;
        Ok(outcome?)
    }
}

/// What is known of a request and its response when both are over.
#[derive(Debug)]
pub struct LoggedExchange {
    request: MessageHeaders<Request>,
    response: MessageHeaders<Response>,
}

impl LoggedExchange {
    pub(crate) const fn new() -> Self {
        Self { request: MessageHeaders::new(true), response: MessageHeaders::new(true) }
    }

    /// All header lines of the request, as the last filter left them. The host is asked once.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host has none, refuses, or gives something else than a header map.
    pub fn request(&mut self) -> Result<&Headers, HostError> {
        self.request.read()
    }

    /// All header lines of the response, as the client got them. The host is asked once.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host has none, refuses, or gives something else than a header map.
    pub fn response(&mut self) -> Result<&Headers, HostError> {
        self.response.read()
    }
}

fn read<M: Message>() -> Result<Headers, HostError> {
    Headers::parse(host::header_pairs(M::MAP)?)
        .map_err(|reason| HostError::NotPairs { function: Function::GetHeaderMapPairs, reason })
}

/// Why a header was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// What the filter asked for is no header line.
    NotAHeader(InvalidHeader),
    /// The host refused.
    Host(HostError),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAHeader(error) => write!(f, "{error}"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for EditError {}

impl From<InvalidHeader> for EditError {
    fn from(error: InvalidHeader) -> Self {
        Self::NotAHeader(error)
    }
}

impl From<EditError> for LocalReply {
    /// What a client gets whose request cannot be changed as it has to be: 503.
    fn from(error: EditError) -> Self {
        match error {
            EditError::Host(error) => error.into(),
            EditError::NotAHeader(_) => {
                Self::of_fault(error.to_string()).with_details("tollgate_not_a_header")
            }
        }
    }
}

impl From<HostError> for EditError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
