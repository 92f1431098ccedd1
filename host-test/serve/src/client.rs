//! Clients: connections over HTTP/1.1 and HTTP/2, and requests on them.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::sleep;
use tollgate_host::offline::{ConnectionId, Part, StreamId};
use tollgate_host::proxy::HostFailure;

use crate::Told;
use crate::bridge::{Answer, Bridge};
use crate::message::{self, BadHost};
use crate::pipe::{BrokenOff, Outlet, nothing, pipe};
use crate::tls::ServerTls;

/// How long to wait when no connection can be taken: out of descriptors, say.
const AGAIN: Duration = Duration::from_millis(10);

/// Runs what hyper has to do beside a connection on this thread.
#[derive(Clone, Copy, Debug)]
struct Here;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, future: F) {
        let _task = spawn_local(future);
    }
}

/// Takes connections for ever.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: Option<Rc<ServerTls>>,
    bridge: Rc<Bridge>,
) -> HostFailure {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(AGAIN).await;
            continue;
        };
        // Without it an answer may wait for an acknowledgement; that it cannot be set costs time only.
        let _slower = stream.set_nodelay(true);
        let (bridge, tls) = (Rc::clone(&bridge), tls.clone());
        let _task = spawn_local(async move {
            let worker = bridge.next_worker();
            match tls {
                None => serve(&Rc::new(Client { bridge, worker, connection: None }), stream).await,
                Some(tls) => shake(&tls, bridge, worker, stream).await,
            }
        });
    }
}

/// Lets a client in with TLS, if its certificate does.
async fn shake(tls: &ServerTls, bridge: Rc<Bridge>, worker: usize, stream: TcpStream) {
    match tls.accept(stream).await {
        Ok((stream, secured)) => {
            let Some(connection) = bridge.connect(secured) else { return };
            let client = Client { bridge, worker, connection: Some(connection) };
            serve(&Rc::new(client), stream).await;
        }
        Err(why) => bridge.tell(Told::NoHandshake(&why)),
    }
}

/// A connection of a client.
struct Client {
    bridge: Rc<Bridge>,
    worker: usize,
    connection: Option<ConnectionId>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(connection) = self.connection {
            self.bridge.disconnect(connection);
        }
    }
}

async fn serve(client: &Rc<Client>, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let service = service_fn(|request| exchange(Rc::clone(client), request));
    let server = auto::Builder::new(Here);
    // How a connection ends is the client's to know.
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

/// The stream was broken off before there was a response: so is the connection, or the stream of HTTP/2.
#[derive(Debug)]
struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream was reset")
    }
}

impl std::error::Error for Reset {}

/// Tells the host when a client leaves: when hyper lets go of the request or of its response.
struct Presence {
    bridge: Rc<Bridge>,
    id: StreamId,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.bridge.leave(self.id);
    }
}

/// The body of a response, whose client is there as long as hyper has it.
struct Present {
    body: Outlet,
    _presence: Option<Presence>,
}

impl Body for Present {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

async fn exchange(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<Present>, Reset> {
    let (parts, body) = request.into_parts();
    let head = match message::head(&parts) {
        Ok(head) => head,
        Err(bad) => return Ok(refuse(bad)),
    };
    let end = body.is_end_stream();
    let Client { bridge, worker, connection } = &*client;
    let (id, answer) = bridge.open(*worker, *connection, head, end).ok_or(Reset)?;
    let presence = Presence { bridge: Rc::clone(bridge), id };
    if !end {
        let _task = spawn_local(feed(Rc::clone(bridge), id, body));
    }
    let Answer { head, body } = answer.await.map_err(|_| Reset)?;
    let mut response = Response::new(Present { body, _presence: Some(presence) });
    *response.status_mut() = StatusCode::from_u16(head.status).map_err(|_| Reset)?;
    *response.headers_mut() = message::headers(&head.headers);
    Ok(response)
}

/// What Envoy answers to a request that names no host that could be one.
fn refuse(bad: BadHost) -> Response<Present> {
    let body = match bad {
        BadHost::Absent => nothing(),
        BadHost::Invalid => {
            let (inlet, body) = pipe();
            inlet.data(b"Bad Request".to_vec());
            inlet.end();
            body
        }
    };
    let mut response = Response::new(Present { body, _presence: None });
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if bad == BadHost::Invalid {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("11"));
    }
    response
}

/// Gives the host what a client sends after the head.
async fn feed(bridge: Rc<Bridge>, id: StreamId, mut body: Incoming) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return bridge.leave(id) };
        let part = message::part(frame);
        let is_last = matches!(part, Part::Trailers(_));
        bridge.send_request(id, part).await;
        if is_last {
            return;
        }
    }
    bridge.send_request(id, Part::End).await;
}
