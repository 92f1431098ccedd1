//! What is said about a policy whose values fit one by one and not together.

use std::error::Error;
use std::fmt;

use super::Field;
use super::{Action, Otherwise, Policy, Rule, RuleSet};
use crate::identity::{Reads, Source};
use crate::time::InvalidDate;

/// The most rules of a set: each has metrics of its own.
const MOST_RULES: usize = 256;

/// Why what is written is no policy. The text begins with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPolicy {
    /// `hops` out of bounds.
    Hops {
        /// What is written.
        hops: u8,
    },
    /// Forwarded identities, and no proxies that are believed.
    NoProxies,
    /// Proxies that are believed, and nothing is forwarded.
    NotForwarded,
    /// Nobody is revoked.
    NobodyRevoked,
    /// No certificate is young enough.
    MaxAge,
    /// Only a whole certificate has it.
    NeedsCertificate {
        /// The field.
        field: &'static str,
    },
    /// Aliases of no trust domain.
    AliasesOfNone,
    /// A status that no refusal has.
    Status {
        /// The status.
        status: u16,
    },
    /// The answer would tell what the status hides.
    CloakExplains,
    /// Only requests have it.
    OnlyRequests {
        /// The field.
        field: &'static str,
    },
    /// Too many rules, or a rule that lets pass beside `otherwise: allow`.
    Rules {
        /// Where they are.
        place: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A rule cannot be.
    Rule {
        /// Where the rules are.
        place: &'static str,
        /// The rule's position, from 0.
        rule: usize,
        /// Why not.
        problem: InvalidRule,
    },
}

/// Why what is written is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidRule {
    /// The name has other characters, or is too long.
    Name {
        /// The name.
        name: String,
    },
    /// It has the name of an earlier one.
    RepeatedName {
        /// The name of both.
        name: String,
    },
    /// The day is none.
    Expires(InvalidDate),
    /// An exception without an end.
    NoEnd,
    /// A rule whose end would let pass what it denies.
    EndOpens,
    /// A condition cannot be.
    When {
        /// The condition's position, from 0.
        place: usize,
        /// Why not.
        problem: String,
    },
    /// A clause that needs `trust_domain`.
    NoTrustDomain {
        /// The clause.
        clause: &'static str,
    },
    /// A clause about what only requests have.
    OnlyRequests {
        /// The part.
        part: &'static str,
        /// The clause.
        clause: &'static str,
    },
}

/// A rule that cannot be, in some list.
pub(super) struct AtRule {
    pub(super) place: usize,
    pub(super) problem: InvalidRule,
}

impl AtRule {
    pub(super) fn within(self, place: &'static str) -> InvalidPolicy {
        InvalidPolicy::Rule { place, rule: self.place, problem: self.problem }
    }
}

/// The policy, if its values fit together.
pub(super) fn check(policy: Policy) -> Result<Policy, InvalidPolicy> {
    let reads = policy.identity.checks.reads;
    if reads == Reads::FirstNames {
        if policy.identity.checks.max_age_seconds.is_some() {
            return Err(InvalidPolicy::NeedsCertificate { field: "identity.max_age_seconds" });
        }
        if !policy.identity.revoked.serials.is_empty() {
            return Err(InvalidPolicy::NeedsCertificate { field: "revoked.serials" });
        }
    }
    if policy.trust_domains.own.is_none() && !policy.trust_domains.aliases.is_empty() {
        return Err(InvalidPolicy::AliasesOfNone);
    }
    match (policy.answer.status, policy.answer.explains) {
        (404, true) => return Err(InvalidPolicy::CloakExplains),
        (403 | 404, _) => {}
        (status, _) => return Err(InvalidPolicy::Status { status }),
    }
    let is_local = policy.trust_domains.own.is_some();
    check_set("rules", &policy.rules, is_local)?;
    policy.next.as_ref().map_or(Ok(()), |next| check_set("next.rules", next, is_local))?;
    Ok(policy)
}

