//! Another configuration for a filter of the running proxy: it is tried, then new streams get it.
//!
//! It is another plugin, with root contexts of its own in the same VMs. The old ones end with the last
//! stream that began with them.

use std::time::Duration;

use tollgate_abi::Callback;

use super::Run;
use super::boot::Filter;
use crate::proxy::{Configured, HostFailure, StartError};
use crate::scenario::ConfigureStep;
use crate::world::{Context, Link, Place, Plugin, VmId};

/// How long plugins may take to be done when the proxy shuts down, in virtual time.
const LAST_WAIT: Duration = Duration::from_secs(10);

impl Run {
    pub(super) fn reconfigure(&mut self, step: &ConfigureStep) -> Configured {
        self.world.note(|| format!("filter {} gets another configuration", step.filter));
        match self.replace(step) {
            Ok(()) => {
                self.retiring = true;
                self.retire();
                Configured::Accepted
            }
            Err(error) => Configured::Refused { words: error.to_string() },
        }
    }

    fn replace(&mut self, step: &ConfigureStep) -> Result<(), StartError> {
        let Some(old) = self.filters.get(step.filter).cloned() else { return Ok(()) };
        let Some(plugin) = self.world.plugin(old.plugin).cloned() else { return Ok(()) };
        if plugin.configuration == step.config {
            return Ok(());
        }
        let plugin = self.world.add_plugin(Plugin { configuration: step.config.clone(), ..plugin });
        let new = Filter { plugin, ..old };
        self.try_out(&new)?;
        self.install(&new, Place::Main)?;
        for worker in self.world.chance.order(self.chains.len()) {
            let link = self.install(&new, Place::Worker(worker))?;
            let chain = self.chains.get_mut(worker);
            if let Some(place) = chain.and_then(|chain| chain.get_mut(step.filter)) {
                *place = link;
            }
        }
        if let Some(filter) = self.filters.get_mut(step.filter) {
            *filter = new;
        }
        Ok(())
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
                        chain.is_some_and(|chain| chain.contains(&link))
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
        if let Some(vm) = self.world.vm_mut(link.vm) {
            vm.contexts.remove(&link.root);
            vm.ticks.remove(&link.root);
        }
    }
}
