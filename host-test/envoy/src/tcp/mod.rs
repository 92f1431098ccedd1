//! Connections of TCP through Envoy: the client's end and the upstream's are sockets of ours.
//!
//! Whether Envoy is done with an event, Envoy itself tells: each worker has connections that it sends back
//! what it gets on, and what comes back after something else has been done by then.

mod peer;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{self, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tollgate_host::proxy::Moment;
use tollgate_host::scenario::Act;
use tollgate_host::tls::Alert;

use crate::admin::{Admin, AdminError};
use crate::tls::{self, Identities, NoHandshake};
use peer::Peer;

/// Where the connections come from that Envoy sends back what it gets on.
pub(crate) const ECHOED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// How often a worker goes round from an event to the last thing that follows from it: it reads, asks the
/// filters, writes, connects, and learns what came of that, one round each.
const ROUNDS: usize = 8;

/// How often nothing new must have come, one after the other, and how far apart: what a worker has sent may
/// take its time in a system that is busy.
const QUIET_LOOKS: u32 = 3;
const INTERVAL_OF_LOOKS: Duration = Duration::from_millis(2);

/// How long Envoy may take to notice that a connection is open or closed, or to send a byte back.
const NOTICING: Duration = Duration::from_secs(5);

/// Connections that each worker has, and has had.
const ACTIVE: &str = r"^listener\.127\..*\.worker_\d+\.downstream_cx_active$";
const TOTAL: &str = r"^listener\.127\..*\.worker_\d+\.downstream_cx_total$";

/// Listens where Envoy connects to.
pub(crate) fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The way to each worker. The next connection goes to a worker that has the fewest: each has one that
/// keeps its place, but the one that shall get a client.
#[derive(Debug)]
pub(crate) struct Workers {
    listener: SocketAddr,
    admin: Admin,
    /// Who connects, when it is with TLS.
    identities: Option<Identities>,
    places: Vec<TcpStream>,
}

impl Workers {
    /// Takes the place of each worker.
    ///
    /// # Errors
    ///
    /// [`NotConnected`] when that fails or a worker goes without.
    pub(crate) async fn connect(
        listener: SocketAddr,
        admin: Admin,
        identities: Option<Identities>,
        workers: usize,
    ) -> Result<Self, NotConnected> {
        let mut places = Vec::with_capacity(workers);
        for _ in 0..workers {
            places.push(echoed(listener).await?);
        }
        let all = Self { listener, admin, identities, places };
        all.wait_until_each_has_one().await?;
        Ok(all)
    }

    /// Has a client connect to a worker, and waits until that worker has done all about it.
    ///
    /// # Errors
    ///
    /// [`NotConnected`] when that fails.
    pub(crate) async fn open(
        &mut self,
        worker: usize,
        peer: Option<&str>,
        upstream: &TcpListener,
    ) -> Result<Line, NotConnected> {
        if worker >= self.places.len() {
            return Err(NotConnected::NoWorker { worker });
        }
        let others = self.places.len() - 1;
        drop(self.places.remove(worker));
        self.wait(ACTIVE, others).await?;
        let before = self.count(TOTAL).await?;
        let identity = self.identities.as_ref().and_then(|all| all.client(all.place(peer)?));
        let client = net::TcpStream::connect(self.listener);
        let client = client.and_then(|stream| Peer::new(stream, identity));
        let mut client = client.map_err(NotConnected::Connect)?;
        // The first thing that a client with TLS says.
        client.take_in();
        self.wait(TOTAL, before + 1).await?;
        let mut echoes = Vec::with_capacity(others + 1);
        for _ in 0..=others {
            echoes.push(echoed(self.listener).await?);
        }
        let mut line = Line { worker, client, upstream: None, echoes };
        line.settle(upstream).await?;
        Ok(line)
    }

    /// Sees that Envoy has let a connection go, and takes the place of its worker again.
    ///
    /// # Errors
    ///
    /// [`NotConnected::Stays`] when it has not.
    pub(crate) async fn close(&mut self, line: Line) -> Result<(), NotConnected> {
        let Line { worker, client, upstream, echoes } = line;
        drop((client, upstream, echoes));
        match self.wait(ACTIVE, self.places.len()).await {
            Err(NotConnected::Misdealt { .. }) => return Err(NotConnected::Stays),
            other => other?,
        }
        self.places.insert(worker, echoed(self.listener).await?);
        self.wait_until_each_has_one().await
    }

    async fn wait_until_each_has_one(&self) -> Result<(), NotConnected> {
        let workers = self.places.len();
        let each = |open: &BTreeMap<String, u64>| {
            open.len() == workers && open.values().all(|&open| open == 1)
        };
        self.wait_for(ACTIVE, each).await
    }

    async fn wait(&self, pattern: &str, connections: usize) -> Result<(), NotConnected> {
        let connections = u64::try_from(connections).unwrap_or(u64::MAX);
        self.wait_for(pattern, |all| all.values().sum::<u64>() == connections).await
    }

    async fn wait_for(
        &self,
        pattern: &str,
        mut wanted: impl FnMut(&BTreeMap<String, u64>) -> bool,
    ) -> Result<(), NotConnected> {
        let all = self.admin.statistics_until(pattern, NOTICING, &mut wanted).await?;
        if wanted(&all) {
            Ok(())
        } else {
            Err(NotConnected::Misdealt { connections: all.into_values().collect() })
        }
    }

