//! Checks that no proxy makes: what a guest does that is refused, forgotten or piled up, and that shows only
//! under traffic.
//!
//! Once all steps are played, what happens by itself, and then each step with requests or connections, is played
//! again many times, and what guests keep is compared: what grows with every one never ends. Of the memory that
//! the host has a guest allocate for its answers, only what the allocator gives out again is seen to be freed.
//! Not played again are changes of the clock and of configurations.

mod again;

use std::time::Duration;

use crate::account::Account;
use crate::proxy::{Footprint, HostFailure, Proxy};
use crate::report::Failure;
use crate::scenario::{AdvanceStep, Scenario};
use again::Again;

/// How many requests come before it is looked at what guests keep: tables fill, pools grow.
const WARM_UP: u64 = 200;

/// How many requests come between two looks.
const BETWEEN: u64 = 400;

/// How many come in which something is told to grow with every one, though not each may add to it.
const EACH: u64 = 20;

/// After so many requests with other keys a table that has an end has slowed down.
const MOST_VARIED: u64 = 16_000;

/// How many requests come before some time passes: limits earn back, and what is kept for a while ends.
const BETWEEN_PAUSES: u64 = 4;

/// How much time passes then.
const PAUSE: Duration = Duration::from_secs(1);

/// What guests keep, and when it grows.
struct Kept {
    of: fn(&Footprint) -> u64,
    /// By how much it grows from one look to the next at least.
    least: u64,
    what: &'static str,
    remedy: &'static str,
}

const KEPT: [Kept; 6] = [
    Kept {
        of: |seen| seen.metrics,
        least: BETWEEN / EACH,
        what: "metrics were defined",
        remedy: "define each once, when the plugin starts",
    },
    Kept {
        of: |seen| seen.shared_keys,
        least: BETWEEN / EACH,
        what: "keys were added to shared data",
        remedy: "bound the keys",
    },
    Kept {
        of: |seen| seen.queued_messages,
        least: BETWEEN / EACH,
        what: "messages were left in queues",
        remedy: "take what proxy_on_queue_ready tells of, until the queue is empty",
    },
    Kept {
        of: |seen| seen.open_callouts,
        least: BETWEEN / EACH,
        what: "callouts and gRPC streams stayed open",
        remedy: "give them a timeout, close or cancel them",
    },
    Kept {
        of: |seen| seen.handed_bytes,
        least: BETWEEN,
        what: "bytes that the host handed over were not freed",
        remedy: "free what host calls return",
    },
    Kept {
        of: |seen| seen.memory_bytes,
        least: 1,
        what: "bytes of linear memory were added",
        remedy: "drop what is kept of each by proxy_on_delete",
    },
];

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
    if let Err(broken) = judge_traffic(scenario, proxy, failures) {
        failures.extend(broken);
        return;
    }
    let place = "strict, shutdown";
    match proxy.end() {
        Ok(waiting) => failures.extend(waiting.into_iter().map(|what| failed(place, what))),
        Err(failure) => failures.push(failed(place, failure.to_string())),
    }
}

fn failed(place: &str, what: String) -> Failure {
    Failure { place: place.into(), what, ..Failure::default() }
}

/// Judges what shows under traffic; what ends it is an error, as all that follows repeats it.
fn judge_traffic(
    scenario: &Scenario,
    proxy: &mut dyn Proxy,
    failures: &mut Vec<Failure>,
) -> Result<(), Vec<Failure>> {
    if proxy.footprint().is_none() {
        return Ok(());
    }
    for again in again::ticks(scenario) {
        failures.extend(grown(&again, proxy)?);
    }
    // Time passes among requests, too, and they did not do what ticks do.
    if !failures.is_empty() {
        return Ok(());
    }
    for again in again::traffic(scenario) {
        // What grows with the same keys grows with others, too.
        if failures.is_empty() || !again.is_varied() {
            failures.extend(grown(&again, proxy)?);
        }
    }
    Ok(())
}

/// What grows with every one of a step; what broke meanwhile is an error.
fn grown(again: &Again, proxy: &mut dyn Proxy) -> Result<Vec<Failure>, Vec<Failure>> {
    let place = format!("strict, {again}");
    let mut played = 0;
    let mut look = |times: u64| -> Result<Look, Vec<Failure>> {
        let mut broken = Vec::new();
        for _ in 0..times {
            played += 1;
            if let Err(failure) = play(again, played, proxy) {
                broken.push(failed(&place, failure.to_string()));
                break;
            }
        }
        let account = proxy.take_account();
        broken.extend(breaches(&account).map(|what| failed(&place, what)));
        if let Some(last) = broken.last_mut() {
            last.account = account;
            return Err(broken);
        }
        Ok((times, proxy.footprint().unwrap_or_default()))
    };
    let mut looks = vec![look(WARM_UP)?, look(BETWEEN)?, look(BETWEEN)?];
    let mut growing: Vec<&Kept> = KEPT.iter().filter(|kept| kept.grows(&looks)).collect();
    let mut total = WARM_UP + BETWEEN + BETWEEN;
    while again.is_varied() && !growing.is_empty() && total < MOST_VARIED {
        looks.push(look(total)?);
        total += total;
        growing.retain(|kept| kept.keeps_growing(&looks));
    }
    let several = again.several();
    Ok(growing.iter().map(|kept| failed(&place, kept.told(&looks, several))).collect())
}

/// Plays a step once more, by its number the how manieth time.
fn play(again: &Again, number: u64, proxy: &mut dyn Proxy) -> Result<(), HostFailure> {
    again.play(number, proxy)?;
    if again.takes_time() && number.is_multiple_of(BETWEEN_PAUSES) {
        proxy.advance(&AdvanceStep::new(PAUSE))?;
    }
    Ok(())
}

/// How many came since the look before, and what guests kept then.
type Look = (u64, Footprint);

impl Kept {
    /// By how much it has grown at each look, and with how many, from the second look on.
    fn growths(&self, looks: &[Look]) -> Vec<(u64, u64)> {
        let grown = |(before, (times, after)): (&Look, &Look)| {
            (*times, (self.of)(after).saturating_sub((self.of)(&before.1)))
        };
        looks.iter().zip(looks.iter().skip(1)).map(grown).collect()
    }

    fn grows(&self, looks: &[Look]) -> bool {
        self.growths(looks).iter().all(|&(_, grown)| grown >= self.least)
    }

    /// Whether it grew with the last ones at least half as fast as with the first.
    fn keeps_growing(&self, looks: &[Look]) -> bool {
        let growths = self.growths(looks);
        let Some((&(first, before), &(last, after))) = growths.first().zip(growths.last()) else {
            return false;
        };
        after.saturating_mul(first).saturating_mul(2) >= before.saturating_mul(last)
    }

    fn told(&self, looks: &[Look], several: &str) -> String {
        let mut growths = self.growths(looks).into_iter();
        let (times, grown) = growths.next().unwrap_or_default();
        let first = format!("with {times} {several} {grown} {}", self.what);
        let more = growths.map(|(times, grown)| format!("with {times} more {grown}"));
        let told: Vec<String> = [first].into_iter().chain(more).collect();
        format!("{}: {}", told.join(", "), self.remedy)
    }
}
