//! The filter of connections of TCP.

use tollgate::metrics::{Labels, StatsTags};
use tollgate::{
    CloseConnection, ConfigureError, DownstreamData, Filter, OnDownstreamData, OnUpstreamData,
    Root, UpstreamData,
};

use crate::guard::{ByDecision, ByFlip, ByOutcome, ByRule, Guard, Verdict};
use crate::policy::ConnectionPolicy;

/// Whether a client has been let pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Nobody has decided yet.
    #[default]
    Undecided,
    /// It has.
    Admitted,
}

/// The mtls filter of TCP connections of one worker.
///
/// It decides when bytes come: before that a handshake may not be over. A connection that outlives its
/// certificate is closed with the next bytes of its client. Where the upstream speaks first, it is decided then,
/// and a client whose handshake is not over yet is nobody.
#[derive(Debug)]
pub struct MtlsTcp(Guard);

impl Filter for MtlsTcp {
    const NAME: &'static str = "mtls-tcp";
    type Config = ConnectionPolicy;
    type Stream = Admission;
    const STATS_TAGS: StatsTags =
        StatsTags::of(&[ByDecision::NAMES, ByFlip::NAMES, ByRule::NAMES, ByOutcome::NAMES]);

    fn configure(policy: ConnectionPolicy, root: &Root) -> Result<Self, ConfigureError> {
        Ok(Self(Guard::new(policy.0, root)))
    }
}

impl OnDownstreamData for MtlsTcp {
    fn on_downstream_data(
        &self,
        admission: &mut Admission,
        _: &mut DownstreamData,
    ) -> Result<(), CloseConnection> {
        self.admit(admission)
    }
}

impl OnUpstreamData for MtlsTcp {
    fn on_upstream_data(
        &self,
        admission: &mut Admission,
        _: &mut UpstreamData,
    ) -> Result<(), CloseConnection> {
        match admission {
            Admission::Undecided => self.admit(admission),
            Admission::Admitted => Ok(()),
        }
    }
}

impl MtlsTcp {
    fn admit(&self, admission: &mut Admission) -> Result<(), CloseConnection> {
        match self.0.judge(None) {
            Verdict::Passes(_) => {
                *admission = Admission::Admitted;
                Ok(())
            }
            // What is wrong has been logged, and not for every connection.
            Verdict::Denied(_) | Verdict::Undecided => Err(CloseConnection::silently()),
        }
    }
}
