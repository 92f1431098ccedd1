//! The offline host and a real Envoy, behaviour by behaviour: not the same verdict only, the same bytes.
//!
//! Needs an Envoy, as `cargo ci` fetches it; without one the tests say so and pass, except with
//! `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::env;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::observed::{Observed, difference, observe};
use common::{envoy, loader, root, say, scenarios};
use tollgate_host::offline::Offline;
use tollgate_host::proxy::ProxyHost;
use tollgate_host::scenario::{HostName, Scenario};

/// How many scenarios are played at a time.
const JOBS: usize = 2;

/// Names the cases to play by how their names begin; all when it is not set.
const WANTED: &str = "TOLLGATE_CASES";

/// Fewer behaviours than these would mean little.
const FEWEST_BEHAVIOURS: usize = 120;

/// Fewer scenarios of filters on the SDK than these would leave a phase out.
const FEWEST_OF_FILTERS: usize = 40;

/// Fewer lines of the rate limit's clients and upstreams than these would mean little.
const FEWEST_LINES: usize = 90;

/// Cases in which the hosts differ, and why. One that no longer differs fails, so that the list is true.
const KNOWN_DIFFERENCES: &[(&str, &str)] = &[
    ("foreign/uncompress-nothing", "Envoy allocates no bytes, where others have a null pointer"),
    (
        "headers/empty-name",
        "Envoy passes the line on and the upstream refuses it; the offline host refuses it itself",
    ),
    (
        "maps/pairs-chunks",
        "to get trailers from the upstream, Envoy is told to add a `te` line, which on_log sees",
    ),
    (
        "properties/node",
        "Envoy tells its version and all of its extensions, which the offline host does not have",
    ),
    ("properties/request-headers", "Envoy gives the headers in the order of a hash table"),
];

#[test]
fn a_guest_sees_and_does_the_same_on_both_hosts() {
    let mut cases = scenarios(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases"));
    let wanted = env::var(WANTED).unwrap_or_default();
    cases.retain(|(name, _)| name.starts_with(&wanted));
    let Some(played) = play_on_both(&cases) else { return };
    let mut agreed = 0;
    let mut mistakes = Vec::new();
    for (name, offline, envoy) in &played {
        let known = KNOWN_DIFFERENCES.iter().find(|(known, _)| known == name);
        match (difference(&offline.all(), &envoy.all()), known) {
            (None, None) => agreed += 1,
            (Some(_), Some(_)) => {}
            (Some(difference), None) => mistakes.push(format!("{name} differs:\n{difference}")),
            (None, Some((_, reason))) => mistakes.push(format!(
                "{name} agrees; take it off the list of known differences ({reason})"
            )),
        }
    }
    for (known, _) in KNOWN_DIFFERENCES.iter().filter(|(known, _)| known.starts_with(&wanted)) {
        if !played.iter().any(|(name, _, _)| name == known) {
            mistakes.push(format!("{known} is a known difference, but there is no such case"));
        }
    }
    say(&format!("{agreed} behaviours agreed, {} known differences", KNOWN_DIFFERENCES.len()));
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n\n"));
    let fewest = if wanted.is_empty() { FEWEST_BEHAVIOURS } else { 1 };
    assert!(agreed >= fewest, "{agreed} behaviours are too few to mean much");
}

#[test]
fn filters_on_the_sdk_do_the_same_on_both_hosts() {
    let scenarios = scenarios(&Path::new(env!("CARGO_MANIFEST_DIR")).join("filters/scenarios"));
    let Some(played) = play_on_both(&scenarios) else { return };
    let mut mistakes = Vec::new();
    for (name, offline, envoy) in &played {
        for (host, observed) in [("offline", offline), ("envoy", envoy)] {
            mistakes.extend(observed.failures.iter().map(|what| format!("{name}, {host}: {what}")));
        }
        if let Some(difference) = difference(&offline.all(), &envoy.all()) {
            mistakes.push(format!("{name} differs:\n{difference}"));
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n\n"));
    assert!(played.len() >= FEWEST_OF_FILTERS, "{} scenarios are too few", played.len());
    say(&format!("{} scenarios of filters on the SDK agreed", played.len()));
}

/// Not offline, which holds whatever there is, and not in a file, which would be as long.
#[test]
fn what_envoy_does_not_hold_it_refuses_without_the_filter() {
    let Some(envoy) = envoy() else { return };
    let half = "x".repeat(600_000);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("longer-than-envoy-holds.yaml");
    let scenario = format!(
        "
name: a body that Envoy does not hold
filters: [ {{ filter: whole_resizing, config: {{}} }} ]
steps:
  - request: {{ method: POST, path: /p, body: [{half}, {half}, x] }}
    expect: {{ response: {{ status: 413, body: Payload Too Large }}, no_logs: ['request: '] }}
  - request: {{ path: /p }}
    upstream: {{ body: [{half}, {half}, x] }}
    expect: {{ response: reset, no_logs: ['response: '] }}
  - request: {{ path: /after }}
    expect: {{ response: {{ status: 200 }} }}
"
    );
    fs::write(&file, scenario).unwrap();
    let observed = observe(&Scenario::read(&file).unwrap(), &envoy);
    assert!(observed.failures.is_empty(), "{:#?}", observed.failures);
}

#[test]
fn the_rate_limit_exchanges_the_same_bytes_on_both_hosts() {
    let mut scenarios = scenarios(&root().join("filters/ratelimit/tests/scenarios"));
    scenarios.retain(|(_, scenario)| {
        scenario.only.as_ref().is_none_or(|only| only.on.contains(&HostName::Envoy))
    });
    let Some(played) = play_on_both(&scenarios) else { return };
    let mut lines = 0;
    for (name, offline, envoy) in &played {
        for (host, observed) in [("offline", offline), ("envoy", envoy)] {
            assert!(observed.failures.is_empty(), "{name}, {host}: {:#?}", observed.failures);
        }
        // Not the log: it tells how long a client has to wait, and on Envoy time passes.
        if let Some(difference) = difference(&offline.exchanges, &envoy.exchanges) {
            panic!("{name} differs:\n{difference}");
        }
        lines += offline.exchanges.len();
    }
    assert!(lines >= FEWEST_LINES, "{lines} lines are too few to mean much");
}

/// Plays each scenario on the offline host and on Envoy, if there is one.
fn play_on_both(scenarios: &[(String, Scenario)]) -> Option<Vec<(String, Observed, Observed)>> {
    let envoy = envoy()?;
    let loader = loader();
    let offline = Offline::new(HostName::Wasmtime, &loader);
    let (next, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((name, scenario)) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
            let on = |host: &dyn ProxyHost| observe(scenario, host);
            let both = (name.clone(), on(&offline), on(&envoy));
            played.lock().unwrap().push(both);
        }
    };
    thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(work);
        }
    });
    let mut played = played.into_inner().unwrap();
    played.sort_by(|(one, _, _), (other, _, _)| one.cmp(other));
    Some(played)
}
