//! A recorded callout as an entry of a plan.

use serde_json::{Value, json};

use super::request::own_lines;
use super::{add, put, time};
use crate::offline::{CalloutKind, Incoming};
use crate::recording::json::{line_values, value};
use crate::recording::told::Callout;

/// Lines that every answer over gRPC has.
const OF_GRPC: [&[u8]; 3] = [b"content-type", b"grpc-message", b"grpc-status"];

/// What a callout met.
pub(super) fn planned(callout: &Callout) -> Value {
    let pseudo = |wanted: &[u8]| {
        let found = callout.headers.iter().find(|(name, _)| name == wanted);
        found.map_or(&[][..], |(_, value)| value)
    };
    let path = pseudo(b":path");
    let (key, met) = met(callout);
    let mut planned = json!({ "cluster": callout.cluster, key: met });
    if key == "refused" {
        // Nobody listens, so nobody can tell what came.
        return planned;
    }
    match callout.kind {
        CalloutKind::Http => {
            let expect = json!({ "method": value(pseudo(b":method")), "path": value(path) });
            put(&mut planned, "expect", expect);
        }
        CalloutKind::GrpcCall | CalloutKind::GrpcStream => {
            let path = String::from_utf8_lossy(path);
            let (service, method) =
                path.trim_start_matches('/').split_once('/').unwrap_or((&path, ""));
            put(&mut planned, "grpc", json!({ "service": service, "method": method }));
        }
    }
    planned
}

fn met(callout: &Callout) -> (&'static str, Value) {
    let Some((first, incoming)) = callout.came.first() else { return ("never", json!(true)) };
    let delay = time(first.saturating_sub(callout.asked));
    match incoming {
        Incoming::Refused => return ("refused", json!(true)),
        Incoming::Reset | Incoming::Broken => return ("reset", json!(true)),
        Incoming::Answer { headers, body, trailers } => {
            let status = headers.iter().find(|(name, _)| name == b":status");
            let status =
                status.and_then(|(_, value)| str::from_utf8(value).ok()?.parse::<u16>().ok());
            let mut answer = json!({ "delay": delay, "headers": own_lines(headers, &[]) });
            if let Some(status) = status {
                put(&mut answer, "status", json!(status));
            }
            put(&mut answer, "body", value(body));
            if !trailers.is_empty() {
                put(&mut answer, "trailers", line_values(trailers));
            }
            return ("answer", answer);
        }
        Incoming::InitialMetadata(_) | Incoming::Message(_) | Incoming::Closed { .. } => {}
    }
    let mut answer = json!({ "delay": delay });
    for (_, incoming) in &callout.came {
        match incoming {
            Incoming::InitialMetadata(lines) => {
                put(&mut answer, "metadata", own_lines(lines, &OF_GRPC));
            }
            Incoming::Message(message) => add(&mut answer, "messages", value(message)),
            Incoming::Closed { trailers, status, message } => {
                put(&mut answer, "trailers", own_lines(trailers, &OF_GRPC));
                put(&mut answer, "status", json!(status));
                put(&mut answer, "message", value(message));
            }
            Incoming::Answer { .. } | Incoming::Refused | Incoming::Reset | Incoming::Broken => {}
        }
    }
    ("answer_grpc", answer)
}
