//! A policy whose limits a service counts.

mod invalid;

use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use tollgate::config::{AtLeastOne, Object, present};
use tollgate::mode::Percent;

pub use self::invalid::{InvalidDescriptor, InvalidGlobalPolicy};
use super::written::{Scope, Window, WrittenPolicy, check_costs, limit_or_limits};
use super::{InvalidPolicy, OnError, Policy, Rule};
use crate::key::Text;
use crate::quota::Quota;

/// The longest that a service may be waited for.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

/// The windows that the protocol has, and their numbers there.
///
/// Source: `envoy/type/v3/ratelimit_unit.proto`.
const UNITS: [(Duration, u8); 5] = [
    (Duration::from_secs(1), 1),
    (Duration::from_mins(1), 2),
    (Duration::from_hours(1), 3),
    (Duration::from_hours(24), 4),
    (Duration::from_hours(7 * 24), 7),
];

/// What the filter is to do that has a service count. Made from JSON by [`tollgate::config::parse`].
///
/// # Examples
///
/// ```
/// # use tollgate_ratelimit::config::GlobalPolicy;
/// let policy: GlobalPolicy = tollgate::config::parse(
///     br#"{ "rules": [ { "name": "per-user", "key": [ { "header": "x-user" } ] } ],
///           "service": { "cluster": "limits", "domain": "shop" } }"#,
/// )?;
/// assert_eq!(policy.policy().rules().len(), 1);
/// # Ok::<(), tollgate::config::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Object<WrittenPolicy<Global>>")]
#[schemars(
    with = "WrittenPolicy<Global>",
    description = "A rate limit that a service counts: how many requests each client may make."
)]
pub struct GlobalPolicy {
    /// With the limits that hold while the service does not answer.
    pub(crate) policy: Policy,
    pub(crate) service: Service,
    /// Of each rule, in order.
    pub(crate) descriptors: Vec<Descriptor>,
}

impl GlobalPolicy {
    /// The rules, and what they have in common.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who counts.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

/// Who counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The cluster of the proxy that it is behind.
    pub cluster: String,
    /// What its limits are found under.
    pub domain: String,
    /// How long a request waits for an answer.
    pub timeout: Duration,
    /// What becomes of a request without an answer.
    pub on_error: OnUnanswered,
}

/// What becomes of a request when the service does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnanswered {
    /// It is refused.
    #[default]
    Deny,
    /// It passes.
    Allow,
    /// The proxy decides by itself, with a share of the limits.
    Local,
}

/// How the service is told of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// What each value of the key is called.
    pub(crate) entries: Vec<String>,
    /// Whether it only asks, and charges nothing.
    pub(crate) is_check: bool,
    /// The limit that is sent along.
    pub(crate) limit: Option<SentLimit>,
    /// Of each override, in order.
    pub(crate) overrides: Vec<SentLimit>,
}

/// A limit in the words of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentLimit {
    pub(crate) requests: u32,
    pub(crate) unit: u8,
}

impl SentLimit {
    fn of(limits: &[Quota]) -> Option<Self> {
        let [limit] = limits else { return None };
        let (_, unit) = UNITS.into_iter().find(|(window, _)| *window == limit.per())?;
        Some(Self { requests: u32::try_from(limit.requests().get()).ok()?, unit })
    }
}

/// What a policy says whose limits a service counts.
pub(super) enum Global {}

impl Scope for Global {
    type OnError = OnUnanswered;
    type Service = Object<WrittenService>;
    type Descriptor = Object<WrittenDescriptor>;

    const REQUIRED: &'static [&'static str] = &["rules", "service"];
    const NEEDS_LIMIT: bool = false;

    fn limits() -> Vec<Schema> {
        let neither = json_schema!({ "properties": { "limit": false, "limits": false } });
        limit_or_limits().into_iter().chain([neither]).collect()
    }
}

/// Who counts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Service")]
pub(super) struct WrittenService {
    /// The cluster of the proxy that the service is behind; it speaks HTTP/2.
    cluster: Text,
    /// What the limits are found under.
    domain: Text,
    /// How long a request waits for an answer, from 1ms to 60s: 20ms, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Window")]
    timeout: Option<Window>,
    /// How much of each limit this proxy gives by itself while the service does not answer: goes with
    /// `on_error: local`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Percent")]
    local_share: Option<Percent>,
}

/// How the service is told of a rule.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Descriptor")]
pub(super) struct WrittenDescriptor {
    /// What each value of the key is called; by default as the part that it is of.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Text>")]
    entries: Option<AtLeastOne<Text>>,
    /// Whether the request is only held against the limit, and not charged.
    #[serde(default)]
    check: bool,
    /// Whether the rule's limit is sent along, for a service that takes it.
    #[serde(default)]
    limit: bool,
}

impl TryFrom<Object<WrittenPolicy<Global>>> for GlobalPolicy {
    type Error = InvalidGlobalPolicy;

