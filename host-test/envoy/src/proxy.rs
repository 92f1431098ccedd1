//! A running Envoy, and what a scenario does with it.

use std::error::Error;
use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tollgate_host::proxy::{
    Callout, Configured, Exchange, HostFailure, Observation, Proxy, Received,
};
use tollgate_host::scenario::{
    AdvanceStep, ClockStep, ConfigureStep, PlannedCallout, RequestStep, UPSTREAM,
};

use crate::admin::{Admin, AdminError};
use crate::client::Clients;
use crate::cluster::{Cluster, Early, Refusals};
use crate::discovery::{Discovery, Noticed};
use crate::launch::Launch;
use crate::log::Log;
use crate::message;

/// How long metrics and log lines may take to show.
const SETTLING: Duration = Duration::from_secs(2);

/// How often is looked whether they show.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long a request may take from Envoy to the upstream once its client has an answer.
const ARRIVING: Duration = Duration::from_millis(500);

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

/// Requests that Envoy began to send to the upstream.
const SENT: &str = "cluster.upstream.upstream_rq_total";

/// What stands before the name of a guest's metric.
const METRICS: &str = "wasmcustom.";

/// A running Envoy.
pub(crate) struct EnvoyProxy {
    envoy: Launch,
    admin: Admin,
    clients: Clients,
    /// The worker that had the last request.
    last_worker: Option<usize>,
    /// How many requests Envoy began to send and gave up before the upstream saw them.
    given_up: u64,
}

impl EnvoyProxy {
    pub(crate) fn new(envoy: Launch, admin: Admin, clients: Clients) -> Self {
        Self { envoy, admin, clients, last_worker: None, given_up: 0 }
    }

    fn carry(&mut self, worker: usize, step: &RequestStep) -> Result<Exchange, HostFailure> {
        let Launch { upstream, .. } = &self.envoy;
        let (request, feed) = message::request(&step.request).map_err(impossible)?;
        upstream.arm(&step.upstream, self.admin).map_err(impossible)?;
        self.plan(&step.callouts)?;
        let Launch { runtime, upstream, discovery, log, .. } = &mut self.envoy;
        let (admin, clients) = (self.admin, &mut self.clients);
        // What one worker still does for the last request, another shall see.
        if self.last_worker.replace(worker).is_some_and(|last| last != worker) {
            runtime.block_on(settle(admin)).map_err(broken)?;
        }
        if step.meanwhile.is_some() {
            upstream.hold();
        }
        let meanwhile = async {
            let Some(step) = &step.meanwhile else { return pending().await };
            upstream.holding().await;
            let configured = configure(step, discovery, log, admin).await;
            upstream.release();
            configured
        };
        let both = async {
            let mut exchange = pin!(clients.exchange(worker, request, feed));
            tokio::select! {
                outcome = &mut exchange => (outcome, None),
                configured = meanwhile => (exchange.await, Some(configured)),
            }
        };
        let (outcome, configured) = runtime.block_on(both);
        let (outcome, configured) = (outcome.map_err(broken)?, configured.transpose()?);
        let received = self.received()?;
        let callouts = self.made()?;
        Ok(Exchange { outcome, upstream: received, callouts, configured, cost: None })
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
        let configured = runtime.block_on(configure(step, discovery, log, self.admin))?;
        Ok((configured, self.made()?))
    }

    /// What the upstream got. A client may be answered before the upstream has seen the request.
    fn received(&mut self) -> Result<Option<Received>, HostFailure> {
        let Launch { runtime, upstream, .. } = &self.envoy;
        if let Some(received) = upstream.received() {
            return Ok(Some(received));
        }
        let sent = runtime.block_on(self.admin.statistic(SENT)).map_err(broken)?;
        let expected = sent.saturating_sub(self.given_up);
        runtime.block_on(upstream.wait_for(expected, ARRIVING));
        self.given_up = sent.saturating_sub(upstream.requests());
        Ok(upstream.received())
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
    fn exchange(&mut self, worker: usize, step: &RequestStep) -> Result<Exchange, HostFailure> {
        if !step.faults.is_empty() {
            let what = "a real Envoy's host calls cannot be made to fail; \
                        add only: { on: [wasmtime, native], reason: … }";
            return Err(HostFailure::Impossible { what: what.into() });
        }
        self.carry(worker, step).map_err(|failure| self.explain(failure))
    }

    fn advance(&mut self, step: &AdvanceStep) -> Result<Vec<Callout>, HostFailure> {
        let by = step.by;
        if by > LONGEST_ADVANCE {
            let what = format!(
                "time passes for real on Envoy, and {by:?} is above the bound of \
                 {LONGEST_ADVANCE:?}; set the wall clock with `clock`, or add \
                 only: {{ on: [wasmtime, native], reason: … }}"
            );
            return Err(HostFailure::Impossible { what });
        }
        let advanced = self.pass(step);
        advanced.map_err(|failure| self.explain(failure))
    }

    fn step_clock(&mut self, by: ClockStep) -> Result<(), HostFailure> {
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
        let configured = self.give(step, callouts);
        configured.map_err(|failure| self.explain(failure))
    }

    fn observe(
        &mut self,
        settled: &dyn Fn(&Observation) -> bool,
    ) -> Result<Observation, HostFailure> {
        let begin = Instant::now();
        let quiet = self.envoy.runtime.block_on(settle(self.admin)).map_err(broken);
        quiet.map_err(|failure| self.explain(failure))?;
        loop {
            let observation = self.look().map_err(|failure| self.explain(failure))?;
            if settled(&observation) || begin.elapsed() >= SETTLING {
                return Ok(observation);
            }
            sleep(INTERVAL);
        }
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
    discovery: &mut Discovery,
    log: &mut Log,
    admin: Admin,
) -> Result<Configured, HostFailure> {
    let text = str::from_utf8(&step.config).map_err(impossible)?;
    log.read_on().map_err(broken)?;
    let words = log.words();
    let noticed = discovery.replace(step.filter, text, admin).await.map_err(broken)?;
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

fn impossible(error: impl fmt::Display) -> HostFailure {
    HostFailure::Impossible { what: error.to_string() }
}

fn broken(error: impl Error + Send + Sync + 'static) -> HostFailure {
    HostFailure::Broken(Box::new(error))
}
