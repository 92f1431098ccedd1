//! A policy: what an operator has written, parsed into what the filter takes.
//!
//! Parsing is strict. What is unknown, missing, empty or out of bounds is an error that names the place, the
//! value and the bound; so is what would never have an effect.
//!
//! Not here: how JSON is read and misfits are told, which is [`tollgate::config`].

mod check;
mod invalid;
mod written;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tollgate::config::Object;
use tollgate::matching::Match;
use tollgate::metrics::LabelNames;
use tollgate::mode::{Enforcement, Percent};

pub use self::invalid::InvalidPolicy;
use self::written::WrittenPolicy;
use crate::istio::Reporter;
use crate::label::Label;
use crate::measure::{Metric, Profile, Scope};
use crate::outcome::Failures;

/// The label of the counters of objectives.
pub const OBJECTIVE: &str = "objective";

/// What the filter is to do. Made from JSON by [`tollgate::config::parse`].
///
/// # Examples
///
/// ```
/// # use tollgate_metrics::config::Policy;
/// let policy: Policy = tollgate::config::parse(
///     br#"{ "profile": "custom", "labels": [ { "name": "outcome", "fact": "outcome" } ],
///           "metrics": [ { "measure": "requests", "name": "shop_requests_total" } ] }"#,
/// )?;
/// assert_eq!(policy.label_names().to_istio(), "outcome");
/// # Ok::<(), tollgate::config::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Object<WrittenPolicy>")]
#[schemars(
    with = "WrittenPolicy",
    description = "What is measured of requests, and by which labels."
)]
pub struct Policy {
    pub(crate) profile: Profile,
    pub(crate) reporter: Option<Reporter>,
    pub(crate) host_fallback: bool,
    pub(crate) labels: Vec<Label>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) in_flight: bool,
    pub(crate) budget: u16,
    pub(crate) failures: Failures,
    pub(crate) objectives: Vec<Objective>,
    pub(crate) report_every: Duration,
    pub(crate) mode: Enforcement,
    pub(crate) on_error: OnError,
}

impl Policy {
    /// Whose names and labels the metrics have.
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// The metrics, in order.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// The labels, in order.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The objectives, in order.
    pub fn objectives(&self) -> &[Objective] {
        &self.objectives
    }

    /// How many series each metric has at most, beside the one that takes the rest.
    pub const fn budget(&self) -> u16 {
        self.budget
    }

    /// The names of all labels of all metrics, which a proxy has to be told.
    pub fn label_names(&self) -> LabelNames {
        let own = self.labels.iter().map(|label| label.name.clone());
        let objective = (!self.objectives.is_empty()).then(|| OBJECTIVE.to_owned());
        // They have been checked.
        LabelNames::new(own.chain(objective).collect()).unwrap_or_default()
    }

    /// The labels that metrics of this scope have.
    pub fn labels_in(&self, scope: Scope) -> impl Iterator<Item = &Label> {
        self.labels.iter().filter(move |label| label.is_in(scope))
    }
}

/// What requests are to be, for how many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objective {
    /// Its name.
    pub name: String,
    /// Which requests it is for; `None`: for all.
    pub requests: Option<Match>,
    /// How long they may take; `None`: for ever.
    pub within: Option<Duration>,
    /// How many of them have to be good.
    pub target: Percent,
}

/// What becomes of a request of which something cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is counted, and the label is `unknown`.
    #[default]
    Unknown,
    /// It is not counted but as an error.
    Skip,
}
