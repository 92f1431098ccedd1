//! The phases of bodies: held until they are whole, or chunk by chunk as they pass.
//!
//! Both are called once, and only once, with the end of the message, however the host tells it: with the
//! headers, with the last bytes, or by trailers. A filter that checks a body is so not got around by a
//! message that has none.

use crate::body::{RequestBody, RequestChunk, ResponseBody, ResponseChunk};
use crate::ending::ResetStream;
use crate::filter::{Filter, Outcome};

/// A filter that takes part when the whole body of a request is there.
///
/// The body is held until then, while the headers have gone on: the upstream may have seen the beginning
/// of a request that is refused here, and its headers can be changed in
/// [`OnRequestHeaders`](crate::OnRequestHeaders) only. A stream without an end, such as a WebSocket, is
/// held until it is too long.
///
/// # Examples
///
/// ```
/// # use tollgate_host_native as _;
/// use tollgate::config::NoConfig;
/// use tollgate::{
///     ConfigureError, Filter, LocalReply, OnRequestBody, Outcome, RequestBody, Root, StatusCode,
/// };
///
/// struct NoMarkup;
///
/// impl Filter for NoMarkup {
///     const NAME: &'static str = "no-markup";
///     type Config = NoConfig;
///     type Stream = ();
///
///     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
///         Ok(Self)
///     }
/// }
///
/// impl OnRequestBody for NoMarkup {
///     const MAX_BYTES: usize = 64 * 1024;
///
///     fn on_request_body(&self, (): &mut (), body: &mut RequestBody) -> Outcome {
///         if body.bytes()?.contains(&b'<') {
///             return Err(LocalReply::new(StatusCode::BAD_REQUEST).with_body("no markup\n"));
///         }
///         Ok(())
///     }
/// }
///
/// let callbacks = (tollgate::registration!(NoMarkup).callbacks)();
/// assert!(callbacks.iter().any(|callback| callback.name() == "proxy_on_request_body"));
/// ```
///
/// A filter has this phase or [`OnRequestChunk`], not both:
///
/// ```compile_fail
/// # use tollgate_host_native as _;
/// # use tollgate::config::NoConfig;
/// # use tollgate::*;
/// # struct Both;
/// # impl Filter for Both {
/// #     const NAME: &'static str = "both";
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> { Ok(Self) }
/// # }
/// impl OnRequestBody for Both {
///     const MAX_BYTES: usize = 1024;
///     fn on_request_body(&self, (): &mut (), _: &mut RequestBody) -> Outcome { Ok(()) }
/// }
/// impl OnRequestChunk for Both {
///     fn on_request_chunk(&self, (): &mut (), _: &mut RequestChunk) -> Outcome { Ok(()) }
/// }
///
/// tollgate::registration!(Both);
/// ```
///
/// One that holds nothing is none:
///
/// ```compile_fail,E0080
/// # use tollgate_host_native as _;
/// # use tollgate::config::NoConfig;
/// # use tollgate::*;
/// # struct Nothing;
/// # impl Filter for Nothing {
/// #     const NAME: &'static str = "nothing";
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> { Ok(Self) }
/// # }
/// impl OnRequestBody for Nothing {
///     const MAX_BYTES: usize = 0;
///     fn on_request_body(&self, (): &mut (), _: &mut RequestBody) -> Outcome { Ok(()) }
/// }
///
/// tollgate::registration!(Nothing);
/// ```
pub trait OnRequestBody: Filter {
    /// The most bytes that are held. A longer request is answered with 413, which is logged with this
    /// bound: before its headers go on if it says how long it is, else as soon as it is too long.
    ///
    /// Envoy itself holds no more than `per_connection_buffer_limit_bytes` of the listener, 1 MiB if it
    /// does not say, and answers what is longer with 413 without a word of the filter.
    const MAX_BYTES: usize;

    /// Whether the handler changes how long the body is. If so, a request with a body loses its header
    /// `content-length`, and is sent on in chunks; otherwise such a change is an error.
    const RESIZES: bool = false;

    /// Decides about a request, all of which is there but for its trailers. A request without a body
    /// comes too, with an [absent](crate::BodyView::is_absent) one.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_body(&self, stream: &mut Self::Stream, body: &mut RequestBody) -> Outcome;
}

/// A filter that takes part when the whole body of a response is there: also of one that a filter has
/// made, this filter's own [`LocalReply`](crate::LocalReply) too.
///
/// The body is held until then, while the head has left: see [`ResetStream`].
pub trait OnResponseBody: Filter {
    /// The most bytes that are held. Of a longer response that says how long it is, the client gets 502
    /// in its place; one that does not say is reset when it is too long, since its head has left. Both
    /// are logged with this bound. What may be long is better taken by [`OnResponseChunk`].
    ///
    /// Envoy itself holds no more than `per_connection_buffer_limit_bytes` of the listener, 1 MiB if it
    /// does not say, and resets what is longer without a word of the filter.
    const MAX_BYTES: usize;

    /// Whether the handler changes how long the body is. If so, a response with a body loses its header
    /// `content-length`, and is sent in chunks; otherwise such a change is an error. A response without a
    /// body, as to a HEAD, keeps it.
    const RESIZES: bool = false;

    /// Decides about a response, all of which is there but for its trailers. A response without a body
    /// comes too, with an [absent](crate::BodyView::is_absent) one.
    ///
    /// # Errors
    ///
    /// [`ResetStream`] when the client must not have the body.
    fn on_response_body(
        &self,
        stream: &mut Self::Stream,
        body: &mut ResponseBody,
    ) -> Result<(), ResetStream>;
}

/// A filter that takes part in the body of a request as it passes.
pub trait OnRequestChunk: Filter {
    /// Whether the handler changes how long the body is. If so, a request with a body loses its header
    /// `content-length`, and is sent on in chunks; otherwise such a change is an error.
    const RESIZES: bool = false;

    /// Decides about a chunk, before it reaches the next filter. How a body is cut into chunks is up to
    /// the network.
    ///
    /// Exactly one chunk of a message [is the last](crate::BodyView::is_last). It often has no bytes; and
    /// where the message has no body, or trailers follow it, it is [absent](crate::BodyView::is_absent),
    /// and nothing can be put in its place.
    ///
    /// # Errors
    ///
    /// The reply that the client gets in place of the upstream's.
    fn on_request_chunk(&self, stream: &mut Self::Stream, chunk: &mut RequestChunk) -> Outcome;
}

/// A filter that takes part in the body of a response as it passes.
pub trait OnResponseChunk: Filter {
    /// Whether the handler changes how long the body is. If so, a response with a body loses its header
    /// `content-length`, and is sent in chunks; otherwise such a change is an error. A response without a
    /// body, as to a HEAD, keeps it.
    const RESIZES: bool = false;

    /// Decides about a chunk, before it reaches the next filter: see
    /// [`on_request_chunk`](OnRequestChunk::on_request_chunk).
    ///
    /// # Errors
    ///
    /// [`ResetStream`] when the client must not have this chunk, nor take what it has for whole.
    fn on_response_chunk(
        &self,
        stream: &mut Self::Stream,
        chunk: &mut ResponseChunk,
    ) -> Result<(), ResetStream>;
}
