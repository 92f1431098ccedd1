//! Modules written by hand, and what comes of a scenario on them.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::sync::Arc;

use tollgate_host::account::Account;
use tollgate_host::engine::Module;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{Exchange, Outcome, ProxyHost, StartError};
use tollgate_host::report::Verdict;
use tollgate_host::run::run;
use tollgate_host::scenario::{FilterUse, HostName, Scenario, Step};
use tollgate_host_wasmtime::{Limits, Wasmtime};

pub const ABI: &str = r#"(func (export "proxy_abi_version_0_2_1"))"#;
pub const MEMORY: &str = r#"(memory (export "memory") 1)
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)"#;

/// Host functions by the names that guests call them here.
pub const IMPORTS: &str = r#"
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_shared_data" (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
    (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_http_call" (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_call" (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
    (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_done" (func $done (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;

pub fn engine(limits: Limits) -> Wasmtime {
    Wasmtime::new(limits, None).unwrap()
}

/// A module with all imports, an allocator and these fields.
pub fn module(fields: &str) -> Vec<u8> {
    let module = format!("(module {IMPORTS} {ABI} {MEMORY} {fields})");
    wat::parse_str(&module).unwrap_or_else(|error| panic!("{error}\n{module}"))
}

/// A function of a guest that is a callback.
pub fn callback(name: &str, params: usize, has_result: bool, body: &str) -> String {
    let params = "i32 ".repeat(params);
    let (result, value) = if has_result { ("(result i32)", "(i32.const 0)") } else { ("", "") };
    format!(r#"(func (export "{name}") (param {params}) {result} {body} {value})"#)
}

pub fn on_request_headers(body: &str) -> String {
    callback("proxy_on_request_headers", 3, true, body)
}

/// What came of a step.
pub struct Sent {
    /// What came of the request, or why the host gave up.
    pub exchange: Result<Exchange, String>,
    pub account: Account,
    pub logs: Vec<String>,
}

impl Sent {
    /// What the client got, and all that is told of it.
    pub fn told(&self) -> String {
        match &self.exchange {
            Ok(exchange) => match &exchange.outcome {
                Outcome::Response(response) => format!("{}{}", response.status, self.account),
                outcome => format!("{outcome:?}{}", self.account),
            },
            Err(failure) => format!("{failure}{}", self.account),
        }
    }
}

fn play<T>(
    limits: Limits,
    bytes: &[u8],
    text: &str,
    play: impl FnOnce(&Scenario, &Offline<'_>) -> T,
) -> T {
    let engine = engine(limits);
    let loader = |_: &FilterUse| -> Result<Arc<dyn Module>, StartError> {
        let module = engine.load(bytes).map_err(|error| StartError::Module(error.into()))?;
        Ok(Arc::new(module))
    };
    let host = Offline::new(HostName::Wasmtime, &loader).with_limits(limits);
    play(&Scenario::parse(text).expect(text), &host)
}

/// Plays a scenario whose filter is this module.
pub fn verdict(limits: Limits, module: &[u8], steps: &str) -> Verdict {
    let text = format!("name: x\nfilters: [ {{ filter: x }} ]\n{steps}");
    play(limits, module, &text, |scenario, host| run(scenario, host).unwrap())
}

/// The same, for a filter that may do no more than this.
pub fn verdict_allowing(allowed: &[&str], module: &[u8], steps: &str) -> Verdict {
    let allowed = allowed.join(", ");
    let filter = format!("{{ filter: x, allowed_capabilities: [{allowed}] }}");
    let text = format!("name: x\nfilters: [ {filter} ]\n{steps}");
    play(Limits::default(), module, &text, |scenario, host| run(scenario, host).unwrap())
}

/// Sends one request with a body and trailers through a proxy with this module.
pub fn send(limits: Limits, module: &[u8]) -> Result<Sent, StartError> {
    let text = "name: x\nfilters: [ { filter: x } ]\nclusters: [authz]\n\
                steps: [ { request: { method: POST, path: /a?b, body: hello, trailers: [ [a, b] ] } } ]";
    play(limits, module, text, |scenario, host| {
        let Some(Step::Request(step)) = scenario.steps.first() else { panic!("{text}") };
        let mut proxy = host.start(scenario)?;
        let exchange = proxy.exchange(0, step).map_err(|failure| failure.to_string());
        let logs = proxy.observe(&|_| true).unwrap().logs;
        let logs = logs.iter().map(ToString::to_string).collect();
        Ok(Sent { exchange, account: proxy.take_account(), logs })
    })
}
