//! What is read of a stream: what came, how it ended, and the values of its labels.
//!
//! Each attribute is a call of the host, so that nothing is read that no label and no metric of the policy
//! needs. What cannot be read is counted, and never an error of the request.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::time::Duration;

use tollgate::Headers;
use tollgate::attributes::{
    Attribute, AttributeError, Kind, Text, Value, connection, request, response,
};
use tollgate::matching::{Ambiguous, ProxyNames, Request};

use crate::config::Policy;
use crate::flags::Flags;
use crate::grpc::Dialect;
use crate::istio::{Field, Known};
use crate::label::{self, Fact, Label, OTHER, Source, UNKNOWN};
use crate::measure::Scope;
use crate::outcome::Outcome;
use crate::reporting::Reporting;

/// The status of a connection that goes on in another protocol.
const SWITCHING_PROTOCOLS: i64 = 101;
/// What the proxy notes of a stream that it ends to follow a redirect.
///
/// Source: Envoy 1.40, `source/common/stream_info/stream_info.h`, `ResponseCodeDetailValues`.
const REDIRECTED: &[u8] = b"internal_redirect";

/// What came, as it came.
#[derive(Debug, Default)]
pub(crate) struct Started {
    /// How it speaks gRPC, if it does.
    pub(crate) dialect: Option<Dialect>,
    /// Whether it is a connection of TCP, and no request.
    is_connection: bool,
    method: &'static str,
    scheme: &'static str,
    /// The host that was asked for.
    pub(crate) authority: Vec<u8>,
    /// For each label of the policy the value that the request gives it.
    values: Vec<Option<Vec<u8>>>,
    /// For each objective whether it is for this request.
    pub(crate) objectives: Vec<bool>,
}

impl Started {
    /// What is known of a connection of TCP.
    pub(crate) fn connection() -> Self {
        Self { is_connection: true, ..Self::default() }
    }

    /// What these headers say.
    pub(crate) fn of(policy: &Policy, headers: &Headers) -> Self {
        let value = |label: &Label| match &label.source {
            Source::Header(name) => {
                let lines: Vec<&[u8]> = headers.all(name.as_str()).collect();
                Some(lines.join(&b','))
            }
            Source::Templates(templates) => {
                let path = headers.path().unwrap_or_default();
                Some(label::template(templates, path).as_bytes().to_vec())
            }
            Source::Constant(_)
            | Source::Fact(_)
            | Source::ResponseHeader(_)
            | Source::Attribute(..)
            | Source::Peer(_)
            | Source::Istio(_) => None,
        };
        let names = ProxyNames::default();
        let view = Request::new(headers, &names, Ambiguous::Deny);
        Self {
            dialect: headers.first("content-type").and_then(Dialect::of),
            is_connection: false,
            method: label::method(headers.method().unwrap_or_default()),
            authority: headers.authority().unwrap_or_default().to_vec(),
            scheme: match headers.scheme() {
                Some(b"http") => "http",
                Some(b"https") => "https",
                Some(_) | None => OTHER,
            },
            values: policy.labels().iter().map(value).collect(),
            objectives: (policy.objectives().iter())
                // What can be read in two ways is not left out: it may be what fails.
                .map(|objective| {
                    objective.requests.as_ref().is_none_or(|fits| fits.test(&view).unwrap_or(true))
                })
                .collect(),
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) code: i64,
    pub(crate) grpc_status: Option<i64>,
    pub(crate) flags: Flags,
    pub(crate) outcome: Outcome,
    pub(crate) duration: Option<Duration>,
}

impl Ended {
    /// Reads how it ended. `web_status` is what the trailers of gRPC-Web said.
    pub(crate) fn read(
        policy: &Policy,
        reads: &Reads,
        started: &Started,
        web_status: Option<u32>,
    ) -> Self {
        let code = reads.of(&response::CODE).unwrap_or(0);
        let flags = Flags::new(reads.of(&response::FLAGS).unwrap_or(0));
        let grpc_status = match (started.dialect, web_status) {
            (None | Some(Dialect::WebText), _) => None,
            (Some(Dialect::Web), Some(status)) => Some(status.into()),
            (Some(Dialect::Web | Dialect::Grpc), _) => reads.of(&response::GRPC_STATUS),
        };
        let is_tunnel = code == SWITCHING_PROTOCOLS || started.method == "CONNECT";
        // Whoever ends a tunnel breaks its connection.
        let judged = if is_tunnel { flags.without_breaks() } else { flags };
        Self {
            code,
            grpc_status,
            flags,
            outcome: policy.failures.judge(code, grpc_status, judged),
            duration: reads.of(&request::DURATION),
        }
    }

