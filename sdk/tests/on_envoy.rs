//! Labels on a real Envoy: what it is told by [`StatsTags`] makes labels of what the filter counts, and
//! no value that a client sends becomes anything else than a value.
//!
//! Needs an Envoy, as `cargo ci` fetches it; without one the test says so and passes, except with
//! `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "metered/src/labels.rs"]
mod labels;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use siphasher::sip::SipHasher13;
use tempfile::TempDir;
use tollgate::metrics::{Labels, MAX_VALUE_BYTES, StatsTags};
use tollgate_host_envoy::{Supervised, find_envoy};
// Host functions, for what is linked here and never runs.
use tollgate_host_native as _;

use labels::ByUser;

/// How long Envoy may take to start and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// As many series as the filter's counters and gauges may have.
const BUDGET: usize = 20;

const TARGET: &str = "wasm32-wasip1";

#[test]
fn what_clients_send_stays_the_value_of_a_label() {
    let Some(envoy) = envoy() else { return };
    let long = "x".repeat(3_000);
    let hostile: [&[u8]; 16] = [
        b"alice",
        b"/orders.v1",
        b"10.0.0.1:80",
        b"a,b\"c\\d{e}",
        b"a;.;http_method=.=PUT",
        b"user=.=root",
        b";.;tollgate_metered_requests",
        b";.;",
        b"=.=",
        b"line\nbreak\r\0\x1b",
        b"\xff\xfe",
        "\u{e9}\u{4e2d}".as_bytes(),
        b"%3B",
        b"..a..b.",
        b" ",
        long.as_bytes(),
    ];
    let proxy = Proxy::start(&envoy);
    for user in hostile {
        proxy.get(user);
    }
    let text = proxy.statistics();
    for metric in ["tollgate_metered_requests", "tollgate_metered_seen"] {
        let series = series(&text, metric);
        let mut found = BTreeSet::new();
        for (labels, value) in &series {
            assert_eq!(*value, 1, "{metric} {labels:?}");
            assert_eq!(labels.keys().collect::<Vec<_>>(), ["http_method", "user"], "{labels:?}");
            assert_eq!(labels["http_method"], "GET");
            found.insert(labels["user"].clone());
        }
        let expected: BTreeSet<String> = hostile.iter().map(|user| shown(user)).collect();
        assert_eq!((found, series.len()), (expected, hostile.len()), "{metric}");
    }
    // No client has made a metric of its own.
    let ours: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter(|line| !line.starts_with("envoy_"))
        .collect();
    let expected = [
        "tollgate_metered_requests counter",
        "tollgate_metered_requests_folded counter",
        "tollgate_metered_seen gauge",
        "tollgate_metered_seen_folded counter",
        "tollgate_metered_sizes histogram",
        "tollgate_metered_sizes_folded counter",
    ];
    assert_eq!(ours, expected.into(), "{text}");

    for user in 0..u8::MAX {
        proxy.get(&[b'u', b'0' + user / 100, b'0' + user / 10 % 10, b'0' + user % 10]);
    }
    let text = proxy.statistics();
    let beyond = u64::from(u8::MAX) - (BUDGET - hostile.len()) as u64;
    let series = series(&text, "tollgate_metered_requests");
    assert_eq!(series.len(), BUDGET + 1, "the budget and what is beyond it");
    let is_other = |labels: &Series| labels.values().all(|value| value == "other");
    let other: Vec<u64> =
        series.iter().filter(|(labels, _)| is_other(labels)).map(|(_, value)| *value).collect();
    assert_eq!(other, [beyond]);
    let folded = self::series(&text, "tollgate_metered_requests_folded");
    assert_eq!(folded, [(Series::new(), beyond)]);
    let sizes = self::series(&text, "tollgate_metered_sizes_count");
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    let recorded: u64 = sizes.iter().map(|(_, count)| count).sum();
    assert_eq!(recorded, u64::from(u8::MAX) + hostile.len() as u64);
}

