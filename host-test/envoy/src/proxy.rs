//! A running Envoy, and what a scenario does with it.

mod connection;
mod requests;

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tollgate_host::proxy::{
    Callout, Configured, Conversation, Exchange, HostFailure, Observation, Proxy, Sending, Settled,
};
use tollgate_host::scenario::{
    AdvanceStep, ClockStep, ConfigureStep, ConnectionStep, Fault, PlannedCallout, Scenario,
    UPSTREAM,
};

use crate::admin::{Admin, AdminError};
use crate::bootstrap::Apart;
use crate::cluster::{Cluster, Early, Refusals};
use crate::discovery::{Discovery, Noticed};
use crate::launch::{Launch, Ways};
use crate::log::Log;
use crate::shared::Readers;

/// How long metrics and log lines may take to show.
const SETTLING: Duration = Duration::from_secs(2);

/// How often is looked whether they show.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long it may take to be told that Envoy has ended.
const ENDING: Duration = Duration::from_millis(500);

/// How long a cluster may take to stop listening.
const CLOSING: Duration = Duration::from_millis(20);

/// How often it must look quiet one after another, and how far apart: between an answer and what a guest
/// makes of it there is a moment in which nothing is under way.
const QUIET_LOOKS: u32 = 3;
const INTERVAL_OF_LOOKS: Duration = Duration::from_millis(2);

/// The longest time to let pass for real.
const LONGEST_ADVANCE: Duration = Duration::from_mins(1);

/// Requests that are not done with: `on_log` and `on_delete` are still to come.
const ACTIVE: &str = "http.ingress.downstream_rq_active";

/// What stands before the name of a guest's metric.
const METRICS: &str = "wasmcustom.";

/// A running Envoy.
pub(crate) struct EnvoyProxy {
    envoy: Launch,
    admin: Admin,
    ways: Ways,
    /// Whom to ask what plugins share.
    readers: Readers,
    /// Whose data and queues are meant where no `vm_id` is said.
    first_vm_id: String,
    /// Whether clients have to be told apart.
    apart: Apart,
    /// The workers that had the last requests.
    last_workers: BTreeSet<usize>,
    /// The folder of built-in filters' modules.
    built_ins: PathBuf,
    /// How many requests Envoy began to send and gave up before the upstream saw them.
    given_up: u64,
}

impl EnvoyProxy {
    pub(crate) fn new(
        envoy: Launch,
        admin: Admin,
        ways: Ways,
        readers: Readers,
        scenario: &Scenario,
        built_ins: PathBuf,
    ) -> Self {
        let first_vm_id = scenario.filters.first().map(|filter| filter.vm_id.clone());
        Self {
            envoy,
            admin,
            ways,
            readers,
            first_vm_id: first_vm_id.unwrap_or_default(),
            apart: Apart::of(scenario),
            last_workers: BTreeSet::new(),
            built_ins,
            given_up: 0,
        }
    }

    /// Refuses to go on once the messages of a queue were taken.
    fn refuse_what_follows(&self) -> Result<(), HostFailure> {
        let Some(queue) = self.readers.taken() else { return Ok(()) };
        Err(impossible(format!(
            "on Envoy messages are taken to be read, and those of the queue {} were: expect them in the \
             last step, or add only: {{ on: [wasmtime, native], reason: … }}",
            queue.escape_ascii()
        )))
    }

    /// Says what callouts meet. A connection that is to be refused must not be there already.
    fn plan(&self, callouts: &[PlannedCallout]) -> Result<(), HostFailure> {
        let Launch { runtime, clusters, .. } = &self.envoy;
        let admin = self.admin;
        let mut early = Early::Nobody;
        runtime.block_on(async {
            for cluster in clusters {
                let refusals = Refusals::begin(cluster, admin).await.map_err(broken)?;
                if cluster.plan(callouts, refusals).map_err(impossible)? == Early::Somebody {
                    early = Early::Somebody;
                }
                if cluster.refuses() {
                    // The listener closes at its next look.
                    tokio::time::sleep(CLOSING).await;
                }
            }
            Ok(())
        })?;
        if early == Early::Somebody { self.calm_down() } else { Ok(()) }
    }

    /// The callouts since it was said what they meet, once Envoy is done with all that have an answer.
    fn made(&self) -> Result<Vec<Callout>, HostFailure> {
        let Launch { runtime, clusters, .. } = &self.envoy;
        if clusters.is_empty() {
            return Ok(Vec::new());
        }
        runtime.block_on(settle(self.admin)).map_err(broken)?;
        self.calm_down()?;
        let mut made: Vec<Callout> = clusters.iter().flat_map(Cluster::made).collect();
        made.sort_by_key(|callout| callout.met.unwrap_or(usize::MAX));
        Ok(made)
    }

