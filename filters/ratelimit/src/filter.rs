//! The filter that counts in the proxy: reads a request, charges it in the proxy's shared data, and
//! answers in place of the upstream what may not pass.

use tollgate::metrics::{Labels, StatsTags};
use tollgate::{
    Clock, ConfigureError, Filter, Headers, OnRequestHeaders, OnResponseHeaders, Outcome,
    RequestHeaders, ResponseHeaders, Root,
};

use crate::answer::Limits;
use crate::config::Policy;
use crate::gcra::UnixNanos;
use crate::local::{Local, add_limits};
use crate::refusal::Refusal;
use crate::rules::{ByRule, Rules, is_grpc};
use crate::table::RECORD_VERSION;

/// The rate limit of one worker.
#[derive(Debug)]
pub struct RateLimit {
    rules: Rules,
    local: Local,
    clock: Clock,
}

/// The limits that a request has passed, for its answer.
#[derive(Default)]
pub struct Passed(Limits);

impl Filter for RateLimit {
    const NAME: &'static str = "ratelimit";
    type Config = Policy;
    type Stream = Passed;

    const STATS_TAGS: StatsTags = StatsTags::of(&[ByRule::NAMES]);

    fn configure(policy: Policy, root: &Root) -> Result<Self, ConfigureError> {
        let state = root.state(Self::NAME, RECORD_VERSION);
        Ok(Self {
            rules: Rules::new(policy, root, state.prefix()),
            local: Local(root.shared_data()),
            clock: root.clock(),
        })
    }
}

impl OnRequestHeaders for RateLimit {
    fn on_request_headers(&self, passed: &mut Passed, request: &mut RequestHeaders) -> Outcome {
        if self.rules.are_off() {
            return Ok(());
        }
        let (headers, now) = match self.rules.read(request, self.clock) {
            Ok(read) => read,
            Err(outcome) => return outcome,
        };
        match self.admit(headers, now) {
            Ok(limits) => {
                passed.0 = limits;
                Ok(())
            }
            Err(refusal) => Err(self.rules.refuse(&refusal, is_grpc(headers), now)),
        }
    }
}

impl OnResponseHeaders for RateLimit {
    fn on_response_headers(
        &self,
        Passed(limits): &mut Passed,
        response: &mut ResponseHeaders,
    ) -> Outcome {
        self.rules.tell(response, limits);
        Ok(())
    }
}

impl RateLimit {
    /// Charges a request to all limits that are for it, or to none.
    #[inline(never)]
    fn admit(&self, headers: &Headers, now: UnixNanos) -> Result<Limits, Refusal<'_>> {
        let dues = self.rules.due(headers, now, |limits, due| add_limits(limits, &due))?;
        let passed = self.local.charge(&self.rules, &dues.enforced, now)?;
        let is_within = self.local.try_out(&self.rules, &dues.shadowed, now);
        self.rules.passed(&dues, is_within && passed.is_some());
        Ok(passed.unwrap_or_default())
    }
}
