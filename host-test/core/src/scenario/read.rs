//! Scenarios from YAML: strict, with line and column in every error.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer};

use super::configured::{Configured, RawProperties};
use super::connection::Traffic;
use super::from::RawFilters;
use super::imports::RawImports;
use super::peer::{RawPeers, RawTls};
use super::step::{RawStart, RawStep, Step};
use super::vary::RawVary;
use super::written::Level;
use super::{BUFFER_LIMIT, HostName, Only, RequestStep, Scenario};
use crate::profile::Profile;
use crate::yaml::{self, InvalidYaml};

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
        yaml::parse_seed(&text, Within { folder })
            .map_err(|error| ReadError::Invalid(error.of_file(path)))
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
    tls: Option<RawTls>,
    peers: Option<RawPeers>,
    #[serde(default)]
    properties: RawProperties,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    profile: Profile,
    #[serde(default)]
    imports: RawImports,
    only: Option<RawOnly>,
    start: Option<RawStart>,
    refused: Option<String>,
    vary: Option<RawVary>,
    #[serde(default = "one_seed")]
    seeds: u64,
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
                    "steps: a proxy that refuses to start takes none; remove steps or refused"
                        .into(),
                );
            }
            (None, true) => {
                return Err("steps: missing; write at least one step, or refused".into());
            }
            (Some(_), true) | (None, false) => {}
        }
        let only = self.only.map(RawOnly::check).transpose()?;
        let (filters, left) = self.filters.check(folder, self.protocol)?;
        let steps = self.steps.into_iter().enumerate().map(|(index, step)| {
            step.check(&filters).map_err(|what| format!("steps[{index}].{what}"))
        });
        let mut steps: Vec<Step> = steps.collect::<Result<_, _>>()?;
        for step in &mut steps {
            step.set_folder(folder);
        }
        let on_envoy = only.as_ref().is_none_or(|only| only.on.contains(&HostName::Envoy));
        if on_envoy && self.properties.0.iter().any(|property| property.filter_state().is_none()) {
            return Err("properties: a real Envoy cannot be told what it knows but for texts of filter_state; \
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
        let start = self.start.map(|start| start.check(self.refused.is_some())).transpose()?;
        let start = start.unwrap_or_default();
        if on_envoy && !start.faults.is_empty() {
            return Err("start.faults: a real Envoy cannot be told to fail; \
                        add only: { on: [wasmtime, native], reason: … }"
                .into());
        }
        for (index, step) in steps.iter().enumerate() {
            if on_envoy && let Some(what) = step.requests().find_map(RequestStep::unsendable) {
                return Err(format!(
                    "steps[{index}].{what} cannot be sent over HTTP/1.1 to a real Envoy; change it, or \
                     add only: {{ on: [wasmtime, native], reason: … }}"
                ));
            }
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
            tls: RawTls::check(self.tls, self.peers)?,
            properties: self.properties.0,
            strict: self.strict,
            profile: self.profile,
            imports: self.imports.0,
            only,
            start,
            refused: self.refused,
            left,
            vary: self.vary.map(|RawVary(vary)| vary),
            variant: None,
            seed: 0,
            seeds: self.seeds,
            steps,
        };
        scenario.check().map_err(|error| error.to_string())?;
        Ok(scenario)
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

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn one_seed() -> u64 {
    1
}
