//! Functions beside the ABI: what compilers import, and what a scenario declares.

use tollgate_abi::{Served, Shim, Status};

use super::{World, wasi};
use crate::scenario::ImportAnswer;

impl World {
    /// Whether the guest may call what it calls: at its start it may call little.
    pub fn may_call(&self, served: Served) -> bool {
        let is_at_start = self.scope.as_ref().is_some_and(|scope| scope.callback.is_none());
        !is_at_start || served.is_allowed_at_start()
    }

    /// The word that a function gives to a filter that may not call it, if it may not. As on Envoy, it then
    /// reads and writes nothing.
    pub fn refuse_restricted(&mut self, served: Served) -> Option<u32> {
        let (name, word) = match served {
            Served::Function(function) if function.module() == "env" => {
                (function.name(), Status::InternalFailure.into())
            }
            Served::Function(function) => (function.name(), wasi::ENOTCAPABLE),
            Served::Stub(stub) => (stub.name(), wasi::ENOTCAPABLE),
            Served::Shim(_) => return None,
        };
        let vm = self.scope.as_ref()?.vm;
        if self.allows(vm, name) || !self.may_call(served) {
            return None;
        }
        self.host_calls += 1;
        let text =
            format!("{name}(…) = {word}: the allowed capabilities of the filter do not name it");
        self.note(|| format!("    {text}"));
        self.recent.stub(text);
        Some(word)
    }

    /// Answers a call of a function beside the ABI and WASI.
    ///
    /// # Errors
    ///
    /// Why the guest traps.
    pub fn answer_shim(&mut self, shim: Shim, words: &[u64]) -> Result<u32, String> {
        self.host_calls += 1;
        let name = shim.name();
        if !self.may_call(Served::Shim(shim)) {
            return Err(format!("{name}: {}", super::NOT_AT_START));
        }
        let word = match (shim, words) {
            (Shim::PthreadEqual, [one, other]) => u32::from(one == other),
            (Shim::PthreadEqual | Shim::NotifyMemoryGrowth, _) => 0,
            (Shim::ResolveDns, _) => {
                self.unserved.get_or_insert_with(|| name.into());
                u32::from(Status::Unimplemented)
            }
        };
        self.note(|| format!("    {name}(…) = {word}"));
        Ok(word)
    }

    /// Answers a call of an import that only the scenario serves, by its name, as in `env.proxy_get_secret`.
    pub fn answer_import(&mut self, import: &str) -> ImportAnswer {
        self.host_calls += 1;
        let answer = match self.imports.get_mut(import) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers.first().cloned().unwrap_or(ImportAnswer::Trap),
            // A proxy does not start with a module whose imports nobody serves.
            None => ImportAnswer::Trap,
        };
        self.note(|| match &answer {
            ImportAnswer::Trap => format!("    {import}(…): trap, as the scenario says"),
            ImportAnswer::Return { word, .. } => {
                format!("    {import}(…) = {word}, as the scenario says")
            }
        });
        answer
    }
}
