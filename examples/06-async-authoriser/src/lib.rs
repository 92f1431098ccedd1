//! Asks another service whether a request may pass: once per token for as long as the answer is fresh,
//! once for all who ask at the same time, within a deadline, and again only as a budget allows.

use std::num::NonZeroU16;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::callout::{Backoff, HttpCall, Retry, RetryBudget, SingleFlight};
use tollgate::metrics::{Budget, Counters, Labels, StatsTags};
use tollgate::state::LocalCache;
use tollgate::{
    Clock, ConfigureError, Counter, Filter, LocalReply, OnExchange, Outcome, Request, Root,
    StatusCode, log, timeout,
};

/// The configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster of the service, which answers GET /check with 200, 401 or 403.
    cluster: String,
    /// How long a request waits for an answer, further attempts included.
    deadline_millis: NonZeroU16,
    /// How long an answer holds.
    fresh_seconds: u16,
    /// What becomes of a request when there is no answer.
    on_error: OnError,
}

/// What becomes of a request that cannot be decided. Declared, never implied.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnError {
    Allow,
    Deny,
}

/// The filter.
#[derive(Debug)]
pub struct Authoriser {
    config: Config,
    clock: Clock,
    fresh: LocalCache<Vec<u8>, Verdict>,
    flights: SingleFlight<Vec<u8>, Option<Verdict>>,
    retries: RetryBudget,
    asked: Counter,
    requests: Counters<ByOutcome>,
}

/// What the service says.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Allowed,
    Denied,
}

#[derive(Debug)]
struct ByOutcome;

impl Labels for ByOutcome {
    const NAMES: &'static [&'static str] = &["outcome"];
    type Values<'a> = &'a str;
}

impl Filter for Authoriser {
    const NAME: &'static str = "authoriser";
    type Config = Config;
    type Stream = ();

    const STATS_TAGS: StatsTags = StatsTags::of(&[ByOutcome::NAMES]);

    fn configure(config: Config, root: &Root) -> Result<Self, ConfigureError> {
        Ok(Self {
            clock: root.clock(),
            fresh: LocalCache::new(1024, Duration::from_secs(config.fresh_seconds.into())),
            flights: SingleFlight::new(),
            retries: RetryBudget::new(100, 10),
            asked: root.counter("tollgate_authoriser_asked"),
            requests: root.counters("tollgate_authoriser_requests", Budget::new(4)),
            config,
        })
    }
}

impl OnExchange for Authoriser {
    async fn on_exchange(&self, (): &mut (), mut request: Request) -> Outcome {
        let Ok(token) = request.read()?.exactly_one("authorization").map(<[u8]>::to_vec) else {
            return Err(LocalReply::new(StatusCode::UNAUTHORIZED));
        };
        let verdict = match self.fresh.get(&token, self.clock.unix_nanos()?) {
            Some(verdict) => Some(verdict),
            None => self.flights.run(token.clone(), async || self.ask(token).await).await,
        };
        let (outcome, reply) = match (verdict, self.config.on_error) {
            (Some(Verdict::Allowed), _) => ("allowed", None),
            (Some(Verdict::Denied), _) => ("denied", Some(StatusCode::FORBIDDEN)),
            (None, OnError::Allow) => ("error_allowed", None),
            (None, OnError::Deny) => ("error_denied", Some(StatusCode::SERVICE_UNAVAILABLE)),
        };
        self.requests.increment(outcome);
        reply.map_or(Ok(()), |status| Err(LocalReply::new(status).with_details(outcome)))
    }
}

impl Authoriser {
    /// What the service says of a token, kept for those who come later; `None` if it says nothing.
    async fn ask(&self, token: Vec<u8>) -> Option<Verdict> {
        let deadline = Duration::from_millis(self.config.deadline_millis.get().into());
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        let call = HttpCall::get(&self.config.cluster, "/check")
            .header("authorization", token.as_slice())
            .timeout(deadline);
        let attempt = async || {
            self.asked.increment();
            call.send().await
        };
        let retry = Retry::new(3, backoff).within(&self.retries);
        let verdict = match timeout(deadline, retry.run(attempt)).await {
            Ok(Ok(reply)) => match reply.status() {
                Some(200) => Verdict::Allowed,
                Some(401 | 403) => Verdict::Denied,
                status => return undecided(&format!("it answered with {status:?}")),
            },
            Ok(Err(error)) => return undecided(&error.to_string()),
            Err(elapsed) => return undecided(&elapsed.to_string()),
        };
        if let Ok(now) = self.clock.unix_nanos() {
            self.fresh.insert(token, verdict, now);
        }
        Some(verdict)
    }
}

fn undecided(why: &str) -> Option<Verdict> {
    log::warn!("the service does not say: {why}");
    None
}
