//! The schema of a policy, the parser and the README say the same of any document, but for what JSON Schema
//! cannot say: the list is in `beyond_the_schema`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use jsonschema::Validator;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use tollgate::testing::{compare_documented, pointers, with_other_values};
use tollgate_ratelimit::config::{GlobalPolicy, Policy};

fn validator() -> Validator {
    let schema = tollgate::config::schema::<Policy>().to_value();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// What only the parser can say: rules between several values, and what a number or a duration is
/// worth beyond its form. A policy refused for one of these may please the schema.
fn beyond_the_schema(error: &str) -> bool {
    const RULES: [&str; 13] = [
        // Two limits of a rule have one window, perhaps in other units.
        "is already the window of limits[",
        // Two rules of one name.
        "is already the name of rules[",
        // The rate is bounded by the window, and the burst by the rate.
        "one per microsecond of",
        "what this rate earns in 366 days",
        // A duration is matched by its form.
        "is not between 1ms and 366d",
        "is not a duration",
        // Shares are added up.
        "the shares add up to",
        // Two segments of a template have one name.
        "stands twice; name one anew",
        // Two overrides of one key, and values that are not those of the key.
        "is already the key of overrides[",
        "one for each part that is not constant",
        // A cost is bounded by the bursts.
        "the smallest burst",
        // JSON Schema takes 1.0 for a whole number.
        ".0 is not a whole number",
        ".0 is not a cost",
    ];
    RULES.iter().any(|rule| error.contains(rule))
}

/// Compares the two; gives the parser's verdict.
fn check(validator: &Validator, document: &Value) -> Result<(), String> {
    let parsed = tollgate::config::parse::<Policy>(document.to_string().as_bytes());
    let error = parsed.err().map(|error| error.to_string());
    match (&error, validator.validate(document)) {
        (None, Err(why)) => panic!("only the schema refuses {document}: {why}"),
        (Some(error), Ok(())) if !beyond_the_schema(error) => {
            panic!("only the parser refuses {document}: {error}")
        }
        (None | Some(_), _) => error.map_or(Ok(()), Err),
    }
}

/// A policy that says all that can be said.
fn a_policy() -> Value {
    json!({
        "rules": [
            {
                "name": "per-user",
                "match": {
                    "routes": ["orders"],
                    "virtual_hosts": ["api"],
                    "hosts": ["api.example.com", "*.example.org", "[::1]"],
                    "paths": [
                        { "exact": "/healthz" },
                        { "prefix": "/" },
                        { "template": "/users/{id}/orders" },
                    ],
                    "methods": ["GET", "M-SEARCH"],
                    "headers": [
                        { "name": "x-tier", "exact": "gold" },
                        { "name": "X-Region", "prefix": "eu-", "lines": "any" },
                        { "name": "x-region", "suffix": "-1", "lines": "all" },
                        { "name": "x-debug", "present": false },
                    ],
                },
                "key": [{ "header": "x-user" }, "path", { "constant": "eu" }],
                "limit": { "requests": 2, "per": "1s", "burst": 5 },
                "unkeyed": "deny",
            },
            {
                "name": "keys",
                "key": [
                    "peer",
                    { "cookie": "session" },
                    { "query": "api_key" },
                    { "template": "/users/{id}" },
                    { "client_address": { "trusted_hops": 2, "ipv4_prefix": 24, "ipv6_prefix": 48 } },
                ],
                "limit": { "requests": 9, "per": "1s" },
                "overrides": [
                    { "key": ["a", "b", "c", "d", "e"], "limit": { "requests": 9, "per": "1s" } },
                    { "key": ["", "", "", "", ""], "limits": [{ "requests": 9, "per": "1m" }] },
                ],
                "cost": { "header": "x-cost", "max": 9 },
            },
            {
                "name": "all",
                "key": ["path"],
                "cost": 2,
                "limits": [{ "requests": 100, "per": "5m" }, { "requests": 5, "per": "1s" }],
                "mode": { "enforce": "50%", "shadow": "50%", "off": "0%" },
            },
        ],
        "mode": { "enforce": "0.5%", "shadow": "9.5%", "off": "90%", "sticky": "x-user" },
        "ambiguous": "literal",
        "on_error": "allow",
        "answer": { "status": 503, "body": "later", "content_type": "text/plain" },
        "fields": "both",
    })
}

const TEXTS: [&str; 70] = [
    "",
    " ",
    "a",
    "A",
    "x-user",
    "X-User",
    ":path",
    "host",
    "hOsT",
    "x y",
    "xü",
    "path",
    "Path",
    "1s",
    "0ms",
    "367d",
    "99999999999999999999d",
    "+1s",
    "1S",
    "1.5s",
    "1 s",
    "deny",
    "allow",
    "share",
    "literal",
    "enforce",
    "shadow",
    "off",
    "on",
    "any",
    "all",
    "agreeing",
    "0%",
    "100%",
    "100.0001%",
    "99.99999%",
    "05%",
    "5",
    "/",
    "/a",
    "/a/",
    "a/b",
    "/a//b",
    "/a/./b",
    "/a/../b",
    "/..a/b..",
    "/...",
    "/a b",
    "/ü",
    "/a;b",
    "/a%20",
    "/a?b",
    "/a#b",
    "/a\\b",
    "/a\nb",
    "/{id}",
    "/{}",
    "/{Id}",
    "/a{id}",
    "/{id}/{id}",
    "a.b",
    "*.a",
    "*",
    "a.b:80",
    "a..b",
    ".a",
    "a.",
    "[::1]",
    "GET",
    "get",
];

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => select(&TEXTS[..]).prop_map(Value::from),
        1 => "[ -~]{0,6}".prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => (-1..3_i64).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!([])),
        1 => Just(json!({})),
        1 => Just(json!(["path"])),
        1 => Just(json!({ "header": "x-user" })),
        1 => Just(json!({ "enforce": "100%" })),
        1 => Just(json!({ "exact": "/a" })),
        1 => Just(json!({ "name": "x", "present": true })),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Field(String, Value),
}

