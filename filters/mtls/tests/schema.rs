//! The schema of a policy, the parser and the README say the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use jsonschema::Validator;
use serde_json::{Value, json};
use tollgate::testing::{compare_documented, with_other_fields, with_other_values};
use tollgate_mtls::policy::{ConnectionPolicy, Policy};

/// What only the parser can say: rules between several values, and what a text is worth beyond its form.
const BEYOND_THE_SCHEMA: [&str; 20] = [
    "is already the name of",
    "the shares add up to",
    "stands twice; name one anew",
    "bits beyond its prefix",
    "is not a range of addresses",
    "missing; ",
    "has no effect",
    "would let pass after it",
    "those of one trust domain",
    "would tell what the status",
    "cannot be seen in first names",
    "is not a day",
    "write exactly one of",
    "has a star",
    "is not a segment of a SPIFFE ID",
    "leave it out",
    "is not a trust domain",
    "has no port",
    "not a host",
    // JSON Schema takes 1.0 for a whole number.
    ".0 is not",
];

const README: &str = include_str!("../README.md");

/// What these hold is told in text, or once.
const TOLD_WHOLE: [&str; 4] = ["mode", "next.rules[]", "paths[]", "hosts[]"];

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
        "identity": {
            "source": "forwarded", "required": false, "verified_by": "listener",
            "reads": "certificate", "svid": "optional", "max_age_seconds": 60,
            "forwarded": {
                "hops": 2, "by": ["spiffe://acme/edge"], "proxies": ["spiffe://acme/edge"],
                "hashes": ["ab".repeat(32)],
            },
        },
        "revoked": {
            "ids": ["spiffe://acme/a"], "digests": ["ab".repeat(32)], "serials": ["0a1b"],
        },
        "trust_domain": "acme",
        "trust_domain_aliases": ["old"],
        "rules": [
            {
                "name": "all", "action": "except", "expires": "2026-12-31",
                "from": [{
                    "principals": ["*", "spiffe://acme/ns/*"], "not_trust_domains": ["evil"],
                    "namespaces": ["a"], "not_service_accounts": ["a/b"],
                    "dns_names": ["*.acme.test"], "subjects": ["CN=a"],
                    "addresses": ["10.0.0.0/8"],
                }],
                "to": [{
                    "hosts": ["a.test"], "not_methods": ["GET"],
                    "paths": [{ "suffix": "/a" }, { "template": "/a/{b}" }],
                    "ports": [80], "not_server_names": ["a.test"],
                }],
                "when": [
                    { "header": "a", "values": "members", "any": ["b", "c*", "*d", "*"] },
                    { "header": "a", "one": ["b"] },
                ],
            },
            { "name": "denied", "action": "deny" },
        ],
        "otherwise": "allow",
        "next": { "rules": [], "otherwise": "deny" },
        "answer": { "status": 403, "body": "no", "explain": true },
        "forward": "x-id",
        "mode": { "enforce": "50%", "shadow": "50%", "off": "0%" },
        "on_error": "allow",
    })
}

#[test]
fn all_that_can_be_said_pleases_both() {
    assert_eq!(check(&validator(), &a_policy()), Ok(()));
}

#[test]
fn every_value_at_every_place_is_judged_alike() {
    const TEXTS: [&str; 16] = [
        "",
        "a",
        "A",
        "GET",
        "x y",
        "off",
        "allow",
        "audit",
        "waypoint",
        "10.0.0.0/8",
        "a/b",
        "spiffe://a/b",
        "*",
        "2026-02-30",
        "0a",
        "ü",
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
    assert_eq!(compare_documented(&schema, README, &TOLD_WHOLE), Ok(()));
}

#[test]
fn connections_have_every_key_of_the_readme_but_those_of_requests() {
    let schema = tollgate::config::schema::<ConnectionPolicy>().to_value();
    let rows = README.lines().filter(|row| !row.contains("not for TCP"));
    let readme: String = rows.flat_map(|row| [row, "\n"]).collect();
    assert_eq!(compare_documented(&schema, &readme, &TOLD_WHOLE), Ok(()));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let forwarded = json!({ "identity": { "source": "forwarded" }, "rules": [] });
    assert!(!validator.is_valid(&forwarded));
}
