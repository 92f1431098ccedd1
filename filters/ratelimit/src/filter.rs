//! The filter: reads a request, charges it in the proxy's shared data, and answers in place of the
//! upstream what may not pass.
//!
//! Not here: what is decided, which is pure and lies in the other modules.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use tollgate::log::{info, warn};
use tollgate::matching::{Ambiguity, Ambiguous, ProxyNames, Request};
use tollgate::mode::{Enforcement, Mode, Sampler};
use tollgate::shared_data::Update;
use tollgate::state::numbered;
use tollgate::{
    Clock, ConfigureError, Counter, Filter, HeaderName, Headers, LocalReply, OnRequestHeaders,
    Outcome, RequestHeaders, Root, SharedData, StatusCode,
};

use crate::config::{OnError, Policy, Rule, RuleName, Unkeyed};
use crate::gcra::{Decision, UnixNanos, retry_after_seconds};
use crate::key::{self, Key, NoKey};
use crate::quota::Quota;
use crate::table::{Address, Bucket, Charge, Fingerprint, InvalidRecord, Placed, RECORD_VERSION};

/// How often a record is tried to be written. Workers that charge one record at the same instant
/// outrun each other, and one of them succeeds each time.
const ATTEMPTS: NonZeroU32 = NonZeroU32::new(32).unwrap();

/// The gRPC status of a client that asks for too much; the proxy would otherwise say "unavailable",
/// which clients take as an invitation to try again at once.
const RESOURCE_EXHAUSTED: u32 = 8;

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
    counters: Counters,
}

/// A rule, and where its records are.
#[derive(Debug)]
struct StoredRule {
    rule: Rule,
    /// What the names of its records begin with.
    prefix: String,
}

#[derive(Debug)]
struct Counters {
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
        rule: &'a RuleName,
        /// `None`: it never passes.
        retry_after: Option<Duration>,
    },
    /// It has no key.
    Unkeyed { rule: &'a RuleName, why: NoKey<'a> },
    /// Nobody can say whether the rule is for it.
    Ambiguous { rule: &'a RuleName, why: Ambiguity },
    /// The proxy has failed, and nobody knows.
    Undecided,
}

impl Filter for RateLimit {
    const NAME: &'static str = "ratelimit";
    type Config = Policy;
    type Stream = ();

    fn configure(policy: Policy, root: &Root) -> Result<Self, ConfigureError> {
        let state = root.state(Self::NAME, RECORD_VERSION);
        let stored =
            |rule: Rule| StoredRule { prefix: format!("{}{}/", state.prefix(), rule.name), rule };
        let Policy { rules, mode, ambiguous, on_error } = policy;
        Ok(Self {
            rules: rules.into_iter().map(stored).collect(),
            mode,
            sampler: Sampler::new(),
            ambiguous,
            on_error,
            clock: root.clock(),
            records: root.shared_data(),
            counters: Counters {
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
        let (enforcement, decision) = self.decide(request);
        match (decision, enforcement) {
            (Ok(Passed::Unlimited), _) => Ok(()),
            (Ok(Passed::WithinLimits), _) => {
                self.counters.admitted.increment();
                Ok(())
            }
            (Err(refusal), Enforcement::Enforce) => {
                self.tell(&refusal);
                Err(refusal.reply())
            }
            (Err(refusal), Enforcement::Shadow | Enforcement::Off) => {
                self.counters.shadow_refused.increment();
                info!("{}: would be refused", refusal.rule());
                Ok(())
            }
        }
    }
}

/// Why a request passes.
#[derive(Clone, Copy, Debug)]
enum Passed {
    /// No limit has been asked.
    Unlimited,
    WithinLimits,
}

impl RateLimit {
    fn decide(&self, request: &mut RequestHeaders) -> (Enforcement, Result<Passed, Refusal<'_>>) {
        // What is off asks the proxy for nothing.
        if self.mode.always() == Some(Enforcement::Off) {
            return (Enforcement::Off, Ok(Passed::Unlimited));
        }
        let within_limits = |()| Passed::WithinLimits;
        let headers = match request.read() {
            Ok(headers) => headers,
            // A mode that goes by a header cannot tell: the policy says what then holds.
            Err(error) => {
                let enforcement = self.mode.always().unwrap_or_default();
                let decision = self.undecided(&Self::NAME, &error);
                return (enforcement, decision.map(within_limits));
            }
        };
        let enforcement = self.mode.of(headers, &self.sampler);
        let decision = match enforcement {
            Enforcement::Off => Ok(Passed::Unlimited),
            Enforcement::Enforce | Enforcement::Shadow => self.admit(headers).map(within_limits),
        };
        (enforcement, decision)
    }

    fn admit(&self, headers: &Headers) -> Result<(), Refusal<'_>> {
        let now = match self.clock.unix_nanos() {
            Ok(nanos) => UnixNanos::new(nanos),
            Err(error) => return self.undecided(&Self::NAME, &error),
        };
        let names = ProxyNames::default();
        let request = Request::new(headers, &names, self.ambiguous);
        self.rules.iter().try_for_each(|stored| {
            match stored.rule.requests.as_ref().map(|requests| requests.test(&request)) {
                None | Some(Ok(true)) => self.charge(stored, headers, now),
                Some(Ok(false)) => Ok(()),
                Some(Err(why)) => {
                    self.counters.ambiguous.increment();
                    Err(Refusal::Ambiguous { rule: &stored.rule.name, why })
                }
            }
        })
    }

    fn charge<'a>(
        &self,
        StoredRule { rule, prefix }: &'a StoredRule,
        headers: &Headers,
        now: UnixNanos,
    ) -> Result<(), Refusal<'a>> {
        let key = rule.key.compose(headers);
        let key = match &key {
            Key::Of(key) => key,
            Key::None(why) => {
                self.counters.unkeyed.increment();
                match rule.unkeyed {
                    Unkeyed::Share => Key::SHARED,
                    Unkeyed::Allow => return Ok(()),
                    Unkeyed::Deny => {
                        return Err(Refusal::Unkeyed { rule: &rule.name, why: *why });
                    }
                }
            }
        };
        let Address { bucket, fingerprint } = Address::of(key);
        let record = numbered(prefix, bucket);
        let charged = self.records.update(record.as_bytes(), ATTEMPTS, |stored| {
            charge(stored, fingerprint, now, &rule.quota)
        });
        let charge = match charged {
            Ok(Ok(charge)) => charge,
            Ok(Err(invalid)) => return self.undecided(&rule.name, &invalid),
            Err(error) => return self.undecided(&rule.name, &error),
        };
        match charge.placed {
            Placed::Own => {}
            Placed::Overflow => {
                self.counters.overflow.increment();
                warn!("{}: decided on a count that several keys share", rule.name);
            }
        }
        let retry_after = match charge.decision {
            Decision::Admitted { .. } => return Ok(()),
            Decision::Refused { retry_after } => Some(retry_after),
            Decision::Impossible => None,
        };
        Err(Refusal::BeyondLimit { rule: &rule.name, retry_after })
    }

