//! The rules at work, whoever counts: which of them a request counts against and as whom, and what is
//! counted, logged and answered.
//!
//! Not here: whether a request is within its limits, which [`crate::local`] and [`crate::global`] know.

use std::fmt;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use tollgate::log::{debug, info, warn};
use tollgate::matching::{Ambiguous, ProxyNames, Request};
use tollgate::metrics::{Budget, Counters, Labels};
use tollgate::mode::{Enforcement, Mode, Sampler};
use tollgate::{
    Clock, Counter, EditError, Headers, LocalReply, RequestHeaders, ResponseHeaders, Root,
    StatusCode, Throttle,
};

use crate::answer::{self, Answer, Fields, Limits, Told};
use crate::config::{OnError, Policy, Rule, Unkeyed};
use crate::gcra::{Left, UnixNanos, retry_after_seconds};
use crate::key::{self, NoKey};
use crate::quota::{Quota, shown};
use crate::refusal::{Beyond, Refusal, longest_wait};
use crate::table::Address;

/// The rules of a policy, and what they have in common.
#[derive(Debug)]
pub(crate) struct Rules {
    list: Vec<StoredRule>,
    mode: Mode,
    sampler: Sampler,
    ambiguous: Ambiguous,
    on_error: OnError,
    pub(crate) answer: Answer,
    fields: Fields,
    pub(crate) counters: Counts,
}

/// A rule, and where its records are.
#[derive(Debug)]
pub(crate) struct StoredRule {
    pub(crate) rule: Rule,
    limits: Vec<StoredLimit>,
    /// Of each override, in the order of the rule.
    overrides: Vec<Vec<StoredLimit>>,
    /// Lines of the log about it.
    lines: Throttle,
}

#[derive(Debug)]
pub(crate) struct StoredLimit {
    pub(crate) quota: Quota,
    pub(crate) told: Rc<Told>,
    /// What the names of its records begin with.
    pub(crate) prefix: String,
}

#[derive(Debug)]
pub(crate) struct Counts {
    admitted: Counter,
    pub(crate) refused: Counter,
    shadow_refused: Counter,
    ambiguous: Counter,
    unkeyed: Counter,
    pub(crate) overflow: Counter,
    pub(crate) store_errors: Counter,
    by_rule: Counters<ByRule>,
}

/// Which rule has refused, or would have, and why.
#[derive(Debug)]
pub(crate) struct ByRule;

impl Labels for ByRule {
    const NAMES: &'static [&'static str] = &["rule", "reason"];
    type Values<'a> = (&'a str, &'static str);
}

/// How many reasons there are, each of which may be shadowed.
const REASONS: usize = 6;

/// A rule that a request counts against.
pub(crate) struct Due<'a> {
    /// The position of the rule, from 0.
    pub(crate) at: usize,
    pub(crate) rule: &'a StoredRule,
    /// As whom, in the form of [`crate::key::KeyTemplate::compose`].
    pub(crate) key: Vec<u8>,
    pub(crate) cost: NonZeroU64,
}

/// Whom a request counts against, and how much, for somebody who asks. Of a key its parts are told, and a
/// hash in place of their values: the same for the same key.
struct Counted<'a> {
    rule: &'a StoredRule,
    key: &'a [u8],
    cost: NonZeroU64,
}

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, key, cost } = self;
        match *key {
            key::KeyTemplate::SHARED => f.write_str("key: that of all requests without one")?,
            key => {
                let hash = Address::of(key, rule.rule.keys).fingerprint.get();
                write!(f, "key: {}: {hash:016x}", rule.rule.key)?;
            }
        }
        if let Some(at) = rule.override_of(key) {
            write!(f, ", limits of overrides[{at}]")?;
        }
        write!(f, ", costs {cost}")
    }
}

/// What a request counts against: rules, or what they consist of.
pub(crate) struct Dues<T> {
    /// What is enforced.
    pub(crate) enforced: Vec<T>,
    /// What is tried out.
    pub(crate) shadowed: Vec<T>,
    /// Whether there is any that is not off.
    is_asked: bool,
    /// Whether one in shadow would refuse it already.
    is_beyond: bool,
}

