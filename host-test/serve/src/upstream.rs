//! The upstream: requests that the filters let go, over connections that are kept.

use std::rc::Rc;

use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tollgate_host::offline::{Part, StreamId};
use tollgate_host::proxy::Received;

use crate::bridge::Bridge;
use crate::message;
use crate::origin::Origin;
use crate::pipe::Outlet;
use crate::tls::{Connector, Trust};

/// A way to the upstream.
pub(crate) struct Upstream {
    origin: Origin,
    client: Client<Connector, Outlet>,
}

impl Upstream {
    pub(crate) fn new(origin: Origin, trust: &Trust) -> Self {
        Self { origin, client: Client::builder(TokioExecutor::new()).build(trust.http1()) }
    }

    fn request(&self, head: &Received, body: Outlet) -> Option<Request<Outlet>> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(&head.method).ok()?;
        *request.uri_mut() = self.origin.at(&head.path)?;
        *request.headers_mut() = message::headers(&head.headers);
        Some(request)
    }
}

/// Carries a request to the upstream, and the response back to the host.
pub(crate) async fn carry(bridge: Rc<Bridge>, id: StreamId, head: Received, body: Outlet) {
    let Some(request) = bridge.upstream().request(&head, body) else {
        return bridge.break_upstream(id);
    };
    let Ok(response) = bridge.upstream().client.request(request).await else {
        return bridge.break_upstream(id);
    };
    let (head, mut body) = response.into_parts();
    let end = body.is_end_stream();
    bridge.begin_response(id, head.status.as_u16(), message::lines(&head.headers), end);
    if end {
        return;
    }
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return bridge.break_upstream(id) };
        let part = message::part(frame);
        let is_last = matches!(part, Part::Trailers(_));
        bridge.send_response(id, part).await;
        if is_last {
            return;
        }
    }
    bridge.send_response(id, Part::End).await;
}
