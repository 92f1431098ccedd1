//! A connection of TCP on its way: through the chain to the upstream, and what comes back.
//!
//! The proxy takes a connection and asks the filters, connects to the upstream when all let it, and then
//! carries bytes both ways. A filter has a context from when it is asked about the connection to when the
//! client's side is closed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tollgate_abi::{Callback, PeerType};

use super::Run;
use crate::proxy::{Conversation, End, HostFailure, Moment, STAYS_OPEN, Side};
use crate::scenario::{Act, ConnectionStep, Event};
use crate::tls::{Alert, Handshake};
use crate::world::{Asked, Connection, Context, Flow, Notes, Stage, Stream, StreamId};

impl Run {
    /// Sees one connection to its end.
    pub(super) fn converse(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<Conversation, HostFailure> {
        self.requests += 1;
        let number = self.requests;
        self.world.note(|| format!("connection {number} to worker {worker}"));
        self.arm(&step.faults);
        self.begin_step(&step.callouts);
        // What came back to callouts that were made before.
        self.pass_until(self.world.clock.passed())?;
        let before = self.cost();
        let (moments, refused) = self.carry_connection(worker, step)?;
        self.world.faults.clear();
        self.pass_until(self.world.clock.passed())?;
        self.refuse_what_was_called()?;
        let cost = self.cost().since(before);
        Ok(Conversation { moments, refused, callouts: self.made_callouts(), cost: Some(cost) })
    }

    fn carry_connection(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<(Vec<Moment>, Option<Alert>), HostFailure> {
        if worker >= self.chains.len() {
            return Err(HostFailure::Impossible { what: format!("there is no worker {worker}") });
        }
        let id = StreamId(self.requests);
        let mut stream = self.new_connection(id, worker);
        let filters = stream.stages.len();
        let name = step.peer.as_deref();
        stream.notes.tls = self.greet(name).map(Arc::new);
        self.world.streams.insert(id, Box::new(stream));
        let mut wire = Wire {
            run: self,
            id,
            name,
            refused: None,
            filters,
            begun: 0,
            is_open: true,
            client: Peer::default(),
            upstream: None,
        };
        let moments = wire.play(&step.events);
        let refused = wire.refused;
        self.world.take_stream(id);
        Ok((moments?, refused))
    }

    /// Has every filter of the chain give a new connection a context; the guest is told of it later.
    fn new_connection(&mut self, id: StreamId, worker: usize) -> Stream {
        let notes = Notes {
            connection: id.0,
            came: self.world.clock.wall(),
            began: self.world.clock.passed(),
            is_unroutable: true,
            ..Notes::default()
        };
        let connection = Some(Connection::default());
        let mut stream = Stream { notes, connection, ..Stream::default() };
        for place in 0..self.filters.len() {
            let Some(link) = self.find_guest(worker, place) else { continue };
            let at = stream.stages.len();
            let vm = self.world.vm_mut(link.vm).filter(|vm| !vm.failed);
            let context = Context::Stream { stream: id, at, root: link.root };
            let context = vm.map(|vm| vm.add_context(context));
            stream.stages.push(Stage { link: Some(link), context, ..Stage::default() });
        }
        stream
    }
}

/// One connection in the run that carries it.
struct Wire<'a> {
    run: &'a mut Run,
    id: StreamId,
    /// The peer that has connected, when there are several.
    name: Option<&'a str>,
    /// The alert with which the proxy has refused it, if it has.
    refused: Option<Alert>,
    /// How many filters the chain has.
    filters: usize,
    /// How many filters have been asked about the connection.
    begun: usize,
    /// The proxy has not closed the client's side, nor learnt that it is closed.
    is_open: bool,
    client: Peer,
    /// There once the proxy has connected to it.
    upstream: Option<Peer>,
}

/// One end of the connection.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
struct Peer {
    /// What it has got.
    side: Side,
    /// What it has sent and the proxy has not read.
    unread: Vec<u8>,
    /// It sends no more.
    has_ended: bool,
    /// It listens no more either.
    is_gone: bool,
    /// It is gone, and has got bytes even so.
    has_refused: bool,
    /// The proxy sends it no more.
    is_told_end: bool,
    /// The proxy has closed its side of the connection to it, or learnt that it broke.
    is_let_go: bool,
}

/// Which end of the connection does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Client,
    Upstream,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        })
    }
}

