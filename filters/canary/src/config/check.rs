//! From what is written to a policy: what values have to be to each other.

use tollgate::HeaderName;
use tollgate::config::{AtLeastOne, Object};
use tollgate::mode::Mode;

use super::written::{Value, WrittenDefault, WrittenPolicy, WrittenRule, parse_all};
use super::{
    InvalidPolicy, InvalidRule, Minting, Name, Policy, Rule, Shares, Steer, Unkeyed, Variant,
};
use crate::bucket::{Bucket, Layer};
use crate::condition::{Condition, Senders, Source};
use crate::key::Key;

impl TryFrom<Object<WrittenPolicy>> for Policy {
    type Error = InvalidPolicy;

    fn try_from(Object(written): Object<WrittenPolicy>) -> Result<Self, InvalidPolicy> {
        let WrittenPolicy { salt, rules, killed, mode, trusted, mint, explain, log, on_error } =
            written;
        let says_nobody = trusted.is_some();
        let trusted: Senders = trusted.map(Senders::from).unwrap_or_default();
        if says_nobody && trusted == Senders::default() {
            return Err(InvalidPolicy::NobodyTrusted);
        }
        let mint = mint.map(|Object(mint)| match mint.max_age_seconds {
            1..=34_560_000 => Ok(Minting {
                cookie: mint.cookie,
                max_age_seconds: mint.max_age_seconds,
                same_site: mint.same_site,
            }),
            seconds => Err(InvalidPolicy::MaxAge { seconds }),
        });
        let around = Around { salt: &salt.0, killed, mode, mint: mint.transpose()?, trusted };
        let mut parsed: Vec<Rule> = Vec::with_capacity(rules.len());
        for (position, Object(rule)) in rules.into_iter().enumerate() {
            let rule = around.rule(position, rule)?;
            beside(&parsed, &rule)
                .map_err(|(variant, problem)| placed(position, variant, problem))?;
            parsed.push(rule);
        }
        if parsed.is_empty() {
            return Err(InvalidPolicy::NoRules);
        }
        let Around { mint, trusted, .. } = around;
        let policy = Self { rules: parsed, trusted, mint, explain, log, on_error };
        policy.removed()?;
        Ok(policy)
    }
}

/// What a rule stands in.
struct Around<'a> {
    salt: &'a str,
    killed: bool,
    mode: Mode,
    mint: Option<Minting>,
    trusted: Senders,
}

fn placed(rule: usize, variant: Option<usize>, problem: InvalidRule) -> InvalidPolicy {
    match variant {
        Some(variant) => InvalidPolicy::Variant { rule, variant, problem },
        None => InvalidPolicy::Rule { rule, problem },
    }
}

impl Around<'_> {
    fn rule(&self, position: usize, written: WrittenRule) -> Result<Rule, InvalidPolicy> {
        let in_rule = |problem| InvalidPolicy::Rule { rule: position, problem };
        let in_variant =
            |variant, problem| InvalidPolicy::Variant { rule: position, variant, problem };
        if matches!(written.steer, Steer::ClusterHeader(_)) {
            let has_value =
                written.default.as_ref().is_some_and(|Object(default)| default.value.is_some());
            if !has_value {
                return Err(in_rule(InvalidRule::NoDefaultCluster));
            }
            let without =
                written.variants.iter().position(|Object(variant)| variant.value.is_none());
            if let Some(variant) = without {
                return Err(in_variant(variant, InvalidRule::NoCluster));
            }
        }
        let mut variants: Vec<Variant> = Vec::with_capacity(written.variants.len());
        for (place, Object(variant)) in written.variants.into_iter().enumerate() {
            let variant = variant.parse().map_err(|problem| in_variant(place, problem))?;
            let is_empty = |list: &[Condition]| list.iter().position(Condition::says_nothing);
            if let Some(at) = is_empty(&variant.list) {
                let problem = InvalidRule::EmptyCondition { list: "list", place: at };
                return Err(in_variant(place, problem));
            }
            if variant.list.is_empty() && variant.range.is_none() && written.override_by.is_none() {
                return Err(in_variant(place, InvalidRule::NeverChosen));
            }
            variants.push(variant);
        }
        if variants.is_empty() {
            return Err(in_rule(InvalidRule::NoVariants));
        }
        let never = written.never.map(parse_all).unwrap_or_default();
        if let Some(place) = never.iter().position(Condition::says_nothing) {
            return Err(in_rule(InvalidRule::EmptyCondition { list: "never", place }));
        }
        if written.override_by.is_some() && self.trusted == Senders::default() {
            return Err(in_rule(InvalidRule::OverrideByNobody));
        }
        let layer = written.layer.unwrap_or_else(|| written.name.clone());
        let has_shares = variants.iter().any(|variant| variant.range.is_some());
        let key = written.key.map(|key| Key(AtLeastOne::into_vec(key)));
        let shares = self.shares(layer, has_shares, key, written.unkeyed).map_err(in_rule)?;
        Ok(Rule {
            name: written.name,
            requests: written.requests,
            mode: written.mode.unwrap_or_else(|| self.mode.clone()),
            is_killed: self.killed || written.killed,
            steer: written.steer,
            override_by: written.override_by.map(Source::from),
            never,
            shares,
            default: default(written.default),
            variants,
        })
    }

    fn shares(
        &self,
        layer_name: Name,
        has_shares: bool,
        key: Option<Key>,
        unkeyed: Unkeyed,
    ) -> Result<Option<Shares>, InvalidRule> {
        if unkeyed == Unkeyed::Mint && self.mint.is_none() {
            return Err(InvalidRule::NoMint);
        }
        match (has_shares, key) {
            (true, Some(key)) => {
                let layer = Layer::new(self.salt, layer_name.as_str());
                Ok(Some(Shares { layer_name, layer, key, unkeyed }))
            }
            (true, None) => Err(InvalidRule::NoKey),
            (false, Some(_)) => Err(InvalidRule::IdleKey),
            (false, None) => Ok(None),
        }
    }
}

