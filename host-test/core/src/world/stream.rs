//! HTTP streams as the guests see them: messages, and how far each filter has let them go.

use std::collections::VecDeque;

use tollgate_abi::pairs::Pairs;
use tollgate_abi::{Call, Callback, Reply, Serialized, Status, StreamType};

use super::connection::{Asked, Connection};
use super::filter_state::FilterState;
use super::header::Lines;
use super::notes::Notes;
use super::{Scope, VmId, World};

/// A stream by its number, counted from 1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct StreamId(pub(crate) u64);

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream.
    Request,
    /// From the upstream to the client.
    Response,
}

/// A request and its response on their way through the chain.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) request: Message,
    pub(crate) response: Message,
    /// One per filter, in the order of the chain.
    pub(crate) stages: Vec<Stage>,
    /// What the proxy notes of it.
    pub(crate) notes: Notes,
    /// What guests keep about it.
    pub(crate) state: FilterState,
    /// There when it is a connection of TCP, and no stream of HTTP.
    pub(crate) connection: Option<Connection>,
    /// Set by a guest, carried out when its callback returns.
    pub(crate) local_reply: Option<LocalReply>,
    /// Set by a guest that closed the stream, carried out when its callback returns.
    pub(crate) close_asked: bool,
    /// Bytes that guests make the host keep as long as it lives.
    pub(crate) kept_bytes: usize,
}

/// Headers and trailers of one direction; the body is on its way in the lanes.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) headers: Lines,
    pub(crate) trailers: Lines,
}

/// A stream at one filter.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(crate) struct Stage {
    /// The VM and the root context of the plugin that the stream began with.
    pub(crate) link: Option<Link>,
    /// The context; none when the VM had trapped before the stream began.
    pub(crate) context: Option<u32>,
    /// The guest was told of the context.
    pub(crate) created: bool,
    /// The stream has failed, as the guest has trapped.
    pub(crate) has_failed: bool,
    pub(crate) request: Lane,
    pub(crate) response: Lane,
    /// `proxy_on_log` runs: everything can be read and nothing changed.
    pub(crate) logging: bool,
    /// Headers that the filter holds are held alone, and what follows them is delivered.
    pub(crate) stops_headers_alone: bool,
}

/// A plugin in a VM, to which its streams, queues and callouts belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) vm: VmId,
    pub(crate) root: u32,
}

/// One direction of a stream at one filter.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(crate) struct Lane {
    /// What has come and was not delivered yet.
    pub(crate) waiting: VecDeque<Piece>,
    pub(crate) hold: Hold,
    pub(crate) headers_visible: bool,
    pub(crate) trailers_visible: bool,
    /// The body that the guest can see: during its callback, and while it holds it.
    pub(crate) body: Option<Vec<u8>>,
    /// Bytes of the body that are held and that the guest does not see.
    pub(crate) held: Vec<u8>,
    /// The headers are held although what follows them is delivered.
    pub(crate) headers_held: bool,
    /// Some of the body has come, if only its end.
    pub(crate) body_came: bool,
    /// The guest made trailers in the last callback of the body.
    pub(crate) trailers_made: bool,
    /// The end of the stream came with what is held.
    pub(crate) end_held: bool,
    /// The guest asked to go on; done when the outermost callback has returned.
    pub(crate) resume_asked: bool,
    /// It asked in the very callback that holds the headers or the body.
    pub(crate) resumed_too_early: bool,
}

/// What a filter holds back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hold {
    #[default]
    Nothing,
    /// The headers, and all that follows waits.
    Headers,
    /// The same, and no more waits than the buffer may have.
    HeadersWithLimit,
    /// Body bytes, and perhaps the headers before them; more bytes are delivered.
    Body,
    /// The trailers, with the body bytes before them.
    Trailers,
    /// All that follows the headers, for good.
    Stuck,
}

