//! Judges one exchange: what the client got, what the upstream got, and what it cost.

use std::fmt;

use crate::proxy::{Cost, Exchange, Outcome, Received, Response};
use crate::report::difference;
use crate::scenario::{
    Budget, Expectation, ExpectedOutcome, ExpectedRequest, ExpectedResponse, ExpectedUpstream,
    HeaderExpectations, HeaderLine, Matcher,
};
use crate::tls::Alert;

/// As many header lines as can be compared at a glance.
const FEW_LINES: usize = 2;

/// Stands above a difference.
pub(super) const DIFFERS: &str = "differs (- expected, + got)";

pub(super) fn judge_exchange(
    expect: &Expectation,
    exchange: &Exchange,
    fail: &mut dyn FnMut(String),
) {
    let refused = match exchange.outcome {
        Outcome::Refused(alert) => Some(alert),
        Outcome::Response(_) | Outcome::Reset | Outcome::Unanswered | Outcome::Left(_) => None,
    };
    judge_handshake(expect, refused, fail);
    match (&expect.outcome, &exchange.outcome) {
        (Some(ExpectedOutcome::Refused(_)), _)
        | (_, Outcome::Refused(_))
        | (None, Outcome::Response(_) | Outcome::Reset)
        | (Some(ExpectedOutcome::Reset), Outcome::Reset)
        | (Some(ExpectedOutcome::Nothing), Outcome::Unanswered)
        | (None | Some(ExpectedOutcome::Left), Outcome::Left(_)) => {}
        (Some(ExpectedOutcome::Left), Outcome::Response(response)) => {
            let status = response.status;
            fail(format!("response: expected the client to leave before, got status {status}"));
        }
        (Some(ExpectedOutcome::Left), Outcome::Reset) => {
            fail("response: expected the client to leave before, but the stream was reset".into());
        }
        (
            Some(ExpectedOutcome::Response(_) | ExpectedOutcome::Reset | ExpectedOutcome::Nothing),
            Outcome::Left(_),
        ) => {
            fail("response: the client left before; if that is right, say `response: left`".into());
        }
        (Some(ExpectedOutcome::Nothing), Outcome::Response(response)) => {
            fail(format!("response: expected none, got status {}", response.status));
        }
        (Some(ExpectedOutcome::Nothing), Outcome::Reset) => {
            fail("response: expected none, but the stream was reset".into());
        }
        (Some(ExpectedOutcome::Response(expected)), Outcome::Response(response)) => {
            judge_response(expected, response, fail);
        }
        (Some(ExpectedOutcome::Response(_)), Outcome::Reset) => {
            fail("response: expected one, but the stream was reset".into());
        }
        (Some(ExpectedOutcome::Reset), Outcome::Response(response)) => {
            fail(format!("response: expected a reset, got status {}", response.status));
        }
        (
            None
            | Some(ExpectedOutcome::Response(_) | ExpectedOutcome::Reset | ExpectedOutcome::Left),
            Outcome::Unanswered,
        ) => {
            fail("response: none came; if that is right, say `response: none`".into());
        }
    }
    match (&expect.upstream, &exchange.upstream) {
        (None, _) | (Some(ExpectedUpstream::Nothing), None) => {}
        (Some(ExpectedUpstream::Request(expected)), Some(received)) => {
            judge_received("upstream", expected, received, fail);
        }
        (Some(ExpectedUpstream::Nothing), Some(received)) => fail(format!(
            "upstream: expected nothing, got {} {}",
            received.method.escape_ascii(),
            received.path.escape_ascii()
        )),
        (Some(ExpectedUpstream::Request(_)), None) => {
            fail("upstream: expected the request, but it did not arrive".into());
        }
    }
    judge_cost(expect.budget, exchange.cost, fail);
}

