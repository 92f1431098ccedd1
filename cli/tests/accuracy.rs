//! How exact the rate limit is on a real Envoy, and what its keys cost in memory.
//!
//! A client sends twice what the limit admits. What is admitted is compared with what one exact counter for
//! each key would have admitted at the same instants, and with what no key may exceed.
//!
//! Needs an Envoy, as `cargo ci` fetches it; without one the tests say so and pass, except with `CI=true`. The
//! tests that are ignored take minutes, and print the figures that the filter's README shows:
//! `cargo test --workspace --test accuracy -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_host_bench::{CONNECTIONS, Client, Request};

use common::envoy::{Envoy, bootstrap, connection_manager, fetched, http_filter, route};
use common::modules;

/// How the keys of a run are limited.
#[derive(Clone, Copy)]
struct Limit {
    burst: u32,
    /// The time in which one request becomes free.
    interval: Duration,
}

impl Limit {
    /// As a policy has it: a window in which the burst is earned.
    fn to_json(self) -> Value {
        let window = self.interval * self.burst;
        json!({ "requests": self.burst, "per": format!("{}ms", window.as_millis()) })
    }
}

/// What came of a run.
struct Tally {
    sent: u64,
    admitted: u64,
    /// What exact counters would have admitted.
    exact: u64,
    /// How many keys got more than they may.
    above: usize,
}

/// One key as it is seen from outside.
#[derive(Clone)]
struct Seen {
    /// The time of its first request, and of the answer to its last.
    first: Option<Duration>,
    last: Duration,
    admitted: u32,
    /// An exact counter: what is left of the burst, in requests, at the time of the last request.
    left: f64,
    counted: Duration,
    exact: u32,
}

impl Seen {
    fn new(limit: Limit) -> Self {
        Self {
            first: None,
            last: Duration::ZERO,
            admitted: 0,
            left: limit.burst.into(),
            counted: Duration::ZERO,
            exact: 0,
        }
    }

    fn sent(&mut self, now: Duration, limit: Limit) {
        self.first.get_or_insert(now);
        let earned = now.saturating_sub(self.counted).as_secs_f64() / limit.interval.as_secs_f64();
        self.left = (self.left + earned).min(limit.burst.into());
        self.counted = now;
        if self.left >= 1.0 {
            self.left -= 1.0;
            self.exact += 1;
        }
    }

    fn answered(&mut self, now: Duration, status: u16) {
        assert!(matches!(status, 200 | 429), "{status}");
        self.last = now;
        self.admitted += u32::from(status == 200);
    }

    /// Whether more was admitted than the burst, and what was earned between its first request and its last
    /// answer.
    fn is_above(&self, limit: Limit) -> bool {
        let window = self.last.saturating_sub(self.first.unwrap_or_default());
        let earned = window.as_secs_f64() / limit.interval.as_secs_f64();
        f64::from(self.admitted) > f64::from(limit.burst) + earned
    }
}

fn start(name: &str, envoy: &Path, workers: u8, rule: &Value) -> Envoy {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("accuracy").join(name);
    fs::create_dir_all(&folder).unwrap();
    let bootstrap = limited(&modules().join("ratelimit.wasm"), rule);
    Envoy::start_with(workers, envoy, &folder, &bootstrap, &[])
}

/// A listener with the rate limit, which answers what is admitted by itself.
fn limited(module: &PathBuf, rule: &Value) -> Value {
    let text = |value: &Value| json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": value.to_string() });
    let filter = json!({
        "name": "limits",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "limits",
                "vm_config": { "runtime": "envoy.wasm.runtime.v8", "code": { "local": { "filename": module } } },
                "configuration": text(&json!({ "rules": [rule] })),
            },
        },
    });
    let filters = json!([filter, http_filter("router", "Router")]);
    let manager = connection_manager(&filters, &json!([route("all", "/")]));
    bootstrap("accuracy", &json!([{ "filters": [manager] }]))
}

fn request(key: usize) -> Request {
    Request::get("/", &[("host".into(), "a".into()), ("x-key".into(), key.to_string())])
}

