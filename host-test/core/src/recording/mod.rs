//! Recordings of proxies that ran: what came from outside, when, and what the proxies did because of it.
//!
//! A recording is lines of JSON. A line with `tollgate_recording` begins a session, of one proxy from its
//! start; each line below it is a [`Record`]. Lines are appended whole, so that of a proxy that was killed
//! all is there but the last thing. What filters take from chance and from the clocks is not recorded: the
//! host makes both out of the time of each record. Nothing here reads or writes files.

mod decision;
mod json;
mod redact;
mod replay;
mod told;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tollgate_abi::LogLevel;

use crate::engine::CodeId;
use crate::offline::{Input, Output};
use crate::scenario::{
    FilterSource, FilterUse, ImportAnswer, InvalidFilterSource, Scenario, check_import,
};

pub(crate) use json::{bytes, lines};
pub use redact::{REDACTED, Redaction};
pub use replay::{Changed, Refusal, Replayed, replay};
pub use written::{NotWritten, Written, as_scenario};

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;

/// How a session begins: a proxy, as it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The version of the format.
    #[serde(rename = "tollgate_recording")]
    version: u32,
    /// The chain of filters.
    pub filters: Vec<RecordedFilter>,
    /// How many workers it had.
    pub workers: NonZeroUsize,
    /// What its filters may call.
    pub clusters: Vec<String>,
    /// What imports answer that no host serves, as on the command line.
    pub imports: BTreeMap<String, String>,
    /// What the wall clock showed at its start, in nanoseconds since the Unix epoch.
    wall: u64,
    /// Headers whose values are not what came.
    pub redacted: Vec<String>,
}

/// A filter, with what tells its module from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedFilter {
    /// A built-in name, or a file.
    pub filter: String,
    /// Its configuration.
    #[serde(with = "bytes")]
    pub config: Vec<u8>,
    /// Whether headers that it holds are held alone.
    pub allow_on_headers_stop_iteration: bool,
    /// Which code its module is.
    pub code: u64,
    /// The name of its plugin, where that is not the filter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Root id of the plugin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub root_id: String,
    /// Id of its VM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vm_id: String,
    /// The configuration of its VM.
    #[serde(default, with = "bytes", skip_serializing_if = "Vec::is_empty")]
    pub vm_config: Vec<u8>,
    /// Environment variables of its VM.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

impl RecordedFilter {
    /// A filter whose module has this code.
    pub fn new(filter: &FilterUse, code: CodeId) -> Self {
        let plain = FilterUse::new(filter.source.clone(), Vec::new());
        Self {
            filter: filter.source.to_string(),
            config: filter.config.clone(),
            allow_on_headers_stop_iteration: filter.allow_on_headers_stop_iteration,
            code: code.number(),
            name: Some(filter.name.clone()).filter(|name| *name != plain.name),
            root_id: filter.root_id.clone(),
            vm_id: filter.vm_id.clone(),
            vm_config: filter.vm_config.clone(),
            environment: filter.environment.clone(),
        }
    }

    /// The filter as a proxy takes it.
    ///
    /// # Errors
    ///
    /// [`InvalidFilterSource`] when its name is none.
    pub fn to_use(&self) -> Result<FilterUse, InvalidFilterSource> {
        let source = FilterSource::parse(&self.filter)?;
        let plain = FilterUse::new(source, self.config.clone());
        Ok(FilterUse {
            name: self.name.clone().unwrap_or(plain.name),
            root_id: self.root_id.clone(),
            vm_id: self.vm_id.clone(),
            vm_config: self.vm_config.clone(),
            environment: self.environment.clone(),
            allow_on_headers_stop_iteration: self.allow_on_headers_stop_iteration,
            ..plain
        })
    }
}

/// Something that came from outside, and all that the proxy did because of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When, in nanoseconds since the start.
    at: u64,
    /// What came.
    #[serde(rename = "in")]
    pub input: Input,
    /// What the proxy did, in order.
    #[serde(rename = "out", default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// Counters and gauges that have another value than they had when one was told last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, u64>,
}

/// One proxy from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// How it began.
    pub head: Head,
    /// What came, in order.
    pub records: Vec<Record>,
}

