//! Values that this filter keeps about a request where other filters find them.
//!
//! A value is a filter state object of the proxy: Envoy keeps it under the name with `wasm.` before it,
//! where matchers, access logs and other filters see it, and forgets it with the filter chain unless
//! [`foreign::declare_property`](crate::foreign::declare_property) says otherwise. It is no dynamic
//! metadata, which no Proxy-Wasm filter can write.

use std::error::Error;
use std::fmt;

use tollgate_abi::Status;

use crate::attributes::{self, Attribute, AttributeError, Text};
use crate::host;
use crate::host_error::HostError;

/// What Envoy puts before the name.
const PREFIX: &str = "wasm.";

/// Keeps a value under a name, in place of an older one.
///
/// # Errors
///
/// [`SetError`] when the name cannot be found again, outside of a stream, or when the value is read-only.
///
/// # Examples
///
/// ```no_run
/// tollgate::filter_state::set("tenant", "acme")?;
/// # Ok::<(), tollgate::filter_state::SetError>(())
/// ```
pub fn set(name: &str, value: impl AsRef<[u8]>) -> Result<(), SetError> {
    let name = one_segment(name)?;
    host::set_property(name.as_bytes(), value.as_ref()).map_err(|error| match error.status() {
        Some(Status::NotFound) => SetError::NoStream { name: name.to_owned() },
        Some(Status::BadArgument) => SetError::ReadOnly { name: name.to_owned() },
        _ => SetError::Host(error),
    })
}

/// Reads a value that a filter has [`set`] about the same request; `None` when there is none.
///
/// # Errors
///
/// [`GetError`] when no value can have the name, or when the host refuses.
pub fn get(name: &str) -> Result<Option<Text>, GetError> {
    Ok(attribute(name)?.read()?)
}

/// The attribute under which a value that was [`set`] is found.
///
/// # Errors
///
/// [`InvalidName`] when no value can have the name.
pub fn attribute(name: &str) -> Result<Attribute<Text>, InvalidName> {
    let name = one_segment(name)?;
    let key = format!("{PREFIX}{name}");
    attributes::filter_state(&key).map_err(|_| InvalidName { name: name.to_owned() })
}

/// The host joins several segments by NUL, and parts them where it reads: such a name is never found
/// again.
fn one_segment(name: &str) -> Result<&str, InvalidName> {
    if name.is_empty() || name.contains('\0') {
        return Err(InvalidName { name: name.to_owned() });
    }
    Ok(name)
}

/// A name that is empty or has NUL in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    /// The name.
    pub name: String,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.escape_default();
        write!(f, "\"{name}\" names no filter state; take a name of one segment, without NUL")
    }
}

impl Error for InvalidName {}

/// Why a value was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No value can have the name.
    Name(InvalidName),
    /// There is no stream that the value could be about.
    NoStream {
        /// The name of the value.
        name: String,
    },
    /// The value was declared read-only, and is there already.
    ReadOnly {
        /// The name of the value.
        name: String,
    },
    /// The host refused for another reason.
    Host(HostError),
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "{error}"),
            Self::NoStream { name } => {
                let name = name.escape_default();
                write!(f, "{name} cannot be kept without a stream; set it while one is handled")
            }
            Self::ReadOnly { name } => {
                write!(f, "{} is read-only and was set before", name.escape_default())
            }
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for SetError {}

impl From<InvalidName> for SetError {
    fn from(error: InvalidName) -> Self {
        Self::Name(error)
    }
}

/// Why a value was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetError {
    /// No value can have the name.
    Name(InvalidName),
    /// The host did not give it.
    Attribute(AttributeError),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => write!(f, "{error}"),
            Self::Attribute(error) => write!(f, "{error}"),
        }
    }
}

impl Error for GetError {}

impl From<InvalidName> for GetError {
    fn from(error: InvalidName) -> Self {
        Self::Name(error)
    }
}

impl From<AttributeError> for GetError {
    fn from(error: AttributeError) -> Self {
        Self::Attribute(error)
    }
}
