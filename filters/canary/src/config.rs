//! A policy: what an operator has written, parsed into what the decision takes.
//!
//! Parsing is strict. What is unknown, missing, empty or out of bounds is an error that names the place, the
//! value and the bound; so is what would never have an effect.
//!
//! Not here: how JSON is read and misfits are told, which is [`tollgate::config`].

mod check;
mod invalid;
mod written;

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::HeaderName;
use tollgate::config::Object;
use tollgate::cookie::CookieName;
use tollgate::matching::Match;
use tollgate::mode::{Mode, Percent};

pub use self::invalid::{InvalidPolicy, InvalidRule};
use self::written::WrittenPolicy;
use crate::bucket::{Layer, Range};
use crate::condition::{Condition, Senders, Source};
use crate::key::Key;

/// What the filter is to do. Made from JSON by [`tollgate::config::parse`].
///
/// # Examples
///
/// ```
/// # use tollgate_canary::config::Policy;
/// let policy: Policy = tollgate::config::parse(
///     br#"{ "salt": "shop", "rules": [ {
///         "name": "checkout", "key": [ { "header": "x-user" } ], "steer": { "header": "x-checkout" },
///         "variants": [ { "name": "v2", "share": "5%" } ] } ] }"#,
/// )?;
/// assert_eq!(policy.rules().len(), 1);
/// # Ok::<(), tollgate::config::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Object<WrittenPolicy>")]
#[schemars(with = "WrittenPolicy", description = "Which variant of a service a request gets.")]
pub struct Policy {
    pub(crate) rules: Vec<Rule>,
    pub(crate) trusted: Senders,
    pub(crate) mint: Option<Minting>,
    pub(crate) explain: Option<HeaderName>,
    pub(crate) log: Percent,
    pub(crate) on_error: OnError,
}

impl Policy {
    /// The rules, in the order they were written in: at least one.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Who may ask for a variant, and why a request got one.
    pub fn trusted(&self) -> &Senders {
        &self.trusted
    }
}

/// One choice between variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What metrics and logs call it: no other rule of the policy has this name.
    pub name: Name,
    /// Which requests it is for; `None`: for all.
    pub requests: Option<Match>,
    /// For how many of them its decision is carried out.
    pub mode: Mode,
    /// Whether all get the default.
    pub is_killed: bool,
    /// How the decision becomes a route.
    pub steer: Steer,
    /// Where somebody trusted says which variant is wanted.
    pub override_by: Option<Source>,
    /// Who gets nothing but the default: one has to hold.
    pub never: Vec<Condition>,
    /// How shares are dealt, if some variant has one.
    pub shares: Option<Shares>,
    /// What a request gets for which nothing else applies.
    pub default: Variant,
    /// What else there is: at least one.
    pub variants: Vec<Variant>,
}

impl Rule {
    /// The default, and then the other variants.
    pub fn all_variants(&self) -> impl Iterator<Item = &Variant> {
        std::iter::once(&self.default).chain(&self.variants)
    }
}

/// How the shares of a rule are dealt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The name of the layer.
    pub layer_name: Name,
    /// The layer.
    pub layer: Layer,
    /// What is dealt.
    pub key: Key,
    /// What becomes of a request without a key.
    pub unkeyed: Unkeyed,
}

/// Something that a request may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name, which no other variant of the rule has.
    pub name: Name,
    /// What the request says where it is steered.
    pub value: String,
    /// Who gets it: one has to hold.
    pub list: Vec<Condition>,
    /// Which keys get it.
    pub range: Option<Range>,
}

/// How a decision becomes a route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// A header has the value of the variant, and routes match it.
    Header(HeaderName),
    /// A header has the name of the variant's cluster, for routes with `cluster_header`.
    ClusterHeader(HeaderName),
    /// A header has the bucket, for weighted clusters with `header_name`.
    BucketHeader(HeaderName),
    /// A filter state object, `wasm.` and this name, has the value of the variant, and routes match it.
    FilterState(Name),
}

impl Steer {
    /// The header that it is written in, if it is one.
    pub fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) | Self::ClusterHeader(name) | Self::BucketHeader(name) => Some(name),
            Self::FilterState(_) => None,
        }
    }
}

/// What becomes of a request that has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unkeyed {
    /// It gets the default.
    #[default]
    Default,
    /// It gets a key, and a cookie with it.
    Mint,
}

/// A cookie that is made for clients without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minting {
    /// Its name.
    pub cookie: CookieName,
    /// How long clients keep it.
    pub max_age_seconds: u32,
    /// Whether clients send it with requests that come from other sites.
    pub same_site: SameSite,
}

/// Whether clients send a cookie with requests that come from other sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// When a link is followed.
    #[default]
    Lax,
    /// Never.
    Strict,
    /// Always.
    None,
}

/// What becomes of a request that cannot be decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is answered with 503.
    #[default]
    Deny,
    /// It passes as it came.
    Allow,
}

/// The name of a rule, a layer, a variant or a filter state object: 1 to 64 of `a` to `z`, `0` to `9`, `.`
/// and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^[a-z0-9.-]{1,64}$"))]
pub struct Name(String);

impl Name {
    /// A name.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] when it is empty, too long, or has another character.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
        };
        if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidName { name: name.to_owned() })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

/// A text that is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    name: String,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a name; use 1 to 64 of a-z, 0-9, . and -", self.name)
    }
}

impl Error for InvalidName {}
