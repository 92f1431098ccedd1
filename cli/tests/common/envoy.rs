//! A real Envoy with a bootstrap of a test's own.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_host_envoy::{Supervised, find_envoy};

use super::root;

/// How long Envoy may take to start and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An Envoy that serves.
pub struct Envoy {
    _process: Supervised,
    /// Where its listener is.
    pub listener: SocketAddr,
}

/// The Envoy that `cargo ci` fetches; nothing, said aloud, when there is none.
pub fn fetched() -> Option<PathBuf> {
    match find_envoy(None, &root().join("target/envoy/venv")) {
        Ok(envoy) => Some(envoy),
        Err(error) => {
            let required = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!required, "{error}");
            println!("skipped: {error}");
            None
        }
    }
}

impl Envoy {
    /// Starts one in a folder, and waits until it serves.
    pub fn start(envoy: &Path, folder: &Path, bootstrap: &Value) -> Self {
        Self::start_with(envoy, folder, bootstrap, &[])
    }

    /// The same with further options. What it says is in the file `log`.
    pub fn start_with(envoy: &Path, folder: &Path, bootstrap: &Value, options: &[&str]) -> Self {
        fs::write(folder.join("envoy.json"), bootstrap.to_string()).unwrap();
        let file = |name: &str| folder.join(name).into_os_string();
        let mut command = vec![envoy.as_os_str().to_owned(), "--config-path".into()];
        command.extend([file("envoy.json"), "--admin-address-path".into(), file("admin")]);
        let rest = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"];
        command.extend(rest.iter().chain(options).map(Into::into));
        let _ = fs::remove_file(folder.join("admin"));
        let mut process = Supervised::start(&command, folder, "log").unwrap();
        let listener = listener(&mut process, folder);
        Self { _process: process, listener }
    }

    /// The status of the answer to a request.
    pub fn get(&self, path: &str, lines: &str) -> String {
        get(self.listener, path, lines).1
    }
}

/// Where Envoy listens, once it serves.
fn listener(process: &mut Supervised, folder: &Path) -> SocketAddr {
    let begin = Instant::now();
    loop {
        let said = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(!process.has_ended().unwrap() && begin.elapsed() < PATIENCE, "{}", said());
        sleep(Duration::from_millis(20));
        let admin = fs::read_to_string(folder.join("admin")).unwrap_or_default();
        let Ok(admin) = admin.trim().parse() else { continue };
        let (listeners, status) = get(admin, "/listeners", "");
        let address = listeners.lines().find_map(|line| line.split_once("::127.0.0.1:"));
        if let (Some((_, port)), "200") = (address, status.as_str())
            && get(admin, "/ready", "").1 == "200"
        {
            return SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
        }
    }
}

/// The answer to a request, and its status.
fn get(to: SocketAddr, path: &str, lines: &str) -> (String, String) {
    let Ok(mut connection) = TcpStream::connect(to) else { return Default::default() };
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n")
        .unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (answer, status)
}

/// A bootstrap with one listener, and these chains in it.
pub fn bootstrap(name: &str, chains: &Value) -> Value {
    let loopback = || json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    json!({
        "node": { "id": "render", "cluster": "render" },
        "admin": { "address": loopback() },
        "static_resources": {
            "listeners": [{ "name": name, "address": loopback(), "filter_chains": chains }],
            "clusters": [],
        },
    })
}

/// A filter of HTTP of Envoy's own, without configuration.
pub fn http_filter(name: &str, message: &str) -> Value {
    let extensions = "type.googleapis.com/envoy.extensions.filters.http";
    json!({
        "name": format!("envoy.filters.http.{name}"),
        "typed_config": { "@type": format!("{extensions}.{name}.v3.{message}") },
    })
}

/// A connection manager with these filters, and routes that answer by themselves.
pub fn connection_manager(filters: &Value, routes: &Value) -> Value {
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("type.googleapis.com/{kind}"),
            "stat_prefix": "all",
            "http_filters": filters,
            "route_config": { "virtual_hosts": [
                { "name": "inbound|http|8080", "domains": ["*"], "routes": routes },
            ] },
        },
    })
}

/// A route that answers 200.
pub fn route(name: &str, prefix: &str) -> Value {
    json!({
        "name": name,
        "match": { "prefix": prefix },
        "direct_response": { "status": 200 },
    })
}
