//! What stays open for hours is told of meanwhile, each time that something has passed, and counted once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tollgate::testing::{Act, Proxy};
use tollgate::{Function, registration};
use tollgate_metrics::TcpMetrics;

#[test]
fn a_connection_of_hours_is_reported_while_it_is_open() {
    const HOURS: u64 = 6;
    let hour = Duration::from_hours(1);
    let policy = r#"{ "profile": "custom", "report_seconds": 60 }"#;
    let filter = Proxy::with(registration!(TcpMetrics)).tcp().config(policy);
    let mut proxy = filter.start().unwrap();
    let mut connection = proxy.connect().client_sends("hello").upstream_sends("hi");
    for _ in 0..HOURS {
        connection = connection.advance(hour).client_sends("ping");
    }
    let connection = connection.advance(hour).upstream(Act::Close).run().unwrap();

    let metric = |name: &str| proxy.metric(&format!("tollgate_metrics_{name}"));
    assert_eq!(metric("tcp_received_bytes_total"), Some(5 + 4 * HOURS));
    assert_eq!(metric("tcp_sent_bytes_total"), Some(2));
    assert_eq!(["counted", "tcp_opened_total", "tcp_closed_total"].map(metric), [Some(1); 3]);
    // Once each for those three, for what was sent, and for each time that something had come; a report
    // that has nothing to tell says nothing.
    let expected = usize::try_from(3 + 1 + 1 + HOURS).unwrap();
    assert_eq!(connection.calls_of(Function::IncrementMetric), expected);
}
