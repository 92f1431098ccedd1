//! `tollgate build`: the filters of a workspace as finished modules.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tollgate_host_wasmtime::{Limits, Wasmtime};
use tollgate_module::{Description, Module, finish};

use crate::Outcome;
use crate::filters::caching_engine;

const TARGET: &str = "wasm32-wasip1";

/// Arguments of `tollgate build`.
#[derive(Args)]
pub(crate) struct Build {
    /// Filters by name; all of the workspace when none is named.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Where the modules go; by default `filters/` in the workspace's target folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What `cargo metadata` says, as far as it matters here.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    tollgate: Option<Tollgate>,
}

/// `[package.metadata.tollgate]` in the manifest of a filter's module.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tollgate {
    /// The name under which the filter is known.
    filter: String,
}

struct FilterCrate {
    filter: String,
    package: String,
    library: String,
}

impl Build {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A name that no crate has, and what cargo or the finishing says.
    pub(crate) fn run(self) -> Result<Outcome> {
        let workspace = workspace()?;
        let filters = choose(filters(&workspace.packages)?, &self.names)?;
        let out = self.out.unwrap_or_else(|| workspace.target_directory.join("filters"));
        std::fs::create_dir_all(&out).with_context(|| format!("{}", out.display()))?;
        compile(&filters, &SHIPPED)?;
        // Once more, quickly: the schema of a filter's configuration and the labels of its metrics are
        // told by a module that does not ship, so that what ships has neither their texts nor their code.
        compile(&filters, &TELLING)?;
        let engine = caching_engine(Limits::default())?;
        let telling = workspace.target_directory.join(TARGET).join("filter-schema");
        let compiled = workspace.target_directory.join(TARGET).join("filter");
        for filter in &filters {
            let linked = compiled.join(format!("{}.wasm", filter.library));
            let file = out.join(format!("{}.wasm", filter.filter));
            let description = told(&engine, &telling.join(format!("{}.wasm", filter.library)))?;
            let (before, after) = finish_file(&linked, &file, &description)?;
            eprintln!("{}: {after} bytes, {before} before finishing", file.display());
        }
        Ok(Outcome::Done)
    }
}

fn workspace() -> Result<Workspace> {
    let output = Command::new(cargo())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

fn filters(packages: &[Package]) -> Result<Vec<FilterCrate>> {
    let mut filters = Vec::new();
    for package in packages {
        let Some(tollgate) = package.metadata.as_ref().and_then(|data| data.tollgate.as_ref())
        else {
            continue;
        };
        let library = package.targets.iter().find(|t| t.kind.iter().any(|kind| kind == "cdylib"));
        let Some(library) = library else {
            bail!("{}: a filter's module needs crate-type = [\"cdylib\"]", package.name);
        };
        filters.push(FilterCrate {
            filter: tollgate.filter.clone(),
            package: package.name.clone(),
            library: library.name.replace('-', "_"),
        });
    }
    Ok(filters)
}

fn choose(filters: Vec<FilterCrate>, names: &[String]) -> Result<Vec<FilterCrate>> {
    let known: Vec<String> = filters.iter().map(|filter| filter.filter.clone()).collect();
    if known.is_empty() {
        bail!(
            "no crate of this workspace is a filter; one says \
             `[package.metadata.tollgate] filter = \"NAME\"` in its manifest"
        );
    }
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        bail!("there is no filter `{name}` in this workspace; there are: {}", known.join(", "));
    }
    let chosen = |filter: &FilterCrate| names.is_empty() || names.contains(&filter.filter);
    Ok(filters.into_iter().filter(chosen).collect())
}

/// How cargo builds a module. Any workspace builds alike with it.
struct Profile {
    name: &'static str,
    settings: &'static [&'static str],
}

/// What ships into Envoy: one unit, no unwinding.
const SHIPPED: Profile = Profile {
    name: "filter",
    settings: &[
        "profile.filter.inherits=\"release\"",
        "profile.filter.lto=\"fat\"",
        "profile.filter.codegen-units=1",
        "profile.filter.panic=\"abort\"",
        "profile.filter.strip=\"debuginfo\"",
    ],
};

/// What tells of itself: with debug assertions, which is when `export!` has the exports for it.
const TELLING: Profile = Profile {
    name: "filter-schema",
    settings: &[
        "profile.filter-schema.inherits=\"dev\"",
        "profile.filter-schema.debug-assertions=true",
        "profile.filter-schema.panic=\"abort\"",
        "profile.filter-schema.strip=\"symbols\"",
    ],
};

fn compile(filters: &[FilterCrate], profile: &Profile) -> Result<()> {
    let mut command = Command::new(cargo());
    command.args(["build", "--profile", profile.name, "--target", TARGET]);
    for setting in profile.settings {
        command.args(["--config", setting]);
    }
    for filter in filters {
        command.args(["--package", &filter.package]);
    }
    let status = command.status().context("cargo cannot be run")?;
    if !status.success() {
        bail!("cargo build failed; if the target is missing: `rustup target add {TARGET}`");
    }
    Ok(())
}

/// What a module tells of itself: nothing when another SDK built it.
fn told(engine: &Wasmtime, telling: &Path) -> Result<Description> {
    let bytes = std::fs::read(telling).with_context(|| format!("{}", telling.display()))?;
    let ask =
        |export: &str| engine.ask(&bytes, export).with_context(|| format!("{}", telling.display()));
    Ok(Description {
        schema: parsed(ask("tollgate_config_schema")?, telling)?,
        stats_tags: parsed(ask("tollgate_stats_tags")?, telling)?,
        ..Description::default()
    })
}

fn parsed<T: DeserializeOwned>(text: Option<Vec<u8>>, telling: &Path) -> Result<Option<T>> {
    let parsed = text.map(|text| serde_json::from_slice(&text)).transpose();
    parsed.with_context(|| format!("{}: what it tells of itself", telling.display()))
}

/// Finishes a linked module; gives its size before and after.
fn finish_file(linked: &Path, file: &Path, description: &Description) -> Result<(usize, usize)> {
    let bytes = std::fs::read(linked).with_context(|| format!("{}", linked.display()))?;
    let finished = finish(&bytes, description).with_context(|| format!("{}", linked.display()))?;
    Module::read(&finished).with_context(|| format!("{}, finished", linked.display()))?;
    std::fs::write(file, &finished).with_context(|| format!("{}", file.display()))?;
    Ok((bytes.len(), finished.len()))
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
