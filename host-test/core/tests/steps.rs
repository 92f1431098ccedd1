//! Steps that are no requests: the start, time that passes, another configuration.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Behaviour, agree, check, log, play, status};
use tollgate_abi::{Answer, Call, Callback, Destination, MetricType, Reply};
use tollgate_host::engine::Trap;
use tollgate_host::report::Verdict;
use tollgate_host::scenario::Scenario;
use tollgate_host::world::World;

/// Logs that it is configured and that it ticks, counts ticks, and keeps what it had last.
#[expect(clippy::unnecessary_wraps, reason = "a guest may trap")]
fn clockwork(world: &mut World, callback: &Callback) -> Result<u32, Trap> {
    let last = match callback {
        Callback::Configure { .. } => {
            world.handle(Call::SetTickPeriod { period_millis: 100 });
            "configured"
        }
        Callback::Tick { .. } => {
            let (kind, name) = (MetricType::Counter, b"ticks".to_vec());
            let defined = world.handle(Call::DefineMetric { kind, name });
            let Reply::Done(Answer::U32(metric)) = defined else { panic!("{defined}") };
            world.handle(Call::IncrementMetric { metric, offset: 1 });
            "ticked"
        }
        _ => return Ok(agree(callback)),
    };
    log(world, last);
    let (key, value) = (b"last".to_vec(), last.as_bytes().to_vec());
    world.handle(Call::SetSharedData { key, value, cas: 0 });
    Ok(agree(callback))
}

const CLOCKWORK: &[(&str, Behaviour)] = &[("clockwork", clockwork)];

const HEAD: &str = "name: x\nfilters: [ { filter: clockwork } ]\n";

/// What is wrong with a scenario, each with its place.
fn said(guests: &'static [(&'static str, Behaviour)], text: &str) -> Vec<String> {
    match play(guests, text) {
        Verdict::Failed { failures } => {
            failures.iter().map(|failure| format!("{}: {}", failure.place, failure.what)).collect()
        }
        Verdict::Passed | Verdict::Skipped { .. } => Vec::new(),
    }
}

#[test]
fn the_start_time_and_a_configuration_have_expectations() {
    // Three VMs are configured: one to try it, the main thread's and the worker's. Two of them tick.
    check(
        CLOCKWORK,
        &format!(
            "{HEAD}
start:
  expect:
    logs: [ configured ]
    no_logs: [ ticked ]
    shared_data: {{ last: configured }}
    budget: {{ host_calls: 9 }}
steps:
  - advance: 100ms
    expect:
      logs: [ {{ level: info, contains: ticked }} ]
      no_logs: [ configured ]
      metrics: {{ ticks: 2, tocks: null }}
      shared_data: {{ last: ticked }}
      queues: {{ q: null }}
      budget: {{ host_calls: 8 }}
  - configure: {{ filter: clockwork, config: other }}
    expect: {{ logs: [ configured ], no_logs: [ ticked ], metrics: {{ ticks: 2 }} }}
"
        ),
    );
    let said = said(
        CLOCKWORK,
        &format!(
            "{HEAD}
start: {{ expect: {{ logs: [ ticked ], budget: {{ host_calls: 8 }} }} }}
steps:
  - advance: 100ms
    expect: {{ no_logs: [ ick ], metrics: {{ ticks: null, times: 0 }}, budget: {{ host_calls: 7 }} }}
  - configure: {{ filter: clockwork, config: other }}
    expect: {{ logs: [ ticked ], shared_data: {{ last: ticked }} }}
"
        ),
    );
    assert_eq!(
        said,
        [
            "start: budget: 9 host calls, at most 8 are allowed",
            "start: log: expected something with \"ticked\", got info: configured, \
             info: configured, info: configured",
            "step 1, advance 100ms: budget: 8 host calls, at most 7 are allowed",
            "step 1, advance 100ms: metric ticks: expected no such metric, got 2",
            "step 1, advance 100ms: metric times: expected 0, but no counter or gauge is named so",
            "step 1, advance 100ms: log: something with \"ick\" is not expected, got info: ticked",
            "step 1, advance 100ms: log: something with \"ick\" is not expected, got info: ticked",
            "step 2, configure filter 0: shared data last: expected \"ticked\", got \"configured\"",
            "step 2, configure filter 0: log: expected something with \"ticked\", got \
             info: configured, info: configured, info: configured",
        ]
    );
}

