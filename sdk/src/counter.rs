//! Counting for the operator.

use std::cell::Cell;

use tollgate_abi::MetricType;

use crate::host;
use crate::host_error::HostError;

/// A metric that only grows. It never changes what a filter decides: what the host refuses to count
/// is not counted.
#[derive(Debug)]
pub struct Counter {
    name: &'static str,
    /// Hosts give a new id for each definition, and look the name up each time: it is kept.
    id: Option<u32>,
    has_failed: Cell<bool>,
}

impl Counter {
    pub(crate) fn define(name: &'static str) -> Self {
        let id = host::define_metric(MetricType::Counter, name.as_bytes());
        if let Err(error) = id {
            log::warn!("counter {name} counts nothing: {error}");
        }
        Self { name, id: id.ok(), has_failed: Cell::new(false) }
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`; of more than 2^63 - 1 at once, that much.
    pub fn add(&self, amount: u64) {
        let offset = i64::try_from(amount).unwrap_or(i64::MAX);
        // Hosts refuse to add nothing.
        if let (Some(id), 1..) = (self.id, offset)
            && let Err(error) = host::increment_metric(id, offset)
        {
            self.tell_once(error);
        }
    }

    fn tell_once(&self, error: HostError) {
        if !self.has_failed.replace(true) {
            log::debug!("counter {} has missed something: {error}", self.name);
        }
    }
}