impl Rules {
    pub(crate) fn new(policy: Policy, root: &Root, prefix: &str) -> Self {
        let Policy { rules, mode, ambiguous, on_error, answer, fields } = policy;
        let budget = u16::try_from(rules.len().saturating_mul(REASONS)).unwrap_or(u16::MAX);
        Self {
            list: rules.into_iter().map(|rule| StoredRule::new(rule, prefix)).collect(),
            mode,
            sampler: Sampler::new(),
            ambiguous,
            on_error,
            answer,
            fields,
            counters: Counts {
                admitted: root.counter("tollgate_ratelimit_admitted"),
                refused: root.counter("tollgate_ratelimit_refused"),
                shadow_refused: root.counter("tollgate_ratelimit_shadow_refused"),
                ambiguous: root.counter("tollgate_ratelimit_ambiguous"),
                unkeyed: root.counter("tollgate_ratelimit_unkeyed"),
                overflow: root.counter("tollgate_ratelimit_overflow"),
                store_errors: root.counter("tollgate_ratelimit_store_errors"),
                by_rule: root.counters("tollgate_ratelimit_refusals", Budget::new(budget)),
            },
        }
    }

    /// Whether none is ever asked: what is off asks the proxy for nothing.
    pub(crate) fn are_off(&self) -> bool {
        let is_off = |rule: &StoredRule| {
            rule.rule.mode.as_ref().unwrap_or(&self.mode).always() == Some(Enforcement::Off)
        };
        self.list.iter().all(is_off)
    }

