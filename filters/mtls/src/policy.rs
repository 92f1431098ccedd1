//! Policies: who may do what. A superset of Istio's `AuthorizationPolicy`, decided by pure code.
//!
//! Exceptions come first, then rules that deny, then rules that allow; what is left is denied unless the
//! policy says otherwise. What nobody can tell, because a request may be read in two ways or the proxy does
//! not answer, counts against the caller: a rule that denies applies, and one that allows does not.

mod clause;
mod connections;
mod header;
mod invalid;
mod section;
mod view;
mod written;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::HeaderName;
use tollgate::config::Object;
use tollgate::mode::Mode;
use tollgate::origin::SpiffeId;

pub use self::clause::{Clause, Field, Part, Pattern, Unclear};
pub use self::header::{HeaderCondition, Quantifier, TextMatch, Values};
pub use self::invalid::{InvalidPolicy, InvalidRule};
pub use self::view::{Connection, ProxyConnection, View};
use self::written::WrittenPolicy;
use crate::identity::{Identity, Refusal};
use crate::time::Moment;

/// What the filter is to do. Made from JSON by [`tollgate::config::parse`].
///
/// # Examples
///
/// ```
/// # use tollgate_mtls::policy::Policy;
/// let policy: Policy = tollgate::config::parse(
///     br#"{ "rules": [ { "name": "carts", "action": "allow",
///         "from": [ { "principals": [ "spiffe://example.org/ns/shop/sa/*" ] } ] } ] }"#,
/// )?;
/// assert_eq!(policy.rules().rules().len(), 1);
/// # Ok::<(), tollgate::config::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Object<WrittenPolicy>")]
#[schemars(with = "WrittenPolicy", description = "Who is calling, and may they.")]
pub struct Policy {
    pub(crate) identity: Identity,
    pub(crate) trust_domains: TrustDomains,
    pub(crate) rules: RuleSet,
    pub(crate) next: Option<RuleSet>,
    pub(crate) answer: Answer,
    pub(crate) forward: Option<HeaderName>,
    pub(crate) mode: Mode,
    pub(crate) on_error: OnError,
}

impl Policy {
    /// Where identities come from.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The trust domains that stand for one.
    pub fn trust_domains(&self) -> &TrustDomains {
        &self.trust_domains
    }

    /// The rules that decide.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The rules that are watched, to decide one day.
    pub fn next(&self) -> Option<&RuleSet> {
        self.next.as_ref()
    }
}

/// A policy for connections of TCP: without what only requests have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Object<WrittenPolicy>")]
pub struct ConnectionPolicy(pub(crate) Policy);

/// The policy's own trust domain, and others that stand for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustDomains {
    pub(crate) own: Option<String>,
    pub(crate) aliases: Vec<String>,
}

impl TrustDomains {
    /// What an ID is called in the own trust domain; `None` when it is of another one.
    pub fn localised(&self, id: &SpiffeId) -> Option<SpiffeId> {
        let own = self.own.as_deref()?;
        match id.trust_domain() {
            domain if domain == own => Some(id.clone()),
            domain if self.aliases.iter().any(|alias| alias == domain) => {
                SpiffeId::parse(&format!("spiffe://{own}{}", id.path())).ok()
            }
            _ => None,
        }
    }
}

/// Rules, and what becomes of what none of them is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    pub(crate) rules: Vec<Rule>,
    pub(crate) otherwise: Otherwise,
}

/// What becomes of requests that no rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// They are denied.
    #[default]
    Deny,
    /// They pass.
    Allow,
}

/// Something that a policy says of some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What metrics and logs call it: no other rule of the set has this name.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// Who calls: all clauses of one of these. Anybody, if there are none.
    pub from: Vec<Vec<Clause>>,
    /// What is called: all clauses of one of these. Anything, if there are none.
    pub to: Vec<Vec<Clause>>,
    /// What the headers are: all of these.
    pub when: Vec<HeaderCondition>,
    /// The last second at which it applies.
    pub expires: Option<Moment>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It lets pass what rules deny, until it expires.
    Except,
    /// It denies.
    Deny,
    /// It lets pass.
    Allow,
    /// It is counted and logged, and decides nothing.
    Audit,
}

/// What a client that is denied gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) explains: bool,
}

/// What becomes of a request when the proxy does not say who calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is answered with 503.
    #[default]
    Deny,
    /// It passes, without a forwarded identity.
    Allow,
}

/// Whether a request may pass, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it may.
    pub allows: bool,
    /// The rule that decided, or came closest where none did.
    pub rule: Option<&'a str>,
    /// Why.
    pub reason: Reason,
    /// The clause that failed, or that nobody can tell.
    pub clause: Option<&'static str>,
}

/// Why a request may pass, or may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// What it shows cannot be believed.
    Identity(Refusal),
    /// It shows nothing, and has to.
    NoIdentity,
    /// An exception is about it.
    Except,
    /// A rule denies it.
    Deny,
    /// A rule may deny it: nobody can tell.
    Unclear,
    /// A rule lets it pass.
    Allow,
    /// No rule is about it.
    Otherwise,
}

