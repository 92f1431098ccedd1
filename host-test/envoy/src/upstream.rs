//! The upstream: a server that notes what it gets and answers what the step says.

use std::collections::BTreeMap;
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
use tollgate_host::scenario::{Configured, HeaderLine, Protocol, UPSTREAM, Upstream as Answers};

use crate::admin::Admin;
use crate::bootstrap::{CLIENT, TRAILERS_WELCOME};
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
    /// Where it listens for the further clusters that routes lead to.
    further: BTreeMap<String, u16>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    /// What the next requests get, by the client's port where clients are told apart.
    armed: BTreeMap<Client, Armed>,
    admin: Option<Admin>,
    requests: u64,
    /// Where callouts go.
    door: Door,
}

/// A client by its port; none where they are not told apart.
pub(crate) type Client = Option<u16>;

/// What a request gets, and what was got of it.
#[derive(Debug)]
struct Armed {
    answers: Answers,
    received: Option<Received>,
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
    /// Listens on free ports of the loopback interface, one for each cluster.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) async fn listen(proxy: &Configured) -> io::Result<(Self, Cluster)> {
        let (listener, port) = bind().await?;
        let cluster = Cluster::behind(UPSTREAM, port);
        let shared = Arc::new(Mutex::new(Shared {
            door: cluster.door(),
            armed: BTreeMap::new(),
            admin: None,
            requests: 0,
        }));
        let own = proxy.cluster.name.clone();
        let _task = tokio::spawn(accept(listener, own, Arc::clone(&shared)));
        let mut further = BTreeMap::new();
        for name in &proxy.clusters {
            let (listener, port) = bind().await?;
            let _task = tokio::spawn(accept(listener, name.clone(), Arc::clone(&shared)));
            further.insert(name.clone(), port);
        }
        Ok((Self { port, further, shared }, cluster))
    }

    /// Where it listens for the further clusters that routes lead to.
    pub(crate) fn further_ports(&self) -> BTreeMap<String, u16> {
        self.further.clone()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Forgets what the last requests got.
    pub(crate) fn disarm(&self, admin: Admin) {
        let mut shared = lock(&self.shared);
        shared.admin = Some(admin);
        shared.armed.clear();
    }

    /// Says what the next request of a client gets.
    ///
    /// # Errors
    ///
    /// [`Unsendable`] when HTTP cannot carry the answer.
    pub(crate) fn arm(&self, client: Client, answers: &Answers) -> Result<(), Unsendable> {
        if let Answers::Answer(answer) = answers {
            message::response(answer, Protocol::Http)?;
        }
        let armed = Armed { answers: answers.clone(), received: None, hold: Hold::None };
        lock(&self.shared).armed.insert(client, armed);
        Ok(())
    }

    /// Has the next answer to a client wait until it is released.
    pub(crate) fn hold(&self, client: Client) {
        if let Some(armed) = lock(&self.shared).armed.get_mut(&client) {
            armed.hold = Hold::Asked;
        }
    }

    /// Waits until the answer to a client is held.
    pub(crate) async fn holding(&self, client: Client) {
        while held(&self.shared, client) != Some(Hold::Holding) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets the answer that is held go.
    pub(crate) fn release(&self, client: Client) {
        if let Some(armed) = lock(&self.shared).armed.get_mut(&client) {
            armed.hold = Hold::None;
        }
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

    /// The request of a client that came since it was said what it gets.
    pub(crate) fn received(&self, client: Client) -> Option<Received> {
        lock(&self.shared).armed.get(&client)?.received.clone()
    }
}

async fn bind() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn accept(listener: TcpListener, cluster: String, shared: Arc<Mutex<Shared>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, say; the connection may be had later.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Without it an answer may wait for an acknowledgement; that it cannot be set costs time only.
        let _slower = stream.set_nodelay(true);
        let (cluster, shared) = (cluster.clone(), Arc::clone(&shared));
        let service =
            service_fn(move |request| serve(request, cluster.clone(), Arc::clone(&shared)));
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
    cluster: String,
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
    let (lines, client) = as_sent_by_filters(message::lines(&head.headers));
    let (answers, admin) = {
        let mut shared = lock(&shared);
        shared.requests += 1;
        let admin = shared.admin;
        let Some(armed) = shared.armed.get_mut(&client) else { return Err(Broken) };
        armed.received = Some(Received {
            cluster: Some(cluster),
            method: head.method.as_str().into(),
            path: head.uri.path_and_query().map_or("", |path| path.as_str()).into(),
            headers: lines,
            body: Vec::new(),
            trailers: Vec::new(),
        });
        (armed.answers.clone(), admin)
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Broken)?;
        let mut shared = lock(&shared);
        let armed = shared.armed.get_mut(&client);
        let Some(received) = armed.and_then(|armed| armed.received.as_mut()) else {
            return Err(Broken);
        };
        if let Some(bytes) = frame.data_ref() {
            received.body.extend_from_slice(bytes);
        }
        if let Some(trailers) = frame.trailers_ref() {
            received.trailers = message::lines(trailers);
        }
    }
    wait_for_release(&shared, client).await;
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

async fn wait_for_release(shared: &Mutex<Shared>, client: Client) {
    if let Some(armed) = lock(shared).armed.get_mut(&client)
        && armed.hold == Hold::Asked
    {
        armed.hold = Hold::Holding;
    }
    while held(shared, client) == Some(Hold::Holding) {
        sleep(Duration::from_millis(1)).await;
    }
}

fn held(shared: &Mutex<Shared>, client: Client) -> Option<Hold> {
    lock(shared).armed.get(&client).map(|armed| armed.hold)
}

/// Takes off the lines that our own configuration of Envoy put on, and reads the client off them.
fn as_sent_by_filters(mut lines: Vec<HeaderLine>) -> (Vec<HeaderLine>, Client) {
    let is_client = |(name, _): &&HeaderLine| name == CLIENT.as_bytes();
    let client = lines.iter().find(is_client);
    let client = client.and_then(|(_, port)| str::from_utf8(port).ok()?.parse().ok());
    let is_ours = |(name, value): &HeaderLine| {
        name == CLIENT.as_bytes()
            || (name == header::TE.as_str().as_bytes() && value == TRAILERS_WELCOME.as_bytes())
    };
    lines.retain(|line| !is_ours(line));
    (lines, client)
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
            assert_eq!(as_sent_by_filters(lines(given)), (lines(expected), None), "{given:?}");
        };
        check(&["trailers, tollgate"], &[]);
        check(&["gzip", "trailers, tollgate"], &["gzip"]);
        check(&["trailers"], &["trailers"]);
        let client = vec![(CLIENT.into(), b"50001".to_vec())];
        assert_eq!(as_sent_by_filters(client), (Vec::new(), Some(50_001)));
    }
}
