//! What is said about a policy whose values fit one by one and not together.

use std::error::Error;
use std::fmt;

use super::RuleName;
use crate::quota::InvalidQuota;

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
        /// The rule's position, from 0.
        rule: usize,
        /// Which number, and its bound.
        problem: InvalidQuota,
    },
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules => write!(f, "rules: an empty list; name at least one rule"),
            Self::RepeatedName { rule, earlier, name } => {
                write!(f, "rules[{rule}].name: \"{name}\" is already the name of rules[{earlier}]")
            }
            Self::Quota { rule, problem } => write!(f, "rules[{rule}].limit.{problem}"),
        }
    }
}

impl Error for InvalidPolicy {}
