//! Callouts of filters to real services, over HTTP/1.1, or HTTP/2 for gRPC.

use std::rc::Rc;

use http_body_util::BodyExt;
use hyper::body::Incoming as Answer;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use tokio::task::{AbortHandle, spawn_local};
use tollgate_host::grpc;
use tollgate_host::offline::{CalloutId, CalloutKind, Incoming, Outgoing};
use tollgate_host::scenario::HeaderLine;

use crate::bridge::Bridge;
use crate::message;
use crate::origin::Origin;
use crate::pipe::{Inlet, Outlet, pipe};
use crate::tls::{Connector, Trust};

/// The status of gRPC for what cannot be understood.
const INTERNAL: u32 = 13;

/// The most bytes of an answer that are kept for a guest.
const MOST_BYTES: usize = 64 << 20;

/// Clients for callouts, which keep their connections.
#[derive(Clone)]
pub(crate) struct Services {
    http: Client<Connector, Outlet>,
    grpc: Client<Connector, Outlet>,
}

impl Services {
    pub(crate) fn new(trust: &Trust) -> Self {
        let http = Client::builder(TokioExecutor::new()).build(trust.http1());
        let grpc = Client::builder(TokioExecutor::new()).http2_only(true).build(trust.http2());
        Self { http, grpc }
    }
}

/// A callout that is under way; one that is dropped is given up.
pub(crate) struct Callout {
    request: Option<Inlet>,
    task: Option<AbortHandle>,
}

impl Drop for Callout {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Callout {
    /// Begins a callout to a service; nobody answers one to a cluster that has none.
    pub(crate) fn begin(
        bridge: &Rc<Bridge>,
        id: CalloutId,
        origin: Option<Origin>,
        kind: CalloutKind,
        headers: &[HeaderLine],
    ) -> Self {
        let (inlet, body) = pipe();
        let request = origin.and_then(|origin| request(&origin, headers, body));
        let bridge = Rc::clone(bridge);
        let task = spawn_local(async move {
            match request {
                // What cannot be sent is for nobody.
                None => bridge.take_incoming(id, Incoming::Refused),
                Some(request) if kind == CalloutKind::Http => http(&bridge, id, request).await,
                Some(request) => dialogue(&bridge, id, kind, request).await,
            }
        });
        Self { request: Some(inlet), task: Some(task.abort_handle()) }
    }

    /// More of what the guest sends.
    pub(crate) fn send(&mut self, outgoing: Outgoing) {
        let Some(inlet) = &self.request else { return };
        match outgoing {
            Outgoing::Body(bytes) => inlet.data(bytes),
            Outgoing::Message(message) => {
                let mut frame = Vec::with_capacity(message.len() + 5);
                grpc::frame(&mut frame, &message);
                inlet.data(frame);
            }
            Outgoing::End => {
                inlet.end();
                self.request = None;
            }
            Outgoing::Head { .. } | Outgoing::GivenUp => {}
        }
    }
}

fn request(origin: &Origin, headers: &[HeaderLine], body: Outlet) -> Option<Request<Outlet>> {
    let pseudo = |wanted: &[u8]| headers.iter().find(|(name, _)| name == wanted);
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(&pseudo(b":method")?.1).ok()?;
    *request.uri_mut() = origin.at(&pseudo(b":path")?.1)?;
    let own: Vec<HeaderLine> = headers
        .iter()
        .map(|(name, value)| match name.as_slice() {
            b":authority" => (b"host".to_vec(), value.clone()),
            _ => (name.clone(), value.clone()),
        })
        .filter(|(name, _)| !name.starts_with(b":"))
        .collect();
    *request.headers_mut() = message::headers(&own);
    Some(request)
}

async fn http(bridge: &Rc<Bridge>, id: CalloutId, request: Request<Outlet>) {
    let incoming = match bridge.services().http.request(request).await {
        Ok(response) => {
            let headers = with_status(&response);
            match whole(response.into_body()).await {
                Some((body, trailers)) => Incoming::Answer { headers, body, trailers },
                None => Incoming::Broken,
            }
        }
        Err(error) => unanswered(&error),
    };
    bridge.take_incoming(id, incoming);
}

/// Gives the guest what a server of gRPC sends, as it comes.
async fn dialogue(bridge: &Rc<Bridge>, id: CalloutId, kind: CalloutKind, request: Request<Outlet>) {
    let response = match bridge.services().grpc.request(request).await {
        Ok(response) => response,
        Err(error) => return bridge.take_incoming(id, unanswered(&error)),
    };
    let headers = with_status(&response);
    // An answer that fails at once is all trailers.
    if response.headers().contains_key("grpc-status") {
        return bridge.take_incoming(id, closed(response.headers(), headers));
    }
    let is_stream = kind == CalloutKind::GrpcStream;
    if is_stream {
        bridge.take_incoming(id, Incoming::InitialMetadata(headers));
    }
    let mut body = response.into_body();
    let (mut bytes, mut last) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return bridge.take_incoming(id, Incoming::Broken) };
        match frame.into_data() {
            Ok(data) => {
                bytes.extend_from_slice(&data);
                if bytes.len() > MOST_BYTES {
                    return bridge.take_incoming(id, Incoming::Broken);
                }
                while let Some(message) = take_message(&mut bytes) {
                    if is_stream {
                        bridge.take_incoming(id, Incoming::Message(message));
                    } else {
                        last = Some(message);
                    }
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let incoming = match (closed(&trailers, message::lines(&trailers)), last) {
                    (Incoming::Closed { status: 0, .. }, Some(message)) => {
                        Incoming::Message(message)
                    }
                    (Incoming::Closed { status: 0, .. }, None) if !is_stream => internal(),
                    (closed, _) => closed,
                };
                return bridge.take_incoming(id, incoming);
            }
        }
    }
    bridge.take_incoming(id, internal());
}