    /// What a request is decided by.
    ///
    /// # Errors
    ///
    /// What becomes of the request when the proxy does not say: nobody knows whether a rule would be
    /// enforced.
    pub(crate) fn read<'a>(
        &self,
        request: &'a mut RequestHeaders,
        clock: Clock,
    ) -> Result<(&'a Headers, UnixNanos), Result<(), LocalReply>> {
        match (request.read(), clock.unix_nanos()) {
            (Ok(headers), Ok(nanos)) => Ok((headers, UnixNanos::new(nanos))),
            (Err(error), _) | (_, Err(error)) => {
                Err(self.undecided(None, &error).map_err(|_| unavailable(false)))
            }
        }
    }

    /// All rules that a request counts against, as `add` adds them.
    ///
    /// # Errors
    ///
    /// The refusal of a rule that is enforced.
    #[inline(never)]
    pub(crate) fn due<'a, T>(
        &'a self,
        headers: &Headers,
        now: UnixNanos,
        add: impl Fn(&mut Vec<T>, Due<'a>),
    ) -> Result<Dues<T>, Refusal<'a>> {
        let names = ProxyNames::default();
        let request = Request::new(headers, &names, self.ambiguous);
        let shared_mode = self.enforcement(&self.mode, headers);
        let (enforced, shadowed) = (Vec::new(), Vec::new());
        let mut dues = Dues { enforced, shadowed, is_asked: false, is_beyond: false };
        for (at, stored) in self.list.iter().enumerate() {
            let own_mode = stored.rule.mode.as_ref().map(|mode| self.enforcement(mode, headers));
            let mode = own_mode.unwrap_or(shared_mode);
            let list = match mode {
                Enforcement::Off => {
                    debug!("{}: off", stored.rule.name);
                    continue;
                }
                Enforcement::Enforce => &mut dues.enforced,
                Enforcement::Shadow => &mut dues.shadowed,
            };
            dues.is_asked = true;
            match (self.key(stored, &request, headers, &names), mode) {
                (Ok(None), _) => {}
                (Ok(Some(key)), _) => {
                    let cost = stored.rule.cost.of(headers);
                    debug!("{}: {}", stored.rule.name, Counted { rule: stored, key: &key, cost });
                    add(list, Due { at, rule: stored, key, cost });
                }
                (Err(refusal), Enforcement::Enforce) => return Err(refusal),
                (Err(refusal), Enforcement::Shadow | Enforcement::Off) => {
                    dues.is_beyond = true;
                    self.shadow(&refusal, now);
                }
            }
        }
        Ok(dues)
    }

    /// Counts a request that has passed: within its limits, or as nobody knows.
    pub(crate) fn passed<T>(&self, dues: &Dues<T>, is_within: bool) {
        if dues.is_asked && !dues.is_beyond && is_within {
            debug!("the request is admitted");
            self.counters.admitted.increment();
        }
    }

    #[inline(never)]
    fn enforcement(&self, mode: &Mode, headers: &Headers) -> Enforcement {
        mode.of(headers, &self.sampler)
    }

    /// Whom a request counts against by a rule; `None` when the rule is not for it.
    #[inline(never)]
    fn key<'a>(
        &'a self,
        stored: &'a StoredRule,
        request: &Request<'_>,
        headers: &Headers,
        names: &ProxyNames,
    ) -> Result<Option<Vec<u8>>, Refusal<'a>> {
        let rule = &stored.rule;
        match rule.requests.as_ref().map(|requests| requests.test(request)) {
            None => debug!("{}: for every request", rule.name),
            Some(Ok(true)) => debug!("{}: match: fits", rule.name),
            Some(Ok(false)) => {
                debug!("{}: match: does not fit", rule.name);
                return Ok(None);
            }
            Some(Err(why)) => {
                self.counters.ambiguous.increment();
                return Err(Refusal::Ambiguous { rule: stored, why });
            }
        }
        match rule.key.compose(key::Request { headers, names }) {
            Ok(key) => Ok(Some(key)),
            Err(NoKey::Unsaid(error)) => self.undecided(Some(stored), &error).map(|()| None),
            Err(why) => {
                self.counters.unkeyed.increment();
                debug!("{}: no key: {why}", rule.name);
                match rule.unkeyed {
                    Unkeyed::Share => Ok(Some(key::KeyTemplate::SHARED.to_vec())),
                    Unkeyed::Allow => Ok(None),
                    Unkeyed::Deny => Err(Refusal::Unkeyed { rule: stored, why }),
                }
            }
        }
    }

    /// A rule cannot decide, or none can.
    #[cold]
    #[inline(never)]
    pub(crate) fn undecided<'a>(
        &self,
        rule: Option<&StoredRule>,
        error: &dyn fmt::Display,
    ) -> Result<(), Refusal<'a>> {
        self.counters.store_errors.increment();
        let who = rule.map_or("ratelimit", |stored| stored.rule.name.as_str());
        let (becomes, result) = match self.on_error {
            OnError::Deny => ("is refused", Err(Refusal::Undecided)),
            OnError::Allow => ("passes", Ok(())),
        };
        warn!("{who}: cannot decide, the request {becomes}: {error}");
        result
    }

    /// Counts what would be refused, were it enforced.
    #[cold]
    #[inline(never)]
    pub(crate) fn shadow(&self, refusal: &Refusal<'_>, now: UnixNanos) {
        self.counters.shadow_refused.increment();
        if let Some(rule) = refusal.rule() {
            self.counters.by_rule.increment((rule.rule.name.as_str(), refusal.reasons().1));
            rule.log(&"would be refused", now);
        }
    }

    /// Counts a refusal, and answers it.
    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(
        &self,
        refusal: &Refusal<'_>,
        is_grpc: bool,
        now: UnixNanos,
    ) -> LocalReply {
        let reply = match refusal {
            Refusal::BeyondLimit { limits, .. } => {
                self.counters.refused.increment();
                self.tell_refused(self.answer.beyond(limits, is_grpc), limits)
            }
            Refusal::Unkeyed { .. } => {
                let title = "the request does not say whom it counts against";
                answer::told(StatusCode::BAD_REQUEST, title, is_grpc)
            }
            Refusal::Ambiguous { .. } => {
                let title = "the request can be read in two ways";
                answer::told(StatusCode::BAD_REQUEST, title, is_grpc)
            }
            Refusal::Undecided => unavailable(is_grpc),
        };
        let Some(rule) = refusal.rule() else { return reply };
        let (name, (reason, _)) = (&rule.rule.name, refusal.reasons());
        self.counters.by_rule.increment((name.as_str(), reason));
        rule.log(refusal, now);
        // For the operator: why, and by which rule.
        reply.with_details(["tollgate_ratelimit_", reason, "{", name.as_str(), "}"].concat())
    }

    /// Adds to an answer what these limits say.
    fn tell_refused(&self, mut reply: LocalReply, limits: &[Beyond]) -> LocalReply {
        // Of one that never passes nobody says when to try again.
        if let Some(wait) = longest_wait(limits) {
            reply = reply.with_header("retry-after", retry_after_seconds(wait).to_string());
        }
        let left = limits.iter().filter_map(|limit| Some((Rc::clone(&limit.told), limit.left?)));
        let lines = self.fields.lines(&left.collect::<Limits>());
        lines.into_iter().fold(reply, |reply, (name, value)| reply.with_header(name, value))
    }

    /// Adds the fields that tell of limits. What the upstream says of its own stays; where it has less
    /// left by the fields that know of one limit only, it is the nearer.
    pub(crate) fn tell(&self, response: &mut ResponseHeaders, limits: &[(Rc<Told>, Left)]) {
        // A field that cannot be set is no reason to take the answer from the client.
        if let Err(error) = self.add_fields(response, limits) {
            warn!("the client is not told of its limits: {error}");
        }
    }

    fn add_fields(
        &self,
        response: &mut ResponseHeaders,
        limits: &[(Rc<Told>, Left)],
    ) -> Result<(), EditError> {
        let lines = self.fields.lines(limits);
        let own = lines.iter().find(|(name, _)| *name == answer::REMAINING);
        let is_nearer = match own.and_then(|(_, value)| value.parse::<u64>().ok()) {
            None => true,
            Some(own) => {
                let said = response.first(answer::REMAINING)?;
                let said = said.as_deref().and_then(|said| str::from_utf8(said).ok());
                said.and_then(|said| said.trim().parse().ok()).is_none_or(|said: u64| own < said)
            }
        };
        for (name, value) in lines {
            match name.starts_with("x-") {
                true if is_nearer => response.set(name, value)?,
                true => {}
                false => response.append(name, value)?,
            }
        }
        Ok(())
    }
}

