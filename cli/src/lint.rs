//! `tollgate lint`: the traps in resources that bring filters into a mesh.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use tollgate_envoyfilter::lint::{Finding, Resources};

use crate::{Format, Outcome, print};

/// Arguments of `tollgate lint`.
#[derive(Args)]
pub(crate) struct Lint {
    /// Resources: `EnvoyFilter`, `WasmPlugin`, `TrafficExtension` and their kin; other documents are passed
    /// over. Files that are named together are looked at as deployed together.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// A finding and its file.
#[derive(Serialize)]
struct Found {
    file: String,
    #[serde(flatten)]
    finding: Finding,
}

impl Lint {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or is no YAML.
    pub(crate) fn run(self) -> Result<Outcome> {
        let read = |path: &PathBuf| {
            let file = path.display().to_string();
            let text =
                std::fs::read_to_string(path).with_context(|| format!("{file} cannot be read"))?;
            let resources = Resources::parse(&text).with_context(|| file.clone())?;
            Ok((file, resources))
        };
        let files = self.files.iter().map(read).collect::<Result<Vec<_>>>()?;
        let all: Vec<&Resources> = files.iter().map(|(_, resources)| resources).collect();
        let mut found = Vec::new();
        for (file, resources) in &files {
            let here = resources.traps(&all).into_iter();
            found.extend(here.map(|finding| Found { file: file.clone(), finding }));
        }
        match self.format {
            Format::Json => {
                let report = serde_json::json!({ "findings": found });
                print(&serde_json::to_string_pretty(&report)?)?;
            }
            Format::Text => {
                for Found { file, finding } in &found {
                    print(&format!("{file}:{finding}"))?;
                }
                eprintln!("{} in {}", count(found.len(), "trap"), count(self.files.len(), "file"));
            }
        }
        Ok(if found.is_empty() { Outcome::Done } else { Outcome::Failed })
    }
}

fn count(number: usize, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {what}{ending}")
}
