//! In which order things happen to the contexts of a VM.

use std::cell::RefCell;
use std::rc::Rc;

use tollgate::{Callback, CallbackKind, Registration};
use tollgate_abi::Call;
use tollgate_host_native::{Scripted, on_this_thread};

use crate::case::{Case, End, Ending, Fault, Module, Nth, RootId, Side, Step};
use crate::modules::{self, Modules};
use crate::wild::wild_callback;
use crate::world::{CallKind, Context, Hold, Pending, Root, Shown, Stream, Tally, World};

/// Callbacks within callbacks, at most.
const DEEPEST: usize = 4;

/// Rounds after which all that can go on has gone on.
const MOST_ROUNDS: usize = 200;

/// Plays a case on this thread, and says how much happened.
///
/// # Errors
///
/// What the guest did that no proxy allows, or what it keeps once all contexts are gone.
pub fn run(case: &Case) -> Result<Tally, String> {
    let driver = Rc::new(Driver::new(case));
    let host = Rc::clone(&driver);
    on_this_thread(move |call| host.answer(call), || driver.play(case))
}

struct Driver {
    module: Modules,
    exports: Vec<CallbackKind>,
    world: RefCell<World>,
}

impl Driver {
    fn new(case: &Case) -> Self {
        let module = match case.module {
            Module::Fixtures | Module::Again => modules::fixtures(),
            Module::Chain => modules::chain(),
            Module::RateLimit => modules::rate_limit(),
        };
        let exports = (module.registration.callbacks)();
        Self { module, exports, world: RefCell::new(World::new(&case.faults)) }
    }

    fn registration(&self) -> Registration {
        self.module.registration
    }

    fn answer(&self, call: &Call) -> Scripted {
        let fault = self.world.borrow_mut().next_fault();
        // By what the guest knows: not by what a callback in the middle of the call changes.
        self.world.borrow_mut().check(call);
        if let Some(Fault::CallsBack(step) | Fault::CallsBackAgain(step)) = &fault {
            self.step(step);
            return self.world.borrow_mut().answer(call, None);
        }
        self.world.borrow_mut().answer(call, fault.as_ref())
    }

    fn play(&self, case: &Case) -> Result<Tally, String> {
        (self.registration().start)();
        self.begin_root(&case.root);
        self.judge()?;
        for step in &case.steps {
            self.step(step);
            self.judge()?;
        }
        if case.ending == Ending::InPeace {
            self.come_to_rest()?;
        }
        self.end(case.ending);
        self.judge()?;
        if !self.exports.contains(&CallbackKind::Delete) {
            // Such a module forgets by and by; the next case on this thread begins with nothing.
            for context in std::mem::take(&mut self.world.borrow_mut().told) {
                (self.registration().call)(Callback::Delete { context });
            }
        }
        let kept = (self.registration().kept)();
        if kept != tollgate::__private::Kept::default() {
            return Err(format!("all contexts are gone, and kept are {kept:?}"));
        }
        Ok(self.world.borrow().tally)
    }

    fn judge(&self) -> Result<(), String> {
        match self.world.borrow().violations.first() {
            None => Ok(()),
            Some(violation) => Err(violation.clone()),
        }
    }

    /// Has the guest called, if it exports the callback; gives what it returned, and whether it answered
    /// the stream of the context meanwhile.
    fn call(&self, callback: Callback, shown: Shown) -> (u32, bool) {
        if !self.exports.contains(&callback.kind()) {
            return (0, false);
        }
        self.world.borrow_mut().enter(callback, shown);
        let word = (self.registration().call)(callback);
        let frame = self.world.borrow_mut().stack.pop();
        let context = callback.context();
        let is_gone = !self.world.borrow().contexts.contains_key(&context);
        if callback.kind() == CallbackKind::Configure && is_gone {
            // It ended while it was configured, and has to be told again.
            self.tell(Callback::Delete { context });
        }
        (word, frame.is_some_and(|frame| frame.has_answered))
    }

    fn tell(&self, callback: Callback) {
        self.call(callback, Shown::default());
    }

