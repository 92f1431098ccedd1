//! A new configuration or a new module for a filter of the running proxy.

use serde::Deserialize;

use super::filter::{FilterSource, FilterUse, configuration};
use super::request::Fault;

/// A filter gets another configuration or another module while the proxy runs.
#[derive(Clone, Debug)]
pub struct ConfigureStep {
    /// The filter, by its place in the chain.
    pub filter: usize,
    /// Bytes that it gets: JSON, or text as written; none leaves what it has.
    pub config: Option<Vec<u8>>,
    /// The module that it runs from then on; none leaves the one that it has.
    pub module: Option<FilterSource>,
    /// Set when the proxy must refuse it and go on as before: text that it must say.
    pub refused: Option<String>,
    /// Host calls that fail meanwhile; of a filter that gets it beside a request, they are the request's.
    pub faults: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfigure {
    filter: Which,
    #[serde(default)]
    config: Option<serde_json::Value>,
    module: Option<String>,
    refused: Option<String>,
}

/// A filter by its place, counted from 0, or by the name of its plugin.
#[derive(Deserialize)]
#[serde(untagged)]
enum Which {
    Place(usize),
    Name(String),
}

impl RawConfigure {
    pub(super) fn check(self, filters: &[FilterUse]) -> Result<ConfigureStep, String> {
        if self.refused.as_ref().is_some_and(|words| words.trim().is_empty()) {
            return Err("configure.refused: empty; write words that the proxy must say".into());
        }
        let filter = self.filter.find(filters)?;
        let module = self.module.as_deref().map(FilterSource::parse).transpose();
        let module = module.map_err(|error| format!("configure.module: {error}"))?;
        // A new module takes over the configuration; without one, nothing written is nothing.
        let config = match (self.config, &module) {
            (None, Some(_)) => None,
            (written, _) => Some(configuration(written.unwrap_or_default())),
        };
        Ok(ConfigureStep { filter, config, module, refused: self.refused, faults: Vec::new() })
    }
}

impl Which {
    fn find(self, filters: &[FilterUse]) -> Result<usize, String> {
        match self {
            Self::Place(place) if place < filters.len() => Ok(place),
            Self::Place(place) => Err(format!(
                "configure.filter: there is no filter {place}; they count from 0 to {}",
                filters.len().saturating_sub(1)
            )),
            Self::Name(name) => {
                let mut named =
                    filters.iter().enumerate().filter(|(_, filter)| filter.name == name);
                match (named.next(), named.next()) {
                    (Some((place, _)), None) => Ok(place),
                    (Some(_), Some(_)) => Err(format!(
                        "configure.filter: several filters are named `{name}`; write the place of one, from 0"
                    )),
                    (None, _) => Err(format!("configure.filter: no filter is named `{name}`")),
                }
            }
        }
    }
}
