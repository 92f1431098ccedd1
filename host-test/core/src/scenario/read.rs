//! Scenarios from YAML: strict, with line and column in every error.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer};
use tollgate_abi::{Function, Status};

use super::callout::RawCallout;
use super::code::check_callouts;
use super::configure::RawConfigure;
use super::configured::{Configured, RawProperties};
use super::connection::{ConnectionStep, RawEvent, Traffic};
use super::expect::{
    Budget, Expectation, ExpectedLog, ExpectedOutcome, ExpectedRequest, ExpectedResponse,
    ExpectedUpstream, HeaderExpectations,
};
use super::from::RawFilters;
use super::imports::RawImports;
use super::together::{self, RawTimed, Together};
use super::value::{Bytes, ClockStep, Matcher, Span};
use super::written::{Body, Level, Name, WordOr};
use super::{
    AdvanceStep, Answer, BUFFER_LIMIT, ConfigureStep, Fault, FilterSource, FilterUse, HeaderLine,
    HostName, Only, PlannedCallout, Request, RequestStep, Scenario, Step, Upstream,
};
use crate::profile::Profile;
use crate::yaml::{self, InvalidYaml};

const MOST_REPEATS: usize = 1_000_000;

impl Scenario {
    /// Reads a scenario file. Paths in it are relative to its folder.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the file cannot be read, is not UTF-8 or is not a scenario.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let bytes = std::fs::read(path).map_err(ReadError::Io)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            let last_line = before.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
            let line = before.split(|&byte| byte == b'\n').count();
            ReadError::NotUtf8 { line, column: last_line.len() + 1 }
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        yaml::parse_seed(&text, Within { folder }).map_err(ReadError::Invalid)
    }

    /// Reads a scenario from its text.
    ///
    /// # Errors
    ///
    /// [`InvalidYaml`] with line, column and the lines around it.
    pub fn parse(text: &str) -> Result<Self, InvalidYaml> {
        yaml::parse(text)
    }
}

/// Why a scenario file could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be read.
    Io(io::Error),
    /// The file is not UTF-8.
    NotUtf8 {
        /// Line of the first wrong byte, counted from 1.
        line: usize,
        /// Column of the first wrong byte, counted in bytes from 1.
        column: usize,
    },
    /// The file is not a scenario.
    Invalid(InvalidYaml),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::NotUtf8 { line, column } => write!(
                f,
                "line {line} column {column}: not UTF-8; write such bytes as {{ hex: \"ff\" }}"
            ),
            Self::Invalid(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// The bytes that a filter gets for a configuration that was written in YAML: JSON. Text goes as it is, so
/// that one can say what is not JSON at all, and nothing is no bytes.
pub fn configuration(value: serde_json::Value) -> Vec<u8> {
    match value {
        serde_json::Value::Null => Vec::new(),
        serde_json::Value::String(text) => text.into_bytes(),
        value => value.to_string().into_bytes(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    name: String,
    #[serde(default)]
    protocol: Traffic,
    filters: RawFilters,
    #[serde(default = "one")]
    workers: NonZeroUsize,
    #[serde(default)]
    clusters: Vec<String>,
    #[serde(default)]
    log_level: Level,
    buffer_limit: Option<NonZeroUsize>,
    #[serde(default)]
    proxy: Configured,
    #[serde(default)]
    properties: RawProperties,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    profile: Profile,
    #[serde(default)]
    imports: RawImports,
    only: Option<RawOnly>,
    refused: Option<String>,
    #[serde(default)]
    steps: Vec<RawStep>,
}

impl<'de> Deserialize<'de> for Scenario {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Within { folder: Path::new("") }.deserialize(deserializer)
    }
}

/// A scenario whose files are relative to a folder.
struct Within<'a> {
    folder: &'a Path,
}

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = Scenario;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scenario, D::Error> {
        let raw = RawScenario::deserialize(deserializer)?;
        raw.check(self.folder).map_err(de::Error::custom)
    }
}

