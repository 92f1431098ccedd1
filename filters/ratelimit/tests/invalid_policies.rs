//! What an operator reads about a policy that cannot be taken: the place, the value and the bound.

use tollgate_ratelimit::config::{GlobalPolicy, Policy};

fn check(json: impl AsRef<[u8]>, expected: &str) {
    let json = json.as_ref();
    let found = tollgate::config::parse::<Policy>(json).map_err(|error| error.to_string());
    assert_eq!(found, Err(expected.to_owned()), "{}", String::from_utf8_lossy(json));
}

/// A policy of one rule, with this field instead of the rule's own.
fn rule_with(field: &str, value: &str) -> String {
    let fields: Vec<_> = [
        ("name", r#""per-user""#),
        ("key", r#"[{"header":"x-user"}]"#),
        ("limit", r#"{"requests":2,"per":"1s"}"#),
    ]
    .into_iter()
    .filter(|&(name, _)| name != field)
    .chain([(field, value)])
    .map(|(name, value)| format!("{name:?}:{value}"))
    .collect();
    format!("{{\"rules\":[{{{}}}]}}", fields.join(","))
}

#[test]
fn what_is_not_text_or_not_json_is_named_with_its_place() {
    check("", "the configuration is empty; rules: missing");
    check(" \n", "the configuration is empty; rules: missing");
    check(b"{\n  \"rules\xff\"", "line 2 column 9: not UTF-8");
    check(b"\xff", "line 1 column 1: not UTF-8");
    check("{", "line 1 column 1: not JSON: EOF while parsing an object");
    check("{\n  rules", "line 2 column 3: not JSON: key must be a string");
    check(
        rule_with("unkeyed", "\"deny\"") + "}",
        "line 1 column 111: not JSON: trailing characters",
    );
    check(rule_with("limit", "1e999"), "line 1 column 70: not JSON: number out of range");
}

#[test]
fn a_policy_that_does_not_fit_is_named_with_the_place_the_value_and_the_bound() {
    for (json, expected) in [
        ("[]", "configuration: a list is not an object"),
        ("{}", "rules: missing"),
        (r#"{"rules":[]}"#, "rules: an empty list; name at least one rule"),
        (r#"{"rules":{}}"#, "rules: an object is not a list"),
        (r#"{"rules":[7]}"#, "rules[0]: 7 is not an object"),
        (r#"{"rules":[[]]}"#, "rules[0]: a list is not an object"),
        (r#"{"rules":[{}]}"#, "rules[0].name: missing"),
        (r#"{"rules":[],"rules":[]}"#, "rules: written twice"),
        (
            r#"{"rules":[],"x":1}"#,
            "x: unknown field, expected one of `rules`, `mode`, `ambiguous`, `on_error`, `answer`, `fields`, `service`",
        ),
        (
            r#"{"rules":[],"a\nb":1}"#,
            "a b: unknown field, expected one of `rules`, `mode`, `ambiguous`, `on_error`, `answer`, `fields`, `service`",
        ),
        (r#"{"rules":[],"on_error":"log"}"#, "on_error: `log` is not `deny` or `allow`"),
        (r#"{"rules":[],"on_error":"a\nb"}"#, "on_error: `a b` is not `deny` or `allow`"),
        (r#"{"rules":[],"on_error":null}"#, "on_error: null is not a string"),
    ] {
        check(json, expected);
    }
}

#[test]
fn a_rule_that_does_not_fit_is_named_with_the_place_the_value_and_the_bound() {
    for (field, value, expected) in [
        (
            "lmit",
            "1",
            ".lmit: unknown field, expected one of `name`, `match`, `key`, `limit`, `limits`, `overrides`, `cost`, `unkeyed`, `keys`, `mode`, `descriptor`",
        ),
        ("name", "7", ".name: 7 is not a string"),
        ("name", r#""""#, r#".name: "" is not a rule name; use 1 to 64 of a-z, 0-9 and -"#),
        (
            "name",
            r#""A, expected b""#,
            r#".name: "A, expected b" is not a rule name; use 1 to 64 of a-z, 0-9 and -"#,
        ),
        ("unkeyed", r#""maybe""#, ".unkeyed: `maybe` is not one of `share`, `allow`, `deny`"),
        ("unkeyed", r#"{"deny":null}"#, ".unkeyed: an object is not a string"),
        ("unkeyed", "true", ".unkeyed: true is not a string"),
        ("key", "[]", ".key: an empty list; name at least one part, such as { header: x-user }"),
        ("key", r#""path""#, r#".key: "path" is not a list"#),
        (
            "key",
            r#"["cookie"]"#,
            r#".key[0]: "cookie" is not a part: "path", "peer", { header: NAME } or its like"#,
        ),
        ("key", "[7]", r#".key[0]: 7 is not a part: "path", "peer", { header: NAME } or its like"#),
        (
            "key",
            "[{}]",
            r#".key[0]: an object is not a part: "path", "peer", { header: NAME } or its like"#,
        ),
        (
            "key",
            r#"["path",{"cooky":"a"}]"#,
            ".key[1].cooky: unknown field, expected one of `header`, `cookie`, `query`, `template`, `client_address`, `constant`",
        ),
        (
            "key",
            r#"[{"header":"x-a","constant":"b"}]"#,
            ".key[0]: several parts in one; make each an item of the list",
        ),
        ("key", r#"[{"header":7}]"#, ".key[0].header: 7 is not a string"),
        (
            "key",
            r#"[{"header":":path"}]"#,
            r#".key[0].header: ":path" is a pseudo-header; write the name of a header such as x-user"#,
        ),
        (
            "key",
            r#"[{"header":"x user"}]"#,
            r#".key[0].header: "x user" is not a header name; take out ' '"#,
        ),
        (
            "key",
            r#"[{"constant":""}]"#,
            r#".key[0].constant: "" is not a text; write at least one character"#,
        ),
        ("limit", r#"[2,"1s"]"#, ".limit: a list is not an object"),
        ("limit", r#"{"per":"1s"}"#, ".limit.requests: missing"),
        ("limit", r#"{"requests":2}"#, ".limit.per: missing"),
        ("keys", "0", ".keys: 0 is not between 1 and 1000000"),
        ("keys", "5000000000", ".keys: 5000000000 is not between 1 and 1000000"),
        ("keys", "-1", ".keys: -1 is not a whole number"),
        ("keys", r#""10""#, r#".keys: "10" is not a whole number"#),
    ] {
        check(rule_with(field, value), &format!("rules[0]{expected}"));
    }
}

#[test]
fn limits_that_do_not_fit_are_named_with_the_place_the_value_and_the_bound() {
    let rule = |limits: &str| format!(r#"{{"rules":[{{"name":"a","key":["path"],{limits}}}]}}"#);
    let limit = r#"{"requests":2,"per":"1s"}"#;
    for (limits, expected) in [
        (r#""unkeyed":"share""#.to_owned(), ": write either `limit` or `limits`"),
        (format!(r#""limit":{limit},"limits":[{limit}]"#), ": write either `limit` or `limits`"),
        (
            r#""limits":[]"#.to_owned(),
            ".limits: an empty list; write at least one item, or leave the field out",
        ),
        (format!(r#""limits":{limit}"#), ".limits: an object is not a list"),
        (r#""limits":null"#.to_owned(), ".limits: null is not a list"),
        (format!(r#""limits":[{limit},7]"#), ".limits[1]: 7 is not an object"),
        (format!(r#""limits":[{limit},{{"requests":2}}]"#), ".limits[1].per: missing"),
        (
            format!(r#""limits":[{limit},{{"requests":9,"per":"1000ms"}}]"#),
            ".limits[1].per: 1s is already the window of limits[0]",
        ),
        (
            format!(r#""limits":[{limit},{{"requests":0,"per":"1m"}}]"#),
            ".limits[1].requests: 0 is not at least 1",
        ),
    ] {
        check(rule(&limits), &format!("rules[0]{expected}"));
    }
    let on = "rules[0].mode: `on` is not one of `enforce`, `shadow`, `off`";
    check(rule_with("mode", r#""on""#), on);
}

#[test]
fn costs_and_overrides_that_do_not_fit_are_named_with_the_place_the_value_and_the_bound() {
    let what = "a cost: a number from 1, { header: NAME, max: N } or { query: NAME, max: N }";
    for (cost, expected) in [
        ("0", ".cost: 0 is not at least 1".to_owned()),
        ("3", ".cost: 3 is not at most 2, the smallest burst".to_owned()),
        (r#""3""#, format!(".cost: \"3\" is not {what}")),
        (r#"{"max":2}"#, ".cost: write either `header` or `query`".to_owned()),
        (r#"{"header":"x-cost"}"#, ".cost.max: missing".to_owned()),
        (
            r#"{"header":"x-cost","max":3}"#,
            ".cost: 3 is not at most 2, the smallest burst".to_owned(),
        ),
    ] {
        check(rule_with("cost", cost), &format!("rules[0]{expected}"));
    }
    let limit = r#""limit":{"requests":2,"per":"1s"}"#;
    let alice = format!(r#"{{"key":["alice"],{limit}}}"#);
    let empty = ": an empty list; write at least one item, or leave the field out";
    for (overrides, expected) in [
        ("[]".to_owned(), empty.to_owned()),
        (format!(r#"[{{"key":[],{limit}}}]"#), format!("[0].key{empty}")),
        (
            format!(r#"[{{"key":["a","b"],{limit}}}]"#),
            "[0].key: 2 values are not 1, one for each part that is not constant".to_owned(),
        ),
        (format!("[{alice},{alice}]"), "[1].key: it is already the key of overrides[0]".to_owned()),
        (r#"[{"key":["a"]}]"#.to_owned(), "[0]: write either `limit` or `limits`".to_owned()),
    ] {
        check(rule_with("overrides", &overrides), &format!("rules[0].overrides{expected}"));
    }
}

#[test]
fn keys_fields_and_answers_that_do_not_fit_are_named_with_the_place_the_value_and_the_bound() {
    let limit = r#""limit":{"requests":2,"per":"1s"}"#;
    let text = r#".query: "" is not a text; write at least one character"#;
    let part = r#": "peers" is not a part: "path", "peer", { header: NAME } or its like"#;
    for (key, expected) in [
        (r#""peers""#, part),
        (r#"{"query":""}"#, text),
        (
            r#"{"client_address":{"trusted_hops":256}}"#,
            ".client_address.trusted_hops: 256 is not a whole number up to 255",
        ),
        (r#"{"header":"a","cookie":"b"}"#, ": several parts in one; make each an item of the list"),
    ] {
        let policy = format!(r#"{{"rules":[{{"name":"a","key":[{key}],{limit}}}]}}"#);
        check(policy, &format!("rules[0].key[0]{expected}"));
    }
    for (field, expected) in [
        (r#""fields":"all""#, "fields: `all` is not one of `ietf`, `x-ratelimit`, `both`, `none`"),
        (r#""answer":{"status":200}"#, "answer.status: 200 is not between 400 and 599"),
        (
            r#""answer":{"content_type":"a/b"}"#,
            "answer.content_type: there is no `body` of this type",
        ),
    ] {
        let policy = format!(r#"{{"rules":[{{"name":"a","key":["path"],{limit}}}],{field}}}"#);
        check(policy, expected);
    }
}

#[test]
fn a_limit_that_does_not_fit_is_named_with_the_place_the_value_and_the_bound() {
    for (requests, per, burst, expected) in [
        ("0", "1s", "1", "requests: 0 is not at least 1"),
        ("-1", "1s", "1", "requests: -1 is not a whole number"),
        ("1.5", "1s", "1", "requests: 1.5 is not a whole number"),
        ("\"2\"", "1s", "1", "requests: \"2\" is not a whole number"),
        ("1001", "1ms", "1", "requests: 1001 is not at most 1000, one per microsecond of 1ms"),
        ("2", "0s", "1", "per: 0s is not between 1ms and 366d"),
        ("2", "367d", "1", "per: 31708800s is not between 1ms and 366d"),
        ("2", "1s", "0", "burst: 0 is not at least 1"),
        ("2", "1s", "null", "burst: null is not a whole number"),
        ("1", "1d", "367", "burst: 367 is not at most 366, what this rate earns in 366 days"),
    ] {
        let limit = format!("{{\"requests\":{requests},\"per\":{per:?},\"burst\":{burst}}}");
        check(rule_with("limit", &limit), &format!("rules[0].limit.{expected}"));
    }
}

#[test]
fn a_window_that_is_no_duration_is_answered_with_the_forms() {
    for per in ["1", "\"1\"", "\"s\"", "\"1 s\"", "\"+1s\"", "\"1.5s\"", "\"1S\"", "\"1w\""] {
        check(
            rule_with("limit", &format!("{{\"requests\":2,\"per\":{per}}}")),
            &format!(
                "rules[0].limit.per: {per} is not a duration: a whole number and ms, s, m, h or d, such as \"500ms\""
            ),
        );
    }
}

#[test]
fn rules_with_one_name_are_refused() {
    let rule = r#"{"name":"a","key":["path"],"limit":{"requests":1,"per":"1s"}}"#;
    check(
        format!("{{\"rules\":[{rule},{},{rule}]}}", rule.replace("\"a\"", "\"b\"")),
        "rules[2].name: \"a\" is already the name of rules[0]",
    );
}

#[test]
fn what_only_a_service_counts_is_refused_by_who_counts_in_the_proxy() {
    let rule = r#"{"name":"a","key":["path"],"limit":{"requests":1,"per":"1s"}}"#;
    let only = "only `ratelimit-global` has it";
    check(
        format!(r#"{{"rules":[{rule}],"service":{{"cluster":"a","domain":"b"}}}}"#),
        &format!("service: {only}"),
    );
    check(rule_with("descriptor", "{}"), &format!("rules[0].descriptor: {only}"));
}

#[test]
fn a_policy_for_a_service_that_does_not_fit_is_named_with_the_place_the_value_and_the_bound() {
    let limit = r#""limit":{"requests":2,"per":"1s"}"#;
    let (plain, denied) = (r#""cluster":"a","domain":"b""#, r#""on_error":"deny""#);
    let (shared, local) =
        (r#""cluster":"a","domain":"b","local_share":"50%""#, r#""on_error":"local""#);
    for (rule, service, on_error, expected) in [
        ("", r#""domain":"b""#, denied, "service.cluster: missing"),
        (
            "",
            r#""cluster":"","domain":"b""#,
            denied,
            "service.cluster: \"\" is not a text; write at least one character",
        ),
        (
            "",
            r#""cluster":"a","domain":"b","timeout":"61s""#,
            denied,
            "service.timeout: 61s is not between 1ms and 60s",
        ),
        ("", shared, denied, "service.local_share: only goes with `on_error: local`"),
        (limit, plain, local, "service.local_share: missing, for `on_error: local`"),
        (
            limit,
            r#""cluster":"a","domain":"b","local_share":"0%""#,
            local,
            "service.local_share: 0% is not above 0%",
        ),
        ("", shared, local, "rules[0]: write either `limit` or `limits`"),
        (
            r#""limit":{"requests":1,"per":"366d"}"#,
            shared,
            local,
            "service.local_share: 50% of the limit of rules[0] has a window above 366d",
        ),
        (
            r#""limit":{"requests":3,"per":"1s"},"cost":3"#,
            shared,
            local,
            "rules[0].cost: 3 is not at most 1, the smallest burst",
        ),
        (
            r#""limit":{"requests":3,"per":"1s"},"descriptor":{"check":true}"#,
            shared,
            local,
            "rules[0].descriptor.check: true does not go with `on_error: local`, which charges",
        ),
        (
            limit,
            plain,
            denied,
            "rules[0].limit: the service has its own; leave it out, or write `descriptor: { limit: true }` or `on_error: local`",
        ),
        (
            r#""descriptor":{"limit":true}"#,
            plain,
            denied,
            "rules[0]: write either `limit` or `limits`",
        ),
        (
            r#""descriptor":{"limit":true},"limit":{"requests":2,"per":"2s"}"#,
            plain,
            denied,
            "rules[0].descriptor.limit: only one limit can be sent, of up to 4294967295 requests per 1s, 1m, 1h, 1d or 7d",
        ),
        (
            r#""overrides":[{"key":["a"],"limit":{"requests":2,"per":"1s"}}]"#,
            plain,
            denied,
            "rules[0].overrides: there is no limit for them to be beside",
        ),
        (
            r#""descriptor":{"entries":["a","b"]}"#,
            plain,
            denied,
            "rules[0].descriptor.entries: 2 names are not 1, one for each value of the key",
        ),
        (
            r#""key":[{"header":"a"},{"cookie":"a"}]"#,
            plain,
            denied,
            "rules[0].descriptor.entries: \"a\" names two values of the key; name each apart",
        ),
    ] {
        let key = if rule.starts_with("\"key\"") { "" } else { r#","key":["path"]"# };
        let more = if rule.is_empty() { String::new() } else { format!(",{rule}") };
        let policy = format!(
            r#"{{"rules":[{{"name":"a"{key}{more}}}],"service":{{{service}}},{on_error}}}"#
        );
        let found = tollgate::config::parse::<GlobalPolicy>(policy.as_bytes());
        let found = found.map_err(|error| error.to_string());
        assert_eq!(found.map(|_| ()), Err(expected.to_owned()), "{policy}");
    }
}
