//! The offline proxy: carries requests through a chain of guests in virtual time.
//!
//! [`Offline`] is the host for one engine; [`Run`] is one running proxy. What a guest may see and do is
//! decided in [`world`](crate::world); here is the order in which things happen.

mod boot;
mod callouts;
mod chain;
mod configure;
mod connection;
mod dialogue;
mod elsewhere;
mod ends;
mod failure;
mod feed;
mod held;
mod peers;
mod phases;
mod scripted;
mod staged;
mod streams;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::account::{Account, TrapReport};
use crate::engine::{CodeId, Instance, Module};
use crate::limits::{Bounded, Limits};
use crate::proxy::{
    Callout, Configured, Conversation, Cost, Exchange, Footprint, HostFailure, LogLine,
    Observation, Outcome, Proxy, ProxyHost, Sending, Settled, StartError,
};
use crate::scenario::{
    AdvanceStep, ClockStep, ConfigureStep, ConnectionStep, Fault, FilterSource, FilterUse,
    HostName, PlannedCallout, Scenario,
};
use crate::transcript::Entry;
use crate::world::{ArmedFault, Link, PluginId, Tick, VmId, World};
use boot::Filter;
use elsewhere::Elsewhere;
pub use elsewhere::{CalloutId, CalloutKind, Incoming, Outgoing};
use failure::Seat;
pub use feed::{ConnectionId, Fed, Input, Output};
use scripted::Outcomes;
pub(crate) use scripted::take_part;
pub(crate) use staged::{Left, Stage};
use streams::{Client, Flow};
pub use streams::{Event, Head, Over, Part, Sent, StreamId};

/// Finds the module of a filter.
pub type Loader<'a> = dyn Fn(&FilterUse) -> Result<Arc<dyn Module>, StartError> + Sync + 'a;

/// The offline host over one engine.
pub struct Offline<'a> {
    name: HostName,
    loader: &'a Loader<'a>,
    limits: Limits,
}

impl<'a> Offline<'a> {
    /// A host that finds its modules by `loader`.
    pub fn new(name: HostName, loader: &'a Loader<'a>) -> Self {
        Self { name, loader, limits: Limits::default() }
    }

    /// Sets what guests may make the host use; by default [`Limits::default`].
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    fn world(&self, scenario: &Scenario) -> World {
        let mut world = World::new(scenario.log_level);
        world.limits = self.limits;
        world.seed(scenario.seed);
        world
    }

    /// Starts a proxy that is fed from outside.
    ///
    /// # Errors
    ///
    /// [`StartError`] as [`ProxyHost::start`].
    pub fn start_run(&self, scenario: &Scenario) -> Result<Run, StartError> {
        boot::boot(self.world(scenario), self.loader, scenario).map_err(|failed| failed.0)
    }

    /// Starts a proxy that keeps a transcript.
    ///
    /// # Errors
    ///
    /// [`StartError`] as [`ProxyHost::start`], with what the transcript holds until then.
    pub fn start_recorded(&self, scenario: &Scenario) -> Result<Run, (StartError, Vec<Entry>)> {
        let mut world = self.world(scenario);
        world.record();
        boot::boot(world, self.loader, scenario).map_err(|failed| {
            let (error, mut world) = *failed;
            (error, world.take_transcript())
        })
    }
}

impl ProxyHost for Offline<'_> {
    fn name(&self) -> HostName {
        self.name
    }

    fn start(&self, scenario: &Scenario) -> Result<Box<dyn Proxy + '_>, StartError> {
        Ok(Box::new(self.start_run(scenario)?))
    }
}

/// A running offline proxy.
pub struct Run {
    world: Box<World>,
    /// The filters of the chain as new streams find them.
    filters: Vec<Filter>,
    /// Plugins that were tried, and whether they were found good.
    tried: BTreeMap<PluginId, bool>,
    /// Modules that filters get while the proxy runs, or why they are refused.
    later: BTreeMap<FilterSource, Result<Arc<dyn Module>, String>>,
    /// Root contexts may be left that nothing uses.
    retiring: bool,
    /// One per VM of the world, in its order; gone once the guest trapped or is no longer needed.
    guests: Vec<Guest>,
    /// The plugins of each worker, in the order of the chain.
    chains: Vec<Vec<Seat>>,
    /// How many connections to the upstream each worker has that nothing uses.
    idle: Vec<usize>,
    /// The connections of clients to each worker.
    clients: Vec<Vec<Client>>,
    /// The peers, when the listener terminates TLS.
    peers: Option<peers::Peers>,
    /// The connections with TLS of clients that come from elsewhere.
    connections: feed::Connections,
    requests: u64,
    /// The streams that are under way.
    flows: BTreeMap<StreamId, Flow>,
    /// What was done with streams and not told yet.
    events: VecDeque<(StreamId, Event)>,
    date: wire::Date,
    /// What callouts meet.
    clusters: callouts::Clusters,
    /// Callouts that are answered from outside, if they are.
    elsewhere: Option<Elsewhere>,
    /// Fuel of guests that are gone.
    retired_fuel: Option<u64>,
    /// Fuel that was used when the step began.
    fuel_at_step: Option<u64>,
    /// Guests are being told of callouts that failed while they were made.
    is_telling_failures: bool,
}

