//! Requests to a registry: TLS, time limits and sizes. Nothing here logs in or asks again.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::header::CONTENT_LENGTH;
use ureq::http::{HeaderMap, Request, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, SendBody};

use crate::failure::Failure;
use crate::reference::Reference;

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_mins(1);
const BODY: Duration = Duration::from_mins(10);

/// The most bytes of an error that are read, and that are shown of it.
const MAX_ERROR_BYTES: u64 = 64 << 10;
const MAX_ERROR_SHOWN: usize = 300;

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// With TLS.
    Https,
    /// Without: whoever is in between reads and changes everything.
    Http,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// The way to one registry.
#[derive(Debug)]
pub struct Transport {
    pub(crate) agent: Agent,
    pub(crate) scheme: Scheme,
}

/// Where plain HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// With registries on this machine, unless a CA is given for them.
    OnLoopback,
    /// With this registry, wherever it is.
    Allowed,
}

impl Transport {
    /// The way to the registry of an image; `ca` has certificates to trust beside the system's, as PEM.
    ///
    /// # Errors
    ///
    /// [`TransportError`] when there is nobody to trust.
    pub fn new(
        reference: &Reference,
        plain: PlainHttp,
        ca: Option<&[u8]>,
    ) -> Result<Self, TransportError> {
        match plain {
            PlainHttp::Allowed => Ok(Self::plain()),
            PlainHttp::OnLoopback if reference.is_loopback() && ca.is_none() => Ok(Self::plain()),
            PlainHttp::OnLoopback => Self::tls(ca),
        }
    }
    fn tls(ca: Option<&[u8]>) -> Result<Self, TransportError> {
        let mut roots: Vec<Certificate<'static>> = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(ca.unwrap_or_default()) {
            let certificate = certificate.map_err(|error| TransportError::Ca(error.to_string()))?;
            roots.push(Certificate::from_der(&certificate).to_owned());
        }
        if ca.is_some() && roots.is_empty() {
            return Err(TransportError::Ca("no certificate".to_owned()));
        }
        let system = rustls_native_certs::load_native_certs();
        roots.extend(system.certs.iter().map(|root| Certificate::from_der(root).to_owned()));
        if roots.is_empty() {
            let errors = system.errors.iter().map(ToString::to_string);
            return Err(TransportError::NoRoots(errors.collect::<Vec<_>>().join("; ")));
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        let agent = builder().tls_config(tls).https_only(true).build().new_agent();
        Ok(Self { agent, scheme: Scheme::Https })
    }

    fn plain() -> Self {
        // A proxy would be asked for its own loopback.
        Self { agent: builder().proxy(None).build().new_agent(), scheme: Scheme::Http }
    }

    /// The address of the repository's part of the registry.
    pub(crate) fn base(&self, reference: &Reference) -> String {
        format!("{}/v2/{}", self.origin(reference), reference.name())
    }

    /// Scheme and host.
    pub(crate) fn origin(&self, reference: &Reference) -> String {
        format!("{}://{}", self.scheme.as_str(), reference.api_host())
    }

    /// Makes a request and reads all of the answer, whatever its status. How many bytes of the body were
    /// sent, or of the answer were read, is told as they move.
    pub(crate) fn call(
        &self,
        request: Request<&[u8]>,
        most: u64,
        moved: &mut dyn FnMut(u64),
    ) -> Result<Answer, Failure> {
        let name = format!("{} {}", request.method(), without_query(&request.uri().to_string()));
        let response = if request.body().is_empty() {
            self.agent.run(request)
        } else {
            let (mut head, body) = request.into_parts();
            head.headers.insert(CONTENT_LENGTH, body.len().into());
            let mut body = Counted { inner: body, bytes: 0, moved };
            self.agent.run(Request::from_parts(head, SendBody::from_reader(&mut body)))
        };
        Answer::read(name, response, most, moved)
    }
}

fn builder() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_send_body(Some(BODY))
        .timeout_recv_body(Some(BODY))
}

