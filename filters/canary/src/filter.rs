//! The filter: takes off a request what clients may not say, decides, and writes the result where routes
//! look for it.
//!
//! Not here: what is decided, which is pure and lies in the other modules.

use std::cell::OnceCell;
use std::hash::{BuildHasher, Hasher, RandomState};

use tollgate::log::{debug, info, warn};
use tollgate::matching::ProxyNames;
use tollgate::metrics::{Budget, Counters, Labels, StatsTags};
use tollgate::mode::{Enforcement, Sampler};
use tollgate::{
    ConfigureError, Counter, EditError, Filter, Headers, LocalReply, OnRequestHeaders,
    OnResponseHeaders, Outcome, RequestHeaders, ResponseHeaders, Root, StatusCode, filter_state,
    foreign,
};

use crate::condition::View;
use crate::config::{Minting, OnError, Policy, Rule, SameSite, Steer};
use crate::decision::{Decision, Reason};
use crate::scrub::Scrub;

/// The canary filter of one worker.
#[derive(Debug)]
pub struct Canary {
    policy: Policy,
    scrub: Scrub,
    sampler: Sampler,
    counters: Counted,
}

#[derive(Debug)]
struct Counted {
    decisions: Counters<ByDecision>,
    shadow_decisions: Counters<ByDecision>,
    scrubbed: Counter,
    minted: Counter,
    errors: Counter,
}

#[derive(Debug)]
struct ByDecision;

impl Labels for ByDecision {
    const NAMES: &'static [&'static str] = &["rule", "variant", "reason"];
    type Values<'a> = (&'a str, &'a str, &'a str);
}

/// What the response is to say.
#[derive(Debug, Default)]
pub struct Answer {
    cookie: Option<String>,
    explanation: Option<String>,
}

impl Filter for Canary {
    const NAME: &'static str = "canary";
    type Config = Policy;
    type Stream = Answer;
    const STATS_TAGS: StatsTags = StatsTags::of(&[ByDecision::NAMES]);

    fn configure(policy: Policy, root: &Root) -> Result<Self, ConfigureError> {
        let variants = policy.rules().iter().map(|rule| rule.all_variants().count()).sum::<usize>();
        let series = variants.saturating_mul(Reason::ALL.len());
        let budget = Budget::new(u16::try_from(series).unwrap_or(u16::MAX));
        Ok(Self {
            scrub: Scrub::of(&policy),
            policy,
            sampler: Sampler::new(),
            counters: Counted {
                decisions: root.counters("tollgate_canary_decisions", budget),
                shadow_decisions: root.counters("tollgate_canary_shadow_decisions", budget),
                scrubbed: root.counter("tollgate_canary_scrubbed"),
                minted: root.counter("tollgate_canary_minted"),
                errors: root.counter("tollgate_canary_errors"),
            },
        })
    }
}

impl OnRequestHeaders for Canary {
    fn on_request_headers(&self, answer: &mut Answer, request: &mut RequestHeaders) -> Outcome {
        let headers = match request.take() {
            Ok(headers) => headers,
            Err(error) => return self.undecided(&error),
        };
        let names = ProxyNames::default();
        let view = View::new(&headers, &names);
        let identity = Identity::of(self.policy.mint.as_ref(), &headers);
        let chosen = self.choose(&view, &identity);
        if let Err(error) = self.carry_out(request, &view, &chosen) {
            return self.undecided(&error);
        }
        if let Some(cookie) = identity.cookie() {
            self.counters.minted.increment();
            answer.cookie = Some(cookie);
        }
        answer.explanation = self.explanation(&view, &chosen);
        Ok(())
    }
}

impl OnResponseHeaders for Canary {
    fn on_response_headers(&self, answer: &mut Answer, response: &mut ResponseHeaders) -> Outcome {
        if let Some(cookie) = answer.cookie.take() {
            response.append("set-cookie", cookie)?;
        }
        if let (Some(text), Some(name)) = (answer.explanation.take(), &self.policy.explain) {
            response.set(name.as_str(), text)?;
        }
        Ok(())
    }
}

/// What a rule has decided about a request.
struct Chosen<'a> {
    rule: &'a Rule,
    decision: Decision<'a>,
    enforcement: Enforcement,
}

impl Canary {
    /// What the rules give, each place where a result is written once.
    fn choose<'a>(&'a self, view: &View<'a>, identity: &'a Identity<'_>) -> Vec<Chosen<'a>> {
        let mut chosen: Vec<Chosen<'a>> = Vec::with_capacity(self.policy.rules.len());
        for rule in &self.policy.rules {
            if chosen.iter().any(|earlier| earlier.rule.steer == rule.steer) {
                continue;
            }
            let is_for_it = rule.requests.as_ref().map(|requests| view.fits(requests));
            if matches!(is_for_it, Some(Ok(false))) {
                debug!("{}: not for this request", rule.name);
                continue;
            }
            let enforcement = rule.mode.of(view.headers(), &self.sampler);
            if enforcement == Enforcement::Off {
                debug!("{}: off", rule.name);
                continue;
            }
            let decision = if let Some(Err(why)) = is_for_it {
                debug!("{}: unclear: {why}", rule.name);
                rule.default_because(Reason::Unclear)
            } else {
                let mint = || identity.key().as_bytes();
                rule.decide(view, &self.policy.trusted, &mint, &mut |step| {
                    debug!("{}: {step}", rule.name);
                })
            };
            self.note(rule, &decision, enforcement);
            chosen.push(Chosen { rule, decision, enforcement });
        }
        chosen
    }