    fn step(&self, step: &Step) {
        if self.world.borrow().stack.len() >= DEEPEST {
            return;
        }
        match step {
            Step::Stream { root, ended } => self.begin_stream(*root, *ended),
            Step::Piece { stream, side, size, end } => {
                if let Some(stream) = one(&self.streams(), *stream) {
                    self.piece(stream, *side, *size, *end);
                }
            }
            Step::Answer { call, what } => {
                let count = self.world.borrow().calls.len();
                if let Some(at) = usize::from(call.0).checked_rem(count) {
                    self.answer_call(at, *what);
                }
            }
            Step::Tick(root) => {
                if let Some(root) = one(&self.roots(), *root) {
                    self.tick(root);
                }
            }
            Step::Later(nanos) => {
                let mut world = self.world.borrow_mut();
                world.now = world.now.wrapping_add((*nanos).into());
            }
            Step::Clock(now) => self.world.borrow_mut().now = *now,
            Step::Over { stream, logged } => {
                if let Some(stream) = one(&self.streams(), *stream) {
                    self.end_stream(stream, *logged);
                }
            }
            Step::Root(id) => self.begin_root(id),
            Step::Anew(root, id) => {
                if let Some(root) = one(&self.roots(), *root) {
                    let new = self.module.root(id);
                    let mut world = self.world.borrow_mut();
                    // What it follows from now on is not what its streams follow.
                    world.is_faulty = true;
                    world.forsake(root);
                    if let Some(known) = world.root(root) {
                        known.config = new.config;
                    }
                    drop(world);
                    self.configure(root);
                }
            }
            Step::RootOver(root) => {
                if let Some(root) = one(&self.roots(), *root) {
                    self.end_root(root);
                }
            }
            Step::Wild { callback, context, first, second, flag } => {
                let kind = one(&self.exports, Nth(*callback));
                if let Some(kind) = kind {
                    let (context, first) = (context.number(), first.number());
                    self.wild(wild_callback(kind, context, first, second.bytes(), *flag));
                }
            }
        }
    }

    fn streams(&self) -> Vec<u32> {
        self.world.borrow().streams()
    }

    fn roots(&self) -> Vec<u32> {
        self.world.borrow().roots()
    }

    fn begin_root(&self, id: &RootId) {
        let root = self.world.borrow().free_id();
        self.world.borrow_mut().contexts.insert(root, Context::Root(self.module.root(id)));
        self.tell(Callback::ContextCreate { context: root, parent: 0 });
        self.configure(root);
    }

    fn configure(&self, root: u32) {
        let configuration_size =
            self.world.borrow_mut().root(root).map_or(0, |root| root.config.len());
        let callback = Callback::Configure { context: root, configuration_size };
        let (taken, _) = self.call(callback, Shown::default());
        if let Some(root) = self.world.borrow_mut().root(root) {
            root.is_configured = taken != 0;
        }
    }

    fn begin_stream(&self, root: Nth, ended: bool) {
        let Some(root) = one(&self.roots(), root) else { return };
        let context = self.world.borrow().free_id();
        let Some(of) = self.world.borrow_mut().root(root).cloned() else { return };
        let mut stream = Stream::new(root, of.follows);
        // No proxy has streams for what it could not configure.
        stream.is_sound = of.is_configured;
        self.world.borrow_mut().contexts.insert(context, Context::Stream(stream));
        self.tell(Callback::ContextCreate { context, parent: root });
        let end = if ended { End::Yes } else { End::No };
        self.piece(context, Side::Request, 0, end);
    }

    /// The next piece of a side comes, if its state lets it.
    fn piece(&self, context: u32, side: Side, size: u8, end: End) {
        let mut world = self.world.borrow_mut();
        let is_busy = world.is_busy(context);
        let Some(stream) = world.stream(context) else { return };
        stream.is_sound &= !is_busy;
        if stream.closed || stream.logged || stream.lane(side).is_dead {
            return;
        }
        if side == Side::Response && !stream.response.has_begun {
            if !stream.request.headers_left {
                stream.request.is_dead = true;
            }
            if stream.replied {
                // The reply itself comes by.
                stream.is_quiet = stream.follows;
                stream.replied = false;
            }
        }
        let lane = stream.lane(side);
        if lane.has_ended || lane.held == Some(Hold::All) {
            return;
        }
        let ended = end == End::Yes;
        let (count, end_of_stream) = (3, ended);
        let is_headers = !lane.has_begun;
        let callback = if is_headers {
            lane.has_begun = true;
            lane.has_ended = ended;
            match side {
                Side::Request => Callback::RequestHeaders { context, count, end_of_stream },
                Side::Response => Callback::ResponseHeaders { context, count, end_of_stream },
            }
        } else if end == End::Trailers {
            lane.has_ended = true;
            match side {
                Side::Request => Callback::RequestTrailers { context, count },
                Side::Response => Callback::ResponseTrailers { context, count },
            }
        } else {
            lane.has_ended = ended;
            let text: &[u8] = if size.is_multiple_of(2) { b"please " } else { b"x" };
            lane.body.extend(text.iter().cycle().take(usize::from(size / 2)));
            let size = lane.body.len();
            match side {
                Side::Request => Callback::RequestBody { context, size, end_of_stream },
                Side::Response => Callback::ResponseBody { context, size, end_of_stream },
            }
        };
        drop(world);
        let (word, has_answered) = self.call(callback, Shown::default());
        self.landed(context, side, is_headers, word, has_answered);
    }