struct Guest {
    module: Arc<dyn Module>,
    instance: Option<Box<dyn Instance>>,
}

/// Something that happens by itself.
enum Happening {
    /// A root context ticks.
    Tick(Link),
    /// Something comes back to a callout, by its number.
    Answer(u64),
}

impl Run {
    /// Takes what the transcript holds so far.
    pub fn take_transcript(&mut self) -> Vec<Entry> {
        self.world.take_transcript()
    }

    /// Sets the wall clock to a time since the Unix epoch; no time passes.
    pub fn set_clock(&mut self, wall: Duration) {
        self.world.clock.set(wall);
    }

    /// A `vm_id`, or that of the first filter.
    fn sharing<'a>(&'a self, vm_id: Option<&'a str>) -> &'a [u8] {
        let first = self.filters.first().and_then(|filter| self.world.plugin(filter.plugin));
        let of_first = || first.map_or(&[][..], |plugin| plugin.vm_id.as_slice());
        vm_id.map_or_else(of_first, str::as_bytes)
    }

    /// Which code the module of each filter in the chain is.
    pub fn codes(&self) -> impl Iterator<Item = CodeId> {
        self.filters.iter().map(|filter| filter.module.code())
    }

    /// How many workers it has.
    pub fn workers(&self) -> usize {
        self.chains.len()
    }

    /// When something happens next by itself: a tick, or what comes back to a callout.
    pub fn next_due(&mut self) -> Option<Duration> {
        self.answer_callouts();
        let ticks = self.ticks().map(|(_, due)| due);
        ticks.chain(self.answers().map(|(_, due)| due)).min()
    }

    /// Tells whether the guests have done something that this host does not serve, or that does harm to a
    /// whole Envoy, since this was asked.
    ///
    /// # Errors
    ///
    /// [`HostFailure::Unserved`] and [`HostFailure::Harm`].
    pub fn check(&mut self) -> Result<(), HostFailure> {
        self.refuse_what_was_called()
    }

    /// Takes the log lines of the guests since this was asked, or since the start.
    pub fn take_logs(&mut self) -> Vec<LogLine> {
        self.world.take_logs()
    }

    /// Takes the first traps of guests since they were taken last.
    pub fn take_traps(&mut self) -> Vec<TrapReport> {
        self.world.take_traps()
    }

    /// Takes what the transcript holds so far, each line with the virtual time that had passed.
    pub fn take_timed_transcript(&mut self) -> Vec<(Duration, Entry)> {
        self.world.take_timed_transcript()
    }

    /// Log lines of the guests in order, since the start.
    pub fn logs(&self) -> &[LogLine] {
        &self.world.logs
    }

