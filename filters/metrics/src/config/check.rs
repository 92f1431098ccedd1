//! From what is written to a policy: what values have to be to each other.

use std::time::Duration;

use tollgate::attributes::Kind;
use tollgate::config::{AtLeastOne, Object};
use tollgate::matching::PathPattern;
use tollgate::metrics::{Instrument, LabelNames};
use tollgate::mode::Percent;

use super::invalid::{InvalidLabel, InvalidMetric, InvalidObjective};
use super::written::{
    WrittenFailures, WrittenLabel, WrittenMetric, WrittenObjective, WrittenPolicy,
};
use super::{InvalidPolicy, OBJECTIVE, Objective, Policy};
use crate::istio::Field;
use crate::label::{Fact, Label, Source, Template};
use crate::measure::{Measure, Metric, Profile};
use crate::outcome::Failures;

impl TryFrom<Object<WrittenPolicy>> for Policy {
    type Error = InvalidPolicy;

    fn try_from(Object(written): Object<WrittenPolicy>) -> Result<Self, InvalidPolicy> {
        if !(1..=10_000).contains(&written.budget) {
            return Err(InvalidPolicy::Budget { series: written.budget });
        }
        if !(1..=3_600).contains(&written.report_seconds) {
            return Err(InvalidPolicy::ReportSeconds { seconds: written.report_seconds });
        }
        let profile = written.profile;
        let reporter = written.reporter;
        if reporter.is_some() && profile != Profile::Istio {
            return Err(InvalidPolicy::NoReporter);
        }
        let mut labels = labels_of(profile);
        for (at, Object(label)) in listed(written.labels).enumerate() {
            change(&mut labels, label).map_err(|problem| InvalidPolicy::Label { at, problem })?;
        }
        let mut metrics = Metrics::of(profile);
        for (at, Object(metric)) in listed(written.metrics).enumerate() {
            metrics.change(metric).map_err(|problem| InvalidPolicy::Metric { at, problem })?;
        }
        let mut objectives: Vec<Objective> = Vec::new();
        for (at, Object(objective)) in listed(written.objectives).enumerate() {
            let objective = parse_objective(objective, &objectives)
                .map_err(|problem| InvalidPolicy::Objective { at, problem })?;
            objectives.push(objective);
        }
        if metrics.0.is_empty() && objectives.is_empty() && !written.in_flight {
            return Err(InvalidPolicy::NoMetrics);
        }
        let names = labels.iter().map(|label| label.name.clone());
        let objective = (!objectives.is_empty()).then(|| OBJECTIVE.to_owned());
        LabelNames::new(names.chain(objective).collect()).map_err(InvalidPolicy::LabelNames)?;
        Ok(Self {
            profile,
            reporter,
            host_fallback: written.host_fallback,
            labels,
            metrics: metrics.0,
            in_flight: written.in_flight,
            budget: written.budget,
            failures: written.failures.map_or_else(|| Ok(Failures::default()), failures)?,
            objectives,
            report_every: Duration::from_secs(written.report_seconds.into()),
            mode: written.mode,
            on_error: written.on_error,
        })
    }
}

fn listed<T>(list: Option<AtLeastOne<T>>) -> impl Iterator<Item = T> {
    list.map(AtLeastOne::into_vec).unwrap_or_default().into_iter()
}

/// The labels of a profile.
fn labels_of(profile: Profile) -> Vec<Label> {
    let label = |name: &str, source| Label { name: name.to_owned(), source, one_of: Vec::new() };
    match profile {
        Profile::Istio => {
            Field::ALL.into_iter().map(|field| label(field.name(), Source::Istio(field))).collect()
        }
        Profile::Otel => vec![
            label("http_request_method", Source::Fact(Fact::Method)),
            label("url_scheme", Source::Fact(Fact::Scheme)),
            label("http_response_status_code", Source::Fact(Fact::Code)),
            label("network_protocol_version", Source::Fact(Fact::Version)),
            label("error_type", Source::Fact(Fact::ErrorType)),
        ],
        Profile::Custom => Vec::new(),
    }
}

