//! One call for all who ask the same at the same time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Calls of one worker that are under way, by what they ask for.
///
/// Who asks first calls; who asks meanwhile waits and gets a copy of the answer. When the stream of the
/// one who calls ends before the answer has come, one of those who wait calls anew.
///
/// # Examples
///
/// ```
/// use tollgate::callout::{CalloutError, HttpCall, SingleFlight};
///
/// async fn keys(flights: &SingleFlight<String, Result<Vec<u8>, CalloutError>>, issuer: &str)
/// -> Result<Vec<u8>, CalloutError> {
///     let fetch = async || {
///         let call = HttpCall::get("keys", format!("/{issuer}/jwks.json"));
///         Ok(call.send().await?.body)
///     };
///     flights.run(issuer.to_owned(), fetch).await
/// }
/// ```
#[derive(Debug)]
pub struct SingleFlight<K, V> {
    flights: RefCell<HashMap<K, Rc<Flight<V>>>>,
}

#[derive(Debug)]
struct Flight<V> {
    state: RefCell<State<V>>,
    waiting: RefCell<Vec<Waker>>,
}

#[derive(Debug)]
enum State<V> {
    /// Somebody calls.
    Calling,
    /// Who called is gone.
    Abandoned,
    Answered(V),
}

impl<V> Flight<V> {
    fn set(&self, state: State<V>) {
        let before = self.state.replace(state);
        drop(before);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self { flights: RefCell::new(HashMap::new()) }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> SingleFlight<K, V> {
    /// No calls.
    pub fn new() -> Self {
        Self::default()
    }

    /// The answer to `call`, or to that of another who has asked for the same and is still waiting.
    pub async fn run(&self, key: K, call: impl AsyncFnOnce() -> V) -> V {
        let flight = self.flights.borrow().get(&key).cloned();
        if let Some(flight) = flight {
            let waiter = Waiter { flights: self, key: &key, flight };
            if let Some(answer) = poll_fn(|context| waiter.flight.poll(context)).await {
                return answer;
            }
        } else {
            let flight =
                Flight { state: RefCell::new(State::Calling), waiting: RefCell::default() };
            self.flights.borrow_mut().insert(key.clone(), Rc::new(flight));
        }
        let lead = Lead { flights: self, key };
        let answer = call().await;
        lead.end(State::Answered(answer.clone()));
        answer
    }
}

impl<K: Eq + Hash, V> SingleFlight<K, V> {
    /// Drops a flight that only the list and `last` know of.
    fn forget_unawaited(&self, key: &K, last: &Rc<Flight<V>>) {
        if Rc::strong_count(last) <= 2 {
            let flight = self.flights.borrow_mut().remove(key);
            drop(flight);
        }
    }
}

impl<V: Clone> Flight<V> {
    /// The answer; `None`: whoever asks has to call.
    fn poll(&self, context: &Context<'_>) -> Poll<Option<V>> {
        let mut state = self.state.borrow_mut();
        match &*state {
            State::Answered(answer) => Poll::Ready(Some(answer.clone())),
            State::Abandoned => {
                *state = State::Calling;
                Poll::Ready(None)
            }
            State::Calling => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Whoever waits for the answer to another's call.
struct Waiter<'a, K: Eq + Hash, V> {
    flights: &'a SingleFlight<K, V>,
    key: &'a K,
    flight: Rc<Flight<V>>,
}

impl<K: Eq + Hash, V> Drop for Waiter<'_, K, V> {
    fn drop(&mut self) {
        if matches!(*self.flight.state.borrow(), State::Abandoned) {
            self.flights.forget_unawaited(self.key, &self.flight);
        }
    }
}

/// Whoever calls for all.
struct Lead<'a, K: Eq + Hash, V> {
    flights: &'a SingleFlight<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Lead<'_, K, V> {
    fn end(&self, state: State<V>) {
        let flight = self.flights.flights.borrow_mut().remove(&self.key);
        if let Some(flight) = flight {
            flight.set(state);
        }
    }
}

impl<K: Eq + Hash, V> Drop for Lead<'_, K, V> {
    fn drop(&mut self) {
        // After an answer there is no flight any more, or one of somebody else.
        let flights = self.flights.flights.borrow();
        if let Some(flight) = flights.get(&self.key).map(Rc::clone) {
            drop(flights);
            flight.set(State::Abandoned);
            self.flights.forget_unawaited(&self.key, &flight);
        }
    }
}
