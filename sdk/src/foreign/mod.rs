//! Functions that a host has beyond the ABI, with their types: those of Envoy 1.40.
//!
//! They go by name, and a host that lacks one says so: [`ForeignError::NotOnThisHost`] is an error of its
//! own. [`call`] reaches functions of other hosts. Arguments are Protocol Buffers, written here without a
//! compiler for them.
//!
//! Source: Envoy, `source/extensions/common/wasm/foreign.cc` and the messages in `ext` beside it.

mod expression;
mod signature;

use std::error::Error;
use std::fmt;

use tollgate_abi::Status;

use crate::host;
use crate::host_error::HostError;
use crate::protobuf::{InvalidMessage, Writer};

pub use expression::Expression;
pub use signature::{HashFunction, Key, SignatureError, sign, verify_signature};

/// A message that no function takes.
const NO_MESSAGE: &[u8] = b"\x0a";

/// Calls a function by its name.
///
/// # Errors
///
/// [`ForeignError`] when the host has no such function, or refuses.
pub fn call(function: &str, arguments: &[u8]) -> Result<Vec<u8>, ForeignError> {
    host::call_foreign_function(function.as_bytes(), arguments).map_err(|error| {
        let function = function.to_owned();
        match error.status() {
            Some(Status::NotFound | Status::Unimplemented) => {
                ForeignError::NotOnThisHost { function }
            }
            _ => ForeignError::Host { function, error },
        }
    })
}

/// Has the proxy choose the route of the request anew, as far as the filters after this one and the router
/// are concerned.
///
/// Envoy does so by itself after any change of the request headers, for modules of ABI 0.2.1 or older.
///
/// # Errors
///
/// [`ForeignError`] when the host cannot; Envoy can since 1.33.
pub fn clear_route_cache() -> Result<(), ForeignError> {
    call("clear_route_cache", &[]).map(|_| ())
}

/// How long an object is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LifeSpan {
    /// As long as the filter chain: for HTTP, until the request is over or is redirected internally.
    #[default]
    FilterChain,
    /// As long as the request of the client, over internal redirects.
    Request,
    /// As long as the connection of the client, for its later requests too.
    Connection,
}

impl LifeSpan {
    const fn number(self) -> u64 {
        match self {
            Self::FilterChain => 0,
            Self::Request => 1,
            Self::Connection => 2,
        }
    }
}

/// Sets an object of the proxy by which it is steered, such as `envoy.tcp_proxy.cluster`. The proxy makes
/// the object from text, and knows only some.
///
/// Source: Envoy, "Well Known Filter State Objects".
///
/// # Errors
///
/// [`SetObjectError`] when there is no object of this name or no stream, or when no such object can be made
/// of the value.
pub fn set_envoy_filter_state(
    name: &str,
    value: &str,
    span: LifeSpan,
) -> Result<(), SetObjectError> {
    const FUNCTION: &str = "set_envoy_filter_state";
    let arguments =
        Writer::new().bytes(1, name.as_bytes()).bytes(2, value.as_bytes()).number(3, span.number());
    match call(FUNCTION, &arguments.finish()) {
        Ok(_) => Ok(()),
        // One status for two things: a function that is there would have refused what is no message.
        Err(ForeignError::NotOnThisHost { .. })
            if !matches!(call(FUNCTION, NO_MESSAGE), Err(ForeignError::NotOnThisHost { .. })) =>
        {
            Err(SetObjectError::NoSuchObject { name: name.to_owned() })
        }
        Err(ForeignError::Host { error, .. }) if error.status() == Some(Status::BadArgument) => {
            Err(SetObjectError::Value { name: name.to_owned() })
        }
        Err(error) => Err(SetObjectError::Foreign(error)),
    }
}

/// What kind of value a filter keeps under a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape<'a> {
    /// Bytes.
    #[default]
    Bytes,
    /// Text, which expressions can compare with text.
    Text,
    /// A table of `FlatBuffers`, whose fields expressions can name.
    FlatBuffers {
        /// The schema in its binary form.
        schema: &'a [u8],
    },
    /// A message, whose fields expressions can name.
    Protobuf {
        /// The URL of its type, as in `type.googleapis.com/…`.
        type_url: &'a str,
    },
}

