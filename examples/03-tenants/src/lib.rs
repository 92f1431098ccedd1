//! Lets known tenants in: typed configuration, a matcher, an enforcement mode, a counter with labels.

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::config::{AtLeastOne, present};
use tollgate::matching::{Ambiguous, Match, ProxyNames, Request};
use tollgate::metrics::{Budget, Counters, Labels, StatsTags};
use tollgate::mode::{Enforcement, Mode, Sampler};
use tollgate::{
    ConfigureError, Filter, Headers, LocalReply, OnRequestHeaders, Outcome, RequestHeaders, Root,
    StatusCode,
};

/// The configuration. What is said here stands in its JSON Schema.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The tenants, as the header `x-tenant` names them.
    tenants: AtLeastOne<String>,
    /// Which requests need a tenant; all if it is left out.
    #[serde(rename = "match", default, deserialize_with = "present")]
    requests: Option<Match>,
    /// How far this is enforced.
    #[serde(default)]
    mode: Mode,
}

/// The filter.
#[derive(Debug)]
pub struct Tenants {
    config: Config,
    sampler: Sampler,
    requests: Counters<ByTenant>,
}

/// Requests by tenant. Of those that are not known none is named: clients make no series.
#[derive(Debug)]
struct ByTenant;

impl Labels for ByTenant {
    const NAMES: &'static [&'static str] = &["tenant"];
    type Values<'a> = &'a str;
}

/// What a request is to this filter.
enum Verdict<'a> {
    NeedsNoTenant,
    Known(&'a str),
    Unknown,
}

impl Tenants {
    fn judge(&self, headers: &Headers) -> Verdict<'_> {
        let names = ProxyNames::default();
        let request = Request::new(headers, &names, Ambiguous::Deny);
        if let Some(Ok(false)) = self.config.requests.as_ref().map(|rule| rule.test(&request)) {
            return Verdict::NeedsNoTenant;
        }
        // A request that can be read in two ways needs a tenant in either.
        let name = headers.exactly_one("x-tenant").ok();
        let mut tenants = self.config.tenants.as_slice().iter();
        let known = tenants.find(|tenant| Some(tenant.as_bytes()) == name);
        known.map_or(Verdict::Unknown, |tenant| Verdict::Known(tenant))
    }
}

impl Filter for Tenants {
    const NAME: &'static str = "tenants";
    type Config = Config;
    type Stream = ();

    const STATS_TAGS: StatsTags = StatsTags::of(&[ByTenant::NAMES]);

    fn configure(config: Config, root: &Root) -> Result<Self, ConfigureError> {
        let requests = root.counters("tollgate_tenants_requests", Budget::new(100));
        Ok(Self { config, sampler: Sampler::new(), requests })
    }
}

impl OnRequestHeaders for Tenants {
    fn on_request_headers(&self, (): &mut (), request: &mut RequestHeaders) -> Outcome {
        let headers = request.read()?;
        let enforcement = self.config.mode.of(headers, &self.sampler);
        if enforcement == Enforcement::Off {
            return Ok(());
        }
        match self.judge(headers) {
            Verdict::NeedsNoTenant => return Ok(()),
            Verdict::Known(tenant) => {
                self.requests.increment(tenant);
                return Ok(());
            }
            Verdict::Unknown => self.requests.increment("unknown"),
        }
        match enforcement {
            Enforcement::Enforce => {
                Err(LocalReply::new(StatusCode::FORBIDDEN).with_body("unknown tenant\n"))
            }
            Enforcement::Shadow | Enforcement::Off => Ok(()),
        }
    }
}
