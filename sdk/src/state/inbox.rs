//! Waiting for the messages of queues.
//!
//! The host tells one root of one worker that a message has come: the one that has registered the queue
//! last. So whoever finds a queue empty registers it before it waits, and looks once more: what came
//! between the two was told to another. Whoever waits last is told, and what is there is found by
//! whoever looks, told or not.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::queue::{Queue, QueueError};
use crate::runtime::{running, sleep, timeout};

/// How long is waited before a queue is looked at untold. The worker that is told may have trapped
/// since, of which no other hears.
const LOOKS_AGAIN: Duration = Duration::from_secs(1);

/// How many messages are handed over before other work of the proxy comes first.
const MOST_IN_A_ROW: u32 = 128;

thread_local! {
    static WAITING: RefCell<Vec<Rc<Wait>>> = const { RefCell::new(Vec::new()) };
}

/// Where the messages of queues arrive. A filter gets it in
/// [`OnMessages`](crate::OnMessages::on_messages): only a module that says so is called when a message
/// has come.
#[derive(Debug)]
pub struct Inbox {
    in_a_row: Cell<u32>,
    /// What the next message has to wait for.
    pause: Cell<Option<Duration>>,
}

impl Inbox {
    pub(crate) const fn new() -> Self {
        Self { in_a_row: Cell::new(0), pause: Cell::new(None) }
    }

    /// Waits for a message, and takes it. What was in the queue before comes first, in its order.
    ///
    /// Of all workers that wait, the one that began last is told of a message. The others look once a
    /// second, so that messages outlive a worker that has trapped; with a
    /// [`Lease`](super::Lease) one of them waits at a time. A message is taken when it is handed over: it
    /// is lost when the worker traps before it is dealt with, and never handed over twice.
    ///
    /// A wait that is dropped, as [`timeout`](crate::timeout) does, has taken nothing.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the host refuses. The next message is then waited for after a second.
    pub async fn next(&self, queue: &Queue) -> Result<Vec<u8>, QueueError> {
        if let Some(pause) = self.pause.take() {
            sleep(pause).await;
        }
        let message = self.take(queue).await;
        self.in_a_row.set(self.in_a_row.get().saturating_add(1));
        if message.is_err() {
            self.pause.set(Some(LOOKS_AGAIN));
        } else if self.in_a_row.get() >= MOST_IN_A_ROW {
            self.in_a_row.set(0);
            self.pause.set(Some(Duration::ZERO));
        }
        message
    }

    async fn take(&self, queue: &Queue) -> Result<Vec<u8>, QueueError> {
        if let Some(message) = queue.pop()? {
            return Ok(message);
        }
        let waiting = Waiting::begin(queue.take_over()?);
        loop {
            if let Some(message) = queue.pop()? {
                return Ok(message);
            }
            // Told or not, the queue is looked at.
            let _ = timeout(LOOKS_AGAIN, waiting.told()).await;
            self.in_a_row.set(0);
        }
    }
}

/// The host has told a root that a message is in a queue.
pub(crate) fn ready(root: u32, token: u32) {
    let waiting: Vec<Rc<Wait>> = WAITING.with_borrow(|waiting| {
        waiting.iter().filter(|wait| wait.root == root && wait.token == token).cloned().collect()
    });
    for wait in waiting {
        wait.is_told.set(true);
        let waker = wait.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// How many tasks wait for a message.
pub(crate) fn kept() -> usize {
    WAITING.with_borrow(Vec::len)
}

/// A task that waits for a message.
#[derive(Debug)]
struct Wait {
    root: u32,
    token: u32,
    is_told: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A place in the list of those who wait, until it is dropped.
struct Waiting(Rc<Wait>);

impl Waiting {
    fn begin(token: u32) -> Self {
        let root = running().map_or(0, |task| task.root);
        let wait =
            Rc::new(Wait { root, token, is_told: Cell::new(false), waker: RefCell::default() });
        WAITING.with_borrow_mut(|waiting| waiting.push(Rc::clone(&wait)));
        Self(wait)
    }

    async fn told(&self) {
        poll_fn(|context| {
            if self.0.is_told.take() {
                return Poll::Ready(());
            }
            let before = self.0.waker.replace(Some(context.waker().clone()));
            drop(before);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Natively a thread may end with its tasks, and has no list by then.
        let _ = WAITING.try_with(|waiting| {
            waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.0));
        });
    }
}