impl Head {
    /// The begin of a session of a proxy that is started with `scenario`, at a time since the Unix epoch.
    pub fn new(
        scenario: &Scenario,
        codes: impl IntoIterator<Item = CodeId>,
        imports: BTreeMap<String, String>,
        wall: Duration,
        redacted: Vec<String>,
    ) -> Self {
        let filters = scenario.filters.iter().zip(codes);
        Self {
            version: VERSION,
            filters: filters.map(|(filter, code)| RecordedFilter::new(filter, code)).collect(),
            workers: scenario.workers,
            clusters: scenario.clusters.clone(),
            imports,
            wall: nanoseconds(wall),
            redacted,
        }
    }

    /// What the wall clock showed at the start, since the Unix epoch.
    pub fn wall(&self) -> Duration {
        Duration::from_nanos(self.wall)
    }

    /// The proxy as it was started.
    ///
    /// # Errors
    ///
    /// What cannot be started, in words that name the place.
    pub fn scenario(&self) -> Result<Scenario, String> {
        let filters: Vec<FilterUse> = self
            .filters
            .iter()
            .map(RecordedFilter::to_use)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("filters: {error}"))?;
        let first = filters.first().cloned().ok_or("filters: an empty list")?;
        let import = |(name, answer): (&String, &String)| {
            check_import(name)?;
            Ok::<_, String>((name.clone(), vec![ImportAnswer::parse(answer)?]))
        };
        let scenario = Scenario {
            filters,
            workers: self.workers,
            clusters: self.clusters.clone(),
            imports: self.imports.iter().map(import).collect::<Result<_, _>>()?,
            log_level: LogLevel::Info,
            ..Scenario::without_steps(first)
        };
        scenario.check().map_err(|error| error.to_string())?;
        Ok(scenario)
    }

    /// The line that begins the session.
    pub fn line(&self) -> String {
        line(self)
    }
}

impl Record {
    /// What came at a time since the start, before the proxy did anything.
    pub fn new(at: Duration, input: Input) -> Self {
        Self { at: nanoseconds(at), input, outputs: Vec::new(), metrics: BTreeMap::new() }
    }

    /// When, since the start.
    pub fn at(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    /// Its line.
    pub fn line(&self) -> String {
        line(self)
    }
}

impl Session {
    /// Reads the sessions of a recording. A line that breaks off is left out where its proxy was killed: at
    /// the end, and before a proxy that was started later.
    ///
    /// # Errors
    ///
    /// [`InvalidRecording`], with the line.
    pub fn read_all(text: &[u8]) -> Result<Vec<Self>, InvalidRecording> {
        let mut sessions: Vec<Self> = Vec::new();
        let mut broken: Option<InvalidRecording> = None;
        let lines = text.split(|&byte| byte == b'\n').enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let invalid = |why: String| InvalidRecording { line: index + 1, why };
            let mut begins = false;
            let read = match serde_json::from_slice::<Version>(line) {
                Ok(Version { version: VERSION }) => {
                    begins = true;
                    serde_json::from_slice(line)
                        .map(|head| sessions.push(Self { head, records: Vec::new() }))
                }
                Ok(Version { version }) => {
                    let why = format!("tollgate_recording: {version}, and only {VERSION} is read");
                    return Err(invalid(why));
                }
                Err(_) => match sessions.last_mut() {
                    Some(session) => serde_json::from_slice(line)
                        .map(|record: Record| session.records.push(record)),
                    None => {
                        return Err(invalid("no recording: it has no tollgate_recording".into()));
                    }
                },
            };
            if let (Some(error), false) = (broken.take(), begins) {
                return Err(error);
            }
            broken = read.err().map(|error| invalid(error.to_string()));
        }
        match (broken, text.last()) {
            (Some(error), Some(b'\n')) => Err(error),
            _ => Ok(sessions),
        }
    }
}

/// What tells the first line of a session from all others.
#[derive(Deserialize)]
struct Version {
    #[serde(rename = "tollgate_recording")]
    version: u32,
}

/// A text that is no recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRecording {
    line: usize,
    why: String,
}

impl fmt::Display for InvalidRecording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for InvalidRecording {}

/// Nanoseconds in 64 bits, which last 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is recorded has text for keys, and so can always be written.
fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
