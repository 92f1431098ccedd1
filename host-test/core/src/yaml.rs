//! YAML as scenarios and configurations use it: strict, and the same everywhere.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, DeserializeSeed};

/// Reads YAML. Only `true` and `false` are booleans: `no`, `on` and the like are text.
///
/// # Errors
///
/// [`InvalidYaml`] with line, column and the lines around it.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, InvalidYaml> {
    parse_seed(text, PhantomData::<T>)
}

/// Reads YAML into what `seed` makes of it.
///
/// # Errors
///
/// As [`parse`].
pub(crate) fn parse_seed<T>(
    text: &str,
    seed: impl for<'de> DeserializeSeed<'de, Value = T>,
) -> Result<T, InvalidYaml> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let read =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            seed.deserialize(deserializer)
        });
    read.map_err(|error| {
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
