//! The metrics of one scope: their series within the budget, and what does not find room.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tollgate::log::warn;
use tollgate::metrics::{Chosen, ChosenSeries, LabelNames};
use tollgate::mode::Enforcement;
use tollgate::shared_data::UpdateError;
use tollgate::state::State;
use tollgate::{Clock, Counter, Root, Throttle};

use crate::config::{OnError, Policy};
use crate::ledger::Ledger;
use crate::measure::{Measure, Scope};
use crate::observed::View;

/// How often a worker tells of what it cannot read.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The metrics of one scope.
#[derive(Debug)]
pub(crate) struct Family {
    scope: Scope,
    chosen: Chosen,
    ledger: Ledger,
    /// What is measured, in the order of the metrics.
    measures: Vec<Measure>,
    /// Whether it counts, or only sees what that would come to.
    is_counted: bool,
}

/// The series of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    series: Rc<ChosenSeries>,
    /// Whether it is the one that takes the rest.
    pub(crate) is_folded: bool,
}

impl Family {
    /// The metrics of a policy in this scope; `None` when there are none.
    pub(crate) fn new(policy: &Policy, scope: Scope, root: &Root, state: &State) -> Option<Self> {
        let metrics = policy.metrics().iter().filter(|metric| metric.measure.scope() == scope);
        let measures: Vec<Measure> = metrics.clone().map(|metric| metric.measure).collect();
        if measures.is_empty() {
            return None;
        }
        let is_counted = policy.mode == Enforcement::Enforce;
        let named = metrics.map(|metric| (metric.measure.instrument(), metric.name.clone()));
        let labels = policy.labels_in(scope).map(|label| label.name.clone()).collect();
        let name = match (scope, is_counted) {
            (Scope::Ended, true) => "ended",
            (Scope::Open, true) => "open",
            (Scope::Tcp, true) => "tcp",
            (Scope::Ended, false) => "shadow-ended",
            (Scope::Open, false) => "shadow-open",
            (Scope::Tcp, false) => "shadow-tcp",
        };
        Some(Self {
            scope,
            // The names have been checked with the policy.
            chosen: root.chosen(named.collect(), LabelNames::new(labels).unwrap_or_default()),
            ledger: Ledger::new(root.shared_data(), state, name, policy.budget()),
            measures,
            is_counted,
        })
    }

    /// Whether this is measured.
    pub(crate) fn has(&self, measure: Measure) -> bool {
        self.measures.contains(&measure)
    }

    /// The series of these values, and why nobody could say whether there is room for it.
    fn series(&self, values: &[Cow<'_, [u8]>]) -> (Series, Option<UpdateError>) {
        let mut failed = None;
        let admit = |hash| {
            self.ledger.admit(hash).unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        };
        let series = match self.chosen.series(values, admit) {
            Some(series) => Series { series, is_folded: false },
            None => Series { series: self.chosen.other(), is_folded: true },
        };
        (series, failed)
    }

    /// Counts what was measured.
    pub(crate) fn count(&self, series: &Series, amount: impl Fn(Measure) -> Option<u64>) {
        if !self.is_counted {
            return;
        }
        for (position, measure) in self.measures.iter().enumerate() {
            let Some(amount) = amount(*measure) else { continue };
            match measure.instrument() {
                tollgate::metrics::Instrument::Counter => {
                    self.chosen.add(&series.series, position, amount);
                }
                tollgate::metrics::Instrument::Histogram => {
                    self.chosen.record(&series.series, position, amount);
                }
            }
        }
    }
}

/// The filter's own counters.
#[derive(Debug)]
pub(crate) struct Own {
    /// Streams that were counted.
    counted: Counter,
    /// Streams that were counted in the series that takes the rest.
    folded: Counter,
    /// Streams that were not counted, as something of them could not be read.
    skipped: Counter,
    /// What could not be read.
    errors: Counter,
    /// Streams that would have been counted.
    shadow_counted: Counter,
    clock: Clock,
    lines: Throttle,
}

impl Own {
    pub(crate) fn new(root: &Root) -> Self {
        Self {
            counted: root.counter("tollgate_metrics_counted"),
            folded: root.counter("tollgate_metrics_folded"),
            skipped: root.counter("tollgate_metrics_skipped"),
            errors: root.counter("tollgate_metrics_errors"),
            shadow_counted: root.counter("tollgate_metrics_shadow_counted"),
            clock: root.clock(),
            lines: Throttle::new(TOLD_EVERY),
        }
    }

    /// The series of a stream, and whether something of it could not be read.
    pub(crate) fn series(&self, family: &Family, view: &View<'_>) -> (Series, bool) {
        let (series, failed) = family.series(&view.values(family.scope));
        if let Some(error) = &failed {
            self.tell(error);
        }
        let unread = view.reads.error();
        if let Some(error) = unread {
            self.tell(error);
        }
        (series, unread.is_some())
    }

    /// Counts a stream in this series: whether it is to be measured.
    pub(crate) fn note(&self, series: &Series, is_unsure: bool, policy: &Policy) -> bool {
        if is_unsure && policy.on_error == OnError::Skip {
            self.skipped.increment();
            return false;
        }
        if series.is_folded {
            self.folded.increment();
        }
        match policy.mode {
            Enforcement::Enforce => self.counted.increment(),
            Enforcement::Shadow => self.shadow_counted.increment(),
            Enforcement::Off => return false,
        }
        true
    }

    /// Counts what could not be read, and tells of it from time to time.
    #[cold]
    pub(crate) fn tell(&self, error: &dyn fmt::Display) {
        self.errors.increment();
        let now = self.clock.unix_nanos().unwrap_or(0);
        match self.lines.pass(now) {
            Some(0) => warn!("cannot be read: {error}"),
            Some(others) => warn!("cannot be read: {error}; {others} more since the last line"),
            None => {}
        }
    }
}
