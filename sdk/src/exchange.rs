//! Following an exchange with one asynchronous handler.
//!
//! The handler owns the request and hands it on: what it holds, the proxy holds, and what it has handed
//! on goes on. Nothing has to be paused or resumed by hand, and headers that have left cannot be
//! touched: they are behind another type.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::task::Poll;

use crate::filter::{Filter, Outcome};
use crate::host_error::HostError;
use crate::live::{EditError, HeaderMap, MessageHeaders, RequestHeaders, ResponseHeaders};
use crate::reply::{LocalReply, StatusCode};
pub use crate::runtime::Bodies;
use crate::runtime::{Exchange, Lane, Position};

/// A filter that follows exchanges with an asynchronous handler.
///
/// It takes the place of the handlers of request and response; [`OnLog`](crate::OnLog) may stand
/// beside it.
///
/// A request that has left cannot be touched:
///
/// ```compile_fail,E0382
/// # use tollgate::config::NoConfig;
/// # use tollgate::{ConfigureError, Filter, OnExchange, Outcome, Request, Root};
/// # struct Late;
/// # impl Filter for Late {
/// #     const NAME: &'static str = "late";
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> { Ok(Self) }
/// # }
/// impl OnExchange for Late {
///     async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
///         let response = request.send().await;
///         request.set("x-late", "yes")?;
///         Ok(())
///     }
/// }
/// ```
pub trait OnExchange: Filter {
    /// What the handler has to do with bodies.
    const BODIES: Bodies = Bodies::Untouched;

    /// Follows one exchange, from its request headers on. What the handler still holds when it returns
    /// `Ok` goes on. A reply that it returns ends the exchange; if the head of the response has left
    /// by then, the stream is closed.
    ///
    /// When the stream ends before, the handler is dropped where it waits, and `stream` keeps what it
    /// has by then.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_exchange(
        &self,
        stream: &mut Self::Stream,
        request: Request,
    ) -> impl Future<Output = Outcome>;
}

/// A request of which nothing has left: its headers can be read and changed.
pub struct Request {
    exchange: Rc<Exchange>,
    headers: RequestHeaders,
}

/// A request whose headers have left: its body can be followed.
pub struct RequestTail {
    exchange: Rc<Exchange>,
}

/// A response of which nothing has left: its headers can be read and changed.
pub struct Response {
    exchange: Rc<Exchange>,
    headers: ResponseHeaders,
}

/// A response whose headers have left: its body can be followed.
pub struct ResponseTail {
    exchange: Rc<Exchange>,
}

impl Request {
    pub(crate) fn new(exchange: Rc<Exchange>, end_of_stream: bool) -> Self {
        Self { exchange, headers: RequestHeaders::new(end_of_stream) }
    }

    /// Waits for the whole body, holding the headers: [`Bodies::WithHeaders`].
    ///
    /// # Errors
    ///
    /// [`TailError`] when the body is larger than `most_bytes`, or cannot be had.
    pub async fn body(&mut self, most_bytes: usize) -> Result<Vec<u8>, TailError> {
        with_headers(&self.exchange, &self.exchange.request, most_bytes).await
    }

    /// Replaces the body that [`Self::body`] has given, and its length in the headers: a message with
    /// trailers has none.
    ///
    /// # Errors
    ///
    /// [`EditError`] when the host refuses.
    pub fn replace_body(&mut self, body: &[u8]) -> Result<(), EditError> {
        replace(&self.exchange.request, &mut self.headers, body)
    }

    /// Lets the headers go: [`Bodies::AfterHeaders`].
    pub fn send_headers(self) -> RequestTail {
        self.exchange.request.go_on(Position::Body);
        RequestTail { exchange: self.exchange }
    }

    /// Lets the request go, and waits for the response.
    pub async fn send(self) -> Response {
        response(self.exchange).await
    }
}

impl RequestTail {
    /// Waits for the next bytes, holding them; those before go on. `None` at the end.
    ///
    /// # Errors
    ///
    /// [`TailError`] when the response comes before the end, or the bytes cannot be had.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TailError> {
        chunk(&self.exchange, &self.exchange.request).await
    }

    /// Waits for the rest of the body, holding it.
    ///
    /// # Errors
    ///
    /// [`TailError`] when it is larger than `most_bytes`, or cannot be had.
    pub async fn whole(&mut self, most_bytes: usize) -> Result<Vec<u8>, TailError> {
        after_headers(&self.exchange)?;
        whole(&self.exchange, &self.exchange.request, most_bytes).await
    }

    /// Lets the rest of the request go, and waits for the response.
    pub async fn send(self) -> Response {
        response(self.exchange).await
    }
}

