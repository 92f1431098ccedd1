//! Judges callouts: whether guests made those that a step plans, and no others.

use super::{judge_headers, judge_received};
use crate::proxy::{Callout, Received};
use crate::scenario::{ExpectedCallout, ExpectedGrpc, Matcher, PlannedCallout};

/// Compares the callouts of a step with its plan; the order counts for each cluster by itself.
pub(super) fn judge(planned: &[PlannedCallout], made: &[Callout], fail: &mut dyn FnMut(String)) {
    let nth = |cluster: &str, number: usize| {
        made.iter().filter(|callout| callout.cluster == cluster).nth(number)
    };
    for (index, plan) in planned.iter().enumerate() {
        let before = planned.iter().take(index);
        let number = before.filter(|other| other.cluster == plan.cluster).count();
        let cluster = &plan.cluster;
        let what = format!("callout {} to {cluster}", number + 1);
        match nth(cluster, number) {
            None => fail(format!("{what}: expected one, but no guest made it")),
            Some(Callout { received: Some(received), .. }) => match &plan.expect {
                None => {}
                Some(ExpectedCallout::Http(_)) if is_grpc(received) => {
                    fail(format!("{what}: expected HTTP, got gRPC {}", line(received)));
                }
                Some(ExpectedCallout::Http(expected)) => {
                    judge_received(&what, expected, received, fail);
                }
                Some(ExpectedCallout::Grpc(_)) if !is_grpc(received) => {
                    fail(format!("{what}: expected gRPC, got {}", line(received)));
                }
                Some(ExpectedCallout::Grpc(expected)) => {
                    judge_grpc(&what, expected, received, fail);
                }
            },
            Some(Callout { received: None, .. }) => {}
        }
    }
    for (index, callout) in made.iter().enumerate() {
        let cluster = &callout.cluster;
        let number = made.iter().take(index).filter(|other| other.cluster == *cluster).count();
        if number >= planned.iter().filter(|plan| plan.cluster == *cluster).count() {
            let got = callout.received.as_ref().map_or("a call".into(), line);
            fail(format!("callout {} to {cluster}: expected none, got {got}", number + 1));
        }
    }
}

fn judge_grpc(what: &str, expected: &ExpectedGrpc, got: &Received, fail: &mut dyn FnMut(String)) {
    let path = String::from_utf8_lossy(&got.path);
    let (service, method) = path.trim_start_matches('/').rsplit_once('/').unwrap_or((&*path, ""));
    for (part, expected, got) in
        [("service", &expected.service, service), ("method", &expected.method, method)]
    {
        if let Some(expected) = expected.as_ref().filter(|expected| *expected != got) {
            fail(format!("{what} {part}: expected {expected}, got {got}"));
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

/// The messages of a gRPC body: each after a flag and a length of four bytes.
fn messages(mut frames: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(([_, length @ ..], rest)) = frames.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (message, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        messages.push(message);
        frames = rest;
    }
    messages
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_frames_is_its_messages() {
        let check = |frames: &[u8], expected: &[&[u8]]| assert_eq!(messages(frames), expected);
        check(b"", &[]);
        check(b"\0\0\0\0\0", &[b""]);
        check(b"\0\0\0\0\x02ab\0\0\0\0\x01c", &[b"ab", b"c"]);
        check(b"\0\0\0\0\x02a", &[b"a"]);
        check(b"\0\0\0", &[]);
    }
}
