//! Callouts that are under way, and what of an answer the guest can see.
//!
//! Here is what a guest's calls leave behind; what comes back to them, and when, is decided in
//! [`offline`](crate::offline).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tollgate_abi::pairs::{self, Pairs};
use tollgate_abi::{Answer, BufferType, MapType, Reply, Serialized};

use super::header::Lines;
use super::inline::Inline;
use super::{Link, Scope, VmId, World};
use crate::scenario::UPSTREAM;

/// Tokens of one kind are four apart, so that a token tells its kind.
///
/// Source: proxy-wasm-cpp-host, `CalloutType`.
const TOKENS_APART: u32 = 4;

/// All callouts.
#[derive(Debug, Default)]
pub(crate) struct Callouts {
    /// Clusters that guests may call.
    pub(crate) clusters: Vec<String>,
    /// Those that have not come to their end, in the order in which they were made.
    pub(crate) flights: Vec<Flight>,
    /// Those that failed while they were made, of which guests are told all the same.
    pub(crate) failed_at_once: VecDeque<FailedAtOnce>,
    /// What is being delivered to a guest.
    pub(crate) delivery: Option<Delivery>,
    made: u64,
    /// The last token of each kind.
    tokens: BTreeMap<(VmId, Kind), u32>,
    /// The last status of each root context. As on Envoy, it stays after the callback.
    statuses: BTreeMap<Link, u32>,
}

/// What a callout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Http = 0,
    GrpcCall = 1,
    GrpcStream = 2,
}

impl Kind {
    pub(super) fn of(token: u32) -> Option<Self> {
        match token % TOKENS_APART {
            0 => Some(Self::Http),
            1 => Some(Self::GrpcCall),
            2 => Some(Self::GrpcStream),
            _ => None,
        }
    }
}

/// A callout on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Its number among all.
    pub(crate) number: u64,
    /// The root context that it belongs to, whatever context made it.
    pub(crate) owner: Link,
    pub(crate) kind: Kind,
    pub(crate) token: u32,
    pub(crate) cluster: String,
    /// The request headers as they are sent.
    pub(crate) headers: Lines,
    /// What the guest has sent and the other side has not taken yet.
    pub(crate) outbox: VecDeque<Part>,
    pub(crate) made: Duration,
    pub(crate) timeout: Option<Duration>,
    /// What is on its way to the guest, and when it comes.
    pub(crate) inbox: VecDeque<(Duration, Event)>,
    /// The guest has sent its last.
    pub(crate) is_sent: bool,
    /// The guest has closed its side of a gRPC stream.
    pub(crate) closed_by_guest: bool,
    /// The other side has closed a gRPC stream, and the guest was told.
    pub(crate) closed: bool,
    /// Bytes that it makes the host keep.
    pub(crate) kept_bytes: usize,
}

/// A part of a request: a body, a gRPC message, or the end.
#[derive(Debug)]
pub(crate) enum Part {
    Body(Vec<u8>),
    Message(Vec<u8>),
    End,
}

impl Part {
    /// How many bytes it makes the host keep.
    pub(super) fn size_bytes(&self) -> usize {
        let bytes = match self {
            Self::Body(bytes) | Self::Message(bytes) => bytes.len(),
            Self::End => 0,
        };
        bytes.saturating_add(size_of::<Self>())
    }
}

/// What a guest is told.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Answer {
        headers: Lines,
        body: Vec<u8>,
        trailers: Lines,
    },
    /// The connection broke in the midst of an answer.
    Failure,
    InitialMetadata(Lines),
    Message(Vec<u8>),
    TrailingMetadata(Lines),
    Closed {
        status: u32,
        message: Vec<u8>,
    },
}

/// A gRPC callout that failed while it was made.
#[derive(Debug)]
pub(crate) struct FailedAtOnce {
    pub(crate) owner: Link,
    pub(crate) token: u32,
}

/// What a guest can see while it is told.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) owner: Link,
    pub(crate) maps: Vec<(MapType, Lines)>,
    pub(crate) buffer: Option<(BufferType, Vec<u8>)>,
    pub(crate) status_message: Vec<u8>,
}

impl Callouts {
    /// How many have come to no end.
    pub(crate) fn open(&self) -> u64 {
        u64::try_from(self.flights.len()).unwrap_or(u64::MAX)
    }

    pub(crate) fn set_status(&mut self, owner: Link, status: u32) {
        self.statuses.insert(owner, status);
    }

    pub(super) fn next_token(&mut self, vm: VmId, kind: Kind) -> u32 {
        let token = self.tokens.entry((vm, kind)).or_insert(kind as u32);
        *token = token.wrapping_add(TOKENS_APART);
        *token
    }
}

impl World {
    /// The root context that callouts of the guest belong to, whatever context makes them.
    pub(super) fn owner(&self, scope: &Scope) -> Link {
        Link { vm: scope.vm, root: self.root_of(scope).unwrap_or_default() }
    }

    pub(super) fn knows_cluster(&self, name: &[u8]) -> bool {
        self.callouts.clusters.iter().any(|cluster| cluster.as_bytes() == name)
    }

