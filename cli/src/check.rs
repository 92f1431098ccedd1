//! `tollgate check`: whether a module loads, and whether it takes a configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use tollgate_host::limits::Limits;
use tollgate_host::offline::Offline;
use tollgate_host::proxy::{ProxyHost, StartError};
use tollgate_host::scenario::{FilterUse, HostName, Imports, Scenario};
use tollgate_module::{Module, StatsTag};

use crate::deployed::From;
use crate::filters::{BuiltIns, DeclaredImports, Modules, read_configuration};
use crate::limits::LimitOptions;
use crate::loading::Loading;
use crate::render::source;
use crate::{Format, Outcome, print};

/// Arguments of `tollgate check`.
#[derive(Args)]
pub(crate) struct Check {
    /// The module: a file, the name of a built-in filter, or an image `oci://…`, which is pulled.
    #[arg(value_name = "FILE.wasm", conflicts_with = "from")]
    file: Option<String>,
    /// Its configuration, YAML or JSON; the module itself judges it.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    config: Option<PathBuf>,
    #[command(flatten)]
    from: From,
    /// Write the JSON Schema of its configuration to standard output, and nothing else.
    #[arg(long, conflicts_with_all = ["config", "format"])]
    schema: bool,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    imports: DeclaredImports,
    #[command(flatten)]
    built_ins: BuiltIns,
}

/// What can be said of a module.
#[derive(Serialize)]
struct Findings {
    file: String,
    name: Option<String>,
    version: Option<String>,
    /// Whether it says what its configuration looks like.
    has_schema: bool,
    size_bytes: usize,
    /// What the plugin has to be configured with.
    needs: Vec<String>,
    /// What the proxy has to be told to show the labels of its metrics.
    stats_tags: Vec<StatsTag>,
    #[serde(flatten)]
    loading: Loading,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Configuration>,
}

#[derive(Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub(crate) enum Configuration {
    Accepted,
    Refused { words: Vec<String> },
}

impl Check {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(crate) fn run(self) -> Result<Outcome> {
        let deployed = self.from.filter()?;
        let source = match (&deployed, &self.file) {
            (Some(filter), _) => filter.source.clone(),
            (None, Some(file)) => source(file, Path::new(""), &self.built_ins)?.0,
            (None, None) => bail!("name a module, or with --from the file that deploys one"),
        };
        let (file, bytes) = self.built_ins.read(&source)?;
        if self.schema {
            print(&serde_json::to_string_pretty(&schema(&file, &bytes)?)?)?;
            return Ok(Outcome::Done);
        }
        let imports = self.imports.all();
        let mut findings = inspect(&file, &bytes, &imports)?;
        let configured = match (deployed, &self.config) {
            (Some(filter), _) => Some(filter),
            (None, Some(config)) => Some(FilterUse::new(source, read_configuration(config)?)),
            (None, None) => None,
        };
        if let Some(filter) = configured.filter(|_| findings.loading.is_loaded) {
            let scenario = Scenario { imports, ..Scenario::without_steps(filter) };
            let limits = self.limits.read()?;
            findings.configuration = Some(configure(self.built_ins, limits, &scenario)?);
        }
        let refused = !findings.loading.is_loaded
            || matches!(findings.configuration, Some(Configuration::Refused { .. }));
        print(&match self.format {
            Format::Json => serde_json::to_string_pretty(&findings)?,
            Format::Text => text(&findings),
        })?;
        Ok(if refused { Outcome::Failed } else { Outcome::Done })
    }
}

fn inspect(file: &Path, bytes: &[u8], imports: &Imports) -> Result<Findings> {
    let module = Module::read(bytes).with_context(|| format!("{}", file.display()))?;
    let metadata = module.metadata().with_context(|| format!("{}", file.display()))?;
    Ok(Findings {
        file: file.display().to_string(),
        name: metadata.as_ref().map(|metadata| metadata.name.clone()),
        version: metadata.as_ref().map(|metadata| metadata.version.clone()),
        has_schema: metadata.as_ref().is_some_and(|metadata| metadata.schema.is_some()),
        size_bytes: module.size_bytes(),
        needs: metadata.iter().flat_map(|metadata| metadata.needs.iter().cloned()).collect(),
        stats_tags: metadata.map(|metadata| metadata.stats_tags).unwrap_or_default(),
        loading: Loading::of(&module, imports),
        configuration: None,
    })
}

/// The JSON Schema that a module carries.
fn schema(file: &Path, bytes: &[u8]) -> Result<serde_json::Value> {
    let module = Module::read(bytes).with_context(|| format!("{}", file.display()))?;
    let metadata = module.metadata().with_context(|| format!("{}", file.display()))?;
    let schema = metadata.and_then(|metadata| metadata.schema);
    schema.with_context(|| {
        format!("{} carries no schema; build it with `tollgate build`", file.display())
    })
}

/// Lets the module judge its configuration, offline, as a proxy would.
///
/// # Errors
///
/// What cannot be read or run at all.
pub(crate) fn configure(
    built_ins: BuiltIns,
    limits: Limits,
    scenario: &Scenario,
) -> Result<Configuration> {
    let modules = Modules::new(built_ins, limits)?;
    let loader = |filter: &FilterUse| modules.for_scenario(filter);
    let host = Offline::new(HostName::Wasmtime, &loader).with_limits(limits);
    match host.start(scenario) {
        Ok(_) => Ok(Configuration::Accepted),
        Err(StartError::Refused { words }) => {
            Ok(Configuration::Refused { words: words.lines().map(str::to_owned).collect() })
        }
        Err(error @ (StartError::Module(_) | StartError::Host(_))) => Err(error.into()),
    }
}

fn text(findings: &Findings) -> String {
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "not said".into());
    let mut lines = vec![
        findings.file.clone(),
        format!("  name           {}", said(&findings.name)),
        format!("  version        {}", said(&findings.version)),
        format!("  size           {} bytes", findings.size_bytes),
    ];
    let schema = if findings.has_schema { "JSON Schema, see --schema" } else { "no schema" };
    lines.push(format!("  described by   {schema}"));
    if !findings.needs.is_empty() {
        lines.push(format!("  plugin needs   {}", findings.needs.join(", ")));
    }
    if !findings.stats_tags.is_empty() {
        let names: Vec<&str> =
            findings.stats_tags.iter().map(|tag| tag.tag_name.as_str()).collect();
        lines.push(format!("  stats tags     {}", names.join(", ")));
    }
    lines.extend(findings.loading.lines());
    match &findings.configuration {
        None => {}
        Some(Configuration::Accepted) => lines.push("  configuration  accepted".into()),
        Some(Configuration::Refused { words }) => {
            lines.push("  configuration  REFUSED".into());
            lines.extend(words.iter().map(|line| format!("    {line}")));
        }
    }
    lines.join("\n")
}
