//! Messages of a scenario as HTTP messages, and back.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{Either, Full};
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use tollgate_host::scenario::{
    Answer, Ending as EndOfBody, HeaderLine, Pace, Pause, Protocol, Request as Asked,
};

use crate::admin::{Admin, AdminError};

/// A body as it is sent: whole, with its length, or chunk by chunk.
pub(crate) type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

/// How long Envoy may take to read a chunk before the next is sent even so.
const READING: Duration = Duration::from_secs(1);

/// The request of a step.
pub(crate) fn request(asked: &Asked) -> Result<(Request<Body>, Option<Feed>), Unsendable> {
    let method = Method::from_bytes(asked.method.as_bytes())
        .map_err(|_| Unsendable::Method { method: asked.method.clone() })?;
    let unsendable = || Unsendable::Path { path: asked.path.clone() };
    let uri: Uri = asked.path.parse().map_err(|_| unsendable())?;
    if uri.to_string() != asked.path {
        return Err(unsendable());
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let host = (header::HOST.as_str().into(), asked.authority.clone().into_bytes());
    *request.headers_mut() = headers(std::iter::once(&host).chain(&asked.headers))?;
    announce(&asked.trailers, request.headers_mut())?;
    let (body, feed) = body(&asked.body, &asked.trailers, asked.unfinished, asked.pace)?;
    Ok((request.map(|()| body), feed))
}

/// The response of an answer.
pub(crate) fn response(
    answer: &Answer,
    protocol: Protocol,
) -> Result<(Response<Body>, Option<Feed>), Unsendable> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status)
        .map_err(|_| Unsendable::Status { status: answer.status })?;
    *response.headers_mut() = headers(&answer.headers)?;
    if protocol == Protocol::Http {
        announce(&answer.trailers, response.headers_mut())?;
    }
    let (body, feed) = body(&answer.body, &answer.trailers, answer.unfinished, answer.pace)?;
    Ok((response.map(|()| body), feed))
}

/// The response of an answer without its end: that comes, as a break, when what is left is dropped.
pub(crate) fn half_a_response(answer: &Answer) -> Result<(Response<Body>, Feed), Unsendable> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status)
        .map_err(|_| Unsendable::Status { status: answer.status })?;
    *response.headers_mut() = headers(&answer.headers)?;
    let ending = Ending::Trailers(HeaderMap::new());
    let (body, feed) = chunked(&[answer.body.concat()], ending, None);
    Ok((response.map(|()| body), feed))
}

/// A response whose body is still to come.
pub(crate) fn open_response(headers: HeaderMap) -> (Sender<Bytes, Infallible>, Response<Body>) {
    let (sender, channel) = Channel::new(1);
    let mut response = Response::new(Either::Right(channel));
    *response.headers_mut() = headers;
    (sender, response)
}

/// A response that ends with its headers.
pub(crate) fn only_headers(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::new())));
    *response.headers_mut() = headers;
    response
}

/// Header lines as they came. Lines of one name stand together, in the place of the first.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<HeaderLine> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec())
    };
    headers.iter().map(line).collect()
}

/// What is left to send of a body.
#[derive(Debug)]
pub(crate) struct Feed {
    sender: Sender<Bytes, Infallible>,
    /// Length of what is on its way already.
    sent: usize,
    chunks: Vec<Bytes>,
    /// Where it waits among these, and how long.
    pause: Option<Pause>,
    ending: Ending,
}

/// What comes behind the last chunk.
#[derive(Debug)]
enum Ending {
    /// The end, with trailers if there are any.
    Trailers(HeaderMap),
    /// Nothing, not even the end.
    Never,
}

impl Feed {
    /// Sends chunk by chunk, as fast as Envoy takes them.
    pub(crate) async fn run_on(mut self) {
        for chunk in self.chunks {
            if self.sender.send_data(chunk).await.is_err() {
                return;
            }
        }
        self.ending.come(self.sender).await;
    }