impl Response {
    /// Waits for the whole body, holding the headers: [`Bodies::WithHeaders`].
    ///
    /// # Errors
    ///
    /// [`TailError`] when the body is larger than `most_bytes`, or cannot be had.
    pub async fn body(&mut self, most_bytes: usize) -> Result<Vec<u8>, TailError> {
        with_headers(&self.exchange, &self.exchange.response, most_bytes).await
    }

    /// Replaces the body that [`Self::body`] has given, and its length in the headers: a message with
    /// trailers has none.
    ///
    /// # Errors
    ///
    /// [`EditError`] when the host refuses.
    pub fn replace_body(&mut self, body: &[u8]) -> Result<(), EditError> {
        replace(&self.exchange.response, &mut self.headers, body)
    }

    /// Lets the headers go: [`Bodies::AfterHeaders`].
    pub fn send_headers(self) -> ResponseTail {
        self.exchange.response.go_on(Position::Body);
        ResponseTail { exchange: self.exchange }
    }

    /// Lets the response go.
    pub fn send(self) {
        self.exchange.response.go_on(Position::Passed);
    }
}

impl ResponseTail {
    /// Waits for the next bytes, holding them; those before go on. `None` at the end.
    ///
    /// # Errors
    ///
    /// [`TailError`] when the bytes cannot be had.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TailError> {
        chunk(&self.exchange, &self.exchange.response).await
    }

    /// Waits for the rest of the body, holding it.
    ///
    /// # Errors
    ///
    /// [`TailError`] when it is larger than `most_bytes`, or cannot be had.
    pub async fn whole(&mut self, most_bytes: usize) -> Result<Vec<u8>, TailError> {
        after_headers(&self.exchange)?;
        whole(&self.exchange, &self.exchange.response, most_bytes).await
    }

    /// Lets the rest of the response go.
    pub fn send(self) {
        self.exchange.response.go_on(Position::Passed);
    }
}

impl Deref for Request {
    type Target = RequestHeaders;

    fn deref(&self) -> &RequestHeaders {
        &self.headers
    }
}

impl DerefMut for Request {
    fn deref_mut(&mut self) -> &mut RequestHeaders {
        &mut self.headers
    }
}

impl Deref for Response {
    type Target = ResponseHeaders;

    fn deref(&self) -> &ResponseHeaders {
        &self.headers
    }
}

impl DerefMut for Response {
    fn deref_mut(&mut self) -> &mut ResponseHeaders {
        &mut self.headers
    }
}

/// Why a body was not had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailError {
    /// The request has a larger one than the filter takes.
    RequestTooLarge {
        /// The most bytes.
        most_bytes: usize,
    },
    /// The response has a larger one than the filter takes.
    ResponseTooLarge {
        /// The most bytes.
        most_bytes: usize,
    },
    /// The response came before the request had ended.
    Answered,
    /// The filter has not said that it reads bodies like this.
    Undeclared {
        /// What [`OnExchange::BODIES`] has to be.
        needed: Bodies,
    },
    /// The host refused.
    Host(HostError),
}

impl fmt::Display for TailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestTooLarge { most_bytes } => {
                write!(f, "the body of the request has more than {most_bytes} bytes")
            }
            Self::ResponseTooLarge { most_bytes } => {
                write!(f, "the body of the response has more than {most_bytes} bytes")
            }
            Self::Answered => f.write_str("the response came before the request had ended"),
            Self::Undeclared { needed } => {
                write!(
                    f,
                    "the filter reads a body that it has not declared; set BODIES to Bodies::{needed:?}"
                )
            }
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl Error for TailError {}

