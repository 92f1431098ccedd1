//! Metrics whose names and labels a configuration chooses, rather than the program.
//!
//! Those that share their labels are one [`Chosen`]: a series is looked up once for all of them, by its
//! values, and its name is only made when it is defined.
//!
//! Not here: how many series there may be, which whoever looks one up decides.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::rc::Rc;

use serde_json::Value;
use tollgate_abi::MetricType;

use super::labels::{ends_with, is_name, labelled, other_labels};
use super::{About, tags};
use crate::state::{Fingerprint, HashKey};

/// What a name of a series is hashed under: the same in all workers.
const NAMES: HashKey = HashKey::new(*b"tollgate-metrics");

/// Names of labels that work side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelNames(Vec<String>);

impl LabelNames {
    /// Names, in the order of the values.
    ///
    /// # Errors
    ///
    /// [`InvalidLabelName`] for a name that is not a letter or `_`, then letters, digits and `_`; and for
    /// one that ends in another one, as Istio's expressions would take the one for the other.
    pub fn new(names: Vec<String>) -> Result<Self, InvalidLabelName> {
        for (at, name) in names.iter().enumerate() {
            if !is_name(name.as_bytes()) {
                return Err(InvalidLabelName::NotAName { name: name.clone() });
            }
            let ends = |other: &&String| ends_with(name.as_bytes(), other.as_bytes());
            let mut others = names.iter().enumerate().filter(|(other, _)| *other != at);
            if let Some((_, end)) = others.find(|(_, other)| ends(other)) {
                return Err(InvalidLabelName::EndsInAnother {
                    name: name.clone(),
                    other: end.clone(),
                });
            }
        }
        Ok(Self(names))
    }

    /// The names, in order.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// As [`StatsTags::to_json`](super::StatsTags::to_json).
    pub fn to_json(&self) -> Value {
        tags::to_json(&self.sorted())
    }

    /// As [`StatsTags::to_istio`](super::StatsTags::to_istio).
    pub fn to_istio(&self) -> String {
        tags::to_istio(&self.sorted())
    }

    fn sorted(&self) -> BTreeSet<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

/// Why names are no [`LabelNames`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidLabelName {
    /// Prometheus knows no label of this name.
    NotAName {
        /// The name.
        name: String,
    },
    /// A name ends in another one, or stands twice.
    EndsInAnother {
        /// The name.
        name: String,
        /// How it ends.
        other: String,
    },
}

impl fmt::Display for InvalidLabelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAName { name } => write!(
                f,
                "{name:?} is not the name of a label; use letters, digits and _, no digit first"
            ),
            Self::EndsInAnother { name, other } if name == other => {
                write!(f, "{name} is the name of two labels")
            }
            Self::EndsInAnother { name, other } => write!(
                f,
                "{name} ends in {other}, which is a label too: Istio would take one for the other"
            ),
        }
    }
}

impl Error for InvalidLabelName {}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// It only grows.
    Counter,
    /// It has the sizes of what is recorded.
    Histogram,
}

/// Metrics of one set of labels, all of which a configuration has named. From
/// [`Root::chosen`](crate::Root::chosen).
#[derive(Debug)]
pub struct Chosen {
    metrics: Vec<About>,
    labels: LabelNames,
    series: RefCell<Known>,
    /// The series of what is not admitted, once something is not.
    other: OnceCell<Rc<ChosenSeries>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Each by its values, which stand after their lengths; sorted. A map would be more code in a module.
    series: Vec<(Box<[u8]>, Rc<ChosenSeries>)>,
    /// The values that are looked up: kept, so that a lookup allocates nothing.
    key: Vec<u8>,
}

/// One series of each of the metrics.
#[derive(Debug)]
pub struct ChosenSeries {
    /// What the names begin with.
    labels: Vec<u8>,
    /// The ids, each once it is needed.
    ids: Vec<Cell<Defined>>,
}

/// What is known of one metric of a series.
#[derive(Clone, Copy, Debug)]
enum Defined {
    /// It was not needed so far.
    NotYet,
    /// Its id; `None` when the host did not define it.
    As(Option<u32>),
}

