//! How a stream ends that cannot be answered any more, and a connection.

use std::borrow::Cow;

use crate::body::BodyError;
use crate::host_error::HostError;
use crate::live::EditError;

/// Ends a response whose head has left: the stream is reset, and the client sees that the response is not
/// whole. Where the head has not left yet, the client gets 502.
///
/// # Examples
///
/// ```
/// use tollgate::{ResetStream, ResponseChunk};
///
/// fn on_chunk(chunk: &ResponseChunk) -> Result<(), ResetStream> {
///     // What cannot be read does not pass.
///     if chunk.bytes()?.contains(&0) {
///         return Err(ResetStream::because("a byte of 0 in the response"));
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a stream is reset by returning this as an error"]
pub struct ResetStream(Option<Box<Cow<'static, str>>>);

/// Closes a TCP connection, on both sides.
///
/// # Examples
///
/// ```
/// use tollgate::{CloseConnection, DownstreamData};
///
/// fn on_data(data: &DownstreamData) -> Result<(), CloseConnection> {
///     if data.read(0..3)? != b"SSH" {
///         return Err(CloseConnection::because("not the protocol of this port"));
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a connection is closed by returning this as an error"]
pub struct CloseConnection(Option<Box<Cow<'static, str>>>);

macro_rules! ending {
    ($ending:ident) => {
        impl $ending {
            /// Without a word in the log.
            pub const fn silently() -> Self {
                Self(None)
            }

            /// With a line in the log, at the level `warn`. It should be the same for all streams, and
            /// have nothing in it that a client has sent.
            pub fn because(cause: impl Into<Cow<'static, str>>) -> Self {
                Self(Some(Box::new(cause.into())))
            }

            /// What is logged.
            pub fn cause(&self) -> Option<&str> {
                self.0.as_deref().map(AsRef::as_ref)
            }
        }

        impl From<HostError> for $ending {
            /// What cannot be decided does not pass.
            fn from(error: HostError) -> Self {
                Self::because(error.to_string())
            }
        }

        impl From<BodyError> for $ending {
            /// What cannot be changed as it has to be does not pass.
            fn from(error: BodyError) -> Self {
                Self::because(error.to_string())
            }
        }

        impl From<EditError> for $ending {
            /// What cannot be changed as it has to be does not pass.
            fn from(error: EditError) -> Self {
                Self::because(error.to_string())
            }
        }
    };
}

ending!(ResetStream);
ending!(CloseConnection);
