//! Shared data: values that all workers of a proxy see, per `vm_id`.

use std::collections::HashMap;

use tollgate_abi::{Answer, Reply, Status};

use super::{Scope, World};
use crate::profile::Comparison;

/// What an entry takes beside its key and its value, about.
const ENTRY_BYTES: usize = 128;

/// The values of all VMs with their compare-and-swap numbers.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    values: HashMap<Key, (Vec<u8>, u32)>,
    last_cas: u32,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    vm_id: Vec<u8>,
    key: Vec<u8>,
}

impl SharedData {
    /// How many keys there are.
    pub(crate) fn keys(&self) -> u64 {
        u64::try_from(self.values.len()).unwrap_or(u64::MAX)
    }

    fn next_cas(&mut self) -> u32 {
        // 0 never stands for a value: it means "write in any case".
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        self.last_cas
    }
}

impl World {
    pub(super) fn get_shared_data(&self, scope: &Scope, key: &[u8]) -> Reply {
        match self.shared.values.get(&self.shared_key(scope, key)) {
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
        let key = self.shared_key(scope, key);
        let comparison = self.profile.comparison();
        // As on Envoy: the number is compared only when the key is there, so that any number creates.
        match self.shared.values.get(&key) {
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
        let old = self.shared.values.get(&key).map(|(value, _)| value.len());
        let grown = match old {
            Some(old) => value.len().saturating_sub(old),
            None => value.len().saturating_add(key.key.len()).saturating_add(ENTRY_BYTES),
        };
        if let Err(trap) = self.keep(grown) {
            return trap;
        }
        self.let_go(old.unwrap_or_default().saturating_sub(value.len()));
        let cas = self.shared.next_cas();
        self.shared.values.insert(key, (value.to_vec(), cas));
        Reply::OK
    }

    fn shared_key(&self, scope: &Scope, key: &[u8]) -> Key {
        let plugin = self.plugin_of(scope);
        let vm_id = plugin.map(|plugin| plugin.vm_id.clone()).unwrap_or_default();
        Key { vm_id, key: key.to_vec() }
    }
}
