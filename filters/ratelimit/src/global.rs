//! The filter that has a service count: asks it about a request, and answers in place of the upstream
//! what may not pass.
//!
//! Not here: the messages, which are [`crate::rls`].

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tollgate::callout::{CalloutError, GrpcCall};
use tollgate::log::warn;
use tollgate::metrics::{Budget, Counters, Labels, StatsTags};
use tollgate::{
    Clock, ConfigureError, Filter, LocalReply, OnExchange, Outcome, Request, Root, Throttle,
};

use crate::answer::{Limits, Told};
use crate::config::{Descriptor, GlobalPolicy, OnUnanswered, Service};
use crate::gcra::{Left, UnixNanos};
use crate::key;
use crate::local::{Local, add_limits};
use crate::refusal::{Beyond, Refusal};
use crate::rls::{self, Asked, Code, DescriptorStatus, InvalidResponse, Lines, Response, Said};
use crate::rules::{ByRule, Due, Rules, is_grpc};
use crate::table::RECORD_VERSION;

/// The rate limit of one worker, counted by a service.
#[derive(Debug)]
pub struct GlobalRateLimit {
    rules: Rules,
    /// Of each rule, in order.
    descriptors: Vec<Descriptor>,
    service: Service,
    local: Local,
    clock: Clock,
    unanswered: Counters<ByCause>,
    /// Lines of the log about the service.
    lines: Throttle,
}

/// Why there was no answer, and what has become of the request.
#[derive(Debug)]
struct ByCause;

impl Labels for ByCause {
    const NAMES: &'static [&'static str] = &["cause", "became"];
    type Values<'a> = (&'static str, &'static str);
}

/// Four causes by four ends.
const CAUSES: u16 = 16;

/// What a service has decided, or a proxy in its place.
#[derive(Default)]
struct Verdict {
    limits: Limits,
    /// Whether the request is within its limits; not when nobody knows.
    is_within: bool,
    request_headers: Lines,
    said: Said,
}

/// A refusal, and what the service says to it.
struct Refused<'a> {
    refusal: Refusal<'a>,
    said: Said,
}

/// Why a service has not decided.
#[derive(Debug)]
enum Unanswered {
    Call(CalloutError),
    Invalid(InvalidResponse),
    TooManyStatuses,
    Unknown,
}

impl Filter for GlobalRateLimit {
    const NAME: &'static str = "ratelimit-global";
    type Config = GlobalPolicy;
    type Stream = ();

    const STATS_TAGS: StatsTags = StatsTags::of(&[ByRule::NAMES, ByCause::NAMES]);

    fn configure(policy: GlobalPolicy, root: &Root) -> Result<Self, ConfigureError> {
        let state = root.state(Self::NAME, RECORD_VERSION);
        let GlobalPolicy { policy, service, descriptors } = policy;
        Ok(Self {
            rules: Rules::new(policy, root, state.prefix()),
            descriptors,
            service,
            local: Local(root.shared_data()),
            clock: root.clock(),
            unanswered: root.counters("tollgate_ratelimit_unanswered", Budget::new(CAUSES)),
            lines: Throttle::new(Duration::from_secs(1)),
        })
    }
}

impl OnExchange for GlobalRateLimit {
    async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
        if self.rules.are_off() {
            return Ok(());
        }
        let (headers, now) = match self.rules.read(&mut request, self.clock) {
            Ok(read) => read,
            Err(outcome) => return outcome,
        };
        let is_grpc = is_grpc(headers);
        let refuse = |refusal: &Refusal<'_>| self.rules.refuse(refusal, is_grpc, now);
        let dues = self.rules.due(headers, now, Vec::push).map_err(|refusal| refuse(&refusal))?;
        let verdict = match self.decide(&dues.enforced, now).await {
            Ok(verdict) => verdict,
            Err(refused) => return Err(self.answer(*refused, is_grpc, now)),
        };
        let is_within = self.try_out(&dues.shadowed, now).await;
        self.rules.passed(&dues, verdict.is_within && is_within);
        for (name, value) in &verdict.request_headers {
            request.append(name.as_str(), value)?;
        }
        if verdict.limits.is_empty() && verdict.said.headers.is_empty() {
            return Ok(());
        }
        let mut response = request.send().await;
        self.rules.tell(&mut response, &verdict.limits);
        for (name, value) in &verdict.said.headers {
            response.append(name.as_str(), value)?;
        }
        Ok(())
    }
}