    /// Counters and gauges of the guests by name, added up over all workers.
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.world.metrics.values()
    }

    /// The memory of the largest guest in bytes; `None` when the engine has none of its own.
    fn memory_bytes(&self) -> Option<u64> {
        self.guests.iter().filter_map(|guest| guest.instance.as_ref()?.memory_bytes()).max()
    }

    /// Lets virtual time pass until `until`, with the ticks that fall due and the queues that fill.
    ///
    /// # Errors
    ///
    /// [`HostFailure`] when a guest does what this host does not serve, or what does harm to Envoy.
    pub fn pass_until(&mut self, until: Duration) -> Result<(), HostFailure> {
        self.retire();
        self.deliver_queues()?;
        let mut ticks = 0;
        while self.happen(until)? {
            ticks += 1;
            self.refuse_ticks(ticks)?;
        }
        self.world.clock.advance_to(until);
        Ok(())
    }

    /// Lets the next thing happen that is due by `until`: a tick, or what comes back to a callout. Whether
    /// there was one.
    fn happen(&mut self, until: Duration) -> Result<bool, HostFailure> {
        let Some(due) = self.next_due().filter(|&due| due <= until) else { return Ok(false) };
        let mut happenings = self.due_at(due);
        let first = self.world.chance.one_of(happenings.len());
        self.world.clock.advance_to(due);
        match happenings.swap_remove(first) {
            Happening::Tick(link) => self.tick(link, due)?,
            Happening::Answer(number) => self.deliver_callout(number)?,
        }
        self.deliver_queues()?;
        Ok(true)
    }

    /// What is due at a moment at which something is: ticks, then what comes back to callouts.
    fn due_at(&self, due: Duration) -> Vec<Happening> {
        let ticks = self.ticks().filter(|&(_, at)| at == due).map(|(link, _)| link);
        let answers = self.answers().filter(|&(_, at)| at == due).map(|(number, _)| number);
        ticks.map(Happening::Tick).chain(answers.map(Happening::Answer)).collect()
    }

    fn ticks(&self) -> impl Iterator<Item = (Link, Duration)> {
        let vms = self.world.vms.iter().enumerate().filter(|(_, vm)| !vm.failed);
        vms.flat_map(|(index, vm)| {
            let due =
                move |(&root, tick): (&u32, &Tick)| (Link { vm: VmId(index), root }, tick.due);
            vm.ticks.iter().map(due)
        })
    }

    fn arm<'a>(&mut self, faults: impl IntoIterator<Item = &'a Fault>) {
        let armed = |fault: &Fault| ArmedFault { fault: fault.clone(), seen: 0 };
        self.world.faults = faults.into_iter().map(armed).collect();
    }

    /// What guests have used until now.
    fn cost(&self) -> Cost {
        let (host_calls, fuel) = (self.world.host_calls, self.fuel_used());
        Cost { host_calls, fuel, memory_bytes: self.memory_bytes() }
    }

    fn fuel_used(&self) -> Option<u64> {
        let mut used = self.retired_fuel;
        for guest in &self.guests {
            if let Some(fuel) = guest.instance.as_ref().and_then(|instance| instance.fuel_used()) {
                *used.get_or_insert(0) += fuel;
            }
        }
        used
    }

    /// Gives up a step in which so many ticks come that it seems to have no end.
    fn refuse_ticks(&self, ticks: usize) -> Result<(), HostFailure> {
        if ticks > self.world.limits.ticks_per_step {
            let beyond = self.world.limits.exceeded(Bounded::ticks_per_step);
            let what = format!("{ticks} ticks in one step, {beyond}, or let less time pass");
            return Err(HostFailure::Impossible { what });
        }
        self.refuse_endless()
    }

    /// Gives up a step in which guests run without end.
    fn refuse_endless(&self) -> Result<(), HostFailure> {
        let used = self.fuel_used().zip(self.fuel_at_step);
        let used = used.map_or(0, |(now, before)| now.saturating_sub(before));
        if used <= self.world.limits.fuel_per_step {
            return Ok(());
        }
        let beyond = self.world.limits.exceeded(Bounded::fuel_per_step);
        Err(HostFailure::Harm {
            what: format!("the guests used {used} fuel in one step, {beyond}"),
        })
    }

    /// A step begins, or a repeat of one.
    fn begin_step(&mut self, planned: &[PlannedCallout]) {
        self.fuel_at_step = self.fuel_used();
        self.plan_callouts(planned);
    }

    fn refuse_what_was_called(&mut self) -> Result<(), HostFailure> {
        if let Some(what) = self.world.harm.take() {
            return Err(HostFailure::Harm { what });
        }
        match self.world.unserved.take() {
            Some(call) => Err(HostFailure::Unserved { call }),
            None => Ok(()),
        }
    }
}

