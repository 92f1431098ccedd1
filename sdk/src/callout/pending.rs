//! Calls whose answers are awaited, by the token that the host gave.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

thread_local! {
    static PENDING: RefCell<BTreeMap<Token, Rc<RefCell<Inbox>>>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// What a host calls a call by. Only on Envoy no call of one kind has the number of one of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    Http(u32),
    Grpc(u32),
}

/// What has come for a call and was not taken yet.
#[derive(Default)]
struct Inbox {
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

/// What comes for a call, read while the host showed it.
pub(super) enum Event {
    /// All there is of an HTTP call.
    Answered(Result<super::HttpReply, super::CalloutError>),
    /// Metadata before the first message.
    InitialMetadata(crate::headers::Headers),
    /// A message.
    Message(Vec<u8>),
    /// Metadata after the last message.
    TrailingMetadata(crate::headers::Headers),
    /// The end of a gRPC call or stream.
    Closed { code: u32, message: String },
    /// What came could not be read.
    Unreadable(crate::host_error::HostError),
}

/// A call whose answer is awaited. When it is dropped, what comes for it goes nowhere.
pub(super) struct Pending {
    token: Token,
    inbox: Rc<RefCell<Inbox>>,
}

impl Pending {
    /// Awaits what comes for a token.
    pub(super) fn new(token: Token) -> Self {
        let inbox = Rc::<RefCell<Inbox>>::default();
        PENDING.with_borrow_mut(|pending| pending.insert(token, Rc::clone(&inbox)));
        Self { token, inbox }
    }

    /// The next event.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Event> {
        let mut inbox = self.inbox.borrow_mut();
        if let Some(event) = inbox.events.pop_front() {
            return Poll::Ready(event);
        }
        inbox.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Natively a thread may end with its tasks, and has no list by then.
        let inbox = PENDING.try_with(|pending| {
            let mut pending = pending.borrow_mut();
            // The host may have given the token anew.
            let is_own = pending.get(&self.token).is_some_and(|own| Rc::ptr_eq(own, &self.inbox));
            if is_own { pending.remove(&self.token) } else { None }
        });
        drop(inbox);
    }
}

/// How many calls are awaited.
pub(crate) fn kept() -> usize {
    PENDING.with_borrow(BTreeMap::len)
}

/// Whether anybody waits for a token.
pub(super) fn is_awaited(token: Token) -> bool {
    PENDING.with_borrow(|pending| pending.contains_key(&token))
}

/// Hands over what has come for a token.
pub(super) fn deliver(token: Token, event: Event) {
    let inbox = PENDING.with_borrow(|pending| pending.get(&token).cloned());
    let Some(inbox) = inbox else { return };
    let waker = {
        let mut inbox = inbox.borrow_mut();
        inbox.events.push_back(event);
        inbox.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}
