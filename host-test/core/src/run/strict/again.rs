//! Steps that are played again and again: as they are written, and with other keys each time.

use std::borrow::Cow;
use std::fmt;

use crate::proxy::{HostFailure, Proxy, Sending};
use crate::scenario::{AdvanceStep, RequestStep, Scenario, Step};

/// Header lines by which a request is framed: with others it is not the same request.
const FRAMING: [&[u8]; 6] =
    [b"connection", b"content-length", b"expect", b"te", b"transfer-encoding", b"upgrade"];

/// A step that is played again and again.
pub(super) struct Again {
    /// Counted from 1; none when it stands in no scenario.
    step: Option<usize>,
    what: Step,
    /// What is another each time, in turn.
    varied: Vec<Part>,
}

/// A part of a request that filters take for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Path,
    Query,
    /// By its place.
    Header(usize),
}

/// What happens by itself: as a step in which time passes plans it, and else without a plan.
pub(super) fn ticks(scenario: &Scenario) -> Vec<Again> {
    let mut ticks: Vec<Again> = numbered(scenario)
        .filter(|(_, step)| matches!(step, Step::Advance(_)))
        .map(|(number, step)| Again::of(number, step.clone()))
        .collect();
    if ticks.is_empty() {
        let what = Step::Advance(AdvanceStep::new(super::PAUSE));
        ticks.push(Again { step: None, what, varied: Vec::new() });
    }
    ticks
}

/// What clients do: each step as it is written, and with another key each time.
pub(super) fn traffic(scenario: &Scenario) -> Vec<Again> {
    numbered(scenario).flat_map(|(number, step)| of_clients(number, step)).collect()
}

fn numbered(scenario: &Scenario) -> impl Iterator<Item = (usize, &Step)> {
    (1..).zip(&scenario.steps)
}

fn of_clients(number: usize, step: &Step) -> Vec<Again> {
    match step {
        Step::Request(step) => {
            let step = Box::new(RequestStep { meanwhile: None, ..(**step).clone() });
            let varied =
                Again { varied: parts(&step), ..Again::of(number, Step::Request(step.clone())) };
            vec![Again::of(number, Step::Request(step)), varied]
        }
        Step::Together(together) => {
            let mut together = together.clone();
            for timed in &mut together.requests {
                timed.step.meanwhile = None;
            }
            vec![Again::of(number, Step::Together(together))]
        }
        Step::Connection(_) => vec![Again::of(number, step.clone())],
        Step::Advance(_) | Step::Clock(_) | Step::Configure { .. } => Vec::new(),
    }
}

/// What of a request is a key to some filter.
fn parts(step: &RequestStep) -> Vec<Part> {
    let query = step.request.path.contains('?').then_some(Part::Query);
    let headers = step.request.headers.iter().enumerate();
    let headers = headers.filter(|(_, (name, _))| !FRAMING.contains(&name.as_slice()));
    let headers = headers.map(|(at, _)| Part::Header(at));
    [Part::Path].into_iter().chain(query).chain(headers).collect()
}

/// A request in which one part has a number at its end.
fn with_other(part: &Part, number: u64, step: &RequestStep) -> RequestStep {
    let mut step = step.clone();
    let request = &mut step.request;
    let number = number.to_string();
    match part {
        Part::Path => {
            let end = request.path.find('?').unwrap_or(request.path.len());
            request.path.insert_str(end, &number);
        }
        Part::Query => request.path.push_str(&number),
        Part::Header(at) => {
            if let Some((_, value)) = request.headers.get_mut(*at) {
                value.extend_from_slice(number.as_bytes());
            }
        }
    }
    step
}

impl Again {
    fn of(number: usize, what: Step) -> Self {
        Self { step: Some(number), what, varied: Vec::new() }
    }

    /// Whether it is another each time.
    pub(super) fn is_varied(&self) -> bool {
        !self.varied.is_empty()
    }

    /// Whether time does not pass by itself when it is played.
    pub(super) fn takes_time(&self) -> bool {
        !matches!(self.what, Step::Advance(_))
    }

    /// Plays it, by its number the how manieth time.
    pub(super) fn play(&self, number: u64, proxy: &mut dyn Proxy) -> Result<(), HostFailure> {
        match &self.what {
            Step::Request(step) => {
                let step = self.request(number, step);
                proxy.exchange(step.worker.unwrap_or_default(), &step)?;
            }
            Step::Together(together) => {
                let sending = together.requests.iter().map(|timed| Sending {
                    after: timed.after,
                    worker: timed.step.worker.unwrap_or_default(),
                    step: &timed.step,
                });
                proxy.together(&sending.collect::<Vec<_>>(), &together.callouts)?;
            }
            Step::Connection(step) => {
                proxy.connect(step.worker.unwrap_or_default(), step)?;
            }
            Step::Advance(step) => proxy.pass_to_next(&step.callouts)?,
            Step::Clock(_) | Step::Configure { .. } => {}
        }
        Ok(())
    }

    fn request<'a>(&self, number: u64, step: &'a RequestStep) -> Cow<'a, RequestStep> {
        let turns = self.varied.len().max(1);
        let turn = usize::try_from(number).unwrap_or_default() % turns;
        match self.varied.get(turn) {
            Some(part) => Cow::Owned(with_other(part, number, step)),
            None => Cow::Borrowed(step),
        }
    }

    pub(super) fn several(&self) -> &'static str {
        match &self.what {
            Step::Request(_) => "requests",
            Step::Together(_) => "times these requests",
            Step::Connection(_) => "connections",
            Step::Advance(_) => "ticks",
            Step::Clock(_) | Step::Configure { .. } => "times",
        }
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {step} again and again")?,
            None => f.write_str("ticks again and again")?,
        }
        let Step::Request(step) = &self.what else { return Ok(()) };
        for (place, part) in self.varied.iter().enumerate() {
            f.write_str(if place == 0 { ", with another " } else { " or " })?;
            match part {
                Part::Path => f.write_str("path")?,
                Part::Query => f.write_str("query")?,
                Part::Header(at) => {
                    let name = step.request.headers.get(*at).map(|(name, _)| name.as_slice());
                    write!(f, "{}", name.unwrap_or_default().escape_ascii())?;
                }
            }
        }
        Ok(())
    }
}
