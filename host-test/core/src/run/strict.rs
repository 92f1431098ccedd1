//! Checks that no proxy makes: what a guest does that is refused, forgotten or piled up, and that shows only
//! under traffic.
//!
//! Once all steps are played, each request and connection is played again many times, and what guests keep is compared: what
//! grows with every one never ends. Of the memory that the host has a guest allocate for its answers,
//! only what the allocator gives out again is seen to be freed.

use crate::account::Account;
use crate::proxy::{Footprint, HostFailure, Proxy};
use crate::report::Failure;
use crate::scenario::{ConnectionStep, RequestStep, Scenario, Step};

/// How many requests come before it is looked at what guests keep: tables fill, pools grow.
const WARM_UP: u64 = 200;

/// How many requests come between two looks.
const BETWEEN: u64 = 400;

/// How many different requests and connections are played again.
const MOST_AGAIN: usize = 8;

/// What a strict scenario does not let pass in a step.
pub(super) fn breaches(account: &Account) -> impl Iterator<Item = String> + '_ {
    let traps = account.traps.iter().map(|trap| format!("strict: {} trapped", trap.guest));
    let untimely = account.untimely.iter().map(|call| format!("strict: out of its phase: {call}"));
    let endless =
        account.endless.iter().map(|held| format!("strict: a stream came to no end: {held}"));
    traps.chain(untimely).chain(endless)
}

/// Judges what shows only under traffic and at the end of a proxy.
pub(super) fn judge_end(scenario: &Scenario, proxy: &mut dyn Proxy, failures: &mut Vec<Failure>) {
    let mut fail = |place: &str, what: String| {
        failures.push(Failure { place: place.into(), what, ..Failure::default() });
    };
    let again = scenario.steps.iter().enumerate();
    let again = again.filter_map(|(index, step)| Some((index, Again::of(step)?)));
    for (index, step) in again.take(MOST_AGAIN) {
        let place = format!("strict, step {} again and again", index + 1);
        match grown(step, proxy) {
            Ok(grown) => grown.into_iter().for_each(|what| fail(&place, what)),
            Err(failure) => return fail(&place, failure.to_string()),
        }
    }
    match proxy.end() {
        Ok(waiting) => waiting.into_iter().for_each(|what| fail("strict, shutdown", what)),
        Err(failure) => fail("strict, shutdown", failure.to_string()),
    }
}

/// What is played again and again.
#[derive(Clone, Copy)]
enum Again<'a> {
    Request(&'a RequestStep),
    Connection(&'a ConnectionStep),
}

impl<'a> Again<'a> {
    fn of(step: &'a Step) -> Option<Self> {
        match step {
            Step::Request(step) if step.meanwhile.is_none() => Some(Self::Request(step)),
            Step::Connection(step) => Some(Self::Connection(step)),
            Step::Request(_)
            | Step::Together(_)
            | Step::Advance(_)
            | Step::Clock(_)
            | Step::Configure { .. } => None,
        }
    }

    fn play(self, proxy: &mut dyn Proxy) -> Result<(), HostFailure> {
        match self {
            Self::Request(step) => {
                proxy.exchange(step.worker.unwrap_or_default(), step)?;
            }
            Self::Connection(step) => {
                proxy.connect(step.worker.unwrap_or_default(), step)?;
            }
        }
        Ok(())
    }

    fn several(self) -> &'static str {
        match self {
            Self::Request(_) => "requests",
            Self::Connection(_) => "connections",
        }
    }
}

/// What grows with every request or connection.
fn grown(again: Again<'_>, proxy: &mut dyn Proxy) -> Result<Vec<String>, HostFailure> {
    if proxy.footprint().is_none() {
        return Ok(Vec::new());
    }
    let mut look = |times| {
        for _ in 0..times {
            again.play(proxy)?;
        }
        Ok(proxy.footprint().unwrap_or_default())
    };
    let looks = [look(WARM_UP)?, look(BETWEEN)?, look(BETWEEN)?];
    let growths = [
        growth(
            looks,
            |seen| seen.metrics,
            BETWEEN,
            "metrics were defined",
            "define each once, when the plugin starts",
        ),
        growth(
            looks,
            |seen| seen.shared_keys,
            BETWEEN,
            "keys were added to shared data",
            "bound the keys",
        ),
        growth(
            looks,
            |seen| seen.handed_bytes,
            BETWEEN,
            "bytes that the host handed over were not freed",
            "free what host calls return",
        ),
        growth(
            looks,
            |seen| seen.memory_bytes,
            1,
            "bytes of linear memory were added",
            "drop what is kept of each by proxy_on_delete",
        ),
    ];
    let with = format!("with {BETWEEN} {}", again.several());
    Ok(growths.into_iter().flatten().map(|grown| format!("{with} {grown}")).collect())
}

/// Says what has grown from each look to the next, by `least` or more.
fn growth(
    looks: [Footprint; 3],
    of: fn(&Footprint) -> u64,
    least: u64,
    what: &str,
    remedy: &str,
) -> Option<String> {
    let [first, second, third] = looks.each_ref().map(of);
    let (before, after) = (second.saturating_sub(first), third.saturating_sub(second));
    (before >= least && after >= least)
        .then(|| format!("{before} {what}, with {BETWEEN} more {after}: {remedy}"))
}
