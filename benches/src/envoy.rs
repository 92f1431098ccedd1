//! The Envoy that is measured: one worker, a listener for each variant, answers without an upstream.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_host_envoy::Supervised;

use crate::load;
use crate::variants::{Effect, Variant};

/// How long Envoy may take to start; compiling the modules is most of it.
const STARTING: Duration = Duration::from_secs(30);

/// How often is looked whether it serves.
const INTERVAL: Duration = Duration::from_millis(20);

/// A value that is not UTF-8, as Envoy lets clients send it.
const STRANGE: &[u8] = b"caf\xe9";

/// A running Envoy.
pub(crate) struct Envoy {
    // Dropped first, and so killed before its folder is gone.
    _process: Supervised,
    listeners: HashMap<String, SocketAddr>,
    tasks: PathBuf,
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy with a listener for each variant, and waits until it serves.
    ///
    /// # Errors
    ///
    /// What Envoy said, when it does not start.
    pub(crate) fn start(binary: &Path, variants: &[Variant]) -> Result<Self> {
        let folder = TempDir::with_prefix("tollgate-benches-")?;
        let file = |name: &str| folder.path().join(name);
        fs::write(file("envoy.json"), bootstrap(variants).to_string())?;
        let mut command = vec![binary.into(), "--config-path".into(), file("envoy.json").into()];
        command.extend(["--admin-address-path".into(), file("admin").into()]);
        let rest = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"];
        command.extend(rest.map(Into::into));
        let mut process = Supervised::start(&command, folder.path(), "log")?;

        let begin = Instant::now();
        let listeners = loop {
            let said = || fs::read_to_string(file("log")).unwrap_or_default();
            ensure!(!process.has_ended()?, "Envoy ended while it started; it said:\n{}", said());
            ensure!(begin.elapsed() < STARTING, "Envoy does not serve; it said:\n{}", said());
            if let Some(listeners) = listeners(&file("admin"), variants.len()) {
                break listeners;
            }
            sleep(INTERVAL);
        };
        let process_id = fs::read_to_string(file("pid")).context("the process id of Envoy")?;
        let tasks = Path::new("/proc").join(process_id.trim()).join("task");
        Ok(Self { _process: process, listeners, tasks, _folder: folder })
    }

    /// Where the listener of a variant is.
    ///
    /// # Errors
    ///
    /// There is no such listener.
    pub(crate) fn listener(&self, variant: &Variant) -> Result<SocketAddr> {
        let listener = self.listeners.get(variant.name);
        listener.copied().with_context(|| format!("Envoy has no listener for {}", variant.name))
    }

    /// The processor time that all threads of the process have used.
    ///
    /// `/proc/PID/stat` counts in hundredths of a second, which is too coarse for a slot of a round;
    /// the scheduler's own account is in nanoseconds.
    ///
    /// # Errors
    ///
    /// The account cannot be read: Envoy has ended, or the kernel keeps none.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        let folder = &self.tasks;
        for task in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
            let file = task?.path().join("schedstat");
            let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
            let used = text.split_whitespace().next().and_then(|used| used.parse::<u64>().ok());
            nanoseconds += used.with_context(|| format!("{}: {text}", file.display()))?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Checks that a variant does its job, also for a value that is not text.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn check(&self, variant: &Variant) -> Result<()> {
        let listener = self.listener(variant)?;
        for user in [&b"alice"[..], STRANGE] {
            let answer = load::get(listener, "/seen", &[("x-user", user)])?;
            let line = [b"\r\nx-seen: ", user, b"\r\n"].concat();
            let seen = answer.windows(line.len()).any(|part| part == line);
            let served = answer.starts_with(b"HTTP/1.1 200 ");
            if !served || seen != (variant.effect == Effect::Sets) {
                bail!("{} does not do its job: {}", variant.name, answer.escape_ascii());
            }
        }
        Ok(())
    }
}

/// The listeners by name, once Envoy serves.
fn listeners(admin: &Path, expected: usize) -> Option<HashMap<String, SocketAddr>> {
    let admin = fs::read_to_string(admin).ok()?.trim().parse().ok()?;
    if !load::get(admin, "/ready", &[]).ok()?.starts_with(b"HTTP/1.1 200 ") {
        return None;
    }
    // A line for each: `name::address`.
    let answer = load::get(admin, "/listeners", &[]).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let named = answer.lines().filter_map(|line| line.trim().split_once("::"));
    let found: HashMap<String, SocketAddr> = named
        .filter_map(|(name, address)| Some((name.to_owned(), address.parse().ok()?)))
        .collect();
    (found.len() == expected).then_some(found)
}

fn bootstrap(variants: &[Variant]) -> Value {
    let listeners: Vec<Value> = variants.iter().map(listener).collect();
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "admin": { "address": loopback() },
        "static_resources": { "listeners": listeners },
    })
}

fn listener(variant: &Variant) -> Value {
    let mut filters = variant.filters.clone();
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
    }));
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let answer = json!({ "status": 200, "body": { "inline_string": "ok\n" } });
    json!({
        "name": variant.name,
        "address": loopback(),
        "filter_chains": [{
            "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": format!("type.googleapis.com/{kind}"),
                    "stat_prefix": "bench",
                    "codec_type": "HTTP1",
                    "generate_request_id": false,
                    "http_filters": filters,
                    "route_config": {
                        "virtual_hosts": [{
                            "name": "all",
                            "domains": ["*"],
                            "routes": [
                                {
                                    "match": { "path": "/seen" },
                                    "direct_response": answer,
                                    "response_headers_to_add": [{
                                        "header": { "key": "x-seen", "value": "%REQ(x-out)%" },
                                    }],
                                },
                                { "match": { "prefix": "/" }, "direct_response": answer },
                            ],
                        }],
                    },
                },
            }],
        }],
    })
}

fn loopback() -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } })
}
