//! A listener for each policy, and what the filters behind it say.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::envoy;
use crate::native;
use crate::peers::Peers;
use crate::policy::Drawn;

/// How long the last line of the log may be under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the filter has decided.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    /// The place of the policy.
    pub(crate) policy: usize,
    /// Whether the request may pass.
    pub(crate) allows: bool,
    /// Why.
    pub(crate) reason: String,
}

/// Ports that are free now, and so most often in a moment.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let bound = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let bound: Vec<TcpListener> = bound.collect();
    bound.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// A bootstrap with a listener for each policy.
pub(crate) fn bootstrap(peers: &Peers, module: &Path, drawn: &[Drawn]) -> Value {
    let mut bootstrap = envoy::bootstrap("none", &json!([]));
    let listeners = drawn.iter().enumerate();
    let listeners = listeners.map(|(place, drawn)| listener(peers, module, place, drawn));
    bootstrap["static_resources"]["listeners"] = listeners.collect();
    bootstrap
}

fn listener(peers: &Peers, module: &Path, place: usize, drawn: &Drawn) -> Value {
    let route = json!([{
        "match": { "prefix": "" },
        "direct_response": { "status": 200 },
        "response_headers_to_add": [{ "header": { "key": "x-native", "value": native::told() } }],
    }]);
    let own = [wasm(place, module, &drawn.policy), envoy::http_filter("router", "Router")];
    let filters: Vec<Value> = native::filters(&drawn.policy).into_iter().chain(own).collect();
    let inspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    json!({
        "name": format!("policy-{place}"),
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": drawn.port } },
        "listener_filters": [{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": { "@type": format!("type.googleapis.com/{inspector}") },
        }],
        "filter_chains": [{
            "transport_socket": peers.socket(),
            "filters": [envoy::connection_manager(&filters.into(), &route)],
        }],
    })
}

pub(crate) fn wasm(place: usize, module: &Path, policy: &Value) -> Value {
    json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": format!("policy-{place}"),
                "failure_policy": "FAIL_CLOSED",
                "vm_config": {
                    "vm_id": "mtls",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": module } },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": policy.to_string(),
                },
            },
        },
    })
}

/// So many decisions as they stand in Envoy's log, in order.
pub(crate) fn decisions(log: &Path, count: usize) -> Vec<Decision> {
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap();
        let decisions: Vec<Decision> = text.lines().filter_map(decision).collect();
        if decisions.len() >= count || begin.elapsed() > PATIENCE {
            return decisions;
        }
        sleep(Duration::from_millis(50));
    }
}

/// A line such as `… wasm log policy-3: mtls: deny: otherwise, rule r0, clause paths`.
fn decision(line: &str) -> Option<Decision> {
    let (_, said) = line.split_once("wasm log policy-")?;
    let (policy, said) = said.split_once(": ")?;
    let said = said.strip_prefix("mtls: ").unwrap_or(said);
    let (outcome, why) = said.split_once(": ")?;
    let allows = match outcome {
        "allow" => true,
        "deny" => false,
        _ => return None,
    };
    let reason = why.split(',').next()?.trim().to_owned();
    Some(Decision { policy: policy.split(' ').next()?.parse().ok()?, allows, reason })
}
