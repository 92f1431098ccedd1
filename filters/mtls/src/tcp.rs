//! The filter of connections of TCP.

use tollgate::metrics::{Labels, StatsTags};
use tollgate::{CloseConnection, ConfigureError, DownstreamData, Filter, OnDownstreamData, Root};

use crate::guard::{ByDecision, ByFlip, ByOutcome, ByRule, Guard, Verdict};
use crate::policy::ConnectionPolicy;

/// The mtls filter of TCP connections of one worker.
///
/// It decides when bytes come: before that a handshake may not be over. A connection that outlives its
/// certificate is closed with the next bytes of its client.
#[derive(Debug)]
pub struct MtlsTcp(Guard);

impl Filter for MtlsTcp {
    const NAME: &'static str = "mtls-tcp";
    type Config = ConnectionPolicy;
    type Stream = ();
    const STATS_TAGS: StatsTags =
        StatsTags::of(&[ByDecision::NAMES, ByFlip::NAMES, ByRule::NAMES, ByOutcome::NAMES]);

    fn configure(policy: ConnectionPolicy, root: &Root) -> Result<Self, ConfigureError> {
        Ok(Self(Guard::new(policy.0, root)))
    }
}

impl OnDownstreamData for MtlsTcp {
    fn on_downstream_data(
        &self,
        (): &mut (),
        _: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        match self.0.judge(None) {
            Verdict::Passes(_) => Ok(()),
            // What is wrong has been logged, and not for every connection.
            Verdict::Denied(_) | Verdict::Undecided => Err(CloseConnection::silently()),
        }
    }
}
