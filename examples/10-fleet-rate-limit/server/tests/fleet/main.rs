//! One limit over two Envoys, through the real server; and what becomes of it when the server dies, or the
//! store that it counts in.
//!
//! Needs the command and the module, as `cargo tollgate build ratelimit-global` leaves them, and Envoy; for
//! the store Debian's `redis-server`, without which these tests say so and pass, except with `CI=true`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod processes;
mod service;

use std::thread;
use std::time::{Duration, Instant};

use processes::{Envoy, Redis, free_port, server, upstream};

/// What `limits.yaml` admits a minute.
const LIMIT: usize = 20;

/// Of the requests of each proxy, how many passed and how many were refused.
type Loads = [(usize, usize); 2];

/// Both at once, each with so many requests of a user; and what happens meanwhile.
fn load(envoys: &[Envoy; 2], user: &str, requests: usize, meanwhile: impl FnOnce()) -> Loads {
    let loads = thread::scope(|scope| {
        let loads = envoys.each_ref().map(|envoy| scope.spawn(|| envoy.load(user, requests)));
        meanwhile();
        loads.map(|load| load.join().unwrap())
    });
    assert_eq!(loads.map(|(passed, refused)| passed + refused), [requests; 2], "{loads:?}");
    loads
}

fn passed(loads: &Loads) -> usize {
    loads.iter().map(|(passed, _)| passed).sum()
}

fn unanswered(envoys: &[Envoy; 2]) -> [u64; 2] {
    envoys.each_ref().map(Envoy::unanswered)
}

/// Each with more than the limit: together they admit exactly the limit.
fn share_one_limit(envoys: &[Envoy; 2], user: &str) {
    let before = unanswered(envoys);
    let loads = load(envoys, user, 2 * LIMIT, || {});
    assert_eq!(passed(&loads), LIMIT, "{loads:?}");
    assert_eq!(unanswered(envoys), before);
}

/// What is not decided for both, each proxy decides with half of the limit, and counts.
fn go_on_alone(envoys: &[Envoy; 2], user: &str, kill: impl FnOnce()) {
    let before = unanswered(envoys);
    let loads = load(envoys, user, 4 * LIMIT, || {
        thread::sleep(Duration::from_millis(50));
        kill();
    });
    let after = unanswered(envoys);
    assert!(after.iter().zip(before).all(|(after, before)| *after > before), "{after:?}");
    // What was admitted for both, two halves, and what half a limit earns in the meantime.
    assert!((LIMIT..=2 * LIMIT + 8).contains(&passed(&loads)), "{loads:?}");
}

/// Until both are answered again.
fn wait(envoys: &[Envoy; 2]) {
    let started = Instant::now();
    while envoys.iter().any(|envoy| {
        let before = envoy.unanswered();
        envoy.load("probe", 1);
        envoy.unanswered() > before
    }) {
        assert!(started.elapsed() < Duration::from_secs(30), "nobody is asked again");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn two_envoys_share_one_limit_and_outlive_the_server() {
    let (limits, upstream) = (free_port(), upstream());
    let running = server(limits, None);
    let envoys = ["a", "b"].map(|name| Envoy::start(name, limits, upstream));
    share_one_limit(&envoys, "alice");
    go_on_alone(&envoys, "bob", || drop(running));
    let _running = server(limits, None);
    wait(&envoys);
    share_one_limit(&envoys, "carol");
    // What was in its memory is forgotten.
    share_one_limit(&envoys, "alice");
}

#[test]
fn two_envoys_share_one_limit_in_a_store_and_outlive_it() {
    let Some(mut store) = Redis::start("redis") else { return };
    let (ports, upstream) = ([free_port(), free_port()], upstream());
    // A server for each.
    let _running = ports.map(|port| server(port, Some(&store)));
    let envoys =
        [("c", ports[0]), ("d", ports[1])].map(|(name, port)| Envoy::start(name, port, upstream));
    share_one_limit(&envoys, "alice");
    go_on_alone(&envoys, "bob", || store.kill());
    store.run();
    wait(&envoys);
    share_one_limit(&envoys, "carol");
    // What was in the store is not forgotten.
    assert_eq!(passed(&load(&envoys, "alice", 1, || {})), 0);
}
