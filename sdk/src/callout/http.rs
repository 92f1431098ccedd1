//! Calls over HTTP.

use std::future::poll_fn;
use std::time::Duration;

use tollgate_abi::{BufferType, Function, MapType, pairs};

use super::pending::{self, Event, Pending, Token};
use super::{CalloutError, DEFAULT_TIMEOUT, NotSent, millis};
use crate::headers::{Headers, check_header};
use crate::host;
use crate::host_error::HostError;
use crate::runtime;

/// What Envoy puts on every answer of a service, and on none of its own.
const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

/// What Envoy's own answers begin with.
const PROXY_ANSWERS: [&[u8]; 3] = [TIMED_OUT, b"upstream connect error", b"no healthy upstream"];
const TIMED_OUT: &[u8] = TIMED_OUT_TEXT.as_bytes();
pub(super) const TIMED_OUT_TEXT: &str = "upstream request timeout";

/// A request to another service.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollgate::callout::{CalloutError, HttpCall};
///
/// async fn is_allowed(user: &[u8]) -> Result<bool, CalloutError> {
///     let call = HttpCall::get("authz", "/check")
///         .header("x-user", user)
///         .timeout(Duration::from_millis(250));
///     Ok(call.send().await?.status() == Some(200))
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a call is made by awaiting `send`"]
pub struct HttpCall {
    cluster: String,
    method: String,
    path: String,
    authority: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Duration,
}

impl HttpCall {
    /// A request to a cluster of the proxy. What is sent as its host is the cluster's name, unless
    /// [`Self::authority`] says another.
    pub fn new(
        method: impl Into<String>,
        cluster: impl Into<String>,
        path: impl Into<String>,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            method: method.into(),
            path: path.into(),
            authority: None,
            headers: Vec::new(),
            body: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// A GET request.
    pub fn get(cluster: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new("GET", cluster, path)
    }

    /// A POST request.
    pub fn post(cluster: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new("POST", cluster, path)
    }

    /// Sets the host that the request is for.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// Adds a header line.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets how long the answer is waited for: [`DEFAULT_TIMEOUT`] if not said. It is rounded up to a
    /// millisecond.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request, and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`CalloutError`] when there is none. A service that answers with an error has answered.
    pub async fn send(&self) -> Result<HttpReply, CalloutError> {
        let pending = Pending::new(Token::Http(self.dispatch()?));
        match poll_fn(|context| pending.poll(context)).await {
            Event::Answered(answer) => answer,
            Event::Unreadable(error) => Err(CalloutError::Host(error)),
            Event::InitialMetadata(_)
            | Event::Message(_)
            | Event::TrailingMetadata(_)
            | Event::Closed { .. } => {
                Err(CalloutError::Reset { message: "the answer is one to a gRPC call".into() })
            }
        }
    }

    fn dispatch(&self) -> Result<u32, NotSent> {
        if runtime::running().is_none() {
            return Err(NotSent::OutsideOfTask);
        }
        let authority = self.authority.as_ref().unwrap_or(&self.cluster);
        let pseudo = [(":method", &self.method), (":path", &self.path), (":authority", authority)];
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let lines: Vec<(&str, &[u8])> =
            pseudo.into_iter().map(|(name, value)| (name, value.as_bytes())).chain(own).collect();
        for (name, value) in &lines {
            check_header(name.as_bytes(), value)?;
        }
        let headers = pairs::encode(&lines).map_err(|_| NotSent::TooLarge)?;
        host::http_call(self.cluster.as_bytes(), &headers, &self.body, &[], millis(self.timeout)?)
            .map_err(|error| NotSent::refused(&self.cluster, error))
    }
}

/// The answer of a service.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// Header lines, with `:status`.
    pub headers: Headers,
    /// The whole body.
    pub body: Vec<u8>,
    /// Trailer lines.
    pub trailers: Headers,
}

impl HttpReply {
    /// The status code, if it is a number.
    pub fn status(&self) -> Option<u16> {
        self.headers.status()
    }

    /// Whether the status says that all went well: 200 to 299.
    pub fn is_success(&self) -> bool {
        self.status().is_some_and(|status| (200..300).contains(&status))
    }
}

/// The host has an answer, which it shows only now.
pub(crate) fn answered(token: u32, header_lines: usize, body_size: usize, trailer_lines: usize) {
    let token = Token::Http(token);
    if pending::is_awaited(token) {
        let event = match read(header_lines, body_size, trailer_lines) {
            Ok(answer) => Event::Answered(answer),
            Err(error) => Event::Unreadable(error),
        };
        pending::deliver(token, event);
    }
}

fn read(
    header_lines: usize,
    body_size: usize,
    trailer_lines: usize,
) -> Result<Result<HttpReply, CalloutError>, HostError> {
    if header_lines == 0 {
        let (_, message) = host::callout_status()?;
        let message = String::from_utf8_lossy(&message).into_owned();
        return Ok(Err(CalloutError::Reset { message }));
    }
    let headers = map(MapType::HttpCallResponseHeaders)?;
    let body = match u32::try_from(body_size).unwrap_or(u32::MAX) {
        0 => Vec::new(),
        size => host::buffer(BufferType::HttpCallResponseBody, 0, size)?,
    };
    let trailers = match trailer_lines {
        0 => Headers::default(),
        _ => map(MapType::HttpCallResponseTrailers)?,
    };
    Ok(judge(HttpReply { headers, body, trailers }))
}

/// Tells the answers that the proxy makes up from those of the service.
fn judge(reply: HttpReply) -> Result<HttpReply, CalloutError> {
    let status = reply.status().unwrap_or(0);
    let is_of_proxy = status >= 500
        && reply.headers.first(SERVICE_TIME).is_none()
        && PROXY_ANSWERS.iter().any(|words| reply.body.starts_with(words));
    if !is_of_proxy {
        return Ok(reply);
    }
    if reply.body.starts_with(TIMED_OUT) {
        return Err(CalloutError::Timeout);
    }
    let message = String::from_utf8_lossy(&reply.body).into_owned();
    Err(CalloutError::Proxy { status, message })
}

pub(super) fn map(map: MapType) -> Result<Headers, HostError> {
    Headers::parse(host::header_pairs(map)?)
        .map_err(|reason| HostError::NotPairs { function: Function::GetHeaderMapPairs, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_proxy_makes_up_is_no_answer_of_the_service() {
        let check = |lines: &[(&str, &str)], body: &str, expected: Result<(), CalloutError>| {
            let reply = HttpReply {
                headers: lines.iter().copied().collect(),
                body: body.into(),
                trailers: Headers::default(),
            };
            assert_eq!(judge(reply).map(|_| ()), expected, "{lines:?} {body}");
        };
        let unreachable = "upstream connect error or disconnect/reset before headers";
        let proxy = CalloutError::Proxy { status: 503, message: unreachable.into() };
        check(&[(":status", "504")], "upstream request timeout", Err(CalloutError::Timeout));
        check(&[(":status", "503")], unreachable, Err(proxy));
        check(&[(":status", "503")], "closed on Mondays", Ok(()));
        check(&[(":status", "200")], unreachable, Ok(()));
        check(&[(":status", "503"), (SERVICE_TIME, "1")], unreachable, Ok(()));
    }
}
