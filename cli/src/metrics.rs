//! `tollgate metrics`: what proxies, Prometheus and Grafana have to be told of a policy of `metrics`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use tollgate_envoyfilter::{Facts, Policy};
use tollgate_host::scenario::configuration;
use tollgate_metrics::render;

use crate::{Outcome, print};

/// Arguments of `tollgate metrics`.
#[derive(Args)]
pub(crate) struct Metrics {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What makes labels of the names of metrics: `stats_config` of Envoy's bootstrap, in YAML.
    Tags {
        /// The policy file, as `tollgate render` takes it.
        policy: PathBuf,
        /// The annotations of a pod of Istio instead.
        #[arg(long)]
        istio: bool,
    },
    /// Recording rules and alerts of the objectives for Prometheus, in YAML.
    Rules {
        /// The policy file, as `tollgate render` takes it.
        policy: PathBuf,
    },
    /// A dashboard for Grafana, in JSON.
    Dashboard {
        /// The policy file, as `tollgate render` takes it.
        policy: PathBuf,
    },
}

impl Metrics {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, and one that is no policy of this filter.
    pub(crate) fn run(self) -> Result<Outcome> {
        let written = match self.what {
            What::Tags { policy, istio: false } => {
                let config = render::stats_config(&read(&policy)?);
                serde_saphyr::to_string(&serde_json::json!({ "stats_config": config }))?
            }
            What::Tags { policy, istio: true } => {
                serde_saphyr::to_string(&render::annotations(&read(&policy)?))?
            }
            What::Rules { policy } => serde_saphyr::to_string(&render::rules(&read(&policy)?))?,
            What::Dashboard { policy } => {
                serde_json::to_string_pretty(&render::dashboard(&read(&policy)?))?
            }
        };
        print(written.trim_end())?;
        Ok(Outcome::Done)
    }
}

fn read(file: &PathBuf) -> Result<tollgate_metrics::config::Policy> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    let policy = Policy::parse(&text).with_context(|| name.clone())?;
    if !is_ours(&policy) {
        bail!("{name}: filter: {} is not metrics or metrics-tcp", policy.filter);
    }
    parse(&policy).with_context(|| name)
}

fn parse(policy: &Policy) -> Result<tollgate_metrics::config::Policy> {
    let json = configuration(policy.config.clone());
    tollgate::config::parse(&json).context("config")
}

fn is_ours(policy: &Policy) -> bool {
    ["metrics", "metrics-tcp"].contains(&policy.filter.as_str())
}

/// Adds the labels and the bounds of a policy of this filter to what is known of its module. Other filters have
/// the same labels whatever their policy says, and their modules tell them.
///
/// # Errors
///
/// A configuration that is none of this filter.
pub(crate) fn add_to(facts: &mut Facts, policy: &Policy) -> Result<()> {
    if !is_ours(policy) {
        return Ok(());
    }
    let ours = parse(policy)?;
    let tags: Vec<tollgate_module::StatsTag> =
        serde_json::from_value(ours.label_names().to_json())?;
    facts.stats_tags = tags.into_iter().map(|tag| (tag.tag_name, tag.regex)).collect();
    let bounds = render::histogram_bounds(&ours);
    facts.histogram_bounds = bounds.map(|(names, bounds)| (names, bounds.to_vec())).collect();
    Ok(())
}
