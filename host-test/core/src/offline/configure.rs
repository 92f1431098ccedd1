//! Another configuration or module for a filter of the running proxy: it is tried, then new streams get
//! it.
//!
//! It is another plugin, with root contexts of its own: in the same VMs, or for a module in VMs of its
//! own. The old ones end with the last stream that began with them, and a VM with its last root.

use std::sync::Arc;
use std::time::Duration;

use tollgate_abi::Callback;

use super::boot::{Filter, refuse_missing};
use super::failure::Seat;
use super::{Loader, Run};
use crate::engine::Module;
use crate::proxy::{Configured, HostFailure, StartError};
use crate::recording::RecordedFilter;
use crate::scenario::{ConfigureStep, FilterSource};
use crate::world::{Context, Link, Place, Plugin, PluginId, VmId};

/// How long plugins may take to be done when the proxy shuts down, in virtual time.
const LAST_WAIT: Duration = Duration::from_secs(10);

impl Run {
    pub(super) fn reconfigure(&mut self, step: &ConfigureStep) -> Configured {
        let what = if step.module.is_some() { "module" } else { "configuration" };
        self.world.note(|| format!("filter {} gets another {what}", step.filter));
        let changed = self.changed(step);
        let replaced =
            changed.and_then(|new| new.map_or(Ok(()), |new| self.replace(step.filter, new)));
        self.accept(replaced)
    }

    /// The filter that a step makes of one of the chain, if it is there.
    fn changed(&mut self, step: &ConfigureStep) -> Result<Option<Filter>, StartError> {
        let Some(old) = self.filters.get(step.filter).cloned() else { return Ok(None) };
        let Some(plugin) = self.world.plugin(old.plugin).cloned() else { return Ok(None) };
        let module = match &step.module {
            None => Arc::clone(&old.module),
            Some(source) => self.later_module(source)?,
        };
        let configuration = step.config.as_ref().unwrap_or(&plugin.configuration).clone();
        let (abi, code) = (module.abi(), module.code());
        let plugin = self.world.add_plugin(Plugin { abi, configuration, code, ..plugin });
        Ok(Some(Filter { module, plugin, ..old }))
    }

    /// Gives a place in the chain another filter, its module and its configuration.
    pub(super) fn exchange_filter(
        &mut self,
        place: usize,
        filter: &RecordedFilter,
        loader: &Loader<'_>,
    ) -> Configured {
        let filter = filter.to_use().map_err(|error| StartError::Module(error.into()));
        let new = filter.and_then(|filter| Filter::load(&mut self.world, loader, &filter));
        let replaced = new.and_then(|new| self.replace(place, new));
        self.accept(replaced)
    }

    fn accept(&mut self, replaced: Result<(), StartError>) -> Configured {
        match replaced {
            Ok(()) => {
                self.retiring = true;
                self.retire();
                Configured::Accepted
            }
            Err(error) => Configured::Refused { words: error.to_string() },
        }
    }

    /// Has new streams find a filter at a place in the chain, unless it is the one that is there.
    fn replace(&mut self, place: usize, new: Filter) -> Result<(), StartError> {
        if self.filters.get(place).is_none_or(|old| old.plugin == new.plugin) {
            return Ok(());
        }
        self.try_out(&new)?;
        self.install(&new, Place::Main)?;
        for worker in self.world.chance.order(self.chains.len()) {
            let link = self.install(&new, Place::Worker(worker))?;
            let loaded = self.world.clock.passed();
            let chain = self.chains.get_mut(worker);
            if let Some(seat) = chain.and_then(|chain| chain.get_mut(place)) {
                *seat = Seat { link, loaded };
            }
        }
        if let Some(filter) = self.filters.get_mut(place) {
            *filter = new;
        }
        Ok(())
    }

    fn later_module(&self, source: &FilterSource) -> Result<Arc<dyn Module>, StartError> {
        let module = match self.later.get(source) {
            Some(Ok(module)) => Arc::clone(module),
            Some(Err(words)) => return Err(StartError::Refused { words: words.clone() }),
            None => {
                let words = "this proxy was started for a scenario without this module".into();
                return Err(StartError::Refused { words });
            }
        };
        refuse_missing(&self.world, module.as_ref())?;
        Ok(module)
    }

