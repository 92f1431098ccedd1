//! What a filter is given while it is configured.

use tollgate_abi::{Status, property};

use crate::counter::Counter;
use crate::host;
use crate::host_error::HostError;
use crate::shared_data::SharedData;

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

    /// The values that all workers of the proxy share.
    pub fn shared_data(&self) -> SharedData {
        SharedData::new()
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
