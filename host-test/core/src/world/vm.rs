//! Plugins, the VMs that run them, and the contexts inside.

use std::collections::BTreeMap;
use std::time::Duration;

use tollgate_abi::{Reply, Status};

use super::stream::StreamId;
use super::{Scope, World};

/// A filter in the chain with its configuration.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Name.
    pub name: String,
    /// Root id.
    pub root_id: String,
    /// VM id: plugins with the same one share data.
    pub vm_id: Vec<u8>,
    /// Configuration as the guest gets it.
    pub configuration: Vec<u8>,
}

/// A VM by its number in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmId(pub(crate) usize);

/// A VM: one guest of one plugin.
#[derive(Debug)]
pub(crate) struct Vm {
    /// The plugin, by its place in the chain.
    pub(crate) plugin: usize,
    pub(crate) place: Place,
    pub(crate) contexts: BTreeMap<u32, Context>,
    pub(crate) next_context: u32,
    /// Tick period, and when the next tick is due.
    pub(crate) tick: Option<(Duration, Duration)>,
    /// The metric behind each id that this VM was given, by kind.
    pub(crate) metric_ids: [Vec<usize>; 3],
    /// The guest trapped: no callback reaches it any more.
    pub(crate) failed: bool,
}

/// Where a VM runs. Envoy tries a configuration in a base VM, then starts one VM on its main thread and
/// one on each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Base,
    Main,
    Worker(usize),
}

/// A context of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// The plugin itself.
    Root,
    /// A stream, at the plugin's place in the chain.
    Stream(StreamId),
}

impl Vm {
    pub(crate) fn new(plugin: usize, place: Place) -> Self {
        Self {
            plugin,
            place,
            contexts: BTreeMap::new(),
            next_context: 1,
            tick: None,
            metric_ids: Default::default(),
            failed: false,
        }
    }

    pub(crate) fn add_context(&mut self, context: Context) -> u32 {
        let id = self.next_context;
        self.next_context = self.next_context.wrapping_add(1);
        self.contexts.insert(id, context);
        id
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

    pub(crate) fn plugin_of(&self, vm: VmId) -> Option<&Plugin> {
        self.plugins.get(self.vm(vm)?.plugin)
    }

    pub(crate) fn guest_name(&self, vm: VmId) -> String {
        let plugin = self.plugin_of(vm).map_or("?", |plugin| plugin.name.as_str());
        match self.vm(vm).map(|vm| vm.place) {
            Some(Place::Worker(worker)) => format!("{plugin}@{worker}"),
            Some(Place::Main) => format!("{plugin}@main"),
            Some(Place::Base) | None => format!("{plugin}@base"),
        }
    }

    /// The stream that the effective context of the guest stands for.
    pub(super) fn stream_of(&self, scope: &Scope) -> Option<StreamId> {
        match self.vm(scope.vm)?.contexts.get(&scope.effective)? {
            Context::Root => None,
            Context::Stream(stream) => Some(*stream),
        }
    }

    pub(super) fn set_effective_context(&mut self, scope: &Scope, context: u32) -> Reply {
        if self.vm(scope.vm).is_none_or(|vm| !vm.contexts.contains_key(&context)) {
            return Reply::refused(Status::BadArgument, format!("there is no context {context}"));
        }
        if let Some(scope) = &mut self.scope {
            scope.effective = context;
        }
        Reply::OK
    }
}
