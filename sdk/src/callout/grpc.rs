//! Calls over gRPC: messages are bytes, as any protobuf library makes them.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tollgate_abi::{BufferType, MapType, pairs};

use super::http::{TIMED_OUT_TEXT as TIMED_OUT, map};
use super::pending::{self, Event, Pending, Token};
use super::{CalloutError, DEFAULT_TIMEOUT, NotSent, millis};
use crate::headers::{Headers, check_header};
use crate::host::{self, GrpcMethod};
use crate::runtime;

/// A unary gRPC request to another service.
#[derive(Clone, Debug)]
#[must_use = "a call is made by awaiting `send`"]
pub struct GrpcCall {
    to: To,
    message: Vec<u8>,
    timeout: Duration,
}

/// A method of a service, and what is sent along.
#[derive(Clone, Debug)]
struct To {
    cluster: String,
    service: String,
    method: String,
    metadata: Vec<(String, Vec<u8>)>,
}

impl To {
    fn serialized(&self) -> Result<Vec<u8>, NotSent> {
        if runtime::running().is_none() {
            return Err(NotSent::OutsideOfTask);
        }
        for (name, value) in &self.metadata {
            check_header(name.as_bytes(), value)?;
        }
        pairs::encode(&self.metadata).map_err(|_| NotSent::TooLarge)
    }

    fn of<'a>(&'a self, metadata: &'a [u8]) -> GrpcMethod<'a> {
        GrpcMethod {
            upstream: self.cluster.as_bytes(),
            service: self.service.as_bytes(),
            method: self.method.as_bytes(),
            metadata,
        }
    }
}

impl GrpcCall {
    /// A request to a cluster of the proxy. `service` has its package, as in
    /// `envoy.service.ratelimit.v3.RateLimitService`.
    pub fn new(
        cluster: impl Into<String>,
        service: impl Into<String>,
        method: impl Into<String>,
        message: impl Into<Vec<u8>>,
    ) -> Self {
        let (cluster, service, method) = (cluster.into(), service.into(), method.into());
        let to = To { cluster, service, method, metadata: Vec::new() };
        Self { to, message: message.into(), timeout: DEFAULT_TIMEOUT }
    }

    /// Adds metadata.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.to.metadata.push((name.into(), value.into()));
        self
    }

    /// Sets how long the answer is waited for: [`DEFAULT_TIMEOUT`] if not said. It is rounded up to a
    /// millisecond.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request, and waits for the answer. A call that is dropped is cancelled.
    ///
    /// # Errors
    ///
    /// [`CalloutError`] when there is none, or a status other than OK.
    pub async fn send(&self) -> Result<GrpcReply, CalloutError> {
        let metadata = self.to.serialized()?;
        let token = host::grpc_call(self.to.of(&metadata), &self.message, millis(self.timeout)?)
            .map_err(|error| NotSent::refused(&self.to.cluster, error))?;
        let mut call = Open::new(token);
        let mut reply = GrpcReply::default();
        match call.next(&mut reply.initial_metadata, &mut reply.trailing_metadata).await? {
            Some(message) => {
                // Of a unary call the message is the last that comes.
                call.is_over = true;
                reply.message = message;
                Ok(reply)
            }
            None => Err(CalloutError::Reset { message: "the call ended without a message".into() }),
        }
    }
}

/// The answer to a unary gRPC request.
#[derive(Clone, Debug, Default)]
pub struct GrpcReply {
    /// Metadata from before the message.
    pub initial_metadata: Headers,
    /// The message.
    pub message: Vec<u8>,
    /// Metadata from after the message, as far as the proxy delivers it with a unary call.
    pub trailing_metadata: Headers,
}

/// A gRPC stream to another service. When it is dropped before its end, it is cancelled.
pub struct GrpcStream {
    open: Open,
    initial_metadata: Headers,
    trailing_metadata: Headers,
}

impl GrpcStream {
    /// Opens a stream.
    ///
    /// # Errors
    ///
    /// [`NotSent`] when the proxy does not.
    pub fn open(
        cluster: impl Into<String>,
        service: impl Into<String>,
        method: impl Into<String>,
        metadata: Vec<(String, Vec<u8>)>,
    ) -> Result<Self, NotSent> {
        let (cluster, service, method) = (cluster.into(), service.into(), method.into());
        let to = To { cluster, service, method, metadata };
        let metadata = to.serialized()?;
        let token = host::grpc_stream(to.of(&metadata))
            .map_err(|error| NotSent::refused(&to.cluster, error))?;
        Ok(Self {
            open: Open::new(token),
            initial_metadata: Headers::default(),
            trailing_metadata: Headers::default(),
        })
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`CalloutError`] when the host refuses.
    pub fn send(&mut self, message: &[u8]) -> Result<(), CalloutError> {
        host::grpc_send(self.open.token, message, false).map_err(CalloutError::Host)
    }

