//! The upstream: a server that notes what it gets and answers what the step says.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tollgate_host::proxy::Received;
use tollgate_host::scenario::{HeaderLine, Protocol, UPSTREAM, Upstream as Answers};

use crate::admin::Admin;
use crate::bootstrap::TRAILERS_WELCOME;
use crate::cluster::{Cluster, Door};
use crate::message::{self, Body, Meter, Unsendable};

/// The most header lines of a request.
const MOST_LINES: usize = 512;

/// Envoy marks callouts by this header, which it takes off what comes from clients.
const CALLOUT: &str = "x-envoy-internal";

/// Counts the bytes that Envoy has read from us.
const READ: &str = "cluster.upstream.upstream_cx_rx_bytes_total";

/// A running upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    answers: Answers,
    admin: Option<Admin>,
    received: Option<Received>,
    requests: u64,
    /// Where callouts go.
    door: Door,
    hold: Hold,
}

/// Whether the answer waits for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// It does not.
    None,
    /// It will.
    Asked,
    /// It does.
    Holding,
}

impl Upstream {
    /// Listens on a free port of the loopback interface.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) async fn listen() -> io::Result<(Self, Cluster)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let cluster = Cluster::behind(UPSTREAM, port);
        let shared = Arc::new(Mutex::new(Shared {
            door: cluster.door(),
            answers: Answers::Reset,
            admin: None,
            received: None,
            requests: 0,
            hold: Hold::None,
        }));
        let _task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok((Self { port, shared }, cluster))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Says what the next request gets, and forgets the last.
    ///
    /// # Errors
    ///
    /// [`Unsendable`] when HTTP cannot carry the answer.
    pub(crate) fn arm(&self, answers: &Answers, admin: Admin) -> Result<(), Unsendable> {
        if let Answers::Answer(answer) = answers {
            message::response(answer, Protocol::Http)?;
        }
        let mut shared = lock(&self.shared);
        shared.answers = answers.clone();
        shared.admin = Some(admin);
        shared.received = None;
        shared.hold = Hold::None;
        Ok(())
    }

    /// Has the next answer wait until it is released.
    pub(crate) fn hold(&self) {
        lock(&self.shared).hold = Hold::Asked;
    }

    /// Waits until an answer is held.
    pub(crate) async fn holding(&self) {
        while lock(&self.shared).hold != Hold::Holding {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets the answer that is held go.
    pub(crate) fn release(&self) {
        lock(&self.shared).hold = Hold::None;
    }

    /// How many requests have come since the start.
    pub(crate) fn requests(&self) -> u64 {
        lock(&self.shared).requests
    }

    /// Waits until so many requests have come since the start, or `limit` is over.
    pub(crate) async fn wait_for(&self, requests: u64, limit: Duration) {
        let begin = Instant::now();
        while self.requests() < requests && begin.elapsed() < limit {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The request that came since it was said what it gets.
    pub(crate) fn received(&self) -> Option<Received> {
        lock(&self.shared).received.clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say; the connection may be had later.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Without it an answer may wait for an acknowledgement; that it cannot be set costs time only.
        let _slower = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| serve(request, Arc::clone(&shared)));
        let connection = http1::Builder::new()
            .auto_date_header(false)
            .max_headers(MOST_LINES)
            .serve_connection(TokioIo::new(stream), service);
        // How a connection ends is Envoy's to tell.
        let _task = tokio::spawn(async { drop(connection.await) });
    }
}

async fn serve(
    request: Request<Incoming>,
    shared: Arc<Mutex<Shared>>,
) -> Result<Response<Body>, Broken> {
    if request.headers().get(CALLOUT).is_some_and(|value| value == "true") {
        let door = {
            let mut shared = lock(&shared);
            shared.requests += 1;
            shared.door.clone()
        };
        return door.serve(request).await;
    }
    let (head, mut body) = request.into_parts();
    let (answers, admin) = {
        let mut shared = lock(&shared);
        shared.requests += 1;
        shared.received = Some(Received {
            method: head.method.as_str().into(),
            path: head.uri.path_and_query().map_or("", |path| path.as_str()).into(),
            headers: as_sent_by_filters(message::lines(&head.headers)),
            body: Vec::new(),
            trailers: Vec::new(),
        });
        (shared.answers.clone(), shared.admin)
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Broken)?;
        let mut shared = lock(&shared);
        let Some(received) = &mut shared.received else { return Err(Broken) };
        if let Some(bytes) = frame.data_ref() {
            received.body.extend_from_slice(bytes);
        }
        if let Some(trailers) = frame.trailers_ref() {
            received.trailers = message::lines(trailers);
        }
    }
    wait_for_release(&shared).await;
    let (Answers::Answer(answer), Some(admin)) = (answers, admin) else {
        return Err(Broken);
    };
    // Even a sleep of nothing takes a millisecond.
    if !answer.delay.is_zero() {
        sleep(answer.delay).await;
    }
    let (response, feed) = message::response(&answer, Protocol::Http).map_err(|_| Broken)?;
    if let Some(feed) = feed {
        let meter = Meter::begin(admin, READ).await.map_err(|_| Broken)?;
        let _task = tokio::spawn(async { drop(feed.run(meter).await) });
    }
    Ok(response)
}

async fn wait_for_release(shared: &Mutex<Shared>) {
    {
        let mut shared = lock(shared);
        if shared.hold == Hold::Asked {
            shared.hold = Hold::Holding;
        }
    }
    while lock(shared).hold == Hold::Holding {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Takes off the line that our own configuration of Envoy put on.
fn as_sent_by_filters(mut lines: Vec<HeaderLine>) -> Vec<HeaderLine> {
    let is_ours = |(name, value): &HeaderLine| {
        name == header::TE.as_str().as_bytes() && value == TRAILERS_WELCOME.as_bytes()
    };
    lines.retain(|line| !is_ours(line));
    lines
}

/// Breaks the connection.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream breaks the connection")
    }
}

impl std::error::Error for Broken {}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_configuration_adds_is_not_shown() {
        let check = |given: &[&str], expected: &[&str]| {
            let lines = |values: &[&str]| -> Vec<HeaderLine> {
                values.iter().map(|&value| (b"te".to_vec(), value.into())).collect()
            };
            assert_eq!(as_sent_by_filters(lines(given)), lines(expected), "{given:?}");
        };
        check(&["trailers, tollgate"], &[]);
        check(&["gzip", "trailers, tollgate"], &["gzip"]);
        check(&["trailers"], &["trailers"]);
    }
}
