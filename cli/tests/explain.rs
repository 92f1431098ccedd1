//! `tollgate explain`: what a filter makes of one request, and each step on the way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{modules, tollgate};
use tempfile::TempDir;

/// Explains a request by a policy; gives what is printed, and the code of the process.
fn explain(policy: &str, request: &[&str]) -> (String, Option<i32>) {
    let modules = modules().to_str().unwrap();
    let output = tollgate(&[&["explain", policy, "--modules", modules][..], request].concat());
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

fn check(policy: &str, request: &[&str], expected: &[&str]) {
    let (text, code) = explain(policy, request);
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{request:?}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_canary_tells_its_steps_and_what_it_writes() {
    let policy = "examples/09-canary/policy.yaml";
    check(
        policy,
        &[
            "--request",
            "GET /checkout/7",
            "--header",
            "x-user: alice",
            "--header",
            "x-checkout: v1",
        ],
        &[
            "canary: checkout: override: not asked for",
            "canary: checkout: never: no condition holds",
            "canary: checkout: list of v2: no condition holds",
            "canary: checkout: key: bucket 815085",
            "canary: checkout: share of v2: outside the first 5% of 0% to 50%",
            "canary: checkout: gets stable, default",
            "=> goes to the upstream",
            "   with x-checkout: stable",
        ],
    );
    check(
        policy,
        &["--request", "GET /cart"],
        &["canary: checkout: not for this request", "=> goes to the upstream"],
    );
}

#[test]
fn a_rate_limit_tells_its_rules_its_keys_and_each_limit() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "
filter: ratelimit
config:
  rules:
    - name: writes
      match: { methods: [POST] }
      key: [ path ]
      limit: { requests: 1, per: 1s }
    - name: per-user
      key: [ { header: x-user }, { constant: eu } ]
      limits: [ { requests: 2, per: 10s }, { requests: 30, per: 1m, burst: 3 } ]
      overrides: [ { key: [bob], limit: { requests: 9, per: 1s } } ]
      cost: { header: x-rows, max: 2 }
      unkeyed: deny
    - { name: idle, key: [path], limit: { requests: 1, per: 1s }, mode: off }
";
    std::fs::write(&policy, text).unwrap();
    let policy = policy.to_str().unwrap();
    check(
        policy,
        &["--header", "x-user: alice"],
        &[
            "ratelimit: writes: match: does not fit",
            "ratelimit: per-user: for every request",
            "ratelimit: per-user: key: header x-user, constant \"eu\": 38f14eed6fdcaa91, costs 1",
            "ratelimit: idle: off",
            "ratelimit: per-user: 2 in 10s, 2 at once: admits it, and 1 more",
            "ratelimit: per-user: 30 in 60s, 3 at once: admits it, and 2 more",
            "ratelimit: the request is admitted",
            "=> goes to the upstream",
        ],
    );
    check(
        policy,
        &["--header", "x-user: alice", "--header", "x-rows: 2"],
        &[
            "ratelimit: writes: match: does not fit",
            "ratelimit: per-user: for every request",
            "ratelimit: per-user: key: header x-user, constant \"eu\": 38f14eed6fdcaa91, costs 2",
            "ratelimit: idle: off",
            "ratelimit: per-user: 2 in 10s, 2 at once: admits it, and 0 more",
            "ratelimit: per-user: 30 in 60s, 3 at once: admits it, and 1 more",
            "ratelimit: the request is admitted",
            "=> goes to the upstream",
        ],
    );
    check(
        policy,
        &["--request", "POST /orders", "--header", "x-user: bob"],
        &[
            "ratelimit: writes: match: fits",
            "ratelimit: writes: key: path: c005ee9411125573, costs 1",
            "ratelimit: per-user: for every request",
            "ratelimit: per-user: key: header x-user, constant \"eu\": c64c6cf168134aa1, limits of overrides[0], costs 1",
            "ratelimit: idle: off",
            "ratelimit: writes: 1 in 1s, 1 at once: admits it, and 0 more",
            "ratelimit: per-user: 9 in 1s, 9 at once: admits it, and 8 more",
            "ratelimit: the request is admitted",
            "=> goes to the upstream",
        ],
    );
    check(
        policy,
        &[],
        &[
            "ratelimit: writes: match: does not fit",
            "ratelimit: per-user: for every request",
            "ratelimit: per-user: no key: it has no header x-user",
            "ratelimit: per-user: refused without a key, it has no header x-user",
            "=> answered with 400",
        ],
    );
}

#[test]
fn a_policy_that_the_filter_refuses_is_told_in_its_words() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text = "
filter: ratelimit
config:
  rules: [ { name: a, key: [path], limit: { requests: 1, per: 1s } } ]
  answer: { status: 200 }
";
    std::fs::write(&policy, text).unwrap();
    let (text, code) = explain(policy.to_str().unwrap(), &[]);
    assert!(text.contains("answer.status: 200 is not between 400 and 599"), "{text}");
    assert_eq!(code, Some(1));
}
