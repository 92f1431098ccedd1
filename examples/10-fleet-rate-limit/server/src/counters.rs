//! Limits, and what has been spent of them: in the memory of one server, or in a store for several.
//!
//! Not here: the store, which is [`crate::store`], and the protocol, which is [`crate::service`].

use limitador::errors::LimitadorError;
use limitador::limit::{Context, Limit, Namespace};
use limitador::{CheckResult, RateLimiter};
use tonic::Status;

use crate::store::Store;

/// How many counters are kept in memory.
const MOST_COUNTERS: u64 = 100_000;

/// Who counts.
pub(crate) enum Counters {
    Memory(Box<RateLimiter>),
    Store(Store),
}

/// A descriptor as the counters take it.
pub(crate) struct Asked {
    pub(crate) context: Context<'static>,
    /// How many requests are charged; 0 only asks whether one would pass.
    pub(crate) hits: u64,
}

impl Counters {
    pub(crate) fn in_memory(limits: Vec<Limit>) -> Self {
        let limiter = RateLimiter::new(MOST_COUNTERS);
        for limit in limits {
            limiter.add_limit(limit);
        }
        Self::Memory(Box::new(limiter))
    }

    /// Charges all descriptors, or none when one of them refuses; gives what each has come to.
    ///
    /// # Errors
    ///
    /// `UNAVAILABLE` when nobody knows.
    pub(crate) async fn decide(
        &self,
        domain: &Namespace,
        asked: &[Asked],
    ) -> Result<Vec<CheckResult>, Status> {
        match self {
            Self::Memory(limiter) => decide(limiter, domain, asked).map_err(unavailable),
            Self::Store(store) => store.decide(domain, asked).await,
        }
    }
}

/// Whoever comes between can make a later one refuse after an earlier one was charged: too much is charged
/// then, and never too little.
fn decide(
    limiter: &RateLimiter,
    domain: &Namespace,
    asked: &[Asked],
) -> Result<Vec<CheckResult>, LimitadorError> {
    let check = |asked: &Asked| limiter.is_rate_limited(domain, &asked.context, asked.hits.max(1));
    let checked: Vec<CheckResult> = asked.iter().map(check).collect::<Result<_, _>>()?;
    if checked.iter().any(|result| result.limited) {
        return Ok(checked);
    }
    let charge = |(asked, checked): (&Asked, CheckResult)| match asked.hits {
        0 => Ok(checked),
        hits => limiter.check_rate_limited_and_update(domain, &asked.context, hits),
    };
    asked.iter().zip(checked).map(charge).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
pub(crate) fn unavailable(error: impl ToString) -> Status {
    Status::unavailable(error.to_string())
}