/// A series' labels.
type Series = BTreeMap<String, String>;

/// How a value is shown.
fn shown(user: &[u8]) -> String {
    if user.len() > MAX_VALUE_BYTES {
        let hash = SipHasher13::new_with_key(b"tollgate-longest").hash(user);
        return format!("{}%~{hash:016x}", "x".repeat(MAX_VALUE_BYTES - 18));
    }
    if let Some(rest) = user.strip_suffix(b".") {
        return shown(rest) + "%2E";
    }
    let mut text = String::new();
    for chunk in user.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '%' | ';' | '=' | '\0'..'\x20' => write!(text, "%{:02X}", u32::from(c)).unwrap(),
                _ => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "%{byte:02X}").unwrap();
        }
    }
    text
}

/// The series of a metric in the format of Prometheus, read strictly.
fn series(text: &str, metric: &str) -> Vec<(Series, u64)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{'));
    lines
        .map(|line| {
            let (mut labels, mut rest) = (Series::new(), line);
            while !rest.starts_with('}') {
                let (name, after) = rest.split_once("=\"").expect(line);
                let (mut value, mut characters) = (String::new(), after.chars());
                loop {
                    match characters.next().expect(line) {
                        '"' => break,
                        '\\' => match characters.next().expect(line) {
                            'n' => value.push('\n'),
                            other => value.push(other),
                        },
                        other => value.push(other),
                    }
                }
                assert_eq!(labels.insert(name.to_owned(), value), None, "{line}");
                rest = characters.as_str();
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
            (labels, rest.trim_start_matches("} ").parse().expect(line))
        })
        .collect()
}

/// An Envoy with the filter, which answers every request itself.
struct Proxy {
    // Dropped first, and so killed before its folder is gone.
    _process: Supervised,
    admin: SocketAddr,
    listener: SocketAddr,
    _folder: TempDir,
}

impl Proxy {
    fn start(envoy: &Path) -> Self {
        let folder = TempDir::with_prefix("tollgate-sdk-").unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("envoy.json"), bootstrap(&module()).to_string()).unwrap();
        let mut command = vec![envoy.into(), "--config-path".into(), file("envoy.json").into()];
        command.extend(["--admin-address-path".into(), file("admin").into()]);
        let rest = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"];
        command.extend(rest.map(Into::into));
        let mut process = Supervised::start(&command, folder.path(), "log").unwrap();
        let begin = Instant::now();
        let (admin, listener) = loop {
            let said = || fs::read_to_string(file("log")).unwrap_or_default();
            assert!(!process.has_ended().unwrap(), "Envoy ended; it said:\n{}", said());
            assert!(begin.elapsed() < PATIENCE, "Envoy does not serve; it said:\n{}", said());
            if let Some(addresses) = addresses(&file("admin")) {
                break addresses;
            }
            sleep(Duration::from_millis(20));
        };
        Self { _process: process, admin, listener, _folder: folder }
    }

    fn get(&self, user: &[u8]) {
        let mut digits = String::new();
        for byte in user {
            write!(digits, "{byte:02x}").unwrap();
        }
        let answer = ask(self.listener, "/", &format!("x-user: {digits}\r\n")).unwrap();
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    }

    /// What Prometheus would get, once all that was recorded is in it: Envoy merges histograms from
    /// time to time.
    fn statistics(&self) -> String {
        let begin = Instant::now();
        loop {
            let text = ask(self.admin, "/stats/prometheus", "").unwrap();
            let count = |metric| series(&text, metric).iter().map(|(_, count)| count).sum::<u64>();
            if count("tollgate_metered_sizes_count") == count("tollgate_metered_requests") {
                return text;
            }
            assert!(begin.elapsed() < PATIENCE, "histograms are not merged:\n{text}");
            sleep(Duration::from_millis(50));
        }
    }
}

