//! What both filters share: asks the proxy who calls, has the policy decide, counts and logs.

use std::fmt;
use std::time::Duration;

use tollgate::attributes::{Attribute, AttributeError, Text, filter_state};
use tollgate::log::{debug, info, warn};
use tollgate::metrics::{Budget, Counters, Labels};
use tollgate::mode::{Enforcement, Sampler};
use tollgate::{Clock, Headers, HostError, Root, Throttle};

use crate::identity::{Caller, Presented, Refusal, Source, WAYPOINT_PRINCIPAL};
use crate::policy::{Decision, OnError, Policy, ProxyConnection, View};
use crate::time::Moment;

/// The header in which proxies tell of their clients.
const XFCC: &str = "x-forwarded-client-cert";

/// The policy of one worker, with what it counts.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) policy: Policy,
    clock: Clock,
    sampler: Sampler,
    denials: Throttle,
    audits: Throttle,
    decisions: Counters<ByDecision>,
    shadow_decisions: Counters<ByDecision>,
    flips: Counters<ByFlip>,
    audited: Counters<ByRule>,
    errors: Counters<ByOutcome>,
}

/// Decisions by what decided.
#[derive(Debug)]
pub(crate) struct ByDecision;

impl Labels for ByDecision {
    const NAMES: &'static [&'static str] = &["rule", "outcome", "reason"];
    type Values<'a> = (&'a str, &'a str, &'a str);
}

/// What the next rules would change.
#[derive(Debug)]
pub(crate) struct ByFlip;

impl Labels for ByFlip {
    const NAMES: &'static [&'static str] = &["rule", "flip"];
    type Values<'a> = (&'a str, &'a str);
}

/// What rules of `audit` have seen.
#[derive(Debug)]
pub(crate) struct ByRule;

impl Labels for ByRule {
    const NAMES: &'static [&'static str] = &["rule"];
    type Values<'a> = &'a str;
}

/// What becomes of what cannot be decided.
#[derive(Debug)]
pub(crate) struct ByOutcome;

impl Labels for ByOutcome {
    const NAMES: &'static [&'static str] = &["outcome"];
    type Values<'a> = &'a str;
}

/// What is to happen.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It passes. Who calls, if that is known and believed.
    Passes(Option<Caller>),
    /// It does not, for this reason.
    Denied(Denial),
    /// The proxy does not say enough, and it does not pass.
    Undecided,
}

/// Why something does not pass: the rule, the reason and the clause, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial(pub(crate) String);

impl Guard {
    pub(crate) fn new(policy: Policy, root: &Root) -> Self {
        let rules = policy.rules.rules().len().saturating_add(1);
        let next = policy.next.as_ref().map_or(0, |next| next.rules().len()).saturating_add(1);
        let budget = |series: usize| Budget::new(u16::try_from(series).unwrap_or(u16::MAX));
        // A rule decides in one way, comes closest in one, or is unclear; without a rule there are the reasons
        // of identities.
        let by_decision = budget(rules.saturating_mul(4).saturating_add(32));
        Self {
            policy,
            clock: root.clock(),
            sampler: Sampler::new(),
            denials: Throttle::new(Duration::from_secs(1)),
            audits: Throttle::new(Duration::from_secs(1)),
            decisions: root.counters("tollgate_mtls_decisions", by_decision),
            shadow_decisions: root.counters("tollgate_mtls_shadow_decisions", by_decision),
            flips: root.counters("tollgate_mtls_flips", budget(next.saturating_mul(2))),
            audited: root.counters("tollgate_mtls_audited", budget(rules)),
            errors: root.counters("tollgate_mtls_errors", budget(2)),
        }
    }

    /// Whether what is at hand may pass.
    pub(crate) fn judge(&self, headers: Option<&Headers>) -> Verdict {
        let none = Headers::default();
        let enforcement = self.policy.mode.of(headers.unwrap_or(&none), &self.sampler);
        if enforcement == Enforcement::Off {
            return Verdict::Passes(None);
        }
        match self.decide(headers, enforcement) {
            Ok(verdict) => verdict,
            Err(error) => self.undecided(&error, enforcement),
        }
    }