fn check_set(place: &'static str, set: &RuleSet, is_local: bool) -> Result<(), InvalidPolicy> {
    let at = |rule, problem| InvalidPolicy::Rule { place, rule, problem };
    if set.rules.len() > MOST_RULES {
        return Err(InvalidPolicy::Rules { place, problem: "more than 256; there may be no more" });
    }
    let allows = |rule: &Rule| rule.action == Action::Allow;
    if set.otherwise == Otherwise::Allow && set.rules.iter().any(allows) {
        let problem =
            "a rule that allows has no effect beside `otherwise: allow`; remove one of them";
        return Err(InvalidPolicy::Rules { place, problem });
    }
    for (index, rule) in set.rules.iter().enumerate() {
        let earlier = set.rules.get(..index).unwrap_or_default();
        if earlier.iter().any(|earlier| earlier.name == rule.name) {
            return Err(at(index, InvalidRule::RepeatedName { name: rule.name.clone() }));
        }
        match (rule.action, rule.expires) {
            (Action::Except, None) => return Err(at(index, InvalidRule::NoEnd)),
            (Action::Deny, Some(_)) => return Err(at(index, InvalidRule::EndOpens)),
            _ => {}
        }
        let needs = |field| matches!(field, Field::Namespaces | Field::ServiceAccounts);
        if let Some(clause) = rule.from.iter().flatten().find(|clause| needs(clause.field))
            && !is_local
        {
            return Err(at(index, InvalidRule::NoTrustDomain { clause: clause.name }));
        }
    }
    Ok(())
}

/// The policy, if connections have all that it asks for.
pub(super) fn check_connections(policy: Policy) -> Result<Policy, InvalidPolicy> {
    if matches!(policy.identity.source, Source::Forwarded(_)) {
        return Err(InvalidPolicy::OnlyRequests { field: "identity.forwarded" });
    }
    if policy.forward.is_some() {
        return Err(InvalidPolicy::OnlyRequests { field: "forward" });
    }
    let sets = [("rules", Some(&policy.rules)), ("next.rules", policy.next.as_ref())];
    for (place, set) in sets {
        for (index, rule) in set.into_iter().flat_map(|set| set.rules.iter().enumerate()) {
            let only = |part, clause| InvalidPolicy::Rule {
                place,
                rule: index,
                problem: InvalidRule::OnlyRequests { part, clause },
            };
            if !rule.when.is_empty() {
                return Err(only("when", "header"));
            }
            let mut clauses = rule.to.iter().flatten();
            if let Some(clause) = clauses.find(|clause| !clause.field.is_of_connections()) {
                return Err(only("to", clause.name));
            }
        }
    }
    Ok(policy)
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hops { hops } => {
                write!(f, "identity.forwarded.hops: {hops} is not between 1 and 32")
            }
            Self::NoProxies => {
                f.write_str("identity.forwarded: missing; say which proxies are believed")
            }
            Self::NotForwarded => f.write_str(
                "identity.forwarded: has no effect unless `source` is `forwarded`; leave it out",
            ),
            Self::NobodyRevoked => f.write_str("revoked: nobody; name somebody, or leave it out"),
            Self::MaxAge => f.write_str("identity.max_age_seconds: 0 is not at least 1"),
            Self::NeedsCertificate { field } => write!(
                f,
                "{field}: cannot be seen in first names; leave it out, or `reads: first_names`"
            ),
            Self::AliasesOfNone => {
                f.write_str("trust_domain: missing; say what `trust_domain_aliases` stand for")
            }
            Self::Status { status } => write!(f, "answer.status: {status} is not 403 or 404"),
            Self::CloakExplains => {
                f.write_str("answer.explain: would tell what the status 404 hides; leave it out")
            }
            Self::OnlyRequests { field } => {
                write!(f, "{field}: connections have no requests; leave it out")
            }
            Self::Rules { place, problem } => write!(f, "{place}: {problem}"),
            Self::Rule { place, rule, problem } => write!(f, "{place}[{rule}].{problem}"),
        }
    }
}

impl Error for InvalidPolicy {}

impl fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => {
                write!(f, "name: {name:?} is not a name; use 1 to 64 of a-z, 0-9, . and -")
            }
            Self::RepeatedName { name } => {
                write!(f, "name: {name:?} is already the name of an earlier rule")
            }
            Self::Expires(why) => write!(f, "expires: {why}"),
            Self::NoEnd => f.write_str("expires: missing; an exception has a last day"),
            Self::EndOpens => f.write_str(
                "expires: a rule that denies would let pass after it; write an exception instead",
            ),
            Self::When { place, problem } => write!(f, "when[{place}]: {problem}"),
            Self::NoTrustDomain { clause } => {
                write!(f, "from: {clause} are those of one trust domain; write `trust_domain`")
            }
            Self::OnlyRequests { part, clause } => {
                write!(f, "{part}: {clause} is of requests, and connections have none")
            }
        }
    }
}

impl Error for InvalidRule {}