fn default(written: Option<Object<WrittenDefault>>) -> Variant {
    let (name, value) = match written {
        Some(Object(WrittenDefault { name, value })) => (name, value),
        None => (Name("stable".to_owned()), None),
    };
    let value = value.map_or_else(|| name.as_str().to_owned(), |Value(value)| value);
    Variant { name, value, list: Vec::new(), range: None }
}

/// What a rule has to be beside the earlier ones; a problem comes with the variant that has it.
fn beside(earlier: &[Rule], rule: &Rule) -> Result<(), (Option<usize>, InvalidRule)> {
    if let Some(at) = earlier.iter().position(|other| other.name == rule.name) {
        let earlier = format!("rules[{at}]");
        return Err((None, InvalidRule::RepeatedName { earlier, name: rule.name.clone() }));
    }
    let writes_the_same = |other: &Rule| {
        other.steer.header().is_some() && other.steer.header() == rule.steer.header()
    };
    if let Some(at) =
        earlier.iter().position(|other| writes_the_same(other) && other.steer != rule.steer)
    {
        return Err((None, InvalidRule::OtherSteer { earlier: at }));
    }
    if let Some(shares) = &rule.shares {
        for (at, other) in earlier.iter().enumerate() {
            let Some(others) = &other.shares else { continue };
            if others.layer_name == shares.layer_name && others.key != shares.key {
                let layer = shares.layer_name.clone();
                return Err((None, InvalidRule::OtherKey { earlier: at, layer }));
            }
        }
    }
    for (place, variant) in rule.variants.iter().enumerate() {
        let before = rule.variants.iter().take(place);
        check_variant(earlier, rule, before, variant).map_err(|problem| (Some(place), problem))?;
    }
    Ok(())
}

fn check_variant<'a>(
    earlier: &'a [Rule],
    rule: &'a Rule,
    before: impl Iterator<Item = &'a Variant> + Clone,
    variant: &Variant,
) -> Result<(), InvalidRule> {
    let name = || variant.name.clone();
    if rule.default.name == variant.name {
        return Err(InvalidRule::RepeatedName { earlier: "the default".to_owned(), name: name() });
    }
    if let Some(at) = before.clone().position(|other| other.name == variant.name) {
        let earlier = format!("variants[{at}]");
        return Err(InvalidRule::RepeatedName { earlier, name: name() });
    }
    if matches!(rule.steer, Steer::BucketHeader(_)) {
        let has_bucket = variant.range.is_some_and(|range| range.takes(range.first()));
        if !has_bucket && (rule.override_by.is_some() || !variant.list.is_empty()) {
            return Err(InvalidRule::NoBucket);
        }
        if let Some(range) = variant.range.filter(|range| range.takes(Bucket::LAST)) {
            return Err(InvalidRule::LastBucket { range });
        }
    }
    let Some(range) = variant.range else { return Ok(()) };
    let layer = |rule: &'a Rule| rule.shares.as_ref().map(|shares| &shares.layer_name);
    let of_layer = earlier.iter().filter(|other| layer(other) == layer(rule));
    let others = of_layer
        .flat_map(|other| other.variants.iter().map(move |variant| (other, variant)))
        .chain(before.map(|variant| (rule, variant)));
    for (owner, other) in others {
        if let Some(reserved) = other.range.filter(|reserved| reserved.overlaps(&range)) {
            let earlier = format!("variant {} of rule {}", other.name, owner.name);
            return Err(InvalidRule::Overlap { range, earlier, reserved });
        }
    }
    Ok(())
}

impl Policy {
    /// What is removed from requests is read for nothing else.
    fn removed(&self) -> Result<(), InvalidPolicy> {
        let is_mark =
            |header: &HeaderName| self.rules.iter().any(|rule| rule.steer.header() == Some(header));
        match &self.explain {
            Some(header) if is_mark(header) => {
                return Err(InvalidPolicy::ExplainIsMark { header: header.clone() });
            }
            Some(_) if self.trusted == Senders::default() => {
                return Err(InvalidPolicy::ExplainToNobody);
            }
            Some(_) | None => {}
        }
        for (position, rule) in self.rules.iter().enumerate() {
            let problem = |problem| InvalidPolicy::Rule { rule: position, problem };
            if let Some(Source::Header(header)) = &rule.override_by
                && is_mark(header)
                && rule.steer.header() != Some(header)
            {
                let header = header.clone();
                return Err(problem(InvalidRule::OverrideIsMark { header }));
            }
            let parts = rule.shares.iter().flat_map(|shares| &shares.key.0);
            for (part, source) in parts.enumerate() {
                if self.removes(source) {
                    let source = source.clone();
                    return Err(problem(InvalidRule::KeyIsMark { part, source }));
                }
            }
        }
        Ok(())
    }

    fn removes(&self, source: &Source) -> bool {
        let is_written = |rule: &Rule| match source {
            Source::Header(name) => rule.steer.header() == Some(name),
            Source::Cookie(_) | Source::Query(_) | Source::Peer | Source::Address(_) => false,
        };
        let is_special = match source {
            Source::Header(name) => self.explain.as_ref() == Some(name),
            Source::Cookie(_) | Source::Query(_) | Source::Peer | Source::Address(_) => false,
        };
        let is_override = |rule: &Rule| rule.override_by.as_ref() == Some(source);
        is_special || self.rules.iter().any(|rule| is_written(rule) || is_override(rule))
    }
}