impl StoredRule {
    fn new(rule: Rule, prefix: &str) -> Self {
        let prefix = [prefix, rule.name.as_str(), "/"].concat();
        let store = |quotas: &[Quota]| {
            let stored = quotas.iter().enumerate().map(|(at, quota)| {
                // The first keeps its counts when a policy adds others.
                let window = shown(quota.per());
                let name = match quotas.len() {
                    1 => rule.name.as_str().to_owned(),
                    _ => [rule.name.as_str(), "/", &window].concat(),
                };
                let prefix =
                    if at == 0 { prefix.clone() } else { [&prefix, window.as_str(), "/"].concat() };
                StoredLimit { quota: *quota, told: Rc::new(Told::new(name, quota)), prefix }
            });
            stored.collect()
        };
        Self {
            limits: store(&rule.limits),
            overrides: rule.overrides.iter().map(|other| store(&other.limits)).collect(),
            lines: Throttle::new(Duration::from_secs(1)),
            rule,
        }
    }

    /// Which override is for this key: its position, from 0.
    pub(crate) fn override_of(&self, key: &[u8]) -> Option<usize> {
        self.rule.overrides.iter().position(|other| other.key == key)
    }

    /// The limits of this key.
    pub(crate) fn limits_of(&self, key: &[u8]) -> &[StoredLimit] {
        let own = self.override_of(key).and_then(|at| self.overrides.get(at));
        own.unwrap_or(&self.limits)
    }

    /// Tells the operator of one refusal, and at times of how many others there were.
    fn log(&self, what: &dyn fmt::Display, now: UnixNanos) {
        let rule = &self.rule.name;
        match self.lines.pass(now.get()) {
            None => {}
            Some(0) => info!("{rule}: {what}"),
            Some(more) => info!("{rule}: {what} (and {more} more since)"),
        }
    }
}

fn unavailable(is_grpc: bool) -> LocalReply {
    let title = "the rate limit cannot be checked";
    answer::told(StatusCode::SERVICE_UNAVAILABLE, title, is_grpc)
        .with_details("tollgate_ratelimit_undecided")
}

/// Whether an answer is to be one of gRPC.
pub(crate) fn is_grpc(headers: &Headers) -> bool {
    headers.first("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"))
}
