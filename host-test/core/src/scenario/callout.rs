//! Callouts in a scenario: which clusters guests may call, and what their calls meet there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::expect::{ExpectedRequest, HeaderExpectations, RawReceived, expected};
use super::request::{RawLine, RawUpstream, lines};
use super::value::{Bytes, Matcher, Span};
use super::written::Name;
use super::{Answer, HeaderLine, Step, Upstream};

/// The cluster of the requests, which guests may call too.
pub const UPSTREAM: &str = "upstream";

const MOST_CLUSTERS: usize = 16;

/// The highest status that gRPC knows.
pub(super) const HIGHEST_STATUS: u32 = 16;

/// What one callout of a guest meets.
#[derive(Clone, Debug)]
pub struct PlannedCallout {
    /// The cluster that is called.
    pub cluster: String,
    /// What the call is expected to be.
    pub expect: Option<ExpectedCallout>,
    /// What comes back.
    pub meets: Meets,
}

/// What a call is expected to be.
#[derive(Clone, Debug)]
pub enum ExpectedCallout {
    /// A request over HTTP.
    Http(ExpectedRequest),
    /// A call or a stream of gRPC.
    Grpc(ExpectedGrpc),
}

/// An expected call or stream of gRPC.
#[derive(Clone, Debug)]
pub struct ExpectedGrpc {
    /// Full name of the service.
    pub service: Option<String>,
    /// Method.
    pub method: Option<String>,
    /// Initial metadata, with all header lines.
    pub metadata: HeaderExpectations,
    /// All messages of the guest, in order.
    pub messages: Option<Vec<Matcher>>,
}

/// What comes back to a callout.
#[derive(Clone, Debug)]
pub enum Meets {
    /// An answer over HTTP.
    Http(Answer),
    /// The connection breaks once the request has come: before an answer, or in the midst of one.
    Reset(Option<Answer>),
    /// An answer over gRPC.
    Grpc(GrpcAnswer),
    /// Nothing: the callout may time out.
    Never,
    /// Nobody listens.
    Refused,
}

/// An answer over gRPC.
#[derive(Clone, Debug)]
pub struct GrpcAnswer {
    /// Initial metadata.
    pub metadata: Vec<HeaderLine>,
    /// Messages: each after one of the guest's, the rest once the guest has sent its last.
    pub messages: Vec<Vec<u8>>,
    /// Trailing metadata, without the status.
    pub trailers: Vec<HeaderLine>,
    /// Status.
    pub status: u32,
    /// Message that goes with the status.
    pub message: String,
    /// How long it takes from the call to the begin of the answer.
    pub delay: Duration,
}

/// What a cluster speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP without gRPC, over HTTP/2: some answer has trailers.
    Http2,
    /// gRPC, over HTTP/2.
    Grpc,
}

impl PlannedCallout {
    /// Whether a request is of the method and path, or of the service, that this expects.
    fn fits(&self, method: &[u8], path: &[u8]) -> bool {
        match &self.expect {
            None => true,
            Some(ExpectedCallout::Http(expected)) => {
                expected.method.as_ref().is_none_or(|wanted| wanted.as_bytes() == method)
                    && expected.path.as_ref().is_none_or(|wanted| wanted.matches(path))
            }
            Some(ExpectedCallout::Grpc(expected)) => {
                let (service, method) = service_and_method(path);
                expected.service.as_ref().is_none_or(|wanted| wanted.as_bytes() == service)
                    && expected.method.as_ref().is_none_or(|wanted| wanted.as_bytes() == method)
            }
        }
    }

    /// Which of the entries that are left for its cluster a request meets: the first that expects such a
    /// one, else the first. Behind an entry that refuses none is met.
    pub fn met_by<'a>(
        left: impl Iterator<Item = &'a Self>,
        method: &[u8],
        path: &[u8],
    ) -> Option<usize> {
        let mut first = None;
        for (index, callout) in left.enumerate() {
            if matches!(callout.meets, Meets::Refused) {
                return first.or((index == 0).then_some(0));
            }
            if callout.fits(method, path) {
                return Some(index);
            }
            first = Some(0);
        }
        first
    }

    /// What its cluster speaks, as far as it tells.
    fn protocol(&self) -> Option<Protocol> {
        match (&self.expect, &self.meets) {
            (Some(ExpectedCallout::Grpc(_)), _) | (_, Meets::Grpc(_)) => Some(Protocol::Grpc),
            (Some(ExpectedCallout::Http(_)), _) | (_, Meets::Http(_) | Meets::Reset(Some(_))) => {
                Some(Protocol::Http)
            }
            (None, Meets::Reset(None) | Meets::Never | Meets::Refused) => None,
        }
    }
}

/// The two parts of a path of gRPC.
pub(crate) fn service_and_method(path: &[u8]) -> (&[u8], &[u8]) {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => {
            let (service, method) = path.split_at_checked(at).unwrap_or((path, &[]));
            (service, method.get(1..).unwrap_or_default())
        }
        None => (path, &[]),
    }
}

/// What a cluster speaks, as the callouts to it tell; HTTP/1.1 when they do not.
pub(super) fn protocol(steps: &[Step], cluster: &str) -> Protocol {
    let of_cluster = || callouts(steps).filter(|callout| callout.cluster == cluster);
    let has_trailers = |callout: &PlannedCallout| match &callout.meets {
        Meets::Http(answer) => !answer.trailers.is_empty(),
        Meets::Reset(_) | Meets::Grpc(_) | Meets::Never | Meets::Refused => false,
    };
    match of_cluster().find_map(PlannedCallout::protocol) {
        Some(Protocol::Grpc) => Protocol::Grpc,
        _ if of_cluster().any(has_trailers) => Protocol::Http2,
        _ => Protocol::Http,
    }
}

