//! The schema of a policy, the parser and the README say the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use jsonschema::Validator;
use serde_json::{Value, json};
use tollgate::testing::{compare_documented, with_other_fields, with_other_values};
use tollgate_metrics::config::Policy;

/// What only the parser can say: rules between several values, and what a text is worth beyond its form.
const BEYOND_THE_SCHEMA: [&str; 20] = [
    "ends in",
    "is the name of two labels",
    "is no label of the profile",
    "is already the name of",
    "is the name of another metric",
    "is the label of objectives",
    "write exactly one of `value`",
    "whose value is not read",
    "it stands twice",
    "has neither name nor bounds",
    "the profile does not have",
    "a counter has no buckets",
    "is not above",
    "nothing is measured",
    "no label says who reports",
    "is above 0% and below 100%",
    "is not one of request, response",
    "].templates[",
    "is not between 1 and 16",
    // JSON Schema takes 1.0 for a whole number.
    ".0 is not",
];

fn validator() -> Validator {
    let schema = tollgate::config::schema::<Policy>().to_value();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Compares the two; gives the parser's verdict.
fn check(validator: &Validator, document: &Value) -> Result<(), String> {
    let parsed = tollgate::config::parse::<Policy>(document.to_string().as_bytes());
    let error = parsed.err().map(|error| error.to_string());
    match (&error, validator.validate(document)) {
        (None, Err(why)) => panic!("only the schema refuses {document}: {why}"),
        (Some(error), Ok(())) if !BEYOND_THE_SCHEMA.iter().any(|rule| error.contains(rule)) => {
            panic!("only the parser refuses {document}: {error}")
        }
        (None | Some(_), _) => error.map_or(Ok(()), Err),
    }
}

/// A policy that says all that can be said.
fn a_policy() -> Value {
    json!({
        "profile": "istio",
        "reporter": "waypoint",
        "host_fallback": false,
        "in_flight": true,
        "budget": 100,
        "report_seconds": 10,
        "mode": "shadow",
        "on_error": "skip",
        "failures": { "http": ["5xx", "429"], "grpc": [2, 14] },
        "objectives": [
            { "name": "fast", "match": { "methods": ["GET"] }, "within_milliseconds": 300, "target": "99.9%" },
        ],
        "metrics": [
            { "measure": "first_byte", "name": "first_byte", "bounds": [5, 10] },
            { "measure": "request_bytes", "drop": true },
        ],
        "labels": [
            { "name": "region", "value": "eu" },
            { "name": "outcome", "fact": "outcome" },
            { "name": "tenant", "header": "x-tenant", "one_of": ["gold"] },
            { "name": "cache", "response_header": "x-cache" },
            { "name": "template", "templates": ["/users/{id}", "/health"] },
            { "name": "account", "peer": "service_account" },
            { "name": "zone", "attribute": ["xds", "route_name"] },
            { "name": "source_app", "rename": "caller" },
            { "name": "source_version", "drop": true },
        ],
    })
}

#[test]
fn all_that_can_be_said_pleases_both() {
    assert_eq!(check(&validator(), &a_policy()), Ok(()));
}

#[test]
fn every_value_at_every_place_is_judged_alike() {
    const TEXTS: [&str; 20] = [
        "",
        " ",
        "a",
        "A",
        "x-user",
        ":path",
        "host",
        "1a",
        "a-b",
        "istio",
        "source",
        "requests",
        "method",
        "namespace",
        "off",
        "0%",
        "100%",
        "5xx",
        "503",
        "skip",
    ];
    let validator = validator();
    let mut verdicts = [0, 0];
    for policy in with_other_values(&a_policy(), &TEXTS) {
        verdicts[usize::from(check(&validator, &policy).is_ok())] += 1;
    }
    // The comparison is worth nothing unless both verdicts are frequent.
    assert!(verdicts.iter().all(|count| *count > 100), "{verdicts:?}");
}

#[test]
fn every_field_may_be_left_out_or_not_alike() {
    let validator = validator();
    for policy in with_other_fields(&a_policy()) {
        let _verdict = check(&validator, &policy);
    }
}

#[test]
fn the_readme_has_every_key_and_no_other() {
    let schema = tollgate::config::schema::<Policy>().to_value();
    // What these hold is told in text, or once.
    let whole = ["match"];
    assert_eq!(compare_documented(&schema, include_str!("../README.md"), &whole), Ok(()));
}