    /// Sends chunk by chunk, each once Envoy has read what came before: chunks that Envoy reads at once
    /// are one to the filters.
    pub(crate) async fn run(mut self, mut meter: Meter) -> Result<(), AdminError> {
        for (index, chunk) in self.chunks.into_iter().enumerate() {
            meter.wait_for(self.sent).await?;
            if let Some(pause) = self.pause.filter(|pause| pause.before == index) {
                tokio::time::sleep(pause.by).await;
            }
            self.sent = chunk.len();
            if self.sender.send_data(chunk).await.is_err() {
                // Nobody wants the rest: the stream was answered or reset.
                return Ok(());
            }
        }
        self.ending.come(self.sender).await;
        Ok(())
    }
}

impl Ending {
    async fn come(self, mut sender: Sender<Bytes, Infallible>) {
        match self {
            Self::Trailers(trailers) if trailers.is_empty() => {}
            Self::Trailers(trailers) => {
                let _unwanted = sender.send_trailers(trailers).await;
            }
            // The body ends when its sender is dropped.
            Self::Never => std::future::pending().await,
        }
    }
}

/// Tells how many bytes Envoy has read from a side.
#[derive(Debug)]
pub(crate) struct Meter {
    admin: Admin,
    counter: &'static str,
    read: u64,
}

impl Meter {
    /// Begins to count.
    pub(crate) async fn begin(admin: Admin, counter: &'static str) -> Result<Self, AdminError> {
        let read = admin.statistic(counter).await?;
        Ok(Self { admin, counter, read })
    }

    /// Waits until `bytes` more are read, and nothing more comes for now.
    async fn wait_for(&mut self, bytes: usize) -> Result<(), AdminError> {
        let wanted = self.read.saturating_add(bytes.try_into().unwrap_or(u64::MAX));
        let mut last = self.read;
        let is_read = |read: u64| {
            let settled = read == last;
            last = read;
            read >= wanted && settled
        };
        self.read = self.admin.statistic_until(self.counter, READING, is_read).await?;
        Ok(())
    }
}

/// What HTTP cannot carry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsendable {
    /// Not a method.
    Method { method: String },
    /// Not a path with query.
    Path { path: String },
    /// Not a status code.
    Status { status: u16 },
    /// Not a header line.
    Line { name: Vec<u8>, value: Vec<u8> },
    /// A body that ends with its last chunk.
    End,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method { method } => write!(f, "method `{}`", method.escape_debug())?,
            Self::Path { path } => write!(f, "path `{}`", path.escape_debug())?,
            Self::Status { status } => write!(f, "status {status}")?,
            Self::Line { name, value } => {
                write!(f, "header line `{}: {}`", name.escape_ascii(), value.escape_ascii())?;
            }
            Self::End => f.write_str("a body that ends with its last chunk")?,
        }
        f.write_str(
            " cannot be sent over HTTP/1.1 to a real Envoy; \
             change it, or add only: { on: [wasmtime, native], reason: … }",
        )
    }
}

impl std::error::Error for Unsendable {}

/// Header lines as they are sent.
pub(crate) fn headers<'a>(
    lines: impl IntoIterator<Item = &'a HeaderLine>,
) -> Result<HeaderMap, Unsendable> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let unsendable = || Unsendable::Line { name: name.clone(), value: value.clone() };
        let name = HeaderName::from_bytes(name).map_err(|_| unsendable())?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| unsendable())?);
    }
    Ok(headers)
}

/// Trailers must be announced to be sent.
fn announce(trailers: &[HeaderLine], headers: &mut HeaderMap) -> Result<(), Unsendable> {
    for (name, value) in trailers {
        let unsendable = |_| Unsendable::Line { name: name.clone(), value: value.clone() };
        headers.append(header::TRAILER, HeaderValue::from_bytes(name).map_err(unsendable)?);
    }
    Ok(())
}

