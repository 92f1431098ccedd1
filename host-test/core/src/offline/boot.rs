//! Starting: a VM to try each configuration, then VMs on the main thread and on each worker, and a root
//! context for each plugin in them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tollgate_abi::{Callback, CallbackKind, Served};

use super::callouts::Clusters;
use super::failure::Seat;
use super::feed::Connections;
use super::peers::Peers;
use super::streams::Client;
use super::{Guest, Loader, Run};
use crate::engine::{Module, Trap};
use crate::proxy::StartError;
use crate::scenario::{FailurePolicy, FilterUse, Scenario};
use crate::transcript::Entry;
use crate::world::{Context, Link, Place, Plugin, PluginId, Vm, VmId, World};

/// A filter of the chain, as it is now.
#[derive(Clone)]
pub(super) struct Filter {
    pub(super) module: Arc<dyn Module>,
    pub(super) plugin: PluginId,
    /// Headers that it holds are held alone.
    pub(super) stops_headers_alone: bool,
    pub(super) failure_policy: FailurePolicy,
}

impl Filter {
    pub(super) fn load(
        world: &mut World,
        loader: &Loader<'_>,
        filter: &FilterUse,
    ) -> Result<Self, StartError> {
        let module = loader(filter)?;
        refuse_missing(world, module.as_ref())?;
        let plugin = world.add_plugin(Plugin {
            name: filter.name.clone(),
            root_id: filter.root_id.clone(),
            vm_id: filter.vm_id.clone().into_bytes(),
            vm_configuration: filter.vm_config.clone(),
            environment: filter.environment.clone(),
            allowed_capabilities: filter.allowed_capabilities.clone(),
            abi: module.abi(),
            configuration: filter.config.clone(),
            code: module.code(),
        });
        let stops_headers_alone = filter.allow_on_headers_stop_iteration;
        let failure_policy = filter.failure_policy;
        Ok(Self { module, plugin, stops_headers_alone, failure_policy })
    }
}

/// Why a guest could not be made.
#[derive(Debug)]
pub(super) struct NotMade {
    /// How many log lines there were before it.
    first_log: usize,
    /// What the host says of it.
    pub(super) words: String,
}

