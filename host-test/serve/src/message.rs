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

/// The head of a request as the host takes it.
pub(crate) fn head(parts: &request::Parts) -> Head {
    let host = parts.headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    let authority = parts.uri.authority().map(hyper::http::uri::Authority::as_str).or(host);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = lines(&parts.headers);
    headers.retain(|(name, _)| name != b"host");
    Head {
        method: parts.method.as_str().into(),
        path: path.into(),
        authority: authority.unwrap_or_default().into(),
        headers,
    }
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
