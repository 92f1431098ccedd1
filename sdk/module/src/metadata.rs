//! What a finished module says of itself: the custom section `tollgate`. Who writes it is elsewhere.

use core::fmt;
use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_abi::AbiVersion;

use crate::printable::Printable;

/// What a finished module says of itself.
///
/// Shape: one JSON object in the custom section [`Metadata::SECTION`]. Keys that a newer version
/// added are passed over; a key of this version that is missing or of another type is an error.
///
/// `callbacks` and `host_functions` together are what Envoy's `capability_restriction_config` has to
/// allow for the module to work: Envoy withholds a callback that is not allowed as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// What the filter is called.
    pub name: String,
    /// Which version of the filter it is.
    pub version: String,
    /// Which version of the ABI it speaks.
    #[serde(with = "abi_version")]
    pub abi: AbiVersion,
    /// The callbacks that it exports, by name.
    pub callbacks: BTreeSet<String>,
    /// The host functions that it imports, by name, without the import module.
    pub host_functions: BTreeSet<String>,
    /// What the plugin has to be configured with for the module to work: the names of fields of Envoy's
    /// `PluginConfig` that have to be true, such as `allow_on_headers_stop_iteration`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub needs: BTreeSet<String>,
    /// The labels of its metrics, which stand in their names: what Envoy has to be told to take them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stats_tags: Vec<StatsTag>,
    /// The JSON schema of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
}

/// A label of metrics, as an entry of `stats_config.stats_tags` in Envoy's bootstrap. Istio's
/// `extraStatTags` are the names alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsTag {
    /// What the label is called.
    pub tag_name: String,
    /// What takes it out of the name of a metric.
    pub regex: String,
}

impl Metadata {
    /// The custom section that holds it.
    pub const SECTION: &'static str = "tollgate";

    /// Reads what the custom section holds.
    ///
    /// # Errors
    ///
    /// [`InvalidMetadata`] with the place where the JSON stops making sense.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidMetadata> {
        let metadata: Self =
            serde_json::from_slice(json).map_err(|error| InvalidMetadata::json(&error))?;
        for (key, value) in [("name", &metadata.name), ("version", &metadata.version)] {
            if value.is_empty() || value.contains(char::is_control) {
                let value = value.clone();
                return Err(InvalidMetadata::Label { key, value });
            }
        }
        Ok(metadata)
    }
}

/// The custom section `tollgate` of a module does not hold metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidMetadata {
    /// There are several sections.
    Several {
        /// How many.
        count: usize,
    },
    /// The section is not JSON, or not of the right shape.
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What was found there.
        reason: String,
    },
    /// A name or a version is empty or has control characters.
    Label {
        /// The key of the JSON object.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

impl InvalidMetadata {
    fn json(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let reason = error.to_string();
        // The place is told apart from the reason.
        let reason = match reason.rsplit_once(" at line ") {
            Some((reason, _)) => reason.to_owned(),
            None => reason,
        };
        Self::Json { line, column, reason }
    }
}

impl fmt::Display for InvalidMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Several { count } => write!(
                f,
                "section `tollgate` stands {count} times in place of once; build the module again"
            ),
            Self::Json { line, column, reason } => write!(
                f,
                "section `tollgate` is broken at line {line}, column {column}: {}; build the module again",
                Printable(reason)
            ),
            Self::Label { key, value } => {
                write!(f, "{key} \"{}\" is not one line of text; choose another", Printable(value))
            }
        }
    }
}

impl core::error::Error for InvalidMetadata {}

mod abi_version {
    use serde::de::Error;

    use super::{AbiVersion, Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(
        version: &AbiVersion,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(version)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<AbiVersion, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = AbiVersion::ALL.into_iter();
        known.clone().find(|version| version.to_string() == text).ok_or_else(|| {
            let known = crate::printable::list(known, "or");
            D::Error::custom(format_args!("abi version \"{text}\" is not {known}"))
        })
    }
}