    /// Lets a callout take off, and gives its token.
    pub(super) fn take_off(&mut self, scope: &Scope, new: NewFlight) -> Reply {
        let lines = new.headers.0.iter().map(|(name, value)| name.len() + value.len());
        let parts = new.outbox.iter().map(Part::size_bytes);
        let kept_bytes = lines.chain(parts).sum::<usize>().saturating_add(size_of::<Flight>());
        if let Err(trap) = self.keep(kept_bytes) {
            return trap;
        }
        let owner = self.owner(scope);
        let token = self.callouts.next_token(owner.vm, new.kind);
        self.callouts.made += 1;
        let is_sent = matches!(new.outbox.last(), Some(Part::End));
        // Scenarios say what the upstream does under one name, whatever it is called in the proxy.
        let is_upstream = new.cluster == self.proxy.cluster.name;
        let cluster = if is_upstream { UPSTREAM.to_owned() } else { new.cluster };
        let flight = Flight {
            number: self.callouts.made,
            owner,
            kind: new.kind,
            token,
            cluster,
            headers: new.headers,
            outbox: new.outbox.into(),
            made: self.clock.passed(),
            timeout: new.timeout,
            inbox: VecDeque::new(),
            is_sent,
            closed_by_guest: false,
            closed: false,
            kept_bytes,
        };
        self.callouts.flights.push(flight);
        Reply::Done(Answer::U32(token))
    }

    /// Forgets the callouts that do not stay.
    pub(crate) fn retain_flights(&mut self, stays: impl Fn(&Flight) -> bool) {
        let mut kept_bytes = 0_usize;
        self.callouts.flights.retain(|flight| {
            let stays = stays(flight);
            if !stays {
                kept_bytes = kept_bytes.saturating_add(flight.kept_bytes);
            }
            stays
        });
        self.let_go(kept_bytes);
    }

    /// Forgets the callouts of a VM that is gone.
    pub(crate) fn drop_callouts_of_vm(&mut self, vm: VmId) {
        self.retain_flights(|flight| flight.owner.vm != vm);
    }

    /// Forgets the callouts of a root context that is gone, and what became of the last.
    pub(crate) fn drop_callouts_of_root(&mut self, root: Link) {
        self.retain_flights(|flight| flight.owner != root);
        self.callouts.statuses.remove(&root);
    }

    /// The map that the guest sees of what is being delivered to it.
    pub(super) fn delivered_map(&self, scope: &Scope, wanted: MapType) -> Option<&Lines> {
        let delivery = self.delivery(scope)?;
        delivery.maps.iter().find(|(map, _)| *map == wanted).map(|(_, lines)| lines)
    }

    /// The buffer that the guest sees of what is being delivered to it.
    pub(super) fn delivered_buffer(&self, scope: &Scope, wanted: BufferType) -> Option<&[u8]> {
        let (buffer, bytes) = self.delivery(scope)?.buffer.as_ref()?;
        (*buffer == wanted).then_some(bytes)
    }

    /// The message that is being delivered to the guest, which it can change.
    pub(super) fn delivered_message(
        &mut self,
        scope: &Scope,
        wanted: BufferType,
    ) -> Option<&mut Vec<u8>> {
        let owner = self.owner(scope);
        let delivery =
            self.callouts.delivery.as_mut().filter(|delivery| delivery.owner == owner)?;
        let (buffer, bytes) = delivery.buffer.as_mut()?;
        (*buffer == wanted && wanted == BufferType::GrpcReceiveBuffer).then_some(bytes)
    }

    pub(super) fn callout_status(&self, scope: &Scope) -> Reply {
        let owner = self.owner(scope);
        let code = self.callouts.statuses.get(&owner).copied().unwrap_or_default();
        let delivery = self.delivery(scope);
        let message = delivery.map_or_else(Vec::new, |delivery| delivery.status_message.clone());
        Reply::Done(Answer::Status { code, message })
    }

    fn delivery(&self, scope: &Scope) -> Option<&Delivery> {
        let owner = self.owner(scope);
        self.callouts.delivery.as_ref().filter(|delivery| delivery.owner == owner)
    }
}

/// A callout before it takes off.
pub(super) struct NewFlight {
    pub(super) kind: Kind,
    pub(super) cluster: String,
    pub(super) headers: Lines,
    pub(super) outbox: Vec<Part>,
    pub(super) timeout: Option<Duration>,
}

/// Header lines that a guest made up. As on Envoy: pairs that are too large or cannot be read are no
/// pairs.
pub(super) fn lines(serialized: &Serialized) -> Lines {
    let mut lines = Lines::default();
    let is_small = serialized.0.len() <= pairs::MAX_BYTES;
    if let Ok(pairs) = Pairs::parse(&serialized.0)
        && is_small
        && pairs.len() <= pairs::MAX_PAIRS
    {
        for (name, value) in &pairs {
            // To Envoy `host` is another name of `:authority`.
            match &*name.to_ascii_lowercase() {
                b"host" => lines.append(b":authority", value, Inline::Request),
                name => lines.append(name, value, Inline::Request),
            }
        }
    }
    lines
}

/// What Envoy says of itself on every callout.
pub(super) fn mark_internal(headers: &mut Lines, timeout: Option<Duration>) {
    headers.set(b"x-envoy-internal", b"true");
    if let Some(timeout) = timeout {
        let millis = timeout.as_millis().to_string();
        headers.set(b"x-envoy-expected-rq-timeout-ms", millis.as_bytes());
    }
}
