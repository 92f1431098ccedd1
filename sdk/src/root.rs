//! What a filter is given while it is configured.

use tollgate_abi::{Status, property};

use crate::host;
use crate::host_error::HostError;
use crate::metrics::{Budget, Counter, Counters, Gauge, Gauges, Histogram, Histograms, Labels};
use crate::shared_data::SharedData;
use crate::state::State;

/// What the proxy offers to a worker: passed to [`Filter::configure`](crate::Filter::configure), which
/// keeps what it needs.
#[derive(Debug)]
pub struct Root(());

impl Root {
    pub(crate) const fn new() -> Self {
        Self(())
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
    pub fn counters<L: Labels>(&self, name: &'static str, budget: Budget) -> Counters<L> {
        Counters::define(name, budget)
    }

    /// Defines gauges with labels, of which this worker makes at most as many as `budget` says.
    pub fn gauges<L: Labels>(&self, name: &'static str, budget: Budget) -> Gauges<L> {
        Gauges::define(name, budget)
    }

    /// Defines histograms with labels, of which this worker makes at most as many as `budget` says.
    pub fn histograms<L: Labels>(&self, name: &'static str, budget: Budget) -> Histograms<L> {
        Histograms::define(name, budget)
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
