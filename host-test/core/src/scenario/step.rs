//! The steps of a scenario.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::callout::RawCallout;
use super::code::{check_callouts, check_faults};
use super::configure::RawConfigure;
use super::connection::{ConnectionStep, RawEvent};
use super::expect::RawExpectation;
use super::request::{Fault, RawFault, RawRequest, RawUpstream};
use super::together::{self, RawTimed, Together};
use super::value::{ClockStep, Span};
use super::{ConfigureStep, Expectation, FilterUse, PlannedCallout, RequestStep};

/// The most times that a request is sent, or a connection opened.
const MOST_REPEATS: usize = 1_000_000;

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client sends a request, once or several times.
    Request(Box<RequestStep>),
    /// Clients send several requests, which are under way at the same time.
    Together(Together),
    /// A client connects, once or several times.
    Connection(Box<ConnectionStep>),
    /// Time passes.
    Advance(AdvanceStep),
    /// The wall clock is set.
    Clock(ClockStep),
    /// A filter gets another configuration.
    Configure {
        /// Which filter, and what it gets.
        configure: ConfigureStep,
        /// What callouts meet meanwhile, in order per cluster.
        callouts: Vec<PlannedCallout>,
        /// What it leaves behind, and what it costs.
        expect: Expectation,
    },
}

impl Step {
    /// What the callouts of guests meet in this step.
    pub fn callouts(&self) -> &[PlannedCallout] {
        match self {
            Self::Request(step) => &step.callouts,
            Self::Together(together) => &together.callouts,
            Self::Connection(step) => &step.callouts,
            Self::Advance(step) => &step.callouts,
            Self::Configure { callouts, .. } => callouts,
            Self::Clock(_) => &[],
        }
    }

    /// The requests that are sent in this step.
    pub fn requests(&self) -> impl Iterator<Item = &RequestStep> {
        let (alone, together) = match self {
            Self::Request(step) => (Some(&**step), [].as_slice()),
            Self::Together(together) => (None, together.requests.as_slice()),
            Self::Connection(_) | Self::Advance(_) | Self::Clock(_) | Self::Configure { .. } => {
                (None, [].as_slice())
            }
        };
        alone.into_iter().chain(together.iter().map(|timed| &timed.step))
    }

    /// The requests that are sent in this step.
    pub(super) fn requests_mut(&mut self) -> impl Iterator<Item = &mut RequestStep> {
        let (alone, together) = match self {
            Self::Request(step) => (Some(&mut **step), [].as_mut_slice()),
            Self::Together(together) => (None, together.requests.as_mut_slice()),
            Self::Connection(_) | Self::Advance(_) | Self::Clock(_) | Self::Configure { .. } => {
                (None, [].as_mut_slice())
            }
        };
        alone.into_iter().chain(together.iter_mut().map(|timed| &mut timed.step))
    }

    /// The connection of TCP that is opened in this step.
    pub fn connection(&self) -> Option<&ConnectionStep> {
        match self {
            Self::Connection(step) => Some(step),
            Self::Request(_)
            | Self::Together(_)
            | Self::Advance(_)
            | Self::Clock(_)
            | Self::Configure { .. } => None,
        }
    }

    /// Filters that get another configuration or module in this step.
    pub fn configures(&self) -> impl Iterator<Item = &ConfigureStep> {
        let itself = match self {
            Self::Configure { configure, .. } => Some(configure),
            Self::Request(_)
            | Self::Together(_)
            | Self::Connection(_)
            | Self::Advance(_)
            | Self::Clock(_) => None,
        };
        itself.into_iter().chain(self.requests().filter_map(|step| step.meanwhile.as_ref()))
    }

    /// Has files be relative to a folder.
    pub(super) fn set_folder(&mut self, folder: &Path) {
        let place = |configure: &mut ConfigureStep| {
            configure.module = configure.module.take().map(|module| module.within(folder));
        };
        if let Self::Configure { configure, .. } = self {
            place(configure);
        }
        self.requests_mut().filter_map(|step| step.meanwhile.as_mut()).for_each(place);
    }

    /// What is expected of its requests, or of the step itself.
    pub(super) fn expectations(&self) -> impl Iterator<Item = &Expectation> {
        let of_itself = match self {
            Self::Connection(step) => Some(&step.expect),
            Self::Advance(step) => Some(&step.expect),
            Self::Configure { expect, .. } => Some(expect),
            Self::Request(_) | Self::Together(_) | Self::Clock(_) => None,
        };
        self.requests().map(|step| &step.expect).chain(of_itself)
    }

    /// What is expected of its requests, or of the step itself.
    pub(super) fn expectations_mut(&mut self) -> impl Iterator<Item = &mut Expectation> {
        let (of_itself, requests) = match self {
            Self::Connection(step) => (Some(&mut step.expect), None),
            Self::Advance(step) => (Some(&mut step.expect), None),
            Self::Configure { expect, .. } => (Some(expect), None),
            Self::Clock(_) => (None, None),
            requests @ (Self::Request(_) | Self::Together(_)) => (None, Some(requests)),
        };
        let of_requests = requests.into_iter().flat_map(Self::requests_mut);
        of_itself.into_iter().chain(of_requests.map(|step| &mut step.expect))
    }