    /// What a callback returned comes true.
    fn landed(&self, context: u32, side: Side, is_headers: bool, word: u32, has_answered: bool) {
        let mut world = self.world.borrow_mut();
        let Some(stream) = world.stream(context).filter(|stream| stream.is_sound) else { return };
        let lane = stream.lane(side);
        match (word, is_headers) {
            (0, _) => lane.go_on(),
            (1, _) => lane.held = Some(Hold::Piece),
            // It goes on later, and is not shown again.
            (2, false) => {
                lane.held = Some(Hold::Piece);
                lane.body.clear();
            }
            (4, true) => lane.held = Some(Hold::All),
            _ => world.violations.push(format!("a callback of {side:?} returned {word}")),
        }
        if has_answered && word == 0 {
            world.violations.push(format!("{context} goes on although it was answered"));
        }
        world.tally.held += usize::from(word != 0 && !has_answered);
    }

    fn answer_call(&self, at: usize, what: u8) {
        let mut world = self.world.borrow_mut();
        let Some(&Pending { token, root: context, kind }) = world.calls.get(at) else { return };
        if world.root(context).is_none() {
            world.calls.remove(at);
            return;
        }
        let is_last = kind != CallKind::GrpcStream || what % 5 > 2;
        if is_last {
            world.calls.remove(at);
        }
        drop(world);
        let mut shown = Shown::default();
        let callback = match kind {
            CallKind::Http => {
                let (status, body): (&str, &[u8]) = match what % 8 {
                    0 => ("", b""),
                    1 => ("504", b"upstream request timeout"),
                    2 => ("503", b"no healthy upstream"),
                    3 => ("403", b"no"),
                    _ => ("200", b"ok"),
                };
                let mut headers = 0;
                if status.is_empty() {
                    (shown.code, shown.message) = (11, b"reset".to_vec());
                } else {
                    shown.lines = vec![(":status", status.into()), ("x-a", b"\xff".to_vec())];
                    headers = shown.lines.len();
                }
                shown.body = body.to_vec();
                let trailers = usize::from(what % 8 == 5);
                let body_size = if what % 8 == 4 { usize::MAX } else { body.len() };
                Callback::HttpCallResponse { context, token, headers, body_size, trailers }
            }
            CallKind::Grpc if what.is_multiple_of(5) => {
                (shown.code, shown.message) = (14, b"away".to_vec());
                Callback::GrpcClose { context, token, status: 14 }
            }
            CallKind::GrpcStream if what.is_multiple_of(5) => {
                shown.lines = vec![("x-a", b"1".to_vec())];
                Callback::GrpcReceiveInitialMetadata { context, token, count: 1 }
            }
            CallKind::GrpcStream if what % 5 == 2 => {
                Callback::GrpcReceiveTrailingMetadata { context, token, count: 0 }
            }
            CallKind::GrpcStream if is_last => {
                let status = if what % 5 == 3 { 0 } else { 7 };
                shown.code = status;
                Callback::GrpcClose { context, token, status }
            }
            CallKind::Grpc | CallKind::GrpcStream => {
                shown.body = b"message".to_vec();
                Callback::GrpcReceive { context, token, size: shown.body.len() }
            }
        };
        self.call(callback, shown);
    }

    fn tick(&self, root: u32) {
        let mut world = self.world.borrow_mut();
        let period = world.root(root).map_or(0, |root| root.period);
        if period > 0 {
            world.now = world.now.wrapping_add(u64::from(period).saturating_mul(1_000_000));
            drop(world);
            self.tell(Callback::Tick { context: root });
        }
    }