    /// Ends the root contexts that neither the chain nor a stream uses any more.
    pub(super) fn retire(&mut self) {
        if !self.retiring {
            return;
        }
        self.retiring = !self.world.streams.is_empty();
        // What they have called by now is on its way, and is only not answered any more.
        self.answer_callouts();
        for link in self.unused() {
            self.end_root(link);
        }
    }

    fn unused(&self) -> Vec<Link> {
        let mut unused = Vec::new();
        for (index, vm) in self.world.vms.iter().enumerate() {
            for (&root, context) in &vm.contexts {
                let link = Link { vm: VmId(index), root };
                let &Context::Root(plugin) = context else { continue };
                let is_used = match vm.place {
                    Place::Base | Place::Trial => true,
                    Place::Main => self.filters.iter().any(|filter| filter.plugin == plugin),
                    Place::Worker(worker) => {
                        let chain = self.chains.get(worker);
                        let mut streams = self.world.streams.values();
                        chain.is_some_and(|chain| chain.iter().any(|seat| seat.link == link))
                            || streams
                                .any(|stream| stream.stages.iter().any(|at| at.link == Some(link)))
                    }
                };
                if !is_used && !vm.pending_done.contains(&root) {
                    unused.push(link);
                }
            }
        }
        unused
    }

    fn end_root(&mut self, link: Link) {
        // A trap is in the transcript; nothing of the VM is called after it.
        match self.try_call(link.vm, Callback::Done { context: link.root }) {
            Ok(Some(0)) => {
                if let Some(vm) = self.world.vm_mut(link.vm) {
                    vm.pending_done.insert(link.root);
                }
            }
            Ok(_) | Err(_) => self.delete_root(link),
        }
    }

    /// Ends every root context as when the proxy shuts down, and tells of those that wait to be done for
    /// good.
    pub(super) fn end_all(&mut self) -> Result<Vec<String>, HostFailure> {
        let mut ends = Vec::new();
        for (index, vm) in self.world.vms.iter().enumerate() {
            let is_root = |(_, context): &(&u32, &Context)| matches!(context, Context::Root(_));
            let is_alive = !matches!(vm.place, Place::Base | Place::Trial) && !vm.failed;
            let roots = vm.contexts.iter().filter(|root| is_alive && is_root(root));
            let links = roots.map(|(&root, _)| Link { vm: VmId(index), root });
            ends.extend(links.filter(|link| !vm.pending_done.contains(&link.root)));
        }
        for link in ends {
            self.end_root(link);
        }
        self.pass_until(self.world.clock.passed().saturating_add(LAST_WAIT))?;
        let mut waiting = Vec::new();
        for (index, vm) in self.world.vms.iter().enumerate().filter(|(_, vm)| !vm.failed) {
            for &root in &vm.pending_done {
                let guest = self.world.guest_name(VmId(index), root);
                waiting.push(format!(
                    "{guest}: proxy_on_done of context {root} asked to wait, and proxy_done never came"
                ));
            }
        }
        Ok(waiting)
    }

    /// Deletes the root contexts whose guests have said that they are done.
    pub(super) fn delete_ended(&mut self) {
        while let Some(link) = self.world.ended.pop_front() {
            self.delete_root(link);
        }
    }

    fn delete_root(&mut self, link: Link) {
        let _trapped = self.try_call(link.vm, Callback::Delete { context: link.root });
        self.world.drop_callouts_of_root(link);
        let Some(vm) = self.world.vm_mut(link.vm) else { return };
        vm.contexts.remove(&link.root);
        vm.ticks.remove(&link.root);
        let is_root = |context: &Context| matches!(context, Context::Root(_));
        if !vm.contexts.values().any(is_root) {
            self.drop_vm(link.vm);
        }
    }

    /// Gives up a VM without roots, as Envoy does. With the last one on the main thread, what was found
    /// out of its code is forgotten: who comes back to it begins anew.
    fn drop_vm(&mut self, vm: VmId) {
        self.fail(vm);
        let Some(dropped) = self.world.vm(vm) else { return };
        let (place, first) = (dropped.place, dropped.first);
        if place != Place::Main {
            return;
        }
        let Some(first) = self.world.plugin(first).cloned() else { return };
        let plugins = &self.world.plugins;
        let is_alike = |plugin: &PluginId| {
            plugins.get(plugin.0).is_some_and(|plugin| plugin.shares_vm(&first))
        };
        self.tried.retain(|plugin, _| !is_alike(plugin));
        for vm in &mut self.world.vms {
            vm.failed |= vm.place == Place::Base && is_alike(&vm.first);
        }
    }
}
