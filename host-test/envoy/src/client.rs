//! The clients: one connection kept alive per worker, so that a step can name its worker.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tollgate_host::proxy::{Outcome, Response};

use crate::admin::{Admin, AdminError};
use crate::message::{self, Body, Feed, Meter};

/// How long a client waits for the end of an answer; the offline host waits as long in virtual time.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long Envoy may take to notice that a connection is open or closed.
const NOTICING: Duration = Duration::from_secs(5);

/// The most header lines of a response.
const MOST_LINES: usize = 512;

/// Counts the bytes that Envoy has read from clients.
const READ: &str = "http.ingress.downstream_cx_rx_bytes_total";

/// Open connections by worker.
const CONNECTIONS: &str = r"^listener\..*\.worker_\d+\.downstream_cx_active$";

/// One client per worker.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: SocketAddr,
    admin: Admin,
    connections: Vec<SendRequest<Body>>,
}

impl Clients {
    /// Connects one client to each worker.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when that fails or a worker goes without.
    pub(crate) async fn connect(
        listener: SocketAddr,
        admin: Admin,
        workers: usize,
    ) -> Result<Self, ClientError> {
        let mut clients = Self { listener, admin, connections: Vec::with_capacity(workers) };
        for _ in 0..workers {
            clients.connections.push(open(listener).await?);
        }
        clients.check_that_each_worker_has_one().await?;
        Ok(clients)
    }

    /// Sends a request to a worker, and gives what comes of it.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when Envoy does not speak HTTP/1.1 or a lost connection cannot be had again.
    pub(crate) async fn exchange(
        &mut self,
        worker: usize,
        request: Request<Body>,
        feed: Option<Feed>,
    ) -> Result<Outcome, ClientError> {
        let meter = match feed {
            Some(feed) => Some((feed, Meter::begin(self.admin, READ).await?)),
            None => None,
        };
        let Some(connection) = self.connections.get_mut(worker) else {
            return Err(ClientError::NoWorker { worker });
        };
        let feeding = async {
            if let Some((feed, meter)) = meter {
                feed.run(meter).await?;
            }
            pending().await
        };
        let answer = async {
            tokio::select! {
                answer = answer(connection, request) => Ok(answer),
                failed = feeding => failed,
            }
        };
        let (outcome, is_lost) = match timeout(PATIENCE, answer).await {
            Err(_) => (Outcome::Unanswered, true),
            Ok(Err(error)) => return Err(ClientError::Admin(error)),
            Ok(Ok(Err(error))) if error.is_parse() => return Err(ClientError::Protocol(error)),
            Ok(Ok(Err(_))) => (Outcome::Reset, true),
            Ok(Ok(Ok((response, closes)))) => (Outcome::Response(response), closes),
        };
        if is_lost {
            self.replace(worker).await?;
        }
        Ok(outcome)
    }

    /// Opens the connection to a worker again: the next one goes to a worker that has the fewest, which
    /// is this one once Envoy has noticed that the old one is gone.
    async fn replace(&mut self, worker: usize) -> Result<(), ClientError> {
        let others = self.connections.len().saturating_sub(1);
        let lost = self.connections.remove(worker);
        drop(lost);
        self.wait_for(|open| open.values().sum::<u64>() == as_count(others)).await?;
        let connection = open(self.listener).await?;
        self.connections.insert(worker, connection);
        self.check_that_each_worker_has_one().await
    }

    async fn check_that_each_worker_has_one(&self) -> Result<(), ClientError> {
        let workers = self.connections.len();
        self.wait_for(|open| open.len() == workers && open.values().all(|&open| open == 1)).await
    }

    async fn wait_for(
        &self,
        mut wanted: impl FnMut(&BTreeMap<String, u64>) -> bool,
    ) -> Result<(), ClientError> {
        let open = self.admin.statistics_until(CONNECTIONS, NOTICING, &mut wanted).await?;
        if wanted(&open) {
            Ok(())
        } else {
            Err(ClientError::Misdealt { open: open.into_values().collect() })
        }
    }
}

/// The clients failed.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// Envoy does not take a connection.
    Connect(io::Error),
    /// Envoy does not speak HTTP/1.1.
    Protocol(hyper::Error),
    /// The connections are not spread as they should be.
    Misdealt {
        /// Open connections of each worker.
        open: Vec<u64>,
    },
    /// There is no such worker.
    NoWorker { worker: usize },
    /// Envoy does not tell.
    Admin(AdminError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "envoy takes no connection: {error}"),
            Self::Protocol(error) => write!(f, "envoy's answer is not HTTP/1.1: {error}"),
            Self::Misdealt { open } => {
                write!(f, "each worker of Envoy should have one connection, but they have {open:?}")
            }
            Self::NoWorker { worker } => write!(f, "there is no worker {worker}"),
            Self::Admin(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<AdminError> for ClientError {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}

async fn open(listener: SocketAddr) -> Result<SendRequest<Body>, ClientError> {
    let stream = TcpStream::connect(listener).await.map_err(ClientError::Connect)?;
    stream.set_nodelay(true).map_err(ClientError::Connect)?;
    let (sender, connection) = http1::Builder::new()
        .max_headers(MOST_LINES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ClientError::Protocol)?;
    // It ends with an error when Envoy resets it; the request on it tells as well.
    let _task = tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// The whole response, and whether the connection closes with it.
async fn answer(
    connection: &mut SendRequest<Body>,
    request: Request<Body>,
) -> Result<(Response, bool), hyper::Error> {
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    let (head, body) = response.into_parts();
    let closes = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    let (body, trailers) = whole(body).await?;
    let response = Response {
        status: head.status.as_u16(),
        headers: message::lines(&head.headers),
        body,
        trailers,
    };
    Ok((response, closes))
}

async fn whole(
    body: Incoming,
) -> Result<(Vec<u8>, Vec<tollgate_host::scenario::HeaderLine>), hyper::Error> {
    let body = body.collect().await?;
    let trailers = body.trailers().map(message::lines).unwrap_or_default();
    Ok((body.to_bytes().into(), trailers))
}

fn as_count(connections: usize) -> u64 {
    connections.try_into().unwrap_or(u64::MAX)
}
