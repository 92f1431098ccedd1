//! `tollgate render`: the resource that brings a filter with its policy into a proxy.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tollgate_envoyfilter::{Facts, Policy, envoy};
use tollgate_host::scenario::{FilterSource, FilterUse, Scenario, configuration};
use tollgate_module::Module;

use crate::check::{Configuration, configure};
use crate::filters::{BuiltIns, refuse_unloadable};
use crate::limits::LimitOptions;
use crate::metrics;
use crate::{Outcome, print};

/// Arguments of `tollgate render`.
#[derive(Args)]
pub(crate) struct Render {
    /// The policy: YAML or JSON.
    policy: PathBuf,
    /// Whose resource.
    #[arg(long, value_enum)]
    target: Target,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    built_ins: BuiltIns,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Envoy: a list for `http_filters`, and what the bootstrap needs for it.
    Envoy,
}

impl Render {
    /// Runs the command: a policy that the module itself refuses is not rendered.
    ///
    /// # Errors
    ///
    /// What cannot be read, and a module that no proxy would load.
    pub(crate) fn run(self) -> Result<Outcome> {
        let name = self.policy.display();
        let text = std::fs::read_to_string(&self.policy)
            .with_context(|| format!("{name} cannot be read"))?;
        let policy = Policy::parse(&text).with_context(|| format!("{name}"))?;
        let source = source(&policy.filter, &self.policy).with_context(|| format!("{name}"))?;
        let (file, bytes) = self.built_ins.read(&source).with_context(|| format!("{name}"))?;

        let filter = FilterUse {
            name: policy.plugin_name().to_owned(),
            root_id: policy.root_id.clone(),
            environment: policy.environment.clone(),
            ..FilterUse::new(source, configuration(policy.config.clone()))
        };
        let scenario = Scenario::without_steps(filter);
        refuse_unloadable(&self.built_ins, &scenario)?;
        if let Configuration::Refused { words } =
            configure(self.built_ins, self.limits.read()?, &scenario)?
        {
            eprintln!("{name}: the filter refuses its configuration:\n{}", words.join("\n"));
            return Ok(Outcome::Failed);
        }

        let mut facts = facts(&policy, &file, &bytes)?;
        if policy.filter == "metrics" {
            facts.stats_tags = metrics::stats_tags(&policy).with_context(|| format!("{name}"))?;
        }
        let Target::Envoy = self.target;
        print(envoy::render(&policy, &facts)?.trim_end())?;
        Ok(Outcome::Done)
    }
}

/// The module of a policy; a path is meant from the folder of the policy.
///
/// # Errors
///
/// A text that names no filter.
pub(crate) fn source(filter: &str, policy: &Path) -> Result<FilterSource> {
    Ok(match FilterSource::parse(filter)? {
        FilterSource::File(file) => {
            FilterSource::File(policy.parent().unwrap_or(Path::new("")).join(file))
        }
        built_in @ FilterSource::BuiltIn(_) => built_in,
    })
}

fn facts(policy: &Policy, file: &Path, bytes: &[u8]) -> Result<Facts> {
    let name = file.display();
    let module = Module::read(bytes).with_context(|| format!("{name}"))?;
    let metadata = module.metadata().with_context(|| format!("{name}"))?;
    let callbacks = module.callbacks().map(|callback| callback.name().to_owned());
    let functions = module.imports().iter().map(|import| import.name.clone());
    let needs = metadata.as_ref().map(|metadata| metadata.needs.clone()).unwrap_or_default();
    let stats_tags = metadata.map(|metadata| metadata.stats_tags).unwrap_or_default();
    let here = std::path::absolute(file).with_context(|| format!("{name}"))?;
    Ok(Facts {
        file: match &policy.module {
            Some(file) => file.clone(),
            None => here.to_str().with_context(|| format!("{name} is not UTF-8"))?.to_owned(),
        },
        capabilities: callbacks.chain(functions).collect(),
        needs,
        stats_tags: stats_tags.into_iter().map(|tag| (tag.tag_name, tag.regex)).collect(),
    })
}