impl Proxy for Run {
    fn together(
        &mut self,
        requests: &[Sending<'_>],
        callouts: &[PlannedCallout],
    ) -> Result<(Vec<Exchange>, Vec<Callout>), HostFailure> {
        self.arm(requests.iter().flat_map(|sent| &sent.step.faults));
        self.begin_step(callouts);
        // What came back to callouts that were made before.
        self.pass_until(self.world.clock.passed())?;
        let before = self.cost();
        let outcomes = self.play(requests)?;
        self.world.faults.clear();
        // What is due by now: time passes only when something waits for it.
        self.pass_until(self.world.clock.passed())?;
        self.refuse_what_was_called()?;
        for Outcomes { number, client, .. } in &outcomes {
            self.world.note(|| match client {
                Outcome::Response(response) => format!("request {number}: {}", response.status),
                Outcome::Reset => format!("request {number}: reset"),
                Outcome::Unanswered => format!("request {number}: no answer"),
                Outcome::Refused(alert) => format!("request {number}: refused with {alert}"),
                Outcome::Left(_) => format!("request {number}: the client left"),
            });
        }
        // What several requests cost cannot be told apart.
        let cost = Some(self.cost().since(before)).filter(|_| outcomes.len() == 1);
        let exchange = |Outcomes { client, upstream, configured, .. }| Exchange {
            outcome: client,
            upstream,
            callouts: Vec::new(),
            configured,
            cost,
        };
        let exchanges = outcomes.into_iter().map(exchange).collect();
        Ok((exchanges, self.made_callouts()))
    }

    fn connect(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<Conversation, HostFailure> {
        self.converse(worker, step)
    }

    fn advance(&mut self, step: &AdvanceStep) -> Result<Vec<Callout>, HostFailure> {
        self.world.note(|| format!("{:?} pass", step.by));
        self.arm(&step.faults);
        self.begin_step(&step.callouts);
        self.pass_until(self.world.clock.passed().saturating_add(step.by))?;
        self.world.faults.clear();
        self.refuse_what_was_called()?;
        Ok(self.made_callouts())
    }

    fn step_clock(&mut self, by: ClockStep) -> Result<(), HostFailure> {
        self.world.note(|| match by {
            ClockStep::Forward(by) => format!("the wall clock is set forward by {by:?}"),
            ClockStep::Back(by) => format!("the wall clock is set back by {by:?}"),
        });
        self.world.clock.step(by);
        Ok(())
    }

    fn configure(
        &mut self,
        step: &ConfigureStep,
        callouts: &[PlannedCallout],
    ) -> Result<(Configured, Vec<Callout>), HostFailure> {
        self.arm(&step.faults);
        self.begin_step(callouts);
        let configured = self.reconfigure(step);
        self.world.faults.clear();
        // What is due by now, as in a request.
        self.pass_until(self.world.clock.passed())?;
        self.refuse_what_was_called()?;
        Ok((configured, self.made_callouts()))
    }

    fn observe(&mut self, _: &dyn Fn(&Observation) -> bool) -> Result<Observation, HostFailure> {
        Ok(Observation { metrics: self.metrics(), logs: self.logs().to_vec() })
    }

    fn shared_data(
        &mut self,
        vm_id: Option<&str>,
        key: &[u8],
        _: Settled<'_, [u8]>,
    ) -> Result<Option<Vec<u8>>, HostFailure> {
        Ok(self.world.shared.get(self.sharing(vm_id), key).map(<[u8]>::to_vec))
    }

    fn queue(
        &mut self,
        vm_id: Option<&str>,
        name: &[u8],
        _: Settled<'_, [Vec<u8>]>,
    ) -> Result<Option<Vec<Vec<u8>>>, HostFailure> {
        let messages = self.world.queues.messages(self.sharing(vm_id), name);
        Ok(messages.map(|messages| messages.cloned().collect()))
    }

    fn used(&self) -> Option<Cost> {
        Some(self.cost())
    }

    fn take_account(&mut self) -> Account {
        self.world.take_account()
    }

    fn footprint(&self) -> Option<Footprint> {
        let instances = self.guests.iter().filter_map(|guest| guest.instance.as_ref());
        let (memory, handed): (Vec<u64>, Vec<u64>) = instances
            .map(|instance| {
                let memory_bytes = instance.memory_bytes().unwrap_or_default();
                (memory_bytes, instance.handed_bytes().unwrap_or_default())
            })
            .unzip();
        Some(Footprint {
            metrics: self.world.defined_metrics(),
            shared_keys: self.world.shared.keys(),
            queued_messages: self.world.queues.waiting(),
            open_callouts: self.world.callouts.open(),
            memory_bytes: memory.iter().sum(),
            handed_bytes: handed.iter().sum(),
        })
    }

    fn pass_to_next(&mut self, callouts: &[PlannedCallout]) -> Result<(), HostFailure> {
        self.begin_step(callouts);
        let now = self.world.clock.passed();
        let due = self.next_due().unwrap_or(now);
        self.pass_until(due.max(now))?;
        self.refuse_what_was_called()?;
        self.made_callouts();
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<String>, HostFailure> {
        self.end_all()
    }
}
