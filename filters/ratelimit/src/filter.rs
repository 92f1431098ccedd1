//! The filter: reads a request, charges it in the proxy's shared data, and answers in place of the
//! upstream what may not pass.
//!
//! Not here: what is decided, which is pure and lies in the other modules, and how several limits are
//! charged together, which is `store`.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tollgate::log::{info, warn};
use tollgate::matching::{Ambiguity, Ambiguous, ProxyNames, Request};
use tollgate::metrics::{Budget, Counters, Labels, StatsTags};
use tollgate::mode::{Enforcement, Mode, Sampler};
use tollgate::state::numbered;
use tollgate::{
    Clock, ConfigureError, Counter, EditError, Filter, Headers, LocalReply, OnRequestHeaders,
    OnResponseHeaders, Outcome, RequestHeaders, ResponseHeaders, Root, SharedData, StatusCode,
    Throttle,
};

use crate::answer::{self, Answer, Fields, Told};
use crate::config::{OnError, Policy, Rule, Unkeyed};
use crate::gcra::{Decision, Left, UnixNanos, retry_after_seconds};
use crate::key::{self, KeyTemplate, NoKey};
use crate::quota::{Quota, shown};
use crate::store::{self, Claim, StoreError};
use crate::table::{Address, Charge, Placed, RECORD_VERSION};

/// The rate limit of one worker.
#[derive(Debug)]
pub struct RateLimit {
    rules: Vec<StoredRule>,
    mode: Mode,
    sampler: Sampler,
    ambiguous: Ambiguous,
    on_error: OnError,
    answer: Answer,
    fields: Fields,
    clock: Clock,
    records: SharedData,
    counters: Counts,
}

/// A rule, and where its records are.
#[derive(Debug)]
struct StoredRule {
    rule: Rule,
    limits: Vec<StoredLimit>,
    /// Of each override, in the order of the rule.
    overrides: Vec<Vec<StoredLimit>>,
    /// Lines of the log about it.
    lines: Throttle,
}

#[derive(Debug)]
struct StoredLimit {
    quota: Quota,
    told: Rc<Told>,
    /// What the names of its records begin with.
    prefix: String,
}

#[derive(Debug)]
struct Counts {
    admitted: Counter,
    refused: Counter,
    shadow_refused: Counter,
    ambiguous: Counter,
    unkeyed: Counter,
    overflow: Counter,
    store_errors: Counter,
    by_rule: Counters<ByRule>,
}

/// Which rule has refused, or would have, and why.
#[derive(Debug)]
struct ByRule;

impl Labels for ByRule {
    const NAMES: &'static [&'static str] = &["rule", "reason"];
    type Values<'a> = (&'a str, &'static str);
}

/// How many reasons there are, each of which may be shadowed.
const REASONS: usize = 6;

/// The limits that a request has passed, for its answer.
#[derive(Default)]
pub struct Passed(Vec<(Rc<Told>, Left)>);

/// Why a request does not pass.
#[derive(Clone, Debug)]
enum Refusal<'a> {
    /// Its key has spent what it may.
    BeyondLimit {
        rule: &'a StoredRule,
        /// The limits that refuse, at least one, and what they have decided.
        limits: Vec<(&'a Told, Decision)>,
    },
    /// It has no key.
    Unkeyed { rule: &'a StoredRule, why: NoKey<'a> },
    /// Nobody can say whether the rule is for it.
    Ambiguous { rule: &'a StoredRule, why: Ambiguity },
    /// The proxy has failed, and nobody knows.
    Undecided,
}

/// A limit that a request has to be charged to.
struct Due<'a> {
    rule: &'a StoredRule,
    limit: &'a StoredLimit,
    claim: Claim<'a>,
}

impl<'a> AsRef<Claim<'a>> for Due<'a> {
    fn as_ref(&self) -> &Claim<'a> {
        &self.claim
    }
}

impl Filter for RateLimit {
    const NAME: &'static str = "ratelimit";
    type Config = Policy;
    type Stream = Passed;

    const STATS_TAGS: StatsTags = StatsTags::of(&[ByRule::NAMES]);

