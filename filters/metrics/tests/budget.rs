//! However many paths, hosts and values of headers clients make up, series stay within the budget, and what
//! was folded adds up to the total.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;

use tollgate::testing::Proxy;
use tollgate_metrics::Metrics;

/// How many requests there are, unless the variable says otherwise.
const REQUESTS: u64 = 4_000;
const VARIABLE: &str = "TOLLGATE_METRICS_REQUESTS";
const BUDGET: u64 = 50;

#[test]
fn series_stay_within_the_budget_and_add_up() {
    let requests = env::var(VARIABLE).map_or(REQUESTS, |number| number.parse().unwrap());
    let policy = format!(
        r#"{{ "profile": "custom", "budget": {BUDGET}, "labels": [
            {{ "name": "path", "attribute": ["request", "path"] }},
            {{ "name": "host", "attribute": ["request", "host"] }},
            {{ "name": "user", "header": "x-user" }},
            {{ "name": "code", "fact": "code" }} ] }}"#
    );
    let mut proxy =
        Proxy::with(tollgate::registration!(Metrics)).config(policy).workers(3).start().unwrap();
    // A few that come again and again are told apart, if they come first.
    let known = || (0..4).map(|user| format!("known-{user}"));
    for number in 0..requests {
        let user = match known().nth(usize::try_from(number % 40).unwrap()) {
            Some(known) => known,
            None => format!("{number};.;code=.=500"),
        };
        let path = if user.starts_with("known") { "/".into() } else { format!("/{number}") };
        let host = if number % 2 == 0 { "a.example" } else { "b.example" };
        proxy.get(path).authority(host).header("x-user", user).send().unwrap();
    }

    let metrics = proxy.metrics();
    let series: Vec<(&String, &u64)> = metrics
        .iter()
        .filter(|(name, _)| name.ends_with("tollgate_metrics_requests_total"))
        .collect();
    let other = "path=.=other;.;host=.=other;.;user=.=other;.;code=.=other;.;tollgate_metrics_requests_total";
    assert_eq!(series.len() as u64, BUDGET + 1);
    assert_eq!(series.iter().map(|(_, count)| **count).sum::<u64>(), requests);
    assert_eq!(metrics.get(other), metrics.get("tollgate_metrics_folded"));
    assert_eq!(metrics.get("tollgate_metrics_counted"), Some(&requests));
    let of_known = "path=.=/;.;host=.=a.example;.;user=.=known-0;.;code=.=200;.;tollgate_metrics_requests_total";
    assert_eq!(metrics.get(of_known), Some(&requests.div_ceil(40)));
    // Nobody has made a label or a metric of its own.
    assert!(metrics.keys().all(|name| !name.contains("code=.=500")));
}
