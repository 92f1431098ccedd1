//! Runs tasks: the asynchronous handlers of exchanges, and what goes on in the background.
//!
//! Each task belongs to a context. It is polled under that context, whatever callback woke it, so that
//! a header is never set on somebody else's request. The host is told to let a stream go on after the
//! poll, as the last thing, and never from inside the callback that holds the stream: that one returns.
//!
//! What a callback of a stream wakes of other streams is polled with the next tick, or in their own
//! callbacks: on Envoy an answer to one stream holds the other whose callback it is sent in.
//!
//! Not here: what tasks wait for. A filter without an asynchronous handler links none of this.

mod flow;
mod lane;
mod link;
mod station;
mod timers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tollgate_abi::StreamType;

pub(crate) use self::flow::Flow;
pub use self::lane::Bodies;
pub(crate) use self::lane::Exchange;
pub(crate) use self::lane::{Direction, Lane, Piece, Position};
pub(crate) use self::link::Link;
pub use self::timers::{Elapsed, Sleep, sleep, timeout};
pub(crate) use self::timers::{kept as kept_timers, tick};
use crate::filter::Outcome;
use crate::host;
use crate::reply::LocalReply;

/// As often tasks are polled in one callback. Then other work of the proxy comes first, and tasks that
/// wake themselves go on with the next tick.
const MOST_POLLS: usize = 10_000;

/// A handler on its way.
pub(crate) type Handler = Pin<Box<dyn Future<Output = Outcome>>>;

thread_local! {
    static RUNTIME: Runtime = Runtime::default();
}

#[derive(Default)]
struct Runtime {
    /// The streams whose pieces go from filter to filter, by context.
    flows: RefCell<BTreeMap<u32, Rc<Flow>>>,
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    ready: Arc<Ready>,
    running: Cell<Option<Running>>,
}

/// A task by its context, and by the filter that it is of: each has at most one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TaskId {
    context: u32,
    at: usize,
}

impl TaskId {
    /// What goes on in the background of a root.
    const fn of_root(context: u32) -> Self {
        Self { context, at: 0 }
    }
}

struct Task {
    root: u32,
    handler: State,
    /// `None` for what goes on in the background of a root.
    flow: Option<Rc<Flow>>,
    waker: Arc<TaskWaker>,
}

enum State {
    Waits(Handler),
    /// It is being polled, and may have been woken meanwhile.
    Runs {
        is_woken: bool,
    },
    Ended,
}

/// A task whose handler is taken to be polled.
struct Taken {
    handler: Handler,
    root: u32,
    flow: Option<Rc<Flow>>,
    waker: Arc<TaskWaker>,
}

/// The task that is being polled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) context: u32,
    pub(crate) root: u32,
}

/// The task that is being polled; `None` outside of any.
pub(crate) fn running() -> Option<Running> {
    RUNTIME.with(|runtime| runtime.running.get())
}

/// Begins a stream with its request headers, and gives what the callback returns.
pub(crate) fn begin(flow: Flow, end_of_stream: bool) -> u32 {
    RUNTIME.with(|runtime| {
        let flow = Rc::new(flow);
        runtime.end(flow.context);
        runtime.flows.borrow_mut().insert(flow.context, Rc::clone(&flow));
        runtime.arrived(&flow, Direction::Request, Piece::Headers { end_of_stream })
    })
}

/// Begins a task of a root: it is polled when the root ticks first, not while it is configured, when
/// the proxy may only be trying the configuration out.
pub(crate) fn begin_in_background(root: u32, handler: Handler) {
    RUNTIME.with(|runtime| runtime.spawn(TaskId::of_root(root), root, None, handler));
    timers::wake_soon(root);
}

/// A piece of a message has come to a stream; gives what the callback returns. `None`: the stream has not
/// begun here.
pub(crate) fn arrived(context: u32, direction: Direction, piece: Piece) -> Option<u32> {
    RUNTIME.with(|runtime| {
        let flow = runtime.flow(context)?;
        Some(runtime.arrived(&flow, direction, piece))
    })
}

/// Polls what the running callback has woken, which is none of a stream's. `current` is the context that
/// it is for.
pub(crate) fn run(current: u32) {
    RUNTIME.with(|runtime| runtime.run(current, Whose::All));
}

/// A context is over: its handler is dropped, with all that it waits for. So are those of the streams of
/// a root, which neither ticks nor answers reach any more. Whom that wakes is polled at the next tick:
/// where a stream is deleted, a host may not be told what becomes of another.
pub(crate) fn ended(context: u32) {
    RUNTIME.with(|runtime| {
        runtime.end(context);
        let of_root: Vec<TaskId> = {
            let tasks = runtime.tasks.borrow();
            tasks.iter().filter(|(_, task)| task.root == context).map(|(&id, _)| id).collect()
        };
        for task in of_root {
            runtime.end_handler(task);
        }
        timers::ended(context);
        runtime.leave_for_a_tick(context);
    });
}

