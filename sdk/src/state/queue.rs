//! Queues: messages from any worker to the one that registered last.
//!
//! A queue is one for all workers, and has no bound: whoever fills it sees that somebody empties it.

use std::error::Error;
use std::fmt;

use tollgate_abi::Status;

use crate::host;
use crate::host_error::HostError;

/// A queue of the proxy. From [`State::register_queue`](super::State::register_queue) and
/// [`State::find_queue`](super::State::find_queue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue(u32);

impl Queue {
    pub(super) const fn new(token: u32) -> Self {
        Self(token)
    }

    /// Finds a queue by the `vm_id` of the plugin that has registered it, and its whole name.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when none has, or when the host refuses.
    pub fn find(vm_id: &[u8], name: &[u8]) -> Result<Self, QueueError> {
        Ok(Self(host::resolve_shared_queue(vm_id, name)?))
    }

    /// By what the host tells that a message has come.
    pub const fn token(self) -> u32 {
        self.0
    }

    /// Puts a message at the end.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the queue is gone, or when the host refuses.
    pub fn push(self, message: &[u8]) -> Result<(), QueueError> {
        Ok(host::enqueue_shared_queue(self.0, message)?)
    }

    /// Takes the first message; `None` when there is none. Any worker may.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the queue is gone, or when the host refuses.
    pub fn pop(self) -> Result<Option<Vec<u8>>, QueueError> {
        match host::dequeue_shared_queue(self.0) {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.status() == Some(Status::Empty) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why a queue was not found or not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// There is no such queue: no worker has registered it yet, or the proxy has forgotten it.
    Unknown,
    /// The host refused.
    Host(HostError),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no worker has registered such a queue"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for QueueError {}

impl From<HostError> for QueueError {
    fn from(error: HostError) -> Self {
        match error.status() {
            Some(Status::NotFound) => Self::Unknown,
            Some(_) | None => Self::Host(error),
        }
    }
}
