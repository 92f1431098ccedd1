//! The filter: reads a request, charges it in the proxy's shared data, and answers in place of the
//! upstream what may not pass.
//!
//! Not here: what is decided, which is pure and lies in the other modules, and how several limits are
//! charged together, which is `store`.

use std::fmt;
use std::time::Duration;

use tollgate::log::{info, warn};
use tollgate::matching::{Ambiguity, Ambiguous, ProxyNames, Request};
use tollgate::mode::{Enforcement, Mode, Sampler};
use tollgate::state::numbered;
use tollgate::{
    Clock, ConfigureError, Counter, Filter, Headers, LocalReply, OnRequestHeaders, Outcome,
    RequestHeaders, Root, SharedData, StatusCode, Throttle,
};

use crate::answer;
use crate::config::{OnError, Policy, Rule, Unkeyed};
use crate::gcra::{Decision, UnixNanos, retry_after_seconds};
use crate::key::{KeyTemplate, NoKey};
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
    clock: Clock,
    records: SharedData,
    counters: Counts,
}

/// A rule, and where its records are.
#[derive(Debug)]
struct StoredRule {
    rule: Rule,
    limits: Vec<StoredLimit>,
    /// Lines of the log about it.
    lines: Throttle,
}

#[derive(Debug)]
struct StoredLimit {
    quota: Quota,
    /// What clients are told that it is called.
    name: String,
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
}

/// Why a request does not pass.
#[derive(Clone, Debug)]
enum Refusal<'a> {
    /// Its key has spent what it may.
    BeyondLimit {
        rule: &'a StoredRule,
        /// The names of the limits that refuse: at least one.
        limits: Vec<&'a str>,
        /// How long until all of them admit it.
        wait: Duration,
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
    type Stream = ();

    fn configure(policy: Policy, root: &Root) -> Result<Self, ConfigureError> {
        let state = root.state(Self::NAME, RECORD_VERSION);
        let Policy { rules, mode, ambiguous, on_error } = policy;
        let rules = rules.into_iter().map(|rule| StoredRule::new(rule, state.prefix())).collect();
        Ok(Self {
            rules,
            mode,
            sampler: Sampler::new(),
            ambiguous,
            on_error,
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
            },
        })
    }
}

impl OnRequestHeaders for RateLimit {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
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
        self.admit(headers, now).map_err(|refusal| self.refuse(&refusal, headers, now))
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
                StoredLimit { quota: *quota, name, prefix }
            });
            stored.collect()
        };
        Self { limits: store(&rule.limits), lines: Throttle::new(Duration::from_secs(1)), rule }
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
    fn admit(&self, headers: &Headers, now: UnixNanos) -> Result<(), Refusal<'_>> {
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
            match (self.claim(stored, &request, headers, due), mode) {
                (Ok(()), _) => {}
                (Err(refusal), Enforcement::Enforce) => return Err(refusal),
                (Err(_), Enforcement::Shadow | Enforcement::Off) => {
                    is_within = false;
                    self.shadow(stored, now);
                }
            }
        }
        is_within &= self.charge(&enforced, now)?;
        for due in &shadowed {
            is_within &= self.try_out(due, now);
        }
        if is_asked && is_within {
            self.counters.admitted.increment();
        }
        Ok(())
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
                    self.shadow(due.rule, now);
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
        let composed = rule.key.compose(headers);
        let key = match &composed {
            Ok(key) => key,
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
        let Address { bucket, fingerprint } = Address::of(key);
        due.extend(stored.limits.iter().map(|limit| {
            let record = numbered(&limit.prefix, bucket);
            let claim = Claim { record, fingerprint, quota: &limit.quota };
            Due { rule: stored, limit, claim }
        }));
        Ok(())
    }

    /// Charges a request to all of these, and says whether it could be.
    fn charge<'a>(&self, due: &[Due<'a>], now: UnixNanos) -> Result<bool, Refusal<'a>> {
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
                return self.undecided(rule, &failed.error).map(|()| false);
            }
        };
        for (due, charge) in due.iter().zip(&charges) {
            self.placed(due, charge);
        }
        if charges.iter().all(Charge::is_admitted) {
            Ok(true)
        } else {
            Err(Refusal::beyond(due, &charges))
        }
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
    fn shadow(&self, rule: &StoredRule, now: UnixNanos) {
        self.counters.shadow_refused.increment();
        rule.log(&"would be refused", now);
    }

    /// Counts a refusal, and answers it.
    #[cold]
    #[inline(never)]
    fn refuse(&self, refusal: &Refusal<'_>, headers: &Headers, now: UnixNanos) -> LocalReply {
        let is_grpc = is_grpc(headers);
        let (rule, reason, reply) = match refusal {
            Refusal::BeyondLimit { rule, limits, wait } => {
                self.counters.refused.increment();
                let seconds = retry_after_seconds(*wait).to_string();
                let reply = answer::beyond(limits, is_grpc).with_header("retry-after", seconds);
                (rule, "refused", reply)
            }
            Refusal::Unkeyed { rule, .. } => {
                let title = "the request does not say whom it counts against";
                (rule, "unkeyed", answer::told(StatusCode::BAD_REQUEST, title, is_grpc))
            }
            Refusal::Ambiguous { rule, .. } => {
                let title = "the request can be read in two ways";
                (rule, "ambiguous", answer::told(StatusCode::BAD_REQUEST, title, is_grpc))
            }
            Refusal::Undecided => return unavailable(is_grpc),
        };
        rule.log(refusal, now);
        // For the operator: why, and by which rule.
        reply.with_details(format!("tollgate_ratelimit_{reason}{{{}}}", rule.rule.name))
    }
}

impl<'a> Refusal<'a> {
    #[cold]
    #[inline(never)]
    fn beyond(due: &[Due<'a>], charges: &[Charge]) -> Self {
        let (mut first, mut limits, mut wait) = (None, Vec::new(), Duration::ZERO);
        for (Due { rule, limit, .. }, charge) in due.iter().zip(charges) {
            let retry_after = match charge.decision {
                Decision::Admitted { .. } => continue,
                Decision::Refused { retry_after } => retry_after,
                // No burst is below the cost of one request.
                Decision::Impossible => Duration::MAX,
            };
            first = first.or(Some(*rule));
            limits.push(limit.name.as_str());
            wait = wait.max(retry_after);
        }
        match first {
            Some(rule) => Self::BeyondLimit { rule, limits, wait },
            None => Self::Undecided,
        }
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondLimit { wait, .. } => {
                write!(f, "refused for {} s", retry_after_seconds(*wait))
            }
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