    async fn count(&self, pattern: &str) -> Result<usize, NotConnected> {
        let all = self.admin.statistics(pattern).await?;
        Ok(usize::try_from(all.into_values().sum::<u64>()).unwrap_or(usize::MAX))
    }
}

/// One connection through Envoy.
#[derive(Debug)]
pub(crate) struct Line {
    worker: usize,
    client: Peer,
    /// There once Envoy has connected to it.
    upstream: Option<Peer>,
    /// At least one per worker.
    echoes: Vec<TcpStream>,
}

impl Line {
    /// The client does something, within the runtime.
    pub(crate) fn client(&mut self, act: &Act) -> Result<(), NotConnected> {
        self.client.act(act).map_err(NotConnected::Act)
    }

    /// The upstream does something, within the runtime; whether there is a connection on which it can.
    pub(crate) fn upstream(&mut self, act: &Act) -> Result<bool, NotConnected> {
        let Some(upstream) = &mut self.upstream else { return Ok(false) };
        upstream.act(act).map_err(NotConnected::Act)?;
        Ok(true)
    }

    /// Breaks what is left of the connection.
    pub(crate) async fn finish(&mut self, upstream: &TcpListener) -> Result<(), NotConnected> {
        if !self.client.has_ended() {
            self.client.act(&Act::Reset).map_err(NotConnected::Act)?;
            self.settle(upstream).await?;
        }
        if let Some(peer) = self.upstream.as_mut().filter(|peer| !peer.has_ended()) {
            peer.act(&Act::Reset).map_err(NotConnected::Act)?;
            self.settle(upstream).await?;
        }
        Ok(())
    }

    /// Waits until every worker has done what there is to do, and takes in what has come.
    pub(crate) async fn settle(&mut self, upstream: &TcpListener) -> Result<(), NotConnected> {
        let mut looks = 0;
        while looks < QUIET_LOOKS {
            for _ in 0..ROUNDS {
                for echo in &mut self.echoes {
                    round(echo, *b".").await?;
                }
            }
            sleep(INTERVAL_OF_LOOKS).await;
            let before = (self.moment(), self.client.read_of_tls());
            self.take_in(upstream)?;
            let now = (self.moment(), self.client.read_of_tls());
            looks = if now == before { looks + 1 } else { 0 };
        }
        Ok(())
    }

    /// Takes in what has come to both ends.
    fn take_in(&mut self, upstream: &TcpListener) -> Result<(), NotConnected> {
        if self.upstream.is_none() {
            self.upstream = match upstream.accept().and_then(|(stream, _)| Peer::new(stream, None))
            {
                Ok(peer) => Some(peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(error) => return Err(NotConnected::Accept(error)),
            };
        }
        self.client.take_in();
        if let Some(upstream) = &mut self.upstream {
            upstream.take_in();
        }
        Ok(())
    }

    /// The alert with which Envoy has refused the client's handshake, if it has.
    pub(crate) fn refused(&self) -> Result<Option<Alert>, NotConnected> {
        let broken = self.client.broken_tls().map(|error| tls::refusal(io::Error::other(error)));
        broken.transpose().map_err(NotConnected::Handshake)
    }

    /// How the connection stands.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            client: self.client.side.clone(),
            upstream: self.upstream.as_ref().map(|upstream| upstream.side.clone()),
        }
    }
}

/// Connects to Envoy where it sends back what it gets.
async fn echoed(listener: SocketAddr) -> Result<TcpStream, NotConnected> {
    let socket = TcpSocket::new_v4().map_err(NotConnected::Connect)?;
    socket.bind((ECHOED, 0).into()).map_err(NotConnected::Connect)?;
    let mut stream = socket.connect(listener).await.map_err(NotConnected::Connect)?;
    stream.set_nodelay(true).map_err(NotConnected::Connect)?;
    // A listener that looks for TLS takes a connection once the head of a record could have come.
    round(&mut stream, [b'.'; 5]).await?;
    Ok(stream)
}

/// Some bytes to a worker and back.
async fn round<const N: usize>(echo: &mut TcpStream, bytes: [u8; N]) -> Result<(), NotConnected> {
    let there_and_back = async {
        echo.write_all(&bytes).await?;
        echo.read_exact(&mut [0; N]).await
    };
    match timeout(NOTICING, there_and_back).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(NotConnected::Echo(error)),
        Err(_) => Err(NotConnected::Echo(io::ErrorKind::TimedOut.into())),
    }
}

/// A connection through Envoy cannot be had, or not be ended.
#[derive(Debug)]
pub(crate) enum NotConnected {
    /// Envoy does not take a connection.
    Connect(io::Error),
    /// The upstream cannot take one.
    Accept(io::Error),
    /// An end cannot do what it should.
    Act(io::Error),
    /// A worker does not send back what it gets.
    Echo(io::Error),
    /// The connections are not spread as they should be.
    Misdealt {
        /// Connections of each worker.
        connections: Vec<u64>,
    },
    /// There is no such worker.
    NoWorker { worker: usize },
    /// Envoy keeps a connection of which both ends are gone.
    Stays,
    /// A peer is neither let in nor refused.
    Handshake(NoHandshake),
    /// Envoy does not tell.
    Admin(AdminError),
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "envoy takes no connection: {error}"),
            Self::Accept(error) => write!(f, "the upstream takes no connection: {error}"),
            Self::Act(error) => write!(f, "an end of a connection: {error}"),
            Self::Echo(error) => write!(f, "a worker of Envoy does not send a byte back: {error}"),
            Self::Misdealt { connections } => {
                write!(
                    f,
                    "the workers of Envoy have {connections:?} connections, not as it was meant"
                )
            }
            Self::NoWorker { worker } => write!(f, "there is no worker {worker}"),
            Self::Stays => write!(f, "Envoy keeps a connection of which both ends are gone"),
            Self::Handshake(error) => write!(f, "{error}"),
            Self::Admin(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NotConnected {}

impl From<AdminError> for NotConnected {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}