    /// Host calls that fail in this step.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        let of_itself = match self {
            Self::Connection(step) => step.faults.as_slice(),
            Self::Advance(step) => &step.faults,
            Self::Configure { configure, .. } => &configure.faults,
            Self::Request(_) | Self::Together(_) | Self::Clock(_) => &[],
        };
        self.requests().flat_map(|step| &step.faults).chain(of_itself)
    }
}

/// The proxy starts, before the first step.
#[derive(Clone, Debug, Default)]
pub struct StartStep {
    /// Host calls that fail until all VMs are configured.
    pub faults: Vec<Fault>,
    /// What it leaves behind, and what it costs.
    pub expect: Expectation,
}

/// Time that passes.
#[derive(Clone, Debug)]
pub struct AdvanceStep {
    /// How much.
    pub by: Duration,
    /// What callouts meet meanwhile, in order per cluster.
    pub callouts: Vec<PlannedCallout>,
    /// Host calls that fail meanwhile.
    pub faults: Vec<Fault>,
    /// What it leaves behind, and what it costs.
    pub expect: Expectation,
}

impl AdvanceStep {
    /// Time that passes, of which nothing is expected.
    pub fn new(by: Duration) -> Self {
        Self { by, callouts: Vec::new(), faults: Vec::new(), expect: Expectation::default() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStart {
    faults: Option<Vec<RawFault>>,
    expect: Option<RawExpectation>,
}

impl RawStart {
    /// A proxy that refuses to start leaves nothing behind.
    pub(super) fn check(self, is_refused: bool) -> Result<StartStep, String> {
        if is_refused && self.expect.is_some() {
            return Err(
                "start.expect: a proxy that refuses to start leaves nothing behind; remove it, or \
                        `refused`"
                    .into(),
            );
        }
        let within = |what| format!("start.{what}");
        let faults = RawFault::all(self.faults).map_err(within)?;
        let expect = self.expect.unwrap_or_default().check().map_err(within)?;
        Ok(StartStep { faults, expect })
    }
}

/// A step, but for the filters that it names.
pub(super) enum RawStep {
    Done(Step),
    Request(Box<RequestStep>, RawMeanwhile),
    Configure(RawConfigure, Vec<PlannedCallout>, Vec<Fault>, Expectation),
    Together(Vec<RawTimed>, Vec<PlannedCallout>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMeanwhile {
    configure: RawConfigure,
}

impl RawMeanwhile {
    pub(super) fn check(self, filters: &[FilterUse]) -> Result<ConfigureStep, String> {
        self.configure.check(filters).map_err(|what| format!("meanwhile.{what}"))
    }
}

impl RawStep {
    pub(super) fn check(self, filters: &[FilterUse]) -> Result<Step, String> {
        match self {
            Self::Done(step) => Ok(step),
            Self::Request(mut step, meanwhile) => {
                step.meanwhile = Some(meanwhile.check(filters)?);
                Ok(Step::Request(step))
            }
            Self::Together(requests, callouts) => {
                let requests = requests.into_iter().map(|request| request.check(filters));
                let requests = requests.collect::<Result<_, _>>()?;
                Ok(Step::Together(Together { requests, callouts }))
            }
            Self::Configure(configure, callouts, faults, expect) => {
                let configure = ConfigureStep { faults, ..configure.check(filters)? };
                Ok(Step::Configure { configure, callouts, expect })
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepFields {
    request: Option<RawRequest>,
    connection: Option<Vec<RawEvent>>,
    together: Option<Vec<RawTimed>>,
    after: Option<Span>,
    repeat: Option<NonZeroUsize>,
    worker: Option<usize>,
    peer: Option<String>,
    upstream: Option<RawUpstream>,
    callouts: Option<Vec<RawCallout>>,
    meanwhile: Option<RawMeanwhile>,
    faults: Option<Vec<RawFault>>,
    expect: Option<RawExpectation>,
    advance: Option<Span>,
    clock: Option<ClockStep>,
    configure: Option<RawConfigure>,
}

impl<'de> Deserialize<'de> for RawStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = StepFields::deserialize(deserializer)?;
        let step = fields.check().map_err(de::Error::custom)?;
        let checked = match &step {
            Self::Done(step) => step.check(),
            Self::Request(step, _) => step.check(),
            Self::Configure(_, callouts, faults, expect) => check_callouts(callouts)
                .and_then(|()| check_faults(faults))
                .and_then(|()| expect.check_without_request()),
            Self::Together(requests, callouts) => {
                together::check_raw(requests).and_then(|()| check_callouts(callouts))
            }
        };
        checked.map_err(de::Error::custom)?;
        Ok(step)
    }
}

impl StepFields {
    fn check(self) -> Result<RawStep, String> {
        if self.after.is_some() {
            return Err("`after` belongs to one of the requests of `together`".into());
        }
        if self.is_request() {
            let (step, meanwhile) = self.request()?;
            return Ok(match meanwhile {
                Some(meanwhile) => RawStep::Request(step, meanwhile),
                None => RawStep::Done(Step::Request(step)),
            });
        }
        let written = [
            ("repeat", self.repeat.is_some()),
            ("worker", self.worker.is_some()),
            ("peer", self.peer.is_some()),
            ("upstream", self.upstream.is_some()),
            ("meanwhile", self.meanwhile.is_some()),
            ("faults", self.faults.is_some()),
            ("expect", self.expect.is_some()),
            ("callouts", self.callouts.is_some()),
        ];
        let only = |what: &str, takes: &[&str]| match written
            .iter()
            .find(|(key, is_there)| *is_there && !takes.contains(key))
        {
            None => Ok(()),
            Some((key, _)) => Err(format!("`{key}` belongs to a request, not to `{what}`")),
        };
        let callouts = self.callouts.unwrap_or_default().into_iter().map(RawCallout::check);
        let callouts = callouts.collect::<Result<Vec<_>, _>>();
        let others = (self.advance, self.clock, self.configure);
        match (self.together, self.connection, others) {
            (Some(requests), None, (None, None, None)) => {
                only("together", &["callouts"])?;
                Ok(RawStep::Together(requests, callouts?))
            }
            (None, Some(events), (None, None, None)) => {
                if self.upstream.is_some() || self.meanwhile.is_some() {
                    return Err(
                        "`upstream` and `meanwhile` belong to a request; what the upstream \
                         of a connection does stands among its events"
                            .into(),
                    );
                }
                let step = ConnectionStep {
                    events: RawEvent::all(events),
                    repeat: repeats(self.repeat)?,
                    worker: self.worker,
                    peer: self.peer,
                    callouts: callouts?,
                    faults: RawFault::all(self.faults)?,
                    expect: self.expect.unwrap_or_default().check()?,
                };
                Ok(RawStep::Done(Step::Connection(Box::new(step))))
            }
            (None, None, (Some(Span(by)), None, None)) => {
                only("advance", &["callouts", "faults", "expect"])?;
                let faults = RawFault::all(self.faults)?;
                let expect = self.expect.unwrap_or_default().check()?;
                let step = AdvanceStep { by, callouts: callouts?, faults, expect };
                Ok(RawStep::Done(Step::Advance(step)))
            }
            (None, None, (None, Some(by), None)) => {
                only("clock", &[])?;
                Ok(RawStep::Done(Step::Clock(by)))
            }
            (None, None, (None, None, Some(configure))) => {
                only("configure", &["callouts", "faults", "expect"])?;
                let faults = RawFault::all(self.faults)?;
                let expect = self.expect.unwrap_or_default().check()?;
                Ok(RawStep::Configure(configure, callouts?, faults, expect))
            }
            _ => {
                Err("a step is one of `request`, `connection`, `together`, `advance`, `clock` and \
                 `configure`"
                    .into())
            }
        }
    }

    /// One of several requests at once, and how long after the first it is sent.
    pub(super) fn timed(
        self,
    ) -> Result<(Duration, Box<RequestStep>, Option<RawMeanwhile>), String> {
        if !self.is_request() {
            return Err("together: each is a `request`, and `after` and what belongs to it".into());
        }
        let after = self.after.map_or(Duration::ZERO, |Span(after)| after);
        let (step, meanwhile) = self.request()?;
        Ok((after, step, meanwhile))
    }

    fn is_request(&self) -> bool {
        let is_other = self.together.is_some()
            || self.connection.is_some()
            || self.advance.is_some()
            || self.clock.is_some()
            || self.configure.is_some();
        self.request.is_some() && !is_other
    }

    fn request(self) -> Result<(Box<RequestStep>, Option<RawMeanwhile>), String> {
        let request = self.request.ok_or("request: missing")?;
        let callouts = self.callouts.unwrap_or_default().into_iter().map(RawCallout::check);
        let step = Box::new(RequestStep {
            request: request.check(),
            repeat: repeats(self.repeat)?,
            worker: self.worker,
            peer: self.peer,
            upstream: self.upstream.unwrap_or_default().check()?,
            callouts: callouts.collect::<Result<_, _>>()?,
            faults: RawFault::all(self.faults)?,
            meanwhile: None,
            expect: self.expect.unwrap_or_default().check()?,
        });
        Ok((step, self.meanwhile))
    }
}

fn repeats(repeat: Option<NonZeroUsize>) -> Result<NonZeroUsize, String> {
    let repeat = repeat.unwrap_or(NonZeroUsize::MIN);
    if repeat.get() > MOST_REPEATS {
        return Err(format!("repeat: {repeat} is above the bound of {MOST_REPEATS}"));
    }
    Ok(repeat)
}
