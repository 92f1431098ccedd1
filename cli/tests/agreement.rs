//! The offline host and a real Envoy, exchange by exchange: not only the same verdict, the same bytes.
//!
//! Needs an Envoy, as `cargo ci` fetches it; without one the test says so and passes, except with
//! `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{modules, root};
use tollgate_host::engine::Module;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{
    Exchange, HostFailure, Observation, Outcome, Proxy, ProxyHost, StartError,
};
use tollgate_host::run::play;
use tollgate_host::scenario::{ClockStep, FilterUse, HeaderLine, HostName, RequestStep, Scenario};
use tollgate_host_envoy::{EnvoyHost, find_envoy};
use tollgate_host_wasmtime::{Limits, Wasmtime};

/// A proxy that remembers every exchange.
struct Remembering<'a> {
    proxy: Box<dyn Proxy + 'a>,
    exchanges: Vec<Exchange>,
}

impl Proxy for Remembering<'_> {
    fn exchange(&mut self, worker: usize, step: &RequestStep) -> Result<Exchange, HostFailure> {
        let exchange = self.proxy.exchange(worker, step)?;
        self.exchanges.push(comparable(exchange.clone()));
        Ok(exchange)
    }

    fn advance(&mut self, by: Duration) -> Result<(), HostFailure> {
        self.proxy.advance(by)
    }

    fn step_clock(&mut self, by: ClockStep) -> Result<(), HostFailure> {
        self.proxy.step_clock(by)
    }

    fn observe(
        &mut self,
        settled: &dyn Fn(&Observation) -> bool,
    ) -> Result<Observation, HostFailure> {
        self.proxy.observe(settled)
    }
}

/// An exchange without what cannot be the same: the date, and the cost.
fn comparable(mut exchange: Exchange) -> Exchange {
    exchange.cost = None;
    if let Outcome::Response(response) = &mut exchange.outcome {
        for (name, value) in &mut response.headers {
            if name == b"date" {
                *value = b"(a date)".to_vec();
            }
        }
        group(&mut response.headers);
    }
    if let Some(received) = &mut exchange.upstream {
        group(&mut received.headers);
    }
    exchange
}

/// The real client and upstream keep lines of one name together, in the place of the first.
fn group(lines: &mut [HeaderLine]) {
    let names: Vec<Vec<u8>> = lines.iter().map(|(name, _)| name.clone()).collect();
    lines.sort_by_key(|(name, _)| names.iter().position(|first| first == name));
}

enum Played {
    Refused,
    Exchanges(Vec<Exchange>),
}

fn play_on(scenario: &Scenario, host: &dyn ProxyHost) -> Played {
    match host.start(scenario) {
        Err(StartError::Refused { .. }) => Played::Refused,
        Err(error) => panic!("{}: {error}", scenario.name),
        Ok(proxy) => {
            let mut proxy = Remembering { proxy, exchanges: Vec::new() };
            let failures = play(scenario, &mut proxy);
            assert!(failures.is_empty(), "{} on {}: {failures:#?}", scenario.name, host.name());
            Played::Exchanges(proxy.exchanges)
        }
    }
}

fn scenarios() -> Vec<(PathBuf, Scenario)> {
    let folder = root().join("filters/ratelimit/tests/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), Scenario::read(&file).unwrap())).collect()
}

#[test]
fn the_offline_host_and_envoy_exchange_the_same_bytes() {
    let envoy = match find_envoy(None, &root().join("target/envoy/venv")) {
        Ok(envoy) => envoy,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{error}");
            println!("skipped: {error}");
            return;
        }
    };
    let engine = Wasmtime::new(Limits::default(), None).unwrap();
    let loaded: Arc<dyn Module> =
        Arc::new(engine.load(&std::fs::read(modules().join("ratelimit.wasm")).unwrap()).unwrap());
    let loader = |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> { Ok(Arc::clone(&loaded)) };
    let offline = Offline::new(HostName::Wasmtime, &loader);
    let real = EnvoyHost::new(envoy, modules().to_owned());

    let mut compared = 0;
    for (file, scenario) in scenarios() {
        let runs = scenario.only.as_ref().is_none_or(|only| only.on.contains(&HostName::Envoy));
        if !runs {
            continue;
        }
        let name = file.file_name().map(Path::new).unwrap().display().to_string();
        match (play_on(&scenario, &offline), play_on(&scenario, &real)) {
            (Played::Refused, Played::Refused) => compared += 1,
            (Played::Exchanges(offline), Played::Exchanges(real)) => {
                assert_eq!(offline.len(), real.len(), "{name}");
                for (number, (offline, real)) in offline.iter().zip(&real).enumerate() {
                    assert_eq!(show(offline), show(real), "{name}, request {}", number + 1);
                    compared += 1;
                }
            }
            (Played::Refused, _) => panic!("{name}: only the offline host refuses"),
            (_, Played::Refused) => panic!("{name}: only Envoy refuses"),
        }
    }
    assert!(compared >= 50, "{compared} exchanges are too few to mean much");
}

fn show(exchange: &Exchange) -> String {
    let lines = |lines: &[HeaderLine]| -> String {
        let line = |(name, value): &HeaderLine| {
            format!("\n  {}: {}", name.escape_ascii(), value.escape_ascii())
        };
        lines.iter().map(line).collect()
    };
    let outcome = match &exchange.outcome {
        Outcome::Response(response) => format!(
            "{}{}\n  body: {}\n  trailers:{}",
            response.status,
            lines(&response.headers),
            response.body.escape_ascii(),
            lines(&response.trailers)
        ),
        other => format!("{other:?}"),
    };
    let upstream = exchange.upstream.as_ref().map_or("nothing".into(), |received| {
        format!(
            "{} {}{}\n  body: {}\n  trailers:{}",
            received.method.escape_ascii(),
            received.path.escape_ascii(),
            lines(&received.headers),
            received.body.escape_ascii(),
            lines(&received.trailers)
        )
    });
    format!("client: {outcome}\nupstream: {upstream}")
}
