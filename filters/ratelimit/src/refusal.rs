//! Why a request does not pass, and the words for it: in metrics and in the log.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tollgate::matching::Ambiguity;

use crate::answer::Told;
use crate::gcra::{Left, retry_after_seconds};
use crate::key::NoKey;
use crate::rules::StoredRule;

/// Why a request does not pass.
#[derive(Clone, Debug)]
pub(crate) enum Refusal<'a> {
    /// Its key has spent what it may.
    BeyondLimit {
        rule: &'a StoredRule,
        /// The limits that refuse: at least one.
        limits: Vec<Beyond>,
    },
    /// It has no key.
    Unkeyed { rule: &'a StoredRule, why: NoKey<'a> },
    /// Nobody can say whether the rule is for it.
    Ambiguous { rule: &'a StoredRule, why: Ambiguity },
    /// The proxy has failed, and nobody knows.
    Undecided,
}

/// A limit that refuses a request.
#[derive(Clone, Debug)]
pub(crate) struct Beyond {
    pub(crate) told: Rc<Told>,
    /// How long until it admits the request; `None` when it never does, or nobody says.
    pub(crate) wait: Option<Duration>,
    /// What is left of it, where that is known.
    pub(crate) left: Option<Left>,
}

impl<'a> Refusal<'a> {
    /// The rule that refuses.
    pub(crate) fn rule(&self) -> Option<&'a StoredRule> {
        match self {
            Self::BeyondLimit { rule, .. }
            | Self::Unkeyed { rule, .. }
            | Self::Ambiguous { rule, .. } => Some(rule),
            Self::Undecided => None,
        }
    }

    /// Why, in metrics: where it is enforced, and where it is not.
    pub(crate) fn reasons(&self) -> (&'static str, &'static str) {
        match self {
            Self::BeyondLimit { .. } => ("refused", "shadow_refused"),
            Self::Unkeyed { .. } => ("unkeyed", "shadow_unkeyed"),
            Self::Ambiguous { .. } => ("ambiguous", "shadow_ambiguous"),
            Self::Undecided => ("undecided", "shadow_undecided"),
        }
    }
}

/// How long until all of these admit a request; `None` when one never does.
pub(crate) fn longest_wait(limits: &[Beyond]) -> Option<Duration> {
    limits.iter().try_fold(Duration::ZERO, |longest, limit| Some(longest.max(limit.wait?)))
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondLimit { limits, .. } => match longest_wait(limits) {
                Some(wait) => write!(f, "refused for {} s", retry_after_seconds(wait)),
                None => f.write_str("refused"),
            },
            Self::Unkeyed { why, .. } => write!(f, "refused without a key, {why}"),
            Self::Ambiguous { why, .. } => write!(f, "refused, {why}"),
            Self::Undecided => f.write_str("refused, nobody knows"),
        }
    }
}
