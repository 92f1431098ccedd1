//! When a filter gets a body: held until it is whole, or chunk by chunk, and in any case its end.
//!
//! The end of a message comes with its headers, with a part of its body, or with its trailers, never with
//! two of them: nothing has to be remembered of a stream.

use crate::body::{BodyView, Buffered, Chunk, Limits, Whole};
use crate::ending::ResetStream;
use crate::filter::{Filter, Outcome};
use crate::host;
use crate::host_error::HostError;
use crate::live::{Message, MessageHeaders, Request, Response};
use crate::reply::{LocalReply, StatusCode};
use crate::window::Window;

/// Whether what a callback brought goes on to the next filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It goes on, with what was held before: so many bytes.
    Open(usize),
    /// It is held.
    Held,
}

/// A part of a body, as a callback brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its bytes, with those that are held.
    pub window: Window,
    /// Whether the message ends here.
    pub is_last: bool,
}

/// A handler of a whole body, as a function.
pub type BodyHandler<F, M> = fn(
    &F,
    &mut <F as Filter>::Stream,
    &mut BodyView<Whole<M>>,
) -> Result<(), <M as Direction>::End>;

/// A handler of chunks, as a function.
pub type ChunkHandler<F, M> = fn(
    &F,
    &mut <F as Filter>::Stream,
    &mut BodyView<Chunk<M>>,
) -> Result<(), <M as Direction>::End>;

/// A filter's whole bodies.
pub struct WholeBody<F: Filter, M: Direction> {
    /// The handler.
    pub on: BodyHandler<F, M>,
    /// The most bytes that are held.
    pub max_bytes: usize,
    /// Whether the handler changes how many there are.
    pub resizes: bool,
}

/// A filter's chunks.
pub struct Chunks<F: Filter, M: Direction> {
    /// The handler.
    pub on: ChunkHandler<F, M>,
    /// Whether the handler changes how long they are.
    pub resizes: bool,
}

/// How a filter takes the bodies of one direction.
pub struct BodyPhases<F: Filter, M: Direction> {
    /// Whole.
    pub whole: Option<WholeBody<F, M>>,
    /// Chunk by chunk.
    pub chunks: Option<Chunks<F, M>>,
}

/// A direction of a stream, and how it is ended.
pub trait Direction: Message + Buffered + Sized {
    /// What a handler ends it with.
    type End: From<HostError>;

    /// Ends a message of which more is there than may be held.
    fn too_long(len: usize, max_bytes: usize) -> Self::End;

    /// Ends a message that says it is longer than may be held, while its head is here.
    fn announced_too_long(announced: u64, max_bytes: usize) -> LocalReply;

    /// What the client gets while the head is here.
    fn before_head_leaves(end: Self::End) -> LocalReply;
}

impl Direction for Request {
    type End = LocalReply;

    fn too_long(len: usize, max_bytes: usize) -> LocalReply {
        log::info!(
            "answered with 413: {len} bytes of a request body, at most {max_bytes} are held"
        );
        LocalReply::new(StatusCode::CONTENT_TOO_LARGE).with_details("tollgate_request_too_long")
    }

    fn announced_too_long(announced: u64, max_bytes: usize) -> LocalReply {
        log::info!(
            "answered with 413: a request body of {announced} bytes, at most {max_bytes} are held"
        );
        LocalReply::new(StatusCode::CONTENT_TOO_LARGE).with_details("tollgate_request_too_long")
    }

    fn before_head_leaves(end: LocalReply) -> LocalReply {
        end
    }
}

impl Direction for Response {
    type End = ResetStream;

    fn too_long(len: usize, max_bytes: usize) -> ResetStream {
        ResetStream::because(format!(
            "{len} bytes of a response body, at most {max_bytes} are held"
        ))
    }

    fn announced_too_long(announced: u64, max_bytes: usize) -> LocalReply {
        log::warn!(
            "answered with 502: a response body of {announced} bytes, at most {max_bytes} are held"
        );
        LocalReply::new(StatusCode::BAD_GATEWAY).with_details("tollgate_response_too_long")
    }

