//! Messages of queues: none is lost, none is waited for by asking again and again, and whoever began to
//! wait last is told.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tollgate::config::NoConfig;
use tollgate::state::{Inbox, Queue};
use tollgate::{
    CallbackKind, ConfigureError, Filter, InBackground, OnMessages, Registration, Root,
    registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, Reply, Status};

use tollgate_host_native::{Scripted, on_this_thread};

const ROOT: u32 = 1;
const QUEUE: u32 = 7;

/// Takes messages and says so. `again` leaves another that says `again`, `one more` leaves `last`.
struct Taking {
    queue: Queue,
}

impl Filter for Taking {
    const NAME: &'static str = "taking";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, root: &Root) -> Result<Self, ConfigureError> {
        Ok(Self { queue: root.state("demo", 1).queue("jobs") })
    }
}

impl OnMessages for Taking {
    async fn on_messages(&self, inbox: Inbox) {
        loop {
            match inbox.next(&self.queue).await {
                Ok(message) => {
                    tollgate::log::info!("{}", String::from_utf8_lossy(&message));
                    match message.as_slice() {
                        b"again" => self.queue.push(b"again").unwrap(),
                        b"one more" => self.queue.push(b"last").unwrap(),
                        _ => {}
                    }
                }
                Err(error) => tollgate::log::warn!("{error}"),
            }
        }
    }
}

/// A host with one queue.
#[derive(Default)]
struct Inside {
    messages: RefCell<VecDeque<Vec<u8>>>,
    is_registered: Cell<bool>,
    /// What it is asked, and what the guest says of it.
    done: RefCell<Vec<String>>,
    period: Cell<u32>,
    in_effect: Cell<u32>,
    refuses: Cell<bool>,
}

impl Inside {
    fn answer(&self, call: &Call) -> Reply {
        let note = |what: &str| self.done.borrow_mut().push(what.to_owned());
        match call {
            Call::RegisterSharedQueue { .. } => {
                note(&format!("register for {}", self.in_effect.get()));
                self.is_registered.set(true);
                Reply::Done(Answer::U32(QUEUE))
            }
            Call::ResolveSharedQueue { .. } if self.is_registered.get() => {
                Reply::Done(Answer::U32(QUEUE))
            }
            Call::EnqueueSharedQueue { queue: QUEUE, message } => {
                self.messages.borrow_mut().push_back(message.clone());
                Reply::OK
            }
            Call::DequeueSharedQueue { .. } if self.refuses.get() => {
                note("pop");
                Reply::refused(Status::InternalFailure, "")
            }
            Call::DequeueSharedQueue { queue: QUEUE } => {
                note("pop");
                match self.messages.borrow_mut().pop_front() {
                    Some(message) => Reply::Done(Answer::Bytes(message)),
                    None => Reply::refused(Status::Empty, ""),
                }
            }
            Call::SetTickPeriod { period_millis } => {
                self.period.set(*period_millis);
                Reply::OK
            }
            Call::SetEffectiveContext { context } => {
                self.in_effect.set(*context);
                Reply::OK
            }
            Call::Log { message, .. } => {
                let words = String::from_utf8_lossy(message).into_owned();
                note(words.strip_prefix("taking: ").unwrap_or(&words));
                Reply::OK
            }
            _ => match call.function() {
                Function::GetLogLevel => Reply::Done(Answer::U32(2)),
                Function::GetCurrentTime => Reply::Done(Answer::U64(0)),
                _ => Reply::refused(Status::NotFound, ""),
            },
        }
    }
}

/// A worker on such a host.
struct Worker {
    host: Rc<Inside>,
    filter: Registration,
}

impl Worker {
    fn call(&self, callback: Callback) {
        self.host.in_effect.set(callback.context());
        (self.filter.call)(callback);
    }

    fn configure(&self, context: u32) {
        self.call(Callback::ContextCreate { context, parent: 0 });
        self.call(Callback::Configure { context, configuration_size: 0 });
    }

    /// Its period is over.
    fn tick(&self, context: u32) -> Vec<String> {
        self.call(Callback::Tick { context });
        self.done()
    }

    fn told(&self, context: u32, queue: u32) -> Vec<String> {
        self.call(Callback::QueueReady { context, queue });
        self.done()
    }

    fn leave(&self, messages: &[&str]) {
        let messages = messages.iter().map(|message| message.as_bytes().to_vec());
        self.host.messages.borrow_mut().extend(messages);
    }

    fn done(&self) -> Vec<String> {
        self.host.done.take()
    }
}

fn play(course: impl FnOnce(&Worker)) {
    let host = Rc::new(Inside::default());
    let inside = Rc::clone(&host);
    on_this_thread(
        move |call| Scripted::Reply(inside.answer(call)),
        || {
            let filter = registration!(Taking);
            (filter.start)();
            let worker = Worker { host, filter };
            worker.configure(ROOT);
            course(&worker);
            for context in [ROOT, ROOT + 1] {
                worker.call(Callback::Delete { context });
            }
            assert_eq!((filter.kept)(), tollgate::__private::Kept::default());
        },
    );
}

