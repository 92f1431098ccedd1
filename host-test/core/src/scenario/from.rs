//! The filters of a scenario: written out, or taken from a file that deploys them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::filter::RawFilter;
use super::{FilterSource, FilterUse, Traffic};
use crate::deployed::{Pick, Picked};

/// What stands under `filters`.
pub(super) enum RawFilters {
    Written(Vec<RawFilter>),
    Deployed(RawDeployed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDeployed {
    from: String,
    chain: Option<String>,
    plugin: Option<String>,
    #[serde(default)]
    modules: BTreeMap<String, String>,
}

impl RawFilters {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Written(filters) => filters.is_empty(),
            Self::Deployed(_) => false,
        }
    }

    /// The filters, and what they are configured with that no host plays.
    pub(super) fn check(
        self,
        folder: &Path,
        traffic: Traffic,
    ) -> Result<(Vec<FilterUse>, Vec<String>), String> {
        let RawDeployed { from, chain, plugin, modules } = match self {
            Self::Written(filters) => {
                let filters = filters.into_iter().enumerate().map(|(index, filter)| {
                    filter.check(folder).map_err(|what| format!("filters[{index}].{what}"))
                });
                return Ok((filters.collect::<Result<_, _>>()?, Vec::new()));
            }
            Self::Deployed(deployed) => deployed,
        };
        let modules = modules.into_iter().map(|(name, source)| {
            let source = FilterSource::parse(&source);
            let source = source.map_err(|error| format!("filters.modules: {name}: {error}"))?;
            Ok((name, source.within(folder)))
        });
        let modules = modules.collect::<Result<_, String>>()?;
        let pick = Pick { chain, traffic, plugin, modules };
        let file = folder.join(&from);
        let picked = Picked::read(&file, &pick)
            .map_err(|error| format!("filters.from: {}: {error}", file.display()))?;
        Ok((picked.filters, picked.left))
    }
}

impl<'de> Deserialize<'de> for RawFilters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FiltersVisitor;

        impl<'de> de::Visitor<'de> for FiltersVisitor {
            type Value = RawFilters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of filters, or `{ from: FILE }`")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<RawFilters, A::Error> {
                let deserializer = de::value::SeqAccessDeserializer::new(list);
                Vec::deserialize(deserializer).map(RawFilters::Written)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawFilters, A::Error> {
                let deserializer = de::value::MapAccessDeserializer::new(map);
                RawDeployed::deserialize(deserializer).map(RawFilters::Deployed)
            }
        }

        deserializer.deserialize_any(FiltersVisitor)
    }
}
