//! A recorded request as a step: what its ends did, and what is expected.

use std::time::Duration;

use serde_json::{Value, json};

use super::{put, time};
use crate::recording::json::{line_values, value};
use crate::recording::told::{Answer, Message, Stream};
use crate::scenario::HeaderLine;

/// Lines that come from the wire and the proxy, not from its ends: nothing is made or expected of them.
const OF_THE_WIRE: [&[u8]; 9] = [
    b"connection",
    b"content-length",
    b"date",
    b"keep-alive",
    b"server",
    b"transfer-encoding",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-request-id",
];

/// A request with its upstream and what is expected.
pub(super) fn request(stream: &Stream) -> Value {
    let head = &stream.head;
    let mut request =
        json!({ "method": head.method, "path": head.path, "authority": head.authority });
    message(&mut request, &head.headers, &stream.body);
    // Who got an answer before its end is taken to have sent it: nothing depends on that any more.
    let is_unfinished = |body: &Message| !body.is_over && stream.left.is_some();
    if is_unfinished(&stream.body) {
        put(&mut request, "unfinished", json!(true));
    }
    if let Some(left) = stream.left {
        put(&mut request, "disconnect", json!(time(left.saturating_sub(stream.begin))));
    }
    let mut step = json!({ "request": request, "worker": stream.worker });
    if let Some(answer) = &stream.answer {
        let mut upstream = upstream(answer, stream.asked);
        if is_unfinished(&answer.body) {
            put(&mut upstream, "unfinished", json!(true));
        }
        put(&mut step, "upstream", upstream);
    }
    if stream.is_broken {
        put(&mut step, "upstream", json!({ "reset": true }));
    }
    put(&mut step, "expect", expected(stream));
    step
}

fn upstream(answer: &Answer, asked: Duration) -> Value {
    let mut upstream = json!({ "status": answer.status });
    message(&mut upstream, &answer.headers, &answer.body);
    put(&mut upstream, "delay", json!(time(answer.at.saturating_sub(asked))));
    upstream
}

/// Adds header lines and what follows them; of the wire is what the scenario makes itself.
fn message(to: &mut Value, headers: &[HeaderLine], body: &Message) {
    let has_length = headers.iter().any(|(name, _)| name == b"content-length");
    put(to, "headers", own_lines(headers, &[]));
    if has_length || body.chunks.len() == 1 {
        put(to, "body", value(&body.chunks.concat()));
    } else if !body.chunks.is_empty() {
        put(to, "body", body.chunks.iter().map(|chunk| value(chunk)).collect());
    }
    if !body.trailers.is_empty() {
        put(to, "trailers", line_values(&body.trailers));
    }
}

/// The lines that a scenario does not make itself: without pseudo-headers, and without `made`.
pub(super) fn own_lines(lines: &[HeaderLine], made: &[&[u8]]) -> Value {
    let own = lines.iter().filter(|(name, _)| {
        !is_of_the_wire(name) && !name.starts_with(b":") && !made.contains(&name.as_slice())
    });
    line_values(&own.cloned().collect::<Vec<_>>())
}

/// What became of a request: what both ends got, and lines that the filters have made.
fn expected(stream: &Stream) -> Value {
    let decision = &stream.decision;
    let upstream = match decision.upstream() {
        None => json!("none"),
        Some(got) => {
            let mut upstream = json!({ "method": value(&got.method), "path": value(&got.path) });
            put(&mut upstream, "headers", made(&got.headers, &stream.head.headers));
            upstream
        }
    };
    let response = match decision.response() {
        _ if decision.is_reset() => json!("reset"),
        _ if stream.left.is_some() => json!("left"),
        None => json!("none"),
        Some(got) => {
            let sent = stream.answer.as_ref().map_or(&[][..], |answer| &answer.headers);
            let mut response = json!({ "status": got.status, "body": value(&got.body) });
            put(&mut response, "headers", made(&got.headers, sent));
            response
        }
    };
    json!({ "upstream": upstream, "response": response })
}

/// The lines of each name that are not as they were sent.
fn made(got: &[HeaderLine], sent: &[HeaderLine]) -> Value {
    let of = |lines: &[HeaderLine], name: &[u8]| -> Vec<Vec<u8>> {
        let own = lines.iter().filter(|(own, _)| own == name);
        own.map(|(_, value)| value.clone()).collect()
    };
    let is_made =
        |(name, _): &&HeaderLine| !is_of_the_wire(name) && of(got, name) != of(sent, name);
    line_values(&got.iter().filter(is_made).cloned().collect::<Vec<_>>())
}

fn is_of_the_wire(name: &[u8]) -> bool {
    OF_THE_WIRE.contains(&name) || name.starts_with(b"x-envoy-")
}
