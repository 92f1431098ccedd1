//! Header lines as Envoy 1.40 has them on HTTP/1.1, on both sides: which it adds, hides and where they
//! stand.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::streams::Head;
use crate::grpc::percent_encoded;
use crate::proxy::{Received, Response};
use crate::scenario::{Answer, HeaderLine};
use crate::world::{Inline, Lines, LocalReply, grpc_status_of};

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
    let method = pseudo(b":method");
    let usually_has_body = matches!(&*method, b"POST" | b"PUT" | b"PATCH" | b"OPTIONS");
    let framing = match (headers.first(b"content-length"), end) {
        (None, false) => Some((b"transfer-encoding".to_vec(), b"chunked".to_vec())),
        (None, true) if usually_has_body => Some((b"content-length".to_vec(), b"0".to_vec())),
        _ => None,
    };
    let host = headers.first(b":authority").map(|host| (b"host".to_vec(), host.to_vec()));
    let mut sent: Vec<HeaderLine> = Vec::with_capacity(headers.0.len());
    sent.extend(host);
    sent.extend(lines.cloned());
    sent.extend(framing);
    Received {
        cluster: None,
        path: pseudo(b":path"),
        method,
        headers: sent,
        body: Vec::new(),
        trailers: Vec::new(),
    }
}

/// The head of a request over HTTP/2 as a cluster gets it.
pub(super) fn received_h2(headers: &Lines) -> Received {
    let head = received(headers, true);
    // There is no framing to tell.
    let own = |(name, _): &HeaderLine| name == b"host" || headers.first(name).is_some();
    Received { headers: head.headers.into_iter().filter(own).collect(), ..head }
}

/// Why Envoy does not send a request on that a filter has changed: status and body of its answer.
pub(super) fn unsendable(headers: &Lines) -> Option<(u32, String)> {
    // Without these two no route matches: each is for paths that begin so.
    let has_path = headers.first(b":path").is_some_and(|path| path.starts_with(b"/"));
    if !has_path || headers.first(b"x-forwarded-proto").is_none() {
        return Some((404, String::new()));
    }
    if headers.first(b":method").is_none() {
        return Some((503, "missing required header: :method".into()));
    }
    unsendable_line(headers).map(|body| (503, body))
}

/// Why Envoy does not send a message with these header lines.
pub(super) fn unsendable_line(headers: &Lines) -> Option<String> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let lines = headers.0.iter().filter(|(name, _)| !name.starts_with(b":"));
    for (name, value) in lines {
        let shown = name.escape_ascii();
        if name.is_empty() || !name.iter().all(is_token) {
            return Some(format!("invalid header name: {shown}"));
        }
        if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return Some(format!("invalid header value for: {shown}"));
        }
    }
    None
}

/// How many bytes the other side reads as the body, by its header.
pub(super) fn announced_length(headers: &Lines) -> Option<usize> {
    str::from_utf8(headers.first(b"content-length")?).ok()?.parse().ok()
}

/// Whether a client reads no body after these headers of a response, whatever the proxy has of one.
pub(super) fn has_no_body(headers: &Lines) -> bool {
    matches!(headers.first(b":status"), Some([b'1', ..] | b"204" | b"304"))
}

/// What `date` says; as in Envoy it is written once for all responses of a second.
#[derive(Debug, Default)]
pub(super) struct Date {
    second: Option<u64>,
    text: String,
}

impl Date {
    fn at(&mut self, now: Duration) -> &[u8] {
        let second = Some(now.as_secs());
        if self.second != second {
            self.second = second;
            self.text = httpdate::fmt_http_date(UNIX_EPOCH + now);
        }
        self.text.as_bytes()
    }
}

