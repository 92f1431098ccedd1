//! Plugins, the VMs that run them, and the contexts inside.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_abi::{AbiVersion, Reply, Status};

use super::clock::Tick;
use super::filter_state::Prototype;
use super::stream::StreamId;
use super::{Link, Scope, World};
use crate::engine::CodeId;

/// A filter with its configuration. What is the same in all of it is one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Name.
    pub name: String,
    /// Root id.
    pub root_id: String,
    /// VM id: plugins with the same one share data.
    pub vm_id: Vec<u8>,
    /// Configuration of the VM as the guest gets it.
    pub vm_configuration: Vec<u8>,
    /// Environment variables of the VM.
    pub environment: BTreeMap<String, String>,
    /// What the VM may call and gets called for, by name; all when there are none.
    pub allowed_capabilities: BTreeSet<String>,
    /// The version of the ABI that its module declares.
    pub abi: AbiVersion,
    /// Configuration as the guest gets it.
    pub configuration: Vec<u8>,
    /// The code of its module.
    pub code: CodeId,
}

impl Plugin {
    /// Whether one VM runs both, as on Envoy: what makes a VM is its code, its id, its configuration,
    /// its environment and what it may do.
    pub(crate) fn shares_vm(&self, other: &Self) -> bool {
        self.code == other.code
            && self.vm_id == other.vm_id
            && self.vm_configuration == other.vm_configuration
            && self.environment == other.environment
            && self.allowed_capabilities == other.allowed_capabilities
    }
}

/// A plugin by its number in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PluginId(pub(crate) usize);

/// A VM by its number in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmId(pub(crate) usize);

/// A VM: one guest, which serves every plugin with its code.
#[derive(Debug)]
pub(crate) struct Vm {
    /// The plugin that it was made for.
    pub(crate) first: PluginId,
    pub(crate) place: Place,
    pub(crate) contexts: BTreeMap<u32, Context>,
    pub(crate) next_context: u32,
    /// The ticks of each root context.
    pub(crate) ticks: BTreeMap<u32, Tick>,
    /// What contexts have declared about properties, by context and name.
    pub(super) prototypes: BTreeMap<(u32, Vec<u8>), Prototype>,
    /// The metric behind each id that this VM was given, by kind.
    pub(crate) metric_ids: [Vec<usize>; 3],
    /// Root contexts whose `proxy_on_done` asked to wait.
    pub(crate) pending_done: BTreeSet<u32>,
    /// The guest trapped or lost its last root: no callback reaches it any more.
    pub(crate) failed: bool,
}

/// Where a VM runs. Envoy tries each configuration in a VM that lives no longer, then it has one VM on its
/// main thread and one on each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Of the VM that others are made after: only its start function runs.
    Base,
    /// Of a VM in which a configuration is tried.
    Trial,
    Main,
    Worker(usize),
}

/// A context of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// The plugin itself.
    Root(PluginId),
    /// A stream, at a place in the chain.
    Stream { stream: StreamId, at: usize, root: u32 },
}

impl Vm {
    pub(crate) fn new(first: PluginId, place: Place) -> Self {
        Self {
            first,
            place,
            contexts: BTreeMap::new(),
            next_context: 1,
            ticks: BTreeMap::new(),
            prototypes: BTreeMap::new(),
            metric_ids: Default::default(),
            pending_done: BTreeSet::new(),
            failed: false,
        }
    }

    pub(crate) fn add_context(&mut self, context: Context) -> u32 {
        let id = self.next_context;
        self.next_context = self.next_context.wrapping_add(1);
        self.contexts.insert(id, context);
        id
    }

    /// The root context of a plugin.
    pub(crate) fn root_of(&self, plugin: PluginId) -> Option<u32> {
        let is_root = |(_, context): &(&u32, &Context)| **context == Context::Root(plugin);
        self.contexts.iter().find(is_root).map(|(&root, _)| root)
    }

    /// The root context that a context belongs to.
    pub(crate) fn root_above(&self, context: u32) -> Option<u32> {
        match self.contexts.get(&context)? {
            Context::Root(_) => Some(context),
            Context::Stream { root, .. } => Some(*root),
        }
    }

    /// The plugin that a context belongs to.
    pub(crate) fn plugin_of(&self, context: u32) -> Option<PluginId> {
        match self.contexts.get(&self.root_above(context)?)? {
            Context::Root(plugin) => Some(*plugin),
            Context::Stream { .. } => None,
        }
    }
}

impl World {
    pub(crate) fn add_vm(&mut self, vm: Vm) -> VmId {
        self.vms.push(vm);
        VmId(self.vms.len() - 1)
    }

