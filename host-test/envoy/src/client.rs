//! The clients: connections to each worker that are kept alive, so that a step can name its worker, and as
//! many as a step has requests at once. A peer connects when it is its turn.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate_host::proxy::{Outcome, Response};
use tollgate_host::tls::Alert;

use crate::admin::{Admin, AdminError};
use crate::message::{self, Body, Feed, Meter};
use crate::tls::{self, Identities, NoHandshake};

/// How long a client waits for the end of an answer; the offline host waits as long in virtual time.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long Envoy may take to notice that a connection is open or closed.
const NOTICING: Duration = Duration::from_secs(5);

/// The most header lines of a response.
const MOST_LINES: usize = 512;

/// Counts the bytes that Envoy has read from clients.
const READ: &str = "http.ingress.downstream_cx_rx_bytes_total";

/// Open connections by worker.
const CONNECTIONS: &str = r"^listener\.127\..*\.worker_\d+\.downstream_cx_active$";

/// The connections of clients to the workers.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: SocketAddr,
    admin: Admin,
    /// For each worker its connections; one that is lost or in use leaves its place empty.
    connections: Vec<Vec<Option<Connection>>>,
    /// Who connects, when it is with TLS.
    identities: Option<Identities>,
    /// How many connections of peers are in use.
    in_use: usize,
}

/// A connection that a client keeps alive.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    /// The peer that it belongs to.
    peer: Option<usize>,
    /// Our own port, by which Envoy knows the client.
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

/// A client that shall send a request.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Its connection.
    Connected(Seat, Connection),
    /// Envoy has refused it.
    Refused(Alert),
}

/// Which connection it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    worker: usize,
    place: usize,
}

/// A request on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) request: Request<Body>,
    pub(crate) feed: Option<Feed>,
    /// When the client leaves.
    pub(crate) disconnect: Option<Duration>,
}

impl Clients {
    /// Connects so many clients to each worker.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when that fails or a worker goes without.
    pub(crate) async fn connect(
        listener: SocketAddr,
        admin: Admin,
        identities: Option<Identities>,
        workers: usize,
        per_worker: usize,
    ) -> Result<Self, ClientError> {
        let row = || std::iter::repeat_with(|| None).take(per_worker).collect();
        let connections = std::iter::repeat_with(row).take(workers).collect();
        let mut clients = Self { listener, admin, connections, identities, in_use: 0 };
        if clients.identities.is_none() {
            clients.fill().await?;
        }
        Ok(clients)
    }

    /// Takes a connection to a worker that nobody uses. That of a peer is opened unless it is there.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when there is none.
    pub(crate) async fn take(
        &mut self,
        worker: usize,
        peer: Option<&str>,
    ) -> Result<Taken, ClientError> {
        let row = self.connections.get_mut(worker).ok_or(ClientError::NoWorker { worker })?;
        let peer = self.identities.as_ref().and_then(|identities| identities.place(peer));
        let free = |seat: &Option<Connection>| seat.as_ref().is_some_and(|free| free.peer == peer);
        let place = match (row.iter().position(free), peer) {
            (Some(place), _) => place,
            (None, None) => return Err(ClientError::AllInUse { worker }),
            (None, Some(peer)) => match self.let_in(worker, peer).await? {
                Ok(place) => place,
                Err(alert) => return Ok(Taken::Refused(alert)),
            },
        };
        let row = self.connections.get_mut(worker).and_then(|row| row.get_mut(place));
        let connection = row.and_then(Option::take).ok_or(ClientError::AllInUse { worker })?;
        self.in_use += usize::from(peer.is_some());
        Ok(Taken::Connected(Seat { worker, place }, connection))
    }

