//! What a request gets, and why: pure, and the same for the same request, whoever asks.
//!
//! The order is part of the contract: the kill switch, an override by somebody trusted, never, a list, a
//! share, the default. The first that applies decides. What cannot be told gives the default, so that a
//! request that can be read in two ways never gets more than any other.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use crate::bucket::Bucket;
use crate::condition::{Condition, NotOneValue, Senders, Unclear, View};
use crate::config::{Name, Rule, Unkeyed, Variant};
use crate::key::NoKey;

/// The result of a rule for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What the request gets.
    pub variant: &'a Variant,
    /// Why.
    pub reason: Reason,
    /// Where its key lies, if that was asked.
    pub bucket: Option<Bucket>,
}

impl Decision<'_> {
    /// A bucket by which weighted clusters come to the same: that of the key, if its share decided, else
    /// the first of the variant, or the last, which is the default's.
    pub fn place(&self) -> Bucket {
        let first = || self.variant.range.map_or(Bucket::LAST, |range| range.first());
        self.bucket.unwrap_or_else(first)
    }
}

/// Why a request gets what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The kill switch is on.
    Killed,
    /// Somebody trusted asked for it.
    Override,
    /// It is never to get anything but the default.
    Never,
    /// It is on the list of the variant.
    List,
    /// Its key lies in the share of the variant.
    Share,
    /// Nothing else applies.
    Default,
    /// It has no key by which shares could be dealt.
    Unkeyed,
    /// Nobody can say what applies.
    Unclear,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Killed,
        Self::Override,
        Self::Never,
        Self::List,
        Self::Share,
        Self::Default,
        Self::Unkeyed,
        Self::Unclear,
    ];

    /// What metrics and answers call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Override => "override",
            Self::Never => "never",
            Self::List => "list",
            Self::Share => "share",
            Self::Default => "default",
            Self::Unkeyed => "unkeyed",
            Self::Unclear => "unclear",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step on the way to a decision. It tells no value of the request.
#[derive(Debug)]
pub enum Step<'a> {
    /// The kill switch is on.
    Killed,
    /// Nobody asked for a variant.
    NotAsked,
    /// Somebody asked for a variant who may not.
    Untrusted,
    /// Somebody trusted asked for what is no variant.
    UnknownVariant,
    /// Somebody trusted asked for this variant.
    Asked(&'a Name),
    /// This condition of `never` holds, counted from 0.
    Never(usize),
    /// No condition of `never` holds.
    NotNever,
    /// This condition of a list holds, counted from 0.
    Listed(&'a Name, usize),
    /// No condition of a list holds.
    NotListed(&'a Name),
    /// Nobody can say whether a condition holds.
    Unclear(Unclear),
    /// There is no key.
    Unkeyed(NoKey<'a>),
    /// The key lies here.
    Bucket(Bucket),
    /// The bucket is in the share of this variant.
    Within(&'a Variant),
    /// The bucket is not in the share of this variant.
    Outside(&'a Variant),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("kill switch: on"),
            Self::NotAsked => f.write_str("override: not asked for"),
            Self::Untrusted => f.write_str("override: asked for by somebody who is not trusted"),
            Self::UnknownVariant => f.write_str("override: what is asked for is no one variant"),
            Self::Asked(name) => write!(f, "override: {name}"),
            Self::Never(place) => write!(f, "never[{place}]: holds"),
            Self::NotNever => f.write_str("never: no condition holds"),
            Self::Listed(name, place) => write!(f, "list of {name}: [{place}] holds"),
            Self::NotListed(name) => write!(f, "list of {name}: no condition holds"),
            Self::Unclear(why) => write!(f, "unclear: {why}"),
            Self::Unkeyed(why) => write!(f, "key: {why}"),
            Self::Bucket(bucket) => write!(f, "key: bucket {}", bucket.number()),
            Self::Within(variant) => {
                write!(f, "share of {}: within {}", variant.name, Shown(variant))
            }
            Self::Outside(variant) => {
                write!(f, "share of {}: outside {}", variant.name, Shown(variant))
            }
        }
    }
}

/// The share of a variant.
struct Shown<'a>(&'a Variant);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.range {
            Some(range) => write!(f, "the first {} of {range}", range.share()),
            None => f.write_str("nothing"),
        }
    }
}

