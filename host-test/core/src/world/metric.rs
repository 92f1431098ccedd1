//! Metrics: one value per kind and name, whichever VM defines it.

use std::collections::BTreeMap;

use tollgate_abi::{Answer, MetricType, Reply, Status};

use super::{Scope, World};

/// The values of all metrics.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Vec<Metric>);

#[derive(Debug)]
struct Metric {
    kind: MetricType,
    name: Vec<u8>,
    value: u64,
}

impl Metrics {
    /// Counters and gauges by name.
    pub(crate) fn values(&self) -> BTreeMap<String, u64> {
        self.0
            .iter()
            .filter(|metric| metric.kind != MetricType::Histogram)
            .map(|metric| (String::from_utf8_lossy(&metric.name).into_owned(), metric.value))
            .collect()
    }
}

impl World {
    /// How many ids guests were given.
    pub(crate) fn defined_metrics(&self) -> u64 {
        let ids = self.vms.iter().flat_map(|vm| &vm.metric_ids).map(Vec::len);
        u64::try_from(ids.sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// Gives a new id at each call, as Envoy does: the kind in the two lowest bits, above them a number
    /// that counts the definitions of that kind in this VM, from 1.
    pub(super) fn define_metric(&mut self, scope: &Scope, kind: MetricType, name: &[u8]) -> Reply {
        if let MetricType::Unknown(kind) = kind {
            return Reply::refused(Status::BadArgument, format!("{kind} is not a kind of metric"));
        }
        let of_name = |metric: &Metric| metric.kind == kind && metric.name == name;
        let known = self.metrics.0.iter().position(of_name);
        let new_bytes = if known.is_none() { name.len() + size_of::<Metric>() } else { 0 };
        if let Err(trap) = self.keep(new_bytes + size_of::<usize>()) {
            return trap;
        }
        let metrics = &mut self.metrics.0;
        let index = known.unwrap_or_else(|| {
            metrics.push(Metric { kind, name: name.to_vec(), value: 0 });
            metrics.len() - 1
        });
        let kind = u32::from(kind);
        let ids = self.vm_mut(scope.vm).and_then(|vm| vm.metric_ids.get_mut(slot(kind)));
        let id = ids.and_then(|ids| {
            ids.push(index);
            u32::try_from(ids.len()).ok()?.checked_mul(4)
        });
        match id {
            Some(id) => Reply::Done(Answer::U32(id | kind)),
            None => Reply::refused(Status::InternalFailure, "too many metrics"),
        }
    }

    pub(super) fn increment_metric(&mut self, scope: &Scope, id: u32, offset: i64) -> Reply {
        let Some(metric) = self.metric(scope, id) else {
            return unknown(id);
        };
        match metric.kind {
            MetricType::Counter if offset <= 0 => Reply::refused(
                Status::BadArgument,
                format!("a counter cannot grow by {offset}; a gauge can"),
            ),
            MetricType::Counter | MetricType::Gauge => {
                metric.value = metric.value.wrapping_add_signed(offset);
                Reply::OK
            }
            MetricType::Histogram | MetricType::Unknown(_) => {
                Reply::refused(Status::BadArgument, "a histogram cannot be incremented")
            }
        }
    }

    pub(super) fn record_metric(&mut self, scope: &Scope, id: u32, value: u64) -> Reply {
        let Some(metric) = self.metric(scope, id) else {
            return unknown(id);
        };
        match metric.kind {
            MetricType::Counter => metric.value = metric.value.wrapping_add(value),
            MetricType::Gauge => metric.value = value,
            MetricType::Histogram | MetricType::Unknown(_) => {}
        }
        Reply::OK
    }

    pub(super) fn read_metric(&mut self, scope: &Scope, id: u32) -> Reply {
        let Some(metric) = self.metric(scope, id) else {
            return unknown(id);
        };
        match metric.kind {
            MetricType::Counter | MetricType::Gauge => Reply::Done(Answer::U64(metric.value)),
            MetricType::Histogram | MetricType::Unknown(_) => {
                Reply::refused(Status::BadArgument, "a histogram cannot be read")
            }
        }
    }

    fn metric(&mut self, scope: &Scope, id: u32) -> Option<&mut Metric> {
        let number = usize::try_from(id >> 2).ok()?.checked_sub(1)?;
        let index = *self.vm(scope.vm)?.metric_ids.get(slot(id & 3))?.get(number)?;
        self.metrics.0.get_mut(index)
    }
}

fn slot(kind: u32) -> usize {
    usize::try_from(kind).unwrap_or(usize::MAX)
}

fn unknown(id: u32) -> Reply {
    // As on Envoy: only an id whose lowest bits say counter or gauge is looked up.
    let status = if id & 3 < 2 { Status::NotFound } else { Status::BadArgument };
    Reply::refused(status, format!("this VM has defined no metric with the id {id}"))
}
