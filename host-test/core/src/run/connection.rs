//! Judges connections of TCP: what client and upstream had got whenever it was looked.

use crate::proxy::{Conversation, Moment, Side};
use crate::scenario::{ConnectionStep, Event, ExpectedEnd, ExpectedEnds, ExpectedUpstreamEnd};

use super::exchange::judge_value;

/// Compares a connection with what stands among its events.
pub(super) fn judge(
    step: &ConnectionStep,
    conversation: &Conversation,
    fail: &mut dyn FnMut(String),
) {
    // The first moment is before any event.
    for (index, (event, moment)) in
        step.events.iter().zip(conversation.moments.iter().skip(1)).enumerate()
    {
        if let Event::Expect(expected) = event {
            let mut fail = |what| fail(format!("event {}, {what}", index + 1));
            judge_ends(expected, moment, &mut fail);
        }
    }
}

fn judge_ends(expected: &ExpectedEnds, got: &Moment, fail: &mut dyn FnMut(String)) {
    if let Some(expected) = &expected.client {
        judge_end("client", expected, &got.client, fail);
    }
    match (&expected.upstream, &got.upstream) {
        (None, _) | (Some(ExpectedUpstreamEnd::Nothing), None) => {}
        (Some(ExpectedUpstreamEnd::Connection(expected)), Some(got)) => {
            judge_end("upstream", expected, got, fail);
        }
        (Some(ExpectedUpstreamEnd::Nothing), Some(got)) => fail(format!(
            "upstream: expected no connection, got one with \"{}\"",
            got.got.escape_ascii()
        )),
        (Some(ExpectedUpstreamEnd::Connection(_)), None) => {
            fail("upstream: expected a connection, but none came".into());
        }
    }
}

fn judge_end(who: &str, expected: &ExpectedEnd, got: &Side, fail: &mut dyn FnMut(String)) {
    judge_value(&format!("{who} got"), expected.got.as_ref(), &got.got, fail);
    if let Some(end) = expected.end.filter(|&end| end != got.end) {
        fail(format!("{who} end: expected {end}, it is {}", got.end));
    }
}