/// Adds, changes or drops a label.
fn change(labels: &mut Vec<Label>, written: WrittenLabel) -> Result<(), InvalidLabel> {
    let WrittenLabel {
        name,
        value,
        fact,
        header,
        response_header,
        attribute,
        templates,
        peer,
        rename,
        drop,
        one_of,
    } = written;
    if name == OBJECTIVE {
        return Err(InvalidLabel::Reserved);
    }
    let sources = [
        value.map(|text| Ok(Source::Constant(text))),
        fact.map(|fact| Ok(Source::Fact(fact))),
        header.map(|header| Ok(Source::Header(header))),
        response_header.map(|header| Ok(Source::ResponseHeader(header))),
        attribute.map(|path| parse_attribute(path.into_vec())),
        templates.map(|texts| parse_templates(texts.into_vec())),
        peer.map(|part| Ok(Source::Peer(part))),
    ];
    let mut sources = sources.into_iter().flatten();
    let at = labels.iter().position(|label| label.name == name);
    let one_of = one_of.map(AtLeastOne::into_vec);
    match (sources.next(), sources.next(), rename, drop) {
        (Some(source), None, None, false) => {
            let label = Label { name, source: source?, one_of: one_of.unwrap_or_default() };
            match at.and_then(|at| labels.get_mut(at)) {
                Some(changed) => *changed = label,
                None => labels.push(label),
            }
        }
        (None, None, Some(new), false) => match at.and_then(|at| labels.get_mut(at)) {
            Some(changed) => {
                changed.name = new;
                changed.one_of = one_of.unwrap_or_default();
            }
            None => return Err(InvalidLabel::NotInProfile { name }),
        },
        (None, None, None, true) if one_of.is_some() => return Err(InvalidLabel::Unread),
        (None, None, None, true) => match at {
            Some(at) => {
                labels.remove(at);
            }
            None => return Err(InvalidLabel::NotInProfile { name }),
        },
        _ => return Err(InvalidLabel::NotOne),
    }
    Ok(())
}

fn parse_attribute(path: Vec<String>) -> Result<Source, InvalidLabel> {
    const FAMILIES: [&str; 10] = [
        "request",
        "response",
        "source",
        "destination",
        "connection",
        "upstream",
        "xds",
        "metadata",
        "filter_state",
        "upstream_filter_state",
    ];
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let kind = match segments.as_slice() {
        ["response", "code" | "grpc_status" | "flags" | "size" | "total_size"]
        | ["request", "size" | "total_size"]
        | ["source" | "destination" | "upstream", "port"]
        | ["xds", "listener_direction"]
        | ["upstream", "request_attempt_count" | "num_endpoints"]
        | ["connection", "id"] => Kind::Int,
        ["connection", "mtls" | "peer_certificate_valid"] => Kind::Bool,
        [family, ..] if FAMILIES.contains(family) => Kind::Text,
        _ => {
            let family = path.into_iter().next().unwrap_or_default();
            return Err(InvalidLabel::Attribute { family });
        }
    };
    Ok(Source::Attribute(path, kind))
}

fn parse_templates(texts: Vec<String>) -> Result<Source, InvalidLabel> {
    let parse = |(at, text): (usize, String)| {
        let pattern = if text.contains('{') {
            PathPattern::template(&text)
        } else {
            PathPattern::exact(&text)
        };
        match pattern {
            Ok(pattern) => Ok(Template { text, pattern }),
            Err(error) => Err(InvalidLabel::Template { at, problem: error.to_string() }),
        }
    };
    Ok(Source::Templates(texts.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?))
}

/// The metrics so far, and what was changed.
struct Metrics(Vec<Metric>, Vec<Measure>);