    fn configure(policy: Policy, root: &Root) -> Result<Self, ConfigureError> {
        let state = root.state(Self::NAME, RECORD_VERSION);
        let Policy { rules, mode, ambiguous, on_error, answer, fields } = policy;
        let budget = u16::try_from(rules.len().saturating_mul(REASONS)).unwrap_or(u16::MAX);
        let rules = rules.into_iter().map(|rule| StoredRule::new(rule, state.prefix())).collect();
        Ok(Self {
            rules,
            mode,
            sampler: Sampler::new(),
            ambiguous,
            on_error,
            answer,
            fields,
            clock: root.clock(),
            records: root.shared_data(),
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
        })
    }
}

impl OnRequestHeaders for RateLimit {
    fn on_request_headers(&self, passed: &mut Passed, request: &mut RequestHeaders) -> Outcome {
        // What is off asks the proxy for nothing.
        let is_off = |rule: &StoredRule| {
            rule.rule.mode.as_ref().unwrap_or(&self.mode).always() == Some(Enforcement::Off)
        };
        if self.rules.iter().all(is_off) {
            return Ok(());
        }
        let (headers, now) = match (request.read(), self.clock.unix_nanos()) {
            (Ok(headers), Ok(nanos)) => (headers, UnixNanos::new(nanos)),
            // Nobody knows whether it would be enforced.
            (Err(error), _) | (_, Err(error)) => {
                return self.undecided(None, &error).map_err(|_| unavailable(false));
            }
        };
        match self.admit(headers, now) {
            Ok(limits) => {
                passed.0 = limits;
                Ok(())
            }
            Err(refusal) => Err(self.refuse(&refusal, headers, now)),
        }
    }
}

impl OnResponseHeaders for RateLimit {
    fn on_response_headers(
        &self,
        Passed(limits): &mut Passed,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        let limits: Vec<_> = limits.iter().map(|(told, left)| (&**told, *left)).collect();
        // A field that cannot be set is no reason to take the answer from the client.
        if let Err(error) = self.tell(response, &limits) {
            warn!("the client is not told of its limits: {error}");
        }
        Ok(())
    }
}

