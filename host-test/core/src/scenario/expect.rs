//! What a scenario expects of a request.

use std::collections::BTreeMap;

use tollgate_abi::LogLevel;

use super::value::Matcher;

/// What is expected of one request.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// What the client gets.
    pub outcome: Option<ExpectedOutcome>,
    /// What the upstream gets.
    pub upstream: Option<ExpectedUpstream>,
    /// Metrics by name, as they stand after the request since the start.
    pub metrics: BTreeMap<String, u64>,
    /// Log lines that this request writes, in any order.
    pub logs: Vec<ExpectedLog>,
    /// Text that no log line of this request contains.
    pub no_logs: Vec<Matcher>,
    /// What it may cost.
    pub budget: Budget,
}

/// What the client is expected to get.
#[derive(Clone, Debug)]
pub enum ExpectedOutcome {
    /// A response.
    Response(ExpectedResponse),
    /// A reset stream.
    Reset,
    /// No answer.
    Nothing,
    /// The client leaves before it has a whole response.
    Left,
}

/// An expected response.
#[derive(Clone, Debug)]
pub struct ExpectedResponse {
    /// Status code.
    pub status: Option<u16>,
    /// Header lines.
    pub headers: HeaderExpectations,
    /// The whole body.
    pub body: Option<Matcher>,
    /// Trailer lines.
    pub trailers: HeaderExpectations,
}

/// What the upstream is expected to get.
#[derive(Clone, Debug)]
pub enum ExpectedUpstream {
    /// Nothing: the request does not reach it.
    Nothing,
    /// A request.
    Request(Box<ExpectedRequest>),
}

/// An expected request.
#[derive(Clone, Debug)]
pub struct ExpectedRequest {
    /// The cluster that it came to.
    pub cluster: Option<String>,
    /// Method.
    pub method: Option<String>,
    /// Path with query.
    pub path: Option<Matcher>,
    /// Header lines.
    pub headers: HeaderExpectations,
    /// The whole body.
    pub body: Option<Matcher>,
    /// Trailer lines.
    pub trailers: HeaderExpectations,
}

/// Expected header lines: each listed name must have exactly the listed lines, in that order.
#[derive(Clone, Debug, Default)]
pub struct HeaderExpectations {
    /// Name in lower case, and what its lines are compared with.
    pub lines: Vec<(Vec<u8>, Matcher)>,
    /// Names that must have no line.
    pub absent: Vec<Vec<u8>>,
}

/// An expected log line.
#[derive(Clone, Debug)]
pub struct ExpectedLog {
    /// Level, when it matters.
    pub level: Option<LogLevel>,
    /// Text that the line contains.
    pub contains: Vec<u8>,
}

/// What a request may cost. On a real proxy, which cannot tell, a budget holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// The most host calls.
    pub host_calls: Option<u64>,
    /// The most fuel.
    pub fuel: Option<u64>,
    /// The most linear memory that a guest may have afterwards, in bytes.
    pub memory: Option<u64>,
}
