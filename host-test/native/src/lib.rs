//! The null engine: a filter linked natively runs on the host core, without WebAssembly.
//!
//! It defines the host functions that a filter imports and calls the filter back, so that filter, SDK
//! and host are one program: for `cargo test`, coverage, debuggers and fuzzers.
//! Each instance has a thread of its own, which stands for the memory of a VM: what a filter keeps in
//! thread-locals is gone with it. A panic in the filter ends the process, with its message and
//! backtrace.

mod glue;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tollgate_abi::{AbiVersion, Call, Callback, CallbackKind, Reply};
use tollgate_host::engine::{CodeId, Instance, Module, Trap};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::StartError;
use tollgate_host::report::Verdict;
use tollgate_host::run::run;
use tollgate_host::scenario::{FilterUse, HostName, Scenario};
use tollgate_host::world::World;

use glue::{Host, with_host};

/// Runs `guest` on a thread of its own, which stands for the memory of a VM, with `host` answering its
/// host calls: for tests that need a host of their own making.
///
/// # Panics
///
/// When `guest` panics.
pub fn on_host<T: Send + 'static>(
    host: impl FnMut(&Call) -> Reply + Send + 'static,
    guest: impl FnOnce() -> T + Send + 'static,
) -> T {
    let guest = thread::spawn(move || with_host(Host::Scripted(Box::new(host)), guest).1);
    match guest.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
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

/// Plays every scenario of a folder on `filter`, and says what was not as expected.
///
/// # Errors
///
/// One line per failure; also when the folder holds no scenario that could run.
pub fn check_scenarios(folder: &Path, filter: Filter) -> Result<usize, String> {
    let loader =
        move |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> { Ok(Arc::new(filter)) };
    let host = Offline::new(HostName::Native, &loader);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    let (mut passed, mut failures) = (0, Vec::new());
    for file in files {
        let name = file.display();
        match Scenario::read(&file) {
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok(scenario) => match run(&scenario, &host) {
                Err(error) => failures.push(format!("{name}: {error}")),
                Ok(Verdict::Passed) => passed += 1,
                Ok(Verdict::Skipped { reason }) => println!("skipped {name}: {reason}"),
                Ok(Verdict::Failed { failures: found }) => {
                    failures.extend(found.iter().map(|failure| format!("{name}: {failure}")));
                }
            },
        }
    }
    match (passed, failures.is_empty()) {
        (0, true) => Err(format!("{}: no scenario ran", folder.display())),
        (_, true) => Ok(passed),
        (_, false) => Err(failures.join("\n")),
    }
}

/// A guest on its thread.
struct Guest {
    jobs: Sender<(Box<World>, Job)>,
    results: Receiver<(Box<World>, u32)>,
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
                    Job::Start => {
                        (filter.start)();
                        0
                    }
                    Job::Call(callback) => (filter.call)(callback),
                });
                let Some(Host::World(world)) = host else { return };
                if outbox.send((world, word)).is_err() {
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

    fn run(&mut self, world: &mut World, job: Job) -> Result<u32, Trap> {
        let gone = || trap("the thread of the guest is gone".into());
        self.jobs.send((Box::new(std::mem::take(world)), job)).map_err(|_| gone())?;
        let (returned, word) = self.results.recv().map_err(|_| gone())?;
        *world = *returned;
        Ok(word)
    }
}

impl Instance for Guest {
    fn start(&mut self, world: &mut World) -> Result<(), Trap> {
        self.run(world, Job::Start).map(|_| ())
    }

    fn call(&mut self, world: &mut World, callback: &Callback) -> Result<u32, Trap> {
        self.run(world, Job::Call(*callback))
    }

    fn fuel_used(&self) -> Option<u64> {
        None
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

fn trap(message: String) -> Trap {
    Trap { message, backtrace: Vec::new() }
}