    /// Connects a peer to a worker, and gives the place of the connection. Each goes to a worker that has
    /// the fewest: those that go elsewhere are kept until it has come to the right one.
    async fn let_in(
        &mut self,
        worker: usize,
        peer: usize,
    ) -> Result<Result<usize, Alert>, ClientError> {
        let open = self.connections.iter().flatten().flatten().count() + self.in_use;
        let mut before = self.wait_for(|all| sum(all) == as_count(open)).await?;
        let mut astray = Vec::new();
        let connection = loop {
            if astray.len() > self.connections.len() {
                return Err(ClientError::Misdealt { open: before.into_values().collect() });
            }
            let identities = self.identities.as_ref().ok_or(ClientError::AllInUse { worker })?;
            let stream = open_tcp(self.listener).await?;
            let port = stream.local_addr().map_err(ClientError::Connect)?.port();
            let shaken = identities.connect(peer, stream, self.admin).await;
            let stream = match shaken.map_err(ClientError::Handshake)? {
                Ok(stream) => stream,
                Err(alert) => return Ok(Err(alert)),
            };
            let connection = speak(stream, port, Some(peer)).await?;
            let with_it = as_count(open + astray.len() + 1);
            let now = self.wait_for(|all| sum(all) == with_it).await?;
            if newest(&before, &now) == Some(worker) {
                break connection;
            }
            astray.push(connection);
            before = now;
        };
        for connection in astray {
            connection.close().await;
        }
        self.wait_for(|all| sum(all) == as_count(open + 1)).await?;
        let row = self.connections.get_mut(worker).ok_or(ClientError::NoWorker { worker })?;
        let place = row.iter().position(Option::is_none).unwrap_or(row.len());
        match row.get_mut(place) {
            Some(seat) => *seat = Some(connection),
            None => row.push(Some(connection)),
        }
        Ok(Ok(place))
    }

    /// Gives connections back. Those that were lost are opened again, once Envoy has noticed that they are
    /// gone.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when a lost connection cannot be had again.
    pub(crate) async fn give_back(
        &mut self,
        connections: Vec<(Seat, Option<Connection>)>,
    ) -> Result<(), ClientError> {
        for (Seat { worker, place }, connection) in connections {
            self.in_use = self.in_use.saturating_sub(1);
            let row = self.connections.get_mut(worker);
            if let Some(seat) = row.and_then(|row| row.get_mut(place)) {
                *seat = connection;
            }
        }
        match self.identities {
            // They are opened when they are needed.
            Some(_) => Ok(()),
            None => self.fill().await,
        }
    }

    /// Opens connections one after another, each of which goes to a worker that has the fewest, until none
    /// lacks.
    async fn fill(&mut self) -> Result<(), ClientError> {
        let seats = || self.connections.iter().flatten();
        let mut open = seats().flatten().count();
        if open == seats().count() {
            return Ok(());
        }
        let mut before = self.wait_for(|all| sum(all) == as_count(open)).await?;
        while open < self.connections.iter().flatten().count() {
            let stream = open_tcp(self.listener).await?;
            let port = stream.local_addr().map_err(ClientError::Connect)?.port();
            let connection = speak(stream, port, None).await?;
            open += 1;
            let now = self.wait_for(|all| sum(all) == as_count(open)).await?;
            let row = newest(&before, &now).and_then(|worker| self.connections.get_mut(worker));
            let seat = row.and_then(|row| row.iter_mut().find(|seat| seat.is_none()));
            match seat {
                Some(seat) => *seat = Some(connection),
                None => return Err(ClientError::Misdealt { open: now.into_values().collect() }),
            }
            before = now;
        }
        Ok(())
    }

    /// Waits until the workers have as many connections as is wanted, and gives how many.
    async fn wait_for(
        &self,
        mut wanted: impl FnMut(&BTreeMap<String, u64>) -> bool,
    ) -> Result<BTreeMap<String, u64>, ClientError> {
        let open = self.admin.statistics_until(CONNECTIONS, NOTICING, &mut wanted).await?;
        if wanted(&open) {
            Ok(open)
        } else {
            Err(ClientError::Misdealt { open: open.into_values().collect() })
        }
    }
}

