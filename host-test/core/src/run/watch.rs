//! Judges what a step leaves behind: metrics, log lines, shared data, queues.

use super::exchange::{judge_value, list};
use crate::proxy::{HostFailure, Observation, Proxy, SharedValue};
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

    pub(super) fn judge(
        &self,
        proxy: &mut dyn Proxy,
        fail: &mut dyn FnMut(String),
    ) -> Result<(), HostFailure> {
        for expected in self.expected.iter().flat_map(|expect| &expect.shared_data) {
            judge_shared(
                expected,
                &proxy.shared_data(expected.vm_id.as_deref(), &expected.key),
                fail,
            );
        }
        for expected in self.expected.iter().flat_map(|expect| &expect.queues) {
            let got = proxy.queue(expected.vm_id.as_deref(), &expected.key);
            judge_queue(expected, &got, fail);
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
                    fail(format!("log: expected nothing with {text}, got {line}"));
                }
            }
        }
        Ok(())
    }
}

/// What a proxy cannot tell is as expected, and counted in the report.
fn judge_shared(expected: &ExpectedShared, got: &SharedValue, fail: &mut dyn FnMut(String)) {
    let what = format!("shared data {}", expected.key.escape_ascii());
    match (got, &expected.value) {
        (SharedValue::Unknown, _) | (SharedValue::Absent, None) => {}
        (SharedValue::Absent, Some(value)) => {
            fail(format!("{what}: expected {value}, but there is no such key"));
        }
        (SharedValue::Is(got), None) => {
            fail(format!("{what}: expected no such key, got \"{}\"", got.escape_ascii()));
        }
        (SharedValue::Is(got), Some(value)) => judge_value(&what, Some(value), got, fail),
    }
}

/// As shared data: the messages one by one, in their order.
fn judge_queue(
    expected: &ExpectedQueue,
    got: &SharedValue<Vec<Vec<u8>>>,
    fail: &mut dyn FnMut(String),
) {
    let what = format!("queue {}", expected.key.escape_ascii());
    match (got, &expected.value) {
        (SharedValue::Unknown, _) | (SharedValue::Absent, None) => {}
        (SharedValue::Absent, Some(_)) => fail(format!("{what}: nobody has registered it")),
        (SharedValue::Is(_), None) => fail(format!("{what}: expected no such queue, got one")),
        (SharedValue::Is(got), Some(expected)) => {
            if got.len() != expected.len() {
                let (expected, got) = (expected.len(), got.len());
                fail(format!("{what}: expected {expected} messages, got {got}"));
            }
            for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                judge_value(&format!("{what}: message {index}"), Some(expected), got, fail);
            }
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
            Some(value) if value == expected => None,
            Some(value) => Some(format!("metric {name}: expected {expected}, got {value}")),
            None => Some(format!("metric {name}: expected {expected}, but it is not defined")),
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
