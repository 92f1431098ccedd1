//! What is said about a policy whose values fit one by one and not together.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use super::RuleName;
use crate::key::WrongValues;
use crate::quota::{InvalidQuota, shown};

/// Why what is written is no [`Policy`](super::Policy). The text begins with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPolicy {
    /// There is no rule.
    NoRules,
    /// Two rules have one name.
    RepeatedName {
        /// The later rule's position, from 0.
        rule: usize,
        /// The earlier rule's position, from 0.
        earlier: usize,
        /// The name of both.
        name: RuleName,
    },
    /// A limit's numbers are out of bounds.
    Quota {
        /// Where the limit stands.
        place: String,
        /// Which number, and its bound.
        problem: InvalidQuota,
    },
    /// There is no limit, or it is written in two ways.
    LimitOrLimits {
        /// Where it is missing.
        place: String,
    },
    /// Two limits of a rule have one window: the larger of them would never decide.
    RepeatedWindow {
        /// Where the later limit stands.
        place: String,
        /// The earlier limit's position, from 0.
        earlier: usize,
        /// The window of both.
        per: Duration,
    },
    /// A request may cost more than a limit ever admits.
    CostAboveBurst {
        /// Where the rule stands.
        place: String,
        /// What a request may cost.
        cost: NonZeroU64,
        /// The smallest burst of the rule.
        burst: NonZeroU64,
    },
    /// The values of an override are not those of a key.
    OverrideKey {
        /// Where the override stands.
        place: String,
        /// What is wrong with them.
        problem: WrongValues,
    },
    /// Two overrides are for one key.
    RepeatedOverride {
        /// Where the later override stands.
        place: String,
        /// The earlier override's position, from 0.
        earlier: usize,
    },
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules => write!(f, "rules: an empty list; name at least one rule"),
            Self::RepeatedName { rule, earlier, name } => {
                write!(f, "rules[{rule}].name: \"{name}\" is already the name of rules[{earlier}]")
            }
            Self::Quota { place, problem } => write!(f, "{place}.{problem}"),
            Self::LimitOrLimits { place } => write!(f, "{place}: write either `limit` or `limits`"),
            Self::RepeatedWindow { place, earlier, per } => {
                write!(f, "{place}.per: {} is already the window of limits[{earlier}]", shown(*per))
            }
            Self::CostAboveBurst { place, cost, burst } => {
                write!(f, "{place}.cost: {cost} is not at most {burst}, the smallest burst")
            }
            Self::OverrideKey { place, problem } => write!(f, "{place}.key: {problem}"),
            Self::RepeatedOverride { place, earlier } => {
                write!(f, "{place}.key: it is already the key of overrides[{earlier}]")
            }
        }
    }
}

impl Error for InvalidPolicy {}
