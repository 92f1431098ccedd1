//! What an operator reads about a policy that cannot be taken: the place, the value and the bound.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use tollgate_canary::config::Policy;

fn check(json: impl AsRef<[u8]>, expected: &str) {
    let json = json.as_ref();
    let found = tollgate::config::parse::<Policy>(json).map_err(|error| error.to_string());
    assert_eq!(found, Err(expected.to_owned()), "{}", String::from_utf8_lossy(json));
}

/// An object of these fields, the later of one name in place of the earlier.
fn object(fields: &[(&str, &str)]) -> String {
    let is_last = |at: &usize| {
        let after = fields.get(at + 1..).unwrap_or_default();
        after.iter().all(|(name, _)| *name != fields[*at].0)
    };
    let written: Vec<_> = (0..fields.len())
        .filter(is_last)
        .map(|at| fields[at])
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:?}:{value}"))
        .collect();
    format!("{{{}}}", written.join(","))
}

/// A variant, with other fields; an empty one is left out.
fn variant(fields: &[(&str, &str)]) -> String {
    object(&[&[("name", r#""v2""#), ("share", r#""5%""#)], fields].concat())
}

fn rule(fields: &[(&str, &str)]) -> String {
    let variants = format!("[{}]", variant(&[]));
    let own = [
        ("name", r#""checkout""#),
        ("key", r#"[{"header":"x-user"}]"#),
        ("steer", r#"{"header":"x-variant"}"#),
        ("variants", &variants),
    ];
    object(&[&own, fields].concat())
}

fn policy(rules: &[String], fields: &[(&str, &str)]) -> String {
    let rules = format!("[{}]", rules.join(","));
    object(&[&[("salt", r#""shop""#), ("rules", rules.as_str())], fields].concat())
}

fn in_policy(fields: &[(&str, &str)]) -> String {
    policy(&[rule(&[])], fields)
}

fn in_rule(fields: &[(&str, &str)]) -> String {
    policy(&[rule(fields)], &[("trusted", r#"{"addresses":["10.0.0.0/8"]}"#)])
}

fn in_variant(fields: &[(&str, &str)]) -> String {
    in_rule(&[("variants", &format!("[{}]", variant(fields)))])
}

#[test]
fn the_policies_that_are_made_wrong_are_right_before() {
    for json in [in_policy(&[]), in_rule(&[]), in_variant(&[])] {
        tollgate::config::parse::<Policy>(json.as_bytes()).unwrap();
    }
}

#[test]
fn a_policy_says_all_that_it_has_to() {
    check("", "the configuration is empty; salt: missing");
    check("[]", "configuration: a list is not an object");
    check(r#"{"salt":"a"}"#, "rules: missing");
    check(policy(&[], &[]), "rules: an empty list; name at least one rule");
    for (fields, expected) in [
        (&[("salt", r#""""#)], "salt: 0 characters are not between 1 and 64"),
        (&[("salt", "7")], "salt: 7 is not a string"),
        (&[("killed", r#""yes""#)], r#"killed: "yes" is not true or false"#),
        (&[("log", "1")], "log: 1 is not a string"),
        (&[("on_error", r#""pass""#)], "on_error: `pass` is not `deny` or `allow`"),
        (
            &[("mode", r#"{"enforce":"50%","shadow":"0%","off":"0%"}"#)],
            "mode: the shares add up to 50%; make enforce, shadow and off add up to 100%",
        ),
        (
            &[("trusted", "{}")],
            "trusted: an empty object; list peers or addresses, or leave it out",
        ),
        (
            &[("trusted", r#"{"addresses":["10.0.0.1/8"]}"#)],
            r#"trusted.addresses[0]: "10.0.0.1/8" has bits beyond its prefix; write 10.0.0.0/8"#,
        ),
        (
            &[("trusted", r#"{"peers":["cart"]}"#)],
            r#"trusted.peers[0]: "cart" does not begin with spiffe://"#,
        ),
        (
            &[("explain", r#""x-why""#)],
            "explain: nobody is trusted to ask; list peers or addresses in `trusted`",
        ),
        (
            &[("mint", r#"{"cookie":"id","max_age_seconds":0}"#)],
            "mint.max_age_seconds: 0 is not between 1 and 34560000, which is 400 days",
        ),
        (
            &[("mint", r#"{"cookie":"a b","max_age_seconds":1}"#)],
            r#"mint.cookie: "a b" is not the name of a cookie; use letters, digits, - and _"#,
        ),
    ] {
        check(in_policy(fields), expected);
    }
    check(
        in_policy(&[("trusted", r#"{"addresses":["::1"]}"#), ("explain", r#""x-variant""#)]),
        "explain: x-variant is a header that a rule writes; take another one",
    );
}

#[test]
fn a_rule_is_told_with_its_place() {
    for (fields, expected) in [
        (
            &[("name", r#""Check out""#)],
            r#"name: "Check out" is not a name; use 1 to 64 of a-z, 0-9, . and -"#,
        ),
        (&[("variants", "[]")], "variants: an empty list; name at least one variant"),
        (&[("steer", "")], "steer: missing"),
        (&[("steer", "{}")], "steer: write exactly one field"),
        (
            &[("steer", r#"{"cluster":"x"}"#)],
            "steer: `cluster` is not one of `header`, `cluster_header`, `bucket_header`, `filter_state`",
        ),
        (&[("key", "")], "key: missing; a variant has a share, which is dealt by it"),
        (&[("key", "[]")], "key: an empty list; write at least one item, or leave the field out"),
        (
            &[("key", r#"["path"]"#)],
            "key[0]: `path` is not one of `header`, `cookie`, `query`, `peer`, `address`",
        ),
        (
            &[("key", r#"[{"header":"x-variant"}]"#)],
            "key[0]: header x-variant is removed from requests, as a rule or the filter writes it; take another one",
        ),
        (&[("unkeyed", r#""mint""#)], "unkeyed: `mint` needs `mint` in the policy, for its cookie"),
        (
            &[("never", "[{}]")],
            "never[0]: an empty object holds for every request; say what has to hold",
        ),
        (
            &[("never", r#"[{"values":[{"header":"a","cookie":"b","exact":"c"}]}]"#)],
            "never[0].values[0]: write exactly one of `header`, `cookie` and `query`",
        ),
        (
            &[("never", r#"[{"values":[{"header":"a"}]}]"#)],
            "never[0].values[0]: write exactly one of `exact`, `prefix`, `suffix`, `regex`, `in`, `present`, and `at_least` with or without `at_most`",
        ),
        (
            &[("never", r#"[{"values":[{"header":"a","at_least":2,"at_most":1}]}]"#)],
            "never[0].values[0].at_most: 1 is below at_least, which is 2",
        ),
        (
            &[("never", r#"[{"values":[{"header":"a","regex":"("}]}]"#)],
            "never[0].values[0].regex: \"(\" is no regular expression: found open group without closing ')'",
        ),
        (
            &[("never", r#"[{"values":[{"cookie":"a","present":true,"count":"any"}]}]"#)],
            "never[0].values[0]: `present` is about all values; leave `count` out",
        ),
        (
            &[("default", r#"{"name":"v2"}"#)],
            r#"variants[0].name: "v2" is already the name of the default"#,
        ),
        (
            &[("steer", r#"{"cluster_header":"x-c"}"#)],
            "default.value: missing; `cluster_header` takes the name of a cluster",
        ),
    ] {
        check(in_rule(fields), &format!("rules[0].{expected}"));
    }
    let long = "a".repeat(257);
    check(
        in_rule(&[("never", &format!(r#"[{{"values":[{{"header":"a","regex":"{long}"}}]}}]"#))]),
        "rules[0].never[0].values[0].regex: 257 bytes are not between 1 and 256, the length of an expression",
    );
    check(
        policy(&[rule(&[("override", r#"{"header":"x-want"}"#)])], &[]),
        "rules[0].override: nobody is trusted to ask; list peers or addresses in `trusted`",
    );
    check(
        in_rule(&[
            ("steer", r#"{"cluster_header":"x-c"}"#),
            ("default", r#"{"name":"a","value":"b"}"#),
        ]),
        "rules[0].variants[0].value: missing; `cluster_header` takes the name of a cluster",
    );
}

#[test]
fn a_variant_is_told_with_its_place() {
    for (fields, expected) in [
        (
            &[("share", "")],
            "name: nothing chooses this variant; give it a share or a list, or the rule an override",
        ),
        (
            &[("share", r#""101%""#)],
            r#"share: "101%" is not a share; write one from 0% to 100% with at most four decimals, such as 12.5%"#,
        ),
        (
            &[("range", r#"{"from":"0%","to":"4%"}"#)],
            "share: 5% does not fit into the range from 0% to 4%; reserve a larger one",
        ),
        (
            &[("range", r#"{"from":"5%","to":"5%"}"#)],
            "range.to: 5% is not above 5%, where the range begins",
        ),
        (&[("value", r#""a b""#)], r#"value: "a b" is not 1 to 256 visible characters of ASCII"#),
        (&[("list", "[]")], "list: an empty list; write at least one item, or leave the field out"),
        (
            &[("weight", "5")],
            "weight: unknown field, expected one of `name`, `value`, `list`, `range`, `share`",
        ),
    ] {
        check(in_variant(fields), &format!("rules[0].variants[0].{expected}"));
    }
    check(
        in_variant(&[("share", ""), ("range", r#"{"from":"0%","to":"5%"}"#)]),
        "rules[0].variants[0].share: missing; say how much of the range it has, 0% at first",
    );
}

#[test]
fn rules_and_variants_have_to_fit_together() {
    let two = |one: &[(&str, &str)], other: &[(&str, &str)]| policy(&[rule(one), rule(other)], &[]);
    let other = [("name", r#""b""#), ("layer", r#""checkout""#), ("steer", r#"{"header":"x-b"}"#)];
    check(two(&[], &[]), r#"rules[1].name: "checkout" is already the name of rules[0]"#);
    check(
        two(&[], &other),
        "rules[1].variants[0].range: 0% to 100% overlaps with 0% to 100% of variant v2 of rule checkout, which is in the same layer",
    );
    check(
        two(&[], &[&other[..], &[("key", r#"[{"header":"x-org"}]"#)]].concat()),
        "rules[1].key: not that of rules[0], which is in the same layer \"checkout\"; make them equal, or take another layer",
    );
    check(
        two(&[], &[("name", r#""b""#), ("steer", r#"{"bucket_header":"x-variant"}"#)]),
        "rules[1].steer: rules[0] writes the same header in another way; take another header",
    );
    let wants = [
        ("name", r#""b""#),
        ("steer", r#"{"header":"x-b"}"#),
        ("override", r#"{"header":"x-variant"}"#),
    ];
    check(
        policy(&[rule(&[]), rule(&wants)], &[("trusted", r#"{"addresses":["::1"]}"#)]),
        "rules[1].override.header: x-variant is a header that another rule writes; take another one",
    );
    let twice = format!("[{},{}]", variant(&[]), variant(&[]));
    check(
        in_rule(&[("variants", &twice)]),
        r#"rules[0].variants[1].name: "v2" is already the name of variants[0]"#,
    );
    let all = format!("[{}]", variant(&[("share", r#""100%""#)]));
    check(
        in_rule(&[("steer", r#"{"bucket_header":"x-b"}"#), ("variants", &all)]),
        "rules[0].variants[0].share: 100% from 0% on takes the last bucket, 999999, by which `bucket_header` says the default; leave that to it",
    );
    let none = format!("[{}]", variant(&[("share", r#""0%""#)]));
    let wanted = [
        ("steer", r#"{"bucket_header":"x-b"}"#),
        ("variants", none.as_str()),
        ("override", r#"{"header":"x-w"}"#),
    ];
    check(
        in_rule(&wanted),
        "rules[0].variants[0].share: no bucket; `bucket_header` says a variant by its first one, so give it at least 0.0001%",
    );
    let listed =
        format!("[{}]", variant(&[("share", ""), ("list", r#"[{"match":{"methods":["GET"]}}]"#)]));
    check(
        in_rule(&[("variants", &listed)]),
        "rules[0].key: no variant has a share to deal by it; leave it out",
    );
}