/// Where the admin interface and the listener are, once Envoy serves.
fn addresses(file: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let admin = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let ready = ask(admin, "/ready", "")?;
    let listeners = ask(admin, "/listeners", "")?;
    let listener = listeners.lines().find_map(|line| line.strip_prefix("listener::"))?;
    ready.starts_with("HTTP/1.1 200 ").then_some((admin, listener.trim().parse().ok()?))
}

/// A request on a connection of its own; what cannot be shown is replaced.
fn ask(address: SocketAddr, path: &str, headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
    // Envoy closes only a second after its answer.
    while !is_whole(&answer) {
        match stream.read(&mut part).ok()? {
            0 => break,
            size => answer.extend(&part[..size]),
        }
    }
    Some(String::from_utf8_lossy(&unchunked(&answer)).into_owned())
}

/// Whether nothing can follow; not so where only the end of the connection tells.
fn is_whole(answer: &[u8]) -> bool {
    answer.ends_with(b"\r\n0\r\n\r\n")
        || answer.starts_with(b"HTTP/1.1 204 ") && answer.ends_with(b"\r\n\r\n")
}

/// An answer without what parts its chunks, wherever these end in a line.
fn unchunked(answer: &[u8]) -> Vec<u8> {
    let end = |bytes: &[u8], end: &[u8]| bytes.windows(end.len()).position(|part| part == end);
    let Some(head) = end(answer, b"\r\n\r\n") else { return answer.to_owned() };
    let (head, mut body) = answer.split_at(head + 4);
    if end(head, b"transfer-encoding: chunked").is_none() {
        return answer.to_owned();
    }
    let mut whole = head.to_owned();
    while let Some(line) = end(body, b"\r\n") {
        let size = str::from_utf8(&body[..line]).unwrap();
        let (chunk, rest) = body[line + 2..].split_at(usize::from_str_radix(size, 16).unwrap());
        whole.extend(chunk);
        body = &rest[2..];
    }
    whole
}

fn bootstrap(module: &Path) -> Value {
    let loopback = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let of = |kind: &str| format!("type.googleapis.com/{kind}");
    let routes = json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 204 } }]);
    let manager = json!({
        "@type": of("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "ingress",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
        "http_filters": [
            {
                "name": "envoy.filters.http.wasm",
                "typed_config": {
                    "@type": of("envoy.extensions.filters.http.wasm.v3.Wasm"),
                    "config": {
                        "name": "metered",
                        "vm_config": {
                            "runtime": "envoy.wasm.runtime.v8",
                            "code": { "local": { "filename": module } },
                        },
                    },
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": of("envoy.extensions.filters.http.router.v3.Router") },
            },
        ],
    });
    json!({
        "node": { "id": "sdk", "cluster": "sdk" },
        "admin": { "address": loopback },
        "stats_config": { "stats_tags": StatsTags::of(&[ByUser::NAMES]).to_json() },
        "static_resources": {
            "listeners": [{
                "name": "listener",
                "address": loopback,
                "filter_chains": [{
                    "filters": [{
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }],
                }],
            }],
        },
    })
}

/// The binary. Without one there is none, which is said aloud, and is a failure where `CI` is `true`.
fn envoy() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/envoy/venv");
    find_envoy(None, &venv)
        .inspect_err(|error| {
            assert!(env::var("CI").as_deref() != Ok("true"), "{error}");
            // Not the macro, whose output a test that passes keeps to itself.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "skipped a test with a real Envoy: {error}").unwrap();
        })
        .ok()
}

/// The filter, compiled as `tollgate build` does.
fn module() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--profile", "filter", "--target", TARGET]);
    for setting in [
        "profile.filter.inherits=\"release\"",
        "profile.filter.lto=\"fat\"",
        "profile.filter.codegen-units=1",
        "profile.filter.panic=\"abort\"",
        "profile.filter.strip=\"debuginfo\"",
    ] {
        cargo.args(["--config", setting]);
    }
    cargo.args(["--package", "tollgate-metered", "--target-dir"]).arg(target);
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(status.success(), "if the target is missing: `rustup target add {TARGET}`");
    target.join(TARGET).join("filter/metered.wasm")
}