    /// Whether the proxy itself follows this redirect: the client sees but the answer to the request that it
    /// makes of it, which is a stream of its own.
    pub(crate) fn is_redirected_here(&self, reads: &Reads) -> bool {
        matches!(self.code, 300..=399)
            && reads.of(&response::CODE_DETAILS).is_some_and(|text| text.as_bytes() == REDIRECTED)
    }
}

/// Attributes that are read, and whether one could not be.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    error: OnceCell<AttributeError>,
    has_failed: Cell<bool>,
}

impl Reads {
    /// The attribute; `None` when there is none, or when it cannot be read.
    pub(crate) fn of<T: Value>(&self, attribute: &Attribute<T>) -> Option<T> {
        attribute.read().unwrap_or_else(|error| {
            self.has_failed.set(true);
            let _first = self.error.set(error);
            None
        })
    }

    /// The text at this path; empty when there is none.
    pub(crate) fn text(&self, path: &[impl AsRef<[u8]>]) -> Vec<u8> {
        // NUL parts the segments: no attribute has one in its name.
        let attribute = Attribute::<Text>::at(path).ok();
        let text = attribute.and_then(|attribute| self.of(&attribute));
        text.map(Text::into_bytes).unwrap_or_default()
    }

    fn number(&self, path: &[String]) -> Vec<u8> {
        let attribute = Attribute::<i64>::at(path).ok();
        let number = attribute.and_then(|attribute| self.of(&attribute));
        number.map(|number| number.to_string().into_bytes()).unwrap_or_default()
    }

    fn truth(&self, path: &[String]) -> Vec<u8> {
        let attribute = Attribute::<bool>::at(path).ok();
        let truth = attribute.and_then(|attribute| self.of(&attribute));
        truth.map(|truth| truth.to_string().into_bytes()).unwrap_or_default()
    }

    /// What could not be read first.
    pub(crate) fn error(&self) -> Option<&AttributeError> {
        self.error.get()
    }

    fn failed_meanwhile<T>(&self, read: impl FnOnce() -> T) -> Option<T> {
        self.has_failed.set(false);
        let value = read();
        (!self.has_failed.get()).then_some(value)
    }
}

/// All that labels are read from.
pub(crate) struct View<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) reads: &'a Reads,
    pub(crate) started: &'a Started,
    /// How it ended; `None` while it is open.
    pub(crate) ended: Option<&'a Ended>,
    /// What the filter tells of itself, with the labels of Istio.
    pub(crate) reporting: Option<&'a Reporting>,
    /// What Istio's labels are told from; read once, and only if there is one.
    pub(crate) known: OnceCell<Known>,
    /// The host that was asked for.
    pub(crate) authority: &'a [u8],
    /// Headers of the response, when it is over.
    pub(crate) response: Option<&'a Headers>,
}

