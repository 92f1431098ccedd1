//! Headers and trailers in the proxy: read whole and once, changed line by line.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;

use tollgate_abi::pairs::{self, MAX_BYTES, MAX_PAIRS};
use tollgate_abi::{Function, MapType, Status};

use crate::headers::{Headers, InvalidHeader, check_header};
use crate::host;
use crate::host_error::HostError;

/// The headers of a request, while the request is held.
///
/// On Envoy, changing one has the route chosen anew, as long as modules speak ABI 0.2.1 or older.
pub type RequestHeaders = MessageHeaders<Request>;

/// The headers of a response, while the response is held.
pub type ResponseHeaders = MessageHeaders<Response>;

/// The trailers of a request, while they are held.
pub type RequestTrailers = MessageHeaders<Trailers<Request>>;

/// The trailers of a response, while they are held.
pub type ResponseTrailers = MessageHeaders<Trailers<Response>>;

/// Headers or trailers that the host holds: see [`RequestHeaders`], [`ResponseHeaders`],
/// [`RequestTrailers`] and [`ResponseTrailers`].
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

/// The trailers of a message, as a type.
#[derive(Debug)]
pub struct Trailers<M>(PhantomData<M>);

/// Which header map of the host is meant.
pub trait HeaderMap {
    /// The map.
    const MAP: MapType;
    /// Whether it has lines in any message, as headers have.
    const IS_NEVER_EMPTY: bool;
}

impl<M: Message> HeaderMap for M {
    const MAP: MapType = M::HEADERS;
    const IS_NEVER_EMPTY: bool = true;
}

impl<M: Message> HeaderMap for Trailers<M> {
    const MAP: MapType = M::TRAILERS;
    const IS_NEVER_EMPTY: bool = false;
}

/// Which message is meant.
pub trait Message {
    /// The map of its headers.
    const HEADERS: MapType;
    /// The map of its trailers.
    const TRAILERS: MapType;
}

impl Message for Request {
    const HEADERS: MapType = MapType::RequestHeaders;
    const TRAILERS: MapType = MapType::RequestTrailers;
}

impl Message for Response {
    const HEADERS: MapType = MapType::ResponseHeaders;
    const TRAILERS: MapType = MapType::ResponseTrailers;
}

impl<M: Message> MessageHeaders<M> {
    /// Whether neither body nor trailers follow.
    pub fn is_end_of_stream(&self) -> bool {
        self.end_of_stream
    }

    /// The header `content-length`, if it is there, without reading the others.
    pub(crate) fn content_length(&self) -> Result<Option<Vec<u8>>, HostError> {
        if let Some(headers) = &self.read {
            return Ok(headers.first(CONTENT_LENGTH).map(<[u8]>::to_vec));
        }
        match host::header(M::MAP, CONTENT_LENGTH.as_bytes()) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.status() == Some(Status::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the header `content-length`.
    pub(crate) fn remove_content_length(&mut self) -> Result<(), HostError> {
        self.read = None;
        host::remove_header(M::MAP, CONTENT_LENGTH.as_bytes())
    }
}

const CONTENT_LENGTH: &str = "content-length";

impl<M: HeaderMap> MessageHeaders<M> {
    pub(crate) const fn new(end_of_stream: bool) -> Self {
        Self { end_of_stream, read: None, message: PhantomData }
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

    /// How many bytes all names and values have, without reading them.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn size(&self) -> Result<usize, HostError> {
        host::header_map_size(M::MAP)
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

    /// Removes the first line with this name and exactly this value, and leaves all others as they are
    /// and where they are; whether there was one.
    ///
    /// Envoy joins the lines of a header that it knows into one, in which the values stand behind each
    /// other, parted by commas: `x-forwarded-for: a` and `x-forwarded-for: b` are the one line `a,b`. It
    /// is no line with the value `a`, and no part of it is removed.
    ///
    /// # Errors
    ///
    /// [`EditError`] when this is no header line, when there are so many other lines that Envoy would
    /// not take them back, or when the host refuses.
    pub fn remove_line(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<bool, EditError> {
        let value = value.as_ref();
        check_header(name.as_bytes(), value)?;
        let headers = self.read()?;
        let of_name = |&(other, _): &(&[u8], &[u8])| other.eq_ignore_ascii_case(name.as_bytes());
        if !headers.contains_line(name, value) {
            return Ok(false);
        }
        if headers.iter().filter(of_name).nth(1).is_none() {
            self.remove(name)?;
            return Ok(true);
        }
        let mut is_removed = false;
        let kept: Vec<(&[u8], &[u8])> = headers
            .iter()
            .filter(|line| {
                let is_first = !is_removed && of_name(line) && line.1 == value;
                is_removed |= is_first;
                !is_first
            })
            .collect();
        let kept = encode(&kept)?;
        self.changed(host::set_header_pairs(M::MAP, &kept))?;
        Ok(true)
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
    response_trailers: MessageHeaders<Trailers<Response>>,
}

impl LoggedExchange {
    pub(crate) const fn new() -> Self {
        Self {
            request: MessageHeaders::new(true),
            response: MessageHeaders::new(true),
            response_trailers: MessageHeaders::new(true),
        }
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

    /// All trailers of the response; none if it had none. The host is asked once. Envoy does not keep
    /// those of the request.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses, or gives something else than a header map.
    pub fn response_trailers(&mut self) -> Result<&Headers, HostError> {
        self.response_trailers.read()
    }
}

fn read<M: HeaderMap>() -> Result<Headers, HostError> {
    let function = Function::GetHeaderMapPairs;
    let headers = Headers::parse(host::header_pairs(M::MAP)?)
        .map_err(|reason| HostError::NotPairs { function, reason })?;
    // Envoy answers with no lines where the map is not that of the callback.
    if M::IS_NEVER_EMPTY && headers.is_empty() {
        return Err(HostError::NotInPhase { function });
    }
    Ok(headers)
}

/// Encodes a header map, unless Envoy would take it for an empty one.
fn encode(lines: &[(&[u8], &[u8])]) -> Result<Vec<u8>, EditError> {
    let too_large = |bytes| EditError::TooLarge { lines: lines.len(), bytes };
    let encoded = pairs::encode(lines).map_err(|error| too_large(error.length))?;
    if lines.len() > MAX_PAIRS || encoded.len() > MAX_BYTES {
        return Err(too_large(encoded.len()));
    }
    Ok(encoded)
}

/// Why a header was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// What the filter asked for is no header line.
    NotAHeader(InvalidHeader),
    /// Envoy would take a map of so many lines or bytes for an empty one.
    TooLarge {
        /// How many lines it would have.
        lines: usize,
        /// How many bytes it would have.
        bytes: usize,
    },
    /// The host refused.
    Host(HostError),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAHeader(error) => write!(f, "{error}"),
            Self::TooLarge { lines, bytes } => write!(
                f,
                "{lines} header lines of {bytes} bytes are more than {MAX_PAIRS} or {MAX_BYTES}, \
                 which no proxy takes back"
            ),
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

impl From<HostError> for EditError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