impl Connection {
    /// Sends a request, and gives what comes of it, and the connection unless it is lost.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when Envoy does not speak HTTP/1.1.
    pub(crate) async fn exchange(
        mut self,
        outgoing: Outgoing,
        admin: Admin,
    ) -> Result<(Outcome, Option<Self>), ClientError> {
        let Outgoing { request, feed, disconnect } = outgoing;
        let meter = match feed {
            Some(feed) => Some((feed, Meter::begin(admin, READ).await?)),
            None => None,
        };
        let feeding = async {
            if let Some((feed, meter)) = meter {
                feed.run(meter).await?;
            }
            pending().await
        };
        let got = Mutex::new(None);
        let answer = async {
            tokio::select! {
                answer = answer(&mut self.sender, request, &got) => Ok(answer),
                failed = feeding => failed,
            }
        };
        let ended = timeout(disconnect.unwrap_or(PATIENCE), answer).await;
        let got = got.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (outcome, is_lost) = match (ended, disconnect) {
            (Err(_), None) => (Outcome::Unanswered, true),
            (Err(_), Some(_)) => (Outcome::Left(got), true),
            (Ok(Err(error)), _) => return Err(ClientError::Admin(error)),
            (Ok(Ok(Err(error))), _) if error.is_parse() => {
                return Err(ClientError::Protocol(error));
            }
            (Ok(Ok(Err(_))), _) => (Outcome::Reset, true),
            (Ok(Ok(Ok(closes))), _) => match got {
                Some(response) => (Outcome::Response(response), closes),
                None => (Outcome::Reset, true),
            },
        };
        if is_lost {
            self.close().await;
            return Ok((outcome, None));
        }
        Ok((outcome, Some(self)))
    }

    async fn close(self) {
        self.task.abort();
        // It says that it was aborted, or that it had ended before.
        let _ended = self.task.await;
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
    /// The worker carries more requests than it has connections.
    AllInUse { worker: usize },
    /// A peer is neither let in nor refused.
    Handshake(NoHandshake),
    /// Envoy does not tell.
    Admin(AdminError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "envoy takes no connection: {error}"),
            Self::Protocol(error) => write!(f, "envoy's answer is not HTTP/1.1: {error}"),
            Self::Misdealt { open } => {
                write!(
                    f,
                    "Envoy should deal connections to its workers in turn, but they have {open:?}"
                )
            }
            Self::AllInUse { worker } => {
                write!(f, "all connections to worker {worker} are in use")
            }
            Self::NoWorker { worker } => write!(f, "there is no worker {worker}"),
            Self::Handshake(error) => write!(f, "{error}"),
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

async fn open_tcp(listener: SocketAddr) -> Result<TcpStream, ClientError> {
    tls::open(listener).await.map_err(ClientError::Connect)
}

/// Speaks HTTP/1.1 on a connection.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    port: u16,
    peer: Option<usize>,
) -> Result<Connection, ClientError> {
    let (sender, connection) = http1::Builder::new()
        .max_headers(MOST_LINES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ClientError::Protocol)?;
    // It ends with an error when Envoy resets it; the request on it tells as well.
    let task = tokio::spawn(async { drop(connection.await) });
    Ok(Connection { sender, peer, port, task })
}

/// Notes the response as it comes; once it is whole, whether the connection closes with it.
async fn answer(
    connection: &mut SendRequest<Body>,
    request: Request<Body>,
    got: &Mutex<Option<Response>>,
) -> Result<bool, hyper::Error> {
    let note = |with: &mut dyn FnMut(&mut Response)| {
        got.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(with)
    };
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    let (head, mut body) = response.into_parts();
    let closes = head
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    *got.lock().unwrap_or_else(PoisonError::into_inner) = Some(Response {
        status: head.status.as_u16(),
        headers: message::lines(&head.headers),
        body: Vec::new(),
        trailers: Vec::new(),
    });
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        note(&mut |response| {
            if let Some(bytes) = frame.data_ref() {
                response.body.extend_from_slice(bytes);
            }
            if let Some(trailers) = frame.trailers_ref() {
                response.trailers = message::lines(trailers);
            }
        });
    }
    Ok(closes)
}

fn sum(open: &BTreeMap<String, u64>) -> u64 {
    open.values().sum()
}

/// The worker that has more connections than before.
fn newest(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Option<usize> {
    now.iter().position(|(name, count)| *count > before.get(name).copied().unwrap_or_default())
}

fn as_count(connections: usize) -> u64 {
    connections.try_into().unwrap_or(u64::MAX)
}