/// What is to hold of the values that [`filter_state::set`](crate::filter_state::set) keeps under a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Property<'a> {
    /// The name.
    pub name: &'a str,
    /// What the values are.
    pub shape: Shape<'a>,
    /// Whether it can be set once or several times.
    pub change: Change,
    /// How long a value is kept.
    pub span: LifeSpan,
}

/// Whether a value may be replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// It may.
    #[default]
    Allowed,
    /// It stays as it was set first.
    Refused,
}

/// Declares what holds of a name. Once for each name, while the filter is configured: what is declared
/// from within a stream is never looked at.
///
/// # Errors
///
/// [`DeclareError`] when the name is declared already, or when the host cannot.
pub fn declare_property(property: &Property<'_>) -> Result<(), DeclareError> {
    let (shape, schema): (u64, &[u8]) = match property.shape {
        Shape::Bytes => (0, &[]),
        Shape::Text => (1, &[]),
        Shape::FlatBuffers { schema } => (2, schema),
        Shape::Protobuf { type_url } => (3, type_url.as_bytes()),
    };
    let arguments = Writer::new()
        .bytes(1, property.name.as_bytes())
        .boolean(2, property.change == Change::Refused)
        .number(3, shape)
        .bytes(4, schema)
        .number(5, property.span.number());
    match call("declare_property", &arguments.finish()) {
        Ok(_) => Ok(()),
        Err(ForeignError::Host { error, .. }) if error.status() == Some(Status::BadArgument) => {
            Err(DeclareError::Declared { name: property.name.to_owned() })
        }
        Err(error) => Err(DeclareError::Foreign(error)),
    }
}

/// Compresses bytes in the format of zlib.
///
/// # Errors
///
/// [`ForeignError`] when the host cannot.
pub fn compress(bytes: &[u8]) -> Result<Vec<u8>, ForeignError> {
    call("compress", bytes)
}

/// Takes apart what [`compress`] made.
///
/// **Not for bytes that a client chose**: nothing bounds how much comes out of few of them.
///
/// # Errors
///
/// [`ForeignError`] when the host cannot, or when the bytes are not in the format of zlib.
pub fn uncompress(bytes: &[u8]) -> Result<Vec<u8>, ForeignError> {
    call("uncompress", bytes)
}

/// Why a foreign function gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignError {
    /// The host has no such function.
    NotOnThisHost {
        /// The function.
        function: String,
    },
    /// The host refused.
    Host {
        /// The function.
        function: String,
        /// What the host said.
        error: HostError,
    },
    /// The host answered with something else than the function gives.
    Answer {
        /// The function.
        function: String,
        /// Where the answer stops making sense.
        reason: InvalidMessage,
    },
}

impl fmt::Display for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOnThisHost { function } => {
                write!(f, "this proxy has no foreign function {}", function.escape_default())
            }
            Self::Host { function, error } => {
                write!(f, "foreign function {}: {error}", function.escape_default())
            }
            Self::Answer { function, reason } => {
                write!(
                    f,
                    "the proxy answered {} with no message: {reason}",
                    function.escape_default()
                )
            }
        }
    }
}

impl Error for ForeignError {}

/// Why an object of the proxy was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetObjectError {
    /// The proxy makes no object of this name, or there is no stream that it could be about.
    NoSuchObject {
        /// The name.
        name: String,
    },
    /// The proxy can make no such object of the value.
    Value {
        /// The name.
        name: String,
    },
    /// The function failed.
    Foreign(ForeignError),
}

impl fmt::Display for SetObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchObject { name } => {
                let name = name.escape_default();
                write!(f, "the proxy makes no object {name} here, or there is no stream")
            }
            Self::Value { name } => {
                write!(f, "the proxy makes no object {} of this value", name.escape_default())
            }
            Self::Foreign(error) => write!(f, "{error}"),
        }
    }
}

impl Error for SetObjectError {}

/// Why nothing was declared about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeclareError {
    /// Something is declared about it already.
    Declared {
        /// The name.
        name: String,
    },
    /// The function failed.
    Foreign(ForeignError),
}

impl fmt::Display for DeclareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared { name } => {
                write!(f, "property {} is declared already", name.escape_default())
            }
            Self::Foreign(error) => write!(f, "{error}"),
        }
    }
}

impl Error for DeclareError {}