    /// Says that no message follows.
    ///
    /// # Errors
    ///
    /// [`CalloutError`] when the host refuses.
    pub fn finish(&mut self) -> Result<(), CalloutError> {
        host::grpc_close(self.open.token).map_err(CalloutError::Host)
    }

    /// Waits for the next message; `None` at the end, when its status is OK.
    ///
    /// # Errors
    ///
    /// [`CalloutError`] when the stream ends with another status, or breaks.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, CalloutError> {
        self.open.next(&mut self.initial_metadata, &mut self.trailing_metadata).await
    }

    /// Metadata from before the first message, as far as it has come.
    pub fn initial_metadata(&self) -> &Headers {
        &self.initial_metadata
    }

    /// Metadata from after the last message, as far as it has come.
    pub fn trailing_metadata(&self) -> &Headers {
        &self.trailing_metadata
    }
}

/// A call or a stream that the host has open.
struct Open {
    token: u32,
    pending: Pending,
    is_over: bool,
}

impl Open {
    fn new(token: u32) -> Self {
        Self { token, pending: Pending::new(Token::Grpc(token)), is_over: false }
    }

    async fn next(
        &mut self,
        initial: &mut Headers,
        trailing: &mut Headers,
    ) -> Result<Option<Vec<u8>>, CalloutError> {
        poll_fn(|context| self.poll(context, initial, trailing)).await
    }

    fn poll(
        &mut self,
        context: &Context<'_>,
        initial: &mut Headers,
        trailing: &mut Headers,
    ) -> Poll<Result<Option<Vec<u8>>, CalloutError>> {
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        loop {
            let Poll::Ready(event) = self.pending.poll(context) else { return Poll::Pending };
            return Poll::Ready(match event {
                Event::InitialMetadata(metadata) => {
                    *initial = metadata;
                    continue;
                }
                Event::TrailingMetadata(metadata) => {
                    *trailing = metadata;
                    continue;
                }
                Event::Message(message) => Ok(Some(message)),
                Event::Closed { code, message } => {
                    self.is_over = true;
                    match GrpcCode(code) {
                        GrpcCode::OK => Ok(None),
                        GrpcCode::DEADLINE_EXCEEDED => Err(CalloutError::Timeout),
                        // What Envoy says when the time of a call is over.
                        GrpcCode::UNAVAILABLE if message.starts_with(TIMED_OUT) => {
                            Err(CalloutError::Timeout)
                        }
                        code => Err(CalloutError::Grpc { code, message }),
                    }
                }
                Event::Unreadable(error) => Err(CalloutError::Host(error)),
                Event::Answered(_) => {
                    let message = "the answer is one to an HTTP call".into();
                    Err(CalloutError::Reset { message })
                }
            });
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_over {
            // What is gone already cannot be cancelled, which is as well.
            let _ = host::grpc_cancel(self.token);
        }
    }
}

/// A status of gRPC.
///
/// Source: gRPC, "Status codes and their use in gRPC".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrpcCode(u32);

impl GrpcCode {
    /// All went well.
    pub const OK: Self = Self(0);
    /// The deadline passed.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// A quota is spent.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// The service is not to be had for now.
    pub const UNAVAILABLE: Self = Self(14);

    /// A status by its number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }

    pub(super) fn is_transient(self) -> bool {
        matches!(self, Self::UNAVAILABLE | Self::DEADLINE_EXCEEDED)
    }
}

impl fmt::Display for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gRPC status {}", self.0)
    }
}

/// Metadata has come before the first message.
pub(crate) fn initial_metadata(token: u32) {
    deliver(token, || map(MapType::GrpcReceiveInitialMetadata).map(Event::InitialMetadata));
}

/// A message has come.
pub(crate) fn message(token: u32, size: usize) {
    deliver(token, || match u32::try_from(size).unwrap_or(u32::MAX) {
        0 => Ok(Event::Message(Vec::new())),
        size => host::buffer(BufferType::GrpcReceiveBuffer, 0, size).map(Event::Message),
    });
}

/// Metadata has come after the last message.
pub(crate) fn trailing_metadata(token: u32) {
    deliver(token, || map(MapType::GrpcReceiveTrailingMetadata).map(Event::TrailingMetadata));
}

/// The call or stream is over.
pub(crate) fn closed(token: u32, code: u32) {
    deliver(token, || {
        let (_, message) = host::callout_status()?;
        Ok(Event::Closed { code, message: String::from_utf8_lossy(&message).into_owned() })
    });
}

fn deliver(token: u32, read: impl FnOnce() -> Result<Event, crate::host_error::HostError>) {
    let token = Token::Grpc(token);
    if pending::is_awaited(token) {
        pending::deliver(token, read().unwrap_or_else(Event::Unreadable));
    }
}
