//! A cluster that guests call: a server that notes what it gets and answers what the step says.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tollgate_host::proxy::{Callout, Received};
use tollgate_host::scenario::{Meets, PlannedCallout, Protocol};

use crate::admin::{Admin, AdminError};
use crate::dialogue::{Heard, answer_grpc, ended, read};
use crate::message::{self, Body, Unsendable};
use crate::upstream::Broken;

/// The most header lines of a request.
const MOST_LINES: usize = 512;

/// How long half of an answer may take to Envoy before the connection breaks.
const HALF: Duration = Duration::from_millis(50);

/// How often is looked whether a connection was refused.
const INTERVAL: Duration = Duration::from_millis(1);

/// A cluster on the loopback interface.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What the next callouts meet.
    planned: Vec<(usize, PlannedCallout)>,
    /// The callouts since it was said what they meet, with their places in the plan.
    made: Vec<(usize, Arc<Mutex<Option<Received>>>)>,
    /// Those for which nothing was planned.
    waiting: VecDeque<Waiting>,
    /// Requests that have come since the start.
    requests: u64,
    /// Requests that are not answered for now, as planned.
    held: u64,
    /// Connections that were refused, as Envoy counts them.
    refused: u64,
}

#[derive(Debug)]
struct Waiting {
    received: Arc<Mutex<Option<Received>>>,
    meets: oneshot::Sender<Meets>,
    is_told: bool,
}

impl Shared {
    /// What a new request meets, if that is planned.
    fn meet(&mut self, received: &Arc<Mutex<Option<Received>>>) -> oneshot::Receiver<Meets> {
        let (sender, receiver) = oneshot::channel();
        self.requests += 1;
        if let Some((place, plan)) = self.take_plan(received) {
            self.made.push((place, Arc::clone(received)));
            let _gone = sender.send(plan.meets);
        } else {
            let received = Arc::clone(received);
            self.waiting.push_back(Waiting { received, meets: sender, is_told: false });
        }
        receiver
    }

    fn take_plan(&mut self, received: &Mutex<Option<Received>>) -> Option<(usize, PlannedCallout)> {
        let received = lock(received);
        let Received { method, path, .. } = received.as_ref()?;
        let left = self.planned.iter().map(|(_, plan)| plan);
        let met = PlannedCallout::met_by(left, method, path)?;
        Some(self.planned.remove(met))
    }

    fn refuses(&self) -> bool {
        self.planned.first().is_some_and(|(_, plan)| matches!(plan.meets, Meets::Refused))
    }

    fn has_refusals(&self) -> bool {
        self.planned.iter().any(|(_, plan)| matches!(plan.meets, Meets::Refused))
    }
}