impl Reason {
    /// How metrics and logs call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity(refusal) => refusal.as_str(),
            Self::NoIdentity => "no_identity",
            Self::Except => "except",
            Self::Deny => "deny",
            Self::Unclear => "unclear",
            Self::Allow => "allow",
            Self::Otherwise => "otherwise",
        }
    }
}

/// How far a rule is about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Fits,
    /// Nobody can tell, because of this clause.
    Unclear(&'static str),
    /// It is not, because of this clause, the last that was looked at; after so many parts that fit.
    Fails(usize, &'static str),
}

impl<'a> Decision<'a> {
    /// The decision about a caller that cannot be believed.
    pub const fn refused(refusal: Refusal) -> Self {
        Self { allows: false, rule: None, reason: Reason::Identity(refusal), clause: None }
    }

    /// The decision about nobody, where somebody has to call.
    pub const fn of_nobody() -> Self {
        Self { allows: false, rule: None, reason: Reason::NoIdentity, clause: None }
    }

    const fn by(rule: &'a Rule, allows: bool, reason: Reason) -> Self {
        Self { allows, rule: Some(rule.name.as_str()), reason, clause: None }
    }
}

impl RuleSet {
    /// The rules, in the order they were written in.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a request may pass.
    pub fn decide(&self, view: &View<'_>) -> Decision<'_> {
        let of = |action| self.rules.iter().filter(move |rule| rule.action == action);
        if let Some(rule) = of(Action::Except).find(|rule| rule.fit(view) == Fit::Fits) {
            return Decision::by(rule, true, Reason::Except);
        }
        for rule in of(Action::Deny) {
            match rule.fit(view) {
                Fit::Fits => return Decision::by(rule, false, Reason::Deny),
                Fit::Unclear(clause) => {
                    let decision = Decision::by(rule, false, Reason::Unclear);
                    return Decision { clause: Some(clause), ..decision };
                }
                Fit::Fails(..) => {}
            }
        }
        let mut closest: Option<(usize, &Rule, &'static str)> = None;
        for rule in of(Action::Allow) {
            let (depth, clause) = match rule.fit(view) {
                Fit::Fits => return Decision::by(rule, true, Reason::Allow),
                Fit::Unclear(clause) => (usize::MAX, clause),
                Fit::Fails(depth, clause) => (depth, clause),
            };
            if closest.is_none_or(|(deepest, ..)| depth > deepest) {
                closest = Some((depth, rule, clause));
            }
        }
        Decision {
            allows: self.otherwise == Otherwise::Allow,
            rule: closest.map(|(_, rule, _)| rule.name.as_str()),
            reason: Reason::Otherwise,
            clause: closest.map(|(.., clause)| clause),
        }
    }

    /// The rules of `audit` that are about a request, or may be.
    pub fn audited<'a>(&'a self, view: &'a View<'_>) -> impl Iterator<Item = &'a Rule> {
        let audits = self.rules.iter().filter(|rule| rule.action == Action::Audit);
        audits.filter(|rule| !matches!(rule.fit(view), Fit::Fails(..)))
    }
}

impl Rule {
    fn fit(&self, view: &View<'_>) -> Fit {
        if self.expires.is_some_and(|last| view.now > last) {
            return Fit::Fails(0, "expires");
        }
        let mut unclear = None;
        for (depth, alternatives) in [&self.from, &self.to].into_iter().enumerate() {
            match any(alternatives, view) {
                Fit::Fits => {}
                Fit::Unclear(clause) => unclear = unclear.or(Some(clause)),
                Fit::Fails(_, clause) => return Fit::Fails(depth, clause),
            }
        }
        // Without headers nobody can tell; a policy of connections has no such condition.
        for condition in &self.when {
            match view.headers.map(|headers| condition.holds(headers)) {
                Some(true) => {}
                Some(false) => return Fit::Fails(2, "when"),
                None => unclear = unclear.or(Some("when")),
            }
        }
        unclear.map_or(Fit::Fits, Fit::Unclear)
    }
}

/// Whether all clauses of one of these hold.
fn any(alternatives: &[Vec<Clause>], view: &View<'_>) -> Fit {
    let mut closest = None;
    for clauses in alternatives {
        match all(clauses, view) {
            Fit::Fits => return Fit::Fits,
            fit @ Fit::Unclear(_) => closest = Some(fit),
            fit @ Fit::Fails(..) => closest = closest.or(Some(fit)),
        }
    }
    closest.unwrap_or(Fit::Fits)
}

/// Whether all of these hold.
fn all(clauses: &[Clause], view: &View<'_>) -> Fit {
    let mut unclear = None;
    for clause in clauses {
        match clause.holds(view) {
            Ok(true) => {}
            // Whatever is unclear, this is about others.
            Ok(false) => return Fit::Fails(0, clause.name),
            Err(Unclear) => unclear = unclear.or(Some(clause.name)),
        }
    }
    unclear.map_or(Fit::Fits, Fit::Unclear)
}