impl Chosen {
    pub(crate) fn new(metrics: Vec<(Instrument, String)>, labels: LabelNames) -> Self {
        let about = |(instrument, name)| match instrument {
            Instrument::Counter => About::new(MetricType::Counter, name),
            Instrument::Histogram => About::new(MetricType::Histogram, name),
        };
        Self {
            metrics: metrics.into_iter().map(about).collect(),
            labels,
            series: RefCell::default(),
            other: OnceCell::new(),
        }
    }

    /// The series of these values, as many as there are labels; what is missing is empty.
    ///
    /// One that this worker has not seen is there if `admit` says so, which is told a hash of its labels
    /// that is the same in all workers; else `None`, and [`Self::other`] is the one to count in.
    pub fn series<V: AsRef<[u8]>>(
        &self,
        values: &[V],
        admit: impl FnOnce(Fingerprint) -> bool,
    ) -> Option<Rc<ChosenSeries>> {
        // Only a value that counts while it is read could find this borrowed.
        let mut known = self.series.try_borrow_mut().ok()?;
        let Known { series, key } = &mut *known;
        key.clear();
        for value in values {
            let value = value.as_ref();
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            key.extend_from_slice(&length.to_le_bytes());
            key.extend_from_slice(value);
        }
        let place = match series.binary_search_by(|(known, _)| (**known).cmp(key)) {
            Ok(at) => return series.get(at).map(|(_, found)| Rc::clone(found)),
            Err(place) => place,
        };
        let values = values.iter().map(AsRef::as_ref);
        let labels = labelled(self.labels.as_slice(), values);
        if !admit(NAMES.fingerprint(&labels)) {
            return None;
        }
        let made = Rc::new(self.made(labels));
        series.insert(place, (key.as_slice().into(), Rc::clone(&made)));
        Some(made)
    }

    /// The series of all that is not admitted: each label says `other`.
    pub fn other(&self) -> Rc<ChosenSeries> {
        let other = || Rc::new(self.made(other_labels(self.labels.as_slice())));
        Rc::clone(self.other.get_or_init(other))
    }

    fn made(&self, labels: Vec<u8>) -> ChosenSeries {
        ChosenSeries {
            labels,
            ids: self.metrics.iter().map(|_| Cell::new(Defined::NotYet)).collect(),
        }
    }

    /// Adds to the counter at this position. Nothing happens where there is none.
    pub fn add(&self, series: &ChosenSeries, position: usize, amount: u64) {
        // Of nothing no series is made.
        if amount > 0
            && let Some((about, id)) = self.at(series, position)
        {
            about.grow(id, amount);
        }
    }

    /// Records a size in the histogram at this position. Nothing happens where there is none.
    pub fn record(&self, series: &ChosenSeries, position: usize, value: u64) {
        if let Some((about, id)) = self.at(series, position) {
            about.record(id, value);
        }
    }

    fn at(&self, series: &ChosenSeries, position: usize) -> Option<(&About, Option<u32>)> {
        let about = self.metrics.get(position)?;
        let kept = series.ids.get(position)?;
        let id = match kept.get() {
            Defined::As(id) => id,
            Defined::NotYet => about.define(&[&series.labels, about.name.as_bytes()].concat()),
        };
        kept.set(Defined::As(id));
        Some((about, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expected: &str) {
        let names = names.iter().map(ToString::to_string).collect();
        assert_eq!(LabelNames::new(names).map_err(|e| e.to_string()), Err(expected.to_owned()));
    }

    #[test]
    fn names_that_do_not_work_are_refused() {
        check(
            &["a-b"],
            "\"a-b\" is not the name of a label; use letters, digits and _, no digit first",
        );
        check(&["a", "a"], "a is the name of two labels");
        check(
            &["code", "response_code"],
            "response_code ends in code, which is a label too: Istio would take one for the other",
        );
    }

    #[test]
    fn names_are_told_to_proxies_sorted() {
        let names = LabelNames::new(vec!["tenant".into(), "code".into()]).unwrap();
        assert_eq!(names.to_istio(), "code,tenant");
        assert_eq!(names.to_json()[1]["tag_name"], "tenant");
    }
}