/// Sends twice what a limit admits to so many keys, in turn, and says what came of it.
fn measure(envoy: &Path, workers: u8, keys: usize, limit: Limit, time: Duration) -> Tally {
    let rule = json!({
        "name": "each", "key": [ { "header": "x-key" } ], "limit": limit.to_json(), "keys": keys,
    });
    let envoy = start(&format!("{workers}-{keys}"), envoy, workers, &rule);
    let requests: Vec<Request> = (0..keys).map(request).collect();
    let mut client = Client::connect(envoy.listener, &requests).unwrap();
    let mut seen = vec![Seen::new(limit); keys];
    let pause = limit.interval.div_f64(2.0 * f64::from(u32::try_from(keys).unwrap()));
    let begin = Instant::now();
    let mut sent = 0_usize;
    while begin.elapsed() < time {
        let due = pause * u32::try_from(sent).unwrap();
        sleep(due.saturating_sub(begin.elapsed()));
        let batch: Vec<usize> = (sent..sent + CONNECTIONS).map(|number| number % keys).collect();
        let now = begin.elapsed();
        for &key in &batch {
            seen[key].sent(now, limit);
        }
        let batched: Vec<&Request> = batch.iter().map(|&key| &requests[key]).collect();
        let statuses = client.exchange(&batched).unwrap();
        let now = begin.elapsed();
        for (key, status) in batch.into_iter().zip(statuses) {
            seen[key].answered(now, status);
        }
        sent += CONNECTIONS;
    }
    Tally {
        sent: sent.try_into().unwrap(),
        admitted: seen.iter().map(|seen| u64::from(seen.admitted)).sum(),
        exact: seen.iter().map(|seen| u64::from(seen.exact)).sum(),
        above: seen.iter().filter(|seen| seen.is_above(limit)).count(),
    }
}

/// Checks a run, and gives the share that was admitted of what exact counters would have admitted.
fn check(envoy: &Path, workers: u8, keys: usize, limit: Limit, time: Duration) {
    let Tally { sent, admitted, exact, above } = measure(envoy, workers, keys, limit, time);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let share = admitted as f64 / exact as f64;
    println!(
        "| {workers} | {keys} | {sent} | {exact} | {admitted} | {:.2} % | {above} |",
        share * 100.0
    );
    assert_eq!(above, 0, "{workers} workers, {keys} keys");
    assert!(share >= 0.99, "{workers} workers, {keys} keys: {share}");
    assert!(exact < sent, "{workers} workers, {keys} keys: all was within the limit");
}

#[test]
fn what_is_admitted_is_what_an_exact_counter_would_admit() {
    let Some(envoy) = fetched() else { return };
    let limit = Limit { burst: 10, interval: Duration::from_millis(100) };
    check(&envoy, 2, 100, limit, Duration::from_secs(3));
}

#[test]
#[ignore = "takes ten minutes"]
fn it_is_so_with_several_workers_and_many_keys() {
    let Some(envoy) = fetched() else { return };
    println!("| workers | keys | sent | exact | admitted | share | keys above |");
    let limit = |burst, interval| Limit { burst, interval };
    for (keys, limit, seconds) in [
        (1, limit(100, Duration::from_millis(1)), 20),
        (100, limit(10, Duration::from_millis(100)), 20),
        (100_000, limit(2, Duration::from_secs(50)), 150),
    ] {
        for workers in [1, 2, 4] {
            check(&envoy, workers, keys, limit, Duration::from_secs(seconds));
        }
    }
}

/// The memory of an Envoy after so many requests, each with a key of its own, ten times.
fn memory(envoy: &Path, requests: usize) -> Vec<u64> {
    let limit = Limit { burst: 1, interval: Duration::from_secs(1) };
    let rule =
        json!({ "name": "each", "key": [ { "header": "x-key" } ], "limit": limit.to_json() });
    let envoy = start("memory", envoy, 1, &rule);
    let mut client = Client::connect(envoy.listener, &[]).unwrap();
    let mut kib = Vec::new();
    for part in 0..10 {
        for first in (part * requests / 10..(part + 1) * requests / 10).step_by(CONNECTIONS) {
            let batch: Vec<Request> = (first..first + CONNECTIONS).map(request).collect();
            let statuses = client.exchange(&batch.iter().collect::<Vec<_>>()).unwrap();
            // A key whose record is full shares a limit.
            assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        }
        kib.push(envoy.resident_bytes() >> 10);
    }
    println!("KiB after each tenth of {requests} keys: {kib:?}");
    kib
}

#[test]
#[ignore = "takes minutes"]
fn memory_is_flat_over_a_million_keys() {
    let Some(envoy) = fetched() else { return };
    let kib = memory(&envoy, 1_000_000);
    // Once all records are there.
    let (settled, last) = (kib[1], kib[9]);
    assert!(last < settled + settled / 100, "{kib:?}");
}