impl GlobalRateLimit {
    /// What becomes of a request that counts against these rules.
    async fn decide<'a>(
        &self,
        due: &[Due<'a>],
        now: UnixNanos,
    ) -> Result<Verdict, Box<Refused<'a>>> {
        let why = match self.ask(due).await {
            Ok(response) => return judge(due, response),
            Err(why) => why,
        };
        let became = match self.service.on_error {
            OnUnanswered::Deny => "denied",
            OnUnanswered::Allow => "allowed",
            OnUnanswered::Local => "local",
        };
        self.note(&why, became, now);
        let limits = match self.service.on_error {
            OnUnanswered::Deny => {
                return Err(Box::new(Refused {
                    refusal: Refusal::Undecided,
                    said: Said::default(),
                }));
            }
            OnUnanswered::Allow => None,
            OnUnanswered::Local => {
                let mut limits = Vec::new();
                for due in due {
                    add_limits(&mut limits, due);
                }
                let charged = self.local.charge(&self.rules, &limits, now);
                charged.map_err(|refusal| Box::new(Refused { refusal, said: Said::default() }))?
            }
        };
        let is_within = limits.is_some();
        Ok(Verdict { limits: limits.unwrap_or_default(), is_within, ..Verdict::default() })
    }

    /// Asks about rules that are not enforced, and says whether the request is within all.
    async fn try_out(&self, due: &[Due<'_>], now: UnixNanos) -> bool {
        let judged = match self.ask(due).await {
            Ok(response) => judge(due, response),
            Err(why) => {
                self.note(&why, "shadow", now);
                return false;
            }
        };
        if let Err(refused) = &judged {
            self.rules.shadow(&refused.refusal, now);
        }
        judged.is_ok()
    }

    /// Asks the service, unless there is nothing to ask.
    async fn ask(&self, due: &[Due<'_>]) -> Result<Response, Unanswered> {
        if due.is_empty() {
            return Ok(Response { overall: Code::Ok, ..Response::default() });
        }
        let message = self.message(due);
        let call = GrpcCall::new(&self.service.cluster, rls::SERVICE, rls::METHOD, message)
            .timeout(self.service.timeout);
        let reply = call.send().await.map_err(Unanswered::Call)?;
        let response = Response::read(&reply.message).map_err(Unanswered::Invalid)?;
        match response.overall {
            Code::Unknown => Err(Unanswered::Unknown),
            Code::Ok | Code::OverLimit if response.statuses.len() > due.len() => {
                Err(Unanswered::TooManyStatuses)
            }
            Code::Ok | Code::OverLimit => Ok(response),
        }
    }

    fn message(&self, due: &[Due<'_>]) -> Vec<u8> {
        let keys: Vec<Vec<u8>> = due.iter().map(Due::told_key).collect();
        let told = due.iter().zip(&keys).filter_map(|(due, key)| {
            let descriptor = self.descriptors.get(due.at)?;
            let sent = due.rule.override_of(key).and_then(|at| descriptor.overrides.get(at));
            Some(Asked {
                descriptor,
                values: key::values(key).collect(),
                limit: sent.copied().or(descriptor.limit),
                hits: if descriptor.is_check { 0 } else { due.cost.get() },
            })
        });
        rls::request(&self.service.domain, &told.collect::<Vec<_>>())
    }

    /// Counts a request without an answer, and tells the operator of it.
    #[cold]
    #[inline(never)]
    fn note(&self, why: &Unanswered, became: &'static str, now: UnixNanos) {
        self.unanswered.increment((why.cause(), became));
        match self.lines.pass(now.get()) {
            None => {}
            Some(0) => warn!("the service has not answered, {became}: {why}"),
            Some(more) => {
                warn!("the service has not answered, {became}: {why} (and {more} more since)");
            }
        }
    }

    /// The answer to a request that is refused, with what the service says to it.
    fn answer(&self, refused: Refused<'_>, is_grpc: bool, now: UnixNanos) -> LocalReply {
        let Refused { refusal, said: Said { headers, body } } = refused;
        let mut reply = self.rules.refuse(&refusal, is_grpc, now);
        if !body.is_empty() {
            reply = reply.without_header("content-type").with_body(body);
        }
        reply = headers.iter().fold(reply, |reply, (name, _)| reply.without_header(name.as_str()));
        headers
            .into_iter()
            .fold(reply, |reply, (name, value)| reply.with_header(name.as_str().to_owned(), value))
    }
}

/// What an answer means for these rules.
fn judge<'a>(due: &[Due<'a>], response: Response) -> Result<Verdict, Box<Refused<'a>>> {
    let Response { overall, mut statuses, said, request_headers } = response;
    if said.tells_of_limits() {
        for status in &mut statuses {
            status.limit = None;
        }
    }
    let told = || due.iter().zip(&statuses);
    match (overall, due.first()) {
        (Code::OverLimit, Some(first)) => {
            let over = told().filter(|(_, status)| status.code == Code::OverLimit);
            let mut over: Vec<_> =
                over.map(|(due, status)| (due.rule, beyond(due, status))).collect();
            if over.is_empty() {
                // The service does not say which: it may be any.
                let any = DescriptorStatus::default();
                over.extend(due.iter().map(|due| (due.rule, beyond(due, &any))));
            }
            let rule = over.first().map_or(first.rule, |(rule, _)| *rule);
            let limits = over.into_iter().map(|(_, limit)| limit).collect();
            Err(Box::new(Refused { refusal: Refusal::BeyondLimit { rule, limits }, said }))
        }
        (Code::Ok | Code::OverLimit | Code::Unknown, _) => {
            let limits =
                told().filter_map(|(due, status)| Some((limit(due, status), left(status)?)));
            Ok(Verdict { limits: limits.collect(), is_within: true, request_headers, said })
        }
    }
}

