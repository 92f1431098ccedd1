//! A request as the client sends it, what the upstream does with it, and host calls that fail meanwhile.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;
use tollgate_abi::{Function, Status};

use super::expect::Expectation;
use super::value::{Bytes, Span};
use super::written::{Body, Name, is_header_name};
use super::{ConfigureStep, HeaderLine, PlannedCallout};

/// A request, what the upstream answers, and what is expected.
#[derive(Clone, Debug)]
pub struct RequestStep {
    /// The request.
    pub request: Request,
    /// How many times it is sent, one after another.
    pub repeat: NonZeroUsize,
    /// The worker that gets it; in turn when not named.
    pub worker: Option<usize>,
    /// The peer that sends it, when there are several.
    pub peer: Option<String>,
    /// What the upstream answers if the request reaches it.
    pub upstream: Upstream,
    /// What callouts meet meanwhile, in order per cluster.
    pub callouts: Vec<PlannedCallout>,
    /// A filter gets another configuration once the upstream has the request, before it answers.
    pub meanwhile: Option<ConfigureStep>,
    /// Host calls that fail while it is under way.
    pub faults: Vec<Fault>,
    /// What is expected of each time it is sent.
    pub expect: Expectation,
}

impl RequestStep {
    /// The first thing in it that is not sent over HTTP/1.1, by any client: its place and its value.
    pub(super) fn unsendable(&self) -> Option<String> {
        let Request { method, path, headers, trailers, .. } = &self.request;
        if !is_header_name(method.as_bytes()) {
            return Some(format!("request.method: `{}`", method.escape_debug()));
        }
        if path.bytes().any(|byte| byte.is_ascii_control() || byte == b' ' || byte == b'#') {
            return Some(format!("request.path: `{}`", path.escape_debug()));
        }
        let of_request = [("request.headers", headers), ("request.trailers", trailers)];
        let of_upstream = match &self.upstream {
            Upstream::Answer(answer) => {
                vec![("upstream.headers", &answer.headers), ("upstream.trailers", &answer.trailers)]
            }
            Upstream::Reset => Vec::new(),
        };
        of_request.into_iter().chain(of_upstream).find_map(|(place, lines)| {
            let is_broken = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            let (name, value) = lines.iter().find(|(_, value)| value.iter().any(is_broken))?;
            Some(format!("{place}: `{}: {}`", name.escape_ascii(), value.escape_ascii()))
        })
    }
}

/// A request as the client sends it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Host.
    pub authority: String,
    /// Header lines in order, without pseudo-headers.
    pub headers: Vec<HeaderLine>,
    /// Body, in the chunks in which it is sent; none ends the stream with the headers.
    pub body: Vec<Vec<u8>>,
    /// Trailer lines.
    pub trailers: Vec<HeaderLine>,
    /// The client sends the end of its body never.
    pub unfinished: bool,
    /// How long after it began to send the client closes its connection, unless the response is whole.
    pub disconnect: Option<Duration>,
    /// When the parts of the body come.
    pub pace: Pace,
}

/// When the parts of a body come. As written, they come at once, one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pace {
    /// Where the sender waits.
    pub pause: Option<Pause>,
    /// How the body ends, unless trailers follow.
    pub ending: Ending,
}

/// A sender waits in the midst of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause {
    /// The chunk before which it waits, counted from 0.
    pub before: usize,
    /// How long.
    pub by: Duration,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// With a frame of its own, as over HTTP/1.1.
    #[default]
    Apart,
    /// With the last chunk, as it may over HTTP/2.
    WithLastChunk,
}

/// What the upstream does with a request.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// It answers.
    Answer(Answer),
    /// It breaks the connection once it has the whole request.
    Reset,
}

/// An answer of the upstream.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines in order.
    pub headers: Vec<HeaderLine>,
    /// Body, in the chunks in which it is sent.
    pub body: Vec<Vec<u8>>,
    /// Trailer lines.
    pub trailers: Vec<HeaderLine>,
    /// The upstream sends the end of its body never.
    pub unfinished: bool,
    /// How long it takes from the whole request to the answer.
    pub delay: Duration,
    /// When the parts of the body come.
    pub pace: Pace,
}

/// Host calls that fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The function.
    pub call: tollgate_abi::Function,
    /// Which call of it within the step, or within each repeat of it, counted from 1; every call when not
    /// named.
    pub nth: Option<u64>,
    /// What it returns.
    pub status: Status,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            Some(nth) => write!(f, "call {nth} of {}", self.call),
            None => write!(f, "every call of {}", self.call),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRequest {
    #[serde(default = "get")]
    method: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default = "example")]
    authority: String,
    #[serde(default)]
    headers: Vec<RawLine>,
    #[serde(default)]
    body: Body,
    #[serde(default)]
    trailers: Vec<RawLine>,
    #[serde(default)]
    unfinished: bool,
    disconnect: Option<Span>,
}

impl RawRequest {
    pub(super) fn check(self) -> Request {
        Request {
            method: self.method,
            path: self.path,
            authority: self.authority,
            headers: lines(self.headers),
            body: self.body.0,
            trailers: lines(self.trailers),
            unfinished: self.unfinished,
            disconnect: self.disconnect.map(|Span(disconnect)| disconnect),
            pace: Pace::default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    status: Option<u16>,
    #[serde(default)]
    headers: Vec<RawLine>,
    #[serde(default)]
    body: Body,
    #[serde(default)]
    trailers: Vec<RawLine>,
    delay: Option<Span>,
    #[serde(default)]
    unfinished: bool,
    #[serde(default)]
    reset: bool,
}

impl RawUpstream {
    pub(super) fn check(self) -> Result<Upstream, String> {
        let answers = self.status.is_some()
            || self.delay.is_some()
            || self.unfinished
            || !(self.headers.is_empty() && self.body.0.is_empty() && self.trailers.is_empty());
        if self.reset {
            return if answers {
                Err("upstream: it either answers or resets; remove `reset` or the answer".into())
            } else {
                Ok(Upstream::Reset)
            };
        }
        Ok(Upstream::Answer(Answer {
            status: self.status.unwrap_or(200),
            headers: lines(self.headers),
            body: self.body.0,
            trailers: lines(self.trailers),
            unfinished: self.unfinished,
            delay: self.delay.map_or(Duration::ZERO, |Span(delay)| delay),
            pace: Pace::default(),
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFault {
    call: String,
    nth: Option<u64>,
    status: u32,
}

impl RawFault {
    pub(super) fn all(faults: Option<Vec<Self>>) -> Result<Vec<Fault>, String> {
        faults.unwrap_or_default().into_iter().map(Self::check).collect()
    }

    fn check(self) -> Result<Fault, String> {
        let found = |module| Function::from_import(module, &self.call);
        let call = found("env").or_else(|| found("wasi_snapshot_preview1")).ok_or_else(|| {
            format!(
                "faults.call: there is no host function `{}`; write its whole name, such as proxy_log \
                 or random_get",
                self.call
            )
        })?;
        Ok(Fault { call, nth: self.nth, status: Status::from(self.status) })
    }
}

pub(super) type RawLine = (Name, Bytes);

pub(super) fn lines(lines: Vec<RawLine>) -> Vec<HeaderLine> {
    lines.into_iter().map(|(Name(name), Bytes(value))| (name, value)).collect()
}

fn get() -> String {
    "GET".into()
}

fn root() -> String {
    "/".into()
}

fn example() -> String {
    "example.com".into()
}