    fn end_stream(&self, context: u32, logged: bool) {
        if logged {
            self.tell(Callback::Log { context });
        }
        if let Some(stream) = self.world.borrow_mut().stream(context) {
            stream.logged |= logged && self.exports.contains(&CallbackKind::Log);
        }
        self.tell(Callback::Done { context });
        self.delete(context);
    }

    fn end_root(&self, root: u32) {
        let mut world = self.world.borrow_mut();
        // Its streams are without what they wait for.
        world.is_faulty = true;
        world.calls.retain(|call| call.root != root);
        world.forsake(root);
        drop(world);
        self.tell(Callback::Done { context: root });
        self.delete(root);
    }

    fn delete(&self, context: u32) {
        self.tell(Callback::Delete { context });
        self.world.borrow_mut().contexts.remove(&context);
    }

    /// A callback that does not fit what was before.
    fn wild(&self, callback: Callback) {
        let context = callback.context();
        let mut world = self.world.borrow_mut();
        world.is_faulty = true;
        let parent = match callback {
            Callback::ContextCreate { parent, .. } => parent,
            _ => 0,
        };
        let is_root = matches!(
            callback,
            Callback::Configure { .. } | Callback::ContextCreate { parent: 0, .. }
        );
        let unknown = if is_root {
            Context::Root(Root {
                id: "asking",
                config: Vec::new(),
                period: 0,
                follows: false,
                is_configured: false,
            })
        } else {
            Context::Stream(Stream::new(parent, false))
        };
        if let Context::Stream(stream) = world.contexts.entry(context).or_insert(unknown) {
            stream.is_sound = false;
            // A piece of a message begins it anew.
            stream.logged &= !matches!(
                callback,
                Callback::RequestHeaders { .. }
                    | Callback::RequestBody { .. }
                    | Callback::RequestTrailers { .. }
                    | Callback::ResponseHeaders { .. }
                    | Callback::ResponseBody { .. }
                    | Callback::ResponseTrailers { .. }
                    | Callback::ContextCreate { .. }
            );
        }
        drop(world);
        self.tell(callback);
        let mut world = self.world.borrow_mut();
        match callback {
            Callback::Delete { .. } => drop(world.contexts.remove(&context)),
            Callback::Log { .. } => {
                if let Some(stream) = world.stream(context) {
                    stream.logged = true;
                }
            }
            _ => {}
        }
    }

    /// Lets all that is under way come to its end, where the host has not stood in the way.
    fn come_to_rest(&self) -> Result<(), String> {
        for _ in 0..MOST_ROUNDS {
            for stream in self.streams() {
                for side in [Side::Request, Side::Response] {
                    let mut world = self.world.borrow_mut();
                    let may_come = world.stream(stream).is_some_and(|stream| {
                        side == Side::Request || stream.replied || stream.request.headers_left
                    });
                    drop(world);
                    if may_come {
                        self.piece(stream, side, 12, End::Yes);
                    }
                }
            }
            while !self.world.borrow().calls.is_empty() {
                // Twice 1 is a message, then the end; 200 to HTTP.
                self.answer_call(0, 6);
                self.answer_call(0, 13);
                self.answer_call(0, 8);
            }
            for root in self.roots() {
                self.tick(root);
            }
            self.judge()?;
        }
        let mut world = self.world.borrow_mut();
        if world.is_faulty {
            return Ok(());
        }
        world.tally.peaceful += 1;
        for context in world.streams() {
            let Some(stream) = world.stream(context) else { continue };
            let is_open = stream.is_sound && !stream.closed && !stream.replied && !stream.is_quiet;
            let waits = [&stream.request, &stream.response]
                .into_iter()
                .any(|lane| lane.held.is_some() && !lane.is_dead);
            if is_open && waits {
                return Err(format!("{context} is held for ever: {stream:?}"));
            }
        }
        Ok(())
    }

    fn end(&self, ending: Ending) {
        while !self.world.borrow().contexts.is_empty() {
            let (streams, roots) = (self.streams(), self.roots());
            if ending == Ending::RootsFirst {
                for root in &roots {
                    self.end_root(*root);
                }
            }
            for stream in streams {
                self.end_stream(stream, true);
            }
            if ending != Ending::RootsFirst {
                for root in roots {
                    self.end_root(root);
                }
            }
        }
    }
}

fn one<T: Copy>(of: &[T], nth: Nth) -> Option<T> {
    of.get(usize::from(nth.0).checked_rem(of.len())?).copied()
}
