//! The scenarios of the filters, with each filter as a mesh has it: `tollgate render` writes it for Istio, the model
//! of istiod puts it into a chain, and a real Envoy gets it over ECDS, restricted to what it needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use tollgate_envoyfilter::istiod::{self, Context, Fetched};
use tollgate_host::proxy::StartError;
use tollgate_host::report::Verdict;
use tollgate_host::run::run;
use tollgate_host::scenario::{FilterSource, FilterUse, Scenario, Traffic};
use tollgate_host_envoy::{Delivery, EnvoyHost};

use super::{DIGEST, render};
use crate::common::envoy::{connection_manager, fetched, http_filter};
use crate::common::{modules, root};

/// Filters come into the chain as the mesh brings them.
#[derive(Debug)]
struct OverEcds;

impl Delivery for OverEcds {
    fn chain(
        &self,
        scenario: &Scenario,
        modules: &[PathBuf],
        folder: &Path,
    ) -> Result<Vec<Value>, StartError> {
        let filters = scenario.filters.iter().enumerate();
        let resources = filters.map(|(place, filter)| resource(place, filter, folder));
        let resources = resources.collect::<Result<Vec<_>, _>>()?;
        let mut sidecar = sidecar(scenario.traffic);
        let extensions =
            istiod::apply(&mut sidecar, Context::SidecarInbound, &resources).map_err(host)?;
        let converted = extensions.iter().map(|extension| {
            let place = (0..modules.len()).find(|place| extension["name"] == named(*place));
            istiod::converted(extension, Fetched::File(&modules[place.unwrap()]))
        });
        let converted: Vec<Value> = converted.collect();
        assert_eq!(converted.len(), modules.len(), "{extensions:?}");
        for (name, resource) in istiod::by_files(&mut sidecar, &converted, folder) {
            fs::write(folder.join(name), resource.to_string()).map_err(host)?;
        }
        let chain = match scenario.traffic {
            Traffic::Http => "/0/typed_config/http_filters",
            Traffic::Tcp => "",
        };
        let chain = format!("/static_resources/listeners/0/filter_chains/0/filters{chain}");
        let mut chain = sidecar.pointer(&chain).and_then(Value::as_array).unwrap().clone();
        // The scenario's own Envoy has a last one.
        chain.pop();
        let waiting = chain.iter().filter(|entry| entry.get("config_discovery").is_some());
        assert_eq!(waiting.count(), modules.len(), "{chain:?}");
        Ok(chain)
    }
}

fn host(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::Host(Box::new(error))
}

/// The name of the filter at a place, as the resource has it.
fn named(place: usize) -> String {
    format!("shop/filter-{place}")
}

/// What is rendered of the filter at a place; what it refuses is told in its words.
fn resource(place: usize, filter: &FilterUse, folder: &Path) -> Result<Value, StartError> {
    let source = match &filter.source {
        FilterSource::BuiltIn(name) | FilterSource::Image(name) => json!(name),
        FilterSource::File(file) => json!(fs::canonicalize(file).map_err(host)?),
    };
    assert!(filter.vm_id.is_empty() && filter.vm_config.is_empty(), "a policy has neither");
    let text = String::from_utf8(filter.config.clone()).map_err(host)?;
    let object = serde_json::from_str(&text).ok().filter(Value::is_object);
    let policy = json!({
        "filter": source,
        "name": format!("filter-{place}"),
        "namespace": "shop",
        "root_id": filter.root_id,
        "environment": filter.environment,
        "module": { "image": { "reference": format!("oci://registry.example.com/a/b@{DIGEST}") } },
        "config": if text.is_empty() { Value::Null } else { object.unwrap_or(json!(text)) },
        "apply": { "order": place + 1 },
    });
    let file = folder.join("policy.yaml");
    fs::write(&file, policy.to_string()).map_err(host)?;
    let output = render(&file, "istio");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match (output.status.code(), said.split_once(":\n")) {
        (Some(0), _) => {}
        (Some(1), Some((_, words))) => return Err(StartError::Refused { words: words.into() }),
        _ => return Err(StartError::Host(said.into())),
    }
    let written = String::from_utf8(output.stdout).map_err(host)?;
    let documents = tollgate_tree::parse(&written).map_err(host)?;
    Ok(documents[0].json())
}

/// A sidecar with nothing in its chain but what ends it.
fn sidecar(traffic: Traffic) -> Value {
    let last = match traffic {
        Traffic::Http => connection_manager(&json!([http_filter("router", "Router")]), &json!([])),
        Traffic::Tcp => json!({ "name": "envoy.filters.network.tcp_proxy" }),
    };
    json!({ "static_resources": { "listeners": [
        { "name": "virtualInbound", "filter_chains": [{ "filters": [last] }] },
    ] } })
}

/// Plays scenarios side by side, of which none may fail; gives how many do not run on Envoy.
fn play(envoy: PathBuf, files: &[PathBuf]) -> usize {
    let host = EnvoyHost::new(envoy, modules().to_owned()).delivering(Box::new(OverEcds));
    let (next, passed, skipped) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scenario = Scenario::read(file).unwrap_or_else(|error| panic!("{error}"));
            match run(&scenario, &host) {
                Ok(Verdict::Passed) => passed.fetch_add(1, Ordering::Relaxed),
                Ok(Verdict::Skipped { .. }) => skipped.fetch_add(1, Ordering::Relaxed),
                other => {
                    failed.lock().unwrap().push(format!("{}: {other:#?}", file.display()));
                    0
                }
            };
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    let (passed, skipped) = (passed.into_inner(), skipped.into_inner());
    println!("{passed} passed, {skipped} skipped, {} failed", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(passed + skipped, files.len());
    skipped
}

/// A few of each filter: what it is for, and what it may call for that.
#[test]
fn filters_do_in_a_mesh_what_their_scenarios_say() {
    let Some(envoy) = fetched() else { return };
    let chosen = [
        (
            "canary/tests/scenarios",
            "share list-number mint override-trusted filter-state refused-share",
        ),
        ("metrics/tests/chained/scenarios", "local-reply-of-another-filter"),
        ("metrics/tests/scenarios", "istio-inbound-mtls otel objective-threshold reconfigured"),
        ("metrics/tests/tcp/scenarios", "istio-tcp"),
        ("mtls/tests/connections/scenarios", "tcp-callers tcp-others"),
        (
            "mtls/tests/scenarios",
            "certificate-valid certificate-none namespaces forward xfcc-known-proxy",
        ),
        ("ratelimit/tests/global/scenarios", "admitted over-limit local-fallback"),
        (
            "ratelimit/tests/scenarios",
            "burst-and-wait key-peer two-workers two-rules refused-no-rules",
        ),
    ];
    let files = chosen.iter().flat_map(|(folder, names)| {
        let file = move |name| root().join(format!("filters/{folder}/{name}.yaml"));
        names.split(' ').map(file)
    });
    assert_eq!(play(envoy, &files.collect::<Vec<_>>()), 0);
}

/// All of them: `cargo test --workspace --test render all_scenarios -- --ignored --nocapture`.
#[test]
#[ignore = "minutes"]
fn filters_do_in_a_mesh_what_all_scenarios_say() {
    let Some(envoy) = fetched() else { return };
    let mut files = Vec::new();
    collect(&root().join("filters"), &mut files);
    let skipped = play(envoy, &files);
    assert!(files.len() > 350 && skipped < 30, "{skipped} of {}", files.len());
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.parent().is_some_and(|folder| folder.ends_with("scenarios")) {
            files.push(path);
        }
    }
}
