//! Suites from text proto and YAML: strict, with line and column, and with the files that they name read.

mod written;

use std::fmt;
use std::io;
use std::path::Path;

use super::http1::{self, Side};
use super::text::{self, InvalidText};
use super::{Expected, Input, Is, Pattern, Phase, Suite, Test};
use crate::scenario::HeaderLine;
use crate::yaml::{self, InvalidYaml};
use written::{
    Chunks, WrittenExpected, WrittenInput, WrittenIs, WrittenPattern, WrittenPhase, WrittenSuite,
    WrittenTest,
};

impl Suite {
    /// Whether a text in YAML is a suite rather than a scenario: it has `test` or `tests`.
    pub fn is_in_yaml(text: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Probe {
            #[serde(rename = "test", alias = "tests")]
            _tests: serde::de::IgnoredAny,
        }
        yaml::parse::<Probe>(text).is_ok()
    }

    /// Reads a suite file, YAML if its name ends so and else text proto. Files that its phases name are
    /// relative to its folder.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the file, or one that it names, cannot be read or is not what it should be.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let bytes = std::fs::read(path).map_err(ReadError::Io)?;
        let text = String::from_utf8(bytes).map_err(|_| ReadError::NotUtf8)?;
        let ending = path.extension().unwrap_or_default();
        let written: WrittenSuite = if ending == "yaml" || ending == "yml" {
            yaml::parse(&text).map_err(|error| ReadError::Yaml(error.of_file(path)))?
        } else {
            text::parse(&text).map_err(ReadError::Text)?
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        written.resolve(&Files { folder })
    }
}

/// Why a suite could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be read.
    Io(io::Error),
    /// The file is not UTF-8.
    NotUtf8,
    /// The YAML is not a suite.
    Yaml(InvalidYaml),
    /// The text proto is not a suite.
    Text(InvalidText),
    /// Something in a test is not what it should be.
    Invalid {
        /// Where: the test and the field.
        place: String,
        /// What is wrong.
        what: String,
    },
}

