//! Metrics with labels: the series that there are, and the budget that holds them.
#![expect(
    clippy::needless_pass_by_value,
    reason = "values are a few references and numbers, and the call reads better without a `&`"
)]

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use tollgate_abi::MetricType;

use super::labels::{Labels, check, metric_name, other_name, series_name};
use super::{About, Counter, millis};

/// How many series of one metric a worker defines, beside the one that takes the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(u16);

impl Budget {
    /// A budget of this many series; 0 folds everything.
    pub const fn new(series: u16) -> Self {
        Self(series)
    }

    /// How many.
    pub const fn series(self) -> u16 {
        self.0
    }
}

/// Counters with labels. From [`Root::counters`](crate::Root::counters).
#[derive(Debug)]
pub struct Counters<L>(Family<L>);

/// Gauges with labels. From [`Root::gauges`](crate::Root::gauges).
///
/// Beyond the budget, what is added adds up in the series `other`; what is set replaces what another
/// label has set there.
#[derive(Debug)]
pub struct Gauges<L>(Family<L>);

/// Histograms with labels. From [`Root::histograms`](crate::Root::histograms).
#[derive(Debug)]
pub struct Histograms<L>(Family<L>);

impl<L: Labels> Counters<L> {
    pub(crate) fn define(name: &'static str, budget: Budget) -> Self {
        Self(Family::define(MetricType::Counter, name, budget))
    }

    /// Adds one to the series of these values.
    pub fn increment(&self, values: L::Values<'_>) {
        self.add(values, 1);
    }

    /// Adds `amount`; of more than 2^63 - 1 at once, that much.
    pub fn add(&self, values: L::Values<'_>, amount: u64) {
        // Of nothing no series is made.
        if amount > 0 {
            self.0.about.grow(self.0.id(&values), amount);
        }
    }
}

impl<L: Labels> Gauges<L> {
    pub(crate) fn define(name: &'static str, budget: Budget) -> Self {
        Self(Family::define(MetricType::Gauge, name, budget))
    }

    /// Sets the series of these values, for all workers.
    pub fn set(&self, values: L::Values<'_>, value: u64) {
        self.0.about.record(self.0.id(&values), value);
    }

    /// Adds to the series of these values, or takes away from it.
    pub fn add(&self, values: L::Values<'_>, difference: i64) {
        if difference != 0 {
            self.0.about.shift(self.0.id(&values), difference);
        }
    }
}

impl<L: Labels> Histograms<L> {
    pub(crate) fn define(name: &'static str, budget: Budget) -> Self {
        Self(Family::define(MetricType::Histogram, name, budget))
    }

    /// Records a size in the series of these values.
    pub fn record(&self, values: L::Values<'_>, value: u64) {
        self.0.about.record(self.0.id(&values), value);
    }

    /// Records a time in whole milliseconds.
    pub fn record_millis(&self, values: L::Values<'_>, time: Duration) {
        self.record(values, millis(time));
    }
}

/// All series of a metric.
#[derive(Debug)]
struct Family<L> {
    about: About,
    /// The name as the host gets it.
    name: String,
    budget: Budget,
    series: RefCell<Series>,
    /// The series of what is beyond the budget, once something is.
    other: OnceCell<Option<u32>>,
    folded: Counter,
    labels: PhantomData<fn(L)>,
}

#[derive(Debug, Default)]
struct Series {
    /// The ids by the whole name; `None` of what the host did not define.
    ids: BTreeMap<Box<[u8]>, Option<u32>>,
    /// The name that is looked up: kept, so that a lookup allocates nothing.
    name: Vec<u8>,
}

impl<L: Labels> Family<L> {
    fn define(kind: MetricType, name: &'static str, budget: Budget) -> Self {
        const { check::<L>() };
        let about = About::new(kind, name);
        let of = name;
        let name = metric_name(name).into_owned();
        let folded = Counter::define_beside(of, &format!("{name}_folded"));
        Self {
            about,
            name,
            budget,
            series: RefCell::default(),
            other: OnceCell::new(),
            folded,
            labels: PhantomData,
        }
    }

    /// The series of these values, which is made when the budget allows it.
    fn id(&self, values: &L::Values<'_>) -> Option<u32> {
        // Only a value that counts while it is written could find this borrowed: it is not counted.
        let mut series = self.series.try_borrow_mut().ok()?;
        let Series { ids, name } = &mut *series;
        series_name::<L>(name, values, &self.name);
        if let Some(id) = ids.get(name.as_slice()) {
            return *id;
        }
        if ids.len() >= usize::from(self.budget.0) {
            self.folded.increment();
            let other = || self.about.define(&other_name::<L>(&self.name));
            return *self.other.get_or_init(other);
        }
        let id = self.about.define(name);
        ids.insert(name.as_slice().into(), id);
        id
    }
}