/// The first message of the frames that have come, if it is whole. Compressed ones are not asked for.
fn take_message(frames: &mut Vec<u8>) -> Option<Vec<u8>> {
    let [_, length @ ..] = *frames.first_chunk::<5>()?;
    let end = usize::try_from(u32::from_be_bytes(length)).ok()?.checked_add(5)?;
    let message = frames.get(5..end)?.to_vec();
    frames.drain(..end);
    Some(message)
}

fn internal() -> Incoming {
    Incoming::Closed { trailers: Vec::new(), status: INTERNAL, message: Vec::new() }
}

/// The end of a gRPC callout, as its trailers tell it.
fn closed(trailers: &HeaderMap, lines: Vec<HeaderLine>) -> Incoming {
    let text = |name: &str| trailers.get(name).map(HeaderValue::as_bytes);
    let status = text("grpc-status").and_then(|status| str::from_utf8(status).ok()?.parse().ok());
    let message = text("grpc-message").unwrap_or_default().to_vec();
    Incoming::Closed { trailers: lines, status: status.unwrap_or(INTERNAL), message }
}

fn unanswered(error: &Error) -> Incoming {
    if error.is_connect() { Incoming::Refused } else { Incoming::Reset }
}

fn with_status(response: &Response<Answer>) -> Vec<HeaderLine> {
    let status = response.status().as_str().into();
    let mut headers = vec![(b":status".to_vec(), status)];
    headers.extend(message::lines(response.headers()));
    headers
}

/// The whole body with its trailers; nothing when it breaks off or is longer than is kept.
async fn whole(mut body: Answer) -> Option<(Vec<u8>, Vec<HeaderLine>)> {
    let (mut bytes, mut trailers) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(data) if bytes.len().saturating_add(data.len()) > MOST_BYTES => return None,
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = message::lines(&frame.into_trailers().unwrap_or_default()),
        }
    }
    Some((bytes, trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_as_they_are_whole() {
        let mut frames = b"\0\0\0\0\x02ab\0\0\0\0\x01".to_vec();
        assert_eq!(take_message(&mut frames), Some(b"ab".to_vec()));
        assert_eq!(take_message(&mut frames), None);
        frames.push(b'c');
        assert_eq!(take_message(&mut frames), Some(b"c".to_vec()));
        assert_eq!(frames, b"");
    }

    #[test]
    fn an_end_without_a_status_is_an_error() {
        let check = |status: Option<&'static str>, expected| {
            let mut trailers = HeaderMap::new();
            if let Some(status) = status {
                trailers.insert("grpc-status", status.parse().unwrap());
            }
            let Incoming::Closed { status, .. } = closed(&trailers, Vec::new()) else { panic!() };
            assert_eq!(status, expected);
        };
        check(Some("0"), 0);
        check(Some("14"), 14);
        check(Some("-1"), INTERNAL);
        check(None, INTERNAL);
    }
}
