//! A policy: the rules that an operator has written, parsed into what the decision takes.
//!
//! Parsing is strict. What is unknown, missing, empty or out of bounds is an error that names the
//! place, the value and the bound; nothing is read as something else.
//!
//! Not here: how JSON is read and misfits are told, which is [`tollgate::config`].

mod global;
mod invalid;
mod written;

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::config::Object;
use tollgate::matching::{Ambiguous, Match};
use tollgate::mode::Mode;

pub(crate) use self::global::{Descriptor, SentLimit};
pub use self::global::{
    GlobalPolicy, InvalidDescriptor, InvalidGlobalPolicy, OnUnanswered, Service,
};
pub use self::invalid::InvalidPolicy;
use self::written::{Local, Scope, WrittenPolicy, WrittenRule};
use crate::answer::{Answer, Fields};
use crate::cost::Cost;
use crate::key::KeyTemplate;
use crate::quota::Quota;
use crate::table::Capacity;

/// What the filter is to do. Made from JSON by [`tollgate::config::parse`].
///
/// # Examples
///
/// ```
/// # use tollgate_ratelimit::config::Policy;
/// let policy: Policy = tollgate::config::parse(
///     br#"{ "rules": [ { "name": "per-user", "key": [ { "header": "x-user" } ],
///                        "limit": { "requests": 2, "per": "1s" } } ] }"#,
/// )?;
/// assert_eq!(policy.rules().len(), 1);
/// # Ok::<(), tollgate::config::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Object<WrittenPolicy<Local>>")]
#[schemars(
    with = "WrittenPolicy<Local>",
    description = "A rate limit: how many requests each client may make."
)]
pub struct Policy {
    pub(crate) rules: Vec<Rule>,
    pub(crate) mode: Mode,
    pub(crate) ambiguous: Ambiguous,
    pub(crate) on_error: OnError,
    pub(crate) answer: Answer,
    pub(crate) fields: Fields,
}

/// Limits for some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What metrics, logs and records call it: no other rule of the policy has this name.
    pub name: RuleName,
    /// Which requests it is for; `None`: for all.
    pub requests: Option<Match>,
    /// Whom a request counts against.
    pub key: KeyTemplate,
    /// How much each key may spend, with a window each: at least one, or none that the proxy knows of.
    pub limits: Vec<Quota>,
    /// Keys that may spend something else.
    pub overrides: Vec<Override>,
    /// What a request costs.
    pub cost: Cost,
    /// What becomes of a request that has no key.
    pub unkeyed: Unkeyed,
    /// How many keys are told apart.
    pub keys: Capacity,
    /// For which requests it is enforced; `None`: as the policy says.
    pub mode: Option<Mode>,
}

/// Other limits for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The key, as [`KeyTemplate::compose`] makes it.
    pub key: Vec<u8>,
    /// How much this key may spend: at least one, with a window each.
    pub limits: Vec<Quota>,
}

/// What becomes of a request from which no single key can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unkeyed {
    /// All such requests share one quota: [`crate::key::Key::SHARED`].
    #[default]
    Share,
    /// The rule does not apply to it.
    Allow,
    /// It is answered with 400.
    Deny,
}

/// What becomes of a request when the proxy's shared data cannot answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is refused.
    #[default]
    Deny,
    /// It passes, and nothing is charged.
    Allow,
}

impl Policy {
    /// The rules, in the order they were written in: at least one.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// For which requests it is enforced.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// What to do with a request of which nobody can say whether a rule is for it.
    pub fn ambiguous(&self) -> Ambiguous {
        self.ambiguous
    }

    /// What to do when the proxy's shared data cannot answer.
    pub fn on_error(&self) -> OnError {
        self.on_error
    }
}

impl TryFrom<Object<WrittenPolicy<Local>>> for Policy {
    type Error = InvalidPolicy;

    fn try_from(Object(written): Object<WrittenPolicy<Local>>) -> Result<Self, InvalidPolicy> {
        let WrittenPolicy { rules, mode, ambiguous, on_error, answer, fields, service: _ } =
            written;
        let (rules, _) = self::rules(rules)?;
        Ok(Self { rules, mode, ambiguous, on_error, answer, fields })
    }
}

/// What is written of rules: the rules, and how a service is told of each.
type Told<S> = (Vec<Rule>, Vec<Option<<S as Scope>::Descriptor>>);