    /// `who` cannot decide: a rule, or the filter.
    #[cold]
    fn undecided<'a>(
        &self,
        who: &dyn fmt::Display,
        error: &dyn fmt::Display,
    ) -> Result<(), Refusal<'a>> {
        self.counters.store_errors.increment();
        match self.on_error {
            OnError::Deny => {
                warn!("{who}: cannot decide, the request is refused: {error}");
                Err(Refusal::Undecided)
            }
            OnError::Allow => {
                warn!("{who}: cannot decide, the request passes: {error}");
                Ok(())
            }
        }
    }

    #[inline(never)]
    fn tell(&self, refusal: &Refusal<'_>) {
        match refusal {
            Refusal::BeyondLimit { rule, retry_after } => {
                self.counters.refused.increment();
                match retry_after {
                    Some(wait) => {
                        info!("{rule}: refused for {} s", retry_after_seconds(*wait));
                    }
                    None => info!("{rule}: refused, it costs more than the burst"),
                }
            }
            Refusal::Unkeyed { rule, why } => info!("{rule}: refused without a key, {why}"),
            Refusal::Ambiguous { rule, why } => info!("{rule}: refused, {why}"),
            Refusal::Undecided => {}
        }
    }
}

impl Refusal<'_> {
    /// The rule that refuses, or the filter.
    fn rule(&self) -> &str {
        match self {
            Self::BeyondLimit { rule, .. }
            | Self::Unkeyed { rule, .. }
            | Self::Ambiguous { rule, .. } => rule.as_str(),
            Self::Undecided => RateLimit::NAME,
        }
    }

    #[inline(never)]
    fn reply(self) -> LocalReply {
        let (status, body, details) = match &self {
            Self::BeyondLimit { rule, .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests\n",
                format!("tollgate_ratelimit_refused{{{rule}}}"),
            ),
            Self::Unkeyed { rule, .. } => (
                StatusCode::BAD_REQUEST,
                "the request does not say whom it counts against\n",
                format!("tollgate_ratelimit_unkeyed{{{rule}}}"),
            ),
            Self::Ambiguous { rule, .. } => (
                StatusCode::BAD_REQUEST,
                "the request can be read in two ways\n",
                format!("tollgate_ratelimit_ambiguous{{{rule}}}"),
            ),
            Self::Undecided => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the rate limit cannot be checked\n",
                "tollgate_ratelimit_undecided".to_owned(),
            ),
        };
        let reply = LocalReply::new(status)
            .with_header("content-type", "text/plain")
            .with_body(body)
            .with_details(details);
        match self {
            Self::BeyondLimit { retry_after: Some(wait), .. } => reply
                .with_header("retry-after", retry_after_seconds(wait).to_string())
                .with_grpc_status(RESOURCE_EXHAUSTED),
            Self::BeyondLimit { retry_after: None, .. }
            | Self::Unkeyed { .. }
            | Self::Ambiguous { .. }
            | Self::Undecided => reply,
        }
    }
}

impl key::Request for Headers {
    fn header_lines(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.all(name.as_str())
    }

    fn path(&self) -> &[u8] {
        Headers::path(self).unwrap_or_default()
    }
}

/// Charges one request to what is stored of a bucket.
fn charge(
    stored: Option<&[u8]>,
    fingerprint: Fingerprint,
    now: UnixNanos,
    quota: &Quota,
) -> Update<Result<Charge, InvalidRecord>> {
    let mut bucket = match stored.map(Bucket::decode) {
        None => Bucket::default(),
        Some(Ok(bucket)) => bucket,
        Some(Err(invalid)) => return Update::Keep(Err(invalid)),
    };
    let charge = bucket.charge(fingerprint, now, quota, NonZeroU64::MIN);
    if charge.changed {
        Update::Write(bucket.encode(), Ok(charge))
    } else {
        Update::Keep(Ok(charge))
    }
}
