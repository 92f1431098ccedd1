//! What does not drift: host calls and fuel per request, on the offline host.

use anyhow::{Context, Result, bail};
use serde_json::json;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{Cost, ProxyHost, StartError};
use tollgate_host::scenario::{FilterSource, FilterUse, HostName, Scenario, Step};
use tollgate_host_wasmtime::{Limits, Wasmtime};

use crate::variants::Variant;

/// Requests before the one that counts: tables grow with the first.
const WARMING: usize = 100;

/// Prints what each module costs per request.
///
/// # Errors
///
/// The offline host cannot run one.
pub(crate) fn print(variants: &[Variant], lines: &[(String, String)]) -> Result<()> {
    let engine = Wasmtime::new(Limits::default(), None)?;
    let loader = |filter: &FilterUse| match &filter.source {
        FilterSource::File(file) => {
            let bytes = std::fs::read(file).map_err(|error| StartError::Module(error.into()))?;
            let module = engine.load(&bytes).map_err(|error| StartError::Module(error.into()))?;
            Ok(std::sync::Arc::new(module) as _)
        }
        FilterSource::BuiltIn(name) | FilterSource::Image(name) => {
            Err(StartError::Module(format!("{name} is not a file").into()))
        }
    };
    let host = Offline::new(HostName::Wasmtime, &loader);
    println!("\n| offline, per request | host calls | fuel |");
    println!("| --- | --- | --- |");
    for variant in variants {
        if let Some(scenario) = scenario(variant, lines)? {
            let Cost { host_calls, fuel, .. } =
                cost(&host, &scenario).with_context(|| variant.name.to_owned())?;
            println!("| {} | {host_calls} | {} |", variant.name, fuel.unwrap_or_default());
        }
    }
    Ok(())
}

/// `None` for what is not a module.
fn scenario(variant: &Variant, lines: &[(String, String)]) -> Result<Option<Scenario>> {
    let Some((module, configuration, times)) = &variant.module else { return Ok(None) };
    let mut filter = json!({ "filter": module });
    if let (Some(filter), false) = (filter.as_object_mut(), configuration.is_empty()) {
        filter.insert("config".into(), serde_json::from_str(configuration)?);
    }
    let is_line = |(name, _): &&(String, String)| name != "host";
    let lines: Vec<_> = lines.iter().filter(is_line).collect();
    let step = json!({ "request": { "method": "GET", "path": "/orders", "headers": lines } });
    let scenario = json!({
        "name": variant.name,
        "filters": vec![filter; *times],
        "steps": [step],
    });
    // JSON is YAML.
    Ok(Some(Scenario::parse(&scenario.to_string())?))
}

fn cost(host: &dyn ProxyHost, scenario: &Scenario) -> Result<Cost> {
    let mut proxy = host.start(scenario)?;
    let Some(Step::Request(step)) = scenario.steps.first() else { bail!("no request") };
    for _ in 0..WARMING {
        proxy.exchange(0, step)?;
    }
    proxy.exchange(0, step)?.cost.context("the host does not tell the cost")
}