    fn note(&self, rule: &Rule, decision: &Decision<'_>, enforcement: Enforcement) {
        let Decision { variant, reason, .. } = decision;
        let labels = (rule.name.as_str(), variant.name.as_str(), reason.as_str());
        let (counter, verb) = match enforcement {
            Enforcement::Enforce => (&self.counters.decisions, "gets"),
            Enforcement::Shadow | Enforcement::Off => {
                (&self.counters.shadow_decisions, "would get")
            }
        };
        counter.increment(labels);
        debug!("{}: {verb} {}, {reason}", rule.name, variant.name);
        if *variant != &rule.default
            && self.sampler.sample().millionths() < self.policy.log.millionths()
        {
            info!("{}: {verb} {}, {reason}", rule.name, variant.name);
        }
    }

    /// Takes off what the request may not say, and writes what was decided. The route is chosen anew by
    /// any change of a header, and has to be asked for only where nothing else has changed.
    fn carry_out(
        &self,
        request: &mut RequestHeaders,
        view: &View<'_>,
        chosen: &[Chosen<'_>],
    ) -> Result<(), NotCarriedOut> {
        let mut marks = Vec::new();
        let mut is_kept = false;
        for Chosen { rule, decision, .. } in
            chosen.iter().filter(|chosen| chosen.enforcement == Enforcement::Enforce)
        {
            match &rule.steer {
                Steer::Header(name) | Steer::ClusterHeader(name) => {
                    marks.push((name, decision.variant.value.clone()));
                }
                Steer::BucketHeader(name) => {
                    marks.push((name, decision.place().number().to_string()));
                }
                Steer::FilterState(name) => {
                    filter_state::set(name.as_str(), &decision.variant.value)?;
                    is_kept = true;
                }
            }
        }
        let is_trusted = || view.comes_from(&self.policy.trusted);
        let (lines, changed) = self.scrub.apply(request, view.headers(), &marks, is_trusted)?;
        if lines {
            self.counters.scrubbed.increment();
        }
        if is_kept && !changed {
            foreign::clear_route_cache()?;
        }
        Ok(())
    }

    /// What was decided and why, for somebody trusted who asks.
    fn explanation(&self, view: &View<'_>, chosen: &[Chosen<'_>]) -> Option<String> {
        let name = self.policy.explain.as_ref()?;
        let asks = view.headers().first(name.as_str()).is_some();
        if !asks || !view.comes_from(&self.policy.trusted) {
            return None;
        }
        let told = chosen.iter().map(|Chosen { rule, decision, enforcement }| {
            let Decision { variant, reason, bucket } = decision;
            let shadow = if *enforcement == Enforcement::Shadow { ";shadow" } else { "" };
            let bucket =
                bucket.map(|bucket| format!(";bucket={}", bucket.number())).unwrap_or_default();
            format!("{}={};reason={reason}{bucket}{shadow}", rule.name, variant.name)
        });
        Some(told.collect::<Vec<_>>().join(", "))
    }

    #[cold]
    fn undecided(&self, error: &dyn std::fmt::Display) -> Outcome {
        self.counters.errors.increment();
        match self.policy.on_error {
            OnError::Deny => {
                warn!("cannot decide, the request is refused: {error}");
                Err(LocalReply::new(StatusCode::SERVICE_UNAVAILABLE)
                    .with_header("content-type", "text/plain")
                    .with_body("no variant can be chosen\n")
                    .with_details("tollgate_canary_undecided"))
            }
            OnError::Allow => {
                warn!("cannot decide, the request passes: {error}");
                Ok(())
            }
        }
    }
}

/// Why a decision was not carried out.
#[derive(Debug)]
enum NotCarriedOut {
    Edit(EditError),
    State(filter_state::SetError),
    Route(foreign::ForeignError),
}

impl std::fmt::Display for NotCarriedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Edit(error) => write!(f, "{error}"),
            Self::State(error) => write!(f, "{error}"),
            Self::Route(error) => write!(f, "{error}"),
        }
    }
}

impl From<EditError> for NotCarriedOut {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

impl From<filter_state::SetError> for NotCarriedOut {
    fn from(error: filter_state::SetError) -> Self {
        Self::State(error)
    }
}

impl From<foreign::ForeignError> for NotCarriedOut {
    fn from(error: foreign::ForeignError) -> Self {
        Self::Route(error)
    }
}

/// Who a client without a key is: what its cookie says, or what it is given.
struct Identity<'a> {
    minting: Option<&'a Minting>,
    /// What the client brought.
    brought: Option<String>,
    given: OnceCell<String>,
}

impl<'a> Identity<'a> {
    fn of(minting: Option<&'a Minting>, headers: &Headers) -> Self {
        let brought = minting.and_then(|minting| {
            let mut values = minting.cookie.all(headers);
            let first = values.next()?;
            // Only what this filter gives: a client cannot be anything it likes to be.
            let is_ours = first.len() == 32
                && first.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                && values.next().is_none();
            str::from_utf8(first).ok().filter(|_| is_ours).map(str::to_owned)
        });
        Self { minting, brought, given: OnceCell::new() }
    }

    fn key(&self) -> &str {
        match &self.brought {
            Some(brought) => brought,
            None => self.given.get_or_init(|| {
                // The standard library asks the host for randomness.
                let random = || RandomState::new().build_hasher().finish();
                format!("{:016x}{:016x}", random(), random())
            }),
        }
    }

    /// The cookie that the client is to keep, if it was given one.
    fn cookie(&self) -> Option<String> {
        let (minting, given) = (self.minting?, self.given.get()?);
        let same_site = match minting.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        let (name, seconds) = (&minting.cookie, minting.max_age_seconds);
        Some(format!(
            "{name}={given}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite={same_site}"
        ))
    }
}