impl Cluster {
    /// Listens on a free port.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn listen(name: &str, protocol: Protocol) -> io::Result<Self> {
        let socket = bound(0)?;
        let port = socket.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let _task = tokio::spawn(accept(socket, port, protocol, Arc::clone(&shared)));
        Ok(Self { name: name.to_owned(), protocol, port, shared })
    }

    /// A cluster without a server of its own: what comes to another is handed to it.
    pub(crate) fn behind(name: &str, port: u16) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        Self { name: name.to_owned(), protocol: Protocol::Http, port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Answers requests that came to another server.
    pub(crate) fn door(&self) -> Door {
        Door(Arc::clone(&self.shared))
    }

    /// Says what the next callouts meet, and forgets the last.
    ///
    /// # Errors
    ///
    /// [`Unsendable`] when HTTP cannot carry an answer.
    pub(crate) fn plan(
        &self,
        planned: &[PlannedCallout],
        refusals: Refusals,
    ) -> Result<Early, Unsendable> {
        let all = planned.iter().cloned().enumerate();
        let mine: Vec<_> = all.filter(|(_, callout)| callout.cluster == self.name).collect();
        for (_, callout) in &mine {
            match &callout.meets {
                Meets::Http(answer) | Meets::Reset(Some(answer)) => {
                    message::response(answer, self.protocol)?;
                }
                Meets::Grpc(answer) => {
                    message::headers(&answer.head())?;
                    message::headers(&answer.tail())?;
                }
                Meets::Reset(None) | Meets::Never | Meets::Refused => {}
            }
        }
        let mut shared = lock(&self.shared);
        shared.made.clear();
        shared.planned = mine;
        let mut early = Early::Nobody;
        // Who came early, while Envoy started say, meets what is planned now.
        while let Some(waiting) = shared.waiting.pop_front() {
            let plan = if shared.refuses() { None } else { shared.take_plan(&waiting.received) };
            let Some((place, plan)) = plan else {
                shared.waiting.push_front(waiting);
                break;
            };
            shared.made.push((place, waiting.received));
            let _gone = waiting.meets.send(plan.meets);
            early = Early::Somebody;
        }
        if shared.has_refusals() {
            shared.refused = refusals.before;
            let _task = tokio::spawn(refusals.count(Arc::clone(&self.shared)));
        }
        Ok(early)
    }

    /// The callouts since it was said what they meet.
    pub(crate) fn made(&self) -> Vec<Callout> {
        let mut shared = lock(&self.shared);
        let untold: Vec<_> = shared.waiting.iter_mut().filter(|waiting| !waiting.is_told).collect();
        let mut new = Vec::new();
        for waiting in untold {
            waiting.is_told = true;
            new.push(Arc::clone(&waiting.received));
        }
        let made = shared.made.iter().map(|(place, received)| (Some(*place), received));
        let callout = |(met, received): (Option<usize>, &Arc<Mutex<Option<Received>>>)| Callout {
            cluster: self.name.clone(),
            received: lock(received).clone(),
            met,
        };
        made.chain(new.iter().map(|received| (None, received))).map(callout).collect()
    }

    /// Requests that have come since the start.
    pub(crate) fn requests(&self) -> u64 {
        lock(&self.shared).requests
    }

    /// Requests that are not answered for now, as planned.
    pub(crate) fn held(&self) -> u64 {
        lock(&self.shared).held
    }

    /// Whether nobody listens.
    pub(crate) fn refuses(&self) -> bool {
        lock(&self.shared).refuses()
    }
}

/// Whether callouts had come before it was said what they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Early {
    Nobody,
    Somebody,
}

/// A way into a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Door(Arc<Mutex<Shared>>);

impl Door {
    /// Answers a request; the error breaks its connection.
    pub(crate) async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let (kill, mut killed) = watch::channel(false);
        tokio::select! {
            answer = serve(request, Arc::clone(&self.0), Protocol::Http, Arc::new(kill)) => answer,
            Ok(_) = killed.wait_for(|&killed| killed) => Err(Broken),
        }
    }
}

/// A port that is ours, on which nobody listens yet.
fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

/// Accepts connections, but while the next callout is to be refused.
async fn accept(socket: TcpSocket, port: u16, protocol: Protocol, shared: Arc<Mutex<Shared>>) {
    let mut closed = Some(socket);
    let mut open: Option<TcpListener> = None;
    loop {
        if lock(&shared).refuses() {
            if open.take().is_some() {
                closed = bound(port).ok();
            }
            sleep(INTERVAL).await;
            continue;
        }
        if open.is_none() {
            let socket = match closed.take() {
                Some(socket) => Ok(socket),
                None => bound(port),
            };
            open = socket.and_then(|socket| socket.listen(1024)).ok();
        }
        let Some(listener) = &open else {
            sleep(INTERVAL).await;
            continue;
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // That it cannot be set costs time only.
                    let _slower = stream.set_nodelay(true);
                    let _task = tokio::spawn(converse(stream, protocol, Arc::clone(&shared)));
                }
                // Out of descriptors, say; the connection may be had later.
                Err(_) => sleep(INTERVAL).await,
            },
            // Whether to listen at all is looked at again.
            () = sleep(INTERVAL) => {}
        }
    }
}

async fn converse(stream: TcpStream, protocol: Protocol, shared: Arc<Mutex<Shared>>) {
    let (kill, mut killed) = watch::channel(false);
    let kill = Arc::new(kill);
    let service =
        service_fn(move |request| serve(request, Arc::clone(&shared), protocol, Arc::clone(&kill)));
    let stream = TokioIo::new(stream);
    let connection = async {
        // How a connection ends is Envoy's to tell.
        match protocol {
            Protocol::Http => drop(
                http1::Builder::new()
                    .auto_date_header(false)
                    .max_headers(MOST_LINES)
                    .serve_connection(stream, service)
                    .await,
            ),
            Protocol::Http2 | Protocol::Grpc => drop(
                http2::Builder::new(TokioExecutor::new())
                    .auto_date_header(false)
                    .serve_connection(stream, service)
                    .await,
            ),
        }
    };
    tokio::select! {
        () = connection => {}
        _ = killed.wait_for(|&killed| killed) => {}
    }
}

