//! Header lines as Envoy 1.40 has them on HTTP/1.1, on both sides: which it adds, hides and where they
//! stand.

use std::time::{Duration, UNIX_EPOCH};

use crate::proxy::{Received, Response};
use crate::scenario::{Answer, HeaderLine, RequestStep};
use crate::world::{Lines, LocalReply};

/// What follows the headers of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A body, trailers or both.
    Follows,
    /// Nothing: the response ends.
    Absent,
    /// Nothing, since the request was a HEAD.
    Omitted,
}

/// A request as the upstream gets it, up to its body.
pub(super) fn received(headers: &Lines, end: bool) -> Received {
    let pseudo = |name: &[u8]| headers.first(name).unwrap_or_default().to_vec();
    let lines = headers.0.iter().filter(|(name, _)| !name.starts_with(b":"));
    // The framing of a chunked request is hidden from filters and added again.
    let is_chunked = !end && headers.first(b"content-length").is_none();
    let chunked = is_chunked.then(|| (b"transfer-encoding".to_vec(), b"chunked".to_vec()));
    let host = (b"host".to_vec(), pseudo(b":authority"));
    Received {
        method: pseudo(b":method"),
        path: pseudo(b":path"),
        headers: std::iter::once(host).chain(lines.cloned()).chain(chunked).collect(),
        body: Vec::new(),
        trailers: Vec::new(),
    }
}

/// A response as the client gets it, up to its body. `headers` get the lines that a later log sees.
pub(super) fn response(headers: &mut Lines, now: Duration, body: Body, close: bool) -> Response {
    headers.remove(b"transfer-encoding");
    if headers.first(b"date").is_none() {
        headers.add(b"date", httpdate::fmt_http_date(UNIX_EPOCH + now).as_bytes());
    }
    let status = headers.first(b":status").and_then(|text| str::from_utf8(text).ok());
    let status = status.and_then(|text| text.parse().ok()).unwrap_or(0);
    let lines = headers.0.iter().filter(|(name, _)| !name.starts_with(b":"));
    let mut lines: Vec<HeaderLine> = lines.cloned().collect();
    if close {
        lines.push((b"connection".to_vec(), b"close".to_vec()));
    }
    let has_framing = headers.first(b"content-length").is_some() || matches!(status, 204 | 304);
    match body {
        _ if has_framing => {}
        Body::Omitted => {}
        Body::Absent => lines.push((b"content-length".to_vec(), b"0".to_vec())),
        Body::Follows => lines.push((b"transfer-encoding".to_vec(), b"chunked".to_vec())),
    }
    Response { status, headers: lines, body: Vec::new(), trailers: Vec::new() }
}

/// The request headers as Envoy's filters see them: pseudo-headers first, its own line last.
pub(super) fn request_headers(step: &RequestStep) -> Vec<HeaderLine> {
    let request = &step.request;
    let mut headers: Vec<HeaderLine> = [
        (&b":authority"[..], &request.authority),
        (b":path", &request.path),
        (b":method", &request.method),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_vec(), value.clone().into_bytes()))
    .collect();
    headers.push((b":scheme".to_vec(), b"http".to_vec()));
    headers.extend(request.headers.iter().cloned());
    let has_length = request.headers.iter().any(|(name, _)| name == b"content-length");
    if let ([whole], true, false) =
        (request.body.as_slice(), request.trailers.is_empty(), has_length)
    {
        headers.push(content_length(whole));
    }
    headers.push((b"x-forwarded-proto".to_vec(), b"http".to_vec()));
    headers
}

/// The response headers as Envoy's filters see them.
pub(super) fn answer_headers(answer: &Answer) -> Vec<HeaderLine> {
    let mut headers = vec![(b":status".to_vec(), answer.status.to_string().into_bytes())];
    headers.extend(answer.headers.iter().cloned());
    let is_framed = headers.iter().any(|(name, _)| name == b"content-length");
    if is_framed {
        return headers;
    }
    match answer.body.as_slice() {
        [] if answer.trailers.is_empty() => {
            if !matches!(answer.status, 204 | 304) {
                headers.push((b"content-length".to_vec(), b"0".to_vec()));
            }
        }
        [whole] if answer.trailers.is_empty() => headers.push(content_length(whole)),
        _ => headers.push((b"transfer-encoding".to_vec(), b"chunked".to_vec())),
    }
    headers
}

/// What a sender of HTTP/1.1 says of a body in one piece; one in chunks tells its end by itself.
fn content_length(body: &[u8]) -> HeaderLine {
    (b"content-length".to_vec(), body.len().to_string().into_bytes())
}

/// The response headers of a local reply, in Envoy's order.
pub(super) fn reply_headers(reply: &LocalReply) -> Vec<HeaderLine> {
    let mut headers = vec![(b":status".to_vec(), reply.status.to_string().into_bytes())];
    let own =
        reply.headers.iter().filter(|(name, _)| name != b":status" && name != b"content-length");
    headers.extend(own.cloned());
    let has_type = headers.iter().any(|(name, _)| name == b"content-type");
    if reply.body.is_empty() {
        headers.retain(|(name, _)| name != b"content-type");
    } else {
        headers.push((b"content-length".to_vec(), reply.body.len().to_string().into_bytes()));
        if !has_type {
            headers.push((b"content-type".to_vec(), b"text/plain".to_vec()));
        }
    }
    headers
}

/// The headers of a local reply to a gRPC request, which have no body after them.
pub(super) fn grpc_reply_headers(reply: &LocalReply) -> Vec<HeaderLine> {
    let status = reply.grpc_status.unwrap_or(match reply.status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    });
    let mut headers: Vec<HeaderLine> = vec![
        (b":status".to_vec(), b"200".to_vec()),
        (b"content-type".to_vec(), b"application/grpc".to_vec()),
    ];
    let is_own =
        |name: &[u8]| name != b":status" && name != b"content-type" && name != b"content-length";
    headers.extend(reply.headers.iter().filter(|(name, _)| is_own(name)).cloned());
    headers.push((b"grpc-status".to_vec(), status.to_string().into_bytes()));
    if !reply.body.is_empty() {
        headers.push((b"grpc-message".to_vec(), percent_encoded(&reply.body)));
    }
    headers
}

/// A text as `grpc-message` carries it.
///
/// Source: gRPC over HTTP/2, "Responses".
fn percent_encoded(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for &byte in text {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(byte);
        } else {
            encoded.extend(format!("%{byte:02X}").bytes());
        }
    }
    encoded
}