/// Drops what goes on in the background of a root.
pub(crate) fn end_in_background(root: u32) {
    RUNTIME.with(|runtime| runtime.end(root));
}

/// Drops the handlers of a stream that is about to be logged, and gives the stream.
pub(crate) fn over(context: u32) -> Option<Rc<Flow>> {
    RUNTIME.with(|runtime| {
        let flow = runtime.flow(context)?;
        flow.end();
        for task in runtime.tasks_of(context) {
            runtime.end_handler(task);
        }
        Some(flow)
    })
}

/// How many streams and tasks there are, and how often one is to be polled.
pub(crate) fn kept() -> usize {
    RUNTIME.with(|runtime| {
        let flows = runtime.flows.borrow().len();
        let tasks = runtime.tasks.borrow().len();
        flows.saturating_add(tasks).saturating_add(runtime.ready.len())
    })
}

impl Runtime {
    fn flow(&self, context: u32) -> Option<Rc<Flow>> {
        self.flows.borrow().get(&context).cloned()
    }

    fn arrived(&self, flow: &Rc<Flow>, direction: Direction, piece: Piece) -> u32 {
        flow.arrived(direction, piece);
        self.run(flow.context, Whose::NoOtherStreams);
        flow.settle();
        flow.answer(direction)
    }

    /// Ends what there is of a context. What is dropped may call the host, or wake others.
    fn end(&self, context: u32) {
        let flow = self.flows.borrow_mut().remove(&context);
        if let Some(flow) = &flow {
            flow.end();
        }
        for id in self.tasks_of(context) {
            let task = self.tasks.borrow_mut().remove(&id);
            drop(task);
        }
        drop(flow);
    }

    fn tasks_of(&self, context: u32) -> Vec<TaskId> {
        let all = TaskId { context, at: 0 }..=TaskId { context, at: usize::MAX };
        self.tasks.borrow().range(all).map(|(&id, _)| id).collect()
    }

    fn spawn(&self, id: TaskId, root: u32, flow: Option<Rc<Flow>>, handler: Handler) {
        let ready = Arc::clone(&self.ready);
        let waker = Arc::new(TaskWaker { id, is_ready: AtomicBool::new(false), ready });
        let task = Task { root, handler: State::Waits(handler), flow, waker };
        let before = self.tasks.borrow_mut().insert(id, task);
        // What is dropped may call the host, or wake others.
        drop(before);
    }

    fn wake(&self, id: TaskId) {
        let waker = self.tasks.borrow().get(&id).map(|task| Arc::clone(&task.waker));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The root of a task that is ready. Those that have ended are taken off the list.
    fn ready_root(&self) -> Option<u32> {
        loop {
            let id = self.ready.first()?;
            let lives = |task: &&Task| !matches!(task.handler, State::Ended);
            if let Some(task) = self.tasks.borrow().get(&id).filter(lives) {
                return Some(task.root);
            }
            self.ready.pop();
        }
    }

    fn end_handler(&self, id: TaskId) {
        let handler = self
            .tasks
            .borrow_mut()
            .get_mut(&id)
            .map(|task| std::mem::replace(&mut task.handler, State::Ended));
        // What is dropped may call the host, or wake others.
        drop(handler);
    }

    /// Polls tasks that are ready. The host is told what becomes of their streams, but for the sides whose
    /// callbacks run: these return it.
    fn run(&self, current: u32, whose: Whose) {
        let mut effective = current;
        for _ in 0..MOST_POLLS {
            let Some(id) = self.next(current, whose) else { break };
            let Some(Taken { handler, root, flow, waker }) = self.take(id) else {
                continue;
            };
            let context = id.context;
            if effective != context && host::set_effective_context(context).is_err() {
                // The stream is gone, and the host has not told.
                self.leave(&waker, State::Ended);
                drop(handler);
                continue;
            }
            effective = context;
            if !self.runs(&waker) {
                drop(handler);
                continue;
            }
            let outcome = self.poll(Running { context, root }, handler, &waker);
            if let Some(flow) = flow {
                flow.polled(id.at, outcome);
            } else if let Some(Err(reply)) = outcome {
                log::error!("a background task ended with status {}", reply.status());
            }
        }
        if effective != current {
            // Only a host that has lost its own context refuses.
            let _ = host::set_effective_context(current);
        }
        self.leave_for_a_tick(current);
    }

    /// Takes a task off the list of those that are ready.
    fn next(&self, current: u32, whose: Whose) -> Option<TaskId> {
        match whose {
            Whose::All => self.ready.pop(),
            Whose::NoOtherStreams => {
                let tasks = self.tasks.borrow();
                self.ready.pop_first(|id| {
                    let is_of_stream = tasks.get(id).is_some_and(|task| task.flow.is_some());
                    id.context == current || !is_of_stream
                })
            }
        }
    }

    /// Has a root tick at once, if tasks are ready.
    fn leave_for_a_tick(&self, current: u32) {
        let Some(root) = self.ready_root() else { return };
        // The host has the root of the effective context tick.
        if host::set_effective_context(root).is_ok() {
            timers::soon(root);
            // Only a host that has lost its own context refuses.
            let _ = host::set_effective_context(current);
        }
    }

    fn take(&self, id: TaskId) -> Option<Taken> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.get_mut(&id)?;
        task.waker.is_ready.store(false, Ordering::Relaxed);
        // It looks again when the answer of another filter comes by.
        if task.flow.as_ref().is_some_and(|flow| flow.is_answered()) {
            return None;
        }
        match std::mem::replace(&mut task.handler, State::Runs { is_woken: false }) {
            State::Waits(handler) => Some(Taken {
                handler,
                root: task.root,
                flow: task.flow.clone(),
                waker: Arc::clone(&task.waker),
            }),
            // The host calls back while it is called: what the handler has looked at before may have
            // changed.
            State::Runs { .. } => {
                task.handler = State::Runs { is_woken: true };
                None
            }
            State::Ended => {
                task.handler = State::Ended;
                None
            }
        }
    }