    fn decide(
        &self,
        headers: Option<&Headers>,
        enforcement: Enforcement,
    ) -> Result<Verdict, Unanswered> {
        let nanos = self.clock.unix_nanos().map_err(Unanswered::Host)?;
        let now = Moment::from_unix_nanos(nanos);
        let standing = self.caller(headers, now).map_err(Unanswered::Attribute)?;
        let caller = standing.as_ref().ok().and_then(Option::as_ref);
        let (policy, connection) = (&self.policy, ProxyConnection);
        let view = View::new(caller, &connection, headers, now, &policy.trust_domains);
        let decision = match &standing {
            Err(refusal) => Decision::refused(*refusal),
            Ok(None) if policy.identity.is_required => Decision::of_nobody(),
            Ok(_) => policy.rules.decide(&view),
        };
        if standing.is_ok() {
            self.watch(&view, &decision, nanos);
        }
        let counted = match enforcement {
            Enforcement::Enforce => &self.decisions,
            Enforcement::Shadow | Enforcement::Off => &self.shadow_decisions,
        };
        let outcome = if decision.allows { "allow" } else { "deny" };
        counted.increment((decision.rule.unwrap_or("none"), outcome, decision.reason.as_str()));
        debug!("{outcome}: {}", Told(&decision));
        if decision.allows {
            return Ok(Verdict::Passes(standing.ok().flatten()));
        }
        let is_enforced = enforcement == Enforcement::Enforce;
        if let Some(held_back) = self.denials.pass(nanos) {
            let verb = if is_enforced { "denied" } else { "would be denied" };
            warn!("{verb}: {} ({held_back} more since the last line)", Told(&decision));
        }
        if is_enforced {
            Ok(Verdict::Denied(Denial(Told(&decision).to_string())))
        } else {
            Ok(Verdict::Passes(standing.ok().flatten()))
        }
    }

    /// What the next rules would say, and rules that only watch.
    fn watch(&self, view: &View<'_>, decision: &Decision<'_>, nanos: u64) {
        for rule in self.policy.rules.audited(view) {
            self.audited.increment(&rule.name);
            if let Some(held_back) = self.audits.pass(nanos) {
                info!("audited: rule {} ({held_back} more since the last line)", rule.name);
            }
        }
        // Whom no rule is asked about, the next rules do not change.
        let is_ruled = view.caller.is_some() || !self.policy.identity.is_required;
        if let Some(next) = self.policy.next.as_ref().filter(|_| is_ruled) {
            let next = next.decide(view);
            let flip = match (decision.allows, next.allows) {
                (true, false) => "allow_to_deny",
                (false, true) => "deny_to_allow",
                (true, true) | (false, false) => return,
            };
            self.flips.increment((next.rule.unwrap_or("none"), flip));
            debug!("next: {flip}, {}", Told(&next));
        }
    }

    fn caller(
        &self,
        headers: Option<&Headers>,
        now: Moment,
    ) -> Result<Result<Option<Caller>, Refusal>, AttributeError> {
        let identity = &self.policy.identity;
        if identity.source == Source::Waypoint {
            let principal = waypoint_principal()?;
            return Ok(identity.of_waypoint(principal.as_ref().map(Text::as_bytes)));
        }
        let presented = Presented::read(identity.checks.reads)?;
        let holder = identity.of_connection(presented, now);
        let Source::Forwarded(forwarded) = &identity.source else {
            return Ok(holder);
        };
        let lines = headers.into_iter().flat_map(|headers| headers.all(XFCC));
        Ok(holder.and_then(|proxy| identity.of_forwarded(forwarded, proxy.as_ref(), lines, now)))
    }

    #[cold]
    fn undecided(&self, error: &Unanswered, enforcement: Enforcement) -> Verdict {
        let passes = enforcement != Enforcement::Enforce || self.policy.on_error == OnError::Allow;
        if passes {
            self.errors.increment("allow");
            warn!("cannot decide, it passes: {error}");
            Verdict::Passes(None)
        } else {
            self.errors.increment("deny");
            warn!("cannot decide, it is refused: {error}");
            Verdict::Undecided
        }
    }

    /// Counts and tells that a request could not be changed as it has to be; it does not pass.
    #[cold]
    pub(crate) fn unchanged(&self, error: &dyn fmt::Display) {
        self.errors.increment("deny");
        warn!("the identity cannot be forwarded, it is refused: {error}");
    }
}

fn waypoint_principal() -> Result<Option<Text>, AttributeError> {
    let attribute: Option<Attribute<Text>> = filter_state(WAYPOINT_PRINCIPAL).ok();
    attribute.map_or(Ok(None), |attribute| attribute.read())
}

/// The proxy does not say what a decision needs.
#[derive(Debug)]
enum Unanswered {
    Host(HostError),
    Attribute(AttributeError),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => write!(f, "{error}"),
            Self::Attribute(error) => write!(f, "{error}"),
        }
    }
}

/// A decision in words, without a value that a client has sent.
struct Told<'a>(&'a Decision<'a>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision { rule, reason, clause, .. } = self.0;
        write!(f, "{}", reason.as_str())?;
        if let Some(rule) = rule {
            write!(f, ", rule {rule}")?;
        }
        clause.map_or(Ok(()), |clause| write!(f, ", clause {clause}"))
    }
}