impl Wire<'_> {
    fn play(&mut self, events: &[Event]) -> Result<Vec<Moment>, HostFailure> {
        self.pass_on(0);
        self.settle(Duration::ZERO)?;
        let mut moments = vec![self.moment()];
        for (index, event) in events.iter().enumerate() {
            match event {
                Event::Client(act) => self.act(Who::Client, act),
                Event::Upstream(act) if self.upstream.is_some() => self.act(Who::Upstream, act),
                Event::Upstream(_) => return Err(no_upstream(index)),
                Event::Advance(_) | Event::Expect(_) => {}
            }
            let passes = match event {
                Event::Advance(by) => *by,
                Event::Client(_) | Event::Upstream(_) | Event::Expect(_) => Duration::ZERO,
            };
            self.settle(passes)?;
            moments.push(self.moment());
        }
        self.note_held();
        // What is left of it breaks.
        for who in [Who::Client, Who::Upstream] {
            if self.is_open && self.peer(who).is_some_and(|peer| !peer.has_ended) {
                self.act(who, &Act::Reset);
                self.settle(Duration::ZERO)?;
            }
        }
        moments.push(self.moment());
        if self.is_open {
            return Err(HostFailure::Harm { what: STAYS_OPEN.into() });
        }
        Ok(moments)
    }

    /// Notes which filter holds what an end has sent, though it sends no more and nothing is to come that could
    /// let it go.
    fn note_held(&mut self) {
        if !self.is_open || self.run.next_due().is_some() {
            return;
        }
        let pairs = [
            (Who::Client, Who::Upstream, "client", "downstream"),
            (Who::Upstream, Who::Client, "upstream", "upstream"),
        ];
        for (from, to, end, side) in pairs {
            let is_told = self.peer(to).is_none_or(|peer| peer.is_told_end);
            let holder = self.flow(from).filter(|flow| flow.end && !is_told);
            let holder = holder.and_then(|flow| flow.seen_by.last().copied());
            let Some(stage) = holder.and_then(|at| self.stage(at)) else { continue };
            let Some((link, context)) = stage.link.zip(stage.context) else { continue };
            let guest = self.run.world.guest_name(link.vm, context);
            self.run.world.note_endless(format!(
                "{guest} holds what the {end} has sent since proxy_on_{side}_data, and neither lets it go \
                 nor closes the connection"
            ));
        }
    }

    fn act(&mut self, who: Who, act: &Act) {
        self.run.world.note(|| format!("  {who} {act}"));
        let is_deaf = who == Who::Client && self.waits_for_handshake();
        let Some(peer) = self.peer_mut(who) else { return };
        match act {
            Act::Send(bytes) => peer.unread.extend_from_slice(bytes),
            Act::End => peer.has_ended = true,
            Act::Close => {
                peer.has_ended = true;
                peer.leave();
            }
            Act::Reset => {
                let is_noticed = !peer.has_ended && !is_deaf;
                peer.leave();
                // As on Envoy: one that has ended before is not heard any more, and with TLS nothing is
                // before the handshake.
                if is_noticed {
                    self.broken(who);
                }
                return;
            }
        }
        self.read(who);
    }

    /// The proxy reads what an end has sent.
    fn read(&mut self, who: Who) {
        // Nothing is read of the client before there is an upstream to send it to.
        let reads = self.is_open && self.upstream.is_some();
        let Some(peer) = self.peer_mut(who).filter(|peer| reads && !peer.is_let_go) else { return };
        let (bytes, ends) = (std::mem::take(&mut peer.unread), peer.has_ended);
        let Some(flow) = self.flow(who) else { return };
        let ends_now = ends && !flow.end;
        if bytes.is_empty() && !ends_now {
            return;
        }
        flow.bytes.extend_from_slice(&bytes);
        flow.end = ends;
        // As on Envoy: what is held counts again with what comes behind it.
        let counted = flow.bytes.len();
        match who {
            Who::Client => {
                self.note(|notes| notes.received = notes.received.saturating_add(counted));
                self.pass_on(0);
            }
            Who::Upstream => self.pass_back(),
        }
        self.close_ended(who);
    }

    /// A connection of which both directions have ended is closed.
    fn close_ended(&mut self, last: Who) {
        let is_over = |proxy: &mut Self, who| {
            let has_read = proxy.flow(who).is_some_and(|flow| flow.end);
            has_read && proxy.peer(who).is_some_and(|peer| peer.is_told_end)
        };
        if self.is_open && is_over(self, Who::Client) {
            self.close(match last {
                Who::Client => PeerType::Remote,
                Who::Upstream => PeerType::Local,
            });
        }
        if self.is_open && is_over(self, Who::Upstream) {
            self.let_upstream_go();
            self.close(PeerType::Local);
        }
    }

    /// Has the filters from a place on decide about what has come from the client, and what all of them
    /// let go gets to the upstream.
    fn pass_on(&mut self, from: usize) {
        for at in from..self.filters {
            if !self.is_open {
                return;
            }
            if at >= self.begun {
                self.begun = at + 1;
                // As on Envoy: one that closes while it is told of its context is asked even so.
                self.create(at);
                if !self.lets(at, |context| Callback::NewConnection { context }) {
                    return;
                }
            }
            let Some(flow) = self.flow(Who::Client) else { return };
            if flow.bytes.is_empty() && !flow.end {
                continue;
            }
            flow.seen_by.insert(at);
            let (size, end_of_stream) = (flow.bytes.len(), flow.end);
            let data = |context| Callback::DownstreamData { context, size, end_of_stream };
            if !self.lets(at, data) {
                return;
            }
            self.hide(Who::Client, at);
        }
        if self.is_open {
            self.reach_upstream();
        }
    }

    /// Has the filters decide about what has come from the upstream, the last one first.
    fn pass_back(&mut self) {
        for at in (0..self.filters).rev() {
            let is_known = self.stage(at).is_some_and(|stage| stage.created);
            if !self.is_open || !is_known {
                continue;
            }
            let Some(flow) = self.flow(Who::Upstream) else { return };
            flow.seen_by.insert(at);
            let (size, end_of_stream) = (flow.bytes.len(), flow.end);
            let data = |context| Callback::UpstreamData { context, size, end_of_stream };
            let lets = self.lets(at, data);
            if lets {
                self.hide(Who::Upstream, at);
            }
            if end_of_stream {
                // As on Envoy: it does not say who has closed it, and comes after all else if the filter has
                // closed the client's side.
                let peer = PeerType::NotKnown.into();
                self.call(at, |context| Callback::UpstreamConnectionClose { context, peer });
            }
            if !lets {
                return;
            }
        }
        if self.is_open {
            self.reach_client();
        }
    }

    fn reach_upstream(&mut self) {
        let now = self.run.world.clock.passed();
        let Some(stream) = self.run.world.streams.get_mut(&self.id) else { return };
        let Some(connection) = &mut stream.connection else { return };
        let Some(upstream) = &mut self.upstream else {
            stream.notes.is_routed = true;
            stream.notes.is_unroutable = false;
            stream.notes.connected = Some(now);
            self.upstream = Some(Peer::default());
            self.shake_hands();
            return self.read(Who::Client);
        };
        if upstream.take(&mut connection.from_client) {
            self.broken(Who::Upstream);
        } else {
            self.close_ended(Who::Client);
        }
    }

    fn waits_for_handshake(&self) -> bool {
        let stream = self.run.world.streams.get(&self.id);
        self.upstream.is_none() && stream.is_some_and(|stream| stream.notes.tls.is_some())
    }

    /// As on Envoy: filters are asked about a connection before its handshake, for which the proxy reads
    /// nothing before it has an upstream.
    fn shake_hands(&mut self) {
        let Some(stream) = self.run.world.streams.get(&self.id) else { return };
        let before = stream.notes.tls.as_deref().cloned();
        let shaken = before.and_then(|before| self.run.shake(self.name, before));
        let Some(Handshake { secured, refused }) = shaken else { return };
        self.note(|notes| notes.tls = Some(Arc::new(secured)));
        self.refused = refused;
        if refused.is_some() {
            self.client.unread.clear();
            self.close(PeerType::Remote);
        }
    }

    fn reach_client(&mut self) {
        let Some(stream) = self.run.world.streams.get_mut(&self.id) else { return };
        let Some(connection) = &mut stream.connection else { return };
        let sent = connection.from_upstream.bytes.len();
        stream.notes.sent = stream.notes.sent.saturating_add(sent);
        if self.client.take(&mut connection.from_upstream) {
            self.broken(Who::Client);
        }
    }

    /// The proxy learns that a connection broke, and breaks the other one too.
    fn broken(&mut self, who: Who) {
        match who {
            Who::Client if self.is_open => {
                self.client.is_let_go = true;
                if let Some(upstream) = &mut self.upstream {
                    upstream.let_go_by(End::Reset);
                }
                self.close(PeerType::Remote);
            }
            Who::Upstream if self.is_open => {
                self.client.let_go_by(End::Reset);
                self.let_upstream_go();
                self.close(PeerType::Local);
            }
            Who::Client | Who::Upstream => {}
        }
    }

    /// The client's side is closed: the filters learn it, one after the other, and the upstream's side is
    /// closed too.
    fn close(&mut self, by: PeerType) {
        self.is_open = false;
        self.client.let_go();
        for at in 0..self.filters {
            if self.stage(at).is_some_and(|stage| stage.created) {
                let peer = by.into();
                self.call(at, |context| Callback::DownstreamConnectionClose { context, peer });
                self.call(at, |context| Callback::Done { context });
                self.call(at, |context| Callback::Log { context });
                self.call(at, |context| Callback::Delete { context });
            }
        }
        self.let_upstream_go();
    }

    fn let_upstream_go(&mut self) {
        if let Some(upstream) = &mut self.upstream {
            upstream.let_go();
        }
    }

    /// Whether a filter lets what it is asked about go on. One that cannot be asked has the connection
    /// closed.
    fn lets(&mut self, at: usize, callback: impl FnOnce(u32) -> Callback) -> bool {
        let answer = self.call(at, callback);
        if answer.is_none() && self.is_open {
            self.close(PeerType::Local);
        }
        answer == Some(0) && self.is_open
    }

    /// Runs a callback of the connection's context, and does what guests have asked for by then; `None`
    /// when the guest traps, or has before.
    fn call(&mut self, at: usize, callback: impl FnOnce(u32) -> Callback) -> Option<u32> {
        let stage = self.stage(at)?;
        let (link, context) = (stage.link?, stage.context?);
        let returned = self.run.try_call(link.vm, callback(context));
        self.do_what_is_asked();
        let has_failed = self.run.world.vm(link.vm).is_none_or(|vm| vm.failed);
        returned.ok().filter(|_| !has_failed).map(Option::unwrap_or_default)
    }

    fn do_what_is_asked(&mut self) {
        while let Some(asked) = self.connection().and_then(|all| all.asked.pop_front()) {
            match asked {
                Asked::GoOn { behind } if self.is_open => self.pass_on(behind + 1),
                Asked::Close if self.is_open => self.close(PeerType::Local),
                Asked::GoOn { .. } | Asked::Close => {}
            }
        }
    }

    /// Tells the guest of the connection's context at a filter.
    fn create(&mut self, at: usize) {
        let Some(link) = self.stage(at).and_then(|stage| stage.link) else { return };
        let parent = link.root;
        self.call(at, |context| Callback::ContextCreate { context, parent });
        if let Some(stage) = self.stage(at) {
            stage.created = true;
        }
    }

    /// Takes the contexts of a connection away that is closed.
    fn forget(&mut self) {
        for at in 0..self.filters {
            let gone = self.stage(at).and_then(|stage| Some((stage.link?, stage.context.take()?)));
            if let Some((link, context)) = gone
                && let Some(vm) = self.run.world.vm_mut(link.vm)
            {
                vm.contexts.remove(&context);
            }
        }
    }

    /// Lets happen what is due, with so much time that passes, and what guests ask for then.
    fn settle(&mut self, passes: Duration) -> Result<(), HostFailure> {
        let until = self.run.world.clock.passed().saturating_add(passes);
        self.run.deliver_queues()?;
        self.do_what_is_asked();
        if !self.is_open {
            self.forget();
        }
        let mut ticks = 0;
        while self.run.happen(until)? {
            self.do_what_is_asked();
            ticks += 1;
            self.run.refuse_ticks(ticks)?;
        }
        self.run.pass_until(until)
    }

    fn moment(&self) -> Moment {
        Moment {
            client: self.client.side.clone(),
            upstream: self.upstream.as_ref().map(|upstream| upstream.side.clone()),
        }
    }

    fn peer(&self, who: Who) -> Option<&Peer> {
        match who {
            Who::Client => Some(&self.client),
            Who::Upstream => self.upstream.as_ref(),
        }
    }

    fn peer_mut(&mut self, who: Who) -> Option<&mut Peer> {
        match who {
            Who::Client => Some(&mut self.client),
            Who::Upstream => self.upstream.as_mut(),
        }
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        self.run.world.streams.get_mut(&self.id)?.connection.as_mut()
    }

    /// What comes from an end and no filter has let go.
    fn flow(&mut self, who: Who) -> Option<&mut Flow> {
        let connection = self.connection()?;
        Some(match who {
            Who::Client => &mut connection.from_client,
            Who::Upstream => &mut connection.from_upstream,
        })
    }

    fn note(&mut self, change: impl FnOnce(&mut Notes)) {
        if let Some(stream) = self.run.world.streams.get_mut(&self.id) {
            change(&mut stream.notes);
        }
    }

    fn hide(&mut self, who: Who, at: usize) {
        if let Some(flow) = self.flow(who) {
            flow.seen_by.remove(&at);
        }
    }

    fn stage(&mut self, at: usize) -> Option<&mut Stage> {
        self.run.world.streams.get_mut(&self.id)?.stages.get_mut(at)
    }
}