    /// Polls a handler once, and gives its outcome if it has ended by itself. What was ended while it
    /// ran, by a host that called back, has none.
    fn poll(&self, task: Running, mut handler: Handler, waker: &Arc<TaskWaker>) -> Option<Outcome> {
        let before = self.running.replace(Some(task));
        let poll = handler.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))));
        self.running.set(before);
        match poll {
            Poll::Pending if self.runs(waker) => {
                if self.leave(waker, State::Waits(handler)) {
                    Arc::clone(waker).wake();
                }
                None
            }
            Poll::Pending => {
                drop(handler);
                timers::forget_unused(task.root);
                None
            }
            Poll::Ready(outcome) => {
                let is_own = self.runs(waker);
                self.leave(waker, State::Ended);
                drop(handler);
                is_own.then_some(outcome)
            }
        }
    }

    /// Whether a task is being polled, and not another one of its context.
    fn runs(&self, waker: &Arc<TaskWaker>) -> bool {
        let tasks = self.tasks.borrow();
        tasks.get(&waker.id).is_some_and(|task| task.runs(waker))
    }

    /// Says what becomes of a task that was polled, if it is still there; gives whether it was woken
    /// meanwhile.
    fn leave(&self, waker: &Arc<TaskWaker>, next: State) -> bool {
        let mut tasks = self.tasks.borrow_mut();
        let Some(task) = tasks.get_mut(&waker.id).filter(|task| task.runs(waker)) else {
            return false;
        };
        matches!(std::mem::replace(&mut task.handler, next), State::Runs { is_woken: true })
    }
}

impl Task {
    fn runs(&self, waker: &Arc<TaskWaker>) -> bool {
        Arc::ptr_eq(&self.waker, waker) && matches!(self.handler, State::Runs { .. })
    }
}

/// The tasks that a callback may poll.
#[derive(Clone, Copy)]
enum Whose {
    All,
    /// Those of its own stream, and what goes on in the background, which answers nobody.
    NoOtherStreams,
}

/// The tasks that are to be polled.
#[derive(Default)]
struct Ready(Mutex<VecDeque<TaskId>>);

impl Ready {
    fn push(&self, id: TaskId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(id);
    }

    fn first(&self) -> Option<TaskId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).front().copied()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn pop(&self) -> Option<TaskId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn pop_first(&self, is_wanted: impl Fn(&TaskId) -> bool) -> Option<TaskId> {
        let mut ready = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ready.iter().position(is_wanted)?;
        ready.remove(at)
    }
}

struct TaskWaker {
    id: TaskId,
    /// It is in the list.
    is_ready: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            self.ready.push(self.id);
        }
    }
}

/// Sends a reply; a stream whose reply the host refuses is closed.
#[cold]
pub(crate) fn send(reply: &LocalReply, stream: StreamType) {
    if let Err(error) = reply.send() {
        log::error!("the stream is closed, as its answer could not be sent: {error}");
        close(stream);
    }
}

/// Closes a stream.
#[cold]
pub(crate) fn close(stream: StreamType) {
    if let Err(error) = host::close_stream(stream) {
        log::error!("the stream is held, as it could not be closed: {error}");
    }
}