impl View<'_> {
    /// The values of the labels that metrics of this scope have.
    pub(crate) fn values(&self, scope: Scope) -> Vec<Cow<'_, [u8]>> {
        let labels = self.policy.labels().iter().enumerate();
        let in_scope = labels.filter(|(_, label)| label.is_in(scope));
        in_scope.map(|(at, label)| self.value(at, label)).collect()
    }

    /// Where the proxy keeps what it has agreed on with the upstream.
    pub(crate) fn upstream_state(&self) -> &'static str {
        if self.started.is_connection { "upstream_filter_state" } else { "filter_state" }
    }

    /// The value of the label at this position.
    fn value(&self, at: usize, label: &Label) -> Cow<'_, [u8]> {
        let value = self.reads.failed_meanwhile(|| self.read(at, label));
        let value = value.unwrap_or(Cow::Borrowed(UNKNOWN.as_bytes()));
        let is_listed = |listed: &String| listed.as_bytes() == &*value;
        if label.one_of.is_empty() || label.one_of.iter().any(is_listed) {
            return value;
        }
        Cow::Borrowed(OTHER.as_bytes())
    }

    fn read(&self, at: usize, label: &Label) -> Cow<'_, [u8]> {
        let reads = self.reads;
        match &label.source {
            Source::Constant(text) => Cow::Owned(text.as_bytes().to_vec()),
            Source::Fact(fact) => self.fact(*fact),
            Source::Header(_) | Source::Templates(_) => {
                let value = self.started.values.get(at).and_then(Option::as_deref);
                Cow::Borrowed(value.unwrap_or_default())
            }
            Source::ResponseHeader(name) => {
                let headers = self.response.map(|headers| headers.all(name.as_str()));
                let lines: Vec<&[u8]> = headers.into_iter().flatten().collect();
                Cow::Owned(lines.join(&b','))
            }
            Source::Attribute(path, Kind::Int) => Cow::Owned(reads.number(path)),
            Source::Attribute(path, Kind::Bool) => Cow::Owned(reads.truth(path)),
            Source::Attribute(path, _) => Cow::Owned(reads.text(path)),
            Source::Peer(part) => {
                let id = reads.of(&connection::FIRST_URI_SAN_OF_PEER).unwrap_or_default();
                let id = id.to_str().unwrap_or_default();
                Cow::Owned(part.of(id).as_bytes().to_vec())
            }
            Source::Istio(field) => self.istio(*field),
        }
    }

    fn fact(&self, fact: Fact) -> Cow<'_, [u8]> {
        let text = |text: &'static str| Cow::Borrowed(text.as_bytes());
        let owned = |text: String| Cow::Owned(text.into_bytes());
        let ended = self.ended;
        match fact {
            Fact::Method => text(self.started.method),
            Fact::Scheme => text(self.started.scheme),
            Fact::Protocol if self.started.is_connection => text("tcp"),
            Fact::Protocol => text(match self.started.dialect {
                None => "http",
                Some(Dialect::Grpc) => "grpc",
                Some(Dialect::Web | Dialect::WebText) => "grpc_web",
            }),
            Fact::Version => {
                let protocol = self.reads.of(&request::PROTOCOL).unwrap_or_default();
                let version = protocol.as_bytes().strip_prefix(b"HTTP/").unwrap_or_default();
                Cow::Owned(version.to_vec())
            }
            Fact::Code => owned(ended.map_or(0, |ended| ended.code).to_string()),
            Fact::CodeClass => match ended.map_or(0, |ended| ended.code).checked_div(100) {
                Some(class @ 1..=9) => owned(format!("{class}xx")),
                Some(_) | None => text("none"),
            },
            Fact::GrpcStatus => {
                let status = ended.and_then(|ended| ended.grpc_status);
                owned(status.map(|status| status.to_string()).unwrap_or_default())
            }
            Fact::Flags => owned(ended.map_or_else(Flags::default, |ended| ended.flags).words()),
            Fact::Outcome => text(ended.map_or("", |ended| ended.outcome.as_str())),
            Fact::ErrorType => match ended {
                Some(Ended { outcome: Outcome::ServerError, code, grpc_status, flags, .. }) => {
                    match grpc_status {
                        Some(status) if *status != 0 => owned(status.to_string()),
                        Some(_) | None if *code > 0 => owned(code.to_string()),
                        Some(_) | None => owned(flags.words()),
                    }
                }
                Some(_) | None => text(""),
            },
        }
    }

    fn istio(&self, field: Field) -> Cow<'_, [u8]> {
        let Some(reporting) = self.reporting else { return Cow::Borrowed(UNKNOWN.as_bytes()) };
        let known = || self.known.get_or_init(|| reporting.read(self));
        let text = |text: &'static str| Cow::Borrowed(text.as_bytes());
        match field {
            Field::RequestProtocol if self.started.is_connection => text("tcp"),
            // gRPC-Web is HTTP to Istio.
            Field::RequestProtocol => text(match self.started.dialect {
                Some(Dialect::Grpc) => "grpc",
                Some(Dialect::Web | Dialect::WebText) | None => "http",
            }),
            Field::GrpcResponseStatus if self.started.dialect != Some(Dialect::Grpc) => text(""),
            Field::GrpcResponseStatus => self.fact(Fact::GrpcStatus),
            Field::ResponseCode => self.fact(Fact::Code),
            Field::ResponseFlags => self.fact(Fact::Flags),
            Field::ConnectionSecurityPolicy => {
                text(known().security(reporting.reporter(self.reads)))
            }
            field => known()
                .value(field, reporting.reporter(self.reads), &reporting.local)
                .unwrap_or(Cow::Borrowed(UNKNOWN.as_bytes())),
        }
    }
}
