//! Answering a client in place of the upstream.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use tollgate_abi::pairs::{self, TooLarge};

use crate::attributes::AttributeError;
use crate::body::BodyError;
use crate::headers::{InvalidHeader, check_header};
use crate::host;
use crate::host_error::HostError;
use crate::live::EditError;
use crate::shared_data::UpdateError;
use crate::state::StateError;

/// The ABI's way to say that there is no gRPC status: -1.
const NO_GRPC_STATUS: u32 = u32::MAX;

/// Details of a reply because the proxy has failed.
const HOST_ERROR: &str = "tollgate_host_error";
/// Details of a reply because the filter has asked for a change that is none.
const NOT_CHANGED: &str = "tollgate_not_changed";

/// The status of a final response: from 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusCode(u16);

impl StatusCode {
    /// 400: the request is malformed.
    pub const BAD_REQUEST: Self = Self(400);
    /// 401: the client has not said who it is.
    pub const UNAUTHORIZED: Self = Self(401);
    /// 403: this client may not do this.
    pub const FORBIDDEN: Self = Self(403);
    /// 413: the request body is longer than is taken.
    pub const CONTENT_TOO_LARGE: Self = Self(413);
    /// 429: too many requests.
    pub const TOO_MANY_REQUESTS: Self = Self(429);
    /// 502: the upstream's response cannot be passed on.
    pub const BAD_GATEWAY: Self = Self(502);
    /// 503: not now, and not the client's fault.
    pub const SERVICE_UNAVAILABLE: Self = Self(503);

    /// A status of this number.
    ///
    /// # Errors
    ///
    /// [`InvalidStatusCode`] below 200, where no response ends a request, and above 599.
    pub const fn new(code: u16) -> Result<Self, InvalidStatusCode> {
        match code {
            200..=599 => Ok(Self(code)),
            _ => Err(InvalidStatusCode { code }),
        }
    }

    /// The number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A number that is no [`StatusCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidStatusCode {
    code: u16,
}

impl fmt::Display for InvalidStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {} is not between 200 and 599", self.code)
    }
}

impl Error for InvalidStatusCode {}

/// A response that the filter gives in place of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a reply is sent by returning it as an error"]
pub struct LocalReply(Box<Parts>);

/// Boxed, so that an [`Outcome`](crate::Outcome) is one word.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    status: StatusCode,
    headers: Vec<(Cow<'static, [u8]>, Vec<u8>)>,
    body: Vec<u8>,
    details: Cow<'static, str>,
    grpc_status: Option<u32>,
    /// Why, if it is the fault of the proxy or of the filter: logged when the reply is sent.
    cause: Option<String>,
}

impl LocalReply {
    /// A response of this status, without headers of ours, body and details.
    pub fn new(status: StatusCode) -> Self {
        Self(Box::new(Parts {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            details: Cow::Borrowed(""),
            grpc_status: None,
            cause: None,
        }))
    }

    /// Adds a header line. The proxy sets `content-length` itself, and `content-type` where it is
    /// not given.
    pub fn with_header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Vec<u8>>,
    ) -> Self {
        let name = match name.into() {
            Cow::Borrowed(name) => Cow::Borrowed(name.as_bytes()),
            Cow::Owned(name) => Cow::Owned(name.into_bytes()),
        };
        self.0.headers.push((name, value.into()));
        self
    }

    /// Takes off all lines of a header; what the proxy sets itself stays. Names are in lower case.
    pub fn without_header(mut self, name: &str) -> Self {
        self.0.headers.retain(|(own, _)| **own != *name.as_bytes());
        self
    }

    /// Sets the body.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = body.into();
        self
    }

    /// Says to the operator why: `%RESPONSE_CODE_DETAILS%` in Envoy's access log, where white space
    /// becomes `_`.
    pub fn with_details(mut self, details: impl Into<Cow<'static, str>>) -> Self {
        self.0.details = details.into();
        self
    }

    /// Sets what a gRPC client is told, which otherwise follows from the status. Other clients do not
    /// see it.
    ///
    /// Source: gRPC, "Status codes and their use in gRPC".
    pub fn with_grpc_status(mut self, grpc_status: u32) -> Self {
        self.0.grpc_status = Some(grpc_status);
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What a client gets for what is not its fault: 503. The cause goes to the log.
    pub(crate) fn undecided(cause: &dyn fmt::Display, details: &'static str) -> Self {
        let mut reply = Self::new(StatusCode::SERVICE_UNAVAILABLE).with_details(details);
        reply.0.cause = Some(cause.to_string());
        reply
    }

    pub(crate) fn send(&self) -> Result<(), SendError> {
        let Parts { status, headers, body, details, grpc_status, cause } = &*self.0;
        if let Some(cause) = cause {
            log::error!("answered with {status}: {cause}");
        }
        for (name, value) in headers {
            check_header(name, value)?;
        }
        host::send_local_response(
            status.0.into(),
            details.as_bytes(),
            body,
            &pairs::encode(headers)?,
            grpc_status.unwrap_or(NO_GRPC_STATUS),
        )?;
        Ok(())
    }
}

impl From<HostError> for LocalReply {
    /// What a client gets whose request cannot be decided: 503.
    fn from(error: HostError) -> Self {
        Self::undecided(&error, HOST_ERROR)
    }
}

impl From<StateError> for LocalReply {
    /// What a client gets whose request cannot be decided: 503.
    fn from(error: StateError) -> Self {
        match error {
            StateError::Host(error) => error.into(),
            error => Self::undecided(&error, "tollgate_state_error"),
        }
    }
}

impl From<UpdateError> for LocalReply {
    /// What a client gets whose request cannot be decided: 503.
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Host(error) => error.into(),
            error @ UpdateError::Contended { .. } => {
                Self::undecided(&error, "tollgate_state_error")
            }
        }
    }
}

impl From<AttributeError> for LocalReply {
    /// What a client gets whose request cannot be decided: 503.
    fn from(error: AttributeError) -> Self {
        Self::undecided(&error, "tollgate_attribute_error")
    }
}

impl From<EditError> for LocalReply {
    /// What a client gets whose request cannot be changed as it has to be: 503.
    fn from(error: EditError) -> Self {
        match error {
            EditError::Host(error) => error.into(),
            error => Self::undecided(&error, NOT_CHANGED),
        }
    }
}

impl From<BodyError> for LocalReply {
    /// What a client gets whose request cannot be changed as it has to be: 503.
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Host(error) => error.into(),
            error => Self::undecided(&error, NOT_CHANGED),
        }
    }
}

/// Why a reply was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The filter gave it a header that is none.
    NotAHeader(InvalidHeader),
    /// A header is too large.
    TooLarge(TooLarge),
    /// The host refused it.
    Host(HostError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAHeader(error) => write!(f, "{error}"),
            Self::TooLarge(error) => write!(f, "{error}"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for SendError {}

impl From<InvalidHeader> for SendError {
    fn from(error: InvalidHeader) -> Self {
        Self::NotAHeader(error)
    }
}

impl From<TooLarge> for SendError {
    fn from(error: TooLarge) -> Self {
        Self::TooLarge(error)
    }
}

impl From<HostError> for SendError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_ends_a_request_or_is_refused() {
        for code in [0, 99, 100, 199, 600, u16::MAX] {
            let expected = format!("status {code} is not between 200 and 599");
            assert_eq!(StatusCode::new(code).unwrap_err().to_string(), expected);
        }
        for code in [200, 429, 599] {
            assert_eq!(StatusCode::new(code).map(StatusCode::as_u16), Ok(code));
        }
    }
}