fn changes() -> impl Strategy<Value = Change> {
    const FIELDS: [&str; 14] = [
        "limit", "limits", "match", "mode", "lines", "present", "exact", "prefix", "burst",
        "unkeyed", "sticky", "constant", "x", "",
    ];
    prop_oneof![
        3 => values().prop_map(Change::Replace),
        1 => Just(Change::Remove),
        2 => (select(&FIELDS[..]), values())
            .prop_map(|(field, value)| Change::Field(field.to_owned(), value)),
    ]
}

fn changed(mut policy: Value, changes: Vec<(Index, Change)>) -> Value {
    for (place, change) in changes {
        let pointers = pointers(&policy);
        let pointer = place.get::<String>(&pointers).clone();
        match change {
            Change::Remove => {
                let Some((parent, name)) = pointer.rsplit_once('/') else { continue };
                match policy.pointer_mut(parent) {
                    Some(Value::Object(fields)) => drop(fields.remove(name)),
                    Some(Value::Array(items)) => {
                        if let Some(at) = name.parse().ok().filter(|at| *at < items.len()) {
                            let _: Value = items.remove(at);
                        }
                    }
                    _ => {}
                }
            }
            Change::Field(name, value) => match policy.pointer_mut(&pointer) {
                Some(Value::Object(fields)) => drop(fields.insert(name, value)),
                Some(node) => *node = value,
                None => {}
            },
            Change::Replace(value) => {
                if let Some(node) = policy.pointer_mut(&pointer) {
                    *node = value;
                }
            }
        }
    }
    policy
}

#[test]
fn all_that_can_be_said_pleases_both() {
    assert_eq!(check(&validator(), &a_policy()), Ok(()));
}

#[test]
fn every_value_at_every_place_is_judged_alike() {
    let validator = validator();
    let mut verdicts = [0, 0];
    for policy in with_other_values(&a_policy(), &TEXTS) {
        verdicts[usize::from(check(&validator, &policy).is_ok())] += 1;
    }
    // The comparison is worth nothing unless both verdicts are frequent.
    assert!(verdicts.iter().all(|count| *count > 200), "{verdicts:?}");
}

