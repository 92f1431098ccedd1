//! One scenario for all guests, and what is held against the host.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use tollgate_abi::Reply;
use tollgate_host::engine::Module;
use tollgate_host::limits::Limits;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{Proxy as _, StartError};
use tollgate_host::run::play;
use tollgate_host::scenario::{FilterUse, HostName, Scenario};
use tollgate_host::transcript::Entry;

/// Little of everything, so that bounds are met.
pub(crate) const LIMITS: Limits = Limits {
    module_bytes: 1 << 20,
    memory_bytes: 1 << 20,
    table_elements: 1000,
    fuel_per_call: 200_000,
    // What ends by the clock does not end twice in the same place.
    time_per_call: Duration::from_mins(1),
    fuel_per_step: 2_000_000,
    ticks_per_step: 200,
    messages_at_once: 100,
    kept_bytes: 64 << 10,
    expression_bytes: 1 << 10,
    uncompressed_bytes: 64 << 10,
    transcript_bytes: 1 << 20,
};

/// The longest text that may be made of one failure.
const MOST_TOLD_BYTES: usize = 64 << 10;

const SCENARIO: &str = "
name: anything
filters: [ { filter: a }, { filter: b, config: { x: 1 } } ]
workers: 2
clusters: [authz, limits]
only: { on: [wasmtime], reason: guests that do anything }
steps:
  - request: { method: POST, path: /a?b, headers: [ [x-user, alice], [x-user, bob] ], body: [hel, lo], trailers: [ [x-sum, '5'] ] }
    upstream: { status: 201, headers: [ [x-made, '1'] ], body: [ma, de], trailers: [ [x-end, '1'] ], delay: 20ms }
    callouts:
      - { cluster: authz, answer: { status: 200, body: ok, delay: 5ms } }
      - { cluster: limits, answer_grpc: { messages: [ { hex: '0801' } ], status: 0 } }
  - advance: 1s
    callouts: [ { cluster: authz, never: true } ]
  - configure: { filter: 1, config: { x: 2 } }
  - request: {}
    upstream: { reset: true }
  - request: { method: HEAD, path: / }
    worker: 1
";

/// How much happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Proxies that started.
    pub started: usize,
    /// Host calls.
    pub calls: usize,
    /// Those that were refused.
    pub refused: usize,
    /// Traps.
    pub traps: usize,
    /// Scenarios that the host gave up.
    pub failures: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.started += other.started;
        self.calls += other.calls;
        self.refused += other.refused;
        self.traps += other.traps;
        self.failures += other.failures;
    }
}

/// Plays the scenario twice with guests of a module, and compares.
///
/// # Errors
///
/// What the host should not have done.
pub(crate) fn run(module: &Arc<dyn Module>) -> Result<Tally, String> {
    let (tally, first) = once(module)?;
    let (_, second) = once(module)?;
    match first.iter().zip(&second).find(|(first, second)| first != second) {
        Some((first, second)) => Err(format!("not the same again: {first}\nthen {second}")),
        None if first.len() != second.len() => Err("not as much again".into()),
        None => Ok(tally),
    }
}

/// What happened, and the transcript as text.
fn once(module: &Arc<dyn Module>) -> Result<(Tally, Vec<String>), String> {
    let scenario = Scenario::parse(SCENARIO).map_err(|error| error.to_string())?;
    let loader = |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> { Ok(Arc::clone(module)) };
    let host = Offline::new(HostName::Wasmtime, &loader).with_limits(LIMITS);
    let mut tally = Tally::default();
    let (told, transcript) = match host.start_recorded(&scenario) {
        Ok(mut proxy) => {
            tally.started = 1;
            let failures = play(&scenario, &mut proxy);
            tally.failures = failures.len();
            let footprint = proxy.footprint().unwrap_or_default();
            let ended = proxy.end().map_err(|failure| failure.to_string());
            let mut told: Vec<String> = failures.iter().map(ToString::to_string).collect();
            told.push(format!("{footprint:?} {ended:?}"));
            (told, proxy.take_transcript())
        }
        Err((error, transcript)) => (vec![error.to_string()], transcript),
    };
    for text in &told {
        if text.len() > MOST_TOLD_BYTES {
            return Err(format!("{} bytes are told of one failure", text.len()));
        }
    }
    for entry in &transcript {
        match entry {
            Entry::Call { call, reply } => {
                tally.calls += 1;
                let why = match reply {
                    Reply::Done(_) => continue,
                    Reply::Refused { why, .. }
                    | Reply::Untimely { why, .. }
                    | Reply::Failed { why, .. }
                    | Reply::Trap { why } => why,
                };
                tally.refused += 1;
                if !why.contains(' ') {
                    return Err(format!("{call} was refused without a reason: {reply}"));
                }
            }
            Entry::Fault { .. } => tally.refused += 1,
            Entry::Trap(_) => tally.traps += 1,
            Entry::Note(_) | Entry::Enter { .. } | Entry::Return { .. } => {}
        }
    }
    let lines = transcript.iter().map(ToString::to_string);
    Ok((tally, lines.chain(told).collect()))
}