impl Metrics {
    fn of(profile: Profile) -> Self {
        let named = |measure: Measure| {
            let name = measure.name_in(profile)?.to_owned();
            Some(Metric { measure, name, bounds: Vec::new() })
        };
        Self(Measure::ALL.into_iter().filter_map(named).collect(), Vec::new())
    }

    fn change(&mut self, written: WrittenMetric) -> Result<(), InvalidMetric> {
        let WrittenMetric { measure, name, drop, bounds } = written;
        if self.1.contains(&measure) {
            return Err(InvalidMetric::Repeated { measure });
        }
        self.1.push(measure);
        let at = self.0.iter().position(|metric| metric.measure == measure);
        if drop {
            if name.is_some() || bounds.is_some() {
                return Err(InvalidMetric::Dropped);
            }
            let at = at.ok_or(InvalidMetric::NotInProfile { measure })?;
            self.0.remove(at);
            return Ok(());
        }
        let before = at.and_then(|at| self.0.get(at)).map(|metric| metric.name.clone());
        let name = name.or(before).unwrap_or_else(|| measure.own_name().to_owned());
        let is_name = LabelNames::new(vec![name.clone()]).is_ok();
        if !is_name {
            return Err(InvalidMetric::Name { name });
        }
        let is_taken = self.0.iter().any(|other| other.measure != measure && other.name == name);
        if is_taken || OWN.contains(&name.as_str()) {
            return Err(InvalidMetric::Taken { name });
        }
        let bounds = bounds.map(AtLeastOne::into_vec).unwrap_or_default();
        if measure.instrument() != Instrument::Histogram && !bounds.is_empty() {
            return Err(InvalidMetric::NoBuckets);
        }
        let mut above = 0;
        for (at, bound) in bounds.iter().copied().enumerate() {
            if bound <= above {
                return Err(InvalidMetric::Bound { at, bound, above });
            }
            above = bound;
        }
        let metric = Metric { measure, name, bounds };
        match at.and_then(|at| self.0.get_mut(at)) {
            Some(changed) => *changed = metric,
            None => self.0.push(metric),
        }
        Ok(())
    }
}

/// The names of the filter's own metrics.
const OWN: [&str; 8] = [
    "tollgate_metrics_counted",
    "tollgate_metrics_folded",
    "tollgate_metrics_skipped",
    "tollgate_metrics_errors",
    "tollgate_metrics_shadow_counted",
    "tollgate_metrics_in_flight",
    "tollgate_metrics_objective_requests",
    "tollgate_metrics_objective_good",
];

fn failures(Object(written): Object<WrittenFailures>) -> Result<Failures, InvalidPolicy> {
    let default = Failures::default();
    if written.http.is_none() && written.grpc.is_none() {
        return Err(InvalidPolicy::NoFailures);
    }
    let grpc = written.grpc.map_or(default.grpc, AtLeastOne::into_vec);
    let wrong = grpc.iter().enumerate().find(|(_, status)| !(1..=16).contains(*status));
    if let Some((at, status)) = wrong {
        return Err(InvalidPolicy::GrpcStatus { at, status: *status });
    }
    Ok(Failures { http: written.http.map_or(default.http, AtLeastOne::into_vec), grpc })
}

fn parse_objective(
    written: WrittenObjective,
    earlier: &[Objective],
) -> Result<Objective, InvalidObjective> {
    let WrittenObjective { name, requests, within_milliseconds, target } = written;
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_plain) {
        return Err(InvalidObjective::Name { name });
    }
    if earlier.iter().any(|objective| objective.name == name) {
        return Err(InvalidObjective::Repeated { name });
    }
    if target == Percent::NONE || target == Percent::ALL {
        return Err(InvalidObjective::Target);
    }
    let within = match within_milliseconds {
        Some(0) => return Err(InvalidObjective::Within),
        within => within.map(|millis| Duration::from_millis(millis.into())),
    };
    Ok(Objective { name, requests, within, target })
}
