//! What a filter is given while it is configured.

use std::cell::Cell;

use tollgate_abi::{Status, property};

use crate::filter::ConfigureError;
use crate::host;
use crate::host_error::HostError;
use crate::metrics::{
    Budget, Chosen, Counter, Counters, Gauge, Gauges, Histogram, Histograms, Instrument,
    LabelNames, Labels, StatsTags,
};
use crate::shared_data::SharedData;
use crate::state::State;

/// What the proxy offers to a worker: passed to [`Filter::configure`](crate::Filter::configure), which
/// keeps what it needs.
#[derive(Debug)]
pub struct Root {
    tags: StatsTags,
    /// A metric with a label that is not in `tags`.
    unsaid: Cell<Option<(&'static str, &'static str)>>,
}

impl Root {
    /// That of a filter whose metrics have no other labels than these.
    pub(crate) const fn new(tags: StatsTags) -> Self {
        Self { tags, unsaid: Cell::new(None) }
    }

    /// What was made of it, if the filter has said all labels.
    pub(crate) fn judge<T>(self, made: T) -> Result<T, ConfigureError> {
        match self.unsaid.get() {
            None => Ok(made),
            Some((metric, label)) => Err(ConfigureError::UnsaidLabel { metric, label }),
        }
    }

    fn look_at<L: Labels>(&self, metric: &'static str) {
        let is_unsaid = |name: &&&'static str| self.tags.names().all(|said| said != **name);
        if let Some(label) = L::NAMES.iter().find(is_unsaid) {
            self.unsaid.set(Some((metric, label)));
        }
    }

    /// Defines a counter. All workers of a proxy add to the same one.
    ///
    /// Without the host's consent it counts nothing, which is logged: a metric decides nothing.
    pub fn counter(&self, name: &'static str) -> Counter {
        Counter::define(name)
    }

    /// Defines a gauge, which all workers share.
    pub fn gauge(&self, name: &'static str) -> Gauge {
        Gauge::define(name)
    }

    /// Defines a histogram, in which all workers record.
    pub fn histogram(&self, name: &'static str) -> Histogram {
        Histogram::define(name)
    }

    /// Defines counters with labels, of which this worker makes at most as many as `budget` says.
    ///
    /// There are none without a budget:
    ///
    /// ```compile_fail,E0061
    /// # use tollgate::Root;
    /// # use tollgate::metrics::{Counters, Labels};
    /// # struct ByTenant;
    /// # impl Labels for ByTenant {
    /// #     const NAMES: &'static [&'static str] = &["tenant"];
    /// #     type Values<'a> = &'a str;
    /// # }
    /// fn requests(root: &Root) -> Counters<ByTenant> {
    ///     root.counters("tollgate_demo_requests")
    /// }
    /// ```
    pub fn counters<L: Labels>(&self, name: &'static str, budget: Budget) -> Counters<L> {
        self.look_at::<L>(name);
        Counters::define(name, budget)
    }

    /// Defines gauges with labels, of which this worker makes at most as many as `budget` says.
    pub fn gauges<L: Labels>(&self, name: &'static str, budget: Budget) -> Gauges<L> {
        self.look_at::<L>(name);
        Gauges::define(name, budget)
    }

    /// Defines histograms with labels, of which this worker makes at most as many as `budget` says.
    pub fn histograms<L: Labels>(&self, name: &'static str, budget: Budget) -> Histograms<L> {
        self.look_at::<L>(name);
        Histograms::define(name, budget)
    }

    /// Makes metrics whose names and labels the configuration has chosen; each series is defined when it is
    /// first needed. A proxy is told of the labels by [`LabelNames::to_json`], as the module cannot know.
    pub fn chosen(&self, metrics: Vec<(Instrument, String)>, labels: LabelNames) -> Chosen {
        Chosen::new(metrics, labels)
    }

    /// The values that all workers of the proxy share.
    pub fn shared_data(&self) -> SharedData {
        SharedData::new()
    }

    /// The state of this plugin, under the name of a product and the version of its records: what the
    /// filter of another version has stored is not found, rather than misread.
    pub fn state(&self, product: &str, version: u8) -> State {
        let plugin = self.property(&["plugin_name"]).unwrap_or_else(|error| {
            log::warn!(
                "without the plugin's name, plugins of one product share their state: {error}"
            );
            None
        });
        State::new(product, version, &plugin.unwrap_or_default())
    }

    /// The clock of the proxy.
    pub fn clock(&self) -> Clock {
        Clock(())
    }

    /// Reads a property, such as `["plugin_name"]`; `None` when there is none of that path.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn property(&self, path: &[&str]) -> Result<Option<Vec<u8>>, HostError> {
        // NUL parts the segments: no property has one in its name.
        let Ok(path) = property::join(path) else {
            return Ok(None);
        };
        match host::property(&path) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.status() == Some(Status::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The wall clock of the proxy. It may be set, and then leaps or goes backwards.
#[derive(Clone, Copy, Debug)]
pub struct Clock(());

impl Clock {
    /// Nanoseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`HostError`] when the host refuses.
    pub fn unix_nanos(&self) -> Result<u64, HostError> {
        host::current_time()
    }
}