/// Refuses a module with imports that nobody answers.
pub(super) fn refuse_missing(world: &World, module: &dyn Module) -> Result<(), StartError> {
    let is_missing = |import: &&String| !world.imports.contains_key(*import);
    let missing = module.unserved().iter().filter(is_missing);
    let missing: Vec<String> =
        missing.map(|import| format!("{}{import}", Served::MISSING)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(StartError::Refused { words: missing.join("\n") })
}

/// Boots a proxy; a failure gives the world back for its transcript.
pub(super) fn boot(
    world: World,
    loader: &Loader<'_>,
    scenario: &Scenario,
) -> Result<Run, Box<(StartError, World)>> {
    let mut run = Run::new(world, scenario);
    match run.boot_all(loader, scenario) {
        Ok(()) => Ok(run),
        Err(error) => Err(Box::new((error, *run.world))),
    }
}

impl Run {
    /// A proxy without a VM.
    pub(super) fn new(mut world: World, scenario: &Scenario) -> Self {
        let workers = scenario.workers.get();
        world.buffer_limit = scenario.buffer_limit;
        Self {
            world: Box::new(world),
            filters: Vec::new(),
            tried: BTreeMap::new(),
            later: BTreeMap::new(),
            guests: Vec::new(),
            chains: vec![Vec::new(); workers],
            retiring: false,
            idle: vec![0; workers],
            clients: (1_u64..).take(workers).map(|number| vec![Client::new(number)]).collect(),
            peers: None,
            connections: Connections::default(),
            requests: 0,
            flows: BTreeMap::new(),
            events: VecDeque::new(),
            date: super::wire::Date::default(),
            clusters: Clusters::of(scenario),
            elsewhere: None,
            retired_fuel: None,
            fuel_at_step: None,
            is_telling_failures: false,
        }
    }

    fn boot_all(&mut self, loader: &Loader<'_>, scenario: &Scenario) -> Result<(), StartError> {
        let upstream = scenario.proxy.cluster.name.clone();
        self.world.callouts.clusters =
            scenario.clusters.iter().cloned().chain([upstream]).collect();
        self.world.proxy = scenario.proxy.clone();
        let peers = scenario.tls.as_ref().map(Peers::new).transpose();
        self.peers = peers.map_err(|error| StartError::Host(Box::new(error)))?;
        self.world.made_up.clone_from(&scenario.properties);
        self.world.imports.clone_from(&scenario.imports);
        self.world.profile = scenario.profile;
        let filters = scenario.filters.iter();
        let filters: Vec<Filter> = filters
            .map(|filter| Filter::load(&mut self.world, loader, filter))
            .collect::<Result<_, _>>()?;
        for filter in scenario.later_modules() {
            let loaded = match loader(&filter) {
                Ok(module) => Ok(module),
                Err(StartError::Refused { words }) => Err(words),
                Err(error) => return Err(error),
            };
            self.later.insert(filter.source, loaded);
        }
        self.arm(&scenario.start.faults);
        for filter in &filters {
            self.try_out(filter)?;
            self.install(filter, Place::Main)?;
        }
        for worker in self.world.chance.order(self.chains.len()) {
            for filter in &filters {
                let link = self.install(filter, Place::Worker(worker))?;
                let loaded = self.world.clock.passed();
                if let Some(chain) = self.chains.get_mut(worker) {
                    chain.push(Seat { link, loaded });
                }
            }
        }
        self.world.faults.clear();
        self.filters = filters;
        self.refuse_what_was_called().map_err(|failure| StartError::Host(Box::new(failure)))
    }

    /// Starts and configures a plugin in a VM of its own, unless the same one was tried before.
    pub(super) fn try_out(&mut self, filter: &Filter) -> Result<(), StartError> {
        if self.world.find_vm(filter.plugin, Place::Base).is_none() {
            let base = self.make_vm(filter, Place::Base);
            let base = base.map_err(|failed| self.refusal(filter.plugin, &failed))?;
            self.drop_instance(base);
        }
        if let Some(&is_good) = self.tried.get(&filter.plugin) {
            let words = "its configuration was refused before".into();
            let again = NotMade { first_log: usize::MAX, words };
            return if is_good { Ok(()) } else { Err(self.refusal(filter.plugin, &again)) };
        }
        let trial = self.make_vm(filter, Place::Trial);
        let trial = trial.map_err(|failed| self.refusal(filter.plugin, &failed))?;
        let root = self.make_root(filter.plugin, trial);
        let root = root.map_err(|failed| self.refusal(filter.plugin, &failed));
        self.drop_instance(trial);
        self.tried.insert(filter.plugin, root.is_ok());
        root.map(|_| ())
    }

    /// Gives a plugin a root context at a place, or the one that it has there.
    pub(super) fn install(&mut self, filter: &Filter, place: Place) -> Result<Link, StartError> {
        self.seat(filter, place).map_err(|failed| self.refusal(filter.plugin, &failed))
    }

    /// The same, with nobody told why not.
    pub(super) fn seat(&mut self, filter: &Filter, place: Place) -> Result<Link, NotMade> {
        let vm = match self.world.find_vm(filter.plugin, place) {
            Some(vm) => vm,
            None => self.make_vm(filter, place)?,
        };
        match self.world.vm(vm).and_then(|vm| vm.root_of(filter.plugin)) {
            Some(root) => Ok(Link { vm, root }),
            None => self.make_root(filter.plugin, vm),
        }
    }

    pub(super) fn make_vm(&mut self, filter: &Filter, place: Place) -> Result<VmId, NotMade> {
        let first_log = self.world.logs.len();
        let vm = self.world.add_vm(Vm::new(filter.plugin, place));
        let instance = filter.module.instantiate();
        let module = Arc::clone(&filter.module);
        match instance {
            Ok(instance) => self.guests.push(Guest { module, instance: Some(instance) }),
            Err(trap) => {
                self.guests.push(Guest { module, instance: None });
                let words = format!("Failed to create new Wasm instance: {trap}");
                return Err(NotMade { first_log, words });
            }
        }
        match self.start(vm) {
            Ok(()) => Ok(vm),
            Err(trap) => Err(NotMade { first_log, words: trap.message }),
        }
    }

    /// Gives up a VM, which serves nobody any more.
    pub(super) fn fail(&mut self, vm: VmId) {
        self.drop_instance(vm);
        if let Some(vm) = self.world.vm_mut(vm) {
            vm.failed = true;
        }
    }

    pub(super) fn drop_instance(&mut self, vm: VmId) {
        self.world.drop_callouts_of_vm(vm);
        // What is gone ticks no more: time that passes would stop at each of its ticks.
        if let Some(vm) = self.world.vm_mut(vm) {
            vm.ticks.clear();
        }
        let instance = self.guests.get_mut(vm.0).and_then(|guest| guest.instance.take());
        if let Some(fuel) = instance.and_then(|instance| instance.fuel_used()) {
            *self.retired_fuel.get_or_insert(0) += fuel;
        }
    }

    pub(super) fn make_root(&mut self, plugin: PluginId, vm: VmId) -> Result<Link, NotMade> {
        let first_log = self.world.logs.len();
        let size_of = |bytes: fn(&Plugin) -> &Vec<u8>| {
            self.world.plugin(plugin).map_or(0, |plugin| bytes(plugin).len())
        };
        let vm_size = size_of(|plugin| &plugin.vm_configuration);
        let size = size_of(|plugin| &plugin.configuration);
        let root = self.world.vm_mut(vm).map_or(0, |vm| vm.add_context(Context::Root(plugin)));
        let steps = [
            (Callback::ContextCreate { context: root, parent: 0 }, "failed to create its context"),
            (
                Callback::VmStart { context: root, configuration_size: vm_size },
                "failed to start the VM",
            ),
            (
                Callback::Configure { context: root, configuration_size: size },
                "refused its configuration",
            ),
        ];
        for (callback, failure) in steps {
            match self.try_call(vm, callback) {
                Ok(Some(0)) if callback.kind() != CallbackKind::ContextCreate => {
                    return Err(NotMade { first_log, words: format!("the filter {failure}") });
                }
                Ok(_) => {}
                Err(_) => {
                    let words = format!("the filter {failure}: it trapped");
                    return Err(NotMade { first_log, words });
                }
            }
        }
        Ok(Link { vm, root })
    }

    /// What the guest logged, what the host says of it, and what may explain it.
    pub(super) fn refusal(&mut self, plugin: PluginId, failed: &NotMade) -> StartError {
        let NotMade { first_log, words } = failed;
        // A guest that was let down by the host has not been judged.
        if let Err(failure) = self.refuse_what_was_called() {
            return StartError::Host(Box::new(failure));
        }
        let account = self.world.take_account();
        let plugin = self.world.plugin(plugin).map_or("?", |plugin| plugin.name.as_str());
        let logs = self.world.logs.get(*first_log..).unwrap_or_default();
        let mut lines: Vec<String> =
            logs.iter().map(|line| String::from_utf8_lossy(&line.message).into_owned()).collect();
        lines.push(format!("plugin {plugin}: {words}{account}"));
        StartError::Refused { words: lines.join("\n") }
    }

    fn start(&mut self, vm: VmId) -> Result<(), Trap> {
        let Some(instance) = self.guests.get_mut(vm.0).and_then(|guest| guest.instance.as_mut())
        else {
            return Ok(());
        };
        self.world.enter(vm, None);
        let result = instance.start(&mut self.world);
        let entry = match &result {
            Ok(()) => Entry::Return { callback: None, word: 0 },
            Err(trap) => Entry::Trap(Box::new(self.world.report_trap(trap))),
        };
        self.world.leave();
        self.world.note_entry(entry);
        result
    }

    /// Runs a callback if the guest exports it, is allowed to get it and has not trapped, and gives what it
    /// returned.
    pub(super) fn try_call(&mut self, vm: VmId, callback: Callback) -> Result<Option<u32>, Trap> {
        let Some(guest) = self.guests.get_mut(vm.0) else {
            return Ok(None);
        };
        let kind = callback.kind();
        if !guest.module.exports(kind) || !self.world.allows(vm, kind.name()) {
            return Ok(None);
        }
        let Some(instance) = guest.instance.as_mut() else {
            return Ok(None);
        };
        self.world.has_answered = false;
        self.world.enter(vm, Some(&callback));
        let result = instance.call(&mut self.world, &callback);
        let report = result.as_ref().err().map(|trap| Box::new(self.world.report_trap(trap)));
        self.world.leave();
        let has_answered = self.world.has_answered;
        let result = match result {
            Ok(word) => {
                self.world.note_entry(Entry::Return { callback: Some(callback), word });
                self.deliver_failures();
                self.delete_ended();
                Ok(Some(word))
            }
            Err(trap) => {
                if let Some(fuel) = guest.instance.take().and_then(|instance| instance.fuel_used())
                {
                    *self.retired_fuel.get_or_insert(0) += fuel;
                }
                if let Some(report) = report {
                    self.world.note_entry(Entry::Trap(report));
                }
                if let Some(vm) = self.world.vm_mut(vm) {
                    vm.failed = true;
                }
                Err(trap)
            }
        };
        self.attend();
        // Of this callback, not of those that came of it.
        self.world.has_answered = has_answered;
        result
    }
}