/// What clients are told of the limit of a rule.
fn limit(due: &Due<'_>, status: &DescriptorStatus) -> Rc<Told> {
    let limit = status.limit.unwrap_or_default();
    Rc::new(Told::of(due.rule.rule.name.as_str().to_owned(), limit.requests, limit.per))
}

/// What is left; `None` where there is no limit.
fn left(status: &DescriptorStatus) -> Option<Left> {
    let limit = status.limit?;
    let next_in = status.until_reset.unwrap_or(limit.per);
    Some(Left { requests: status.remaining, next_in })
}

fn beyond(due: &Due<'_>, status: &DescriptorStatus) -> Beyond {
    Beyond { told: limit(due, status), wait: status.until_reset, left: left(status) }
}

impl Due<'_> {
    /// The key as a service is told of it.
    fn told_key(&self) -> Vec<u8> {
        if self.key == key::KeyTemplate::SHARED {
            self.rule.rule.key.compose_of_nothing()
        } else {
            self.key.clone()
        }
    }
}

impl Unanswered {
    fn cause(&self) -> &'static str {
        match self {
            Self::Call(CalloutError::Timeout) => "timeout",
            Self::Call(CalloutError::NotSent(_)) => "not_sent",
            Self::Call(
                CalloutError::Reset { .. }
                | CalloutError::Proxy { .. }
                | CalloutError::Grpc { .. }
                | CalloutError::Host(_),
            ) => "failed",
            Self::Invalid(_) | Self::TooManyStatuses | Self::Unknown => "no_verdict",
        }
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => write!(f, "{error}"),
            Self::Invalid(error) => write!(f, "{error}"),
            Self::TooManyStatuses => f.write_str("it has more statuses than were asked for"),
            Self::Unknown => f.write_str("it does not know"),
        }
    }
}