impl Peer {
    /// Takes what the filters have let go; whether the connection breaks by it.
    ///
    /// As on Envoy: of one that is gone, the proxy has read the end and does not hear that it refuses the
    /// first bytes; it notices when it cannot send any more.
    fn take(&mut self, flow: &mut Flow) -> bool {
        let bytes = std::mem::take(&mut flow.bytes);
        self.is_told_end |= flow.end;
        if self.is_gone {
            return !bytes.is_empty() && std::mem::replace(&mut self.has_refused, true);
        }
        self.side.got.extend_from_slice(&bytes);
        if flow.end && self.side.end == End::Open {
            self.side.end = End::Closed;
        }
        false
    }

    /// It closes the connection.
    fn leave(&mut self) {
        self.is_gone = true;
        if self.side.end == End::Open {
            self.side.end = End::Closed;
        }
    }

    /// The proxy closes the connection to it. One that sent what was never read sees that it breaks.
    fn let_go(&mut self) {
        self.let_go_by(if self.unread.is_empty() { End::Closed } else { End::Reset });
    }

    fn let_go_by(&mut self, end: End) {
        if !std::mem::replace(&mut self.is_let_go, true) && self.side.end == End::Open {
            self.side.end = end;
        }
    }
}

fn no_upstream(event: usize) -> HostFailure {
    let event = event + 1;
    let what = format!("event {event}: no connection has come to the upstream by now");
    HostFailure::Impossible { what }
}
