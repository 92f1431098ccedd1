//! What the host knows: contexts, clock, calls under way.
//!
//! Not here: what it answers, what it does not allow, and in which order things happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tollgate::{Callback, CallbackKind};
use tollgate_abi::StreamType;

use crate::case::{Fault, Side};

/// More host calls than any case can have a reason for.
const MOST_HOST_CALLS: usize = 1_000_000;

/// How often what happened: a case in which nothing does shows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Callbacks.
    pub callbacks: usize,
    /// Of these, inside of a host call.
    pub nested: usize,
    /// Host calls.
    pub host_calls: usize,
    /// Of these, with a fault.
    pub faults: usize,
    /// Streams that were held by what a callback returned.
    pub held: usize,
    /// Streams that were let go by a host call.
    pub let_go: usize,
    /// Local replies.
    pub replies: usize,
    /// Changes of headers.
    pub edits: usize,
    /// Callouts.
    pub calls: usize,
    /// Cases in which all streams had to come to their ends, and did.
    pub peaceful: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.callbacks += other.callbacks;
        self.nested += other.nested;
        self.host_calls += other.host_calls;
        self.faults += other.faults;
        self.held += other.held;
        self.let_go += other.let_go;
        self.replies += other.replies;
        self.edits += other.edits;
        self.calls += other.calls;
        self.peaceful += other.peaceful;
    }
}

pub(crate) struct World {
    pub(crate) contexts: BTreeMap<u32, Context>,
    pub(crate) stack: Vec<Frame>,
    pub(crate) calls: Vec<Pending>,
    pub(crate) violations: Vec<String>,
    pub(crate) tally: Tally,
    /// The host has not kept to the rules: streams may be held for ever.
    pub(crate) is_faulty: bool,
    pub(crate) now: u64,
    /// All contexts that the guest has heard of.
    pub(crate) told: BTreeSet<u32>,
    faults: VecDeque<(u8, Fault)>,
    pub(crate) last_token: u32,
    pub(crate) last_cas: u32,
    pub(crate) shared: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    pub(crate) queues: Vec<(Vec<u8>, VecDeque<Vec<u8>>)>,
    pub(crate) metrics: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Context {
    Root(Root),
    Stream(Stream),
}

#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) id: &'static str,
    pub(crate) config: Vec<u8>,
    pub(crate) period: u32,
    /// Its filter follows exchanges.
    pub(crate) follows: bool,
    /// It has taken its configuration.
    pub(crate) is_configured: bool,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that has happened, or not yet")]
pub(crate) struct Stream {
    pub(crate) root: u32,
    pub(crate) follows: bool,
    pub(crate) request: Lane,
    pub(crate) response: Lane,
    /// The host has kept to the order of callbacks.
    pub(crate) is_sound: bool,
    pub(crate) replied: bool,
    pub(crate) closed: bool,
    pub(crate) logged: bool,
    /// Its handler has answered: nothing more is expected of it.
    pub(crate) is_quiet: bool,
}

#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that has happened, or not yet")]
pub(crate) struct Lane {
    pub(crate) has_begun: bool,
    pub(crate) has_ended: bool,
    pub(crate) held: Option<Hold>,
    pub(crate) headers_left: bool,
    pub(crate) body: Vec<u8>,
    /// Nothing more comes, and nothing may go on.
    pub(crate) is_dead: bool,
}

/// How a lane is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// No piece comes.
    All,
    /// Pieces come and are added to what is held.
    Piece,
}

/// A callback that runs.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: CallbackKind,
    pub(crate) context: u32,
    pub(crate) effective: u32,
    /// The task in the midst of which it came.
    pub(crate) within: Option<u32>,
    pub(crate) shown: Shown,
    /// The stream of the context was answered or closed meanwhile.
    pub(crate) has_answered: bool,
}

/// What the host shows during a callback.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) lines: Vec<(&'static str, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) code: u32,
    pub(crate) message: Vec<u8>,
}

/// A call that the guest has made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) token: u32,
    pub(crate) root: u32,
    pub(crate) kind: CallKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Http,
    Grpc,
    GrpcStream,
}

impl Stream {
    pub(crate) fn new(root: u32, follows: bool) -> Self {
        Self {
            root,
            follows,
            request: Lane::default(),
            response: Lane::default(),
            is_sound: true,
            replied: false,
            closed: false,
            logged: false,
            is_quiet: false,
        }
    }

    pub(crate) fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }
}

