//! The filter for connections of TCP: counts each when it is opened and when it is closed, and its bytes in
//! between.
//!
//! A connection is known by its labels once the upstream has answered, and at the latest when it is closed.

use std::cell::OnceCell;
use std::rc::Rc;

use tollgate::mode::Enforcement;
use tollgate::{
    CloseConnection, ConfigureError, DownstreamData, Filter, InBackground, LoggedExchange,
    OnDownstreamData, OnLog, OnUpstreamData, Root, UpstreamData, sleep,
};

use crate::config::Policy;
use crate::family::{Family, Own, Series};
use crate::flags::Flags;
use crate::measure::{Measure, Scope};
use crate::observed::{Ended, Reads, Started, View};
use crate::open::{OpenStream, OpenStreams, Tally};
use crate::outcome::Outcome;
use crate::reporting::Reporting;

/// The metrics filter of one worker, for connections of TCP.
#[derive(Debug)]
pub struct TcpMetrics {
    policy: Policy,
    reporting: Option<Reporting>,
    family: Option<Family>,
    own: Own,
    open: OpenStreams,
}

/// What is kept of a connection while it is open.
#[derive(Debug, Default)]
pub struct Connected {
    tally: Rc<Tally>,
    open: Option<OpenStream>,
    /// Whether it is not measured, as something of it could not be read.
    is_skipped: bool,
}

impl Filter for TcpMetrics {
    const NAME: &'static str = "metrics-tcp";
    type Config = Policy;
    type Stream = Connected;

    fn configure(policy: Policy, root: &Root) -> Result<Self, ConfigureError> {
        let state = root.state("metrics", 1);
        Ok(Self {
            reporting: Reporting::of(&policy, root),
            family: Family::new(&policy, Scope::Tcp, root, &state),
            own: Own::new(root),
            open: OpenStreams::default(),
            policy,
        })
    }
}

impl OnDownstreamData for TcpMetrics {
    fn on_downstream_data(
        &self,
        connected: &mut Connected,
        data: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        connected.tally.received.add(data.len().try_into().unwrap_or(u64::MAX));
        Ok(())
    }
}

impl OnUpstreamData for TcpMetrics {
    fn on_upstream_data(
        &self,
        connected: &mut Connected,
        data: &mut UpstreamData,
    ) -> Result<(), CloseConnection> {
        connected.tally.sent.add(data.len().try_into().unwrap_or(u64::MAX));
        if connected.open.is_none()
            && let Some(series) = self.opened(connected)
        {
            connected.open = Some(self.open.insert(Rc::clone(&connected.tally), series));
        }
        Ok(())
    }
}

impl OnLog for TcpMetrics {
    fn on_log(&self, connected: &mut Connected, _: &mut LoggedExchange) {
        let open = connected.open.take().and_then(|open| self.open.remove(open));
        let series = open.or_else(|| self.opened(connected));
        if let (Some(series), Some(family)) = (series, &self.family) {
            connected.tally.count(family, &series);
            family.count(&series, |measure| (measure == Measure::TcpClosed).then_some(1));
        }
    }
}

impl InBackground for TcpMetrics {
    async fn in_background(&self) {
        let Some(family) = &self.family else { return };
        loop {
            sleep(self.policy.report_every).await;
            self.open.count(family);
        }
    }
}

impl TcpMetrics {
    /// Counts a connection as opened, the first time: its series, if it is measured.
    fn opened(&self, connected: &mut Connected) -> Option<Series> {
        let family = self.family.as_ref()?;
        if connected.is_skipped || self.policy.mode == Enforcement::Off {
            return None;
        }
        let (reads, started) = (Reads::default(), Started::connection());
        let flags = Flags::new(reads.of(&tollgate::attributes::response::FLAGS).unwrap_or(0));
        let ended =
            Ended { code: 0, grpc_status: None, flags, outcome: Outcome::Success, duration: None };
        let view = View {
            policy: &self.policy,
            reads: &reads,
            started: &started,
            ended: Some(&ended),
            reporting: self.reporting.as_ref(),
            known: OnceCell::new(),
            authority: &[],
            response: None,
        };
        let (series, is_unsure) = self.own.series(family, &view);
        if !self.own.note(&series, is_unsure, &self.policy) {
            connected.is_skipped = true;
            return None;
        }
        family.count(&series, |measure| (measure == Measure::TcpOpened).then_some(1));
        Some(series)
    }
}