/// A response as the client gets it, up to its body. `headers` get the lines that a later log sees.
pub(super) fn response(
    headers: &mut Lines,
    date: &mut Date,
    now: Duration,
    body: Body,
    close: bool,
) -> Response {
    headers.remove(b"transfer-encoding");
    if headers.first(b"date").is_none() {
        headers.add(b"date", date.at(now));
    }
    let status = headers.first(b":status").and_then(|text| str::from_utf8(text).ok());
    let status = status.and_then(|text| text.parse().ok()).unwrap_or(0);
    let passed = |name: &[u8]| !name.starts_with(b":") && name != b"connection";
    // Room for the two that may come behind them.
    let mut lines: Vec<HeaderLine> = Vec::with_capacity(headers.0.len().saturating_add(2));
    lines.extend(headers.0.iter().filter(|(name, _)| passed(name)).cloned());
    if close {
        headers.add(b"connection", b"close");
        lines.push((b"connection".to_vec(), b"close".to_vec()));
    }
    let has_framing = headers.first(b"content-length").is_some() || matches!(status, 204 | 304);
    match body {
        _ if has_framing => {}
        Body::Absent => lines.push((b"content-length".to_vec(), b"0".to_vec())),
        Body::Follows | Body::Omitted => {
            lines.push((b"transfer-encoding".to_vec(), b"chunked".to_vec()));
        }
    }
    Response { status, headers: lines, body: Vec::new(), trailers: Vec::new() }
}

/// The request headers as Envoy's filters see them: pseudo-headers first, its own line last.
pub(super) fn request_headers(head: Head, own_scheme: &str) -> Lines {
    let own_scheme = own_scheme.as_bytes();
    let forwarded = head.headers.iter().find(|(name, _)| name == b"x-forwarded-proto");
    let is_forwarded = forwarded.is_some();
    let scheme = forwarded.map_or(own_scheme, |(_, value)| value).to_vec();
    // Room for the five of the proxy and for what a filter adds.
    let mut headers = Lines(Vec::with_capacity(head.headers.len().saturating_add(8)));
    headers.add(b":authority", trimmed(head.authority.into_bytes()));
    headers.add(b":path", head.path);
    headers.add(b":method", head.method);
    headers.add(b":scheme", scheme);
    let nominated = nominated(&head.headers);
    for (name, value) in head.headers {
        if name == b"te" {
            // All else that a client offers ends at the proxy.
            if tokens(&value).any(|token| token == b"trailers") {
                headers.append(name, b"trailers".to_vec(), Inline::Request);
            }
        } else if !is_dropped(&name) && !nominated.contains(&name) {
            headers.append(name, trimmed(value), Inline::Request);
        }
    }
    if !is_forwarded {
        headers.add(b"x-forwarded-proto", own_scheme);
    }
    headers
}

/// A value without the blanks around it, which are no part of it.
fn trimmed(value: Vec<u8>) -> Vec<u8> {
    let bare = value.trim_ascii();
    if bare.len() == value.len() { value } else { bare.to_vec() }
}

/// The last address that a request was forwarded for, if it is one.
pub(super) fn forwarded_for(headers: &[HeaderLine]) -> Option<IpAddr> {
    let (_, line) = headers.iter().rfind(|(name, _)| name == b"x-forwarded-for")?;
    let last = line.rsplit(|&byte| byte == b',').next()?;
    str::from_utf8(last).ok()?.trim().parse().ok()
}

/// Whether the client asks for its connection to be closed.
pub(super) fn asks_to_close(headers: &[HeaderLine]) -> bool {
    nominated(headers).iter().any(|token| token == b"close")
}

/// What the proxy answers to a request before any filter sees it, if it does.
pub(super) fn refused_unseen(headers: &[HeaderLine]) -> Option<LocalReply> {
    if nominates_wrongly(headers) {
        let details = "http1.connection_header_rejected";
        return Some(LocalReply::of_proxy(400, details, "Bad Request"));
    }
    asks_to_upgrade(headers).then(|| LocalReply::of_proxy(403, "upgrade_failed", ""))
}

/// Whether the client asks for another protocol, which the proxy is not configured for.
fn asks_to_upgrade(headers: &[HeaderLine]) -> bool {
    let has_upgrade = headers.iter().any(|(name, _)| name == b"upgrade");
    has_upgrade && nominated(headers).iter().any(|word| word == b"upgrade")
}

/// The words of a list with commas, in lower case.
fn tokens(value: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    value.split(|&byte| byte == b',').map(|token| token.trim_ascii().to_ascii_lowercase())
}

/// The headers that a client says to be of its connection, and that end at the proxy.
fn nominated(headers: &[HeaderLine]) -> Vec<Vec<u8>> {
    let values = headers.iter().filter(|(name, _)| name == b"connection");
    values.flat_map(|(_, value)| tokens(value)).collect()
}