#[test]
fn a_configuration_that_is_tried_out_touches_no_queue() {
    play(|worker| assert_eq!(worker.done(), [""; 0]));
}

#[test]
fn what_was_there_before_comes_first_and_then_it_is_waited_for() {
    play(|worker| {
        worker.host.is_registered.set(true);
        worker.leave(&["a", "b"]);
        // It registers once nothing is left, and looks once more.
        let first = ["pop", "a", "pop", "b", "pop", "register for 1", "pop"];
        assert_eq!(worker.tick(ROOT), first);
        worker.leave(&["c"]);
        assert_eq!(worker.told(ROOT, QUEUE), ["pop", "c", "pop", "register for 1", "pop"]);
    });
}

#[test]
fn a_message_that_comes_while_others_are_taken_is_taken_too() {
    play(|worker| {
        worker.tick(ROOT);
        worker.done();
        worker.leave(&["one more"]);
        let done = worker.told(ROOT, QUEUE);
        assert_eq!(done, ["pop", "one more", "pop", "last", "pop", "register for 1", "pop"]);
    });
}

#[test]
fn who_is_told_in_vain_looks_once_and_waits_on() {
    play(|worker| {
        worker.tick(ROOT);
        for _ in 0..3 {
            assert_eq!(worker.told(ROOT, QUEUE), ["pop"]);
        }
        assert_eq!(worker.told(ROOT, QUEUE + 1), [""; 0]);
        assert_eq!(worker.told(ROOT + 5, QUEUE), [""; 0]);
    });
}

#[test]
fn who_is_not_told_finds_a_message_after_a_second() {
    play(|worker| {
        worker.tick(ROOT);
        assert_eq!(worker.host.period.get(), 1_000);
        assert_eq!(worker.tick(ROOT), ["pop"]);
        worker.leave(&["a"]);
        assert_eq!(worker.tick(ROOT), ["pop", "a", "pop", "register for 1", "pop"]);
    });
}

#[test]
fn a_queue_that_fills_itself_leaves_the_worker_to_others() {
    play(|worker| {
        worker.tick(ROOT);
        worker.done();
        worker.leave(&["again"]);
        let of_one = |done: Vec<String>| done.iter().filter(|what| *what == "again").count();
        assert_eq!(of_one(worker.told(ROOT, QUEUE)), 128);
        for _ in 0..3 {
            assert_eq!(worker.told(ROOT, QUEUE), [""; 0]);
            assert_eq!(worker.host.period.get(), 1);
            assert_eq!(of_one(worker.tick(ROOT)), 128);
        }
    });
}

#[test]
fn a_host_that_refuses_is_asked_again_after_a_second_and_not_before() {
    play(|worker| {
        worker.host.refuses.set(true);
        let refused = worker.tick(ROOT);
        let [resolved, asked, said] = refused.as_slice() else { panic!("{refused:?}") };
        assert_eq!((resolved.as_str(), asked.as_str()), ("register for 1", "pop"));
        assert!(said.contains("proxy_dequeue_shared_queue"), "{said}");
        assert_eq!(worker.host.period.get(), 1_000);
        assert_eq!(worker.told(ROOT, QUEUE), [""; 0]);
        worker.host.refuses.set(false);
        worker.leave(&["a"]);
        assert_eq!(worker.tick(ROOT), ["pop", "a", "pop", "register for 1", "pop"]);
    });
}

#[test]
fn of_two_configurations_the_one_that_waits_last_is_told_until_it_ends() {
    play(|worker| {
        worker.tick(ROOT);
        worker.configure(ROOT + 1);
        let began = worker.tick(ROOT + 1);
        assert_eq!(began.last().unwrap(), "pop");
        assert!(began.contains(&"register for 2".to_owned()), "{began:?}");
        worker.leave(&["a"]);
        // The host tells whoever has registered last; the other does not look for it.
        assert_eq!(worker.told(ROOT + 1, QUEUE), ["pop", "a", "pop", "register for 2", "pop"]);
        worker.call(Callback::Delete { context: ROOT + 1 });
        worker.leave(&["b"]);
        assert_eq!(worker.told(ROOT + 1, QUEUE), [""; 0]);
        assert_eq!(worker.tick(ROOT), ["pop", "b", "pop", "register for 1", "pop"]);
    });
}

/// Waits for nothing that comes in a queue.
struct Idle;

impl Filter for Idle {
    const NAME: &'static str = "idle";
    type Config = NoConfig;
    type Stream = ();

    fn configure(_: NoConfig, _: &Root) -> Result<Self, ConfigureError> {
        Ok(Self)
    }
}

impl InBackground for Idle {
    async fn in_background(&self) {}
}

#[test]
fn only_a_filter_that_takes_messages_is_told_of_them() {
    let is_told = |filter: Registration| (filter.callbacks)().contains(&CallbackKind::QueueReady);
    assert!(is_told(registration!(Taking)));
    assert!(!is_told(registration!(Idle)));
    assert!(is_told(registration!("both" = { "taking" => Taking, "idle" => Idle })));
}
