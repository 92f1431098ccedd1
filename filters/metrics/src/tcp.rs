//! The filter for connections of TCP: counts each when it is opened and when it is closed, and its bytes in
//! between.
//!
//! A connection is known by its labels once the upstream has answered, and at the latest when it is closed.

use std::rc::Rc;

use tollgate::{
    CloseConnection, ConfigureError, DownstreamData, Filter, InBackground, LoggedExchange,
    OnDownstreamData, OnLog, OnUpstreamData, Root, UpstreamData,
};

use crate::config::Policy;
use crate::family::Series;
use crate::flags::Flags;
use crate::measure::{Measure, Scope};
use crate::meter::Meter;
use crate::observed::{Ended, Reads, Started};
use crate::open::{OpenStream, Tally};
use crate::outcome::Outcome;

/// The metrics filter of one worker, for connections of TCP.
#[derive(Debug)]
pub struct TcpMetrics(Meter);

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
        Ok(Self(Meter::new(policy, Scope::Tcp, root, &root.state("metrics", 1))))
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
            connected.open = Some(self.0.open_streams.insert(Rc::clone(&connected.tally), series));
        }
        Ok(())
    }
}

impl OnLog for TcpMetrics {
    fn on_log(&self, connected: &mut Connected, _: &mut LoggedExchange) {
        let open = connected.open.take().and_then(|open| self.0.open_streams.remove(open));
        let series = open.or_else(|| self.opened(connected));
        if let (Some(series), Some(family)) = (series, &self.0.open) {
            connected.tally.count(family, &series);
            family.count(&series, |measure| (measure == Measure::TcpClosed).then_some(1));
        }
    }
}

impl InBackground for TcpMetrics {
    async fn in_background(&self) {
        self.0.count_open_streams().await;
    }
}

impl TcpMetrics {
    /// Counts a connection as opened, the first time: its series, if it is measured.
    fn opened(&self, connected: &mut Connected) -> Option<Series> {
        let meter = &self.0;
        let family = meter.open.as_ref()?;
        if connected.is_skipped || meter.is_off() {
            return None;
        }
        let (reads, started) = (Reads::default(), Started::connection());
        let flags = Flags::new(reads.of(&tollgate::attributes::response::FLAGS).unwrap_or(0));
        let ended =
            Ended { code: 0, grpc_status: None, flags, outcome: Outcome::Success, duration: None };
        let view = meter.view(&reads, &started, Some(&ended));
        let (series, is_unsure) = meter.own.series(family, &view);
        if !meter.own.note(&series, is_unsure, &meter.policy) {
            connected.is_skipped = true;
            return None;
        }
        family.count(&series, |measure| (measure == Measure::TcpOpened).then_some(1));
        Some(series)
    }
}
