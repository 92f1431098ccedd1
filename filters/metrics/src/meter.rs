//! What the filter of requests and that of connections share: the policy, who reports, the filter's own
//! counters, and the streams that are counted while they are open.

use std::cell::OnceCell;

use tollgate::mode::Enforcement;
use tollgate::state::State;
use tollgate::{Root, sleep};

use crate::config::Policy;
use crate::family::{Family, Own};
use crate::measure::Scope;
use crate::observed::{Ended, Reads, Started, View};
use crate::open::OpenStreams;
use crate::reporting::Reporting;

/// What both filters of a worker have.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) policy: Policy,
    pub(crate) reporting: Option<Reporting>,
    pub(crate) own: Own,
    /// What is counted while a stream is open.
    pub(crate) open: Option<Family>,
    pub(crate) open_streams: OpenStreams,
}

impl Meter {
    /// One whose streams are counted in this scope while they are open.
    pub(crate) fn new(policy: Policy, open: Scope, root: &Root, state: &State) -> Self {
        Self {
            reporting: Reporting::of(&policy, root),
            own: Own::new(root),
            open: Family::new(&policy, open, root, state),
            open_streams: OpenStreams::default(),
            policy,
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.policy.mode == Enforcement::Off
    }

    /// What labels of a stream are read from, with neither a host nor a response.
    pub(crate) fn view<'a>(
        &'a self,
        reads: &'a Reads,
        started: &'a Started,
        ended: Option<&'a Ended>,
    ) -> View<'a> {
        View {
            policy: &self.policy,
            reads,
            started,
            ended,
            reporting: self.reporting.as_ref(),
            known: OnceCell::new(),
            authority: &[],
            response: None,
        }
    }

    /// Counts from time to time what passes through open streams.
    pub(crate) async fn count_open_streams(&self) {
        let Some(open) = &self.open else { return };
        loop {
            sleep(self.policy.report_every).await;
            self.open_streams.count(open);
        }
    }
}