#[test]
fn what_only_the_parser_can_say_is_needed_for_each_of_these() {
    for (pointer, value) in [
        ("/rules/1/name", json!("per-user")),
        ("/rules/0/limit/requests", json!(1_000_001)),
        ("/rules/0/limit/burst", json!(100_000_000_000_u64)),
        ("/rules/0/limit/per", json!("367d")),
        ("/rules/0/limit/per", json!("99999999999999999999999d")),
        ("/rules/0/limit/requests", json!(2.0)),
        ("/mode/off", json!("90.0001%")),
        ("/rules/0/match/paths/2/template", json!("/{id}/{id}")),
    ] {
        let mut policy = a_policy();
        *policy.pointer_mut(pointer).unwrap() = value;
        assert!(validator().is_valid(&policy), "{pointer}");
        let error = check(&validator(), &policy).unwrap_err();
        assert!(beyond_the_schema(&error), "{error}");
    }
}

#[test]
fn the_readme_has_every_key_and_no_other() {
    let schema = tollgate::config::schema::<Policy>().to_value();
    // What these hold is told in text, or once.
    let whole = ["mode", "match", "key[]", "limits[]", "overrides[]", "cost", "answer"];
    assert_eq!(compare_documented(&schema, include_str!("../README.md"), &whole), Ok(()));
}

/// A policy for a service that says all that it says beyond the others.
fn a_global_policy() -> Value {
    json!({
        "rules": [
            {
                "name": "sent",
                "key": [{ "header": "x-user" }, { "constant": "eu" }],
                "limit": { "requests": 9, "per": "1m" },
                "descriptor": { "entries": ["user", "region"], "limit": true, "check": false },
            },
            { "name": "several", "key": ["path"], "limits": [{ "requests": 9, "per": "1s" }] },
        ],
        "service": { "cluster": "limits", "domain": "shop", "timeout": "50ms", "local_share": "25%" },
        "on_error": "local",
    })
}

#[test]
fn the_schema_of_a_service_takes_what_its_parser_takes() {
    let schema = tollgate::config::schema::<GlobalPolicy>().to_value();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let judged = |policy: &Value| {
        let parsed = tollgate::config::parse::<GlobalPolicy>(policy.to_string().as_bytes());
        (parsed.is_ok(), validator.is_valid(policy))
    };
    assert_eq!(judged(&a_global_policy()), (true, true));
    for (pointer, value) in [
        ("/service", json!(null)),
        ("/service/cluster", json!("")),
        ("/service/timeout", json!("1w")),
        ("/service/local_share", json!("101%")),
        ("/on_error", json!("remote")),
        ("/rules/0/descriptor", json!([])),
        ("/rules/0/descriptor/entries", json!([])),
        ("/rules/0/descriptor/check", json!("yes")),
    ] {
        let mut policy = a_global_policy();
        *policy.pointer_mut(pointer).unwrap() = value;
        assert_eq!(judged(&policy), (false, false), "{pointer}");
    }
    let mut policy = a_global_policy();
    policy.as_object_mut().unwrap().remove("service");
    assert_eq!(judged(&policy), (false, false));
}

#[test]
fn the_readme_of_a_service_has_what_only_its_policy_says() {
    let mut schema = tollgate::config::schema::<GlobalPolicy>().to_value();
    let fields = schema["properties"].as_object_mut().unwrap();
    fields.retain(|name, _| ["rules", "service", "on_error"].contains(&name.as_str()));
    let fields = schema["$defs"]["Rule"]["properties"].as_object_mut().unwrap();
    fields
        .retain(|name, _| ["limit", "limits", "overrides", "descriptor"].contains(&name.as_str()));
    let whole = ["limit", "limits[]", "overrides[]"].map(|name| format!("rules[].{name}"));
    let whole = whole.each_ref().map(String::as_str);
    assert_eq!(compare_documented(&schema, include_str!("../GLOBAL.md"), &whole), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_policy_with_changes_is_judged_alike(
        changes in vec((any::<Index>(), changes()), 1..4),
    ) {
        thread_local!(static VALIDATOR: Validator = validator());
        let policy = changed(a_policy(), changes);
        VALIDATOR.with(|validator| drop(check(validator, &policy)));
    }
}
