//! Test suites of Google's Service Extensions, played as their own runner plays them.
//!
//! A suite hands one guest the phases of a stream one by one and looks at what each leaves behind: headers,
//! bodies, replies, log lines. There is no proxy around it, so it says less than a scenario; what it shows
//! its guest is in [`world`](crate::world), the order of callbacks in [`offline`](crate::offline).
//!
//! Not played: benchmarks, with the streams beside them, and the file to which log lines are copied.
//!
//! Source: `plugins/test` of GoogleCloudPlatform/service-extensions.

mod http1;
mod play;
mod re2;
mod read;
mod text;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::Regex;
use tollgate_abi::LogLevel;

use crate::scenario::HeaderLine;

pub use play::play;
pub use read::ReadError;
pub use text::InvalidText;

/// A suite, checked.
#[derive(Clone, Debug)]
pub struct Suite {
    /// What it runs in.
    pub environment: Environment,
    /// Its tests in order.
    pub tests: Vec<Test>,
    /// What it asks for that is not done here.
    pub ignored: Vec<String>,
}

/// What a suite runs in.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The module, unless it is named elsewhere; relative to the current folder.
    pub module: Option<PathBuf>,
    /// The configuration of the plugin; relative to the current folder.
    pub config: Option<PathBuf>,
    /// The least level at which log lines are written.
    pub log_level: LogLevel,
    /// What all clocks show, since the Unix epoch.
    pub time: Duration,
}

/// One stream, in a VM of its own.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// Properties that the stream finds: paths with dots between their segments, and values.
    pub properties: Vec<(Vec<u8>, Vec<u8>)>,
    /// Log lines of the start of the plugin.
    pub plugin_init: Vec<Pattern>,
    /// Log lines of the begin of the stream.
    pub stream_init: Vec<Pattern>,
    /// The phases in order.
    pub phases: Vec<Phase>,
    /// Log lines of the end of the stream.
    pub stream_destroy: Vec<Pattern>,
}

/// A phase of a stream, and what it is to leave behind.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What comes.
    pub input: Input,
    /// What is expected after.
    pub expected: Expected,
}

/// What comes to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The headers of the request.
    RequestHeaders(Vec<HeaderLine>),
    /// The body of the request, or a part of it, in chunks.
    RequestBody(Vec<Vec<u8>>),
    /// The headers of the response.
    ResponseHeaders(Vec<HeaderLine>),
    /// The body of the response, or a part of it, in chunks.
    ResponseBody(Vec<Vec<u8>>),
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestHeaders(_) => "request_headers",
            Self::RequestBody(_) => "request_body",
            Self::ResponseHeaders(_) => "response_headers",
            Self::ResponseBody(_) => "response_body",
        })
    }
}

/// What a phase is to leave behind.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Headers with their whole values.
    pub has_header: Vec<HeaderLine>,
    /// Names of headers that are not there.
    pub no_header: Vec<Vec<u8>>,
    /// What one of the lines `name: value` is, or none.
    pub headers: Vec<Pattern>,
    /// What the body is, or is not.
    pub body: Vec<Pattern>,
    /// The reply in place of the upstream; without one the stream must go on.
    pub immediate: Option<Immediate>,
    /// What one of the log lines of the phase is, or none.
    pub log: Vec<Pattern>,
}

/// A reply in place of the upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Immediate {
    /// Status code.
    pub http_status: Option<u32>,
    /// gRPC status.
    pub grpc_status: Option<u32>,
    /// Why there is a reply.
    pub details: Option<Vec<u8>>,
}

/// What a text is, as a whole, or is not.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// No text may be so.
    pub invert: bool,
    /// How.
    pub is: Is,
}

/// How a text is.
#[derive(Clone, Debug)]
pub enum Is {
    /// These bytes.
    Exact(Vec<u8>),
    /// A whole match of an expression.
    Regex {
        /// As it is written.
        written: String,
        /// As it is run.
        compiled: Regex,
    },
}

impl Pattern {
    /// Whether what is said of the texts holds.
    pub fn holds(&self, texts: &[Vec<u8>]) -> bool {
        let is = |text: &Vec<u8>| match &self.is {
            Is::Exact(bytes) => bytes == text,
            Is::Regex { compiled, .. } => compiled.is_match(text),
        };
        texts.iter().any(is) != self.invert
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.invert { "none that is " } else { "" })?;
        match &self.is {
            Is::Exact(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Is::Regex { written, .. } => write!(f, "a match of /{written}/"),
        }
    }
}