/// The callouts of all steps.
pub(super) fn callouts(steps: &[Step]) -> impl Iterator<Item = &PlannedCallout> {
    steps.iter().flat_map(Step::callouts)
}

/// Checks clusters, and that each callout goes to one of them and all to one speak the same.
pub(super) fn check(upstream: &str, clusters: &[String], steps: &[Step]) -> Result<(), String> {
    if clusters.len() > MOST_CLUSTERS {
        return Err(format!("clusters: {} are above the bound of {MOST_CLUSTERS}", clusters.len()));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    for (index, cluster) in clusters.iter().enumerate() {
        if cluster == UPSTREAM {
            return Err(format!("clusters: `{UPSTREAM}` is always there; remove it"));
        }
        if cluster == upstream {
            return Err(format!("clusters: `{cluster}` is the upstream, by `proxy`; remove it"));
        }
        if cluster.is_empty() || !cluster.bytes().all(is_plain) {
            return Err(format!(
                "clusters: `{cluster}` is not a name; use letters, digits, - and _"
            ));
        }
        if clusters.iter().take(index).any(|other| other == cluster) {
            return Err(format!("clusters: `{cluster}` stands twice"));
        }
    }
    let mut spoken: BTreeMap<&str, Protocol> = BTreeMap::from([(UPSTREAM, Protocol::Http)]);
    for (index, step) in steps.iter().enumerate() {
        for callout in step.callouts() {
            let cluster = callout.cluster.as_str();
            let place = || format!("steps[{index}].callouts: `{cluster}`");
            if cluster != UPSTREAM && !clusters.iter().any(|name| name == cluster) {
                return Err(format!("{} is not in `clusters`", place()));
            }
            let is_special = match &callout.meets {
                Meets::Http(answer) => !answer.trailers.is_empty(),
                Meets::Reset(Some(_)) | Meets::Refused => true,
                Meets::Reset(None) | Meets::Grpc(_) | Meets::Never => false,
            };
            if is_special && cluster == UPSTREAM {
                return Err(format!(
                    "{} carries requests too: no trailers, no refusal and no reset in the midst of \
                     an answer; add a cluster",
                    place()
                ));
            }
            let Some(protocol) = callout.protocol() else { continue };
            if *spoken.entry(cluster).or_insert(protocol) != protocol {
                return Err(format!("{} speaks either HTTP or gRPC, not both", place()));
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCallout {
    cluster: String,
    expect: Option<RawReceived>,
    grpc: Option<RawGrpc>,
    answer: Option<RawUpstream>,
    answer_grpc: Option<RawGrpcAnswer>,
    #[serde(default)]
    reset: bool,
    #[serde(default)]
    never: bool,
    #[serde(default)]
    refused: bool,
}

impl RawCallout {
    pub(super) fn check(self) -> Result<PlannedCallout, String> {
        let answer = match self.answer.map(RawUpstream::check).transpose()? {
            None => None,
            Some(Upstream::Answer(answer)) => Some(answer),
            Some(Upstream::Reset) => {
                return Err("callouts.answer.reset: write `reset` beside `answer`".into());
            }
        };
        let meets = match (answer, self.answer_grpc, self.reset, self.never, self.refused) {
            (answer, None, true, false, false) => Meets::Reset(answer),
            (Some(answer), None, false, false, false) => Meets::Http(answer),
            (None, Some(answer), false, false, false) => Meets::Grpc(answer.check()),
            (None, None, false, true, false) => Meets::Never,
            (None, None, false, false, true) => Meets::Refused,
            _ => {
                return Err("callouts: a callout meets one of `answer`, `answer_grpc`, `reset`, \
                            `never` and `refused`; `reset` may stand beside `answer`"
                    .into());
            }
        };
        let expect = match (self.expect, self.grpc) {
            (None, None) => None,
            (Some(request), None) => Some(ExpectedCallout::Http(request.check())),
            (None, Some(grpc)) => Some(ExpectedCallout::Grpc(grpc.check())),
            (Some(_), Some(_)) => {
                return Err("callouts: write `expect` for HTTP or `grpc`, not both".into());
            }
        };
        if expect.is_some() && matches!(meets, Meets::Refused) {
            return Err(
                "callouts: nobody listens, so nobody can tell; remove `expect` or `grpc`, \
                        or `refused`"
                    .into(),
            );
        }
        Ok(PlannedCallout { cluster: self.cluster, expect, meets })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrpc {
    service: Option<String>,
    method: Option<String>,
    #[serde(default)]
    metadata: Vec<(Name, Matcher)>,
    #[serde(default)]
    absent: Vec<Name>,
    messages: Option<Vec<Matcher>>,
}

impl RawGrpc {
    fn check(self) -> ExpectedGrpc {
        ExpectedGrpc {
            service: self.service,
            method: self.method,
            metadata: expected(self.metadata, self.absent),
            messages: self.messages,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrpcAnswer {
    #[serde(default)]
    metadata: Vec<RawLine>,
    #[serde(default)]
    messages: Vec<Bytes>,
    #[serde(default)]
    trailers: Vec<RawLine>,
    #[serde(default)]
    status: u32,
    #[serde(default)]
    message: String,
    delay: Option<Span>,
}

impl RawGrpcAnswer {
    fn check(self) -> GrpcAnswer {
        GrpcAnswer {
            metadata: lines(self.metadata),
            messages: self.messages.into_iter().map(|Bytes(message)| message).collect(),
            trailers: lines(self.trailers),
            status: self.status,
            message: self.message,
            delay: self.delay.map_or(Duration::ZERO, |Span(delay)| delay),
        }
    }
}
