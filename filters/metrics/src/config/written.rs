//! What is written, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::HeaderName;
use tollgate::config::{AtLeastOne, Object, present, word};
use tollgate::matching::Match;
use tollgate::mode::{Enforcement, Percent};

use super::OnError;
use crate::istio::Reporter;
use crate::label::{Fact, PeerPart};
use crate::measure::{Measure, Profile};
use crate::outcome::Statuses;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub(super) struct WrittenPolicy {
    /// Whose names and labels the metrics have.
    #[serde(deserialize_with = "word")]
    pub(super) profile: Profile,
    /// Who reports, for Istio's labels: by the direction of the listener, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Reporter")]
    pub(super) reporter: Option<Reporter>,
    /// Whether the host that a client asks for stands for a service that the proxy does not know.
    #[serde(default = "yes")]
    pub(super) host_fallback: bool,
    /// Labels that are added, changed or dropped.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenLabel>")]
    pub(super) labels: Option<AtLeastOne<Object<WrittenLabel>>>,
    /// Metrics that are added, changed or dropped.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenMetric>")]
    pub(super) metrics: Option<AtLeastOne<Object<WrittenMetric>>>,
    /// Whether requests in flight are counted in a gauge.
    #[serde(default)]
    pub(super) in_flight: bool,
    /// How many series each metric has at most, beside the one that takes the rest.
    #[serde(default = "budget")]
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) budget: u16,
    /// What counts as a failure of the server.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "WrittenFailures")]
    pub(super) failures: Option<Object<WrittenFailures>>,
    /// What requests are to be.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<WrittenObjective>")]
    pub(super) objectives: Option<AtLeastOne<Object<WrittenObjective>>>,
    /// How often streams that are open are counted.
    #[serde(default = "every")]
    #[schemars(range(min = 1, max = 3600))]
    pub(super) report_seconds: u16,
    /// Whether requests are counted, or only what counting them would come to.
    #[serde(default, deserialize_with = "word")]
    pub(super) mode: Enforcement,
    /// What becomes of a request of which something cannot be read.
    #[serde(default, deserialize_with = "word")]
    pub(super) on_error: OnError,
}

const fn yes() -> bool {
    true
}

const fn budget() -> u16 {
    2_000
}

const fn every() -> u16 {
    5
}

/// A label: exactly one of the fields after its name says what becomes of it, or where its value comes from.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Label")]
pub(super) struct WrittenLabel {
    /// Its name.
    #[schemars(extend("pattern" = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub(super) name: String,
    /// A text of the policy.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String")]
    pub(super) value: Option<String>,
    /// What the filter knows of every request.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Fact")]
    pub(super) fact: Option<Fact>,
    /// A header of the request, as it came.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "HeaderName")]
    pub(super) header: Option<HeaderName>,
    /// A header of the response.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "HeaderName")]
    pub(super) response_header: Option<HeaderName>,
    /// An attribute of the proxy, by the segments of its path.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<String>")]
    pub(super) attribute: Option<AtLeastOne<String>>,
    /// The first template that the path of the request fits.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<String>")]
    pub(super) templates: Option<AtLeastOne<String>>,
    /// A part of the SPIFFE ID of the client's certificate.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "PeerPart")]
    pub(super) peer: Option<PeerPart>,
    /// Another name for a label of the profile.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String", extend("pattern" = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub(super) rename: Option<String>,
    /// Takes a label of the profile away.
    #[serde(default)]
    pub(super) drop: bool,
    /// The values that it may have; any other one becomes `other`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<String>")]
    pub(super) one_of: Option<AtLeastOne<String>>,
}

/// A metric.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metric")]
pub(super) struct WrittenMetric {
    /// What it measures.
    #[serde(deserialize_with = "word")]
    pub(super) measure: Measure,
    /// What it is called: as in the profile, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "String", extend("pattern" = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub(super) name: Option<String>,
    /// Takes a metric of the profile away.
    #[serde(default)]
    pub(super) drop: bool,
    /// The upper bounds of its buckets, rising.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<u32>")]
    pub(super) bounds: Option<AtLeastOne<u32>>,
}

/// What counts as a failure of the server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Failures", extend("minProperties" = 1))]
pub(super) struct WrittenFailures {
    /// Statuses of HTTP, such as `503`, or classes of them, such as `5xx`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<Statuses>")]
    pub(super) http: Option<AtLeastOne<Statuses>>,
    /// Statuses of gRPC.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "AtLeastOne<u32>")]
    pub(super) grpc: Option<AtLeastOne<u32>>,
}

/// What requests are to be, for how many of them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Objective")]
pub(super) struct WrittenObjective {
    /// Its name, the value of the label `objective`.
    #[schemars(extend("pattern" = "^[a-z0-9.-]{1,64}$"))]
    pub(super) name: String,
    /// Which requests it is for; all, if left out.
    #[serde(default, rename = "match", deserialize_with = "present")]
    #[schemars(with = "Match")]
    pub(super) requests: Option<Match>,
    /// How long they may take; for ever, if left out.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "u32", range(min = 1))]
    pub(super) within_milliseconds: Option<u32>,
    /// How many of them have to be good.
    pub(super) target: Percent,
}