    /// Waits until nothing is under way but what is held as planned.
    fn calm_down(&self) -> Result<(), HostFailure> {
        let begin = Instant::now();
        let mut looks = 0;
        while looks < QUIET_LOOKS && begin.elapsed() < SETTLING {
            let is_quiet = self.envoy.runtime.block_on(self.is_quiet()).map_err(broken)?;
            looks = if is_quiet { looks + 1 } else { 0 };
        }
        Ok(())
    }

    /// Whether nothing is under way but what is held as planned.
    async fn is_quiet(&self) -> Result<bool, AdminError> {
        tokio::time::sleep(INTERVAL_OF_LOOKS).await;
        for cluster in &self.envoy.clusters {
            let name = &cluster.name;
            let pattern = format!("^cluster\\.{name}\\.upstream_rq_(total|active|pending_active)$");
            let statistics = self.admin.statistics(&pattern).await?;
            let value = |what: &str| {
                statistics.get(&format!("cluster.{name}.upstream_rq_{what}")).copied().unwrap_or(0)
            };
            let has_come = name == UPSTREAM || value("total") <= cluster.requests();
            if value("pending_active") > 0 || value("active") != cluster.held() || !has_come {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pass(&mut self, step: &AdvanceStep) -> Result<Vec<Callout>, HostFailure> {
        self.plan(&step.callouts)?;
        let asleep = async { tokio::time::sleep(step.by).await };
        self.envoy.runtime.block_on(asleep);
        self.made()
    }

    fn give(
        &mut self,
        step: &ConfigureStep,
        callouts: &[PlannedCallout],
    ) -> Result<(Configured, Vec<Callout>), HostFailure> {
        self.plan(callouts)?;
        let Launch { runtime, discovery, log, .. } = &mut self.envoy;
        let configured =
            runtime.block_on(configure(step, &self.built_ins, discovery, log, self.admin))?;
        Ok((configured, self.made()?))
    }

    fn look(&mut self) -> Result<Observation, HostFailure> {
        self.envoy.log.read_on().map_err(broken)?;
        let pattern = format!("^{}", METRICS.replace('.', "\\."));
        let metrics =
            self.envoy.runtime.block_on(self.admin.statistics(&pattern)).map_err(broken)?;
        let own_name = |(name, value): (String, u64)| {
            (name.strip_prefix(METRICS).unwrap_or(&name).to_owned(), value)
        };
        let metrics = metrics.into_iter().map(own_name).collect();
        Ok(Observation { metrics, logs: self.envoy.log.guests().to_vec() })
    }

    /// Looks until what is seen is as wanted or there was time enough for it, once Envoy is done with the
    /// requests.
    fn look_until<T>(
        &mut self,
        mut look: impl FnMut(&mut Self) -> Result<T, HostFailure>,
        settled: &dyn Fn(&T) -> bool,
    ) -> Result<T, HostFailure> {
        let begin = Instant::now();
        let quiet = self.envoy.runtime.block_on(settle(self.admin)).map_err(broken);
        quiet.map_err(|failure| self.explain(failure))?;
        loop {
            let seen = look(self).map_err(|failure| self.explain(failure))?;
            if settled(&seen) || begin.elapsed() >= SETTLING {
                return Ok(seen);
            }
            sleep(INTERVAL);
        }
    }

    /// Says so when what broke is Envoy itself.
    fn explain(&mut self, failure: HostFailure) -> HostFailure {
        if !matches!(failure, HostFailure::Broken(_)) {
            return failure;
        }
        let begin = Instant::now();
        while !self.envoy.process.has_ended().unwrap_or(false) {
            if begin.elapsed() >= ENDING {
                return failure;
            }
            sleep(INTERVAL);
        }
        // What cannot be read of the log is not missed more than Envoy is.
        let _unread = self.envoy.log.read_on();
        broken(EnvoyEnded { said: self.envoy.log.last_lines() })
    }
}

impl Proxy for EnvoyProxy {
    fn together(
        &mut self,
        requests: &[Sending<'_>],
        callouts: &[PlannedCallout],
    ) -> Result<(Vec<Exchange>, Vec<Callout>), HostFailure> {
        self.refuse_what_follows()?;
        refuse_faults(requests.iter().flat_map(|sent| &sent.step.faults))?;
        self.carry(requests, callouts).map_err(|failure| self.explain(failure))
    }

    fn connect(
        &mut self,
        worker: usize,
        step: &ConnectionStep,
    ) -> Result<Conversation, HostFailure> {
        self.refuse_what_follows()?;
        refuse_faults(&step.faults)?;
        self.converse(worker, step).map_err(|failure| self.explain(failure))
    }

    fn advance(&mut self, step: &AdvanceStep) -> Result<Vec<Callout>, HostFailure> {
        self.refuse_what_follows()?;
        refuse_faults(&step.faults)?;
        refuse_long(step.by)?;
        let advanced = self.pass(step);
        advanced.map_err(|failure| self.explain(failure))
    }

    fn step_clock(&mut self, by: ClockStep) -> Result<(), HostFailure> {
        self.refuse_what_follows()?;
        let settled = self.envoy.runtime.block_on(settle(self.admin)).map_err(broken);
        settled.map_err(|failure| self.explain(failure))?;
        match &mut self.envoy.clock {
            Some(clock) => clock.step(by).map_err(broken),
            None => Err(HostFailure::Impossible {
                what: "this Envoy was started for a scenario without a `clock` step".into(),
            }),
        }
    }

    fn configure(
        &mut self,
        step: &ConfigureStep,
        callouts: &[PlannedCallout],
    ) -> Result<(Configured, Vec<Callout>), HostFailure> {
        self.refuse_what_follows()?;
        refuse_faults(&step.faults)?;
        let configured = self.give(step, callouts);
        configured.map_err(|failure| self.explain(failure))
    }

    fn observe(
        &mut self,
        settled: &dyn Fn(&Observation) -> bool,
    ) -> Result<Observation, HostFailure> {
        self.look_until(Self::look, settled)
    }

    fn shared_data(
        &mut self,
        vm_id: Option<&str>,
        key: &[u8],
        settled: Settled<'_, [u8]>,
    ) -> Result<Option<Vec<u8>>, HostFailure> {
        let vm_id = vm_id.unwrap_or(&self.first_vm_id).to_owned();
        let look = |proxy: &mut Self| {
            let value = proxy.readers.shared_data(&vm_id, key);
            proxy.envoy.runtime.block_on(value).map_err(broken)
        };
        self.look_until(look, &|value| settled(value.as_deref()))
    }

    fn queue(
        &mut self,
        vm_id: Option<&str>,
        name: &[u8],
        settled: Settled<'_, [Vec<u8>]>,
    ) -> Result<Option<Vec<Vec<u8>>>, HostFailure> {
        let vm_id = vm_id.unwrap_or(&self.first_vm_id).to_owned();
        let look = |proxy: &mut Self| {
            let messages = proxy.readers.queue(&vm_id, name);
            proxy.envoy.runtime.block_on(messages).map_err(broken)
        };
        self.look_until(look, &|messages| settled(messages.as_deref()))
    }
}

/// Envoy ended in the middle of a scenario.
#[derive(Debug)]
struct EnvoyEnded {
    said: String,
}

impl fmt::Display for EnvoyEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envoy ended in the middle of the scenario; it said:\n{}", self.said)
    }
}

impl Error for EnvoyEnded {}

/// Gives a filter another configuration.
async fn configure(
    step: &ConfigureStep,
    built_ins: &Path,
    discovery: &mut Discovery,
    log: &mut Log,
    admin: Admin,
) -> Result<Configured, HostFailure> {
    let text = step.config.as_deref().map(str::from_utf8).transpose().map_err(impossible)?;
    let module = step.module.as_ref().map(|source| source.file(built_ins));
    // Envoy runs in a folder of its own.
    let module = module.map(std::path::absolute).transpose().map_err(broken)?;
    log.read_on().map_err(broken)?;
    let words = log.words();
    let noticed =
        discovery.replace(step.filter, text, module.as_deref(), admin).await.map_err(broken)?;
    log.read_on().map_err(broken)?;
    Ok(match noticed {
        Noticed::Accepted => Configured::Accepted,
        Noticed::Rejected => Configured::Refused { words: log.words_since(words) },
    })
}

/// Waits until Envoy is done with the requests that were answered.
async fn settle(admin: Admin) -> Result<(), AdminError> {
    admin.statistic_until(ACTIVE, SETTLING, |active| active == 0).await?;
    Ok(())
}

pub(crate) fn refuse_faults<'a>(
    faults: impl IntoIterator<Item = &'a Fault>,
) -> Result<(), HostFailure> {
    if faults.into_iter().next().is_none() {
        return Ok(());
    }
    Err(impossible(
        "a real Envoy's host calls cannot be made to fail; \
         add only: { on: [wasmtime, native], reason: … }",
    ))
}

fn refuse_long(by: Duration) -> Result<(), HostFailure> {
    if by <= LONGEST_ADVANCE {
        return Ok(());
    }
    Err(impossible(format!(
        "time passes for real on Envoy, and {by:?} is above the bound of {LONGEST_ADVANCE:?}; set the \
         wall clock with `clock`, or add only: {{ on: [wasmtime, native], reason: … }}"
    )))
}

fn impossible(error: impl fmt::Display) -> HostFailure {
    HostFailure::Impossible { what: error.to_string() }
}

fn broken(error: impl Error + Send + Sync + 'static) -> HostFailure {
    HostFailure::Broken(Box::new(error))
}
