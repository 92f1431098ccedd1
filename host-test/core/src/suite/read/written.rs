//! Suites as they are written. YAML has the names of text proto, and those of the runner's first reader of
//! YAML, which stand here side by side.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::Regex;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use tollgate_abi::LogLevel;

use crate::scenario::HeaderLine;
use crate::suite::{Environment, Immediate, re2};

/// What all clocks show when a suite does not say: no guest takes it for no time at all.
const TIME: Duration = Duration::from_millis(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenSuite {
    #[serde(default)]
    env: WrittenEnvironment,
    #[serde(default)]
    test: Vec<WrittenTest>,
    #[serde(default)]
    tests: InYaml<Vec<WrittenTest>>,
}

impl WrittenSuite {
    pub(super) fn environment(&self) -> Environment {
        let env = &self.env;
        let path = |text: &Option<String>| {
            text.as_ref().filter(|text| !text.is_empty()).map(PathBuf::from)
        };
        Environment {
            module: path(&env.wasm_path),
            config: path(&env.config_path),
            log_level: env.log_level.level(),
            time: match env.time_secs {
                None | Some(0) => TIME,
                Some(seconds) => Duration::from_secs(seconds),
            },
        }
    }

    /// What is asked for and not done here.
    pub(super) fn ignored(&self) -> Vec<String> {
        let env = &self.env;
        let tests = self.test.iter().chain(&self.tests.0);
        let benchmarks = tests.filter(|test| test.benchmark).count();
        let streams = env.num_additional_streams.unwrap_or_default();
        let rate = env.additional_stream_advance_rate.unwrap_or_default();
        let mut ignored = Vec::new();
        if benchmarks > 0 {
            ignored.push(format!("benchmark: {benchmarks} of the tests are tested, not measured"));
        }
        if streams > 0 || rate > 0 {
            ignored.push("env.num_additional_streams: they are for benchmarks alone".into());
        }
        if let Some(path) = env.log_path.as_ref().filter(|path| !path.is_empty()) {
            ignored.push(format!("env.log_path: log lines are not copied to {path}"));
        }
        ignored
    }

    pub(super) fn into_tests(self) -> Vec<WrittenTest> {
        self.test.into_iter().chain(self.tests.0).collect()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEnvironment {
    /// The runner's own note of where the suite lies.
    #[serde(rename = "test_path")]
    _test_path: Option<String>,
    wasm_path: Option<String>,
    config_path: Option<String>,
    #[serde(default)]
    log_level: WrittenLevel,
    log_path: Option<String>,
    time_secs: Option<u64>,
    num_additional_streams: Option<u64>,
    additional_stream_advance_rate: Option<u64>,
}

/// In the order of their numbers.
#[derive(Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum WrittenLevel {
    #[default]
    #[serde(alias = "undefined")]
    Undefined,
    #[serde(alias = "trace")]
    Trace,
    #[serde(alias = "debug")]
    Debug,
    #[serde(alias = "info")]
    Info,
    #[serde(alias = "warn")]
    Warn,
    #[serde(alias = "error")]
    Error,
    #[serde(alias = "critical")]
    Critical,
}

impl WrittenLevel {
    fn level(&self) -> LogLevel {
        match self {
            Self::Trace => LogLevel::Trace,
            Self::Debug => LogLevel::Debug,
            Self::Undefined | Self::Info => LogLevel::Info,
            Self::Warn => LogLevel::Warn,
            Self::Error => LogLevel::Error,
            Self::Critical => LogLevel::Critical,
        }
    }
}

/// A test, but for the files that it names.
pub(super) struct WrittenTest {
    pub(super) name: String,
    pub(super) benchmark: bool,
    pub(super) chunks: Chunks,
    pub(super) properties: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) request_headers: Option<WrittenPhase>,
    pub(super) request_body: Vec<WrittenPhase>,
    pub(super) response_headers: Option<WrittenPhase>,
    pub(super) response_body: Vec<WrittenPhase>,
    pub(super) plugin_init: Option<WrittenExpected>,
    pub(super) stream_init: Option<WrittenExpected>,
    pub(super) stream_destroy: Option<WrittenExpected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFields {
    #[serde(default)]
    name: String,
    #[serde(default)]
    benchmark: Flag,
    num_chunks: Option<usize>,
    chunk_size: Option<usize>,
    #[serde(default)]
    body_chunking_plan: InYaml<Option<PlanFields>>,
    #[serde(default)]
    properties: Vec<PropertyFields>,
    request_headers: Option<WrittenPhase>,
    #[serde(default)]
    request_body: Vec<WrittenPhase>,
    response_headers: Option<WrittenPhase>,
    #[serde(default)]
    response_body: Vec<WrittenPhase>,
    plugin_init: Option<WrittenExpected>,
    stream_init: Option<WrittenExpected>,
    stream_destroy: Option<WrittenExpected>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFields {
    num_chunks: Option<usize>,
    chunk_size: Option<usize>,
}

impl<'de> Deserialize<'de> for WrittenTest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = TestFields::deserialize(deserializer)?;
        let chunks = match (fields.num_chunks, fields.chunk_size, fields.body_chunking_plan.0) {
            (count, size, None) => Chunks::new(count, size),
            (None, None, Some(plan)) => Chunks::new(plan.num_chunks, plan.chunk_size),
            (_, _, Some(_)) => {
                Err("body_chunking_plan stands in place of num_chunks and chunk_size")
            }
        };
        let properties = fields.properties.into_iter();
        let properties = properties.map(|property| (property.path.into_bytes(), property.value.0));
        Ok(Self {
            name: fields.name,
            benchmark: fields.benchmark.0,
            chunks: chunks.map_err(de::Error::custom)?,
            properties: properties.collect(),
            request_headers: fields.request_headers,
            request_body: fields.request_body,
            response_headers: fields.response_headers,
            response_body: fields.response_body,
            plugin_init: fields.plugin_init,
            stream_init: fields.stream_init,
            stream_destroy: fields.stream_destroy,
        })
    }
}

/// How a body is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    Whole,
    /// Into this many, the last of which has the rest.
    Count(NonZeroUsize),
    /// Into pieces of this size.
    Size(NonZeroUsize),
}

