//! Whatever a filter is configured with, it answers: with a policy that holds what it promises, or
//! with one line that an operator can read.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use tollgate_ratelimit::config::Policy;

fn answers(json: &[u8]) {
    match tollgate::config::parse::<Policy>(json) {
        Ok(policy) => {
            let names: Vec<_> = policy.rules().iter().map(|rule| rule.name.as_str()).collect();
            let different: BTreeSet<_> = names.iter().collect();
            assert!(!names.is_empty() && different.len() == names.len(), "{names:?}");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() > 10 && !text.contains(char::is_control), "{text:?}");
        }
    }
}

fn a_policy() -> Value {
    json!({
        "rules": [
            {
                "name": "per-user",
                "key": [{ "header": "x-user" }, "path", { "constant": "eu" }],
                "limit": { "requests": 2, "per": "1s", "burst": 5 },
                "unkeyed": "deny"
            },
            { "name": "all", "key": ["path"], "limit": { "requests": 100, "per": "5m" } }
        ],
        "on_error": "allow"
    })
}

/// The JSON pointers to the value and to all values in it.
fn pointers(value: &Value, pointer: &str) -> Vec<String> {
    let inner: Vec<String> = match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| pointers(item, &format!("{pointer}/{index}")))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| pointers(field, &format!("{pointer}/{name}")))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    [vec![pointer.to_owned()], inner].concat()
}

fn values() -> impl Strategy<Value = Value> {
    const TEXTS: [&str; 10] =
        ["1s", "0ms", "99999999999999999999d", "path", "x-user", ":a", "all", "deny", "", "`"];
    prop_oneof![
        select(&TEXTS[..]).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1..3_i64).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["path"])),
        Just(json!({ "header": "x-user" })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
        answers(&bytes);
    }

    #[test]
    fn a_policy_with_other_bytes_in_it_is_answered(
        changes in vec((any::<Index>(), 0..3_usize, vec(any::<u8>(), 0..3)), 1..4),
    ) {
        let mut bytes = a_policy().to_string().into_bytes();
        for (place, removed, inserted) in changes {
            let start = place.index(bytes.len());
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, inserted);
        }
        answers(&bytes);
    }

    #[test]
    fn a_policy_with_other_values_in_it_is_answered(
        changes in vec((any::<Index>(), values(), proptest::option::of(".{0,4}")), 1..4),
    ) {
        let mut policy = a_policy();
        for (place, value, field) in changes {
            let pointers = pointers(&policy, "");
            let node = policy.pointer_mut(place.get::<String>(&pointers));
            match (node, field) {
                (Some(Value::Object(fields)), Some(field)) => drop(fields.insert(field, value)),
                (Some(node), _) => *node = value,
                // The pointer leads through a field whose name would have to be escaped.
                (None, _) => {}
            }
        }
        answers(policy.to_string().as_bytes());
    }

    #[test]
    fn a_deep_nesting_is_answered(depth in 0..3_000_usize, open in select(&["[", "{\"rules\":"][..])) {
        answers(open.repeat(depth).as_bytes());
        answers(format!("{{\"rules\":{}", open.repeat(depth)).as_bytes());
    }
}
