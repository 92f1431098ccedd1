//! The host and who is told what: what comes from sockets goes in, what it does comes out to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use hyper::HeaderMap;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep_until};
use tollgate_host::offline::{
    CalloutId, ConnectionId, Event, Fed, Head, Incoming, Input, Loader, Outgoing, Output, Over,
    Part, Run, Sent, StreamId,
};
use tollgate_host::proxy::{Configured, HostFailure, Response, StartError};
use tollgate_host::recording::{Record, RecordedFilter};
use tollgate_host::scenario::{FilterUse, HeaderLine};
use tollgate_host::tls::Secured;

use crate::callout::{Callout, Services};
use crate::change::Change;
use crate::origin::Origin;
use crate::pipe::{Inlet, Outlet, nothing, pipe};
use crate::record::Recorder;
use crate::tls::Trust;
use crate::upstream::{self, Upstream};
use crate::{Access, Told, message};

/// How long to wait when nothing is due.
const FOREVER: Duration = Duration::from_hours(24);

/// Who is told what the proxy tells.
type Tell = Box<dyn FnMut(Told<'_>)>;

/// A response as the client gets it.
pub(crate) struct Answer {
    pub(crate) head: Response,
    pub(crate) body: Outlet,
}

/// The host with its surroundings.
pub(crate) struct Bridge {
    run: RefCell<Run>,
    began: Instant,
    streams: RefCell<BTreeMap<StreamId, Ends>>,
    callouts: RefCell<BTreeMap<CalloutId, Callout>>,
    ways: Ways,
    tell: RefCell<Tell>,
    recorder: RefCell<Option<Recorder>>,
    /// What is due next may have changed.
    changed: Notify,
    due: Cell<Option<Duration>>,
    failed: RefCell<Option<HostFailure>>,
    /// Whose turn it is of the workers.
    next_worker: Cell<usize>,
}

/// Where what leaves the proxy goes.
pub(crate) struct Ways {
    upstream: Upstream,
    services: Services,
    clusters: BTreeMap<String, Origin>,
}

impl Ways {
    pub(crate) fn new(upstream: Origin, clusters: BTreeMap<String, Origin>, trust: &Trust) -> Self {
        Self { upstream: Upstream::new(upstream, trust), services: Services::new(trust), clusters }
    }
}

/// The two ends of a stream.
struct Ends {
    began: Instant,
    access: Access,
    /// Whom to give the head of the response to.
    client: Option<oneshot::Sender<Answer>>,
    response: Option<Inlet>,
    request: Option<Inlet>,
    upstream: Option<AbortHandle>,
}

impl Bridge {
    pub(crate) fn new(run: Run, ways: Ways, recorder: Option<Recorder>, tell: Tell) -> Self {
        let mut run = run;
        run.answer_elsewhere();
        Self {
            run: RefCell::new(run),
            began: Instant::now(),
            streams: RefCell::default(),
            callouts: RefCell::default(),
            ways,
            tell: RefCell::new(tell),
            recorder: RefCell::new(recorder),
            changed: Notify::new(),
            due: Cell::new(None),
            failed: RefCell::default(),
            next_worker: Cell::new(0),
        }
    }

    pub(crate) fn tell(&self, told: Told<'_>) {
        (self.tell.borrow_mut())(told);
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.ways.upstream
    }

    pub(crate) fn services(&self) -> &Services {
        &self.ways.services
    }

    /// The worker of a new connection.
    pub(crate) fn next_worker(&self) -> usize {
        let worker = self.next_worker.get();
        self.next_worker.set((worker + 1) % self.run.borrow().workers().max(1));
        worker
    }

    /// A client has shaken hands; nothing when the host cannot go on.
    pub(crate) fn connect(self: &Rc<Self>, secured: Secured) -> Option<ConnectionId> {
        let (fed, record) = self.feed(Input::Connect(secured), &no_module)?;
        self.pump(record);
        match fed {
            Fed::Connected(connection) => Some(connection),
            Fed::Taken | Fed::Began(_) | Fed::Exchanged(_) => None,
        }
    }

    /// Its connection is gone.
    pub(crate) fn disconnect(self: &Rc<Self>, connection: ConnectionId) {
        self.act(Input::Disconnect(connection));
    }

    /// A request begins; its response comes to the receiver, unless the stream is broken off before.
    pub(crate) fn open(
        self: &Rc<Self>,
        worker: usize,
        connection: Option<ConnectionId>,
        head: Head,
        end: bool,
    ) -> Option<(StreamId, oneshot::Receiver<Answer>)> {
        let access = Access {
            method: head.method.clone(),
            path: head.path.clone(),
            status: None,
            went_upstream: false,
            micros: 0,
        };
        let began = Instant::now();
        let (fed, record) = self.feed(Input::Open { worker, connection, head, end }, &no_module)?;
        let Fed::Began(id) = fed else { return None };
        let (client, answer) = oneshot::channel();
        let ends = Ends {
            began,
            access,
            client: Some(client),
            response: None,
            request: None,
            upstream: None,
        };
        self.streams.borrow_mut().insert(id, ends);
        self.pump(record);
        Some((id, answer))
    }

    /// More of a request, and when there is room for what comes after it.
    pub(crate) async fn send_request(self: &Rc<Self>, id: StreamId, part: Part) {
        self.act(Input::Request(id, part));
        let inlet = self.streams.borrow().get(&id).and_then(|ends| ends.request.clone());
        if let Some(inlet) = inlet {
            inlet.room().await;
        }
    }

    /// The client has gone.
    pub(crate) fn leave(self: &Rc<Self>, id: StreamId) {
        if self.streams.borrow().contains_key(&id) {
            self.act(Input::Leave(id));
        }
    }

    pub(crate) fn begin_response(
        self: &Rc<Self>,
        stream: StreamId,
        status: u16,
        headers: Vec<HeaderLine>,
        end: bool,
    ) {
        self.act(Input::Answer { stream, status, headers, end });
    }

    /// More of a response, and when there is room for what comes after it.
    pub(crate) async fn send_response(self: &Rc<Self>, id: StreamId, part: Part) {
        self.act(Input::Response(id, part));
        let inlet = self.streams.borrow().get(&id).and_then(|ends| ends.response.clone());
        if let Some(inlet) = inlet {
            inlet.room().await;
        }
    }

    pub(crate) fn break_upstream(self: &Rc<Self>, id: StreamId) {
        self.act(Input::Break(id));
    }

    pub(crate) fn take_incoming(self: &Rc<Self>, id: CalloutId, incoming: Incoming) {
        self.act(Input::Callout(id, incoming));
        // The guest is told at once.
        self.act(Input::Time);
    }

    /// Has new streams find another filter, and tells what came of it.
    pub(crate) fn exchange(self: &Rc<Self>, change: Change) {
        let Change { place, filter, module } = change;
        let recorded = RecordedFilter::new(&filter, module.code());
        let loader = |_: &FilterUse| Ok(module.clone());
        let exchange = Input::Exchange { place, filter: recorded };
        let Some((fed, mut record)) = self.feed(exchange, &loader) else { return };
        if let Fed::Exchanged(configured) = &fed {
            self.tell(Told::Exchanged { place, configured });
        }
        if let (Fed::Exchanged(Configured::Refused { words }), Some(record)) = (fed, &mut record) {
            record.outputs.push(Output::Refused(words));
        }
        self.pump(record);
    }

    /// Lets the host's time follow the real one; gives why it cannot go on.
    pub(crate) async fn keep_time(self: Rc<Self>) -> HostFailure {
        loop {
            if let Some(failure) = self.failed.borrow_mut().take() {
                return failure;
            }
            let due = self.due.get().unwrap_or_else(|| self.began.elapsed() + FOREVER);
            tokio::select! {
                () = sleep_until(self.began + due) => self.act(Input::Time),
                () = self.changed.notified() => {}
            }
        }
    }

    fn act(self: &Rc<Self>, input: Input) {
        if let Some((_, record)) = self.feed(input, &no_module) {
            self.pump(record);
        }
    }

    /// Gives the host what comes now, and begins the record of it if there is a recording.
    fn feed(&self, input: Input, loader: &Loader<'_>) -> Option<(Fed, Option<Record>)> {
        let at = self.began.elapsed();
        let is_recorded = self.recorder.borrow().is_some();
        let record = is_recorded.then(|| Record::new(at, input.clone()));
        let fed = self.run.borrow_mut().feed(at, input, loader);
        match fed {
            Ok(fed) => Some((fed, record)),
            Err(failure) => {
                self.fail(failure);
                None
            }
        }
    }

    fn fail(&self, failure: HostFailure) {
        self.failed.borrow_mut().get_or_insert(failure);
        self.changed.notify_one();
    }

    /// Hands on what the host has done.
    fn pump(self: &Rc<Self>, mut record: Option<Record>) {
        loop {
            let output = self.run.borrow_mut().next_output();
            let Some(output) = output else { break };
            if let Some(record) = &mut record {
                record.outputs.push(output.clone());
            }
            match output {
                Output::Stream(id, event) => self.hand_on(id, event),
                Output::Callout(id, outgoing) => self.send_out(id, outgoing),
                Output::Refused(_) => {}
            }
        }
        if let Some(record) = record {
            self.record(record);
        }
        let (logs, traps, checked, due) = {
            let mut run = self.run.borrow_mut();
            (run.take_logs(), run.take_traps(), run.check(), run.next_due())
        };
        for line in &logs {
            self.tell(Told::Log(line));
        }
        for trap in &traps {
            self.tell(Told::Trapped(trap));
        }
        if let Err(failure) = checked {
            self.fail(failure);
        }
        if self.due.replace(due) != due {
            self.changed.notify_one();
        }
    }

    fn record(&self, record: Record) {
        let mut recorder = self.recorder.borrow_mut();
        let written = recorder.as_mut().map(|recorder| recorder.write(record, &self.run.borrow()));
        if let Some(Err(why)) = written {
            *recorder = None;
            self.tell(Told::RecordingEnds(&why));
        }
    }

    fn hand_on(self: &Rc<Self>, id: StreamId, event: Event) {
        let mut streams = self.streams.borrow_mut();
        let Some(ends) = streams.get_mut(&id) else { return };
        match event {
            Event::Request(Sent::Head { head, end }) => {
                let (inlet, body) = pipe();
                let body = if end { nothing() } else { body };
                ends.request = Some(inlet);
                ends.access.went_upstream = true;
                let bridge = Rc::clone(self);
                ends.upstream =
                    Some(spawn_local(upstream::carry(bridge, id, head, body)).abort_handle());
            }
            Event::Request(Sent::Part(part)) => put(&mut ends.request, part),
            Event::GivesUp => {
                ends.request = None;
                if let Some(upstream) = ends.upstream.take() {
                    upstream.abort();
                }
            }
            Event::Response(Sent::Head { head, end }) => {
                ends.access.status = Some(head.status);
                let (inlet, body) = pipe();
                let body = if end { nothing() } else { body };
                ends.response = Some(inlet);
                // A client that has gone takes nothing, and is told of as such.
                let _gone = ends.client.take().map(|client| client.send(Answer { head, body }));
            }
            Event::Response(Sent::Part(part)) => put(&mut ends.response, part),
            Event::Over(over) => {
                let Some(ends) = streams.remove(&id) else { return };
                drop(streams);
                self.over(ends, over);
            }
        }
    }

    fn over(&self, ends: Ends, over: Over) {
        let Ends { began, mut access, upstream, .. } = ends;
        if let Some(upstream) = upstream {
            upstream.abort();
        }
        access.micros = began.elapsed().as_micros();
        access.went_upstream &= over.has_arrived || access.status.is_some();
        self.tell(Told::Access(&access));
    }

    fn send_out(self: &Rc<Self>, id: CalloutId, outgoing: Outgoing) {
        let mut callouts = self.callouts.borrow_mut();
        match outgoing {
            Outgoing::Head { cluster, kind, headers } => {
                let origin = self.ways.clusters.get(&cluster).cloned();
                let callout = Callout::begin(self, id, origin, kind, &headers);
                callouts.insert(id, callout);
            }
            Outgoing::GivenUp => drop(callouts.remove(&id)),
            outgoing => {
                if let Some(callout) = callouts.get_mut(&id) {
                    callout.send(outgoing);
                }
            }
        }
    }
}

/// Filters that are exchanged bring their modules; nothing else loads one.
fn no_module(
    _: &FilterUse,
) -> Result<std::sync::Arc<dyn tollgate_host::engine::Module>, StartError> {
    Err(StartError::Module("no filter is exchanged".into()))
}

/// Puts a part of a message into its pipe.
fn put(inlet: &mut Option<Inlet>, part: Part) {
    let Some(pipe) = inlet.as_ref() else { return };
    match part {
        Part::Body(bytes) => pipe.data(bytes),
        Part::Last(bytes) => {
            pipe.data(bytes);
            pipe.end();
            *inlet = None;
        }
        Part::Trailers(lines) => {
            let lines: HeaderMap = message::headers(&lines);
            pipe.trailers(lines);
            *inlet = None;
        }
        Part::End => {
            pipe.end();
            *inlet = None;
        }
    }
}
