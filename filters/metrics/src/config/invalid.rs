//! What is said about a policy whose values fit one by one and not together.

use std::error::Error;
use std::fmt;

use tollgate::metrics::InvalidLabelName;

use crate::measure::Measure;

/// Why what is written is no [`Policy`](super::Policy). The text begins with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPolicy {
    /// The budget is none.
    Budget {
        /// How many series.
        series: u16,
    },
    /// Open streams would be counted never or all the time.
    ReportSeconds {
        /// How often.
        seconds: u16,
    },
    /// Nothing is measured.
    NoMetrics,
    /// `reporter` without a label that it is for.
    NoReporter,
    /// `failures` says nothing.
    NoFailures,
    /// A status of gRPC that there is not.
    GrpcStatus {
        /// The position in `failures.grpc`, from 0.
        at: usize,
        /// The status.
        status: u32,
    },
    /// The names of labels do not work.
    LabelNames(InvalidLabelName),
    /// A label cannot be.
    Label {
        /// The position, from 0.
        at: usize,
        /// Why not.
        problem: InvalidLabel,
    },
    /// A metric cannot be.
    Metric {
        /// The position, from 0.
        at: usize,
        /// Why not.
        problem: InvalidMetric,
    },
    /// An objective cannot be.
    Objective {
        /// The position, from 0.
        at: usize,
        /// Why not.
        problem: InvalidObjective,
    },
}

/// Why what is written is no label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidLabel {
    /// Not exactly one field says what becomes of it.
    NotOne,
    /// It changes a label that the profile does not have.
    NotInProfile {
        /// The label.
        name: String,
    },
    /// The label of objectives.
    Reserved,
    /// A template that no path fits.
    Template {
        /// The position, from 0.
        at: usize,
        /// Why not.
        problem: String,
    },
    /// An attribute that no proxy has.
    Attribute {
        /// The first segment.
        family: String,
    },
    /// A list for a label that is not read.
    Unread,
}

/// Why what is written is no metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidMetric {
    /// It stands twice.
    Repeated {
        /// What is measured.
        measure: Measure,
    },
    /// It is dropped and described.
    Dropped,
    /// The profile does not have what is dropped.
    NotInProfile {
        /// What is measured.
        measure: Measure,
    },
    /// No name of a metric.
    Name {
        /// The name.
        name: String,
    },
    /// The name of another metric, or one of the filter's own.
    Taken {
        /// The name.
        name: String,
    },
    /// Bounds for what is no histogram.
    NoBuckets,
    /// A bound that is not above the one before.
    Bound {
        /// The position, from 0.
        at: usize,
        /// The bound.
        bound: u32,
        /// What it has to be above.
        above: u32,
    },
}

/// Why what is written is no objective.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidObjective {
    /// No name.
    Name {
        /// The name.
        name: String,
    },
    /// The name of an earlier one.
    Repeated {
        /// The name.
        name: String,
    },
    /// It has to be met by none or by all.
    Target,
    /// It is met by nobody.
    Within,
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget { series } => {
                write!(f, "budget: {series} is not between 1 and 10000 series")
            }
            Self::ReportSeconds { seconds } => {
                write!(f, "report_seconds: {seconds} is not between 1 and 3600")
            }
            Self::NoMetrics => {
                f.write_str("metrics: nothing is measured; leave one metric at least")
            }
            Self::NoReporter => {
                f.write_str("reporter: no label says who reports; it is of the profile istio")
            }
            Self::NoFailures => f.write_str("failures: an empty object; say `http` or `grpc`"),
            Self::GrpcStatus { at, status } => {
                write!(f, "failures.grpc[{at}]: {status} is not between 1 and 16")
            }
            Self::LabelNames(error) => write!(f, "labels: {error}"),
            Self::Label { at, problem } => write!(f, "labels[{at}].{problem}"),
            Self::Metric { at, problem } => write!(f, "metrics[{at}].{problem}"),
            Self::Objective { at, problem } => write!(f, "objectives[{at}].{problem}"),
        }
    }
}

impl fmt::Display for InvalidLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOne => f.write_str(
                "name: write exactly one of `value`, `fact`, `header`, `response_header`, `attribute`, \
                 `templates`, `peer`, `rename` and `drop` beside it",
            ),
            Self::NotInProfile { name } => {
                write!(f, "name: {name} is no label of the profile; say where its value comes from")
            }
            Self::Reserved => f.write_str("name: objective is the label of objectives; take another"),
            Self::Template { at, problem } => write!(f, "templates[{at}]: {problem}"),
            Self::Attribute { family } => write!(
                f,
                "attribute[0]: {family:?} is not one of request, response, source, destination, \
                 connection, upstream, xds, metadata, filter_state, upstream_filter_state"
            ),
            Self::Unread => f.write_str("one_of: of a label whose value is not read; leave it out"),
        }
    }
}

impl fmt::Display for InvalidMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated { .. } => f.write_str("measure: it stands twice; write it once"),
            Self::Dropped => {
                f.write_str("drop: a metric that is dropped has neither name nor bounds")
            }
            Self::NotInProfile { .. } => {
                f.write_str("drop: the profile does not have this metric; leave it out")
            }
            Self::Name { name } => write!(
                f,
                "name: {name:?} is not the name of a metric; use letters, digits and _, no digit first"
            ),
            Self::Taken { name } => write!(f, "name: {name} is the name of another metric"),
            Self::NoBuckets => f.write_str("bounds: a counter has no buckets; leave them out"),
            Self::Bound { at, bound, above } => {
                write!(f, "bounds[{at}]: {bound} is not above {above}")
            }
        }
    }
}

impl fmt::Display for InvalidObjective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name } => {
                write!(f, "name: {name:?} is not a name; use 1 to 64 of a-z, 0-9, . and -")
            }
            Self::Repeated { name } => {
                write!(f, "name: {name:?} is already the name of another one")
            }
            Self::Target => f.write_str("target: an objective is above 0% and below 100%"),
            Self::Within => f.write_str("within_milliseconds: 0 is not at least 1"),
        }
    }
}

impl Error for InvalidPolicy {}
