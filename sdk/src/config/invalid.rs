//! What is said about a configuration that cannot be taken.
//!
//! Serde tells of a misfit in a sentence. It is put here into the words of the other errors, and
//! the field that it names goes to the path.

use std::error::Error;
use std::fmt;
use std::str::Utf8Error;

use serde_json::error::Category;

/// Why bytes are no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidConfig {
    /// There is nothing, and the filter needs something.
    Empty {
        /// What an empty object would lack.
        problem: String,
    },
    /// The bytes are not text.
    NotUtf8 {
        /// The line of the first wrong byte, from 1.
        line: usize,
        /// Its place in that line in bytes, from 1.
        column: usize,
    },
    /// The text is not one JSON value.
    NotJson {
        /// The line of the first wrong character, from 1.
        line: usize,
        /// Its place in that line in bytes, from 1; 0 is before the first.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A value is missing, unknown, of the wrong type or not allowed.
    Misfit {
        /// Where, such as `rules[2].limit.per`. Empty when the problem names its place itself, as it
        /// does where it is about several values.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { problem } => write!(f, "the configuration is empty; {problem}"),
            Self::NotUtf8 { line, column } => write!(f, "line {line} column {column}: not UTF-8"),
            Self::NotJson { line, column, problem } => {
                write!(f, "line {line} column {column}: not JSON: {problem}")
            }
            Self::Misfit { path, problem } if path.is_empty() => f.write_str(problem),
            Self::Misfit { path, problem } => write!(f, "{path}: {problem}"),
        }
    }
}

impl Error for InvalidConfig {}

impl InvalidConfig {
    pub(super) fn not_utf8(bytes: &[u8], error: Utf8Error) -> Self {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let mut lines = before.rsplit(|&byte| byte == b'\n');
        let column = lines.next().map_or(0, <[u8]>::len).saturating_add(1);
        Self::NotUtf8 { line: lines.count().saturating_add(1), column }
    }

    pub(super) fn not_json(error: &serde_json::Error) -> Self {
        let problem = without_position(error);
        Self::NotJson { line: error.line(), column: error.column(), problem }
    }

    pub(super) fn misfit(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.classify() != Category::Data {
            return Self::not_json(&error);
        }
        let path = if path == "." { "" } else { &path };
        let (path, problem) = reworded(path, &without_position(&error));
        Self::Misfit {
            path: path.replace(char::is_control, " "),
            problem: problem.replace(char::is_control, " "),
        }
    }
}

/// The path and the problem, from the path to the value that serde was at: empty at the root.
fn reworded(path: &str, message: &str) -> (String, String) {
    let field = |name: &str| {
        let dot = if path.is_empty() { "" } else { "." };
        format!("{path}{dot}{}", name.trim_matches('`'))
    };
    let value_path = || if path.is_empty() { "configuration" } else { path }.to_owned();
    if let Some(name) = message.strip_prefix("missing field ") {
        (field(name), "missing".to_owned())
    } else if let Some(name) = message.strip_prefix("duplicate field ") {
        (field(name), "written twice".to_owned())
    } else if let Some((_, expected)) = found_and_expected(message, "unknown field ") {
        (value_path(), format!("unknown field, expected {expected}"))
    } else if message.starts_with("unknown field ") {
        (value_path(), "unknown field, there is none".to_owned())
    } else if let Some((found, expected)) =
        KINDS.iter().find_map(|prefix| found_and_expected(message, prefix))
    {
        (value_path(), format!("{} is not {}", value(found), shape(expected)))
    } else {
        (path.to_owned(), message.to_owned())
    }
}

const KINDS: [&str; 3] = ["invalid type: ", "invalid value: ", "unknown variant "];

fn found_and_expected<'a>(message: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(prefix)?.rsplit_once(", expected ")
}

/// What serde has expected, in words that whoever writes a configuration uses.
fn shape(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "a boolean" => "true or false",
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "u32" => "a whole number up to 4294967295",
        "u64" | "usize" => "a whole number",
        "a nonzero u8" => "a whole number from 1 to 255",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number, at least 1",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        _ => expected,
    }
}

/// A value that serde has found, without its type.
fn value(found: &str) -> &str {
    match found {
        "map" => "an object",
        "sequence" => "a list",
        _ => ["string ", "integer ", "floating point ", "boolean "]
            .iter()
            .find_map(|kind| found.strip_prefix(kind))
            .map_or(found, |value| value.trim_matches('`')),
    }
}

fn without_position(error: &serde_json::Error) -> String {
    let position = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    message.strip_suffix(&position).map(str::to_owned).unwrap_or(message)
}
