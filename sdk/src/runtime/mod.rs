//! Runs tasks: the asynchronous handlers of exchanges, and what goes on in the background.
//!
//! Each task belongs to a context. It is polled under that context, whatever callback woke it, so that
//! a header is never set on somebody else's request. The host is told to let a stream go on after the
//! poll, as the last thing, and never from inside the callback that holds the stream: that one returns.
//!
//! Not here: what tasks wait for. A filter without an asynchronous handler links none of this.

mod lane;
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

pub use self::lane::Bodies;
pub(crate) use self::lane::Exchange;
pub(crate) use self::lane::{Direction, Lane, Piece, Position};
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
    /// By context: each has at most one.
    tasks: RefCell<BTreeMap<u32, Task>>,
    ready: Arc<Ready>,
    running: Cell<Option<Running>>,
}

struct Task {
    root: u32,
    handler: State,
    /// `None` for what goes on in the background of a root.
    exchange: Option<Rc<Exchange>>,
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
    exchange: Option<Rc<Exchange>>,
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

/// Begins the task of an exchange with its request headers, and gives what the callback returns.
pub(crate) fn begin(exchange: &Rc<Exchange>, root: u32, handler: Handler) -> u32 {
    RUNTIME.with(|runtime| {
        let context = exchange.context;
        runtime.spawn(context, root, Some(Rc::clone(exchange)), handler);
        runtime.wake(context);
        runtime.run(context);
        exchange.answer(Direction::Request)
    })
}

/// Begins a task of a root: it is polled when the root ticks first, not while it is configured, when
/// the proxy may only be trying the configuration out.
pub(crate) fn begin_in_background(root: u32, handler: Handler) {
    RUNTIME.with(|runtime| runtime.spawn(root, root, None, handler));
    timers::soon(root);
}

/// A piece of a message has come to an exchange; gives what the callback returns.
pub(crate) fn arrived(context: u32, direction: Direction, piece: Piece) -> u32 {
    RUNTIME.with(|runtime| {
        let exchange = runtime.tasks.borrow().get(&context).and_then(|task| task.exchange.clone());
        let Some(exchange) = exchange else { return Lane::PASS };
        if exchange.arrived(direction, piece) {
            runtime.wake(context);
        } else {
            // It was answered before its handler let it go: by the proxy itself, or by another filter.
            exchange.abandon();
            runtime.end_handler(context);
            exchange.pass();
        }
        runtime.run(context);
        exchange.answer(direction)
    })
}

/// Polls what the running callback has woken. `current` is the context that it is for.
pub(crate) fn run(current: u32) {
    RUNTIME.with(|runtime| runtime.run(current));
}

/// A context is over: its handler is dropped, with all that it waits for. So are those of the streams of
/// a root, which neither ticks nor answers reach any more. Whom that wakes is polled at the next tick:
/// where a stream is deleted, a host may not be told what becomes of another.
pub(crate) fn ended(context: u32) {
    RUNTIME.with(|runtime| {
        let task = runtime.tasks.borrow_mut().remove(&context);
        abandon(task);
        let of_root: Vec<u32> = {
            let tasks = runtime.tasks.borrow();
            tasks.iter().filter(|(_, task)| task.root == context).map(|(&id, _)| id).collect()
        };
        for stream in of_root {
            runtime.end_handler(stream);
        }
        timers::ended(context);
        if let Some(root) = runtime.ready_root() {
            timers::soon(root);
        }
    });
}

/// Drops what goes on in the background of a root.
pub(crate) fn end_in_background(root: u32) {
    RUNTIME.with(|runtime| {
        let task = runtime.tasks.borrow_mut().remove(&root);
        abandon(task);
    });
}

/// Drops the handler of a stream that is about to be logged, and gives the exchange.
pub(crate) fn over(context: u32) -> Option<Rc<Exchange>> {
    RUNTIME.with(|runtime| {
        let exchange = runtime.tasks.borrow().get(&context).and_then(|task| task.exchange.clone());
        if let Some(exchange) = &exchange {
            exchange.abandon();
        }
        runtime.end_handler(context);
        exchange
    })
}

/// How many tasks there are, and how often one is to be polled.
pub(crate) fn kept() -> usize {
    RUNTIME.with(|runtime| runtime.tasks.borrow().len().saturating_add(runtime.ready.len()))
}

impl Runtime {
    fn spawn(&self, context: u32, root: u32, exchange: Option<Rc<Exchange>>, handler: Handler) {
        let ready = Arc::clone(&self.ready);
        let waker = Arc::new(TaskWaker { context, is_ready: AtomicBool::new(false), ready });
        let task = Task { root, handler: State::Waits(handler), exchange, waker };
        let before = self.tasks.borrow_mut().insert(context, task);
        abandon(before);
    }

