//! What a scenario expects of a request.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;
use tollgate_abi::LogLevel;

use super::shared::{ExpectedQueue, ExpectedShared, RawStored};
use super::value::Matcher;
use super::written::{Level, Name, WordOr};
use crate::tls::Alert;

/// What is expected of one request, or of what else happens.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// What the client gets.
    pub outcome: Option<ExpectedOutcome>,
    /// What the upstream gets.
    pub upstream: Option<ExpectedUpstream>,
    /// Counters and gauges by name, as they stand afterwards since the start; none where there is to be no
    /// such metric.
    pub metrics: BTreeMap<String, Option<u64>>,
    /// Shared data, as it stands afterwards.
    pub shared_data: Vec<ExpectedShared>,
    /// Queues, as they stand afterwards.
    pub queues: Vec<ExpectedQueue>,
    /// Log lines that are written meanwhile, in any order.
    pub logs: Vec<ExpectedLog>,
    /// Text that no log line contains which is written meanwhile.
    pub no_logs: Vec<Matcher>,
    /// What it may cost.
    pub budget: Budget,
}

impl Expectation {
    /// Checks what is expected where no request is.
    pub(super) fn check_without_request(&self) -> Result<(), String> {
        if self.outcome.is_none() && self.upstream.is_none() {
            return Ok(());
        }
        Err("expect: `response`, `refused` and `upstream` belong to a request; here it is logs, \
             no_logs, metrics, shared_data, queues and budget"
            .into())
    }
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
    /// No connection: the handshake is refused.
    Refused(Alert),
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

/// What a request, or what else happens, may cost. On a real proxy, which cannot tell, a budget holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// The most host calls.
    pub host_calls: Option<u64>,
    /// The most fuel.
    pub fuel: Option<u64>,
    /// The most linear memory that a guest may have afterwards, in bytes.
    pub memory: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExpectation {
    response: Option<WordOr<RawResponse>>,
    refused: Option<String>,
    upstream: Option<WordOr<RawReceived>>,
    #[serde(default)]
    metrics: BTreeMap<String, Option<u64>>,
    #[serde(default)]
    shared_data: RawStored<Matcher>,
    #[serde(default)]
    queues: RawStored<Vec<Matcher>>,
    #[serde(default)]
    logs: Vec<RawLog>,
    #[serde(default)]
    no_logs: Vec<String>,
    #[serde(default)]
    budget: RawBudget,
}

impl RawExpectation {
    pub(super) fn check(self) -> Result<Expectation, String> {
        let refused = self.refused.map(|name| name.parse::<Alert>()).transpose();
        let refused = refused.map_err(|error| format!("expect.refused: {error}"))?;
        if refused.is_some() && self.response.is_some() {
            return Err("expect.response: who is refused gets none; remove it, or `refused`".into());
        }
        let outcome = match self.response {
            None => refused.map(ExpectedOutcome::Refused),
            Some(WordOr::Word(word)) if word == "reset" => Some(ExpectedOutcome::Reset),
            Some(WordOr::Word(word)) if word == "none" => Some(ExpectedOutcome::Nothing),
            Some(WordOr::Word(word)) if word == "left" => Some(ExpectedOutcome::Left),
            Some(WordOr::Word(word)) => {
                return Err(format!(
                    "expect.response: `{word}`; write `reset`, `none`, `left` or a response"
                ));
            }
            Some(WordOr::Other(response)) => Some(ExpectedOutcome::Response(ExpectedResponse {
                status: response.status,
                headers: expected(response.headers, response.absent),
                body: response.body,
                trailers: expected(response.trailers, Vec::new()),
            })),
        };
        let upstream = match self.upstream {
            None => None,
            Some(WordOr::Word(word)) if word == "none" => Some(ExpectedUpstream::Nothing),
            Some(WordOr::Word(word)) => {
                return Err(format!("expect.upstream: `{word}`; write `none` or a request"));
            }
            Some(WordOr::Other(request)) => {
                Some(ExpectedUpstream::Request(Box::new(request.check())))
            }
        };
        Ok(Expectation {
            outcome,
            upstream,
            metrics: self.metrics,
            shared_data: self.shared_data.0,
            queues: self.queues.0,
            logs: self.logs.into_iter().map(|RawLog(log)| log).collect(),
            no_logs: self
                .no_logs
                .into_iter()
                .map(|text| Matcher::Contains(text.into_bytes()))
                .collect(),
            budget: Budget {
                host_calls: self.budget.host_calls,
                fuel: self.budget.fuel,
                memory: self.budget.memory,
            },
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    status: Option<u16>,
    #[serde(default)]
    headers: Vec<(Name, Matcher)>,
    #[serde(default)]
    absent: Vec<Name>,
    body: Option<Matcher>,
    #[serde(default)]
    trailers: Vec<(Name, Matcher)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReceived {
    cluster: Option<String>,
    method: Option<String>,
    path: Option<Matcher>,
    #[serde(default)]
    headers: Vec<(Name, Matcher)>,
    #[serde(default)]
    absent: Vec<Name>,
    body: Option<Matcher>,
    #[serde(default)]
    trailers: Vec<(Name, Matcher)>,
}

impl RawReceived {
    pub(super) fn check(self) -> ExpectedRequest {
        ExpectedRequest {
            cluster: self.cluster,
            method: self.method,
            path: self.path,
            headers: expected(self.headers, self.absent),
            body: self.body,
            trailers: expected(self.trailers, Vec::new()),
        }
    }
}

struct RawLog(ExpectedLog);

impl<'de> Deserialize<'de> for RawLog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            level: Option<Level>,
            contains: String,
        }
        let log = match WordOr::<Fields>::deserialize(deserializer)? {
            WordOr::Word(text) => ExpectedLog { level: None, contains: text.into_bytes() },
            WordOr::Other(fields) => ExpectedLog {
                level: fields.level.map(|Level(level)| level),
                contains: fields.contains.into_bytes(),
            },
        };
        Ok(Self(log))
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBudget {
    host_calls: Option<u64>,
    fuel: Option<u64>,
    memory: Option<u64>,
}

pub(super) fn expected(lines: Vec<(Name, Matcher)>, absent: Vec<Name>) -> HeaderExpectations {
    HeaderExpectations {
        lines: lines.into_iter().map(|(Name(name), value)| (name, value)).collect(),
        absent: absent.into_iter().map(|Name(name)| name).collect(),
    }
}
