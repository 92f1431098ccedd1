//! The schema of a policy, the parser and the README say the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use jsonschema::Validator;
use serde_json::{Value, json};
use tollgate::testing::{compare_documented, with_other_fields, with_other_values};
use tollgate_canary::config::Policy;

/// What only the parser can say: rules between several values, and what a text is worth beyond its form.
const BEYOND_THE_SCHEMA: [&str; 22] = [
    "is already the name of",
    "the shares add up to",
    "does not fit into the range",
    "is not above",
    "overlaps with",
    "stands twice; name one anew",
    "is no regular expression",
    "is below at_least",
    "is removed from requests",
    "is a header that",
    "nothing chooses this variant",
    "missing; ",
    "writes the same header in another way",
    "in the same layer",
    "bits beyond its prefix",
    "is not a range of addresses",
    "nobody is trusted",
    "no variant has a share",
    "`mint` needs",
    "no bucket",
    "takes the last bucket",
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
        "salt": "shop",
        "killed": false,
        "mode": { "enforce": "50%", "shadow": "50%", "off": "0%", "sticky": "x-user" },
        "trusted": { "peers": ["spiffe://mesh/ns/*/sa/ingress"], "addresses": ["10.0.0.0/8"] },
        "mint": { "cookie": "id", "max_age_seconds": 60, "same_site": "strict" },
        "explain": "x-why",
        "log": "5%",
        "on_error": "allow",
        "rules": [
            {
                "name": "checkout",
                "match": { "methods": ["GET"] },
                "mode": "shadow",
                "killed": true,
                "steer": { "cluster_header": "x-cluster" },
                "override": { "query": "want" },
                "layer": "one",
                "key": [{ "header": "x-user" }, { "cookie": "user" }, "peer", { "address": {} }],
                "unkeyed": "mint",
                "default": { "name": "v1", "value": "shop-v1" },
                "never": [{ "match": { "methods": ["PUT"] }, "values": [
                    { "header": "a", "exact": "b" },
                    { "cookie": "a", "prefix": "b", "count": "any" },
                    { "query": "a", "suffix": "b", "count": "all" },
                    { "header": "a", "regex": "b" },
                    { "header": "a", "in": ["b", ""] },
                    { "header": "a", "at_least": -1, "at_most": 1 },
                    { "header": "a", "present": false },
                ] }],
                "variants": [
                    { "name": "v2", "value": "shop-v2", "share": "5%", "range": { "from": "0%", "to": "50%" },
                      "list": [{ "values": [{ "header": "a", "present": true }] }] },
                ],
            },
            { "name": "b", "steer": { "filter_state": "v" }, "override": { "cookie": "want" },
              "variants": [{ "name": "v2" }] },
        ],
    })
}

#[test]
fn all_that_can_be_said_pleases_both() {
    assert_eq!(check(&validator(), &a_policy()), Ok(()));
}

#[test]
fn every_value_at_every_place_is_judged_alike() {
    const TEXTS: [&str; 24] = [
        "",
        " ",
        "a",
        "A",
        "x-user",
        ":path",
        "host",
        "x y",
        "peer",
        "mint",
        "default",
        "lax",
        "off",
        "0%",
        "100%",
        "101%",
        "5",
        "10.0.0.0/8",
        "a.b",
        "(",
        "spiffe://a/b",
        "any",
        "ü",
        "deny",
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
    let whole = ["mode", "match", "steer", "override", "key[]", "never[]", "list[]"];
    assert_eq!(compare_documented(&schema, include_str!("../README.md"), &whole), Ok(()));
}