impl Chunks {
    fn new(count: Option<usize>, size: Option<usize>) -> Result<Self, &'static str> {
        match (count, size) {
            (None, None) => Ok(Self::Whole),
            (Some(count), None) => {
                NonZeroUsize::new(count).map(Self::Count).ok_or("num_chunks: 0 is not at least 1")
            }
            (None, Some(size)) => {
                NonZeroUsize::new(size).map(Self::Size).ok_or("chunk_size: 0 is not at least 1")
            }
            (Some(_), Some(_)) => Err("num_chunks and chunk_size: only one can be"),
        }
    }

    pub(super) fn cut(self, body: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let owned = |part: &[u8]| part.to_vec();
        match self {
            Self::Whole => Ok(vec![body.to_vec()]),
            Self::Size(_) if body.is_empty() => Ok(vec![Vec::new()]),
            Self::Size(size) => Ok(body.chunks(size.get()).map(owned).collect()),
            Self::Count(count) => {
                let size = body.len() / count;
                if size == 0 {
                    let length = body.len();
                    return Err(format!("num_chunks: {count} is above the body's {length} bytes"));
                }
                let (equal, last) = body.split_at(size * (count.get() - 1));
                Ok(equal.chunks(size).chain([last]).map(owned).collect())
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PropertyFields {
    path: String,
    value: Octets,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPhase {
    pub(super) input: Option<WrittenInput>,
    pub(super) result: Option<WrittenExpected>,
}

/// What comes to the guest; nothing are no headers.
pub(super) enum WrittenInput {
    Headers(Vec<HeaderLine>),
    Content(Vec<u8>),
    File(String),
}

impl Default for WrittenInput {
    fn default() -> Self {
        Self::Headers(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputFields {
    #[serde(default)]
    header: Vec<Header>,
    #[serde(default)]
    headers: InYaml<Vec<Header>>,
    content: Option<Octets>,
    file: Option<String>,
}

impl<'de> Deserialize<'de> for WrittenInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = InputFields::deserialize(deserializer)?;
        let headers: Vec<Header> = fields.header.into_iter().chain(fields.headers.0).collect();
        match (headers.is_empty(), fields.content, fields.file) {
            (_, None, None) => Ok(Self::Headers(headers.into_iter().map(|line| line.0).collect())),
            (true, Some(Octets(content)), None) => Ok(Self::Content(content)),
            (true, None, Some(file)) => Ok(Self::File(file)),
            _ => Err(de::Error::custom("headers, content and file: only one can be")),
        }
    }
}

/// What is expected, but for the files that it names.
#[derive(Default)]
pub(super) struct WrittenExpected {
    pub(super) has_header: Vec<HeaderLine>,
    pub(super) no_header: Vec<Vec<u8>>,
    pub(super) headers: Vec<WrittenPattern>,
    pub(super) body: Vec<WrittenPattern>,
    pub(super) immediate: Option<Immediate>,
    pub(super) log: Vec<WrittenPattern>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedFields {
    #[serde(default)]
    has_header: Vec<Header>,
    #[serde(default)]
    no_header: Vec<Header>,
    #[serde(default)]
    headers: Vec<WrittenPattern>,
    #[serde(default)]
    body: Vec<WrittenPattern>,
    immediate: Option<ImmediateFields>,
    #[serde(default)]
    log: Vec<WrittenPattern>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImmediateFields {
    http_status: Option<u32>,
    grpc_status: Option<u32>,
    details: Option<String>,
}

impl<'de> Deserialize<'de> for WrittenExpected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = ExpectedFields::deserialize(deserializer)?;
        for Header((name, _)) in fields.has_header.iter().chain(&fields.no_header) {
            if name.is_empty() {
                return Err(de::Error::custom(
                    "has_header and no_header: a header without its key",
                ));
            }
        }
        let lines = |headers: Vec<Header>| headers.into_iter().map(|line| line.0);
        Ok(Self {
            has_header: lines(fields.has_header).collect(),
            no_header: lines(fields.no_header).map(|(name, _)| name).collect(),
            headers: fields.headers,
            body: fields.body,
            immediate: fields.immediate.map(|fields| Immediate {
                http_status: fields.http_status,
                grpc_status: fields.grpc_status,
                details: fields.details.map(String::into_bytes),
            }),
            log: fields.log,
        })
    }
}

/// What a text is or is not, but for the file.
pub(super) struct WrittenPattern {
    pub(super) invert: bool,
    pub(super) is: WrittenIs,
}

pub(super) enum WrittenIs {
    Exact(Vec<u8>),
    Regex { written: String, compiled: Regex },
    File(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatternFields {
    #[serde(default)]
    invert: Flag,
    exact: Option<Octets>,
    regex: Option<String>,
    file: Option<String>,
}

impl<'de> Deserialize<'de> for WrittenPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = PatternFields::deserialize(deserializer)?;
        let is = match (fields.exact, fields.regex, fields.file) {
            (Some(Octets(bytes)), None, None) => WrittenIs::Exact(bytes),
            (None, Some(written), None) => {
                let compiled = re2::compile(&written).map_err(de::Error::custom)?;
                WrittenIs::Regex { written, compiled }
            }
            (None, None, Some(name)) => WrittenIs::File(name),
            _ => return Err(de::Error::custom("exact, regex or file: one of them must be")),
        };
        Ok(Self { invert: fields.invert.0, is })
    }
}

/// A header; in YAML also as `name: value` in one text.
struct Header(HeaderLine);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderFields {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: Octets,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`name: value` in quotes, or a key and a value")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Header, E> {
                let (name, value) = text
                    .split_once(':')
                    .ok_or_else(|| E::custom(format!("`{text}` has no colon")))?;
                if name.is_empty() {
                    let what =
                        format!("`{text}` has no name before its colon; write key and value");
                    return Err(E::custom(what));
                }
                let value = value.trim_matches([' ', '\t']);
                Ok(Header((name.as_bytes().to_vec(), value.as_bytes().to_vec())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Header, A::Error> {
                let deserializer = de::value::MapAccessDeserializer::new(map);
                HeaderFields::deserialize(deserializer).map(Header::from)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_any(HeaderVisitor)
        } else {
            HeaderFields::deserialize(deserializer).map(Self::from)
        }
    }
}

impl From<HeaderFields> for Header {
    fn from(fields: HeaderFields) -> Self {
        Self((fields.key.into_bytes(), fields.value.0))
    }
}

/// Bytes, as text where they are text.
#[derive(Default)]
struct Octets(Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OctetsVisitor;

        impl Visitor<'_> for OctetsVisitor {
            type Value = Octets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Octets, E> {
                Ok(Octets(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Octets, E> {
                Ok(Octets(bytes.to_vec()))
            }
        }

        deserializer.deserialize_string(OctetsVisitor)
    }
}

/// A boolean; in YAML also in quotes, as in suites that a program has written.
#[derive(Default)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;

        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Flag, E> {
                Ok(Flag(flag))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Flag, E> {
                match text {
                    "true" | "True" | "TRUE" => Ok(Flag(true)),
                    "false" | "False" | "FALSE" => Ok(Flag(false)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_any(FlagVisitor)
        } else {
            deserializer.deserialize_bool(FlagVisitor)
        }
    }
}

/// What only the runner's first reader of YAML takes.
#[derive(Default)]
struct InYaml<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for InYaml<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return T::deserialize(deserializer).map(Self);
        }
        Err(de::Error::custom(
            "this name is of YAML; text proto has `test`, `header`, `num_chunks` and `chunk_size`",
        ))
    }
}