async fn serve(
    request: Request<Incoming>,
    shared: Arc<Mutex<Shared>>,
    protocol: Protocol,
    kill: Arc<watch::Sender<bool>>,
) -> Result<Response<Body>, Broken> {
    let (head, body) = request.into_parts();
    let mut headers = message::lines(&head.headers);
    if let Some(authority) = head.uri.authority() {
        headers.insert(0, (b"host".to_vec(), authority.as_str().into()));
    }
    let received = Arc::new(Mutex::new(Some(Received {
        cluster: None,
        method: head.method.as_str().into(),
        path: head.uri.path_and_query().map_or("", |path| path.as_str()).into(),
        headers,
        body: Vec::new(),
        trailers: Vec::new(),
    })));
    let mut meets = lock(&shared).meet(&received);
    let (hear, mut heard) = watch::channel(Heard::default());
    let reading = tokio::spawn(read(body, Arc::clone(&received), hear));
    let meets = if let Ok(meets) = meets.try_recv() {
        meets
    } else {
        let _held = Held::new(&shared);
        meets.await.map_err(|_| Broken)?
    };
    match meets {
        Meets::Http(answer) => {
            ended(&mut heard).await;
            {
                let _held = Held::new(&shared);
                pause(answer.delay).await;
            }
            let (response, feed) = message::response(&answer, protocol).map_err(|_| Broken)?;
            if let Some(feed) = feed {
                let _task = tokio::spawn(feed.run_on());
            }
            Ok(response)
        }
        Meets::Reset(None) => {
            if protocol != Protocol::Grpc {
                ended(&mut heard).await;
            }
            let _gone = kill.send(true);
            // Whoever has the connection ends it; an answer of ours would be one more.
            std::future::pending().await
        }
        Meets::Reset(Some(answer)) => {
            ended(&mut heard).await;
            {
                let _held = Held::new(&shared);
                pause(answer.delay).await;
            }
            let (response, feed) = message::half_a_response(&answer).map_err(|_| Broken)?;
            let held = Held::new(&shared);
            let _task = tokio::spawn(async move {
                sleep(HALF).await;
                let _gone = kill.send(true);
                // The end of the body must not be sent before the connection is gone.
                sleep(HALF).await;
                drop((held, feed));
            });
            Ok(response)
        }
        Meets::Grpc(answer) => {
            {
                let _held = Held::new(&shared);
                pause(answer.delay).await;
            }
            answer_grpc(answer, heard, Held::new(&shared)).await
        }
        Meets::Never | Meets::Refused => {
            let _held = Held::new(&shared);
            // Until the connection ends, or the stream on it.
            let _unread = reading.await;
            std::future::pending().await
        }
    }
}

/// The connections that Envoy could not have, each of which is one callout.
#[derive(Debug)]
pub(crate) struct Refusals {
    statistic: String,
    admin: Admin,
    /// How many there were.
    before: u64,
}

impl Refusals {
    /// Begins to count those of a cluster.
    ///
    /// # Errors
    ///
    /// [`AdminError`] when Envoy does not tell.
    pub(crate) async fn begin(cluster: &Cluster, admin: Admin) -> Result<Self, AdminError> {
        let statistic = format!("cluster.{}.upstream_rq_pending_failure_eject", cluster.name);
        let before = admin.statistic(&statistic).await?;
        Ok(Self { statistic, admin, before })
    }

    /// Counts while refusals are planned.
    async fn count(self, shared: Arc<Mutex<Shared>>) {
        while lock(&shared).has_refusals() {
            let Ok(count) = self.admin.statistic(&self.statistic).await else { return };
            note_refused(&mut lock(&shared), count);
            sleep(INTERVAL).await;
        }
    }
}

fn note_refused(shared: &mut Shared, count: u64) {
    while shared.refused < count && shared.refuses() {
        shared.refused += 1;
        let (place, _) = shared.planned.remove(0);
        shared.made.push((place, Arc::default()));
    }
}

/// A request that is held while this lives.
pub(crate) struct Held(Arc<Mutex<Shared>>);

impl Held {
    fn new(shared: &Arc<Mutex<Shared>>) -> Self {
        lock(shared).held += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.held = shared.held.saturating_sub(1);
    }
}

async fn pause(delay: Duration) {
    // Even a sleep of nothing takes a millisecond.
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
