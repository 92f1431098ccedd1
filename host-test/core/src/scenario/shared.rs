//! What is expected of shared data, and how that is written.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::FilterUse;
use super::value::{Bytes, Matcher};

/// A value that plugins with one `vm_id` share, as it stands after a step.
#[derive(Clone, Debug)]
pub struct ExpectedShared {
    /// The `vm_id`; that of all filters when it is not said.
    pub vm_id: Option<String>,
    /// The key.
    pub key: Vec<u8>,
    /// The value; none when there is no such key.
    pub value: Option<Matcher>,
}

impl ExpectedShared {
    /// Checks that it says whose data it means.
    pub(super) fn check(&self, filters: &[FilterUse]) -> Result<(), String> {
        let key = self.key.escape_ascii();
        let mut vm_ids: Vec<&str> = filters.iter().map(|filter| filter.vm_id.as_str()).collect();
        vm_ids.dedup();
        match &self.vm_id {
            None if vm_ids.len() > 1 => Err(format!(
                "expect.shared_data: `{key}`: the filters have several vm_ids; \
                 write [ {{ vm_id: …, key: …, value: … }} ]"
            )),
            Some(vm_id) if !vm_ids.contains(&vm_id.as_str()) => {
                Err(format!("expect.shared_data: `{key}`: no filter has the vm_id `{vm_id}`"))
            }
            None | Some(_) => Ok(()),
        }
    }
}

/// A map of keys to values, or a list where a key is no text or the `vm_id` has to be said. `null` is no
/// value.
#[derive(Default)]
pub(super) struct RawShared(pub(super) Vec<ExpectedShared>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    vm_id: Option<String>,
    key: Bytes,
    value: Option<Matcher>,
}

impl<'de> Deserialize<'de> for RawShared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SharedVisitor;

        impl<'de> de::Visitor<'de> for SharedVisitor {
            type Value = RawShared;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`{ KEY: VALUE }`, or a list of `{ key: …, value: … }`")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawShared, A::Error> {
                let deserializer = de::value::MapAccessDeserializer::new(map);
                let values = BTreeMap::<String, Option<Matcher>>::deserialize(deserializer)?;
                let expected = values.into_iter().map(|(key, value)| ExpectedShared {
                    vm_id: None,
                    key: key.into_bytes(),
                    value,
                });
                Ok(RawShared(expected.collect()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<RawShared, A::Error> {
                let deserializer = de::value::SeqAccessDeserializer::new(list);
                let entries = Vec::<Entry>::deserialize(deserializer)?;
                let expected =
                    entries.into_iter().map(|Entry { vm_id, key: Bytes(key), value }| {
                        ExpectedShared { vm_id, key, value }
                    });
                Ok(RawShared(expected.collect()))
            }
        }

        deserializer.deserialize_any(SharedVisitor)
    }
}
