//! What clients are told that may not pass: problems in JSON, and words for gRPC clients, which would
//! take a problem for a message.
//!
//! Source: RFC 9457; draft-ietf-httpapi-ratelimit-headers-10 for the type of the problem.

use tollgate::{LocalReply, StatusCode};

/// The gRPC status of a client that asks for too much; the proxy would otherwise say "unavailable",
/// which clients take as an invitation to try again at once.
const RESOURCE_EXHAUSTED: u32 = 8;

/// The type of a problem: the client has spent what it may.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The answer to a request beyond the limits of these names, which need no escaping.
pub(crate) fn beyond(limits: &[&str], is_grpc: bool) -> LocalReply {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let violated = [",\"violated-policies\":[\"", &limits.join("\",\""), "\"]"].concat();
    problem(status, [QUOTA_EXCEEDED, "too many requests", &violated], is_grpc)
        .with_grpc_status(RESOURCE_EXHAUSTED)
}

/// An answer that says what is wrong, in words that need no escaping.
pub(crate) fn told(status: StatusCode, title: &str, is_grpc: bool) -> LocalReply {
    problem(status, ["about:blank", title, ""], is_grpc)
}

#[inline(never)]
fn problem(status: StatusCode, [kind, title, more]: [&str; 3], is_grpc: bool) -> LocalReply {
    let reply = LocalReply::new(status);
    if is_grpc {
        return reply.with_body(title);
    }
    let status = status.as_u16().to_string();
    let (kind, title) = (["{\"type\":\"", kind], ["\",\"title\":\"", title]);
    let body = [&kind[..], &title, &["\",\"status\":", &status, more, "}\n"]].concat().concat();
    reply.with_header("content-type", "application/problem+json").with_body(body)
}