fn body(
    chunks: &[Vec<u8>],
    trailers: &[HeaderLine],
    unfinished: bool,
    pace: Pace,
) -> Result<(Body, Option<Feed>), Unsendable> {
    if pace.ending == EndOfBody::WithLastChunk {
        return Err(Unsendable::End);
    }
    let trailers = headers(trailers)?;
    if unfinished {
        let (body, feed) = chunked(chunks, Ending::Never, pace.pause);
        return Ok((body, Some(feed)));
    }
    if let ([] | [_], true, None) = (chunks, trailers.is_empty(), pace.pause) {
        let whole = chunks.first().cloned().unwrap_or_default();
        return Ok((Either::Left(Full::new(whole.into())), None));
    }
    let (body, feed) = chunked(chunks, Ending::Trailers(trailers), pace.pause);
    Ok((body, Some(feed)))
}

/// A body without a length, and what is left to send of it.
fn chunked(chunks: &[Vec<u8>], ending: Ending, pause: Option<Pause>) -> (Body, Feed) {
    let mut chunks = chunks.iter().filter(|chunk| !chunk.is_empty()).cloned().map(Bytes::from);
    let (mut sender, channel) = Channel::new(1);
    let (first, pause) = match pause {
        Some(Pause { before: 0, .. }) => (Bytes::new(), pause),
        Some(Pause { before, by }) => {
            let first = chunks.next().unwrap_or_default();
            (first, Some(Pause { before: before - 1, by }))
        }
        None => (chunks.next().unwrap_or_default(), None),
    };
    let sent = first.len();
    if sent > 0 {
        // The channel is new: it has room for one.
        let _sent = sender.try_send(Frame::data(first));
    }
    (Either::Right(channel), Feed { sender, sent, chunks: chunks.collect(), pause, ending })
}

#[cfg(test)]
mod tests {
    use tollgate_host::scenario::{Scenario, Step};

    use super::*;

    fn asked(text: &str) -> Asked {
        let text = format!(
            "{{ name: any, only: {{ on: [wasmtime], reason: any }}, filters: [ {{ filter: any }} ], \
             steps: [ {{ request: {text} }} ] }}"
        );
        let mut scenario = Scenario::parse(&text).unwrap();
        let Some(Step::Request(step)) = scenario.steps.pop() else { panic!("{text}") };
        step.request
    }

    #[test]
    fn a_request_has_its_host_first_and_keeps_bytes() {
        let asked = asked(
            r#"{ method: PUT, path: "/a?b=%ff", authority: "h:1", headers: [ [a, { hex: ff }], [a, ""], [b, "2"] ] }"#,
        );
        let (request, feed) = request(&asked).unwrap();
        assert_eq!(request.method(), "PUT");
        assert_eq!(request.uri(), "/a?b=%ff");
        let expected: [(&[u8], &[u8]); 4] =
            [(b"host", b"h:1"), (b"a", b"\xff"), (b"a", b""), (b"b", b"2")];
        let expected = expected.map(|(name, value)| (name.to_vec(), value.to_vec()));
        assert_eq!(lines(request.headers()), expected);
        assert!(feed.is_none());
    }

    #[test]
    fn what_http_cannot_carry_is_refused() {
        let check = |text, expected: &str| {
            let error = request(&asked(text)).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(r#"{ method: "G T" }"#, "method `G T` cannot be sent");
        check(r#"{ path: "/a b" }"#, "path `/a b` cannot be sent");
        check(r#"{ path: "/a#b" }"#, "path `/a#b` cannot be sent");
        check(r#"{ headers: [ [a, { hex: "0d0a" }] ] }"#, r"header line `a: \r\n` cannot be sent");
        check(r#"{ body: [ a ], trailers: [ [a, { hex: "00" }] ] }"#, r"header line `a: \x00`");
    }

    #[test]
    fn chunks_and_trailers_are_fed_one_after_another() {
        let check = |text, expected: Option<(usize, usize)>| {
            let (_, feed) = request(&asked(text)).unwrap();
            let left = feed.map(|feed| (feed.sent, feed.chunks.len()));
            assert_eq!(left, expected, "{text}");
        };
        check("{}", None);
        check("{ body: [ whole ] }", None);
        check("{ body: [ a, bc, d ] }", Some((1, 2)));
        check("{ body: [ ab ], trailers: [ [x, y] ] }", Some((2, 0)));
        check("{ trailers: [ [x, y] ] }", Some((0, 0)));
    }
}
