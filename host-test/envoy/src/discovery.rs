//! Filters that Envoy is told of in files, which it watches: each is a resource in a file of its own.
//!
//! The filters of a scenario that configures one anew come this way, and those that are delivered so. Envoy tells
//! by its counters what became of a file; what a guest said of it stands in the log.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;
use tollgate_host::scenario::{Scenario, Traffic};

use crate::admin::{Admin, AdminError};
use crate::bootstrap::wasm_filter;

/// How long Envoy may take to notice a file.
const NOTICING: Duration = Duration::from_secs(5);

/// How long the workers may take for what the main thread has done.
const SPREADING: Duration = Duration::from_millis(50);

/// Where the configuration stands in the resource of a filter, and where the file of its module.
const CONFIGURATION: &str = "/config/configuration/value";
const MODULE: &str = "/config/vm_config/code/local/filename";

/// The file of a filter, in its place in the chain; and the filter, in its file.
const PATH: &str = "/config_discovery/config_source/path_config_source/path";
const RESOURCE: &str = "/resources/0/typed_config";

/// The filters in files.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    traffic: Traffic,
    filters: BTreeMap<usize, Discovered>,
}

#[derive(Debug)]
struct Discovered {
    name: String,
    file: PathBuf,
    /// What is in force.
    resource: Value,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noticed {
    Accepted,
    Rejected,
}

impl Discovery {
    /// Knows the filters of a chain that are in files already. If `scenario` configures a filter anew, writes the
    /// resources of the others, and has their places in the chain refer to them: one that stood in the chain itself
    /// would start before the others.
    pub(crate) fn begin(
        scenario: &Scenario,
        filters: &mut [Value],
        folder: &Path,
    ) -> io::Result<Self> {
        let mut discovery = Self { traffic: scenario.traffic, ..Self::default() };
        for (place, filter) in filters.iter_mut().enumerate() {
            if let Some(discovered) = Discovered::read(filter)? {
                discovery.filters.insert(place, discovered);
                continue;
            }
            if !configures(scenario) {
                continue;
            }
            let name = format!("tollgate-{place}");
            let file = folder.join(format!("{name}.json"));
            let kind = wasm_filter(scenario.traffic);
            let reference = json!({
                "name": name,
                "config_discovery": {
                    "config_source": { "path_config_source": { "path": file }, "resource_api_version": "V3" },
                    "type_urls": [kind],
                },
            });
            let filter = std::mem::replace(filter, reference);
            let resource = filter.get("typed_config").cloned().unwrap_or_default();
            let discovered = Discovered { name, file, resource };
            discovered.write(&discovered.resource)?;
            discovery.filters.insert(place, discovered);
        }
        Ok(discovery)
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// How the filters of the chain are configured, wherever they are.
    pub(crate) fn configured(&self, filters: &[Value]) -> Vec<Value> {
        let resource = |(place, filter): (usize, &Value)| match self.filters.get(&place) {
            Some(discovered) => discovered.resource.clone(),
            None => filter.get("typed_config").cloned().unwrap_or_default(),
        };
        filters.iter().enumerate().map(resource).collect()
    }

    /// Gives a filter another configuration or module and waits until Envoy has taken or rejected it.
    pub(crate) async fn replace(
        &mut self,
        place: usize,
        configuration: Option<&str>,
        module: Option<&Path>,
        admin: Admin,
    ) -> Result<Noticed, NotReplaced> {
        let Some(filter) = self.filters.get_mut(&place) else {
            return Err(NotReplaced::Unknown { place });
        };
        let mut resource = filter.resource.clone();
        let module = module.map(Path::to_string_lossy);
        for (place, new) in [(CONFIGURATION, configuration), (MODULE, module.as_deref())] {
            if let (Some(value), Some(new)) = (resource.pointer_mut(place), new) {
                *value = new.into();
            }
        }
        // Envoy does nothing about what it has.
        if resource == filter.resource {
            return Ok(Noticed::Accepted);
        }
        let chain = match self.traffic {
            Traffic::Http => "http_filter",
            Traffic::Tcp => "network_filter",
        };
        let counters = format!(
            r"^extension_config_discovery\.{chain}\.{}\.(config_reload|config_fail)$",
            filter.name
        );
        let before = admin.statistics(&counters).await.map_err(NotReplaced::Admin)?;
        filter.write(&resource).map_err(NotReplaced::Io)?;
        let changed = |now: &BTreeMap<String, u64>| *now != before;
        let after = admin.statistics_until(&counters, NOTICING, changed).await;
        let after = after.map_err(NotReplaced::Admin)?;
        if after == before {
            return Err(NotReplaced::Unnoticed { file: filter.file.clone() });
        }
        sleep(SPREADING).await;
        // Envoy counts a reload also when it then fails.
        let failures = |counters: &BTreeMap<String, u64>| -> u64 {
            counters.iter().filter(|(name, _)| name.ends_with("config_fail")).map(|(_, n)| n).sum()
        };
        if failures(&after) > failures(&before) {
            return Ok(Noticed::Rejected);
        }
        filter.resource = resource;
        Ok(Noticed::Accepted)
    }
}

impl Discovered {
    /// The filter of a place in the chain that refers to a file; nothing of one that stands there itself.
    fn read(place: &Value) -> io::Result<Option<Self>> {
        let Some(file) = place.pointer(PATH).and_then(Value::as_str) else { return Ok(None) };
        let written: Value = serde_json::from_slice(&fs::read(file)?)?;
        let name = place.get("name").and_then(Value::as_str).unwrap_or_default();
        Ok(Some(Self {
            name: name.to_owned(),
            file: file.into(),
            resource: written.pointer(RESOURCE).cloned().unwrap_or_default(),
        }))
    }

    /// Envoy looks when a file is moved to its place.
    fn write(&self, resource: &Value) -> io::Result<()> {
        let response = json!({
            "resources": [{
                "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
                "name": self.name,
                "typed_config": resource,
            }],
        });
        let draft = self.file.with_extension("draft");
        fs::write(&draft, response.to_string())?;
        fs::rename(&draft, &self.file)
    }
}

/// Whether a scenario gives a filter another configuration.
fn configures(scenario: &Scenario) -> bool {
    scenario.steps.iter().any(|step| step.configures().next().is_some())
}

/// A configuration could not be given to Envoy.
#[derive(Debug)]
pub(crate) enum NotReplaced {
    /// The filter does not come from a file.
    Unknown { place: usize },
    /// The file cannot be written.
    Io(io::Error),
    /// Envoy does not look at it.
    Unnoticed { file: PathBuf },
    /// Envoy does not tell.
    Admin(AdminError),
}

impl fmt::Display for NotReplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { place } => {
                write!(
                    f,
                    "this Envoy was started for a scenario that does not configure filter {place}"
                )
            }
            Self::Io(error) => write!(f, "the configuration of a filter: {error}"),
            Self::Unnoticed { file } => {
                let limit = NOTICING.as_secs();
                write!(f, "{}: Envoy has not read it in {limit} s", file.display())
            }
            Self::Admin(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NotReplaced {}
