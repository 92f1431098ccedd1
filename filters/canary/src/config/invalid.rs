//! What is said about a policy whose values fit one by one and not together.

use std::error::Error;
use std::fmt;

use tollgate::HeaderName;

use super::Name;
use crate::bucket::{InvalidRange, Range};
use crate::condition::Source;

/// Why what is written is no [`Policy`](super::Policy). The text begins with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPolicy {
    /// There is no rule.
    NoRules,
    /// `trusted` lists nobody.
    NobodyTrusted,
    /// Clients would not keep the cookie, or not for so long.
    MaxAge {
        /// The age.
        seconds: u32,
    },
    /// The header of `explain` is one that a rule writes.
    ExplainIsMark {
        /// The header.
        header: HeaderName,
    },
    /// `explain` without anybody who may ask.
    ExplainToNobody,
    /// A rule cannot be.
    Rule {
        /// The rule's position, from 0.
        rule: usize,
        /// Why not.
        problem: InvalidRule,
    },
    /// A variant of a rule cannot be.
    Variant {
        /// The rule's position, from 0.
        rule: usize,
        /// The variant's position, from 0.
        variant: usize,
        /// Why not.
        problem: InvalidRule,
    },
}

/// Why what is written is no rule, or no variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidRule {
    /// It has the name of an earlier one.
    RepeatedName {
        /// What has the name already.
        earlier: String,
        /// The name of both.
        name: Name,
    },
    /// There is no variant.
    NoVariants,
    /// Nothing chooses the variant.
    NeverChosen,
    /// A range, and nothing of it.
    NoShare,
    /// The range cannot be.
    Range(InvalidRange),
    /// Two variants of a layer reserve the same buckets.
    Overlap {
        /// The range.
        range: Range,
        /// The variant that has some of it already.
        earlier: String,
        /// Its range.
        reserved: Range,
    },
    /// A condition that says nothing.
    EmptyCondition {
        /// The list.
        list: &'static str,
        /// The position in it, from 0.
        place: usize,
    },
    /// Shares, and nothing to deal them by.
    NoKey,
    /// A key, and no share to deal by it.
    IdleKey,
    /// Rules of one layer have different keys.
    OtherKey {
        /// The position of the earlier rule, from 0.
        earlier: usize,
        /// The layer.
        layer: Name,
    },
    /// A key from a header that is removed.
    KeyIsMark {
        /// The position in the key, from 0.
        part: usize,
        /// Where from.
        source: Source,
    },
    /// An override by a header that another rule writes.
    OverrideIsMark {
        /// The header.
        header: HeaderName,
    },
    /// An override that nobody may use.
    OverrideByNobody,
    /// Keys are to be minted, and nothing says how.
    NoMint,
    /// Two rules write one header, each in another way.
    OtherSteer {
        /// The position of the earlier rule, from 0.
        earlier: usize,
    },
    /// No name of a cluster.
    NoCluster,
    /// No name of the default's cluster.
    NoDefaultCluster,
    /// No bucket says the variant.
    NoBucket,
    /// The last bucket is not the default's.
    LastBucket {
        /// The share.
        range: Range,
    },
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules => f.write_str("rules: an empty list; name at least one rule"),
            Self::NobodyTrusted => {
                f.write_str("trusted: an empty object; list peers or addresses, or leave it out")
            }
            Self::MaxAge { seconds } => write!(
                f,
                "mint.max_age_seconds: {seconds} is not between 1 and 34560000, which is 400 days"
            ),
            Self::ExplainIsMark { header } => {
                write!(f, "explain: {header} is a header that a rule writes; take another one")
            }
            Self::ExplainToNobody => f.write_str(
                "explain: nobody is trusted to ask; list peers or addresses in `trusted`",
            ),
            Self::Rule { rule, problem } => write!(f, "rules[{rule}].{problem}"),
            Self::Variant { rule, variant, problem } => {
                write!(f, "rules[{rule}].variants[{variant}].{problem}")
            }
        }
    }
}

impl fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RepeatedName { earlier, name } => {
                write!(f, "name: \"{name}\" is already the name of {earlier}")
            }
            Self::NoVariants => f.write_str("variants: an empty list; name at least one variant"),
            Self::NeverChosen => f.write_str(
                "name: nothing chooses this variant; give it a share or a list, or the rule an override",
            ),
            Self::NoShare => f.write_str("share: missing; say how much of the range it has, 0% at first"),
            Self::Range(problem) => write!(f, "{problem}"),
            Self::Overlap { range, earlier, reserved } => write!(
                f,
                "range: {range} overlaps with {reserved} of {earlier}, which is in the same layer"
            ),
            Self::EmptyCondition { list, place } => write!(
                f,
                "{list}[{place}]: an empty object holds for every request; say what has to hold"
            ),
            Self::NoKey => f.write_str("key: missing; a variant has a share, which is dealt by it"),
            Self::IdleKey => f.write_str("key: no variant has a share to deal by it; leave it out"),
            Self::OtherKey { earlier, layer } => write!(
                f,
                "key: not that of rules[{earlier}], which is in the same layer \"{layer}\"; \
                 make them equal, or take another layer"
            ),
            Self::KeyIsMark { part, source } => write!(
                f,
                "key[{part}]: {source} is removed from requests, as a rule or the filter writes it; \
                 take another one"
            ),
            Self::OverrideIsMark { header } => write!(
                f,
                "override.header: {header} is a header that another rule writes; take another one"
            ),
            Self::OverrideByNobody => {
                f.write_str("override: nobody is trusted to ask; list peers or addresses in `trusted`")
            }
            Self::NoMint => f.write_str("unkeyed: `mint` needs `mint` in the policy, for its cookie"),
            Self::OtherSteer { earlier } => write!(
                f,
                "steer: rules[{earlier}] writes the same header in another way; take another header"
            ),
            Self::NoCluster => f.write_str("value: missing; `cluster_header` takes the name of a cluster"),
            Self::NoDefaultCluster => {
                f.write_str("default.value: missing; `cluster_header` takes the name of a cluster")
            }
            Self::NoBucket => f.write_str(
                "share: no bucket; `bucket_header` says a variant by its first one, so give it at \
                 least 0.0001%",
            ),
            Self::LastBucket { range } => write!(
                f,
                "share: {} from {} on takes the last bucket, 999999, by which `bucket_header` says \
                 the default; leave that to it",
                range.share(),
                range.from()
            ),
        }
    }
}

impl Error for InvalidPolicy {}