/// Gives a key to a request that has none of its own: the same each time.
pub type Mint<'a> = dyn Fn() -> &'a [u8] + 'a;

impl Rule {
    /// What a request gets. Each step on the way is told to `note`.
    pub fn decide<'a>(
        &'a self,
        request: &View<'a>,
        trusted: &Senders,
        mint: &Mint<'a>,
        note: &mut dyn FnMut(&Step<'a>),
    ) -> Decision<'a> {
        self.killed(note)
            .or_else(|| self.overridden(request, trusted, note))
            .or_else(|| self.never(request, note))
            .or_else(|| self.listed(request, note))
            .unwrap_or_else(|| self.dealt(request, mint, note))
    }

    /// The default.
    pub fn default_because(&self, reason: Reason) -> Decision<'_> {
        Decision { variant: &self.default, reason, bucket: None }
    }

    fn killed<'a>(&'a self, note: &mut dyn FnMut(&Step<'a>)) -> Option<Decision<'a>> {
        self.is_killed.then(|| {
            note(&Step::Killed);
            self.default_because(Reason::Killed)
        })
    }

    fn overridden<'a>(
        &'a self,
        request: &View<'a>,
        trusted: &Senders,
        note: &mut dyn FnMut(&Step<'a>),
    ) -> Option<Decision<'a>> {
        let asked = match request.value(self.override_by.as_ref()?) {
            Err(NotOneValue::Missing) => {
                note(&Step::NotAsked);
                return None;
            }
            Ok(asked) => Some(asked),
            Err(NotOneValue::Several) => None,
        };
        if !request.comes_from(trusted) {
            note(&Step::Untrusted);
            return None;
        }
        let is_asked =
            |variant: &&Variant| asked.as_deref() == Some(variant.name.as_str().as_bytes());
        let Some(variant) = self.all_variants().find(is_asked) else {
            note(&Step::UnknownVariant);
            return None;
        };
        note(&Step::Asked(&variant.name));
        Some(Decision { variant, reason: Reason::Override, bucket: None })
    }

    fn never<'a>(
        &'a self,
        request: &View<'a>,
        note: &mut dyn FnMut(&Step<'a>),
    ) -> Option<Decision<'a>> {
        let (step, reason) = match Condition::first(&self.never, request) {
            Ok(Some(place)) => (Step::Never(place), Some(Reason::Never)),
            Ok(None) => (Step::NotNever, None),
            Err(why) => (Step::Unclear(why), Some(Reason::Unclear)),
        };
        note(&step);
        reason.map(|reason| self.default_because(reason))
    }

    fn listed<'a>(
        &'a self,
        request: &View<'a>,
        note: &mut dyn FnMut(&Step<'a>),
    ) -> Option<Decision<'a>> {
        for variant in self.variants.iter().filter(|variant| !variant.list.is_empty()) {
            match Condition::first(&variant.list, request) {
                Ok(Some(place)) => {
                    note(&Step::Listed(&variant.name, place));
                    return Some(Decision { variant, reason: Reason::List, bucket: None });
                }
                Ok(None) => note(&Step::NotListed(&variant.name)),
                Err(why) => {
                    note(&Step::Unclear(why));
                    return Some(self.default_because(Reason::Unclear));
                }
            }
        }
        None
    }

    fn dealt<'a>(
        &'a self,
        request: &View<'a>,
        mint: &Mint<'a>,
        note: &mut dyn FnMut(&Step<'a>),
    ) -> Decision<'a> {
        let Some(shares) = &self.shares else {
            return self.default_because(Reason::Default);
        };
        let key = match shares.key.of(request) {
            Ok(key) => key,
            Err(NoKey::Missing(_)) if shares.unkeyed == Unkeyed::Mint => Cow::Borrowed(mint()),
            Err(why) => {
                note(&Step::Unkeyed(why));
                return self.default_because(Reason::Unkeyed);
            }
        };
        let bucket = shares.layer.bucket(&key);
        note(&Step::Bucket(bucket));
        for variant in &self.variants {
            let Some(range) = &variant.range else { continue };
            if range.takes(bucket) {
                note(&Step::Within(variant));
                return Decision { variant, reason: Reason::Share, bucket: Some(bucket) };
            }
            note(&Step::Outside(variant));
        }
        Decision { bucket: Some(bucket), ..self.default_because(Reason::Default) }
    }
}
