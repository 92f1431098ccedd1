//! Policies of the rate limit: good ones, near misses and noise.

use arbitrary::Arbitrary;
use serde_json::{Map, Value, json};

/// A configuration of the rate limit.
#[derive(Arbitrary, Clone, Debug)]
pub enum Policy {
    /// One that is taken.
    Good(Written),
    /// One with another value in it.
    Changed(Written, u8, Junk),
    /// Any bytes.
    Noise(Vec<u8>),
}

/// What a policy says.
#[derive(Arbitrary, Clone, Debug)]
pub struct Written {
    rules: [Option<Rule>; 3],
    mode: u8,
    ambiguous: u8,
    denies: bool,
}

#[derive(Arbitrary, Clone, Debug)]
struct Rule {
    key: [u8; 3],
    requests: u32,
    per: u16,
    burst: Option<u8>,
    unkeyed: u8,
    only: u8,
}

/// What does not belong where it is put.
#[derive(Arbitrary, Clone, Debug)]
pub enum Junk {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(u64),
    /// A fraction.
    Fraction(f64),
    /// A text.
    Text(String),
    /// A list.
    List,
    /// An object.
    Object,
}

impl Policy {
    /// The bytes of the configuration.
    pub fn json(&self) -> Vec<u8> {
        match self {
            Self::Good(written) => written.value().to_string().into_bytes(),
            Self::Changed(written, at, junk) => {
                let mut value = written.value();
                let count = count(&value);
                replace(&mut value, &mut (usize::from(*at) % count), junk);
                value.to_string().into_bytes()
            }
            Self::Noise(bytes) => bytes.clone(),
        }
    }

    /// As a part of the configuration of a chain.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json()).unwrap_or(Value::Null)
    }
}

impl Written {
    fn value(&self) -> Value {
        let mut rules: Vec<Value> =
            self.rules.iter().flatten().enumerate().map(|(at, rule)| rule.value(at)).collect();
        if rules.is_empty() {
            rules.push(
                json!({ "name": "a", "key": ["path"], "limit": { "requests": 1, "per": "1s" } }),
            );
        }
        let modes = [
            json!("enforce"),
            json!("shadow"),
            json!("off"),
            json!({ "enforce": "50%", "shadow": "25%", "off": "25%", "sticky": "x-user" }),
            json!({ "enforce": "0.0001%", "shadow": "99.9999%" }),
        ];
        json!({
            "rules": rules,
            "mode": one(&modes, self.mode),
            "ambiguous": one(&["deny", "literal"].map(Value::from), self.ambiguous),
            "on_error": if self.denies { "deny" } else { "allow" },
        })
    }
}

impl Rule {
    fn value(&self, at: usize) -> Value {
        let parts = [
            json!("path"),
            json!({ "header": "x-user" }),
            json!({ "header": "x-own" }),
            json!({ "constant": "eu" }),
        ];
        let matches = [
            json!({ "paths": [{ "exact": "/p0" }] }),
            json!({ "paths": [{ "prefix": "/" }], "methods": ["GET"] }),
            json!({ "hosts": ["*.example.com", "example.com"] }),
            json!({ "routes": ["one"], "virtual_hosts": ["two"] }),
            json!({ "headers": [{ "name": "x-user", "exact": "u1" }] }),
        ];
        let key: Vec<Value> = self.key.iter().map(|part| one(&parts, *part)).collect();
        let mut limit = Map::new();
        limit.insert("requests".into(), self.requests.into());
        limit.insert("per".into(), format!("{}ms", self.per).into());
        if let Some(burst) = self.burst {
            limit.insert("burst".into(), burst.into());
        }
        let mut rule = Map::new();
        rule.insert("name".into(), format!("rule-{at}").into());
        rule.insert("key".into(), key.into());
        rule.insert("limit".into(), limit.into());
        rule.insert(
            "unkeyed".into(),
            one(&["share", "allow", "deny"].map(Value::from), self.unkeyed),
        );
        if usize::from(self.only) < matches.len() {
            rule.insert("match".into(), one(&matches, self.only));
        }
        rule.into()
    }
}

impl Junk {
    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(value) => (*value).into(),
            Self::Fraction(value) => (*value).into(),
            Self::Text(value) => value.clone().into(),
            Self::List => json!([]),
            Self::Object => json!({}),
        }
    }
}

fn one(of: &[Value], at: u8) -> Value {
    of.get(usize::from(at) % of.len().max(1)).cloned().unwrap_or_default()
}

/// How many values there are, with those within.
fn count(value: &Value) -> usize {
    let within: usize = match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    };
    within + 1
}

/// Replaces the value that so many are before.
fn replace(value: &mut Value, before: &mut usize, junk: &Junk) -> bool {
    if *before == 0 {
        *value = junk.value();
        return true;
    }
    *before -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| replace(item, before, junk)),
        Value::Object(fields) => fields.values_mut().any(|field| replace(field, before, junk)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
