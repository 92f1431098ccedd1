//! Messages between hyper and the host: header lines, heads and parts.

use bytes::Bytes;
use hyper::body::Frame;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, http::request};
use tollgate_host::offline::{Head, Part};
use tollgate_host::scenario::HeaderLine;

/// Header lines as the host has them, in the order of the wire as far as hyper keeps it.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<HeaderLine> {
    headers.iter().map(|(name, value)| (name.as_str().into(), value.as_bytes().into())).collect()
}

/// Header lines as hyper has them, without those of the connection, which it makes itself. What HTTP cannot
/// carry is left out: the host has checked what it sends upstream, and a guest may have made up the rest.
pub(crate) fn headers(lines: &[HeaderLine]) -> HeaderMap {
    let own = lines.iter().filter(|(name, _)| name != b"transfer-encoding");
    let own = own.filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name).ok()?;
        Some((name, HeaderValue::from_bytes(value).ok()?))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in own {
        headers.append(name, value);
    }
    headers
}

/// Why a request does not come to the host: Envoy answers it with 400 before its filters see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHost {
    /// It names none.
    Absent,
    /// There are bytes in it that no host has.
    Invalid,
}

/// The head of a request as the host takes it.
pub(crate) fn head(parts: &request::Parts) -> Result<Head, BadHost> {
    let host = parts.headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes()).or(host);
    let authority = authority.ok_or(BadHost::Absent)?;
    let authority = str::from_utf8(authority).ok().filter(|text| text.bytes().all(is_of_a_host));
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = lines(&parts.headers);
    headers.retain(|(name, _)| name != b"host");
    Ok(Head {
        method: parts.method.as_str().into(),
        path: path.into(),
        authority: authority.ok_or(BadHost::Invalid)?.into(),
        headers,
    })
}

/// Whether Envoy 1.40 takes a byte in a host; seen of each byte.
fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(&byte)
}

/// A part of a body as the host takes it.
pub(crate) fn part(frame: Frame<Bytes>) -> Part {
    match frame.into_data() {
        Ok(bytes) => Part::Body(bytes.into()),
        Err(frame) => {
            let trailers = frame.into_trailers().map(|trailers| lines(&trailers));
            Part::Trailers(trailers.unwrap_or_default())
        }
    }
}