    pub(crate) fn vm(&self, vm: VmId) -> Option<&Vm> {
        self.vms.get(vm.0)
    }

    pub(crate) fn vm_mut(&mut self, vm: VmId) -> Option<&mut Vm> {
        self.vms.get_mut(vm.0)
    }

    pub(crate) fn plugin(&self, plugin: PluginId) -> Option<&Plugin> {
        self.plugins.get(plugin.0)
    }

    /// Numbers a plugin; the same one has the same number.
    pub(crate) fn add_plugin(&mut self, plugin: Plugin) -> PluginId {
        let known = self.plugins.iter().position(|known| *known == plugin);
        PluginId(known.unwrap_or_else(|| {
            self.plugins.push(plugin);
            self.plugins.len() - 1
        }))
    }

    /// The plugin that the guest runs for: that of its context, and before it has one the first.
    pub(super) fn plugin_of(&self, scope: &Scope) -> Option<&Plugin> {
        let vm = self.vm(scope.vm)?;
        self.plugin(vm.plugin_of(scope.effective).unwrap_or(vm.first))
    }

    /// Whether a VM may call a host function, or gets a callback, of this name.
    pub(crate) fn allows(&self, vm: VmId, name: &str) -> bool {
        let first = self.vm(vm).and_then(|vm| self.plugin(vm.first));
        first.is_none_or(|plugin| {
            let allowed = &plugin.allowed_capabilities;
            allowed.is_empty() || allowed.contains(name)
        })
    }

    /// Whether the guest speaks the first version of the ABI.
    pub(super) fn speaks_0_1_0(&self, scope: &Scope) -> bool {
        self.plugin_of(scope).is_some_and(|plugin| plugin.abi == AbiVersion::V0_1_0)
    }

    /// The VM at a place that runs a plugin; one that has trapped is none.
    pub(crate) fn find_vm(&self, plugin: PluginId, place: Place) -> Option<VmId> {
        let plugin = self.plugin(plugin)?;
        let serves = |vm: &Vm| {
            let first = self.plugin(vm.first);
            vm.place == place && !vm.failed && first.is_some_and(|first| first.shares_vm(plugin))
        };
        self.vms.iter().position(serves).map(VmId)
    }

    pub(crate) fn guest_name(&self, vm: VmId, context: u32) -> String {
        let plugin =
            self.vm(vm).and_then(|vm| self.plugin(vm.plugin_of(context).unwrap_or(vm.first)));
        let plugin = plugin.map_or("?", |plugin| plugin.name.as_str());
        match self.vm(vm).map(|vm| vm.place) {
            Some(Place::Worker(worker)) => format!("{plugin}@{worker}"),
            Some(Place::Main) => format!("{plugin}@main"),
            Some(Place::Trial) => format!("{plugin}@trial"),
            Some(Place::Base) | None => format!("{plugin}@base"),
        }
    }

    /// The stream that the effective context of the guest stands for.
    pub(super) fn stream_of(&self, scope: &Scope) -> Option<(StreamId, usize)> {
        match self.vm(scope.vm)?.contexts.get(&scope.effective)? {
            Context::Root(_) => None,
            Context::Stream { stream, at, .. } => Some((*stream, *at)),
        }
    }

    /// The root context that the effective context of the guest belongs to.
    pub(super) fn root_of(&self, scope: &Scope) -> Option<u32> {
        self.vm(scope.vm)?.root_above(scope.effective)
    }

    /// Ends the root context that asked to wait; its deletion comes when the callback has returned.
    pub(super) fn done(&mut self, scope: &Scope) -> Reply {
        let (vm, root) = (scope.vm, scope.effective);
        if self.vm_mut(vm).is_some_and(|vm| vm.pending_done.remove(&root)) {
            self.ended.push_back(Link { vm, root });
            Reply::OK
        } else {
            let why = format!(
                "context {root} does not wait to be done: its proxy_on_done did not return 0, or it is done"
            );
            Reply::untimely(Status::NotFound, why)
        }
    }

    pub(super) fn set_effective_context(&mut self, scope: &Scope, context: u32) -> Reply {
        // As on Envoy: 0 stands for the context of the callback.
        let context = match (context, scope.callback) {
            (0, Some(callback)) => callback.context(),
            _ => context,
        };
        if self.vm(scope.vm).is_none_or(|vm| !vm.contexts.contains_key(&context)) {
            let why = format!("there is no context {context}: it was never made, or is deleted");
            return Reply::refused(Status::BadArgument, why);
        }
        if let Some(scope) = &mut self.scope {
            scope.effective = context;
        }
        Reply::OK
    }
}
