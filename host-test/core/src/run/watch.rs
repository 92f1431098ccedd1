//! Judges what a step leaves behind: metrics, log lines, shared data, queues.

use super::exchange::{judge_value, list};
use crate::proxy::{HostFailure, Observation, Proxy};
use crate::scenario::{Expectation, ExpectedQueue, ExpectedShared, Matcher};

/// What is expected of logs and metrics once a step is over.
pub(super) struct Watch<'a> {
    expected: Vec<&'a Expectation>,
    /// How many lines there were before.
    logs_before: usize,
}

impl<'a> Watch<'a> {
    pub(super) fn begin(
        proxy: &mut dyn Proxy,
        expected: Vec<&'a Expectation>,
    ) -> Result<Self, HostFailure> {
        let watches_logs =
            expected.iter().any(|expect| !(expect.logs.is_empty() && expect.no_logs.is_empty()));
        let logs_before = if watches_logs { proxy.observe(&|_| true)?.logs.len() } else { 0 };
        Ok(Self { expected, logs_before })
    }

    /// Of all since the start.
    pub(super) fn since_start(expected: &'a Expectation) -> Self {
        Self { expected: vec![expected], logs_before: 0 }
    }

    pub(super) fn judge(
        &self,
        proxy: &mut dyn Proxy,
        fail: &mut dyn FnMut(String),
    ) -> Result<(), HostFailure> {
        for expected in self.expected.iter().flat_map(|expect| &expect.shared_data) {
            let vm_id = expected.vm_id.as_deref();
            let is_as_expected = |got: Option<&[u8]>| judge_shared(expected, got).is_none();
            let got = proxy.shared_data(vm_id, &expected.key, &is_as_expected)?;
            judge_shared(expected, got.as_deref()).into_iter().for_each(&mut *fail);
        }
        for expected in self.expected.iter().flat_map(|expect| &expect.queues) {
            let vm_id = expected.vm_id.as_deref();
            let is_as_expected = |got: Option<&[Vec<u8>]>| judge_queue(expected, got).is_empty();
            let got = proxy.queue(vm_id, &expected.key, &is_as_expected)?;
            judge_queue(expected, got.as_deref()).into_iter().for_each(&mut *fail);
        }
        let says_something = |expect: &&&Expectation| {
            !(expect.logs.is_empty() && expect.no_logs.is_empty() && expect.metrics.is_empty())
        };
        let expected: Vec<&Expectation> =
            self.expected.iter().filter(says_something).copied().collect();
        if expected.is_empty() {
            return Ok(());
        }
        let before = self.logs_before;
        let is_settled = |seen: &Observation| {
            expected.iter().all(|expect| missing(expect, seen, before).next().is_none())
        };
        let seen = proxy.observe(&is_settled)?;
        for expect in &expected {
            missing(expect, &seen, before).for_each(&mut *fail);
            for line in seen.logs.get(before..).unwrap_or_default() {
                for text in expect.no_logs.iter().filter(|text| text.matches(&line.message)) {
                    fail(format!("log: {text} is not expected, got {line}"));
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with a value of shared data.
fn judge_shared(expected: &ExpectedShared, got: Option<&[u8]>) -> Option<String> {
    let what = format!("shared data {}", expected.key.escape_ascii());
    match (got, &expected.value) {
        (None, None) => None,
        (None, Some(value)) => Some(format!("{what}: expected {value}, but there is no such key")),
        (Some(got), None) => {
            Some(format!("{what}: expected no such key, got \"{}\"", got.escape_ascii()))
        }
        (Some(got), Some(value)) => {
            let mut wrong = None;
            judge_value(&what, Some(value), got, &mut |what| wrong = Some(what));
            wrong
        }
    }
}

/// As shared data: the messages one by one, in their order.
fn judge_queue(expected: &ExpectedQueue, got: Option<&[Vec<u8>]>) -> Vec<String> {
    let what = format!("queue {}", expected.key.escape_ascii());
    match (got, &expected.value) {
        (None, None) => Vec::new(),
        (None, Some(_)) => vec![format!("{what}: nobody has registered it")],
        (Some(_), None) => vec![format!("{what}: expected no such queue, got one")],
        (Some(got), Some(expected)) => {
            let mut wrong = Vec::new();
            if got.len() != expected.len() {
                let (expected, got) = (expected.len(), got.len());
                wrong.push(format!("{what}: expected {expected} messages, got {got}"));
            }
            for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                let what = format!("{what}: message {index}");
                judge_value(&what, Some(expected), got, &mut |what| wrong.push(what));
            }
            wrong
        }
    }
}

/// What is expected of metrics and logs and is not there (yet).
fn missing<'a>(
    expect: &'a Expectation,
    seen: &'a Observation,
    logs_before: usize,
) -> impl Iterator<Item = String> + 'a {
    let metrics =
        expect.metrics.iter().filter_map(|(name, expected)| match seen.metrics.get(name) {
            got if got == expected.as_ref() => None,
            Some(got) => Some(match expected {
                Some(expected) => format!("metric {name}: expected {expected}, got {got}"),
                None => format!("metric {name}: expected no such metric, got {got}"),
            }),
            None => expected.map(|expected| {
                format!("metric {name}: expected {expected}, but no counter or gauge is named so")
            }),
        });
    let lines = seen.logs.get(logs_before..).unwrap_or_default();
    let logs = expect.logs.iter().filter_map(move |log| {
        let wanted = Matcher::Contains(log.contains.clone());
        let found = lines.iter().any(|line| {
            log.level.is_none_or(|level| level == line.level) && wanted.matches(&line.message)
        });
        let level = log.level.map_or(String::new(), |level| format!(" at {level}"));
        (!found).then(|| {
            let lines = list(lines.iter().map(ToString::to_string));
            format!("log{level}: expected {wanted}, got {lines}")
        })
    });
    metrics.chain(logs)
}
