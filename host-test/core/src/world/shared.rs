//! Shared data: values that all workers of a proxy see, per `vm_id`.

use std::collections::{BTreeMap, HashMap};

use tollgate_abi::{Answer, Reply, Status};

use super::{Scope, World};
use crate::profile::Comparison;

/// What an entry takes beside its key and its value, about.
const ENTRY_BYTES: usize = 128;

/// The values by `vm_id` and key, with their compare-and-swap numbers.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    /// There are few of these.
    values: BTreeMap<Vec<u8>, Values>,
    last_cas: u32,
}

/// Values by key, each with its number. Guests look up a key or two in each request, which is dear with
/// the default hash.
type Values = HashMap<Vec<u8>, (Vec<u8>, u32), foldhash::fast::RandomState>;

impl SharedData {
    /// How many keys there are.
    pub(crate) fn keys(&self) -> u64 {
        let keys = self.values.values().map(HashMap::len).sum::<usize>();
        u64::try_from(keys).unwrap_or(u64::MAX)
    }

    /// The value of a key.
    pub(crate) fn get(&self, vm_id: &[u8], key: &[u8]) -> Option<&[u8]> {
        self.values.get(vm_id)?.get(key).map(|(value, _)| value.as_slice())
    }

    fn next_cas(&mut self) -> u32 {
        // 0 never stands for a value: it means "write in any case".
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        self.last_cas
    }
}

impl World {
    pub(super) fn get_shared_data(&self, scope: &Scope, key: &[u8]) -> Reply {
        let values = self.shared.values.get(self.shared_by(scope));
        match values.and_then(|values| values.get(key)) {
            Some((value, cas)) => Reply::Done(Answer::Shared { value: value.clone(), cas: *cas }),
            None => {
                Reply::refused(Status::NotFound, "no VM with this vm_id has written such a key")
            }
        }
    }

    pub(super) fn set_shared_data(
        &mut self,
        scope: &Scope,
        key: &[u8],
        value: &[u8],
        cas: u32,
    ) -> Reply {
        let values = self.shared.values.get(self.shared_by(scope));
        let old = values.and_then(|values| values.get(key));
        let comparison = self.profile.comparison();
        // As on Envoy: the number is compared only when the key is there, so that any number creates.
        match old {
            Some((_, current))
                if cas != *current && (cas != 0 || comparison == Comparison::Always) =>
            {
                let why = format!("the value has been written since: cas is {current}, not {cas}");
                return Reply::refused(Status::CasMismatch, why);
            }
            None if cas != 0 && comparison != Comparison::WithWhatIsThere => {
                let why = format!("there is no such key, and so no cas {cas}");
                return Reply::refused(Status::CasMismatch, why);
            }
            Some(_) | None => {}
        }
        // What a value replaces is not counted again: only new keys and longer values grow.
        let old = old.map(|(value, _)| value.len());
        let grown = match old {
            Some(old) => value.len().saturating_sub(old),
            None => value.len().saturating_add(key.len()).saturating_add(ENTRY_BYTES),
        };
        if let Err(trap) = self.keep(grown) {
            return trap;
        }
        self.let_go(old.unwrap_or_default().saturating_sub(value.len()));
        let cas = self.shared.next_cas();
        let vm_id = self.shared_by(scope).to_vec();
        let values = self.shared.values.entry(vm_id).or_default();
        match values.get_mut(key) {
            Some((old, old_cas)) => {
                old.clear();
                old.extend_from_slice(value);
                *old_cas = cas;
            }
            None => drop(values.insert(key.to_vec(), (value.to_vec(), cas))),
        }
        Reply::OK
    }

    /// The VM id whose plugins share data with the guest.
    fn shared_by(&self, scope: &Scope) -> &[u8] {
        self.plugin_of(scope).map_or(&[], |plugin| plugin.vm_id.as_slice())
    }
}
