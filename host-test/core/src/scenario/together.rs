//! Several requests at once, and how that is written.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::step::{RawMeanwhile, StepFields};
use super::{FilterUse, PlannedCallout, RequestStep};

/// The most requests at once: as many connections each worker of a real Envoy gets.
const MOST_AT_ONCE: usize = 16;

/// The longest a client waits for its turn: as long as one waits for an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Requests that are under way at the same time.
#[derive(Clone, Debug)]
pub struct Together {
    /// The requests, at least two. Those that begin at the same time do so in this order.
    pub requests: Vec<Timed>,
    /// What callouts meet until all have come to an end, in order per cluster.
    pub callouts: Vec<PlannedCallout>,
}

/// One of several requests at once.
#[derive(Clone, Debug)]
pub struct Timed {
    /// How long after the begin of the step it is sent.
    pub after: Duration,
    /// The request. It is sent once, and the callouts are those of the whole step.
    pub step: RequestStep,
}

impl Together {
    /// Checks the step by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        let configuring = self.requests.iter().filter(|timed| timed.step.meanwhile.is_some());
        check_several(self.requests.len(), configuring.count())?;
        for (index, timed) in self.requests.iter().enumerate() {
            timed.check().map_err(|what| format!("together[{index}].{what}"))?;
        }
        Ok(())
    }
}

fn check_several(requests: usize, configuring: usize) -> Result<(), String> {
    if requests < 2 {
        return Err("together: write at least two requests".into());
    }
    if requests > MOST_AT_ONCE {
        return Err(format!("together: {requests} requests are above the bound of {MOST_AT_ONCE}"));
    }
    if configuring > 1 {
        return Err("together: `meanwhile` stands beside one of the requests at most".into());
    }
    Ok(())
}

impl Timed {
    fn check(&self) -> Result<(), String> {
        let Self { after, step } = self;
        if *after > LONGEST_WAIT {
            return Err(format!("after: {after:?} is above the bound of {LONGEST_WAIT:?}"));
        }
        let budget = &step.expect.budget;
        let has_budget = budget.host_calls.or(budget.fuel).or(budget.memory).is_some();
        let alone = [
            ("repeat", step.repeat.get() > 1, "write the request as often"),
            ("callouts", !step.callouts.is_empty(), "write them beside `together`"),
            ("expect.budget", has_budget, "it belongs to a request that is alone"),
        ];
        match alone.iter().find(|(_, is_there, _)| *is_there) {
            Some((key, _, instead)) => Err(format!("{key}: not for one of several; {instead}")),
            None => step.check(),
        }
    }
}

/// One of several requests, but for the filters that it names.
pub(super) struct RawTimed {
    timed: Timed,
    meanwhile: Option<RawMeanwhile>,
}

/// Checks how many there are.
pub(super) fn check_raw(requests: &[RawTimed]) -> Result<(), String> {
    let configuring = requests.iter().filter(|request| request.meanwhile.is_some());
    check_several(requests.len(), configuring.count())
}

impl RawTimed {
    pub(super) fn check(self, filters: &[FilterUse]) -> Result<Timed, String> {
        let Self { mut timed, meanwhile } = self;
        timed.step.meanwhile = meanwhile.map(|meanwhile| meanwhile.check(filters)).transpose()?;
        Ok(timed)
    }
}

impl<'de> Deserialize<'de> for RawTimed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = StepFields::deserialize(deserializer)?;
        let (after, step, meanwhile) = fields.timed().map_err(de::Error::custom)?;
        let timed = Timed { after, step: *step };
        timed.check().map_err(de::Error::custom)?;
        Ok(Self { timed, meanwhile })
    }
}