    fn before_head_leaves(end: ResetStream) -> LocalReply {
        if let Some(cause) = end.cause() {
            log::warn!("answered with 502: {cause}");
        }
        LocalReply::new(StatusCode::BAD_GATEWAY).with_details("tollgate_response_reset")
    }
}

impl<F: Filter, M: Direction> BodyPhases<F, M> {
    pub(super) const fn is_wanted(&self) -> bool {
        self.whole.is_some() || self.chunks.is_some()
    }

    /// Whether they are taken in at most one way, which holds something.
    pub(super) const fn is_sound(&self) -> bool {
        match (&self.whole, &self.chunks) {
            (Some(_), Some(_)) => false,
            (Some(whole), None) => whole.max_bytes > 0,
            (None, _) => true,
        }
    }

    const fn resizes(&self) -> bool {
        match (&self.whole, &self.chunks) {
            (Some(whole), _) => whole.resizes,
            (None, Some(chunks)) => chunks.resizes,
            (None, None) => false,
        }
    }

    /// The headers have passed their handler, and are still here.
    pub(super) fn after_headers(
        &self,
        filter: &F,
        stream: &mut F::Stream,
        headers: &mut MessageHeaders<M>,
    ) -> Outcome {
        if headers.is_end_of_stream() {
            return self.end_without_bytes(filter, stream).map_err(M::before_head_leaves);
        }
        if self.whole.is_none() && !self.resizes() {
            return Ok(());
        }
        let Some(length) = headers.content_length()? else { return Ok(()) };
        if let Some(WholeBody { max_bytes, .. }) = self.whole
            && let Some(announced) = number(&length)
            && usize::try_from(announced).map_or(true, |announced| announced > max_bytes)
        {
            return Err(M::announced_too_long(announced, max_bytes));
        }
        if self.resizes() {
            headers.remove_content_length()?;
        }
        Ok(())
    }

    /// A part of the body has come.
    pub(super) fn on_part(
        &self,
        filter: &F,
        stream: &mut F::Stream,
        Part { window, is_last }: Part,
    ) -> Result<Passage, M::End> {
        let len = window.len;
        let limits = if self.resizes() { Limits::Resize } else { Limits::KeepLength };
        if let Some(whole) = &self.whole {
            if len > whole.max_bytes {
                return Err(M::too_long(len, whole.max_bytes));
            }
            if !is_last {
                return Ok(Passage::Held);
            }
            let mut body = BodyView::whole(window, limits);
            (whole.on)(filter, stream, &mut body)?;
            return Ok(Passage::Open(body.len()));
        }
        if let Some(chunks) = &self.chunks {
            let mut chunk = BodyView::chunk(window, is_last, limits);
            (chunks.on)(filter, stream, &mut chunk)?;
            return Ok(Passage::Open(chunk.len()));
        }
        Ok(Passage::Open(len))
    }

    /// The trailers have come: what was held is whole. Gives how many bytes of it go on.
    pub(super) fn before_trailers(
        &self,
        filter: &F,
        stream: &mut F::Stream,
        held: Option<Window>,
    ) -> Result<usize, M::End> {
        let window = match held {
            Some(window) => window,
            None if self.whole.is_some() => Window::all(host::buffer_size(M::BUFFER)?),
            None => Window::all(0),
        };
        if window.len == 0 {
            return self.end_without_bytes(filter, stream).map(|()| 0);
        }
        match self.on_part(filter, stream, Part { window, is_last: true })? {
            Passage::Open(len) => Ok(len),
            Passage::Held => Ok(window.len),
        }
    }

    /// The message ends outside of a part of its body, with nothing held: there is no buffer to put
    /// something into.
    fn end_without_bytes(&self, filter: &F, stream: &mut F::Stream) -> Result<(), M::End> {
        let window = Window::all(0);
        if let Some(whole) = &self.whole {
            (whole.on)(filter, stream, &mut BodyView::whole(window, Limits::Absent))?;
        } else if let Some(chunks) = &self.chunks {
            (chunks.on)(filter, stream, &mut BodyView::chunk(window, true, Limits::Absent))?;
        }
        Ok(())
    }
}

/// A length that says how long a body is; what is none is left to whoever reads the body.
fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}
