//! The rate limit at work, request by request: what a loop or a random number says better than a
//! scenario.

use std::time::Duration;

use tollgate::testing::{Fault, Proxy};
use tollgate::{Function, Status, registration};
use tollgate_ratelimit::RateLimit;

const TWO_A_SECOND: &str = r#"{ "rules": [
    { "name": "per-user", "key": [ { "header": "x-user" } ], "limit": { "requests": 2, "per": "1s" } }
] }"#;

#[test]
fn a_client_that_waits_as_long_as_it_was_told_is_served() {
    let limits = Proxy::with(registration!(RateLimit)).config(TWO_A_SECOND);
    let mut proxy = limits.workers(3).start().unwrap();
    let mut served = 0_u64;
    for _ in 0..200 {
        let exchange = proxy.get("/").header("x-user", "alice").send().unwrap();
        let Some(seconds) = exchange.response().unwrap().header("retry-after") else {
            served += 1;
            assert_eq!(exchange.status(), Some(200), "{exchange}");
            continue;
        };
        assert_eq!(exchange.status(), Some(429), "{exchange}");
        assert!(exchange.upstream().is_none(), "{exchange}");
        let seconds = seconds.to_string().parse().unwrap();
        proxy.advance(Duration::from_secs(seconds)).unwrap();
        let exchange = proxy.get("/").header("x-user", "alice").send().unwrap();
        assert_eq!(exchange.status(), Some(200), "{exchange}");
        served += 1;
    }
    assert_eq!(proxy.metric("tollgate_ratelimit_admitted"), Some(served));
}

#[test]
fn whatever_read_or_write_of_the_store_fails_nobody_passes_unseen() {
    for call in [Function::GetSharedData, Function::SetSharedData] {
        let limits = Proxy::with(registration!(RateLimit)).config(TWO_A_SECOND);
        let mut proxy = limits.start().unwrap();
        let fault = Fault::every(call, Status::InternalFailure);
        let request = proxy.get("/").header("x-user", "alice").fault(fault);
        let exchange = request.send().unwrap();
        assert_eq!(exchange.status(), Some(503), "{exchange}");
        assert!(exchange.upstream().is_none(), "{exchange}");
        assert_eq!(proxy.metric("tollgate_ratelimit_store_errors"), Some(1));
    }
}

#[test]
fn a_policy_that_cannot_be_is_refused_in_the_words_of_the_filter() {
    let policy = TWO_A_SECOND.replace("\"requests\": 2", "\"requests\": 0");
    let refused = Proxy::with(registration!(RateLimit)).config(policy).start().unwrap_err();
    assert!(
        refused.to_string().contains("rules[0].limit.requests: 0 is not at least 1"),
        "{refused}"
    );
}
