//! YAML as scenarios and configurations use it: strict, and the same everywhere.

use std::fmt;

use serde::de::DeserializeOwned;

/// Reads YAML. Only `true` and `false` are booleans: `no`, `on` and the like are text.
///
/// # Errors
///
/// [`InvalidYaml`] with line, column and the lines around it.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, InvalidYaml> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location();
        InvalidYaml {
            line: place.map_or(1, |place| place.line()),
            column: place.map_or(1, |place| place.column()),
            text: error.to_string(),
        }
    })
}

/// A text that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidYaml {
    /// Line, counted from 1.
    pub line: u64,
    /// Column, counted from 1.
    pub column: u64,
    /// What is wrong, with line, column and the lines around it.
    text: String,
}

impl fmt::Display for InvalidYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_start_matches("error: "))
    }
}

impl std::error::Error for InvalidYaml {}