/// Tells how much of something was read.
struct Counted<'a, R> {
    inner: R,
    bytes: u64,
    moved: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes = self.bytes.saturating_add(read as u64);
        if read > 0 {
            (self.moved)(self.bytes);
        }
        Ok(read)
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What it answers, for errors.
    pub(crate) request: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads all of the answer to the request with this name: at most so many bytes.
    pub(crate) fn read(
        request: String,
        response: Result<Response<ureq::Body>, ureq::Error>,
        most: u64,
        moved: &mut dyn FnMut(u64),
    ) -> Result<Self, Failure> {
        let unreachable = |error| Failure::Unreachable { request: request.clone(), error };
        let (head, mut body) = response.map_err(unreachable)?.into_parts();
        let most = if head.status.is_success() { most } else { MAX_ERROR_BYTES };
        let inner = body.with_config().limit(most).reader();
        let mut body = Vec::new();
        match (Counted { inner, bytes: 0, moved }).read_to_end(&mut body).map_err(Into::into) {
            Ok(_) => Ok(Self { request, status: head.status, headers: head.headers, body }),
            Err(ureq::Error::BodyExceedsLimit(bound)) => {
                Err(Failure::TooLarge { what: request, bound })
            }
            Err(error) => Err(unreachable(error)),
        }
    }

    /// A header as text, the first line of it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The failure that it is.
    pub(crate) fn into_failure(self) -> Failure {
        Failure::Status {
            said: self.said(),
            retry_after: self.header("retry-after").and_then(patience),
            status: self.status.as_u16(),
            request: self.request,
        }
    }

    /// What the registry says, on one line and shortened.
    pub(crate) fn said(&self) -> String {
        let errors = serde_json::from_slice::<serde_json::Value>(&self.body).ok();
        let words = errors.as_ref().and_then(|body| {
            let errors = body.get("errors")?.as_array()?.iter().map(|error| {
                let part = |key| error.get(key).and_then(serde_json::Value::as_str).unwrap_or("");
                format!("{}: {}", part("code"), part("message"))
            });
            Some(errors.collect::<Vec<_>>().join("; "))
        });
        let text = words.unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned());
        text.trim()
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .take(MAX_ERROR_SHOWN)
            .collect()
    }
}

/// Seconds, or a date.
fn patience(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(std::time::SystemTime::now()).unwrap_or_default())
}

/// Queries carry tokens, and are not shown.
fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Nobody to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The certificates that were given cannot be read.
    Ca(String),
    /// The system has none.
    NoRoots(String),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(why) => write!(f, "the certificates of the CA cannot be read: {why}"),
            Self::NoRoots(why) => write!(f, "the system has no certificates to trust: {why}"),
        }
    }
}

impl std::error::Error for TransportError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_asked_for_in_seconds_or_by_a_date() {
        assert_eq!(patience(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(patience("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(patience("Fri, 31 Dec 9999 23:59:59 GMT").unwrap() > Duration::from_hours(1));
        for text in ["", "-1", "soon", "1.5"] {
            assert_eq!(patience(text), None, "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_and_for_those_who_say_so() {
        let scheme = |image: &str, plain| {
            let transport = Transport::new(&image.parse().unwrap(), plain, None);
            // A system without certificates trusts nobody, and speaks no plain HTTP for it.
            transport.map_or(Scheme::Https, |transport| transport.scheme)
        };
        for (image, expected) in [
            ("localhost:5000/a", Scheme::Http),
            ("127.0.0.1:5000/a", Scheme::Http),
            ("[::1]:5000/a", Scheme::Http),
            ("10.0.0.1:5000/a", Scheme::Https),
            ("registry.example.com/a", Scheme::Https),
            ("localhost.example.com/a", Scheme::Https),
        ] {
            assert_eq!(scheme(image, PlainHttp::OnLoopback), expected, "{image}");
            assert_eq!(scheme(image, PlainHttp::Allowed), Scheme::Http, "{image}");
        }
    }
}