#[test]
fn a_step_without_a_request_expects_nothing_of_one() {
    let refuse = |rest: &str, expected: &str| {
        let error = Scenario::parse(&format!("{HEAD}{rest}\n")).unwrap_err().to_string();
        assert!(error.contains(expected), "{rest}\nsays: {error}\nnot: {expected}");
    };
    let belongs = "expect: `response`, `refused` and `upstream` belong to a request";
    refuse("steps: [ { advance: 1s, expect: { upstream: none } } ]", belongs);
    let configure = "configure: { filter: clockwork }";
    refuse(&format!("steps: [ {{ {configure}, expect: {{ response: none }} }} ]"), belongs);
    let steps = "steps: [ { advance: 1s } ]";
    refuse(&format!("start: {{ expect: {{ response: none }} }}\n{steps}"), belongs);
    let other = "start: { expect: { shared_data: [ { vm_id: x, key: a } ] } }";
    refuse(&format!("{other}\n{steps}"), "start.expect.shared_data: `a`: no filter has the vm_id");
    let refused = "start: { expect: {} }\nrefused: no";
    refuse(refused, "start.expect: a proxy that refuses to start leaves nothing behind");
}

#[test]
fn host_calls_fail_at_the_start_while_time_passes_and_in_requests_together() {
    let guests: &'static [(&'static str, Behaviour)] = &[("asking", |world, callback| {
        let asks = matches!(
            callback,
            Callback::Configure { .. } | Callback::Tick { .. } | Callback::RequestHeaders { .. }
        );
        if matches!(callback, Callback::Configure { .. }) {
            world.handle(Call::SetTickPeriod { period_millis: 100 });
        }
        if asks {
            let random =
                world.handle(Call::RandomGet { buffer: Destination { address: 0, size: 1 } });
            log(world, &format!("{}: {}", callback.kind(), status(&random)));
        }
        Ok(agree(callback))
    })];
    check(
        guests,
        "
name: x
filters: [ { filter: asking } ]
only: { on: [wasmtime], reason: faults }
start:
  faults: [ { call: random_get, nth: 3, status: 29 } ]
  expect: { logs: [ 'proxy_on_configure: 29', 'proxy_on_configure: ok' ] }
steps:
  - advance: 100ms
    faults: [ { call: random_get, nth: 2, status: 29 } ]
    expect: { logs: [ 'proxy_on_tick: ok', 'proxy_on_tick: 29' ] }
  - configure: { filter: asking, config: other }
    faults: [ { call: random_get, status: 29 } ]
    expect: { logs: [ 'proxy_on_configure: 29' ], no_logs: [ 'ok' ] }
  - together:
      - request: {}
        expect: { logs: [ 'proxy_on_request_headers: ok', 'proxy_on_request_headers: 29' ] }
      - request: {}
        faults: [ { call: random_get, nth: 1, status: 29 } ]
  - { request: {}, expect: { no_logs: [ '29' ] } }
",
    );
    let said = said(
        guests,
        "
name: x
filters: [ { filter: asking } ]
only: { on: [wasmtime], reason: faults }
start: { faults: [ { call: proxy_done, status: 1 } ] }
steps:
  - { request: {}, faults: [ { call: random_get, nth: 7, status: 29 } ] }
  - { advance: 99ms, faults: [ { call: random_get, status: 29 } ] }
  - { request: {}, repeat: 2, faults: [ { call: random_get, status: 29 }, { call: random_get, nth: 1, status: 8 } ] }
",
    );
    let unmet = |place, fault| {
        format!("{place}: faults: {fault}: no guest made such a call, or another fault met it")
    };
    assert_eq!(
        said,
        [
            unmet("start", "every call of proxy_done"),
            unmet("step 1, GET /", "call 7 of random_get"),
            unmet("step 2, advance 99ms", "every call of random_get"),
            unmet("step 3, GET /", "call 1 of random_get"),
        ]
    );
}
