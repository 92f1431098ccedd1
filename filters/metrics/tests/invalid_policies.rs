//! What an operator reads about a policy that cannot be taken: the place, the value and the bound.

use tollgate_metrics::config::Policy;

fn check(json: &str, expected: &str) {
    let found =
        tollgate::config::parse::<Policy>(json.as_bytes()).map_err(|error| error.to_string());
    assert_eq!(found, Err(expected.to_owned()), "{json}");
}

/// A policy of the profile `custom` with these fields.
fn custom(fields: &str) -> String {
    format!(r#"{{"profile":"custom",{fields}}}"#)
}

#[test]
fn a_policy_says_all_that_it_has_to() {
    check("", "the configuration is empty; profile: missing");
    check("[]", "configuration: a list is not an object");
    check(
        r#"{"profile":"prometheus"}"#,
        "profile: `prometheus` is not one of `istio`, `otel`, `custom`",
    );
    for (fields, expected) in [
        (r#""budget":0"#, "budget: 0 is not between 1 and 10000 series"),
        (r#""budget":10001"#, "budget: 10001 is not between 1 and 10000 series"),
        (r#""report_seconds":0"#, "report_seconds: 0 is not between 1 and 3600"),
        (
            r#""reporter":"source""#,
            "reporter: no label says who reports; it is of the profile istio",
        ),
        (r#""failures":{}"#, "failures: an empty object; say `http` or `grpc`"),
        (r#""failures":{"grpc":[2,17]}"#, "failures.grpc[1]: 17 is not between 1 and 16"),
        (
            r#""failures":{"http":["6xx"]}"#,
            r#"failures.http[0]: "6xx" is no status; write one such as "503", or a class such as "5xx""#,
        ),
        (r#""on_error":"deny""#, "on_error: `deny` is not `unknown` or `skip`"),
    ] {
        check(&custom(fields), expected);
    }
}

#[test]
fn a_label_is_told_with_its_place() {
    const ONE: &str = "labels[0].name: write exactly one of `value`, `fact`, `header`, `response_header`, \
                       `attribute`, `templates`, `peer`, `rename` and `drop` beside it";
    for (label, expected) in [
        (r#"{"name":"a"}"#, ONE),
        (r#"{"name":"a","value":"b","fact":"code"}"#, ONE),
        (r#"{"name":"a","value":"b","drop":true}"#, ONE),
        (
            r#"{"name":"a","drop":true}"#,
            "labels[0].name: a is no label of the profile; say where its value comes from",
        ),
        (
            r#"{"name":"objective","value":"b"}"#,
            "labels[0].name: objective is the label of objectives; take another",
        ),
        (
            r#"{"name":"1a","value":"b"}"#,
            r#"labels: "1a" is not the name of a label; use letters, digits and _, no digit first"#,
        ),
        (
            r#"{"name":"a","attribute":["node","id"]}"#,
            "labels[0].attribute[0]: \"node\" is not one of request, response, source, destination, \
             connection, upstream, xds, metadata, filter_state, upstream_filter_state",
        ),
    ] {
        check(&custom(&format!(r#""labels":[{label}]"#)), expected);
    }
    check(
        &custom(
            r#""labels":[{"name":"code","fact":"code"},{"name":"response_code","fact":"code"}]"#,
        ),
        "labels: response_code ends in code, which is a label too: Istio would take one for the other",
    );
}

#[test]
fn a_metric_is_told_with_its_place() {
    for (metric, expected) in [
        (
            r#"{"measure":"requests","name":"a-b"}"#,
            r#"name: "a-b" is not the name of a metric; use letters, digits and _, no digit first"#,
        ),
        (
            r#"{"measure":"requests","name":"tollgate_metrics_folded"}"#,
            "name: tollgate_metrics_folded is the name of another metric",
        ),
        (
            r#"{"measure":"requests","bounds":[1]}"#,
            "bounds: a counter has no buckets; leave them out",
        ),
        (r#"{"measure":"duration","bounds":[5,5]}"#, "bounds[1]: 5 is not above 5"),
        (
            r#"{"measure":"duration","drop":true,"name":"a"}"#,
            "drop: a metric that is dropped has neither name nor bounds",
        ),
    ] {
        check(&custom(&format!(r#""metrics":[{metric}]"#)), &format!("metrics[0].{expected}"));
    }
    check(
        r#"{"profile":"istio","metrics":[{"measure":"upstream","drop":true}]}"#,
        "metrics[0].drop: the profile does not have this metric; leave it out",
    );
}

#[test]
fn an_objective_is_told_with_its_place() {
    for (objective, expected) in [
        (
            r#"{"name":"A b","target":"99%"}"#,
            r#"name: "A b" is not a name; use 1 to 64 of a-z, 0-9, . and -"#,
        ),
        (r#"{"name":"a","target":"100%"}"#, "target: an objective is above 0% and below 100%"),
        (
            r#"{"name":"a","within_milliseconds":0,"target":"99%"}"#,
            "within_milliseconds: 0 is not at least 1",
        ),
    ] {
        check(
            &custom(&format!(r#""objectives":[{objective}]"#)),
            &format!("objectives[0].{expected}"),
        );
    }
}
