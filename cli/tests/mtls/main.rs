//! The filter `mtls` beside Envoy's own RBAC filter: policies and requests drawn at random, both filters in shadow
//! on one Envoy, over real TLS. Where they decide otherwise, the reason has to be one that `filters/mtls/DIFFERENCES.md`
//! tells of.
//!
//! `TOLLGATE_POLICIES=100` draws so many policies, each with fifty requests. Needs an Envoy, as `cargo ci` fetches it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod difference;
mod listener;
mod native;
mod peers;
mod policy;
mod request;
mod resumption;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proptest::test_runner::{RngAlgorithm, TestRng};

use common::{envoy, modules};
use difference::Difference;
use listener::Decision;
use peers::Peers;
use policy::Drawn;
use request::{Client, Request};

/// Policies among which every difference is met.
const WHOLE: usize = 100;

/// Policies that are drawn unless the environment says otherwise.
const POLICIES: usize = 10;

/// Requests that are sent under each.
const REQUESTS: usize = 50;

fn module() -> PathBuf {
    modules().join("mtls.wasm")
}

/// What both filters said of a request.
struct Exchange {
    policy: usize,
    request: Request,
    native: bool,
}

#[test]
fn the_filter_decides_as_envoys_own_but_for_what_is_told() {
    let Some(binary) = envoy::fetched() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mtls-beside-rbac");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let policies = std::env::var("TOLLGATE_POLICIES");
    let policies = policies.map_or(POLICIES, |text| text.parse().expect("a number of policies"));

    let peers = Peers::issue();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let ports = listener::free_ports(policies);
    let drawn: Vec<Drawn> = ports.iter().map(|&port| Drawn::new(&mut random, port)).collect();
    let bootstrap = listener::bootstrap(&peers, &module(), &drawn);
    let options = ["--component-log-level", "wasm:debug"];
    let process = envoy::Envoy::start_with(1, &binary, &folder, &bootstrap, &options);

    let mut exchanges = Vec::new();
    let mut refused = 0;
    for (policy, drawn) in drawn.iter().enumerate() {
        let mut client = Client::new(&peers, drawn.port);
        for _ in 0..REQUESTS {
            let request = Request::new(&mut random);
            match client.send(&request) {
                Some(native) => exchanges.push(Exchange { policy, request, native }),
                // Envoy itself takes it for no request.
                None => refused += 1,
            }
        }
    }
    let decisions = listener::decisions(&folder.join("log"), exchanges.len());
    drop(process);
    let differences = compare(&drawn, &exchanges, &decisions);
    let allowed = decisions.iter().filter(|decision| decision.allows).count();
    println!(
        "{policies} policies, {} requests decided, {allowed} allowed, {refused} refused by Envoy; {differences:?}",
        exchanges.len()
    );
    // The comparison is worth nothing unless both outcomes are frequent, and in the long run all that is told
    // happens.
    assert!((exchanges.len() / 10..exchanges.len() * 9 / 10).contains(&allowed), "{allowed}");
    if policies >= WHOLE {
        let met: BTreeSet<Difference> = differences.into_keys().collect();
        assert_eq!(met, BTreeSet::from(Difference::ALL), "what is told and never happens");
    }
}

/// How often each difference was met.
fn compare(
    drawn: &[Drawn],
    exchanges: &[Exchange],
    decisions: &[Decision],
) -> BTreeMap<Difference, usize> {
    assert_eq!(exchanges.len(), decisions.len(), "a decision for each request");
    let mut differences = BTreeMap::new();
    for (Exchange { policy, request, native }, decision) in exchanges.iter().zip(decisions) {
        assert_eq!(decision.policy, *policy, "decisions are in the order of requests");
        if decision.allows == *native {
            continue;
        }
        let policy = &drawn[*policy].policy;
        let known = Difference::ALL.into_iter();
        let known = known.filter(|difference| difference.explains(policy, request, decision));
        let Some(difference) = known.into_iter().next() else {
            panic!("native allows: {native}, ours: {decision:?}\n{request:?}\n{policy:#}");
        };
        *differences.entry(difference).or_default() += 1;
    }
    differences
}