impl From<HostError> for TailError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<TailError> for LocalReply {
    /// 413 for a request that is too large, 502 for a response, 503 for what else is not the client's
    /// fault.
    fn from(error: TailError) -> Self {
        match error {
            TailError::RequestTooLarge { .. } => {
                Self::new(StatusCode::CONTENT_TOO_LARGE).with_details("tollgate_body_too_large")
            }
            TailError::ResponseTooLarge { .. } => {
                Self::new(StatusCode::BAD_GATEWAY).with_details("tollgate_body_too_large")
            }
            TailError::Answered => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE).with_details("tollgate_answered_early")
            }
            TailError::Undeclared { .. } => Self::undecided(&error, "tollgate_body_undeclared"),
            TailError::Host(error) => error.into(),
        }
    }
}

async fn response(exchange: Rc<Exchange>) -> Response {
    exchange.request.go_on(Position::Passed);
    poll_fn(|context| {
        if exchange.response.has_headers() && !exchange.is_abandoned() {
            return Poll::Ready(());
        }
        exchange.wait(context.waker());
        Poll::Pending
    })
    .await;
    let headers = ResponseHeaders::new(exchange.response.ends_with_headers());
    Response { exchange, headers }
}

async fn with_headers(
    exchange: &Exchange,
    lane: &Lane,
    most_bytes: usize,
) -> Result<Vec<u8>, TailError> {
    if exchange.bodies != Bodies::WithHeaders {
        return Err(TailError::Undeclared { needed: Bodies::WithHeaders });
    }
    whole(exchange, lane, most_bytes).await
}

fn after_headers(exchange: &Exchange) -> Result<(), TailError> {
    match exchange.bodies {
        Bodies::Untouched => Err(TailError::Undeclared { needed: Bodies::AfterHeaders }),
        Bodies::AfterHeaders | Bodies::WithHeaders => Ok(()),
    }
}

async fn whole(exchange: &Exchange, lane: &Lane, most_bytes: usize) -> Result<Vec<u8>, TailError> {
    poll_fn(|context| {
        if exchange.is_abandoned() {
            return Poll::Pending;
        }
        if lane.held_bytes() > most_bytes {
            let is_request = std::ptr::eq(lane, &raw const exchange.request);
            return Poll::Ready(Err(if is_request {
                TailError::RequestTooLarge { most_bytes }
            } else {
                TailError::ResponseTooLarge { most_bytes }
            }));
        }
        match lane.whole() {
            Poll::Ready(body) => Poll::Ready(body.map_err(TailError::Host)),
            Poll::Pending => pending(exchange, lane, context),
        }
    })
    .await
}

async fn chunk(exchange: &Exchange, lane: &Lane) -> Result<Option<Vec<u8>>, TailError> {
    after_headers(exchange)?;
    poll_fn(|context| {
        if exchange.is_abandoned() {
            return Poll::Pending;
        }
        match lane.chunk() {
            Poll::Ready(chunk) => Poll::Ready(chunk.map_err(TailError::Host)),
            Poll::Pending => pending(exchange, lane, context),
        }
    })
    .await
}

/// Waits for more of a body. No more of a request is of use once its response is there.
fn pending<T>(
    exchange: &Exchange,
    lane: &Lane,
    context: &std::task::Context<'_>,
) -> Poll<Result<T, TailError>> {
    if std::ptr::eq(lane, &raw const exchange.request) && exchange.response.has_headers() {
        return Poll::Ready(Err(TailError::Answered));
    }
    exchange.wait(context.waker());
    Poll::Pending
}

fn replace<M: HeaderMap>(
    lane: &Lane,
    headers: &mut MessageHeaders<M>,
    body: &[u8],
) -> Result<(), EditError> {
    lane.replace(body)?;
    if lane.has_trailers() {
        headers.remove("content-length")
    } else {
        headers.set("content-length", body.len().to_string())
    }
}

/// Lends a stream's state to its handler, and keeps it when the handler ends or is dropped.
pub struct Lent<T: Default + 'static> {
    state: T,
    exchange: Rc<Exchange>,
}

impl<T: Default + 'static> Lent<T> {
    pub(crate) fn new(state: T, exchange: Rc<Exchange>) -> Self {
        Self { state, exchange }
    }

    pub(crate) fn state(&mut self) -> &mut T {
        &mut self.state
    }
}

impl<T: Default + 'static> Drop for Lent<T> {
    fn drop(&mut self) {
        let state: Box<dyn Any> = Box::new(std::mem::take(&mut self.state));
        self.exchange.keep(state);
    }
}
