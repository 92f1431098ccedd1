//! `tollgate bench`: what filters cost, beside each other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tollgate_host::proxy::StartError;
use tollgate_host::scenario::{FilterSource, FilterUse, Scenario, configuration};
use tollgate_host_bench::{Loaders, NotMeasured, Subject, html, in_envoy, offline};
use tollgate_host_envoy::find_envoy;

use crate::filters::{
    BuiltIns, DeclaredImports, Modules, read_configuration, read_scenario, refuse_unloadable,
};
use crate::limits::LimitOptions;
use crate::test::FETCHED_ENVOY;
use crate::{Format, Outcome, print};

/// Arguments of `tollgate bench`.
#[derive(Args)]
pub(crate) struct Bench {
    /// What is measured: scenario files, whose requests are repeated, and filters by name or file, which
    /// get `GET /`. Of several each is compared with the first.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// Where.
    #[arg(long, value_enum, default_value = "wasmtime")]
    on: On,
    /// Configuration of the targets that are filters, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A header line of the requests to targets that are filters; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// For how long is measured, after starting and warming up; in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    time: f64,
    /// Also write the figures and plots of them to a file: a page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The Envoy binary; else `$TOLLGATE_ENVOY`, then `PATH`, then the one that `cargo ci` fetched.
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
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

/// A host by its name on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum On {
    /// The offline host with wasmtime as its engine: time, fuel, host calls, bytes, memory.
    Wasmtime,
    /// A real Envoy process: its processor time over a listener without the filter.
    Envoy,
}

impl Bench {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// What cannot be read or run at all.
    pub(crate) fn run(self) -> Result<Outcome> {
        let measuring = Duration::try_from_secs_f64(self.time).context("--time")?;
        let subjects = self.targets.iter().map(|target| self.subject(target));
        let subjects = subjects.collect::<Result<Vec<_>>>()?;
        let measured = match self.on {
            On::Wasmtime => {
                let limits = self.limits.read()?;
                let cached = Modules::new(self.built_ins.clone(), limits)?;
                let compiling = Modules::without_cache(self.built_ins, limits)?;
                let loaders = Loaders {
                    compile: &|filter| compiling.load_anew(filter),
                    load: &|filter| cached.load_anew(filter),
                };
                offline(&subjects, loaders, limits, measuring)
            }
            On::Envoy => {
                let envoy = find_envoy(self.envoy.as_deref(), Path::new(FETCHED_ENVOY))?;
                in_envoy(&subjects, &envoy, &self.built_ins.folder(), measuring)
            }
        };
        let report = match measured {
            Err(NotMeasured::Start { name, error: StartError::Refused { words } }) => {
                eprintln!("{name}: {words}");
                return Ok(Outcome::Failed);
            }
            measured => measured?,
        };
        if let Some(file) = &self.html {
            std::fs::write(file, html(&report))
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }
        print(&match self.format {
            Format::Json => serde_json::to_string_pretty(&report)?,
            Format::Text => report.to_string().trim_end().to_owned(),
        })?;
        Ok(Outcome::Done)
    }

    fn subject(&self, target: &str) -> Result<Subject> {
        let ending = Path::new(target).extension();
        let mut scenario = if ending.is_some_and(|ending| ending == "yaml" || ending == "yml") {
            read_scenario(Path::new(target))?
        } else {
            let source = FilterSource::parse(target)?;
            let config = match &self.config {
                Some(file) => read_configuration(file)?,
                None => configuration(serde_json::Value::Null),
            };
            with_request(FilterUse::new(source, config), &self.headers)?
        };
        self.imports.add_to(&mut scenario);
        refuse_unloadable(&self.built_ins, &scenario)?;
        Ok(Subject::of(target.to_owned(), scenario)?)
    }
}

/// A filter by itself and one request to it, `GET /`.
fn with_request(filter: FilterUse, headers: &[(String, String)]) -> Result<Scenario> {
    let request = serde_json::json!({ "request": { "headers": headers } });
    let scenario = serde_json::json!({
        "name": filter.name,
        "filters": [{ "filter": "any" }],
        "steps": [request],
    });
    // JSON is YAML.
    let mut scenario = Scenario::parse(&scenario.to_string())?;
    scenario.filters = vec![filter];
    Ok(scenario)
}

fn header(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or("a header line is `NAME: VALUE`")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}
