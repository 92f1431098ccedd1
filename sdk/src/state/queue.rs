//! Queues: messages from any worker, kept by the proxy until somebody takes them.
//!
//! A queue is one for all workers, and has no bound: whoever fills it sees that somebody empties it.
//! Not here: waiting for a message, which is in [`Inbox`](super::Inbox).

use std::cell::Cell;
use std::error::Error;
use std::fmt;

use tollgate_abi::{Status, property};

use crate::host;
use crate::host_error::HostError;

/// A queue of this plugin. From [`State::queue`](super::State::queue).
///
/// The proxy is asked for it when it is used first, and makes it if there is none: a configuration that
/// is only tried out makes no queue.
#[derive(Clone, Debug)]
pub struct Queue {
    name: String,
    /// What the host calls it by, once it is known.
    token: Cell<Option<u32>>,
}

/// A queue of another plugin, to which this one sends.
#[derive(Clone, Debug)]
pub struct RemoteQueue {
    vm_id: Vec<u8>,
    name: Vec<u8>,
    token: Cell<Option<u32>>,
}

impl Queue {
    pub(super) const fn new(name: String) -> Self {
        Self { name, token: Cell::new(None) }
    }

    /// Its whole name, by which another plugin finds it: see [`RemoteQueue::new`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a message at the end. It stays there until it is taken, also while nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the host refuses.
    pub fn push(&self, message: &[u8]) -> Result<(), QueueError> {
        let pushed = host::enqueue_shared_queue(self.token()?, message);
        known(&self.token, pushed)
    }

    /// Takes the first message; `None` when there is none. Any worker may.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the host refuses.
    pub fn pop(&self) -> Result<Option<Vec<u8>>, QueueError> {
        match host::dequeue_shared_queue(self.token()?) {
            Err(error) if error.status() == Some(Status::Empty) => Ok(None),
            taken => known(&self.token, taken).map(Some),
        }
    }

    /// Has the host tell this worker of messages from now on, and no other. Gives by what it does so.
    pub(super) fn take_over(&self) -> Result<u32, QueueError> {
        let token = host::register_shared_queue(self.name.as_bytes())?;
        self.token.set(Some(token));
        Ok(token)
    }

    /// What the host calls it by. Who registers a queue takes it over, so that only one that nobody has
    /// registered is.
    fn token(&self) -> Result<u32, QueueError> {
        if let Some(token) = self.token.get() {
            return Ok(token);
        }
        match host::resolve_shared_queue(&vm_id()?, self.name.as_bytes()) {
            Ok(token) => {
                self.token.set(Some(token));
                Ok(token)
            }
            Err(error) if error.status() == Some(Status::NotFound) => self.take_over(),
            Err(error) => Err(error.into()),
        }
    }
}

impl RemoteQueue {
    /// A queue by the `vm_id` of the plugin that has it, and its whole name.
    pub fn new(vm_id: impl Into<Vec<u8>>, name: impl Into<Vec<u8>>) -> Self {
        Self { vm_id: vm_id.into(), name: name.into(), token: Cell::new(None) }
    }

    /// Puts a message at the end.
    ///
    /// # Errors
    ///
    /// [`QueueError::Unknown`] as long as that plugin has not used its queue, or [`QueueError::Host`]
    /// when the host refuses.
    pub fn push(&self, message: &[u8]) -> Result<(), QueueError> {
        let token = match self.token.get() {
            Some(token) => token,
            None => host::resolve_shared_queue(&self.vm_id, &self.name)?,
        };
        self.token.set(Some(token));
        known(&self.token, host::enqueue_shared_queue(token, message))
    }
}

/// The `vm_id` of the plugin that runs.
fn vm_id() -> Result<Vec<u8>, HostError> {
    let Ok(path) = property::join(&["plugin_vm_id"]) else { return Ok(Vec::new()) };
    match host::property(&path) {
        Err(error) if error.status() == Some(Status::NotFound) => Ok(Vec::new()),
        read => read,
    }
}

/// What came of a call with a token, which is asked for anew when the host does not know it any more.
fn known<T>(token: &Cell<Option<u32>>, done: Result<T, HostError>) -> Result<T, QueueError> {
    done.map_err(|error| {
        token.set(None);
        error.into()
    })
}

/// Why a queue was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// There is no such queue: nobody has used it yet, or the proxy has forgotten it.
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
