//! What a worker says and does while it is configured, and what it counts.

use std::sync::{Arc, Mutex};

use serde::Deserialize;
use tollgate::{
    ConfigureError, Counter, Filter, OnRequestHeaders, Outcome, Registration, RequestHeaders, Root,
    registration,
};
use tollgate_abi::{Answer, Call, Callback, Function, LogLevel, Reply, Status};

use tollgate_host_native::on_host;

struct Counting(Counter);

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    #[expect(dead_code, reason = "only whether it is there matters")]
    limit: u8,
}

impl Filter for Counting {
    const NAME: &'static str = "counting";
    type Config = Config;
    type Stream = ();

    fn configure(_: Config, root: &Root) -> Result<Self, ConfigureError> {
        Ok(Self(root.counter("requests")))
    }
}

impl OnRequestHeaders for Counting {
    fn on_request_headers(&self, (): &mut (), _: &mut RequestHeaders) -> Outcome {
        self.0.add(0);
        self.0.add(u64::MAX);
        Ok(())
    }
}

/// Configures a worker with `config`, passes two requests, and gives what each callback returned and
/// what the host was asked, without the log lines, and then those.
fn run(
    config: &'static [u8],
    log_level: u32,
    faulty: Option<Function>,
) -> ([u32; 3], Vec<String>, Vec<String>) {
    let (calls, logs) = <(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<String>>>)>::default();
    let (seen, written) = (Arc::clone(&calls), Arc::clone(&logs));
    let host = move |call: &Call| {
        match call {
            Call::Log { level, message } => {
                let line = format!("{level} {}", message.escape_ascii());
                written.lock().unwrap().push(line);
            }
            _ => seen.lock().unwrap().push(call.to_string()),
        }
        if faulty == Some(call.function()) {
            return Reply::refused(Status::Unimplemented, "");
        }
        Reply::Done(match call.function() {
            Function::GetLogLevel => Answer::U32(log_level),
            Function::GetBufferBytes => Answer::Bytes(config.to_vec()),
            Function::DefineMetric => Answer::U32(4),
            _ => Answer::Nothing,
        })
    };
    let returned = on_host(host, move || {
        let Registration { start, call, .. } = registration!(Counting);
        start();
        call(Callback::ContextCreate { context: 1, parent: 0 });
        let configuration_size = config.len();
        let configured = call(Callback::Configure { context: 1, configuration_size });
        let request = |context| {
            call(Callback::ContextCreate { context, parent: 1 });
            call(Callback::RequestHeaders { context, count: 0, end_of_stream: true })
        };
        [configured, request(2), request(3)]
    });
    let (calls, logs) = (calls.lock().unwrap().clone(), logs.lock().unwrap().clone());
    (returned, calls, logs)
}

const DEBUG: u32 = 1;
const INFO: u32 = 2;

#[test]
fn a_request_costs_what_the_filter_asks_and_no_call_more() {
    let (returned, calls, logs) = run(br#"{"limit":1}"#, INFO, None);
    assert_eq!(returned, [1, 0, 0]);
    let count = "proxy_increment_metric(metric=4, offset=9223372036854775807)";
    assert_eq!(
        calls,
        [
            "proxy_get_log_level()",
            "proxy_get_buffer_bytes(buffer=plugin_configuration, start=0, max_size=11)",
            "proxy_define_metric(kind=counter, name=\"requests\")",
            count,
            count,
        ]
    );
    assert_eq!(logs, [""; 0]);
}

#[test]
fn an_invalid_configuration_is_refused_with_its_place_and_no_request_passes() {
    for (config, error) in [
        (&br#"{"limit":256}"#[..], "limit: 256 is not a whole number up to 255"),
        (br#"{"limit":1,"limt":2}"#, "limt: unknown field, expected `limit`"),
        (b"\xff", "line 1 column 1: not UTF-8"),
        (b"", "the configuration is empty; limit: missing"),
    ] {
        let (returned, calls, logs) = run(config, INFO, None);
        assert_eq!(returned, [0, 1, 1]);
        assert_eq!(logs, [format!("error counting: invalid configuration: {error}")]);
        let refusal = "proxy_send_local_response(status_code=503, \
                       details=\"tollgate_not_configured\", body=\"\", headers=[], \
                       grpc_status=4294967295)";
        assert_eq!(calls.iter().filter(|call| *call == refusal).count(), 2, "{calls:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_refused() {
    let (returned, _, logs) = run(b"{}", INFO, Some(Function::GetBufferBytes));
    assert_eq!(returned, [0, 1, 1]);
    let line = "error counting: cannot be configured: \
                the proxy refused proxy_get_buffer_bytes with status unimplemented";
    assert_eq!(logs, [line]);
}

#[test]
fn a_counter_that_the_host_refuses_is_told_of_once_and_changes_nothing() {
    let (returned, calls, logs) = run(br#"{"limit":1}"#, DEBUG, Some(Function::IncrementMetric));
    assert_eq!((returned, calls.len()), ([1, 0, 0], 5));
    let line = "debug counting: counter requests has missed something: \
                the proxy refused proxy_increment_metric with status unimplemented";
    assert_eq!(logs, [line]);

    let (returned, calls, logs) = run(br#"{"limit":1}"#, DEBUG, Some(Function::DefineMetric));
    assert_eq!((returned, calls.len()), ([1, 0, 0], 3));
    let line = "warn counting: counter requests counts nothing: \
                the proxy refused proxy_define_metric with status unimplemented";
    assert_eq!(logs, [line]);
}

#[test]
fn only_lines_that_the_host_would_write_are_sent() {
    let faulty = Some(Function::IncrementMetric);
    for (level, expected) in
        [(u32::from(LogLevel::Trace), 1), (INFO, 0), (u32::from(LogLevel::Critical), 0)]
    {
        assert_eq!(run(br#"{"limit":1}"#, level, faulty).2.len(), expected, "{level}");
    }
    // A host without the function is one of version 0.2.0.
    let (returned, _, logs) = run(b"[]", DEBUG, Some(Function::GetLogLevel));
    assert_eq!((returned, logs.len()), ([0, 1, 1], 1), "{logs:?}");
}
