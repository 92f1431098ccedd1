//! What is expected of what plugins share, data and queues, and how that is written.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::FilterUse;
use super::value::{Bytes, Matcher};

/// What plugins with one `vm_id` share under a name, as it stands after a step.
#[derive(Clone, Debug)]
pub struct ExpectedStored<V> {
    /// The `vm_id`; that of all filters when it is not said.
    pub vm_id: Option<String>,
    /// The key of the value, or the name of the queue.
    pub key: Vec<u8>,
    /// What is there; none when there is no such key, or nobody has registered the queue.
    pub value: Option<V>,
}

/// A value of shared data.
pub type ExpectedShared = ExpectedStored<Matcher>;

/// The messages that wait in a queue, in order.
pub type ExpectedQueue = ExpectedStored<Vec<Matcher>>;

impl<V> ExpectedStored<V> {
    /// Checks that it says whose it means; `what` is where it is written.
    pub(super) fn check(&self, what: &str, filters: &[FilterUse]) -> Result<(), String> {
        let key = self.key.escape_ascii();
        let mut vm_ids: Vec<&str> = filters.iter().map(|filter| filter.vm_id.as_str()).collect();
        vm_ids.dedup();
        match &self.vm_id {
            None if vm_ids.len() > 1 => Err(format!(
                "expect.{what}: `{key}`: the filters have several vm_ids; \
                 write [ {{ vm_id: …, key: …, value: … }} ]"
            )),
            Some(vm_id) if !vm_ids.contains(&vm_id.as_str()) => {
                Err(format!("expect.{what}: `{key}`: no filter has the vm_id `{vm_id}`"))
            }
            None | Some(_) => Ok(()),
        }
    }
}

/// A map of keys to values, or a list where a key is no text or the `vm_id` has to be said. `null` is no
/// value.
pub(super) struct RawStored<V>(pub(super) Vec<ExpectedStored<V>>);

impl<V> Default for RawStored<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<V> {
    vm_id: Option<String>,
    key: Bytes,
    value: Option<V>,
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for RawStored<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StoredVisitor<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> de::Visitor<'de> for StoredVisitor<V> {
            type Value = RawStored<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`{ KEY: VALUE }`, or a list of `{ key: …, value: … }`")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawStored<V>, A::Error> {
                let deserializer = de::value::MapAccessDeserializer::new(map);
                let values = BTreeMap::<String, Option<V>>::deserialize(deserializer)?;
                let expected = values.into_iter().map(|(key, value)| ExpectedStored {
                    vm_id: None,
                    key: key.into_bytes(),
                    value,
                });
                Ok(RawStored(expected.collect()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<RawStored<V>, A::Error> {
                let deserializer = de::value::SeqAccessDeserializer::new(list);
                let entries = Vec::<Entry<V>>::deserialize(deserializer)?;
                let expected =
                    entries.into_iter().map(|Entry { vm_id, key: Bytes(key), value }| {
                        ExpectedStored { vm_id, key, value }
                    });
                Ok(RawStored(expected.collect()))
            }
        }

        deserializer.deserialize_any(StoredVisitor(PhantomData))
    }
}