/// Compares how the proxy refused the client's handshake, if it did.
pub(super) fn judge_handshake(
    expect: &Expectation,
    got: Option<Alert>,
    fail: &mut dyn FnMut(String),
) {
    let expected = match expect.outcome {
        Some(ExpectedOutcome::Refused(alert)) => Some(alert),
        None
        | Some(
            ExpectedOutcome::Response(_)
            | ExpectedOutcome::Reset
            | ExpectedOutcome::Nothing
            | ExpectedOutcome::Left,
        ) => None,
    };
    match (expected, got) {
        (Some(expected), Some(got)) if expected != got => {
            fail(format!("handshake: expected the alert {expected}, got {got}"));
        }
        (Some(expected), None) => {
            fail(format!("handshake: expected the alert {expected}, but the peer was let in"));
        }
        (None, Some(got)) => fail(format!(
            "handshake: refused with the alert {got}; if that is right, say `refused: {got}`"
        )),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// What a proxy cannot tell is within the budget.
pub(super) fn judge_cost(budget: Budget, cost: Option<Cost>, fail: &mut dyn FnMut(String)) {
    let Some(cost) = cost else { return };
    if let Some(most) = budget.host_calls.filter(|&most| cost.host_calls > most) {
        fail(format!("budget: {} host calls, at most {most} are allowed", cost.host_calls));
    }
    if let (Some(most), Some(fuel)) = (budget.fuel, cost.fuel)
        && fuel > most
    {
        fail(format!("budget: {fuel} fuel, at most {most} is allowed"));
    }
    if let (Some(most), Some(memory)) = (budget.memory, cost.memory_bytes)
        && memory > most
    {
        fail(format!("budget: {memory} bytes of memory, at most {most} are allowed"));
    }
}

fn judge_response(expected: &ExpectedResponse, got: &Response, fail: &mut dyn FnMut(String)) {
    if let Some(status) = expected.status.filter(|&status| status != got.status) {
        let body = got.body.escape_ascii();
        fail(format!(
            "response status: expected {status}, got {} with body \"{body}\"",
            got.status
        ));
    }
    judge_headers("response header", &expected.headers, &got.headers, fail);
    judge_value("response body", expected.body.as_ref(), &got.body, fail);
    judge_headers("response trailer", &expected.trailers, &got.trailers, fail);
}

pub(super) fn judge_received(
    what: &str,
    expected: &ExpectedRequest,
    got: &Received,
    fail: &mut dyn FnMut(String),
) {
    if expected.cluster.is_some() && expected.cluster != got.cluster {
        let name = |cluster: &Option<String>| cluster.clone().unwrap_or_default();
        fail(format!(
            "{what} cluster: expected {}, got {}",
            name(&expected.cluster),
            name(&got.cluster)
        ));
    }
    if let Some(method) = expected.method.as_ref().filter(|method| method.as_bytes() != got.method)
    {
        fail(format!("{what} method: expected {method}, got {}", got.method.escape_ascii()));
    }
    judge_value(&format!("{what} path"), expected.path.as_ref(), &got.path, fail);
    judge_headers(&format!("{what} header"), &expected.headers, &got.headers, fail);
    judge_value(&format!("{what} body"), expected.body.as_ref(), &got.body, fail);
    judge_headers(&format!("{what} trailer"), &expected.trailers, &got.trailers, fail);
}

pub(super) fn judge_value(
    what: &str,
    expected: Option<&Matcher>,
    got: &[u8],
    fail: &mut dyn FnMut(String),
) {
    let Some(expected) = expected.filter(|expected| !expected.matches(got)) else { return };
    let difference = match expected {
        Matcher::Exact(expected) => difference::of_texts(expected, got),
        Matcher::Contains(_) => None,
    };
    fail(match difference {
        Some(difference) => format!("{what}: {DIFFERS}\n{difference}"),
        None => format!("{what}: expected {expected}, got \"{}\"", got.escape_ascii()),
    });
}

/// Each listed name must have the listed lines, no more and no fewer, in their order.
pub(super) fn judge_headers(
    what: &str,
    expected: &HeaderExpectations,
    got: &[HeaderLine],
    fail: &mut dyn FnMut(String),
) {
    let values = |name: &[u8]| -> Vec<&[u8]> {
        got.iter().filter(|(line, _)| line == name).map(|(_, value)| value.as_slice()).collect()
    };
    let mut seen: Vec<&[u8]> = Vec::new();
    for (name, _) in &expected.lines {
        if seen.contains(&name.as_slice()) {
            continue;
        }
        seen.push(name);
        let wanted: Vec<&Matcher> = expected
            .lines
            .iter()
            .filter(|(line, _)| line == name)
            .map(|(_, value)| value)
            .collect();
        let got = values(name);
        let matches = wanted.len() == got.len()
            && wanted.iter().zip(&got).all(|(wanted, got)| wanted.matches(got));
        if !matches {
            let name = name.escape_ascii();
            let got: Vec<Quoted<'_>> = got.into_iter().map(Quoted).collect();
            let is = |wanted: &&Matcher, got: &Quoted<'_>| wanted.matches(got.0);
            fail(if wanted.len().max(got.len()) > FEW_LINES {
                let difference = difference::of_lines(&wanted, &got, is);
                format!("{what} {name}: {DIFFERS}\n{difference}")
            } else {
                let wanted = list(wanted.iter().map(ToString::to_string));
                let got = list(got.iter().map(ToString::to_string));
                format!("{what} {name}: expected {wanted}, got {got}")
            });
        }
    }
    for name in &expected.absent {
        let got = values(name);
        if !got.is_empty() {
            let got = list(got.iter().map(|value| format!("\"{}\"", value.escape_ascii())));
            fail(format!("{what} {}: expected none, got {got}", name.escape_ascii()));
        }
    }
}

/// A value as it is told.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "no line".into() } else { items.join(", ") }
}
