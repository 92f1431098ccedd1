//! What is said about a configuration that cannot be taken.

use std::error::Error;
use std::fmt;
use std::str::Utf8Error;

use super::misfit::Misfit;

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
        /// Where, such as `rules[2].limit.per`. Empty when the problem is about several values.
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

    pub(super) fn misfit(misfit: &Misfit) -> Self {
        let (path, problem) = misfit.told();
        Self::Misfit { path, problem }
    }
}

fn without_position(error: &serde_json::Error) -> String {
    let position = format!(" at line {} column {}", error.line(), error.column());
    let message = error.to_string();
    message.strip_suffix(&position).map(str::to_owned).unwrap_or(message)
}
