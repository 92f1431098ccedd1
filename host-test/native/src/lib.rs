//! The null engine: a filter linked natively runs on the host core, without WebAssembly.
//!
//! It defines the host functions that a filter imports and calls the filter back, so that filter, SDK
//! and host are one program: for `cargo test`, coverage, debuggers and fuzzers.
//! Each instance has a thread of its own, which stands for the memory of a VM: what a filter keeps in
//! thread-locals is gone with it. A panic in the filter is written with its backtrace, as in any test,
//! and is a trap: the VM is gone, and the proxy goes on without it.

mod glue;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tollgate_abi::{AbiVersion, Call, Callback, CallbackKind, Reply, Status};
use tollgate_host::engine::{CodeId, Instance, Module, Trap};
use tollgate_host::world::World;

pub use glue::Scripted;
use glue::{Host, with_host};

/// Runs `guest` on a thread of its own, which stands for the memory of a VM, with `host` answering its
/// host calls: for tests that need a host of their own making. A host that calls the guest back while it
/// answers is [`on_reentrant_host`]'s.
///
/// # Panics
///
/// When `guest` panics.
pub fn on_host<T: Send + 'static>(
    host: impl FnMut(&Call) -> Reply + Send + 'static,
    guest: impl FnOnce() -> T + Send + 'static,
) -> T {
    let host = RefCell::new(host);
    let host = move |call: &Call| match host.try_borrow_mut() {
        Ok(mut host) => host(call),
        Err(_) => Reply::refused(Status::InternalFailure, "the host answers another call"),
    };
    on_reentrant_host(host, guest)
}

/// As [`on_host`], with a host that may call the guest back in the middle of a host call.
///
/// # Panics
///
/// When `guest` panics.
pub fn on_reentrant_host<T: Send + 'static>(
    host: impl Fn(&Call) -> Reply + Send + 'static,
    guest: impl FnOnce() -> T + Send + 'static,
) -> T {
    let host = move |call: &Call| Scripted::Reply(host(call));
    let guest = thread::spawn(move || with_host(Host::Scripted(Rc::new(host)), guest).1);
    match guest.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs `guest` on this thread, with `host` answering its host calls, also those that the guest makes
/// when `host` calls it back: for tests that need many guests, or a host that calls back.
///
/// What the guest keeps in thread-locals stays.
pub fn on_this_thread<T>(
    host: impl Fn(&Call) -> Scripted + 'static,
    guest: impl FnOnce() -> T,
) -> T {
    with_host(Host::Scripted(Rc::new(host)), guest).1
}

/// A filter that is linked into this program.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// What the module's start function does.
    pub start: fn(),
    /// Runs a callback on the state of this thread, and gives what it returned; 0 for nothing.
    pub call: fn(Callback) -> u32,
    /// The callbacks that it implements.
    pub callbacks: fn() -> Vec<CallbackKind>,
}

impl Module for Filter {
    fn code(&self) -> CodeId {
        CodeId::of(&(self.start, self.call))
    }

    fn abi(&self) -> AbiVersion {
        AbiVersion::V0_2_1
    }

    fn exports(&self, callback: CallbackKind) -> bool {
        (self.callbacks)().contains(&callback)
    }

    fn instantiate(&self) -> Result<Box<dyn Instance>, Trap> {
        Ok(Box::new(Guest::new(*self)?))
    }
}

/// A guest on its thread.
struct Guest {
    jobs: Sender<(Box<World>, Job)>,
    results: Receiver<(Box<World>, Result<u32, Trap>)>,
}

enum Job {
    Start,
    Call(Callback),
}

impl Guest {
    fn new(filter: Filter) -> Result<Self, Trap> {
        let (jobs, inbox) = channel::<(Box<World>, Job)>();
        let (outbox, results) = channel();
        let guest = move || {
            for (world, job) in inbox {
                let (host, word) = with_host(Host::World(world), || match job {
                    Job::Start => caught(|| {
                        (filter.start)();
                        0
                    }),
                    Job::Call(callback) => caught(|| (filter.call)(callback)),
                });
                let Some(Host::World(world)) = host else { return };
                let has_trapped = word.is_err();
                if outbox.send((world, word)).is_err() || has_trapped {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("guest".into())
            .spawn(guest)
            .map_err(|error| trap(format!("the thread of the guest did not start: {error}")))?;
        Ok(Self { jobs, results })
    }

    fn run(&mut self, world: &mut Box<World>, job: Job) -> Result<u32, Trap> {
        let gone = || trap("the thread of the guest is gone".into());
        self.jobs.send((std::mem::take(world), job)).map_err(|_| gone())?;
        let (returned, word) = self.results.recv().map_err(|_| gone())?;
        *world = returned;
        word
    }
}

impl Instance for Guest {
    fn start(&mut self, world: &mut Box<World>) -> Result<(), Trap> {
        self.run(world, Job::Start).map(|_| ())
    }

    fn call(&mut self, world: &mut Box<World>, callback: &Callback) -> Result<u32, Trap> {
        self.run(world, Job::Call(*callback))
    }

    fn fuel_used(&self) -> Option<u64> {
        None
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

/// Runs a callback; a panic in it is a trap. Nothing of the filter runs afterwards but what its thread
/// drops.
fn caught(guest: impl FnOnce() -> u32) -> Result<u32, Trap> {
    catch_unwind(AssertUnwindSafe(guest)).map_err(|panic| {
        let words = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(words), _) => words,
            (None, Some(words)) => words.as_str(),
            (None, None) => "without a message",
        };
        trap(format!("panicked: {words}"))
    })
}

fn trap(message: String) -> Trap {
    Trap { message, backtrace: Vec::new() }
}