impl RawScenario {
    fn check(self, folder: &Path) -> Result<Scenario, String> {
        if self.filters.is_empty() {
            return Err("filters: an empty list; name at least one filter".into());
        }
        if self.refused.as_ref().is_some_and(|words| words.trim().is_empty()) {
            return Err("refused: empty; write words that the proxy must say".into());
        }
        match (&self.refused, self.steps.is_empty()) {
            (Some(_), false) => {
                return Err(
                    "a proxy that refuses to start takes no steps; remove steps or refused".into(),
                );
            }
            (None, true) => {
                return Err("steps: missing; write at least one step, or refused".into());
            }
            (Some(_), true) | (None, false) => {}
        }
        let only = self.only.map(RawOnly::check).transpose()?;
        let (filters, left) = self.filters.check(folder)?;
        let steps: Vec<Step> =
            self.steps.into_iter().map(|step| step.check(&filters)).collect::<Result<_, _>>()?;
        let on_envoy = only.as_ref().is_none_or(|only| only.on.contains(&HostName::Envoy));
        if on_envoy && !self.properties.0.is_empty() {
            return Err("properties: a real Envoy cannot be told what it knows; \
                        add only: { on: [wasmtime, native], reason: … }"
                .into());
        }
        if on_envoy && self.profile != Profile::Envoy {
            return Err("profile: a real Envoy is no other host; \
                        add only: { on: [wasmtime, native], reason: … }"
                .into());
        }
        if on_envoy && !self.imports.0.is_empty() {
            return Err("imports: a real Envoy refuses a module with these; \
                        add only: { on: [wasmtime], reason: … }"
                .into());
        }
        for (index, step) in steps.iter().enumerate() {
            if on_envoy && step.faults().next().is_some() {
                return Err(format!(
                    "steps[{index}].faults: a real Envoy cannot be told to fail; \
                     add only: {{ on: [wasmtime, native], reason: … }}"
                ));
            }
        }
        let scenario = Scenario {
            name: self.name,
            traffic: self.protocol,
            filters,
            workers: self.workers,
            clusters: self.clusters,
            log_level: self.log_level.0,
            buffer_limit: self.buffer_limit.map_or(BUFFER_LIMIT, NonZeroUsize::get),
            proxy: self.proxy,
            properties: self.properties.0,
            strict: self.strict,
            profile: self.profile,
            imports: self.imports.0,
            only,
            refused: self.refused,
            left,
            steps,
        };
        scenario.check().map_err(|error| error.to_string())?;
        Ok(scenario)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFilter {
    filter: String,
    name: Option<String>,
    #[serde(default)]
    root_id: String,
    #[serde(default)]
    vm_id: String,
    #[serde(default)]
    vm_config: Option<serde_json::Value>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    config: Option<serde_json::Value>,
    #[serde(default)]
    allow_on_headers_stop_iteration: bool,
}

impl RawFilter {
    pub(super) fn check(self, folder: &Path) -> Result<FilterUse, String> {
        let source = FilterSource::parse(&self.filter).map_err(|error| error.to_string())?;
        let source = source.within(folder);
        let config = configuration(self.config.unwrap_or_default());
        let stem = Path::new(&self.filter).file_stem().map(|stem| stem.to_string_lossy());
        let name = self.name.unwrap_or_else(|| stem.map_or(self.filter.clone(), Into::into));
        let vm_config = configuration(self.vm_config.unwrap_or_default());
        let (root_id, vm_id) = (self.root_id, self.vm_id);
        let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        if let Some((name, _)) =
            self.environment.iter().find(|(name, value)| !is_name(name) || value.contains('\0'))
        {
            return Err(format!(
                "environment: `{}` cannot be the name of a variable, or its value holds a NUL",
                name.escape_debug()
            ));
        }
        Ok(FilterUse {
            source,
            name,
            root_id,
            vm_id,
            vm_config,
            environment: self.environment,
            config,
            allow_on_headers_stop_iteration: self.allow_on_headers_stop_iteration,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOnly {
    on: Vec<HostName>,
    reason: String,
}

impl RawOnly {
    fn check(self) -> Result<Only, String> {
        if self.on.is_empty() {
            return Err("only.on: an empty list; name at least one host".into());
        }
        if self.reason.trim().is_empty() {
            return Err("only.reason: empty; say why the other hosts cannot run it".into());
        }
        Ok(Only { on: self.on, reason: self.reason })
    }
}

/// A step, but for the filters that it names.
enum RawStep {
    Done(Step),
    Request(Box<RequestStep>, RawMeanwhile),
    Configure(RawConfigure, Vec<PlannedCallout>),
    Together(Vec<RawTimed>, Vec<PlannedCallout>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMeanwhile {
    configure: RawConfigure,
}

impl RawMeanwhile {
    pub(super) fn check(self, filters: &[FilterUse]) -> Result<ConfigureStep, String> {
        self.configure.check(filters)
    }
}

impl RawStep {
    fn check(self, filters: &[FilterUse]) -> Result<Step, String> {
        match self {
            Self::Done(step) => Ok(step),
            Self::Request(mut step, meanwhile) => {
                step.meanwhile = Some(meanwhile.check(filters)?);
                Ok(Step::Request(step))
            }
            Self::Together(requests, callouts) => {
                let requests = requests.into_iter().map(|request| request.check(filters));
                let requests = requests.collect::<Result<_, _>>()?;
                Ok(Step::Together(Together { requests, callouts }))
            }
            Self::Configure(configure, callouts) => {
                let configure = configure.check(filters)?;
                Ok(Step::Configure { configure, callouts })
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepFields {
    request: Option<RawRequest>,
    connection: Option<Vec<RawEvent>>,
    together: Option<Vec<RawTimed>>,
    after: Option<Span>,
    repeat: Option<NonZeroUsize>,
    worker: Option<usize>,
    upstream: Option<RawUpstream>,
    callouts: Option<Vec<RawCallout>>,
    meanwhile: Option<RawMeanwhile>,
    faults: Option<Vec<RawFault>>,
    expect: Option<RawExpectation>,
    advance: Option<Span>,
    clock: Option<ClockStep>,
    configure: Option<RawConfigure>,
}

impl<'de> Deserialize<'de> for RawStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = StepFields::deserialize(deserializer)?;
        let step = fields.check().map_err(de::Error::custom)?;
        let checked = match &step {
            Self::Done(step) => step.check(),
            Self::Request(step, _) => step.check(),
            Self::Configure(_, callouts) => check_callouts(callouts),
            Self::Together(requests, callouts) => {
                together::check_raw(requests).and_then(|()| check_callouts(callouts))
            }
        };
        checked.map_err(de::Error::custom)?;
        Ok(step)
    }
}

impl StepFields {
    fn check(self) -> Result<RawStep, String> {
        if self.after.is_some() {
            return Err("`after` belongs to one of the requests of `together`".into());
        }
        if self.is_request() {
            let (step, meanwhile) = self.request()?;
            return Ok(match meanwhile {
                Some(meanwhile) => RawStep::Request(step, meanwhile),
                None => RawStep::Done(Step::Request(step)),
            });
        }
        let beside = [
            ("repeat", self.repeat.is_some()),
            ("worker", self.worker.is_some()),
            ("upstream", self.upstream.is_some()),
            ("meanwhile", self.meanwhile.is_some()),
            ("faults", self.faults.is_some()),
            ("expect", self.expect.is_some()),
        ];
        let beside = beside.iter().find(|(_, is_there)| *is_there).map(|(key, _)| key);
        let callouts_beside = self.callouts.is_some().then_some(&"callouts");
        let callouts = self.callouts.unwrap_or_default().into_iter().map(RawCallout::check);
        let callouts = callouts.collect::<Result<Vec<_>, _>>();
        let others = (self.advance, self.clock, self.configure);
        match (self.together, self.connection, others) {
            (Some(requests), None, (None, None, None)) => match beside {
                None => Ok(RawStep::Together(requests, callouts?)),
                Some(key) => Err(format!("`{key}` belongs to a request, not to `together`")),
            },
            (None, Some(events), (None, None, None)) => {
                if self.upstream.is_some() || self.meanwhile.is_some() {
                    return Err(
                        "`upstream` and `meanwhile` belong to a request; what the upstream \
                         of a connection does stands among its events"
                            .into(),
                    );
                }
                let step = ConnectionStep {
                    events: RawEvent::all(events),
                    repeat: repeats(self.repeat)?,
                    worker: self.worker,
                    callouts: callouts?,
                    faults: RawFault::all(self.faults)?,
                    expect: self.expect.unwrap_or_default().check()?,
                };
                Ok(RawStep::Done(Step::Connection(Box::new(step))))
            }
            (None, None, (Some(Span(by)), None, None)) => match beside {
                None => Ok(RawStep::Done(Step::Advance(AdvanceStep { by, callouts: callouts? }))),
                Some(key) => Err(format!("`{key}` belongs to a request, not to `advance`")),
            },
            (None, None, (None, Some(by), None)) => match beside.or(callouts_beside) {
                None => Ok(RawStep::Done(Step::Clock(by))),
                Some(key) => Err(format!("`{key}` belongs to a request, not to `clock`")),
            },
            (None, None, (None, None, Some(configure))) => match beside {
                None => Ok(RawStep::Configure(configure, callouts?)),
                Some(key) => Err(format!("`{key}` belongs to a request, not to `configure`")),
            },
            _ => {
                Err("a step is one of `request`, `connection`, `together`, `advance`, `clock` and \
                 `configure`"
                    .into())
            }
        }
    }

    /// One of several requests at once, and how long after the first it is sent.
    pub(super) fn timed(
        self,
    ) -> Result<(Duration, Box<RequestStep>, Option<RawMeanwhile>), String> {
        if !self.is_request() {
            return Err("together: each is a `request`, and `after` and what belongs to it".into());
        }
        let after = self.after.map_or(Duration::ZERO, |Span(after)| after);
        let (step, meanwhile) = self.request()?;
        Ok((after, step, meanwhile))
    }

    fn is_request(&self) -> bool {
        let is_other = self.together.is_some()
            || self.connection.is_some()
            || self.advance.is_some()
            || self.clock.is_some()
            || self.configure.is_some();
        self.request.is_some() && !is_other
    }

    fn request(self) -> Result<(Box<RequestStep>, Option<RawMeanwhile>), String> {
        let request = self.request.ok_or("request: missing")?;
        let callouts = self.callouts.unwrap_or_default().into_iter().map(RawCallout::check);
        let step = Box::new(RequestStep {
            request: request.check(),
            repeat: repeats(self.repeat)?,
            worker: self.worker,
            upstream: self.upstream.unwrap_or_default().check()?,
            callouts: callouts.collect::<Result<_, _>>()?,
            faults: RawFault::all(self.faults)?,
            meanwhile: None,
            expect: self.expect.unwrap_or_default().check()?,
        });
        Ok((step, self.meanwhile))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    #[serde(default = "get")]
    method: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default = "example")]
    authority: String,
    #[serde(default)]
    headers: Vec<RawLine>,
    #[serde(default)]
    body: Body,
    #[serde(default)]
    trailers: Vec<RawLine>,
    #[serde(default)]
    unfinished: bool,
    disconnect: Option<Span>,
}

impl RawRequest {
    fn check(self) -> Request {
        Request {
            method: self.method,
            path: self.path,
            authority: self.authority,
            headers: lines(self.headers),
            body: self.body.0,
            trailers: lines(self.trailers),
            unfinished: self.unfinished,
            disconnect: self.disconnect.map(|Span(disconnect)| disconnect),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    status: Option<u16>,
    #[serde(default)]
    headers: Vec<RawLine>,
    #[serde(default)]
    body: Body,
    #[serde(default)]
    trailers: Vec<RawLine>,
    delay: Option<Span>,
    #[serde(default)]
    unfinished: bool,
    #[serde(default)]
    reset: bool,
}

impl RawUpstream {
    pub(super) fn check(self) -> Result<Upstream, String> {
        let answers = self.status.is_some()
            || self.delay.is_some()
            || self.unfinished
            || !(self.headers.is_empty() && self.body.0.is_empty() && self.trailers.is_empty());
        if self.reset {
            return if answers {
                Err("upstream: it either answers or resets; remove `reset` or the answer".into())
            } else {
                Ok(Upstream::Reset)
            };
        }
        Ok(Upstream::Answer(Answer {
            status: self.status.unwrap_or(200),
            headers: lines(self.headers),
            body: self.body.0,
            trailers: lines(self.trailers),
            unfinished: self.unfinished,
            delay: self.delay.map_or(Duration::ZERO, |Span(delay)| delay),
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    call: String,
    nth: Option<u64>,
    status: u32,
}

impl RawFault {
    fn all(faults: Option<Vec<Self>>) -> Result<Vec<Fault>, String> {
        faults.unwrap_or_default().into_iter().map(Self::check).collect()
    }

    fn check(self) -> Result<Fault, String> {
        let call = Function::from_import("env", &self.call)
            .ok_or_else(|| format!("faults.call: there is no host function `{}`", self.call))?;
        Ok(Fault { call, nth: self.nth, status: Status::from(self.status) })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpectation {
    response: Option<WordOr<RawResponse>>,
    upstream: Option<WordOr<RawReceived>>,
    #[serde(default)]
    metrics: BTreeMap<String, u64>,
    #[serde(default)]
    logs: Vec<RawLog>,
    #[serde(default)]
    no_logs: Vec<String>,
    #[serde(default)]
    budget: RawBudget,
}

impl RawExpectation {
    fn check(self) -> Result<Expectation, String> {
        let outcome = match self.response {
            None => None,
            Some(WordOr::Word(word)) if word == "reset" => Some(ExpectedOutcome::Reset),
            Some(WordOr::Word(word)) if word == "none" => Some(ExpectedOutcome::Nothing),
            Some(WordOr::Word(word)) if word == "left" => Some(ExpectedOutcome::Left),
            Some(WordOr::Word(word)) => {
                return Err(format!(
                    "expect.response: `{word}`; write `reset`, `none`, `left` or a response"
                ));
            }
            Some(WordOr::Other(response)) => Some(ExpectedOutcome::Response(ExpectedResponse {
                status: response.status,
                headers: expected(response.headers, response.absent),
                body: response.body,
                trailers: expected(response.trailers, Vec::new()),
            })),
        };
        let upstream = match self.upstream {
            None => None,
            Some(WordOr::Word(word)) if word == "none" => Some(ExpectedUpstream::Nothing),
            Some(WordOr::Word(word)) => {
                return Err(format!("expect.upstream: `{word}`; write `none` or a request"));
            }
            Some(WordOr::Other(request)) => {
                Some(ExpectedUpstream::Request(Box::new(request.check())))
            }
        };
        Ok(Expectation {
            outcome,
            upstream,
            metrics: self.metrics,
            logs: self.logs.into_iter().map(|RawLog(log)| log).collect(),
            no_logs: self
                .no_logs
                .into_iter()
                .map(|text| Matcher::Contains(text.into_bytes()))
                .collect(),
            budget: Budget {
                host_calls: self.budget.host_calls,
                fuel: self.budget.fuel,
                memory: self.budget.memory,
            },
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    status: Option<u16>,
    #[serde(default)]
    headers: Vec<(Name, Matcher)>,
    #[serde(default)]
    absent: Vec<Name>,
    body: Option<Matcher>,
    #[serde(default)]
    trailers: Vec<(Name, Matcher)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReceived {
    cluster: Option<String>,
    method: Option<String>,
    path: Option<Matcher>,
    #[serde(default)]
    headers: Vec<(Name, Matcher)>,
    #[serde(default)]
    absent: Vec<Name>,
    body: Option<Matcher>,
    #[serde(default)]
    trailers: Vec<(Name, Matcher)>,
}

impl RawReceived {
    pub(super) fn check(self) -> ExpectedRequest {
        ExpectedRequest {
            cluster: self.cluster,
            method: self.method,
            path: self.path,
            headers: expected(self.headers, self.absent),
            body: self.body,
            trailers: expected(self.trailers, Vec::new()),
        }
    }
}

struct RawLog(ExpectedLog);

impl<'de> Deserialize<'de> for RawLog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            level: Option<Level>,
            contains: String,
        }
        let log = match WordOr::<Fields>::deserialize(deserializer)? {
            WordOr::Word(text) => ExpectedLog { level: None, contains: text.into_bytes() },
            WordOr::Other(fields) => ExpectedLog {
                level: fields.level.map(|Level(level)| level),
                contains: fields.contains.into_bytes(),
            },
        };
        Ok(Self(log))
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBudget {
    host_calls: Option<u64>,
    fuel: Option<u64>,
    memory: Option<u64>,
}

pub(super) type RawLine = (Name, Bytes);

pub(super) fn lines(lines: Vec<RawLine>) -> Vec<HeaderLine> {
    lines.into_iter().map(|(Name(name), Bytes(value))| (name, value)).collect()
}

pub(super) fn expected(lines: Vec<(Name, Matcher)>, absent: Vec<Name>) -> HeaderExpectations {
    HeaderExpectations {
        lines: lines.into_iter().map(|(Name(name), value)| (name, value)).collect(),
        absent: absent.into_iter().map(|Name(name)| name).collect(),
    }
}

fn repeats(repeat: Option<NonZeroUsize>) -> Result<NonZeroUsize, String> {
    let repeat = repeat.unwrap_or_else(one);
    if repeat.get() > MOST_REPEATS {
        return Err(format!("repeat: {repeat} is above the bound of {MOST_REPEATS}"));
    }
    Ok(repeat)
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn get() -> String {
    "GET".into()
}

fn root() -> String {
    "/".into()
}

fn example() -> String {
    "example.com".into()
}
