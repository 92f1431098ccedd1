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
    process_id: u32,
    /// Where its listener is.
    pub listener: SocketAddr,
    /// Where it tells of itself.
    pub admin: SocketAddr,
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
        Self::start_with(1, envoy, folder, bootstrap, &[])
    }

    /// Starts one with so many workers, and further options. What it says is in the file `log`.
    pub fn start_with(
        workers: u8,
        envoy: &Path,
        folder: &Path,
        bootstrap: &Value,
        options: &[&str],
    ) -> Self {
        fs::write(folder.join("envoy.json"), bootstrap.to_string()).unwrap();
        let file = |name: &str| folder.join(name).into_os_string();
        let mut command = vec![envoy.as_os_str().to_owned(), "--config-path".into()];
        command.extend([file("envoy.json"), "--admin-address-path".into(), file("admin")]);
        command.extend(["--concurrency".into(), workers.to_string().into()]);
        let rest = ["--log-level", "error", "--disable-hot-restart"];
        command.extend(rest.iter().chain(options).map(Into::into));
        let _ = fs::remove_file(folder.join("admin"));
        let mut process = Supervised::start(&command, folder, "log").unwrap();
        let (admin, listener) = addresses(&mut process, folder);
        let process_id = fs::read_to_string(folder.join("pid")).unwrap().trim().parse().unwrap();
        Self { _process: process, process_id, listener, admin }
    }

    /// How much memory it has: its resident set.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes << 10
    }

    /// The status of the answer to a request.
    pub fn get(&self, path: &str, lines: &str) -> String {
        get(self.listener, path, lines).1
    }
}

/// Where Envoy tells of itself and where it listens, once it serves.
fn addresses(process: &mut Supervised, folder: &Path) -> (SocketAddr, SocketAddr) {
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
            return (admin, SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap())));
        }
    }
}

/// The answer to a request, and its status; nothing when nobody listens.
pub fn get(to: SocketAddr, path: &str, lines: &str) -> (String, String) {
    ask(to, &format!("GET {path}"), lines, &[])
}

/// The answer to a request with a body, and its status; nothing when nobody listens.
pub fn ask(to: SocketAddr, line: &str, lines: &str, body: &[u8]) -> (String, String) {
    let Ok(mut connection) = TcpStream::connect(to) else { return Default::default() };
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        connection,
        "{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n"
    )
    .unwrap();
    connection.write_all(body).unwrap();
    let mut answer = Vec::new();
    // Envoy may break a connection behind an answer that did not wait for the body.
    let _ = connection.read_to_end(&mut answer);
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

/// A cluster of one endpoint.
pub fn cluster(name: &str, at: SocketAddr) -> Value {
    let address = json!({ "address": at.ip().to_string(), "port_value": at.port() });
    let endpoint = json!({ "endpoint": { "address": { "socket_address": address } } });
    json!({
        "name": name,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [endpoint] }],
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