impl StoredRule {
    fn new(rule: Rule, prefix: &str) -> Self {
        let prefix = format!("{prefix}{}/", rule.name);
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

    /// The limits of this key.
    fn limits_of(&self, key: &[u8]) -> &[StoredLimit] {
        let at = self.rule.overrides.iter().position(|other| other.key == key);
        at.and_then(|at| self.overrides.get(at)).unwrap_or(&self.limits)
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

impl RateLimit {
    /// Charges a request to all limits that are for it, or to none.
    #[inline(never)]
    fn admit(
        &self,
        headers: &Headers,
        now: UnixNanos,
    ) -> Result<Vec<(Rc<Told>, Left)>, Refusal<'_>> {
        let names = ProxyNames::default();
        let request = Request::new(headers, &names, self.ambiguous);
        let shared_mode = self.enforcement(&self.mode, headers);
        let (mut enforced, mut shadowed) = (Vec::new(), Vec::new());
        let (mut is_asked, mut is_within) = (false, true);
        for stored in &self.rules {
            let own_mode = stored.rule.mode.as_ref().map(|mode| self.enforcement(mode, headers));
            let mode = own_mode.unwrap_or(shared_mode);
            let due = match mode {
                Enforcement::Off => continue,
                Enforcement::Enforce => &mut enforced,
                Enforcement::Shadow => &mut shadowed,
            };
            is_asked = true;
            match (self.claim(stored, &request, headers, &names, due), mode) {
                (Ok(()), _) => {}
                (Err(refusal), Enforcement::Enforce) => return Err(refusal),
                (Err(refusal), Enforcement::Shadow | Enforcement::Off) => {
                    is_within = false;
                    self.shadow(&refusal, now);
                }
            }
        }
        let passed = self.charge(&enforced, now)?;
        is_within &= passed.len() == enforced.len();
        for due in &shadowed {
            is_within &= self.try_out(due, now);
        }
        if is_asked && is_within {
            self.counters.admitted.increment();
        }
        Ok(passed)
    }

    #[inline(never)]
    fn enforcement(&self, mode: &Mode, headers: &Headers) -> Enforcement {
        mode.of(headers, &self.sampler)
    }

    /// Charges a limit that is not enforced, and says whether the request is within it.
    #[cold]
    #[inline(never)]
    fn try_out(&self, due: &Due<'_>, now: UnixNanos) -> bool {
        match store::charge(self.records, &due.claim, now) {
            Ok(charge) => {
                self.placed(due, &charge);
                if !charge.is_admitted() {
                    let limits = vec![(&*due.limit.told, charge.decision)];
                    self.shadow(&Refusal::BeyondLimit { rule: due.rule, limits }, now);
                }
                charge.is_admitted()
            }
            Err(error) => {
                self.counters.store_errors.increment();
                warn!("{}: cannot decide in shadow: {error}", due.rule.rule.name);
                false
            }
        }
    }

    /// Adds what a rule has a request charged to.
    #[inline(never)]
    fn claim<'a>(
        &'a self,
        stored: &'a StoredRule,
        request: &Request<'_>,
        headers: &Headers,
        names: &ProxyNames,
        due: &mut Vec<Due<'a>>,
    ) -> Result<(), Refusal<'a>> {
        let rule = &stored.rule;
        match rule.requests.as_ref().map(|requests| requests.test(request)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => return Ok(()),
            Some(Err(why)) => {
                self.counters.ambiguous.increment();
                return Err(Refusal::Ambiguous { rule: stored, why });
            }
        }
        let composed = rule.key.compose(key::Request { headers, names });
        let key = match &composed {
            Ok(key) => key,
            Err(NoKey::Unsaid(error)) => return self.undecided(Some(stored), error),
            Err(why) => {
                self.counters.unkeyed.increment();
                match rule.unkeyed {
                    Unkeyed::Share => KeyTemplate::SHARED,
                    Unkeyed::Allow => return Ok(()),
                    Unkeyed::Deny => {
                        return Err(Refusal::Unkeyed { rule: stored, why: why.clone() });
                    }
                }
            }
        };
        let Address { bucket, fingerprint } = Address::of(key, rule.keys);
        let cost = rule.cost.of(headers);
        due.extend(stored.limits_of(key).iter().map(|limit| {
            let record = numbered(&limit.prefix, bucket);
            let claim = Claim { record, fingerprint, quota: &limit.quota, cost };
            Due { rule: stored, limit, claim }
        }));
        Ok(())
    }

