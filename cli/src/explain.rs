//! `tollgate explain`: what a filter makes of one request, and each step on the way.
//!
//! The filter itself is asked, on the offline host: what it tells at the level `debug` are its steps.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::{Map, Value, json};
use tollgate_envoyfilter::Policy;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{Exchange, Outcome as Came, ProxyHost, StartError};
use tollgate_host::scenario::{FilterUse, HostName, Scenario, Step, configuration};

use crate::demo::plain;
use crate::filters::{BuiltIns, Modules, refuse_unloadable};
use crate::limits::LimitOptions;
use crate::render::source;
use crate::{Outcome, print};

/// Arguments of `tollgate explain`.
#[derive(Args)]
pub(crate) struct Explain {
    /// The policy file, as `tollgate render` takes it.
    policy: PathBuf,
    /// Method and path of the request.
    #[arg(long, value_name = "METHOD PATH", default_value = "GET /", value_parser = request)]
    request: Line,
    /// A header of the request. May be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<Line>,
    /// The SPIFFE ID of the client's certificate.
    #[arg(long, value_name = "ID")]
    peer: Option<String>,
    /// The address of the client, as the proxy sees it.
    #[arg(long, value_name = "IP")]
    address: Option<std::net::IpAddr>,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    built_ins: BuiltIns,
}

/// Two words of a request: method and path, or name and value.
type Line = (String, String);

fn request(text: &str) -> Result<Line, String> {
    let parts = text.split_once(' ').filter(|(_, path)| path.starts_with('/'));
    let (method, path) = parts.ok_or("write METHOD /PATH, as in \"GET /cart\"")?;
    Ok((method.to_owned(), path.to_owned()))
}

fn header(text: &str) -> Result<Line, String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE, as in \"x-user: alice\"")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

impl Explain {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read, and a module that no proxy would load.
    pub(crate) fn run(self) -> Result<Outcome> {
        let name = self.policy.display().to_string();
        let text = std::fs::read_to_string(&self.policy)
            .with_context(|| format!("{name} cannot be read"))?;
        let policy = Policy::parse(&text).with_context(|| name.clone())?;
        let (source, _) =
            source(&policy.filter, &self.policy, &self.built_ins).with_context(|| name.clone())?;
        let filter = FilterUse {
            name: policy.plugin_name().to_owned(),
            root_id: policy.root_id.clone(),
            environment: policy.environment.clone(),
            ..FilterUse::new(source, configuration(policy.config.clone()))
        };
        let scenario = Scenario { filters: vec![filter], ..self.scenario()? };
        refuse_unloadable(&self.built_ins, &scenario)?;
        let modules = Modules::new(self.built_ins.clone(), self.limits.read()?)?;
        let loader = |filter: &FilterUse| modules.for_scenario(filter);
        let host = Offline::new(HostName::Wasmtime, &loader);
        let mut proxy = match host.start(&scenario) {
            Ok(proxy) => proxy,
            Err(StartError::Refused { words }) => {
                eprintln!("{name}: the filter refuses its configuration:\n{words}");
                return Ok(Outcome::Failed);
            }
            Err(error) => return Err(anyhow!("{error}")),
        };
        let before = proxy.observe(&|_| true)?.logs.len();
        for step in &scenario.steps {
            let Step::Request(step) = step else { continue };
            let exchange = proxy.exchange(0, step)?;
            for line in proxy.observe(&|_| true)?.logs.iter().skip(before) {
                print(&plain(&line.message))?;
            }
            self.tell(&exchange)?;
        }
        Ok(Outcome::Done)
    }

    fn scenario(&self) -> Result<Scenario> {
        let mut properties = Map::new();
        if let Some(peer) = &self.peer {
            properties.insert("connection.mtls".into(), json!(true));
            properties.insert("connection.uri_san_peer_certificate".into(), json!(peer));
        }
        if let Some(ip) = self.address {
            let address = std::net::SocketAddr::new(ip, 0).to_string();
            properties.insert("source.address".into(), json!(address));
        }
        let (method, path) = &self.request;
        let written = json!({
            "name": "one request",
            "log_level": "debug",
            "only": { "on": ["wasmtime"], "reason": "who the client is, is made up" },
            "filters": [{ "filter": "explained" }],
            "properties": Value::Object(properties),
            "steps": [{ "request": { "method": method, "path": path, "headers": self.headers } }],
        });
        Ok(Scenario::parse(&written.to_string())?)
    }

    /// What became of the request.
    fn tell(&self, exchange: &Exchange) -> Result<()> {
        match (&exchange.upstream, &exchange.outcome) {
            (None, Came::Response(response)) => {
                print(&format!("=> answered with {}", response.status))?;
            }
            (None, Came::Reset | Came::Unanswered | Came::Refused(_) | Came::Left(_)) => {
                print("=> not answered")?;
            }
            (Some(received), _) => {
                print("=> goes to the upstream")?;
                let is_sent = |(name, value): &(Vec<u8>, Vec<u8>)| {
                    let sent = self.headers.iter();
                    sent.map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                        .any(|line| line == (name.as_slice(), value.as_slice()))
                };
                let is_framing = |name: &[u8]| {
                    matches!(name, b"host" | b"x-forwarded-proto" | b"content-length")
                };
                for (name, value) in &received.headers {
                    if !is_sent(&(name.clone(), value.clone())) && !is_framing(name) {
                        print(&format!("   with {}: {}", plain(name), plain(value)))?;
                    }
                }
                for (name, _) in &self.headers {
                    if !received.headers.iter().any(|(kept, _)| kept == name.as_bytes()) {
                        print(&format!("   without {}", plain(name.as_bytes())))?;
                    }
                }
            }
        }
        Ok(())
    }
}
