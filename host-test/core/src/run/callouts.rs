//! Judges callouts: whether guests made those that a step plans, and no others.

use super::exchange::{judge_headers, judge_received};
use crate::grpc::messages;
use crate::proxy::{Callout, Received};
use crate::scenario::{ExpectedCallout, ExpectedGrpc, Matcher, PlannedCallout, service_and_method};

/// Compares the callouts of a step with its plan.
pub(super) fn judge(planned: &[PlannedCallout], made: &[Callout], fail: &mut dyn FnMut(String)) {
    for (index, plan) in planned.iter().enumerate() {
        let cluster = &plan.cluster;
        let before = planned.iter().take(index).filter(|other| other.cluster == *cluster);
        let what = format!("callout {} to {cluster}", before.count() + 1);
        match made.iter().find(|callout| callout.met == Some(index)) {
            None => fail(format!("{what}: expected one, but no guest made it")),
            Some(Callout { received: Some(received), .. }) => {
                judge_one(&what, plan.expect.as_ref(), received, fail);
            }
            Some(Callout { received: None, .. }) => {}
        }
    }
    for callout in made.iter().filter(|callout| callout.met.is_none()) {
        let got = callout.received.as_ref().map_or("a call".into(), line);
        fail(format!("callout to {}: expected none, got {got}", callout.cluster));
    }
}

fn judge_one(
    what: &str,
    expected: Option<&ExpectedCallout>,
    got: &Received,
    fail: &mut dyn FnMut(String),
) {
    match expected {
        None => {}
        Some(ExpectedCallout::Http(_)) if is_grpc(got) => {
            fail(format!("{what}: expected HTTP, got gRPC {}", line(got)));
        }
        Some(ExpectedCallout::Http(expected)) => judge_received(what, expected, got, fail),
        Some(ExpectedCallout::Grpc(_)) if !is_grpc(got) => {
            fail(format!("{what}: expected gRPC, got {}", line(got)));
        }
        Some(ExpectedCallout::Grpc(expected)) => judge_grpc(what, expected, got, fail),
    }
}

fn judge_grpc(what: &str, expected: &ExpectedGrpc, got: &Received, fail: &mut dyn FnMut(String)) {
    let (service, method) = service_and_method(&got.path);
    for (part, expected, got) in
        [("service", &expected.service, service), ("method", &expected.method, method)]
    {
        if let Some(expected) = expected.as_ref().filter(|expected| expected.as_bytes() != got) {
            fail(format!("{what} {part}: expected {expected}, got {}", got.escape_ascii()));
        }
    }
    judge_headers(&format!("{what} metadata"), &expected.metadata, &got.headers, fail);
    let Some(expected) = &expected.messages else { return };
    let got = messages(&got.body);
    let matches = expected.len() == got.len()
        && expected.iter().zip(&got).all(|(expected, got)| expected.matches(got));
    if !matches {
        let expected: Vec<String> = expected.iter().map(Matcher::to_string).collect();
        let got: Vec<String> =
            got.iter().map(|message| format!("\"{}\"", message.escape_ascii())).collect();
        fail(format!(
            "{what} messages: expected [{}], got [{}]",
            expected.join(", "),
            got.join(", ")
        ));
    }
}

fn is_grpc(received: &Received) -> bool {
    let is_grpc = |(name, value): &(Vec<u8>, Vec<u8>)| {
        name == b"content-type" && value.starts_with(b"application/grpc")
    };
    received.headers.iter().any(is_grpc)
}

fn line(received: &Received) -> String {
    format!("{} {}", received.method.escape_ascii(), received.path.escape_ascii())
}