    fn try_from(
        Object(written): Object<WrittenPolicy<Global>>,
    ) -> Result<Self, InvalidGlobalPolicy> {
        let WrittenPolicy { rules, mode, ambiguous, on_error, answer, fields, service } = written;
        let Object(service) = service.ok_or(InvalidGlobalPolicy::NoService)?;
        let share = local_share(on_error, service.local_share)?;
        let (rules, written) = super::rules(rules)?;
        let (mut parsed, mut descriptors) = (Vec::with_capacity(rules.len()), Vec::new());
        for (position, (rule, descriptor)) in rules.into_iter().zip(written).enumerate() {
            let place = format!("rules[{position}]");
            let written = descriptor.map_or_else(WrittenDescriptor::default, |Object(it)| it);
            descriptors.push(written.parse(&rule, share, &place)?);
            parsed.push(at_share(rule, share, &place)?);
        }
        let on_store_error = match on_error {
            OnUnanswered::Allow => OnError::Allow,
            OnUnanswered::Deny | OnUnanswered::Local => OnError::Deny,
        };
        Ok(Self {
            policy: Policy {
                rules: parsed,
                mode,
                ambiguous,
                on_error: on_store_error,
                answer,
                fields,
            },
            service: service.parse(on_error)?,
            descriptors,
        })
    }
}

/// The share of each limit that a proxy gives by itself.
fn local_share(
    on_error: OnUnanswered,
    share: Option<Percent>,
) -> Result<Option<Percent>, InvalidGlobalPolicy> {
    match (on_error, share) {
        (OnUnanswered::Local, None) => Err(InvalidGlobalPolicy::NoShare),
        (OnUnanswered::Local, Some(Percent::NONE)) => Err(InvalidGlobalPolicy::ShareOfNothing),
        (OnUnanswered::Deny | OnUnanswered::Allow, Some(_)) => {
            Err(InvalidGlobalPolicy::UnusedShare)
        }
        (OnUnanswered::Local, share) | (_, share @ None) => Ok(share),
    }
}

/// The rule with this share of its limits.
fn at_share(rule: Rule, share: Option<Percent>, place: &str) -> Result<Rule, InvalidGlobalPolicy> {
    let Some(share) = share else { return Ok(rule) };
    let shared = |quotas: Vec<Quota>| -> Result<Vec<Quota>, InvalidGlobalPolicy> {
        let shared = quotas.iter().map(|quota| quota.shared(share));
        let shared: Result<_, _> = shared.collect();
        shared.map_err(|_| InvalidGlobalPolicy::ShareTooSmall { share, place: place.to_owned() })
    };
    let mut overrides = rule.overrides;
    for other in &mut overrides {
        other.limits = shared(std::mem::take(&mut other.limits))?;
    }
    let rule = Rule { limits: shared(rule.limits)?, overrides, ..rule };
    check_costs(&rule, place)?;
    Ok(rule)
}

impl WrittenService {
    fn parse(self, on_error: OnUnanswered) -> Result<Service, InvalidGlobalPolicy> {
        let timeout = self.timeout.map_or(Duration::from_millis(20), |Window(timeout)| timeout);
        if !(Duration::from_millis(1)..=LONGEST_TIMEOUT).contains(&timeout) {
            return Err(InvalidGlobalPolicy::Timeout { timeout });
        }
        let (cluster, domain) = (self.cluster.as_str(), self.domain.as_str());
        Ok(Service { cluster: cluster.to_owned(), domain: domain.to_owned(), timeout, on_error })
    }
}

impl WrittenDescriptor {
    /// How the service is told of this rule, whose limits are as they are written.
    fn parse(
        self,
        rule: &Rule,
        share: Option<Percent>,
        place: &str,
    ) -> Result<Descriptor, InvalidGlobalPolicy> {
        let refused = |problem: InvalidDescriptor| InvalidGlobalPolicy::Descriptor {
            place: place.to_owned(),
            problem,
        };
        let has_limit = !rule.limits.is_empty();
        match (has_limit, self.limit || share.is_some()) {
            (true, false) => return Err(refused(InvalidDescriptor::UnusedLimit)),
            (false, true) => {
                return Err(InvalidPolicy::LimitOrLimits { place: place.to_owned() }.into());
            }
            (true, true) | (false, false) => {}
        }
        if !has_limit && !rule.overrides.is_empty() {
            return Err(refused(InvalidDescriptor::UnusedOverrides));
        }
        if self.check && share.is_some() {
            return Err(refused(InvalidDescriptor::CheckWithoutService));
        }
        let sent = |limits: &[Quota]| match SentLimit::of(limits) {
            None if self.limit => Err(refused(InvalidDescriptor::Unsendable)),
            sent => Ok(sent.filter(|_| self.limit)),
        };
        let overrides = rule.overrides.iter().map(|other| sent(&other.limits));
        Ok(Descriptor {
            limit: sent(&rule.limits)?,
            overrides: overrides.filter_map(Result::transpose).collect::<Result<_, _>>()?,
            is_check: self.check,
            entries: entries(self.entries, rule).map_err(refused)?,
        })
    }
}

/// What each value of a rule's key is called.
fn entries(
    written: Option<AtLeastOne<Text>>,
    rule: &Rule,
) -> Result<Vec<String>, InvalidDescriptor> {
    let own = rule.key.names();
    let entries: Vec<String> = match written {
        None => own,
        Some(names) if names.as_slice().len() == own.len() => {
            names.as_slice().iter().map(|name| name.as_str().to_owned()).collect()
        }
        Some(names) => {
            let (found, expected) = (names.as_slice().len(), own.len());
            return Err(InvalidDescriptor::Entries { found, expected });
        }
    };
    let mut earlier = entries.iter();
    while let Some(name) = earlier.next_back() {
        if earlier.as_slice().contains(name) {
            return Err(InvalidDescriptor::RepeatedEntry { name: name.clone() });
        }
    }
    Ok(entries)
}