/// Whether the client says of a header that others have set for it, or of a pseudo-header, that it is of its
/// connection. As on Envoy, ten such words are too many in any case.
fn nominates_wrongly(headers: &[HeaderLine]) -> bool {
    let nominated = nominated(headers);
    let is_wrong = |name: &Vec<u8>| {
        name.starts_with(b":")
            || matches!(&**name, b"x-forwarded-for" | b"x-forwarded-host" | b"x-forwarded-proto")
    };
    nominated.len() >= 10 || nominated.iter().any(is_wrong)
}

/// Lines of a client that end at the proxy: those of the connection, and those that only a trusted
/// sender may set.
///
/// Source: Envoy, "HTTP header sanitizing"; checked on Envoy 1.40.
fn is_dropped(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"expect"
            | b"keep-alive"
            | b"proxy-connection"
            | b"transfer-encoding"
            | b"x-envoy-expected-rq-timeout-ms"
            | b"x-envoy-force-trace"
            | b"x-envoy-hedge-on-per-try-timeout"
            | b"x-envoy-internal"
            | b"x-envoy-ip-tags"
            | b"x-envoy-max-retries"
            | b"x-envoy-original-url"
            | b"x-envoy-retriable-header-names"
            | b"x-envoy-retriable-status-codes"
            | b"x-envoy-retry-grpc-on"
            | b"x-envoy-retry-on"
            | b"x-envoy-upstream-alt-stat-name"
            | b"x-envoy-upstream-rq-per-try-timeout-ms"
            | b"x-envoy-upstream-rq-timeout-alt-response"
            | b"x-envoy-upstream-rq-timeout-ms"
    )
}

/// The response headers as Envoy's filters see them.
pub(super) fn answer_headers(answer: &Answer, is_head: bool) -> Vec<HeaderLine> {
    response_headers(answer.status, answer_lines(answer, is_head))
}

/// The lines of a response as Envoy's filters see them.
pub(super) fn response_headers(status: u16, sent: Vec<HeaderLine>) -> Vec<HeaderLine> {
    // Room for the date and for what a filter adds.
    let mut lines = Lines(Vec::with_capacity(sent.len().saturating_add(8)));
    lines.add(b":status", status.to_string());
    for (name, value) in sent {
        lines.append(name, value, Inline::Response);
    }
    lines.0
}

/// The header lines of an answer as a server of HTTP/1.1 sends them.
pub(super) fn answer_lines(answer: &Answer, is_head: bool) -> Vec<HeaderLine> {
    // Room for the one that frames the body.
    let mut headers = Vec::with_capacity(answer.headers.len().saturating_add(1));
    headers.extend_from_slice(&answer.headers);
    if headers.iter().any(|(name, _)| name == b"content-length") {
        return headers;
    }
    let ends_so = answer.trailers.is_empty() && !answer.unfinished && answer.pace.pause.is_none();
    match answer.body.as_slice() {
        [] if ends_so => {
            if !is_head && !matches!(answer.status, 204 | 304) {
                headers.push((b"content-length".to_vec(), b"0".to_vec()));
            }
        }
        [whole] if ends_so => headers.push(content_length(whole)),
        _ => headers.push((b"transfer-encoding".to_vec(), b"chunked".to_vec())),
    }
    headers
}

/// What a sender of HTTP/1.1 says of a body in one piece; one in chunks tells its end by itself.
pub(super) fn content_length(body: &[u8]) -> HeaderLine {
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
    let status = reply.grpc_status.unwrap_or_else(|| grpc_status_of(reply.status));
    let is_own = |name: &[u8]| name != b":status" && name != b"content-length";
    let own = reply.headers.iter().filter(|(name, _)| is_own(name)).cloned();
    let mut headers = Lines(vec![(b":status".to_vec(), b"200".to_vec())]);
    headers.0.extend(own);
    headers.set(b"content-type", b"application/grpc");
    let mut headers = headers.0;
    headers.push((b"grpc-status".to_vec(), status.to_string().into_bytes()));
    if !reply.body.is_empty() {
        headers.push((b"grpc-message".to_vec(), percent_encoded(&reply.body)));
    }
    headers
}