/// The rules of a policy, at least one.
fn rules<S: Scope>(written: Vec<Object<WrittenRule<S>>>) -> Result<Told<S>, InvalidPolicy> {
    let mut rules: Vec<Rule> = Vec::with_capacity(written.len());
    let mut descriptors = Vec::with_capacity(written.len());
    for (position, Object(rule)) in written.into_iter().enumerate() {
        let (rule, descriptor) = rule.parse(position)?;
        if let Some(earlier) = rules.iter().position(|earlier| earlier.name == rule.name) {
            return Err(InvalidPolicy::RepeatedName { rule: position, earlier, name: rule.name });
        }
        rules.push(rule);
        descriptors.push(descriptor);
    }
    if rules.is_empty() { Err(InvalidPolicy::NoRules) } else { Ok((rules, descriptors)) }
}

/// The name of a rule: 1 to 64 of `a` to `z`, `0` to `9` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(inline, extend("pattern" = "^[a-z0-9-]{1,64}$"))]
pub struct RuleName(String);

impl RuleName {
    /// A rule's name.
    ///
    /// # Errors
    ///
    /// [`InvalidRuleName`] when it is empty, too long, or has another character.
    pub fn new(name: &str) -> Result<Self, InvalidRuleName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidRuleName { name: name.to_owned() })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RuleName {
    type Error = InvalidRuleName;

    fn try_from(name: String) -> Result<Self, InvalidRuleName> {
        Self::new(&name)
    }
}

/// A text that is no [`RuleName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRuleName {
    name: String,
}

impl fmt::Display for InvalidRuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a rule name; use 1 to 64 of a-z, 0-9 and -", self.name)
    }
}

impl Error for InvalidRuleName {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Part, Text};
    use std::time::Duration;
    use tollgate::HeaderName;

    fn parse(json: &str) -> Policy {
        tollgate::config::parse(json.as_bytes()).unwrap()
    }

    const A_RULE: &str = r#"{ "rules": [
        { "name": "per-user", "key": [{ "header": "X-User" }], "limit": { "requests": 2, "per": "1s" } }
    ] }"#;

    #[test]
    fn a_policy_is_read_with_its_defaults() {
        let rule = Rule {
            name: RuleName::new("per-user").unwrap(),
            key: KeyTemplate::new(vec![Part::Header(HeaderName::new("x-user").unwrap())]).unwrap(),
            limits: vec![Quota::new(2, Duration::from_secs(1), None).unwrap()],
            overrides: Vec::new(),
            cost: Cost::default(),
            requests: None,
            unkeyed: Unkeyed::Share,
            keys: Capacity::default(),
            mode: None,
        };
        let expected = Policy {
            rules: vec![rule],
            mode: Mode::default(),
            ambiguous: Ambiguous::Deny,
            on_error: OnError::Deny,
            answer: Answer::default(),
            fields: Fields::Ietf,
        };
        assert_eq!(parse(A_RULE), expected);
    }

    #[test]
    fn a_policy_is_read_with_all_that_it_can_say() {
        let parts = [
            Part::Header(HeaderName::new("x-user").unwrap()),
            Part::Path,
            Part::Constant(Text::new("eu").unwrap()),
        ];
        let json = r#"{
            "rules": [
                { "name": "a", "key": [{ "header": "x-user" }, "path", { "constant": "eu" }],
                  "limit": { "requests": 100, "per": "5m", "burst": 7 }, "unkeyed": "deny" },
                { "name": "b-2", "key": ["path"],
                  "limit": { "requests": 1, "per": "250ms" }, "unkeyed": "allow" }
            ],
            "on_error": "allow"
        }"#;
        let policy = parse(json);
        let [first, second] = policy.rules() else { panic!("{policy:?}") };
        assert_eq!((first.name.as_str(), first.unkeyed), ("a", Unkeyed::Deny));
        assert_eq!(first.key, KeyTemplate::new(parts.to_vec()).unwrap());
        assert_eq!(first.limits, [Quota::new(100, Duration::from_mins(5), Some(7)).unwrap()]);
        assert_eq!((second.name.as_str(), second.unkeyed), ("b-2", Unkeyed::Allow));
        assert_eq!(second.limits, [Quota::new(1, Duration::from_millis(250), None).unwrap()]);
        assert_eq!(policy.on_error(), OnError::Allow);
    }

    #[test]
    fn a_window_is_a_whole_number_of_a_unit() {
        for (per, expected) in [
            ("1ms", Duration::from_millis(1)),
            ("30s", Duration::from_secs(30)),
            ("5m", Duration::from_mins(5)),
            ("12h", Duration::from_hours(12)),
            ("366d", Duration::from_hours(24 * 366)),
        ] {
            let json = A_RULE.replace("1s", per);
            let policy = parse(&json);
            assert_eq!(policy.rules()[0].limits, [Quota::new(2, expected, None).unwrap()], "{per}");
        }
    }
}
