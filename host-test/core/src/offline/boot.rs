//! Starting: a VM to try the configuration, one on the main thread, one on each worker.

use std::sync::Arc;

use tollgate_abi::{Callback, CallbackKind};

use super::callouts::Clusters;
use super::{Guest, Loader, Run};
use crate::engine::{Module, Trap};
use crate::proxy::StartError;
use crate::scenario::{Scenario, UPSTREAM};
use crate::transcript::Entry;
use crate::world::{Context, Place, Plugin, Vm, VmId, World};

/// The root context of every VM.
pub(super) const ROOT: u32 = 1;

/// Boots a proxy; a failure gives the world back for its transcript.
pub(super) fn boot(
    world: World,
    loader: &Loader<'_>,
    scenario: &Scenario,
) -> Result<Run, Box<(StartError, World)>> {
    let workers = scenario.workers.get();
    let chains = vec![Vec::new(); workers];
    let connected = vec![false; workers];
    let mut run = Run {
        world,
        guests: Vec::new(),
        chains,
        connected,
        requests: 0,
        clusters: Clusters::of(scenario),
        retired_fuel: None,
    };
    match run.boot_all(loader, scenario) {
        Ok(()) => Ok(run),
        Err(error) => Err(Box::new((error, run.world))),
    }
}

impl Run {
    fn boot_all(&mut self, loader: &Loader<'_>, scenario: &Scenario) -> Result<(), StartError> {
        let clusters = scenario.clusters.iter().cloned().chain([UPSTREAM.to_owned()]);
        self.world.callouts.clusters = clusters.collect();
        let mut modules = Vec::new();
        for filter in &scenario.filters {
            self.world.plugins.push(Plugin {
                name: filter.name.clone(),
                root_id: filter.root_id.clone(),
                vm_id: Vec::new(),
                configuration: filter.config.clone(),
            });
            modules.push(loader(filter)?);
        }
        for (plugin, module) in modules.iter().enumerate() {
            let base = self.boot_one(module, plugin, Place::Base)?;
            self.world.callouts.drop_vm(base);
            if let Some(guest) = self.guests.get_mut(base.0) {
                guest.instance = None;
            }
            self.boot_one(module, plugin, Place::Main)?;
        }
        for worker in 0..self.chains.len() {
            for (plugin, module) in modules.iter().enumerate() {
                let vm = self.boot_one(module, plugin, Place::Worker(worker))?;
                if let Some(chain) = self.chains.get_mut(worker) {
                    chain.push(vm);
                }
            }
        }
        self.refuse_what_was_called().map_err(|failure| StartError::Host(Box::new(failure)))
    }

    fn boot_one(
        &mut self,
        module: &Arc<dyn Module>,
        plugin: usize,
        place: Place,
    ) -> Result<VmId, StartError> {
        let first_log = self.world.logs.len();
        let size = self.world.plugins.get(plugin).map_or(0, |plugin| plugin.configuration.len());
        let mut vm = Vm::new(plugin, place);
        vm.add_context(Context::Root);
        let vm = self.world.add_vm(vm);
        let instance = module.instantiate();
        let refused = |run: &mut Self, words: String| Err(run.refusal(vm, first_log, &words));
        match instance {
            Ok(instance) => {
                self.guests.push(Guest { module: Arc::clone(module), instance: Some(instance) });
            }
            Err(trap) => return refused(self, trap.to_string()),
        }
        if let Err(trap) = self.start(vm) {
            return refused(self, format!("the module's start function trapped: {trap}"));
        }
        let steps = [
            (Callback::ContextCreate { context: ROOT, parent: 0 }, "failed to create its context"),
            (Callback::VmStart { context: ROOT, configuration_size: 0 }, "failed to start the VM"),
            (
                Callback::Configure { context: ROOT, configuration_size: size },
                "refused its configuration",
            ),
        ];
        for (callback, failure) in steps {
            match self.try_call(vm, callback) {
                Ok(Some(0)) if callback.kind() != CallbackKind::ContextCreate => {
                    return refused(self, format!("the filter {failure}"));
                }
                Ok(_) => {}
                Err(trap) => return refused(self, format!("the filter {failure}: {trap}")),
            }
        }
        Ok(vm)
    }

    /// What the guest logged since `first_log`, and what the host says of it.
    fn refusal(&mut self, vm: VmId, first_log: usize, words: &str) -> StartError {
        // A guest that was let down by the host has not been judged.
        if let Err(failure) = self.refuse_what_was_called() {
            return StartError::Host(Box::new(failure));
        }
        let plugin = self.world.plugin_of(vm).map_or("?", |plugin| plugin.name.as_str());
        let logs = self.world.logs.get(first_log..).unwrap_or_default();
        let mut lines: Vec<String> =
            logs.iter().map(|line| String::from_utf8_lossy(&line.message).into_owned()).collect();
        lines.push(format!("plugin {plugin}: {words}"));
        StartError::Refused { words: lines.join("\n") }
    }

    fn start(&mut self, vm: VmId) -> Result<(), Trap> {
        let Some(instance) = self.guests.get_mut(vm.0).and_then(|guest| guest.instance.as_mut())
        else {
            return Ok(());
        };
        self.world.enter(vm, None);
        let result = instance.start(&mut self.world);
        self.world.leave();
        self.world.note_entry(match &result {
            Ok(()) => Entry::Return { callback: None, word: 0 },
            Err(trap) => Entry::Trap(trap.to_string()),
        });
        result
    }

    /// Runs a callback if the guest exports it and has not trapped, and gives what it returned.
    pub(super) fn try_call(&mut self, vm: VmId, callback: Callback) -> Result<Option<u32>, Trap> {
        let Some(guest) = self.guests.get_mut(vm.0) else {
            return Ok(None);
        };
        if !guest.module.exports(callback.kind()) {
            return Ok(None);
        }
        let Some(instance) = guest.instance.as_mut() else {
            return Ok(None);
        };
        self.world.enter(vm, Some(&callback));
        let result = instance.call(&mut self.world, &callback);
        self.world.leave();
        match result {
            Ok(word) => {
                self.world.note_entry(Entry::Return { callback: Some(callback), word });
                self.deliver_failures();
                Ok(Some(word))
            }
            Err(trap) => {
                if let Some(fuel) = guest.instance.take().and_then(|instance| instance.fuel_used())
                {
                    *self.retired_fuel.get_or_insert(0) += fuel;
                }
                self.world.note_entry(Entry::Trap(trap.to_string()));
                if let Some(vm) = self.world.vm_mut(vm) {
                    vm.failed = true;
                }
                Err(trap)
            }
        }
    }
}