impl ReadError {
    fn within(self, outer: &str) -> Self {
        match self {
            Self::Invalid { place, what } => {
                Self::Invalid { place: format!("{outer}.{place}"), what }
            }
            other => other,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::NotUtf8 => f.write_str("not UTF-8; write such bytes as \"\\xff\""),
            Self::Yaml(error) => write!(f, "{error}"),
            Self::Text(error) => write!(f, "{error}"),
            Self::Invalid { place, what } => write!(f, "{place}: {what}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// The files that a suite names.
struct Files<'a> {
    folder: &'a Path,
}

impl Files<'_> {
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let path = self.folder.join(name);
        std::fs::read(&path).map_err(|error| {
            let what = format!("{} cannot be read: {error}", path.display());
            ReadError::Invalid { place: "file".into(), what }
        })
    }
}

impl WrittenSuite {
    fn resolve(self, files: &Files<'_>) -> Result<Suite, ReadError> {
        let ignored = self.ignored();
        let environment = self.environment();
        let tests = self.into_tests().into_iter().enumerate();
        let tests = tests.map(|(index, test)| {
            let name = match test.name.trim() {
                "" => format!("test {}", index + 1),
                name => name.to_owned(),
            };
            let place = format!("test {} `{name}`", index + 1);
            test.resolve(name, files).map_err(|error| error.within(&place))
        });
        Ok(Suite { environment, tests: tests.collect::<Result<_, _>>()?, ignored })
    }
}

impl WrittenTest {
    fn resolve(self, name: String, files: &Files<'_>) -> Result<Test, ReadError> {
        let logs = |expected: Option<WrittenExpected>, place: &str| {
            let expected = expected.unwrap_or_default().resolve(files);
            expected.map(|expected| expected.log).map_err(|error| error.within(place))
        };
        let head = |phase, side, place: &str| {
            head_phase(phase, side, files).map_err(|error| error.within(place))
        };
        let body = |phases, make, place: &str| {
            body_phases(phases, self.chunks, make, files).map_err(|error| error.within(place))
        };
        let phases = head(self.request_headers, Side::Request, "request_headers")?
            .into_iter()
            .chain(body(self.request_body, Input::RequestBody, "request_body")?)
            .chain(head(self.response_headers, Side::Response, "response_headers")?)
            .chain(body(self.response_body, Input::ResponseBody, "response_body")?)
            .collect();
        Ok(Test {
            name,
            properties: self.properties,
            plugin_init: logs(self.plugin_init, "plugin_init")?,
            stream_init: logs(self.stream_init, "stream_init")?,
            phases,
            stream_destroy: logs(self.stream_destroy, "stream_destroy")?,
        })
    }
}

fn head_phase(
    phase: Option<WrittenPhase>,
    side: Side,
    files: &Files<'_>,
) -> Result<Option<Phase>, ReadError> {
    let Some(phase) = phase else { return Ok(None) };
    let lines = phase.input.unwrap_or_default().headers(side, files)?;
    let input = match side {
        Side::Request => Input::RequestHeaders(lines),
        Side::Response => Input::ResponseHeaders(lines),
    };
    Ok(Some(Phase { input, expected: phase.result.unwrap_or_default().resolve(files)? }))
}

fn body_phases(
    phases: Vec<WrittenPhase>,
    chunks: Chunks,
    make: fn(Vec<Vec<u8>>) -> Input,
    files: &Files<'_>,
) -> Result<Vec<Phase>, ReadError> {
    if phases.len() > 1 && chunks != Chunks::Whole {
        let what = "a plan of chunks is for one body; remove the plan or the other bodies";
        return Err(ReadError::Invalid { place: "[1]".into(), what: what.into() });
    }
    let phases = phases.into_iter().map(|phase| {
        let body = phase.input.unwrap_or_default().body(files)?;
        let input = chunks.cut(&body).map(make).map_err(|what| invalid("input", what))?;
        Ok(Phase { input, expected: phase.result.unwrap_or_default().resolve(files)? })
    });
    phases.collect()
}

impl WrittenInput {
    fn headers(self, side: Side, files: &Files<'_>) -> Result<Vec<HeaderLine>, ReadError> {
        match self {
            Self::Headers(headers) => Ok(headers),
            Self::Content(bytes) => {
                http1::head(&bytes, side).map_err(|what| invalid("input.content", what))
            }
            Self::File(name) => {
                let bytes = files.read(&name).map_err(|error| error.within("input"))?;
                http1::head(&bytes, side)
                    .map_err(|what| invalid("input.file", format!("{name}: {what}")))
            }
        }
    }

    fn body(self, files: &Files<'_>) -> Result<Vec<u8>, ReadError> {
        match self {
            Self::Headers(headers) if headers.is_empty() => Ok(Vec::new()),
            Self::Headers(_) => {
                let what = "a body has no headers; write content or file";
                Err(invalid("input.header", what.into()))
            }
            Self::Content(bytes) => Ok(bytes),
            Self::File(name) => files.read(&name).map_err(|error| error.within("input")),
        }
    }
}

impl WrittenExpected {
    fn resolve(self, files: &Files<'_>) -> Result<Expected, ReadError> {
        let patterns = |patterns: Vec<WrittenPattern>, place: &str| {
            let patterns = patterns.into_iter().map(|pattern| pattern.resolve(files));
            patterns.collect::<Result<_, _>>().map_err(|error: ReadError| error.within(place))
        };
        Ok(Expected {
            headers: patterns(self.headers, "headers")?,
            body: patterns(self.body, "body")?,
            log: patterns(self.log, "log")?,
            has_header: self.has_header,
            no_header: self.no_header,
            immediate: self.immediate,
        })
    }
}

impl WrittenPattern {
    fn resolve(self, files: &Files<'_>) -> Result<Pattern, ReadError> {
        let is = match self.is {
            WrittenIs::Exact(bytes) => Is::Exact(bytes),
            WrittenIs::Regex { written, compiled } => Is::Regex { written, compiled },
            WrittenIs::File(name) => Is::Exact(files.read(&name)?),
        };
        Ok(Pattern { invert: self.invert, is })
    }
}

fn invalid(place: &str, what: String) -> ReadError {
    ReadError::Invalid { place: place.into(), what }
}

#[cfg(test)]
mod tests;