/// A part of a message.
#[derive(Debug)]
pub(crate) enum Piece {
    Headers { end: bool },
    Data { bytes: Vec<u8>, end: bool },
    Trailers,
}

/// An answer that a guest sends in place of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// Status code.
    pub status: u32,
    /// Why there is a reply, in one word.
    pub details: Vec<u8>,
    /// Header lines.
    pub headers: Vec<crate::scenario::HeaderLine>,
    /// Body.
    pub body: Vec<u8>,
    /// gRPC status, when the guest gave one.
    pub grpc_status: Option<u32>,
}

impl LocalReply {
    /// A reply of the proxy itself.
    pub(crate) fn of_proxy(
        status: u32,
        details: impl Into<Vec<u8>>,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        let (details, body) = (details.into(), body.into());
        Self { status, details, headers: Vec::new(), body, grpc_status: None }
    }
}

/// The status of gRPC that stands for one of HTTP.
///
/// Source: gRPC, "HTTP to gRPC Status Code Mapping".
pub(crate) fn grpc_status_of(http: u32) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

impl Stream {
    pub(crate) fn message(&self, direction: Direction) -> &Message {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    pub(crate) fn message_mut(&mut self, direction: Direction) -> &mut Message {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}

impl Stage {
    pub(crate) fn lane(&self, direction: Direction) -> &Lane {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    pub(crate) fn lane_mut(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}

impl Lane {
    /// How many bytes of the body wait.
    pub(crate) fn waits(&self) -> usize {
        let size = |piece: &Piece| match piece {
            Piece::Data { bytes, .. } => bytes.len(),
            Piece::Headers { .. } | Piece::Trailers => 0,
        };
        self.waiting.iter().map(size).sum()
    }
}

impl World {
    /// The stream that the guest acts on, with the guest's place in its chain.
    pub(super) fn at_stage(&self, scope: &Scope) -> Option<(&Stream, &Stage)> {
        let (stream, at) = self.stream_of(scope)?;
        let stream = self.streams.get(&stream)?.as_ref();
        Some((stream, stream.stages.get(at)?))
    }

    pub(super) fn at_stage_mut(&mut self, scope: &Scope) -> Option<(&mut Stream, usize)> {
        let (stream, at) = self.stream_of(scope)?;
        let stream = self.streams.get_mut(&stream)?.as_mut();
        (at < stream.stages.len()).then_some((stream, at))
    }

    /// The guest asks for something of a stream that is done when its callback has returned.
    fn note_asked(&mut self, scope: &Scope) {
        let stream = self.stream_of(scope).map(|(stream, _)| stream);
        self.asked.extend(stream.filter(|stream| self.asked.back() != Some(stream)));
    }

    pub(super) fn send_local_response(
        &mut self,
        scope: &Scope,
        status: u32,
        details: Vec<u8>,
        body: &[u8],
        headers: &Serialized,
        grpc_status: u32,
    ) -> Reply {
        if let Err(trap) = self.keep_for_stream(scope, body.len().saturating_add(headers.0.len())) {
            return trap;
        }
        self.note_asked(scope);
        self.has_answered = true;
        // As on Envoy: a status has 16 bits.
        let status = status & u32::from(u16::MAX);
        // As on Envoy: from a root context and on a connection of TCP there is nobody to answer, which is no
        // error.
        let Some((stream, _)) = self.at_stage_mut(scope).filter(|(at, _)| at.connection.is_none())
        else {
            return Reply::OK;
        };
        // As on Envoy: pairs that cannot be read are no pairs.
        let headers = Pairs::parse(&headers.0).map_or_else(
            |_| Vec::new(),
            |pairs| {
                pairs
                    .iter()
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
                    .collect()
            },
        );
        // The guest says "no gRPC status" with -1.
        let grpc_status = Some(grpc_status).filter(|&status| status != u32::MAX);
        stream.local_reply.get_or_insert(LocalReply {
            status,
            details,
            headers,
            body: body.to_vec(),
            grpc_status,
        });
        Reply::OK
    }

    pub(super) fn continue_stream(&mut self, scope: &Scope, stream: StreamType) -> Reply {
        match stream {
            StreamType::HttpRequest => self.resume(scope, Direction::Request),
            StreamType::HttpResponse => self.resume(scope, Direction::Response),
            StreamType::Downstream => {
                self.ask(scope, |at| Asked::GoOn { behind: at });
                Reply::OK
            }
            StreamType::Upstream => {
                Reply::refused(Status::Unimplemented, "the upstream direction cannot be continued")
            }
            StreamType::Unknown(stream) => {
                Reply::refused(Status::BadArgument, format!("{stream} is not a kind of stream"))
            }
        }
    }

    /// Whether the guest wants a response to go on of which nothing has come, from a callback that is not
    /// the stream's own: Envoy crashes there too.
    pub(super) fn resumes_no_response(&self, scope: &Scope, call: &Call) -> bool {
        if !matches!(call, Call::ContinueStream { stream: StreamType::HttpResponse }) {
            return false;
        }
        let is_own = scope.callback.as_ref().is_some_and(|own| own.context() == scope.effective);
        let stream = self.at_stage(scope).map(|(stream, _)| stream);
        !is_own && stream.is_some_and(|stream| stream.response.headers.0.is_empty())
    }

    pub(super) fn close_stream(&mut self, scope: &Scope, stream: StreamType) -> Reply {
        match stream {
            StreamType::HttpRequest | StreamType::HttpResponse => {
                self.note_asked(scope);
                if let Some((stream, _)) = self.at_stage_mut(scope)
                    && stream.connection.is_none()
                {
                    stream.notes.explain(b"wasm_close_stream");
                    stream.close_asked = true;
                }
                Reply::OK
            }
            // As on Envoy: either closes both sides.
            StreamType::Downstream | StreamType::Upstream => {
                self.ask(scope, |_| Asked::Close);
                Reply::OK
            }
            StreamType::Unknown(stream) => {
                Reply::refused(Status::BadArgument, format!("{stream} is not a kind of stream"))
            }
        }
    }

    pub(super) fn resume(&mut self, scope: &Scope, direction: Direction) -> Reply {
        let in_own_callback = matches!(
            (&scope.callback, direction),
            (
                Some(Callback::RequestHeaders { .. } | Callback::RequestBody { .. }),
                Direction::Request
            ) | (
                Some(Callback::ResponseHeaders { .. } | Callback::ResponseBody { .. }),
                Direction::Response
            )
        );
        self.notice_late_resume(scope, direction);
        self.note_asked(scope);
        let Some((stream, at)) = self.at_stage_mut(scope) else {
            return Reply::OK;
        };
        if let Some(stage) = stream.stages.get_mut(at) {
            let lane = stage.lane_mut(direction);
            lane.resume_asked = true;
            lane.resumed_too_early = in_own_callback;
            // As on Envoy: the guest loses sight of a request at once, but not of a response; the rest
            // happens later.
            if direction == Direction::Request {
                lane.headers_visible = false;
                lane.trailers_visible = false;
            }
        }
        Reply::OK
    }

    /// Notes that a message is to go on that never can: its stream is over, or there is none.
    fn notice_late_resume(&mut self, scope: &Scope, direction: Direction) {
        let is_over = matches!(
            &scope.callback,
            Some(Callback::Log { .. } | Callback::Done { .. } | Callback::Delete { .. })
        );
        let message = match direction {
            Direction::Request => "request",
            Direction::Response => "response",
        };
        let phase = scope.phase();
        if self.at_stage(scope).is_none() {
            self.notice_untimely(format!(
                "the context in effect has no {message} that could go on in {phase}"
            ));
        } else if is_over {
            self.notice_untimely(format!("the {message} is over in {phase}"));
        }
    }
}
