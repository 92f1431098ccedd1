//! YAML as scenarios and configurations use it: strict, and the same everywhere.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter};

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
        let said = error.render_with_formatter(&Words);
        match error.location() {
            Some(place) => InvalidYaml { line: place.line(), column: place.column(), text: said },
            None => InvalidYaml::at_path(text, &said),
        }
    })
}

/// What a file is called in the lines around a mistake until it is known.
const UNNAMED: &str = "--> <input>:";

/// Says what is wrong in the words of who writes the file, where the parser speaks of Rust.
struct Words;

impl MessageFormatter for Words {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        let whole = |least: &dyn fmt::Display, most: &dyn fmt::Display| {
            format!("a whole number from {least} to {most} is expected here")
        };
        Cow::Owned(match error {
            Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("`{key}` is written twice; remove one")
            }
            Error::InvalidScalar { ty: "u16", .. } => whole(&u16::MIN, &u16::MAX),
            Error::InvalidScalar { ty: "u32", .. } => whole(&u32::MIN, &u32::MAX),
            Error::InvalidScalar { ty: "u64", .. } => whole(&u64::MIN, &u64::MAX),
            Error::SerdeInvalidValue { unexpected, expected, .. }
                if expected.starts_with("a nonzero") =>
            {
                let number = unexpected.trim_start_matches("integer ");
                format!("{number} is too little; write 1 or more")
            }
            Error::NullIntoString { .. } => {
                "text is expected here; write \"\" where there is none".into()
            }
            _ => return DefaultMessageFormatter.format_message(error),
        })
    }
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

impl InvalidYaml {
    /// A mistake that is found once all is read: what is said of it begins with its path, as in
    /// `steps[2].worker: …`.
    fn at_path(text: &str, said: &str) -> Self {
        let path = said.split(": ").next().unwrap_or_default();
        let documents = tollgate_tree::parse(text).unwrap_or_default();
        let place = documents.first().map(|root| root.nearest(path));
        let (line, column) = place.map_or((1, 1), |node| (node.line, node.column));
        Self { line, column, text: format!("line {line} column {column}: {said}") }
    }

    /// The same, of a file.
    #[must_use]
    pub fn of_file(self, file: &Path) -> Self {
        let named = format!("--> {}:", file.display());
        Self { text: self.text.replacen(UNNAMED, &named, 1), ..self }
    }
}

impl fmt::Display for InvalidYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_start_matches("error: "))
    }
}

impl std::error::Error for InvalidYaml {}