    fn wake(&self, context: u32) {
        let waker = self.tasks.borrow().get(&context).map(|task| Arc::clone(&task.waker));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The root of a task that is ready. Those that have ended are taken off the list.
    fn ready_root(&self) -> Option<u32> {
        loop {
            let context = self.ready.first()?;
            let lives = |task: &&Task| !matches!(task.handler, State::Ended);
            if let Some(task) = self.tasks.borrow().get(&context).filter(lives) {
                return Some(task.root);
            }
            self.ready.pop();
        }
    }

    fn end_handler(&self, context: u32) {
        let handler = self
            .tasks
            .borrow_mut()
            .get_mut(&context)
            .map(|task| std::mem::replace(&mut task.handler, State::Ended));
        // What is dropped may call the host, or wake others.
        drop(handler);
    }

    /// Polls all tasks that are ready. The host is told what becomes of their streams, but for the sides
    /// whose callbacks run: these return it.
    fn run(&self, current: u32) {
        let mut effective = current;
        for polls in 0.. {
            if polls == MOST_POLLS {
                if let Some(root) = self.ready_root() {
                    timers::soon(root);
                }
                break;
            }
            let Some(context) = self.ready.pop() else { break };
            let Some(Taken { handler, root, exchange, waker }) = self.take(context) else {
                continue;
            };
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
            if let Some(exchange) = exchange {
                if let Some(outcome) = outcome {
                    exchange.finish(outcome);
                }
                exchange.settle();
            } else if let Some(Err(reply)) = outcome {
                log::error!("a background task ended with status {}", reply.status());
            }
        }
        if effective != current {
            // Only a host that has lost its own context refuses.
            let _ = host::set_effective_context(current);
        }
    }

    fn take(&self, context: u32) -> Option<Taken> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.get_mut(&context)?;
        task.waker.is_ready.store(false, Ordering::Relaxed);
        match std::mem::replace(&mut task.handler, State::Runs { is_woken: false }) {
            State::Waits(handler) => Some(Taken {
                handler,
                root: task.root,
                exchange: task.exchange.clone(),
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
        tasks.get(&waker.context).is_some_and(|task| task.runs(waker))
    }

    /// Says what becomes of a task that was polled, if it is still there; gives whether it was woken
    /// meanwhile.
    fn leave(&self, waker: &Arc<TaskWaker>, next: State) -> bool {
        let mut tasks = self.tasks.borrow_mut();
        let Some(task) = tasks.get_mut(&waker.context).filter(|task| task.runs(waker)) else {
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

/// Drops a task with its handler. What is dropped may call the host, or wake others.
fn abandon(task: Option<Task>) {
    if let Some(Task { exchange: Some(exchange), .. }) = &task {
        exchange.abandon();
    }
    drop(task);
}

/// The contexts of the tasks that are to be polled.
#[derive(Default)]
struct Ready(Mutex<VecDeque<u32>>);

impl Ready {
    fn push(&self, context: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(context);
    }

    fn first(&self) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).front().copied()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn pop(&self) -> Option<u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct TaskWaker {
    context: u32,
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
            self.ready.push(self.context);
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
