//! Counting for the operator: counters, gauges and histograms, alone or with labels.
//!
//! All are defined once, in [`Filter::configure`](crate::Filter::configure), through
//! [`Root`](crate::Root). A metric never changes what a filter decides: what the host refuses to count
//! is not counted, which is logged once.
//!
//! In Envoy a metric is one for all workers, and lives as long as the process. So a metric with labels
//! needs a [`Budget`]: without one it cannot be made. What is beyond it goes into one series whose
//! labels all say `other`, and is counted in a metric of its own, `NAME_folded`. Budgets are kept by
//! each worker for itself: as workers may see different values, a proxy with N workers can come to
//! N times the budget. A lookup of a series that is there allocates nothing and asks the host nothing.
//!
//! ```no_run
//! use tollgate::metrics::{Budget, Counters, Labels};
//! # fn configure(root: &tollgate::Root) {
//! struct ByTenant;
//!
//! impl Labels for ByTenant {
//!     const NAMES: &'static [&'static str] = &["tenant", "code"];
//!     type Values<'a> = (&'a [u8], u32);
//! }
//!
//! let requests: Counters<ByTenant> = root.counters("tollgate_demo_requests", Budget::new(200));
//! requests.increment((b"blue", 200));
//! # }
//! ```
//!
//! The ABI has no labels: they stand in the name of the metric, as Istio's own filters have them, and
//! Envoy takes them out again where its configuration says so: the filter says its labels in
//! [`Filter::STATS_TAGS`](crate::Filter::STATS_TAGS), and the module tells whoever writes that configuration.
//! Values may come from clients: they are escaped so that each stays one value, see [`LabelValue`].
//!
//! Not here: taking series away again, which the ABI cannot.

mod chosen;
mod labels;
mod series;
mod tags;

use std::borrow::Cow;
use std::cell::Cell;
use std::time::Duration;

use tollgate_abi::MetricType;

pub use self::chosen::{Chosen, ChosenSeries, Instrument, InvalidLabelName, LabelNames};
pub use self::labels::{LabelText, LabelValue, LabelValues, Labels, MAX_VALUE_BYTES};
pub use self::series::{Budget, Counters, Gauges, Histograms};
pub use self::tags::StatsTags;
pub(crate) use self::tags::to_json as tags_to_json;

use crate::host;
use crate::host_error::HostError;

/// A metric that only grows. It never changes what a filter decides: what the host refuses to count
/// is not counted.
#[derive(Debug)]
pub struct Counter(Single);

/// A metric that goes up and down. What a worker has added stays when the worker is lost: a gauge of
/// what is in flight is then too high until the proxy starts anew.
#[derive(Debug)]
pub struct Gauge(Single);

/// A metric of the sizes of what is recorded. They are whole numbers, of a unit that belongs into the
/// name: hosts are not told of one.
#[derive(Debug)]
pub struct Histogram(Single);

impl Counter {
    pub(crate) fn define(name: &'static str) -> Self {
        Self(Single::define(MetricType::Counter, name))
    }

    /// One that belongs to the metric `of`, and is told of as such.
    fn define_beside(of: &'static str, name: &str) -> Self {
        let about = About::new(MetricType::Counter, of);
        let id = about.define(name.as_bytes());
        Self(Single { about, id })
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`; of more than 2^63 - 1 at once, that much.
    pub fn add(&self, amount: u64) {
        self.0.about.grow(self.0.id, amount);
    }

    /// What all workers have added up to; `None` when it was not defined.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn value(&self) -> Result<Option<u64>, HostError> {
        self.0.id.map(host::metric).transpose()
    }
}

impl Gauge {
    pub(crate) fn define(name: &'static str) -> Self {
        Self(Single::define(MetricType::Gauge, name))
    }

    /// Sets it, for all workers.
    pub fn set(&self, value: u64) {
        self.0.about.record(self.0.id, value);
    }

    /// Adds to it, or takes away from it.
    pub fn add(&self, difference: i64) {
        self.0.about.shift(self.0.id, difference);
    }

    /// What it stands at for all workers; `None` when it was not defined.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn value(&self) -> Result<Option<u64>, HostError> {
        self.0.id.map(host::metric).transpose()
    }
}

impl Histogram {
    pub(crate) fn define(name: &'static str) -> Self {
        Self(Single::define(MetricType::Histogram, name))
    }

    /// Records a size.
    pub fn record(&self, value: u64) {
        self.0.about.record(self.0.id, value);
    }

    /// Records a time in whole milliseconds, which is what the bounds of Envoy's buckets are made for.
    pub fn record_millis(&self, time: Duration) {
        self.record(millis(time));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A metric without labels.
#[derive(Debug)]
struct Single {
    about: About,
    /// Hosts give a new id for each definition, and look the name up each time: it is kept.
    id: Option<u32>,
}

impl Single {
    fn define(kind: MetricType, name: &'static str) -> Self {
        let about = About::new(kind, name);
        let id = about.define(labels::metric_name(name).as_bytes());
        Self { about, id }
    }
}

/// What all series of a metric have in common.
#[derive(Debug)]
struct About {
    kind: MetricType,
    name: Cow<'static, str>,
    has_failed: Cell<bool>,
}

impl About {
    fn new(kind: MetricType, name: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, name: name.into(), has_failed: Cell::new(false) }
    }

    fn define(&self, name: &[u8]) -> Option<u32> {
        match host::define_metric(self.kind, name) {
            Ok(id) => Some(id),
            Err(error) => {
                if !self.has_failed.replace(true) {
                    log::warn!("{} {} counts nothing: {error}", self.kind, self.name);
                }
                None
            }
        }
    }

    fn grow(&self, id: Option<u32>, amount: u64) {
        self.shift(id, i64::try_from(amount).unwrap_or(i64::MAX));
    }

    fn shift(&self, id: Option<u32>, offset: i64) {
        // Hosts refuse to add nothing to a counter.
        if let (Some(id), true) = (id, offset != 0) {
            self.tell_once(host::increment_metric(id, offset));
        }
    }

    fn record(&self, id: Option<u32>, value: u64) {
        if let Some(id) = id {
            self.tell_once(host::record_metric(id, value));
        }
    }

    fn tell_once(&self, outcome: Result<(), HostError>) {
        if let Err(error) = outcome
            && !self.has_failed.replace(true)
        {
            log::debug!("{} {} has missed something: {error}", self.kind, self.name);
        }
    }
}