    /// Charges a request to all of these: gives what is left of each, or of none when nobody knows.
    fn charge<'a>(
        &self,
        due: &[Due<'a>],
        now: UnixNanos,
    ) -> Result<Vec<(Rc<Told>, Left)>, Refusal<'a>> {
        let given_back = |result: Result<(), StoreError>| {
            if let Err(error) = result {
                self.counters.store_errors.increment();
                warn!("a charge could not be given back: {error}");
            }
        };
        let charges = match store::charge_all(self.records, due, now, given_back) {
            Ok(charges) => charges,
            Err(failed) => {
                let rule = due.get(failed.claim).map(|due| due.rule);
                return self.undecided(rule, &failed.error).map(|()| Vec::new());
            }
        };
        let mut passed = Vec::with_capacity(charges.len());
        for (due, charge) in due.iter().zip(&charges) {
            self.placed(due, charge);
            if let Decision::Admitted { left } = charge.decision {
                passed.push((Rc::clone(&due.limit.told), left));
            }
        }
        if passed.len() == charges.len() { Ok(passed) } else { Err(Refusal::beyond(due, &charges)) }
    }

    /// Tells the operator of a decision on what several keys have spent together.
    #[inline(never)]
    fn placed(&self, due: &Due<'_>, charge: &Charge) {
        if charge.placed == Placed::Overflow {
            self.counters.overflow.increment();
            warn!("{}: decided on a count that several keys share", due.rule.rule.name);
        }
    }

    /// A rule cannot decide, or none can.
    #[cold]
    #[inline(never)]
    fn undecided<'a>(
        &self,
        rule: Option<&StoredRule>,
        error: &dyn fmt::Display,
    ) -> Result<(), Refusal<'a>> {
        self.counters.store_errors.increment();
        let who = rule.map_or(Self::NAME, |stored| stored.rule.name.as_str());
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
    fn shadow(&self, refusal: &Refusal<'_>, now: UnixNanos) {
        self.counters.shadow_refused.increment();
        if let Some(rule) = refusal.rule() {
            self.counters.by_rule.increment((rule.rule.name.as_str(), refusal.reasons().1));
            rule.log(&"would be refused", now);
        }
    }

    /// Counts a refusal, and answers it.
    #[cold]
    #[inline(never)]
    fn refuse(&self, refusal: &Refusal<'_>, headers: &Headers, now: UnixNanos) -> LocalReply {
        let is_grpc = is_grpc(headers);
        let reply = match refusal {
            Refusal::BeyondLimit { limits, .. } => {
                self.counters.refused.increment();
                self.beyond(limits, is_grpc)
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

    /// The answer to a request beyond these limits.
    fn beyond(&self, limits: &[(&Told, Decision)], is_grpc: bool) -> LocalReply {
        let told: Vec<&Told> = limits.iter().map(|(told, _)| *told).collect();
        let mut reply = self.answer.beyond(&told, is_grpc);
        // Of one that never passes nobody says when to try again.
        if let Some(wait) = longest_wait(limits) {
            reply = reply.with_header("retry-after", retry_after_seconds(wait).to_string());
        }
        let left = limits.iter().filter_map(|(told, decision)| Some((*told, decision.left()?)));
        let lines = self.fields.lines(&left.collect::<Vec<_>>());
        lines.into_iter().fold(reply, |reply, (name, value)| reply.with_header(name, value))
    }

    /// Adds the fields that tell of limits. What the upstream says of its own stays; where it has less
    /// left by the fields that know of one limit only, it is the nearer.
    fn tell(
        &self,
        response: &mut ResponseHeaders,
        limits: &[(&Told, Left)],
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

impl<'a> Refusal<'a> {
    #[cold]
    #[inline(never)]
    fn beyond(due: &[Due<'a>], charges: &[Charge]) -> Self {
        let refusing = || due.iter().zip(charges).filter(|(_, charge)| !charge.is_admitted());
        match refusing().next() {
            None => Self::Undecided,
            Some((first, _)) => {
                let limits = refusing().map(|(due, charge)| (&*due.limit.told, charge.decision));
                Self::BeyondLimit { rule: first.rule, limits: limits.collect() }
            }
        }
    }

    /// The rule that refuses.
    fn rule(&self) -> Option<&'a StoredRule> {
        match self {
            Self::BeyondLimit { rule, .. }
            | Self::Unkeyed { rule, .. }
            | Self::Ambiguous { rule, .. } => Some(rule),
            Self::Undecided => None,
        }
    }

    /// Why, in metrics: where it is enforced, and where it is not.
    fn reasons(&self) -> (&'static str, &'static str) {
        match self {
            Self::BeyondLimit { .. } => ("refused", "shadow_refused"),
            Self::Unkeyed { .. } => ("unkeyed", "shadow_unkeyed"),
            Self::Ambiguous { .. } => ("ambiguous", "shadow_ambiguous"),
            Self::Undecided => ("undecided", "shadow_undecided"),
        }
    }
}

/// How long until all of these admit a request; `None` when one never does.
fn longest_wait(limits: &[(&Told, Decision)]) -> Option<Duration> {
    let waits = limits.iter().map(|(_, decision)| decision.retry_after());
    waits.collect::<Option<Vec<_>>>()?.into_iter().max()
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondLimit { limits, .. } => match longest_wait(limits) {
                Some(wait) => write!(f, "refused for {} s", retry_after_seconds(wait)),
                None => f.write_str("refused, it costs more than the burst"),
            },
            Self::Unkeyed { why, .. } => write!(f, "refused without a key, {why}"),
            Self::Ambiguous { why, .. } => write!(f, "refused, {why}"),
            Self::Undecided => f.write_str("refused, nobody knows"),
        }
    }
}

fn unavailable(is_grpc: bool) -> LocalReply {
    let title = "the rate limit cannot be checked";
    answer::told(StatusCode::SERVICE_UNAVAILABLE, title, is_grpc)
        .with_details("tollgate_ratelimit_undecided")
}

/// Whether an answer is to be one of gRPC.
fn is_grpc(headers: &Headers) -> bool {
    headers.first("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"))
}
