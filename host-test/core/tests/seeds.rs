//! What a host is free to choose, under seeds: a race that the order of ever hides is found, and replays.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Behaviour, Scripted, agree, log, play, respond};
use tollgate_abi::{Answer, Call, Callback, Destination, Reply, Serialized, pairs};
use tollgate_host::engine::Module;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::StartError;
use tollgate_host::report::{Failure, Verdict};
use tollgate_host::run::play as play_on;
use tollgate_host::scenario::{FilterUse, HostName, Scenario};
use tollgate_host::world::World;

fn read(world: &mut World, key: &str) -> u8 {
    match world.handle(Call::GetSharedData { key: key.as_bytes().to_vec() }) {
        Reply::Done(Answer::Shared { value, .. }) => value.first().copied().unwrap_or(0),
        _ => 0,
    }
}

fn write(world: &mut World, key: &str, value: u8) {
    let call = Call::SetSharedData { key: key.as_bytes().to_vec(), value: vec![value], cas: 0 };
    assert_eq!(world.handle(call), Reply::OK);
}

/// Counts requests across a callout, and forgets that another may count meanwhile.
const FORGETFUL: Behaviour = |world, callback| {
    match callback {
        Callback::RequestHeaders { .. } => {
            let path = world.handle(Call::GetHeaderMapValue {
                map: tollgate_abi::MapType::RequestHeaders,
                name: b":path".to_vec(),
            });
            if path == Reply::Done(Answer::Bytes(b"/count".to_vec())) {
                let count = read(world, "count");
                respond(world, 200, &[], &count.to_string());
                return Ok(0);
            }
            let pairs = [(":method", "GET"), (":path", "/"), (":authority", "a")];
            let headers = Serialized(pairs::encode(&pairs).unwrap());
            let trailers = Serialized(pairs::encode::<&str, &str>(&[]).unwrap());
            let (upstream, body) = (b"authz".to_vec(), Vec::new());
            let call = Call::HttpCall { upstream, headers, body, trailers, timeout_millis: 1000 };
            let Reply::Done(Answer::U32(token)) = world.handle(call) else { panic!() };
            let count = read(world, "count");
            write(world, &format!("seen by {token}"), count);
        }
        Callback::HttpCallResponse { token, .. } => {
            let seen = read(world, &format!("seen by {token}"));
            write(world, "count", seen + 1);
        }
        _ => {}
    }
    Ok(agree(callback))
};

/// The second request comes at the instant at which the callout of the first is answered.
const RACE: &str = "
name: two requests are counted
filters: [ { filter: guest } ]
clusters: [authz]
steps:
  - together:
      - { request: { path: /a }, upstream: { delay: 50ms } }
      - { request: { path: /b }, after: 10ms, upstream: { delay: 50ms } }
    callouts:
      - { cluster: authz, answer: { delay: 10ms } }
      - { cluster: authz, answer: { delay: 10ms } }
  - request: { path: /count }
    expect: { response: { body: '2' } }
";

fn under(text: &str, seed: u64) -> Scenario {
    Scenario { seed, ..Scenario::parse(text).unwrap() }
}

fn failures(text: &str, guest: Behaviour, seed: u64) -> (Vec<Failure>, Vec<String>) {
    let loader = |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> {
        Ok(Arc::new(Scripted::new(guest)))
    };
    let scenario = under(text, seed);
    let host = Offline::new(HostName::Wasmtime, &loader);
    let mut run = host.start_recorded(&scenario).expect(text);
    let failures = play_on(&scenario, &mut run);
    (failures, run.take_transcript().iter().map(ToString::to_string).collect())
}

#[test]
fn a_race_is_found_by_seeds_and_replays() {
    let guests: &[(&str, Behaviour)] = &[("guest", FORGETFUL)];
    assert_eq!(play(guests, RACE), Verdict::Passed, "the order of ever hides it");
    let many = format!("{RACE}seeds: 32\n");
    let Verdict::Failed { failures: found } = play(guests, &many) else { panic!("not found") };
    let seed = found[0].replay.seed.expect("a seed");
    assert!(found[0].to_string().starts_with(&format!("seed {seed}: step 2, GET /count")));
    assert!(found[0].what.contains("expected \"2\", got \"1\""), "{}", found[0].what);
    let (once, transcript) = failures(RACE, FORGETFUL, seed);
    assert_eq!(once[0].what, found[0].what);
    assert_eq!(failures(RACE, FORGETFUL, seed), (once, transcript), "the same each time");
}

/// Tells what the host chose.
const TELLS: Behaviour = |world, callback| {
    match callback {
        Callback::VmStart { context, .. } => {
            world.handle(Call::SetTickPeriod { period_millis: 100 });
            log(world, &format!("started {context}"));
        }
        Callback::Tick { .. } => log(world, "tick"),
        Callback::RequestHeaders { .. } => {
            let bytes =
                world.handle(Call::RandomGet { buffer: Destination { address: 0, size: 4 } });
            let time = world.handle(Call::GetCurrentTime {});
            log(world, &format!("bytes {bytes:?}"));
            log(world, &format!("time {time:?}"));
        }
        _ => {}
    }
    Ok(agree(callback))
};

const FREE: &str = "
name: what a host may choose
filters: [ { filter: guest } ]
workers: 3
steps:
  - advance: 100ms
  - request: {}
  - request: {}
";

#[test]
fn a_seed_chooses_workers_order_clock_and_bytes_and_zero_chooses_as_ever() {
    let told = |seed| failures(FREE, TELLS, seed).1;
    assert!(told(0).iter().any(|line| line.contains("request 1 to worker 0")));
    let kinds = |pick: fn(&str) -> bool| -> usize {
        let of = |seed| told(seed).into_iter().filter(|line| pick(line)).collect::<Vec<_>>();
        (0..16).map(of).collect::<BTreeSet<_>>().len()
    };
    assert!(kinds(|line| line.contains("request 1 to worker")) > 1, "workers");
    assert!(kinds(|line| line.contains("proxy_on_tick")) > 1, "order of ticks");
    assert!(kinds(|line| line.contains("proxy_on_vm_start")) > 1, "order of starts");
    assert_eq!(kinds(|line| line.contains("message=\"bytes")), 16, "bytes");
    assert_eq!(kinds(|line| line.contains("message=\"time")), 16, "clocks");
}

#[test]
fn wrong_seeds_are_refused() {
    for seeds in ["0", "10001"] {
        let error = Scenario::parse(&format!("{FREE}seeds: {seeds}\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("seeds: {seeds} is not between 1 and 10000")), "{error}");
    }
}
