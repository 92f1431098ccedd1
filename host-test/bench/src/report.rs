//! What was measured, as one document.

use std::collections::BTreeMap;

use serde::Serialize;
use tollgate_host::scenario::HostName;

use crate::Spread;

/// What was measured of all subjects, in one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub on: HostName,
    /// How many rounds there were.
    pub rounds: usize,
    /// On Envoy: processor time of a request without a filter, in microseconds, over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_micros: Option<Spread>,
    /// Each subject, in order.
    pub targets: Vec<Target>,
}

/// What was measured of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// How many requests were timed.
    pub requests: u64,
    /// What clients got, by status, and how often in the requests that were looked at.
    pub answers: BTreeMap<String, u64>,
    /// Processor time per request in microseconds, over the rounds: offline of the host with its guests, on
    /// Envoy of its process, over a listener without the filter.
    pub micros: Spread,
    /// The time in proportion to the first subject's; over the rounds offline, on Envoy of the medians.
    pub ratio: Spread,
    /// The time per request in microseconds, round by round.
    pub micros_by_round: Vec<f64>,
    /// What only the offline host can tell.
    #[serde(flatten)]
    pub inside: Option<Inside>,
}

/// What the offline host tells of a subject. Figures are per request, over all requests of the subject.
#[derive(Clone, Debug, Serialize)]
pub struct Inside {
    /// How long it takes to begin.
    pub start: Starting,
    /// Fuel, about one unit per instruction.
    pub fuel: f64,
    /// Calls and bytes, of all functions.
    pub traffic: Traffic,
    /// The same by function, the most frequent first.
    pub functions: Vec<FunctionCost>,
    /// Each callback, in the order of the table.
    pub callbacks: Vec<CallbackCost>,
    /// The memory of the largest guest.
    pub memory: Memory,
}

/// How long it takes to begin, in milliseconds: medians.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Starting {
    /// Compiling all modules of the chain.
    pub compile_millis: f64,
    /// Taking them from the cache.
    pub load_millis: f64,
    /// Making, starting and configuring the guests of a proxy with one worker.
    pub start_millis: f64,
}

/// Host calls and the bytes that were copied for them; texts, maps and buffers count, numbers do not.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Traffic {
    /// Host calls.
    pub host_calls: f64,
    /// Bytes out of the guest's memory.
    pub bytes_from_guest: f64,
    /// Bytes into the guest's memory.
    pub bytes_to_guest: f64,
}

/// A host function.
#[derive(Clone, Debug, Serialize)]
pub struct FunctionCost {
    /// Its name.
    pub function: &'static str,
    /// How often it is called, with how many bytes.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// A callback.
#[derive(Clone, Debug, Serialize)]
pub struct CallbackCost {
    /// Its name.
    pub callback: &'static str,
    /// How often it runs.
    pub times: f64,
    /// How long it runs, in microseconds, over the rounds. Timing it takes time too, so that all together are
    /// more than their part of a request.
    pub micros: Spread,
    /// Fuel.
    pub fuel: f64,
    /// What it asks of the host.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Linear memory in bytes; none where the engine has none of its own.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Once it is configured.
    pub start_bytes: Option<u64>,
    /// Once it is warm.
    pub warm_bytes: Option<u64>,
    /// At the end.
    pub end_bytes: Option<u64>,
    /// How many requests it has served by then.
    pub requests: u64,
}

impl Memory {
    /// Whether it did not grow any more once it was warm.
    pub fn is_flat(&self) -> bool {
        self.warm_bytes == self.end_bytes
    }
}
