//! How streams end that nobody has decided about, that cannot be answered any more, and connections.

use tollgate_abi::{BodyAction, StreamType};

use super::bodies::Passage;
use crate::ending::{CloseConnection, ResetStream};
use crate::host;
use crate::reply::{LocalReply, StatusCode};

/// Why no filter has decided about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unserved {
    NotConfigured,
    CalledDuringACall,
}

impl Unserved {
    const fn details(self) -> &'static str {
        match self {
            Self::NotConfigured => "tollgate_not_configured",
            Self::CalledDuringACall => "tollgate_called_during_a_call",
        }
    }
}

impl From<Unserved> for LocalReply {
    fn from(why: Unserved) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE).with_details(why.details())
    }
}

impl From<Unserved> for ResetStream {
    fn from(why: Unserved) -> Self {
        Self::because(why.details())
    }
}

impl From<Unserved> for CloseConnection {
    fn from(why: Unserved) -> Self {
        Self::because(why.details())
    }
}

/// What a callback returns whose result the host takes for a [`BodyAction`] or a `TrailersAction`, in which
/// the same numbers stand for the same.
pub(super) fn settle<E>(outcome: Result<Passage, E>, end: impl FnOnce(E)) -> u32 {
    let action = match outcome {
        Ok(Passage::Open(_)) => BodyAction::Continue,
        Ok(Passage::Held) => BodyAction::StopIterationAndBuffer,
        Err(why) => {
            end(why);
            BodyAction::StopIterationAndBuffer
        }
    };
    action.into()
}

/// Resets a stream by a reply, which is too late where the head has left: `proxy_close_stream` crashes
/// Envoy 1.40 in `proxy_on_response_trailers`.
#[cold]
pub(crate) fn reset(end: &ResetStream) {
    if let Some(cause) = end.cause() {
        log::warn!("the stream is reset: {cause}");
    }
    let reply = LocalReply::new(StatusCode::BAD_GATEWAY).with_details("tollgate_response_reset");
    if let Err(error) = reply.send() {
        log::error!("the response is held, as its stream could not be reset: {error}");
    }
}

#[cold]
pub(super) fn close(end: &CloseConnection) {
    if let Some(cause) = end.cause() {
        log::warn!("the connection is closed: {cause}");
    }
    if let Err(error) = host::close_stream(StreamType::Downstream) {
        log::error!("the connection is held, as it could not be closed: {error}");
    }
}