impl Lane {
    /// All that is held goes on.
    pub(crate) fn go_on(&mut self) {
        self.held = None;
        self.headers_left = true;
        self.body.clear();
    }
}

impl World {
    pub(crate) fn new(faults: &[(u8, Fault)]) -> Self {
        Self {
            contexts: BTreeMap::new(),
            stack: Vec::new(),
            calls: Vec::new(),
            violations: Vec::new(),
            tally: Tally::default(),
            is_faulty: false,
            now: 1_700_000_000_000_000_000,
            told: BTreeSet::new(),
            faults: faults.iter().map(|(after, fault)| (after % 32, fault.clone())).collect(),
            last_token: 0,
            last_cas: 0,
            shared: BTreeMap::new(),
            queues: Vec::new(),
            metrics: Vec::new(),
        }
    }

    /// What goes wrong with the host call that is made now.
    pub(crate) fn next_fault(&mut self) -> Option<Fault> {
        self.tally.host_calls += 1;
        assert!(self.tally.host_calls < MOST_HOST_CALLS, "the guest calls the host without end");
        let (left, _) = self.faults.front_mut()?;
        match left.checked_sub(1) {
            Some(less) => {
                *left = less;
                None
            }
            None => self.faults.pop_front().map(|(_, fault)| fault),
        }
    }

    pub(crate) fn stream(&mut self, context: u32) -> Option<&mut Stream> {
        match self.contexts.get_mut(&context) {
            Some(Context::Stream(stream)) => Some(stream),
            Some(Context::Root(_)) | None => None,
        }
    }

    pub(crate) fn root(&mut self, context: u32) -> Option<&mut Root> {
        match self.contexts.get_mut(&context) {
            Some(Context::Root(root)) => Some(root),
            Some(Context::Stream(_)) | None => None,
        }
    }

    pub(crate) fn streams(&self) -> Vec<u32> {
        let is_stream = |context: &Context| matches!(context, Context::Stream(_));
        self.contexts.iter().filter(|(_, c)| is_stream(c)).map(|(&id, _)| id).collect()
    }

    pub(crate) fn roots(&self) -> Vec<u32> {
        let is_root = |context: &Context| matches!(context, Context::Root(_));
        self.contexts.iter().filter(|(_, c)| is_root(c)).map(|(&id, _)| id).collect()
    }

    /// Whether a callback of this context runs.
    pub(crate) fn is_busy(&self, context: u32) -> bool {
        self.stack.iter().any(|frame| frame.context == context)
    }

    /// The streams of a root are without the filter that they began with, which no proxy does to them.
    pub(crate) fn forsake(&mut self, root: u32) {
        for context in self.contexts.values_mut() {
            if let Context::Stream(stream) = context
                && stream.root == root
            {
                stream.is_sound = false;
            }
        }
    }

    /// The host has said of a root that it is gone: the guest forgets it, and its streams, now and later,
    /// find no filter or another.
    pub(crate) fn denied(&mut self, root: u32) {
        if let Some(known) = self.root(root) {
            known.is_configured = false;
            self.forsake(root);
        }
    }

    /// A number that no context has.
    pub(crate) fn free_id(&self) -> u32 {
        (1..u32::MAX).find(|id| !self.contexts.contains_key(id)).unwrap_or(u32::MAX)
    }

    pub(crate) fn enter(&mut self, callback: Callback, shown: Shown) {
        self.tally.callbacks += 1;
        self.told.insert(callback.context());
        self.tally.nested += usize::from(!self.stack.is_empty());
        self.stack.push(Frame {
            kind: callback.kind(),
            context: callback.context(),
            effective: callback.context(),
            within: tollgate::__private::running(),
            shown,
            has_answered: false,
        });
    }

    pub(crate) fn effective(&self) -> u32 {
        self.stack.last().map_or(0, |frame| frame.effective)
    }

    pub(crate) fn root_of(&self, context: u32) -> u32 {
        match self.contexts.get(&context) {
            Some(Context::Stream(stream)) => stream.root,
            Some(Context::Root(_)) | None => context,
        }
    }

    pub(crate) fn violated(&mut self, what: &str) {
        let stack: Vec<_> =
            self.stack.iter().map(|f| format!("{} of {}", f.kind, f.context)).collect();
        self.violations.push(format!("{what} [in {}]", stack.join(", ")));
    }
}

pub(crate) fn side_of(stream: StreamType) -> Side {
    match stream {
        StreamType::HttpResponse => Side::Response,
        _ => Side::Request,
    }
}
